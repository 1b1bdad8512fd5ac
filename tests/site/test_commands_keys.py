"""`create-key`, `revoke-key`, `rotate-keys`."""

import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

import pytest


def row(manage: Any) -> dict[str, Any]:
    """The only key, as the database has it."""
    text = manage.python(
        "import json; from accounts.models import ApiKey; k = ApiKey.objects.get(); "
        "print(json.dumps({'digest': bytes(k.digest).hex(), 'owner': k.owner.username, "
        "'models': k.models_allowed, 'rpm': k.requests_per_minute, 'at_once': k.concurrency, "
        "'day': k.budget_day_nano_aiu, 'month': k.budget_month_nano_aiu, 'admin': k.is_admin, "
        "'expires': k.expires_at and k.expires_at.isoformat(), 'state': k.state, "
        "'account': k.account and k.account.login}))"
    )
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_secret_stands_alone_on_stdout_once(manage: Any, tmp_path: Any) -> None:
    manage.environment["COPILOT_DATA_DIR"] = str(tmp_path / "fresh")

    done = manage("create-key", "laptop")

    assert done.returncode == 0, done.stderr
    (secret,) = done.stdout.splitlines()
    assert secret.startswith("cgw_")
    assert secret not in done.stderr
    kept = row(manage)
    assert kept["digest"] == hashlib.sha256(secret.encode()).hexdigest()
    assert kept["owner"] == "owner"
    assert (kept["rpm"], kept["day"], kept["expires"], kept["admin"]) == (0, 0, None, False)


def test_every_limit_reaches_the_key(manage: Any) -> None:
    manage("auth", "-g", "ghu_octocat")
    manage.python("from accounts.models import Member; Member.objects.create_user('ben')")

    done = manage(
        "create-key", "ci",
        "--member", "ben", "--models", "gpt-5.4, claude-opus-4.7", "--rpm", "30",
        "--concurrency", "2", "--budget-day", "0.5", "--budget-month", "120",
        "--expires", "2099-12-31T18:00+01:00", "--account", "OctoCat",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert row(manage) | {"digest": ""} == {
        "digest": "",
        "owner": "ben",
        "models": ["gpt-5.4", "claude-opus-4.7"],
        "rpm": 30,
        "at_once": 2,
        "day": 500_000_000,
        "month": 120_000_000_000,
        "admin": False,
        "expires": "2099-12-31T17:00:00+00:00",
        "state": "active",
        "account": "octocat",
    }


def test_a_bare_date_is_the_keys_last_day(manage: Any) -> None:
    done = manage("create-key", "laptop", "--expires", "2099-12-31", "--admin")

    assert "Valid until 2100-01-01 00:00 UTC." in done.stderr
    assert row(manage)["expires"] == "2100-01-01T00:00:00+00:00"
    assert row(manage)["admin"] is True


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [""],
        ["x" * 101],
        ["laptop", "--rpm", "0"],
        ["laptop", "--rpm", "-3"],
        ["laptop", "--rpm", "many"],
        ["laptop", "--concurrency", "1.5"],
        ["laptop", "--budget-day", "0"],
        ["laptop", "--budget-day", "nan"],
        ["laptop", "--budget-month", "1e12"],
        ["laptop", "--expires", "tomorrow"],
        ["laptop", "--expires", "2020-01-01"],
        ["laptop", "--expires", "9999-12-31"],
        ["laptop", "--models", "a,,b"],
        ["laptop", "--colour", "red"],
    ],
)
def test_wrong_values_exit_with_2_in_two_lines(
    parse: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert parse("create-key", *arguments) == 2

    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.strip().splitlines()) == 2, told.err


@pytest.mark.parametrize("option", ["--member", "--account", "--rpm"])
def test_a_value_that_means_nothing_makes_no_key(manage: Any, option: str) -> None:
    done = manage("create-key", "laptop", option, "nobody")

    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.strip().splitlines()) == 2, done.stderr
    assert manage.query("SELECT count(*) FROM accounts_apikey") == [(0,)]


def test_an_unknown_member_is_answered_with_the_nearest_name(manage: Any) -> None:
    manage.python("from accounts.models import Member; Member.objects.create_user('benjamin')")

    done = manage("create-key", "laptop", "--member", "benjamim")

    assert done.stderr == "There is no member 'benjamim'.\nDid you mean benjamin?\n"


def test_a_member_cannot_have_an_administrators_key(manage: Any) -> None:
    manage.python("from accounts.models import Member; Member.objects.create_user('ben')")

    done = manage("create-key", "laptop", "--member", "ben", "--admin")

    assert (done.returncode, done.stdout) == (2, "")
    assert "ben is no administrator" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_secret_that_could_not_be_written_is_worth_nothing(manage: Any) -> None:
    with open("/dev/full", "w") as full:
        done = manage("create-key", "laptop", stdout=full)

    assert done.returncode == 1
    assert "The key was revoked." in done.stderr
    assert "Traceback" not in done.stderr
    assert row(manage)["state"] == "revoked"


@pytest.mark.parametrize("form", ["whole", "prefix", "bare", "part"])
def test_a_key_is_revoked_by_its_beginning(manage: Any, form: str) -> None:
    secret = manage("create-key", "laptop").stdout.strip()
    given = {
        "whole": secret,
        "prefix": secret[:12],
        "bare": secret[4:12],
        "part": secret[:9],
    }[form]

    done = manage("revoke-key", "--", given)

    assert done.returncode == 0, done.stderr
    assert "is revoked" in done.stderr
    assert row(manage)["state"] == "revoked"
    again = manage("revoke-key", "--", given)
    assert again.returncode == 0
    assert "was revoked before" in again.stderr


def test_a_beginning_of_several_keys_revokes_none(manage: Any) -> None:
    make = (
        "from accounts.models import ApiKey, Member\nfrom accounts.members import solo_member\n"
        "for i, p in enumerate(['cgw_abcdef11', 'cgw_abcdef22', 'cgw_ABCdef33']):\n"
        "    ApiKey.objects.create(name=f'k{i}', owner=solo_member(), prefix=p, digest=bytes([i]))"
    )
    manage.python(make)

    both = manage("revoke-key", "abcdef")
    one = manage("revoke-key", "ABCdef")

    assert both.returncode == 2
    assert both.stderr.startswith("2 keys begin with cgw_abcdef: cgw_abcdef11…")
    assert one.returncode == 0
    assert manage.query("SELECT count(*) FROM accounts_apikey WHERE revoked_at IS NULL") == [(2,)]


@pytest.mark.parametrize(("given", "code"), [("cgw_", 2), ("", 2), ("%%%", 1), ("nosuchkey", 1)])
def test_a_beginning_that_means_no_key_is_refused_with_words(
    manage: Any, given: str, code: int
) -> None:
    manage("create-key", "laptop")

    done = manage("revoke-key", given)

    assert done.returncode == code
    assert len(done.stderr.splitlines()) == 2
    assert row(manage)["state"] == "active"


def test_rotation_writes_every_secret_with_the_first_key(manage: Any) -> None:
    manage("auth", "-g", "ghu_octocat")
    old = (manage.data_dir / "encryption_keys").read_text().strip()

    done = manage("rotate-keys", ENCRYPTION_KEYS=f"new-key,{old}")

    assert done.returncode == 0, done.stderr
    # The GitHub token and the Copilot token.
    assert "✓ 2 secrets written anew" in done.stderr
    shown = manage("debug", "--json", ENCRYPTION_KEYS="new-key")
    assert json.loads(shown.stdout)["tokenExists"] is True
    usage = manage("check-usage", ENCRYPTION_KEYS="new-key")
    assert usage.returncode == 0, usage.stderr


def test_rotation_without_the_old_key_says_which_rows_it_left(manage: Any) -> None:
    manage("auth", "-g", "ghu_octocat")

    done = manage("rotate-keys", ENCRYPTION_KEYS="another-key")

    assert done.returncode == 1
    assert "! account 1: github_token cannot be read" in done.stderr
    assert "Add the key they were written with" in done.stderr
    # Nothing was harmed.
    assert manage("check-usage").returncode == 0
