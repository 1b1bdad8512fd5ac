# ruff: noqa: N999 - commands carry the names that people type.
"""`manage.py revoke-everything`: after a compromise, take back all that opens something."""

import sys
from argparse import ArgumentParser
from typing import Any, Final

from accounts import compromise
from copilot_site.terminal import USAGE, DatabaseCommand, Failure, say

PHRASE: Final = "revoke everything"


class Command(DatabaseCommand):
    help = "Revoke all API keys, end all sessions and links, discard Copilot tokens; says how many."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument(
            "--sign-out-accounts",
            action="store_true",
            help="also forget GitHub tokens and Apps' private keys: every account signs in again",
        )

    def run(self, **options: Any) -> None:
        if not options["yes"]:
            _ask(signs_out=options["sign_out_accounts"])
        done = compromise.revoke_everything(
            "terminal", sign_out_accounts=options["sign_out_accounts"]
        )
        for word, count in done.words():
            self.out(f"{count:>6}  {word}\n")
        say("✓ Done, and in the audit log. Running gateways obey within two seconds.")
        say("  What this cannot do, in this order:")
        say("  1. Revoke copied GitHub tokens at GitHub: each owner at Settings, Applications.")
        say(
            "  2. Set another SECRET_KEY, and another first key in ENCRYPTION_KEYS; then rotate-keys."
        )
        say(
            "  3. Change passwords of the database, Redis, mail and the identity provider's secret."
        )
        say("  4. Let members set new passwords, and make new keys.")


def _ask(*, signs_out: bool) -> None:
    """Nothing happens without the phrase. Raises `Failure`."""
    if not sys.stdin.isatty():
        raise Failure("Nobody is here to confirm this.", "Add --yes.", USAGE)
    say("! Every API key stops working, every session ends, for everybody.")
    if signs_out:
        say("! Every GitHub account must sign in again.")
    sys.stderr.write(f'Type "{PHRASE}" to go on: ')
    sys.stderr.flush()
    if sys.stdin.readline().strip() != PHRASE:
        raise Failure("Nothing was revoked.", f'Type "{PHRASE}", or add --yes.', USAGE)
