# ruff: noqa: N999 - commands carry the names that people type.
"""`manage.py check-usage`: plan and quota of each account, as GitHub says now."""

import asyncio
import json
from argparse import ArgumentParser
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any, Final

from accounts.models import Account
from copilot_site import quota_lines
from copilot_site.terminal import (
    FAILED,
    NOT_SIGNED_IN,
    USAGE,
    DatabaseCommand,
    Failure,
    say,
    two_lines,
)
from usage import quota

AT_ONCE: Final = 4
# What waits for a person is not asked about again: the stored values are told.
NOT_ASKED: Final = (Account.State.FROZEN, Account.State.PAUSED)


class Command(DatabaseCommand):
    help = "Show plan and quota of each account."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one object per account, as a list")
        parser.add_argument("--account", metavar="LOGIN", help="this account only")

    def run(self, **options: Any) -> None:
        chosen = _chosen(options["account"])
        asked = [a for a in chosen if a.state not in NOT_ASKED]
        answers = asyncio.run(_poll(asked))
        failed = [account for account, answered in zip(asked, answers, strict=True) if not answered]
        accounts = list(Account.objects.filter(pk__in=[a.pk for a in chosen]).order_by("login"))
        if options["json"]:
            self.out(json.dumps([_object(account) for account in accounts], indent=2))
        else:
            blocks = [quota_lines.lines(quota.summary(a), self.stdout) for a in accounts]
            self.out("\n\n".join("\n".join(block) for block in blocks))
        self._tell_failures([a for a in accounts if a.pk in {f.pk for f in failed}])
        if all(a.state == Account.State.NEEDS_SIGN_IN for a in accounts):
            raise SystemExit(NOT_SIGNED_IN)

    def _tell_failures(self, accounts: list[Account]) -> None:
        has_nothing = False
        for account in accounts:
            what, next_step = two_lines(account.quota_error, "Try again in a minute.")
            say(f"! {account.login}: {what}")
            if account.quota_polled_at is None:
                has_nothing = True
                say(f"  {next_step}")
            else:
                say(f"  Shown is what was stored ({quota_lines.age(account.quota_polled_at)}).")
        if has_nothing:
            raise SystemExit(FAILED)


def _chosen(login: str | None) -> list[Account]:
    accounts = list(Account.objects.order_by("login"))
    if not accounts:
        raise Failure(
            "Nobody has signed in to GitHub yet.", "Run `python manage.py auth`.", NOT_SIGNED_IN
        )
    if login is None:
        return accounts
    wanted = login.lower()
    names = {a.pk: (a.login.lower(), f"{a.login}@{a.host}".lower()) for a in accounts}
    found = [account for account in accounts if wanted in names[account.pk]]
    if not found:
        raise Failure(
            f"There is no account {login!r}.",
            f"There are: {', '.join(a.login for a in accounts)}.",
            USAGE,
        )
    return found


async def _poll(accounts: list[Account]) -> list[bool]:
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(account: Account) -> bool:
        async with slots:
            return await quota.poll_account(account)

    return list(await asyncio.gather(*(one(account) for account in accounts)))


def _object(account: Account) -> dict[str, Any]:
    """GitHub's own fields first, then what we make of them."""
    said = quota.summary(account)
    return {
        "login": account.login,
        "host": account.host,
        "plan": account.plan,
        **quota.seed_usage_json(account),
        "state": account.state,
        "summary": _plain(said),
    }


def _plain(value: Any) -> Any:
    """Dataclasses and times as JSON has them."""
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
