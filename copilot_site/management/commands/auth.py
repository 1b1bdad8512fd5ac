"""`manage.py auth`: sign in to GitHub, with a code or with tokens that are there already."""

import asyncio
from argparse import ArgumentParser
from typing import Any

from accounts import tokens
from accounts.errors import GitHubRefused
from accounts.members import solo_member
from accounts.models import Account
from copilot_site import device_code
from copilot_site.logging import configure_logging
from copilot_site.terminal import DatabaseCommand, Failure, refused, say
from usage.quota_shapes import plan_name


class Command(DatabaseCommand):
    help = "Sign in to GitHub; works while a gateway runs and while none does."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("--verbose", "-v", action="store_true", help="say what is asked and answered")
        add("--show-token", action="store_true", help="print the tokens (they are secrets)")
        add(
            "--github-token",
            "-g",
            metavar="TOKEN",
            action="append",
            default=[],
            help="add this token's account without the device flow; may be repeated",
        )
        add(
            "--account-type",
            "-a",
            choices=Account.Plan.values,
            default=Account.Plan.INDIVIDUAL,
            help="plan of the account, where GitHub does not say",
        )

    def run(self, **options: Any) -> None:
        if options["verbose"]:
            configure_logging(verbose=True)
        account_type = options["account_type"]
        owner = solo_member()
        failures: list[Failure] = []
        if given := options["github_token"]:
            added = []
            for number, token in enumerate(given, 1):
                try:
                    added.append(asyncio.run(_add(token, account_type, owner)))
                except GitHubRefused as error:
                    failure = refused(error)
                    if len(given) > 1:
                        failure.what = f"Token {number} of {len(given)}: {failure.what}"
                    failures.append(failure)
        else:
            added = [asyncio.run(device_code.sign_in(account_type, owner))]
        for account in Account.objects.filter(pk__in=added):
            self._greet(account, options["verbose"])
            if options["show_token"]:
                self._show(account)
        for failure in failures:
            failure.tell()
        if failures:
            raise SystemExit(failures[0].code)

    def _greet(self, account: Account, verbose: bool) -> None:
        plan = plan_name(account.plan)
        words = [f"✓ Signed in as {account.login}"]
        words += [f"Copilot {plan}"] if plan else []
        words.append(f"stored encrypted as account {account.login}")
        say(" · ".join(words))
        if account.state != Account.State.ACTIVE:
            why = f": {account.state_reason}" if account.state_reason else "."
            say(f"! The account stays {account.get_state_display().lower()}{why}")
        if verbose:
            say(f"  {account.get_credential_kind_display()}; requests go to {account.api_base}")

    def _show(self, account: Account) -> None:
        say("! --show-token: what follows are secrets; whoever has them uses your seat.")
        self.out(f"{account.login}  GitHub token   {account.github_token.reveal()}")
        if copilot_token := account.copilot_token.reveal():
            self.out(f"{account.login}  Copilot token  {copilot_token}")


async def _add(token: str, account_type: str, owner: Any) -> int:
    account = await tokens.add_account(token, account_type=account_type, owner=owner)
    return int(account.pk)
