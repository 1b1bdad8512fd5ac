"""The sign-in of copilot-api: offered, never taken without a yes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OFFER = (
    "import os, sys; import django; django.setup(); from copilot_site import seed_import; "
    "print('given:', seed_import.offer(os.isatty(0)))"
)


@pytest.fixture
def seed_file(manage: Any) -> Path:
    folder = manage.data_dir / ".local" / "share" / "copilot-api"
    folder.mkdir(parents=True)
    file: Path = folder / "github_token"
    file.write_text("ghu_octocat\n")
    return file


def ask(terminal: Callable[..., Any]) -> Any:
    return terminal("-c", OFFER, DJANGO_SETTINGS_MODULE="copilot_site.settings")


def test_without_a_terminal_one_line_says_how_to_import(
    new_gateway: Callable[..., Any], tmp_path: Path
) -> None:
    # The test's gateways have their data folder as their home.
    folder = tmp_path / "data0" / ".local" / "share" / "copilot-api"
    folder.mkdir(parents=True)
    (folder / "github_token").write_text("ghu_octocat\n")

    gateway = new_gateway(token=None)

    hints = [line for line in gateway.output if "copilot-api" in line]
    assert len(hints) == 1
    assert "GITHUB_TOKEN_FILE=~/.local/share/copilot-api/github_token" in hints[0]
    assert "ghu_octocat" not in gateway.text
    assert gateway.query("SELECT count(*) AS n FROM accounts_account") == [{"n": 0}]


@pytest.mark.parametrize(
    ("answer", "given"), [("y\n", "given: ghu_octocat"), ("n\n", "given: None"), ("\n", "None")]
)
def test_in_a_terminal_a_person_decides(
    terminal: Callable[..., Any], seed_file: Path, answer: str, given: str
) -> None:
    screen = ask(terminal)
    screen.wait_for("Import it? [y]es [n]o")

    screen.type(answer)

    assert screen.end() == 0
    assert given in screen.text


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"ghp_classic", b"no token at all"])
def test_a_file_that_holds_no_usable_token_is_passed_over(
    terminal: Callable[..., Any], seed_file: Path, content: bytes
) -> None:
    seed_file.write_bytes(content)

    screen = ask(terminal)

    assert screen.end() == 0
    assert screen.text.strip() == "given: None"


def test_nobody_is_asked_once_an_account_is_there(
    manage: Any, terminal: Callable[..., Any], seed_file: Path
) -> None:
    manage("auth", "-g", "ghu_mona")

    screen = ask(terminal)

    assert screen.end() == 0
    assert screen.text.strip() == "given: None"


def test_a_yes_at_the_start_signs_the_gateway_in(
    terminal: Callable[..., Any], seed_file: Path
) -> None:
    screen = terminal("start", "--port", "0")
    screen.wait_for("Import it?")

    screen.type("y\n")

    screen.wait_for("Signed in as octocat")
    screen.type("\x03")
    screen.end()
    assert "Traceback" not in screen.text
