"""`auth`: the device flow in the terminal, and tokens that are there already."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from simulator.testing import SimulatorThread


def accounts(manage: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(manage("debug", "--json").stdout)["accounts"]
    return found


def test_a_token_adds_its_account_on_a_fresh_data_folder(manage: Any, tmp_path: Any) -> None:
    manage.environment["COPILOT_DATA_DIR"] = str(tmp_path / "fresh")

    done = manage("auth", "--github-token", "ghu_octocat")

    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "✓ Signed in as octocat · Copilot Pro+ · stored encrypted" in done.stderr
    assert [a["login"] for a in accounts(manage)] == ["octocat"]
    owner = manage.python(
        "from accounts.models import Account; print(Account.objects.get().owner.username)"
    )
    assert owner == "owner"


def test_several_tokens_add_several_accounts_and_a_bad_one_stops_none(manage: Any) -> None:
    done = manage("auth", "-g", "ghu_octocat", "-g", "ghu_noseat", "-g", "github_pat_ok")

    assert done.returncode == 3
    assert sorted(a["login"] for a in accounts(manage)) == ["octocat", "pat-dev"]
    assert "Token 2 of 3: Signed in as noseat. The account has no access" in done.stderr


@pytest.mark.parametrize(
    ("token", "code", "words"),
    [
        ("ghu_noseat", 3, "Buy a plan at github.com/settings/copilot"),
        ("ghu_revoked", 3, "Sign in again."),
        ("ghu_nobody", 3, "Sign in again."),
        ("ghp_classic", 2, "Classic personal access tokens (ghp_…) do not work"),
        ("nonsense token", 2, "This is not a GitHub token."),
    ],
)
def test_a_token_that_cannot_serve_is_told_in_two_lines(
    manage: Any, token: str, code: int, words: str
) -> None:
    done = manage("auth", "-g", token)

    assert done.returncode == code
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2
    assert token not in done.stderr
    assert accounts(manage) == []


def test_github_away_is_a_failure_and_not_a_missing_sign_in(
    manage: Any, simulator: SimulatorThread
) -> None:
    simulator.refuse_connections()
    try:
        for arguments in (("auth",), ("auth", "-g", "ghu_octocat")):
            done = manage(*arguments)
            assert done.returncode == 1
            assert done.stderr == (
                "GitHub cannot be reached.\n"
                "Check the network and githubstatus.com, then try again.\n"
            )
    finally:
        simulator.accept_connections()


def test_tokens_are_shown_only_on_request_and_only_on_stdout(manage: Any) -> None:
    quiet = manage("auth", "-g", "ghu_octocat", "--verbose")
    loud = manage("auth", "-g", "ghu_octocat", "--show-token")

    assert "ghu_octocat" not in quiet.stdout + quiet.stderr
    assert "requests go to" in quiet.stderr
    github_line, copilot_line = loud.stdout.splitlines()
    assert github_line.split() == ["octocat", "GitHub", "token", "ghu_octocat"]
    assert copilot_line.split()[3].startswith("tid=")
    assert "whoever has them uses your seat" in loud.stderr
    assert "ghu_octocat" not in loud.stderr


def test_the_plan_that_was_said_is_kept_and_a_wrong_one_is_refused(manage: Any) -> None:
    wrong = manage("auth", "-g", "ghu_octocat", "-a", "team")
    done = manage("auth", "-g", "ghu_octocat", "-a", "business")

    assert wrong.returncode == 2
    assert len(wrong.stderr.strip().splitlines()) == 2
    assert done.returncode == 0
    kept = "from accounts.models import Account; print(Account.objects.get().account_type)"
    assert manage.python(kept) == "business"


def test_the_device_flow_without_a_terminal_says_where_to_go_and_waits(
    manage: Any, simulator: SimulatorThread
) -> None:
    simulator.config(device_interval_s=0.1, device_auto_approve_s=0.5)

    done = manage("auth")

    assert done.returncode == 0, done.stderr
    assert f"Open   {simulator.url}/login/device" in done.stderr
    assert "Waiting for approval; the code is good for 1" in done.stderr
    assert "✓ Signed in as octocat" in done.stderr
    assert "\x1b" not in done.stderr
    assert done.stdout == ""


def test_the_device_flow_in_a_terminal_counts_down_and_shows_a_qr_code(
    terminal: Callable[..., Any], simulator: SimulatorThread
) -> None:
    simulator.config(device_interval_s=0.1)
    screen = terminal("auth")
    screen.wait_for("waiting for approval · 14:")
    assert "[q] show QR" in screen.text
    assert "▄▄▄▄▄▄▄" not in screen.text

    screen.type("q")
    screen.wait_for("▄▄▄▄▄")
    simulator.approve_device("mona")

    assert screen.end() == 0, screen.text
    assert "Signed in as mona · Copilot Business" in screen.text


def test_ctrl_c_ends_the_sign_in_for_good(
    manage: Any, terminal: Callable[..., Any], simulator: SimulatorThread
) -> None:
    screen = terminal("auth")
    screen.wait_for("waiting for approval")

    screen.type("\x03")

    assert screen.end() == 130
    assert "Traceback" not in screen.text
    state = "from accounts.models import DeviceLogin; print(DeviceLogin.objects.get().state)"
    assert manage.python(state) == "cancelled"


@pytest.mark.parametrize("end", ["denied", "expired", "no seat"])
def test_a_sign_in_that_brings_no_seat_exits_with_3(
    end: str, terminal: Callable[..., Any], simulator: SimulatorThread
) -> None:
    life_s = 2 if end == "expired" else 899
    simulator.config(device_interval_s=0.1, device_life_s=life_s)
    screen = terminal("auth")
    screen.wait_for("waiting for approval")
    if end == "denied":
        simulator.deny_device()
    elif end == "no seat":
        simulator.approve_device("noseat")

    assert screen.end() == 3, screen.text
    words = {
        "denied": "The sign-in was refused on GitHub.",
        "expired": "The code has expired.",
        "no seat": "The account has no access to GitHub Copilot.",
    }
    assert words[end] in screen.text


def test_auth_works_beside_a_running_gateway(
    new_gateway: Callable[..., Any],
) -> None:
    gateway = new_gateway(token=None)
    with gateway.client() as client:
        assert client.get("/v1/models").status_code == 503

        done = gateway.manage("auth", "-g", "ghu_octocat")

        assert "Signed in as octocat" in done.stderr
        assert gateway.wait_for(lambda: client.get("/v1/models").status_code == 200)
