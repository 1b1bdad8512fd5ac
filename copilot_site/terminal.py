"""The terminal's manners: talk on stderr, data on stdout, two lines for a failure, exit codes.

0 done, 1 failed, 2 wrong usage, 3 not signed in, 4 cannot listen, 130 interrupted.
"""

import argparse
import contextlib
import difflib
import logging
import os
import re
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NoReturn, Protocol, Self

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from accounts import refusals
from accounts.encryption import Undecryptable
from accounts.errors import AccountUnavailable, GitHubRefused
from copilot_site import __version__
from copilot_site.logging import scrub
from copilot_site.preparation import prepare_database

FAILED, USAGE, NOT_SIGNED_IN, CANNOT_LISTEN, INTERRUPTED = 1, 2, 3, 4, 130
NARROWEST, WIDEST = 60, 100
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
COLOURS = {"ok": "32", "warn": "33", "bad": "31", "bold": "1"}
MARKS = {"✓": "ok", "!": "warn", "✗": "bad"}
# What our own texts use beyond ASCII, for terminals that show nothing else.
ASCII = str.maketrans(
    {
        "✓": "*", "✗": "x", "·": "-", "≈": "~", "–": "-", "—": "-", "…": "...", "→": "->",
        "│": "|", "█": "#", "░": "-", "\u202f": " ", "\u00a0": " ",
    }
)  # fmt: skip
OUR_LOGS = ("accounts", "usage", "proxy", "copilot_site")
_LAST_SENTENCE = re.compile(r"^(.*[.!?])\s+([A-Z][^.]*(?:\.(?!\s+[A-Z])[^.]*)*)$", re.DOTALL)


class Stream(Protocol):
    """What is asked of stdout and stderr."""

    def isatty(self) -> bool: ...


class Failure(Exception):
    """A command that cannot go on: what happened, what to do next, the exit code."""

    def __init__(self, what: str, next_step: str, code: int = FAILED) -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step
        self.code = code

    def tell(self) -> None:
        say(paint(self.what, "bad", sys.stderr))
        say(self.next_step)


class Parser(CommandParser):
    """argparse whose refusals are two lines and exit code 2."""

    def error(self, message: str) -> NoReturn:
        say(self._in_words(message))
        say(f"See `python manage.py {self.prog.rpartition(' ')[2]} --help`.")
        sys.exit(USAGE)

    def _in_words(self, message: str) -> str:
        if match := re.fullmatch(r"unrecognized arguments: (.*)", message, re.DOTALL):
            return self._unknown(match[1].split()[0] if match[1].split() else "")
        if match := re.fullmatch(r"the following arguments are required: (.*)", message):
            return f"Missing: {match[1].upper()}."
        if match := re.fullmatch(r"argument (\S+): invalid (\w+) value: (.*)", message, re.DOTALL):
            return f"{_longest(match[1])} does not take {match[3]}."
        if match := re.fullmatch(r"argument (\S+): (.*)", message, re.DOTALL):
            return f"{_longest(match[1])}: {match[2]}"
        return message[:1].upper() + message[1:]

    def _unknown(self, word: str) -> str:
        known = [o for a in self._actions if a.help != argparse.SUPPRESS for o in a.option_strings]
        name = word.partition("=")[0]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        kind = "option" if word.startswith("-") else "argument"
        return f"There is no {kind} {name!r}.{hint}"


def _longest(names: str) -> str:
    """`--port/-p` is told as `--port`."""
    return max(names.split("/"), key=len)


class GatewayCommand(BaseCommand, ABC):
    """A command that ends with a code and never with a traceback for what can be expected."""

    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = Parser(
            prog=f"{os.path.basename(prog_name)} {subcommand}",
            description=self.help or None,
            missing_args_message=None,
            called_from_command_line=getattr(self, "_called_from_command_line", None),
            # A shortened option would mean another one as soon as a new one is added.
            allow_abbrev=False,
            **kwargs,
        )
        parser.add_argument(
            "--data-dir", metavar="DIR", help="folder of database and keys (COPILOT_DATA_DIR)"
        )
        self.add_arguments(parser)
        # What Django's own machinery reads; nobody needs to see it.
        hidden = argparse.SUPPRESS
        parser.add_argument("--settings", help=hidden)
        parser.add_argument("--pythonpath", help=hidden)
        parser.add_argument("--traceback", action="store_true", help=hidden)
        parser.add_argument("--no-color", action="store_true", help=hidden)
        parser.add_argument("--force-color", action="store_true", help=hidden)
        parser.add_argument("--verbosity", type=int, default=1, help=hidden)
        parser.add_argument("--skip-checks", action="store_true", default=True, help=hidden)
        parser.add_argument("--version", action="version", version=__version__)
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        if options.get("no_color"):
            os.environ["NO_COLOR"] = "1"
        try:
            self.prepare()
            self.run(**options)
            self.stdout.flush()
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # Whoever read our output has seen enough; Python would complain once more at its end.
            _leave_stdout()
            sys.exit(FAILED)
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            failure.tell()
            if isinstance(error, OSError):
                _leave_stdout()
            sys.exit(failure.code)

    def prepare(self) -> None:
        """What has to be there before `run`."""

    @abstractmethod
    def run(self, **options: Any) -> None:
        """The command itself. Raises `Failure` when it cannot go on."""

    def out(self, text: str) -> None:
        """Data: one or more lines to stdout, as it can show them."""
        self.stdout.write(fit(text, self.stdout))


class DatabaseCommand(GatewayCommand):
    """A command that works on the database, also on a fresh one, and ends.

    What it has to tell it tells itself; logs of the modules it calls are kept from the terminal.
    """

    def prepare(self) -> None:
        prepare_database()

    def handle(self, *args: Any, **options: Any) -> None:
        with quiet_logs():
            super().handle(*args, **options)


@contextlib.contextmanager
def quiet_logs() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in OUR_LOGS}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _leave_stdout() -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# What can be expected to fail.


def failure_of(error: Exception) -> Failure | None:
    """An error that people may meet, in two lines; None for what would be a fault of ours."""
    match error:
        case Failure():
            return error
        case GitHubRefused():
            return refused(error)
        case AccountUnavailable():
            who_acts = error.code in ("no_account", "needs_sign_in", "no_seat")
            code = NOT_SIGNED_IN if who_acts else FAILED
            return Failure(*two_lines(error.message, "Run `python manage.py auth`."), code)
        case Undecryptable():
            return Failure(*two_lines(str(error), "Restore ENCRYPTION_KEYS."))
        case Error():
            return Failure(f"The database cannot be used: {_one_line(error)}", _database_hint())
        case ImproperlyConfigured():
            return Failure(*two_lines(str(error), "Correct the environment."))
        case CommandError():
            return Failure(*two_lines(str(error), "See --help."))
        case OSError():
            what = f"{error.filename}: " if error.filename else ""
            said = error.strerror or str(error) or type(error).__name__
            return Failure(f"{what}{said}.", "Correct that, then try again.")
    return _redis_failure(error)


def _redis_failure(error: Exception) -> Failure | None:
    from redis.exceptions import RedisError

    if not isinstance(error, RedisError):
        return None
    return Failure(
        f"Redis cannot be used: {_one_line(error)}",
        "Start it, or correct REDIS_URL. Without REDIS_URL the gateway needs no Redis.",
    )


def refused(error: GitHubRefused) -> Failure:
    """GitHub's no, with the code that scripts tell it by."""
    if error.reason in (refusals.UNUSABLE, "unknown_host"):
        return Failure(*two_lines(error.message, "Give another one."), USAGE)
    if error.reason == refusals.RATE_LIMITED:
        wait_s = error.retry_after_s or 60
        return Failure("GitHub limits how often it may be asked.", f"Try again in {wait_s:.0f} s.")
    what, next_step = two_lines(error.message, "Check the network and githubstatus.com.")
    is_denied = error.status in (401, 403, 404) and error.reason not in refusals.PASSING
    return Failure(what, next_step, NOT_SIGNED_IN if is_denied else FAILED)


def two_lines(message: str, otherwise: str) -> tuple[str, str]:
    """What happened and, from the last sentence or `otherwise`, what to do next."""
    match = _LAST_SENTENCE.match(message.strip())
    return (match[1], match[2]) if match else (message.strip(), otherwise)


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return scrub(lines[0])[:300]


def _database_hint() -> str:
    if settings.DATABASE_URL:
        return "See that the server of DATABASE_URL runs and lets this user in."
    return f"Look at the folder {settings.DATA_DIR}: its disk and permissions (--data-dir)."


# What streams can show.


def say(text: str) -> None:
    """Talk goes to stderr, and never fails a command."""
    if text[:1] in MARKS and text[1:2] == " ":
        text = paint(text[0], MARKS[text[0]], sys.stderr) + text[1:]
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(fit(text, sys.stderr) + "\n")
        sys.stderr.flush()


def fit(text: str, stream: Stream) -> str:
    """`text` as the stream can show it."""
    if speaks_utf8(stream):
        return text
    return text.translate(ASCII).encode("ascii", "replace").decode()


def paint(text: str, colour: str, stream: Stream) -> str:
    """`text` in a colour of `COLOURS`, where there is colour."""
    if not _is_terminal(stream) or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m"


def speaks_utf8(stream: Stream | None = None) -> bool:
    encoding = getattr(stream or sys.stderr, "encoding", None)
    # A text buffer has no encoding and takes everything.
    return encoding is None or encoding.lower().replace("-", "") in ("utf8", "utf8sig")


def is_rich(stream: Stream | None = None) -> bool:
    """Boxes and blocks: only on a terminal that shows UTF-8."""
    return _is_terminal(stream or sys.stderr) and speaks_utf8(stream)


def _is_terminal(stream: Stream) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def width() -> int:
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    columns = columns or shutil.get_terminal_size().columns
    return min(WIDEST, max(NARROWEST, columns))


def box(title: str, rows: list[tuple[str, str]]) -> str:
    """Labelled rows in a frame on a terminal, as plain lines elsewhere.

    Rows that are wider than the terminal follow the frame: a long address stays in one piece.
    """
    label_width = max(len(label) for label, _ in rows)
    lines = [f"{label:<{label_width}}  {value}" for label, value in rows]
    room = width() - 5
    if not is_rich() or len(title) > room - 2:
        return "\n".join([title, *(f"  {line}" for line in lines)])
    framed = [line for line in lines if len(line) <= room]
    inner = max([len(title) + 4, *(len(line) + 3 for line in framed)])
    top = f"╭─ {title} " + "─" * (inner - len(title) - 3) + "╮"
    body = [f"│  {line:<{inner - 2}}│" for line in framed]
    below = [f"   {line}" for line in lines if len(line) > room]
    return "\n".join([top, *body, "╰" + "─" * inner + "╯", *below])


def bar(
    fraction: float, width: int, *, pace: float | None = None, stream: Stream | None = None
) -> str:
    """A meter of `width` cells; `pace`, also 0 to 1, is marked where an even use would stand."""
    full, empty, mark = "█░│" if is_rich(stream or sys.stdout) else "#-|"
    filled = round(min(1.0, max(0.0, fraction)) * width)
    # A little is not nothing, and almost all is not all.
    if 0 < fraction < 1:
        filled = min(width - 1, max(1, filled))
    cells = [full] * filled + [empty] * (width - filled)
    if pace is not None and 0 <= pace <= 1:
        cells[min(width - 1, int(pace * width))] = mark
    return "".join(cells)


class StatusLine:
    """A line that is written over while something is waited for; nothing off a terminal."""

    def __init__(self) -> None:
        self.is_shown = _is_terminal(sys.stderr)
        self._frame = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, text: str) -> None:
        if not self.is_shown:
            return
        frames = FRAMES if speaks_utf8() else "|/-\\"
        self._frame += 1
        line = f"  {frames[self._frame % len(frames)]} {text}"
        sys.stderr.write("\r\x1b[2K" + fit(line[: width() - 1], sys.stderr))
        sys.stderr.flush()

    def clear(self) -> None:
        if self.is_shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
