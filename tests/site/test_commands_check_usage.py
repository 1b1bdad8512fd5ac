"""`check-usage`: every state that a quota has, in words and as JSON."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from simulator.testing import SimulatorThread


def signed_in(manage: Any, simulator: SimulatorThread, login: str, **values: Any) -> None:
    simulator.add_account(login, token=f"ghu_{login}", **values)
    done = manage("auth", "-g", f"ghu_{login}")
    assert done.returncode == 0, done.stderr


def test_nobody_signed_in_exits_with_3_and_prints_no_data(manage: Any) -> None:
    done = manage("check-usage", "--json")

    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == ("Nobody has signed in to GitHub yet.\nRun `python manage.py auth`.\n")


def test_a_counted_quota_shows_use_total_percent_and_pace(
    manage: Any, simulator: SimulatorThread
) -> None:
    signed_in(
        manage, simulator, "hubot", plan="individual_pro", entitlement=7000, credits_used=5670.4
    )

    done = manage("check-usage")

    assert done.returncode == 0, done.stderr
    head, main, chat, completions = done.stdout.splitlines()
    assert head.startswith("hubot · Copilot Pro+ · reset")
    assert head.endswith("· checked now")
    assert main.startswith("AI credits   ####")
    assert "5,670.4 / 7,000   81.0 %" in main
    assert chat == "Chat         unlimited"
    assert completions == "Completions  unlimited"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"plan": "business", "pooled": True, "entitlement": 0, "credits_used": 169.8},
            ["169.8 credits used through this seat · shared pool"],
        ),
        ({"unlimited": True, "token_based_billing": False}, ["Premium requests  unlimited"]),
        (
            {
                "entitlement": 3900,
                "credits_used": 3938.2,
                "overage_permitted": True,
                "overage_entitlement": 500,
            },
            ["3,938.2 / 3,900   101.0 %", "38.2 over · extra use allowed up to 500"],
        ),
        (
            {"entitlement": 3900, "credits_used": 3938.2},
            ["38.2 over · extra use not allowed"],
        ),
        (
            {
                "token_based_billing": False,
                "plan": "individual",
                "entitlement": 300,
                "premium_used": 75,
            },
            ["Premium requests", "75 / 300   25.0 %"],
        ),
        (
            {
                "plan": "free",
                "token_based_billing": False,
                "entitlement": 50,
                "premium_used": 20,
            },
            ["Chat", "20 / 50   40.0 %   30 left", "Completions", "1,990 left"],
        ),
    ],
)
def test_each_state_has_its_words(
    manage: Any, simulator: SimulatorThread, values: dict[str, Any], words: list[str]
) -> None:
    signed_in(manage, simulator, "hubot", **values)

    done = manage("check-usage")

    assert done.returncode == 0, done.stderr
    for expected in words:
        assert expected in done.stdout
    if not values.get("token_based_billing", True):
        assert "credits" not in done.stdout


def test_an_unknown_reset_is_said(manage: Any, simulator: SimulatorThread) -> None:
    simulator.config(user_body_drop=["quota_reset_date", "quota_reset_date_utc"])
    signed_in(manage, simulator, "hubot", reset_at_unknown=True)

    assert "reset unknown" in manage("check-usage").stdout


def test_json_holds_githubs_own_fields_and_our_summary_for_each_account(
    manage: Any, simulator: SimulatorThread
) -> None:
    manage("auth", "-g", "ghu_octocat", "-g", "ghu_mona")

    done = manage("check-usage", "--json")

    mona, octocat = json.loads(done.stdout)
    assert (mona["login"], octocat["login"]) == ("mona", "octocat")
    assert octocat["copilot_plan"] == "individual_pro"
    assert octocat["access_type_sku"] == "plus_monthly_subscriber_quota"
    assert octocat["quota_reset_date"] == "2026-12-01"
    assert octocat["quota_snapshots"]["premium_interactions"]["entitlement"] == 3900
    assert octocat["summary"]["kind"] == "counted"
    assert mona["summary"]["kind"] == "pooled"
    assert done.stderr == ""
    assert "ghu_" not in done.stdout


def test_one_account_can_be_chosen_and_an_unknown_one_is_wrong_usage(manage: Any) -> None:
    manage("auth", "-g", "ghu_octocat", "-g", "ghu_mona")

    one = manage("check-usage", "--account", "Mona")
    unknown = manage("check-usage", "--account", "monalisa")

    assert one.stdout.startswith("mona · ")
    assert "octocat" not in one.stdout
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr == "There is no account 'monalisa'.\nThere are: mona, octocat.\n"


def test_stored_values_are_shown_with_a_word_when_github_is_away(
    manage: Any, simulator: SimulatorThread
) -> None:
    manage("auth", "-g", "ghu_octocat")
    assert manage("check-usage").returncode == 0
    an_hour = "from datetime import timedelta; from django.utils.timezone import now; "
    manage.python(
        an_hour + "from accounts.models import Account; "
        "Account.objects.update(quota_polled_at=now() - timedelta(hours=2, minutes=5))"
    )

    simulator.refuse_connections()
    try:
        done = manage("check-usage")
    finally:
        simulator.accept_connections()

    assert done.returncode == 0
    assert "checked 2 h 5 min ago" in done.stdout
    assert "0 / 3,900" in done.stdout
    assert "! octocat: GitHub cannot be reached." in done.stderr
    assert "Shown is what was stored (checked 2 h 5 min ago)." in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_github_away_with_nothing_stored_exits_with_1(
    manage: Any, simulator: SimulatorThread
) -> None:
    manage("auth", "-g", "ghu_octocat")

    simulator.refuse_connections()
    try:
        done = manage("check-usage")
    finally:
        simulator.accept_connections()

    assert done.returncode == 1
    assert "never checked" in done.stdout
    assert "GitHub cannot be reached." in done.stderr


def test_a_frozen_account_is_told_and_not_asked_about(
    manage: Any, simulator: SimulatorThread
) -> None:
    manage("auth", "-g", "ghu_octocat")
    manage.python(
        "from accounts.models import Account; "
        "Account.objects.update(state='frozen', state_reason='GitHub spoke of abuse.')"
    )
    before = simulator.account("octocat").user_polls

    done = manage("check-usage")

    assert simulator.account("octocat").user_polls == before
    assert "! frozen: GitHub spoke of abuse. An administrator must release it" in done.stdout


def test_an_account_that_is_signed_out_exits_with_3_and_names_the_cure(
    manage: Any, simulator: SimulatorThread
) -> None:
    manage("auth", "-g", "ghu_octocat")
    manage.python(
        "from accounts.models import Account; Account.objects.update(state='needs_sign_in')"
    )

    done = manage("check-usage")

    assert done.returncode == 3
    assert "! signed out. Run `python manage.py auth`." in done.stdout


def test_blocks_and_colour_are_for_terminals_only(
    manage: Any, terminal: Callable[..., Any]
) -> None:
    manage("auth", "-g", "ghu_octocat")

    screen = terminal("check-usage")
    assert screen.end() == 0
    grey = terminal("check-usage", NO_COLOR="1")
    assert grey.end() == 0
    plain = manage("check-usage", PYTHONIOENCODING="ascii")

    assert "░░░" in screen.text
    assert "\x1b[" in screen.text
    assert "\x1b[" not in grey.text
    assert plain.returncode == 0
    assert plain.stdout.isascii()
    assert "octocat - Copilot Pro+ - reset" in plain.stdout
