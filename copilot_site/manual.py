"""`--manual` in the terminal: the same queue that the approvals page answers, in either order."""

import select
import sys
import threading
from datetime import datetime
from typing import TextIO

from django.db import Error, close_old_connections
from django.utils.timezone import now

from copilot_site.terminal import say
from proxy import approval
from proxy.approval_news import Event, news
from proxy.models import Approval

WORDS: dict[str, tuple[bool, approval.Scope]] = {
    "y": (True, "once"),
    "n": (False, "once"),
    "a": (True, "conversation"),
}
ACTOR = "terminal"
# How often the question looks whether somebody else has answered it.
LOOK_EVERY_S = 0.5
# How often an idle prompt looks for what it was not told of.
IDLE_LOOK_S = 2.0


class TerminalApprovals:
    """A thread that asks for the oldest waiting request, when stdin is a terminal."""

    def __init__(self, answers: TextIO | None = None) -> None:
        self._wake = threading.Event()
        self._answers = sys.stdin if answers is None else answers
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="approvals", daemon=True)

    def start(self) -> None:
        if self._answers is not None and self._answers.isatty():
            news.listen(self._hear)
            self._thread.start()
        else:
            say("--manual: this is no terminal; approve on the dashboard's Approvals page.")

    def _hear(self, event: Event) -> None:
        self._wake.set()

    def _run(self) -> None:
        while not self._is_over:
            self._wake.wait(IDLE_LOOK_S)
            self._wake.clear()
            try:
                close_old_connections()
                while not self._is_over and (waiting := approval.waiting()):
                    self._ask(waiting[0])
            except Error as error:
                say(f"The approval queue cannot be read: {error}")
                self._wake.clear()

    def _ask(self, row: Approval) -> None:
        """Put one question, until it is answered here or elsewhere, or its time is up."""
        drop_typed(self._answers)
        sys.stderr.write(f"{question(row, now())}: ")
        sys.stderr.flush()
        answer = self._line_or_end(row.pk)
        if answer is None:
            return
        word = WORDS.get(answer.strip().lower()[:1])
        if word is None:
            return
        approve, scope = word
        if scope == "conversation" and not row.conversation:
            scope = "once"
        if approval.decide(row.pk, approve=approve, actor=ACTOR, scope=scope) is None:
            say(f"Not counted: {ended(row.pk)}.")

    def _line_or_end(self, approval_id: str) -> str | None:
        """What was typed; None when the question is over, or nobody will type any more."""
        while not can_be_read(self._answers, LOOK_EVERY_S):
            row = Approval.objects.filter(pk=approval_id).first()
            if row is None or row.state != Approval.State.WAITING or row.expires_at <= now():
                sys.stderr.write("\n")
                say(f"{ended(approval_id).capitalize()}.")
                return None
        line = self._answers.readline()
        if not line:
            # Nobody is there any more: time-outs refuse, the page can still approve.
            self._is_over = True
            news.leave(self._hear)
            return None
        return line


def question(row: Approval, at: datetime) -> str:
    """`fatima gpt-5.4 88.1k ≈21 cr  approve? [y]es [n]o [a]ll this conversation  1:42`"""
    cost = "" if row.estimated_nano_aiu is None else f" ≈{row.estimated_nano_aiu / 1e9:.3g} cr"
    rule = "" if row.rule == "--manual" else f" ({row.rule})"
    left_s = max(0, int((row.expires_at - at).total_seconds()))
    everything = " [a]ll this conversation" if row.conversation else ""
    return (
        f"{row.member} {row.model} {short(row.input_tokens)}{cost}{rule}  "
        f"approve? [y]es [n]o{everything}  {left_s // 60}:{left_s % 60:02d}"
    )


def short(tokens: int) -> str:
    return str(tokens) if tokens < 1000 else f"{tokens / 1000:.1f}k"


def ended(approval_id: str) -> str:
    """How a question ended that was not answered here."""
    row = Approval.objects.filter(pk=approval_id).first()
    state = Approval.State
    match None if row is None else row.state:
        case state.APPROVED | state.REFUSED if row is not None:
            return f"{row.state} by {row.decided_by}"
        case state.GONE:
            return "the client has gone"
    return "its time was up, so it was refused"


def can_be_read(stream: TextIO, within_s: float) -> bool:
    """Whether a line is there within that time. Where one cannot look, reading waits for it."""
    try:
        return bool(select.select([stream], [], [], within_s)[0])
    except (OSError, ValueError):
        # Windows looks at sockets only.
        return True


def drop_typed(stream: TextIO) -> None:
    """Forget what was typed for an earlier question: it must not answer this one."""
    try:
        import termios

        termios.tcflush(stream, termios.TCIFLUSH)
    except (ImportError, OSError, ValueError):
        return
