"""Solo mode: web, worker and beat in one process, and the terminal that tells about it."""

import asyncio
import contextlib
import os
import socket
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

from accounts import book as account_book
from accounts import links, tokens
from accounts.database import in_database
from accounts.errors import GitHubRefused
from accounts.members import administrators_have_ways_in, solo_member
from copilot_site import __version__, memory, request_log, seed_import, sign_in
from copilot_site.celery import Embedded
from copilot_site.manual import TerminalApprovals
from copilot_site.preparation import prepare_database, prepare_static_files
from copilot_site.server import serve
from copilot_site.terminal import Failure, box, say
from proxy import catalog
from proxy.errors import GatewayError
from proxy.routing import warm
from usage.file_lock import try_lock

RETRY_TOKEN_S = 15.0


def run(listener: socket.socket, options: dict[str, Any]) -> None:
    """Prepare, serve until a signal, say a sum."""
    memory.use_one_heap()
    with only_gateway():
        memory.aside(prepare)
        Solo(listener, options).run()


def prepare() -> None:
    prepare_database()
    prepare_static_files()


@contextlib.contextmanager
def only_gateway() -> Iterator[None]:
    """Without Redis limits, queues and the live feed live in one process: a second one is refused."""
    if settings.TEAM_MODE:
        yield
        return
    descriptor = os.open(settings.DATA_DIR / "gateway.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not try_lock(descriptor):
            raise Failure(
                f"Another gateway runs on the data folder {settings.DATA_DIR}, and without Redis its "
                "limits hold in one process only.",
                "Stop it, name another folder with --data-dir, or set DATABASE_URL and REDIS_URL.",
            )
        yield
    finally:
        os.close(descriptor)


class Solo:
    def __init__(self, listener: socket.socket, options: dict[str, Any]) -> None:
        self.listener = listener
        self.options = options
        host, self.port = listener.getsockname()[:2]
        name = "localhost" if settings.REQUIRE_KEYS is False else host
        self.base_url = f"http://{name}:{self.port}"
        self.tokens = given_tokens(options)

    def run(self) -> None:
        # A team's worker and beat are processes of their own.
        worker = None if settings.TEAM_MODE else Embedded()
        totals = request_log.start(verbose=settings.GATEWAY_VERBOSE)
        if settings.GATEWAY_MANUAL:
            TerminalApprovals().start()
        if not self.tokens and not settings.DEMO:
            token = seed_import.offer(interactive=os.isatty(0))
            self.tokens += [token] if token else []
        if worker is not None:
            worker.start()
        try:
            serve(self.listener, self.ready)
        finally:
            if worker is not None:
                worker.stop()
            say(totals.summary())

    async def ready(self) -> None:
        """The server listens: say where, and see to an account."""
        if settings.DEMO:
            from copilot_site.demo import fill

            await fill()
        link = await in_database(self._sign_in_link)
        say(self.banner(link))
        if self.options["open"]:
            threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()
        for token in self.tokens:
            await self._add(token)
        if not self.tokens:
            await sign_in.until_signed_in(say, self.options["account_type"])
        if settings.GATEWAY_SHOW_TOKEN:
            await self._show_tokens()
        if self.options["claude_code"]:
            await self._offer_claude_code()

    def banner(self, link: str) -> str:
        accounts = ", ".join(a.login for a in account_book.all_accounts().values())
        mode = "team" if settings.TEAM_MODE else "1 process, SQLite, no Redis"
        rows = [
            ("OpenAI API", f"{self.base_url}/v1"),
            ("Anthropic API", self.base_url),
            ("Dashboard", f"{link} (once, 10 min)" if "signin=" in link else link),
            ("Account", accounts or "none yet"),
            ("API keys", "required" if settings.REQUIRE_KEYS else "any key works on this machine"),
            ("Runs", f"{mode}; data in {settings.DATA_DIR}"),
        ]
        if settings.DEMO:
            rows.insert(0, ("DEMO", "simulated GitHub and Copilot; nothing here is real"))
        return box(f"Copilot Gateway {__version__}", rows)

    def _sign_in_link(self) -> str:
        if settings.TEAM_MODE and not os.isatty(2) and administrators_have_ways_in():
            # Others read a container's log; `sign-in-link` prints one to who may start commands.
            return f"{self.base_url}/dashboard/"
        return f"{self.base_url}/dashboard/?signin={links.make(solo_member())}"

    async def _add(self, token: str) -> None:
        """A token from the command line or the environment; GitHub may be away for a while."""
        owner = await in_database(solo_member)
        while True:
            try:
                account = await tokens.add_account(
                    token, account_type=self.options["account_type"], owner=owner
                )
            except GitHubRefused as error:
                say(f"! The GitHub token could not be used: {error.message}")
                if 400 <= error.status < 500 and error.status != 429:
                    return
                say(f"  Trying again in {RETRY_TOKEN_S:.0f} s.")
                await asyncio.sleep(RETRY_TOKEN_S)
                continue
            await sign_in.greet(say, account.pk)
            return

    async def _show_tokens(self) -> None:
        say("! --show-token: what follows are secrets; whoever has them uses your seat.")
        for account in account_book.all_accounts().values():
            credential = await tokens.credential(account.id)
            say(f"{account.login}  Copilot token  {credential.token}")

    async def _offer_claude_code(self) -> None:
        from copilot_site import claude_code

        for account_id in account_book.all_accounts():
            with contextlib.suppress(GatewayError, TimeoutError):
                await warm(account_id)

        entries = {
            entry.id: entry.name
            for known in catalog.book.value.by_account.values()
            for entry in catalog.listed(known.entries.values())
            if entry.type == "chat"
        }
        command = await asyncio.to_thread(
            claude_code.offer,
            self.base_url,
            sorted(entries.items()),
            None,
            os.isatty(0),
        )
        say(command)


def given_tokens(options: dict[str, Any]) -> list[str]:
    """--github-token, else GH_TOKEN, else the file that GITHUB_TOKEN_FILE names."""
    if options["github_token"]:
        return [options["github_token"].strip()]
    if token := os.environ.get("GH_TOKEN", "").strip():
        return [token]
    if path := os.environ.get("GITHUB_TOKEN_FILE", ""):
        try:
            return [Path(path).read_text().strip()]
        except OSError as error:
            raise Failure(
                f"GITHUB_TOKEN_FILE names {path!r}, which cannot be read: {error.strerror}.",
                "Correct the path, or leave the variable out and sign in with the code.",
            ) from error
    return []
