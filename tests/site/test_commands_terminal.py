"""The manners that every command has."""

import io
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError

from accounts.errors import AccountUnavailable, GitHubRefused
from copilot_site import terminal


@pytest.mark.parametrize("command", ["auth", "check-usage", "debug", "rotate-keys"])
def test_an_unknown_option_is_told_in_two_lines_with_the_nearest_one(
    parse: Callable[..., int], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert parse(command, "--data-dri", "somewhere") == 2

    assert capsys.readouterr().err.splitlines() == [
        "There is no option '--data-dri'. Did you mean --data-dir?",
        f"See `python manage.py {command} --help`.",
    ]


@pytest.mark.parametrize(
    "command",
    [
        "start",
        "auth",
        "check-usage",
        "debug",
        "create-key",
        "revoke-key",
        "rotate-keys",
        "sign-in-link",
    ],
)
def test_help_shows_our_options_and_none_of_djangos(
    parse: Callable[..., int], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert parse(command, "--help") == 0

    text = capsys.readouterr().out
    assert "--data-dir" in text
    assert "--pythonpath" not in text
    assert "--settings" not in text


@pytest.mark.parametrize("command", ["start", "auth"])
def test_verbose_is_a_flag_as_people_know_it(
    parse: Callable[..., int], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert parse(command, "--help") == 0

    assert "--verbose, -v" in capsys.readouterr().out


def test_the_data_folder_can_be_named_on_the_command_line(manage: Any, tmp_path: Path) -> None:
    done = manage("create-key", "laptop", "--data-dir", str(tmp_path / "other"))

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "other" / "gateway.sqlite3").exists()
    assert manage.query("SELECT count(*) FROM accounts_apikey") == [(0,)]


@pytest.mark.parametrize(
    "arguments", [["check-usage"], ["auth"], ["create-key", "x"], ["rotate-keys"]]
)
def test_a_damaged_database_is_told_in_two_lines(manage: Any, arguments: list[str]) -> None:
    for file in manage.data_dir.glob("gateway.sqlite3*"):
        file.unlink()
    (manage.data_dir / "gateway.sqlite3").write_bytes(b"no database at all" * 100)

    done = manage(*arguments)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("The database cannot be used: file is not a database")
    assert len(done.stderr.splitlines()) == 2
    assert str(manage.data_dir) in done.stderr


def test_a_database_server_that_is_away_is_told_without_its_password(manage: Any) -> None:
    done = manage(
        "check-usage",
        DATABASE_URL="postgres://gateway:hush-hush@127.0.0.1:1/gateway?connect_timeout=2",
    )

    assert done.returncode == 1
    assert "The database cannot be used" in done.stderr
    assert "DATABASE_URL" in done.stderr
    assert "hush-hush" not in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_a_database_that_is_busy_is_waited_for(manage: Any) -> None:
    """A running gateway writes all the time; a command beside it must not fail at once."""
    other = sqlite3.connect(manage.data_dir / "gateway.sqlite3", check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(4, other.rollback)
    timer.start()
    try:
        done = manage("create-key", "laptop")
    finally:
        timer.join()
        other.close()

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cgw_")


@pytest.mark.parametrize(
    ("error", "code", "what", "next_step"),
    [
        (
            GitHubRefused("It has ended. Renew it at github.com/x.", status=403, reason="ended"),
            3,
            "It has ended.",
            "Renew it at github.com/x.",
        ),
        (
            GitHubRefused("Slow.", status=429, reason="rate_limited", retry_after_s=90),
            1,
            "GitHub limits how often it may be asked.",
            "Try again in 90 s.",
        ),
        (GitHubRefused("No. Try later.", status=502, reason="incident"), 1, "No.", "Try later."),
        (
            AccountUnavailable("octocat is frozen", code="frozen"),
            1,
            "octocat is frozen",
            "Run `python manage.py auth`.",
        ),
        (AccountUnavailable("Gone. Sign in.", code="needs_sign_in"), 3, "Gone.", "Sign in."),
        (
            FileNotFoundError(2, "No such file or directory", "/x"),
            1,
            "/x: No such file or directory.",
            "Correct that, then try again.",
        ),
    ],
)
def test_what_can_be_expected_has_its_words_and_code(
    error: Exception, code: int, what: str, next_step: str
) -> None:
    failure = terminal.failure_of(error)

    assert failure is not None
    assert (failure.what, failure.next_step, failure.code) == (what, next_step, code)


def test_a_fault_of_ours_is_not_dressed_up() -> None:
    assert terminal.failure_of(KeyError("x")) is None


def test_database_errors_hold_no_secrets() -> None:
    failure = terminal.failure_of(OperationalError("refused: ghu_abcdefgh\nand more"))

    assert failure is not None
    assert failure.what == "The database cannot be used: refused: [secret]"


@pytest.mark.parametrize(
    ("fraction", "pace", "shown"),
    [
        (0, None, "----------"),
        (0.001, None, "#---------"),
        (0.5, None, "#####-----"),
        (0.999, None, "#########-"),
        (1, None, "##########"),
        (1.7, 1.0, "#########|"),
        (-1, 0.0, "|---------"),
    ],
)
def test_a_bar_never_rounds_to_nothing_or_to_all(
    fraction: float, pace: float | None, shown: str
) -> None:
    assert terminal.bar(fraction, 10, pace=pace, stream=io.StringIO()) == shown


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_wants_a_terminal_and_nobody_who_said_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.paint("x", "ok", Screen()) == "\x1b[32mx\x1b[0m"
    assert terminal.paint("x", "ok", io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.paint("x", "ok", Screen()) == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert terminal.paint("x", "ok", Screen()) == "x"


def test_what_does_not_fit_into_a_box_stands_whole_below_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [("OpenAI API", "http://localhost:4141/v1"), ("Runs", "x")]
    screen = Screen()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stderr", screen)

    lines = terminal.box("Copilot Gateway", [*rows, ("Long", "x" * 90)]).splitlines()

    assert lines[0].startswith("╭─ Copilot Gateway ─")
    assert len(lines) == 5
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[4] == "   Long        " + "x" * 90


def test_a_box_is_plain_lines_off_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())

    assert terminal.box("Title", [("A", "1"), ("Bee", "2")]) == "Title\n  A    1\n  Bee  2"


@pytest.mark.parametrize(
    ("message", "what", "next_step"),
    [
        ("It failed. Try again.", "It failed.", "Try again."),
        (
            "Signed in as x. No seat. Buy one at github.com/settings, or ask.",
            "Signed in as x. No seat.",
            "Buy one at github.com/settings, or ask.",
        ),
        ("It failed", "It failed", "otherwise"),
    ],
)
def test_the_last_sentence_is_what_to_do(message: str, what: str, next_step: str) -> None:
    assert terminal.two_lines(message, "otherwise") == (what, next_step)
