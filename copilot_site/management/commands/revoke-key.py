# ruff: noqa: N999 - commands carry the names that people type.
"""`manage.py revoke-key PREFIX`: the key is refused everywhere within a second."""

from argparse import ArgumentParser
from typing import Any, Final

from accounts import keys
from accounts.models import ApiKey
from copilot_site.terminal import USAGE, DatabaseCommand, Failure, say

SHORTEST: Final = 3
MOST_SHOWN: Final = 8


class Command(DatabaseCommand):
    help = "Revoke an API key; running gateways refuse it within two seconds."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("prefix", help="the visible beginning of the key, cgw_ may be left out")

    def run(self, **options: Any) -> None:
        key = _find(options["prefix"])
        if keys.revoke(key, actor="terminal"):
            say(f"✓ {key.name} ({key.prefix}…) of {key.owner} is revoked.")
        else:
            say(f"{key.name} ({key.prefix}…) of {key.owner} was revoked before; nothing changed.")


def _find(given: str) -> ApiKey:
    # Somebody may paste the whole key: only its visible part is looked at.
    text = given.strip().removeprefix(keys.MARK)[: keys.PREFIX_CHARS - len(keys.MARK)]
    if len(text) < SHORTEST:
        raise Failure(
            f"{given!r} is too short to tell which key is meant.",
            f"Give at least {SHORTEST} characters after {keys.MARK}.",
            USAGE,
        )
    rows: list[ApiKey] = list(ApiKey.objects.select_related("owner").order_by("prefix"))
    # Compared here: what is alike but for upper and lower case is one for some databases.
    found = [key for key in rows if key.prefix.startswith(keys.MARK + text)]
    if not found:
        near = [f"{k.prefix}… ({k.name})" for k in rows if k.revoked_at is None][:MOST_SHOWN]
        hint = f"There are: {', '.join(near)}." if near else "There are no keys to revoke."
        raise Failure(f"No key begins with {keys.MARK}{text}.", hint)
    if len(found) > 1:
        names = ", ".join(f"{k.prefix}… ({k.name})" for k in found[:MOST_SHOWN])
        raise Failure(
            f"{len(found)} keys begin with {keys.MARK}{text}: {names}.",
            "Give more of the key's beginning.",
            USAGE,
        )
    return found[0]
