"""`--manual` in the terminal: the same queue that the approvals page answers."""

import sys
import threading

from copilot_site.terminal import say
from proxy import approval
from proxy.approval import Pending

WORDS = {"y": (True, "once"), "n": (False, "once"), "a": (True, "conversation")}


class TerminalApprovals:
    """A thread that asks for the oldest waiting request, when stdin is a terminal."""

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="approvals", daemon=True)

    def start(self) -> None:
        approval.queue.listeners.append(self._wake.set)
        if sys.stdin is not None and sys.stdin.isatty():
            self._thread.start()
        else:
            say("--manual: this is no terminal; approve on the dashboard's Approvals page.")

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while waiting := approval.pending():
                self._ask(waiting[0])

    def _ask(self, one: Pending) -> None:
        sys.stderr.write(
            f"{one.member} {one.model} ≈{one.input_tokens} tokens in, {one.tools} tools  "
            f"approve? [y]es [n]o [a]ll this conversation  {one.seconds_left:.0f} s: "
        )
        sys.stderr.flush()
        answer = sys.stdin.readline()
        if not answer:
            # Nobody is there any more: time-outs refuse, the page can still approve.
            self._wake.wait()
            return
        word = WORDS.get(answer.strip().lower()[:1])
        if word is None:
            return
        approve, scope = word
        if not approval.decide(
            one.id,
            approve=approve,
            actor="terminal",
            scope="conversation" if scope == "conversation" else "once",
        ):
            say("Somebody else was faster, or its time was up.")
