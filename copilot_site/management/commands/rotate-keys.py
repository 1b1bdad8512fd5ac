# ruff: noqa: N999 - commands carry the names that people type.
"""`manage.py rotate-keys`: every stored secret encrypted anew with the first key."""

from typing import Any

from copilot_site import key_rotation
from copilot_site.terminal import DatabaseCommand, Failure, say


class Command(DatabaseCommand):
    help = "Encrypt every stored secret anew with the first of ENCRYPTION_KEYS."

    def run(self, **options: Any) -> None:
        done = key_rotation.rotate()
        word = "secret" if done.rewritten == 1 else "secrets"
        say(f"✓ {done.rewritten} {word} written anew with the first key of ENCRYPTION_KEYS.")
        if done.unreadable:
            for row in done.unreadable:
                say(f"! {row} cannot be read with any of the keys.")
            raise Failure(
                f"{len(done.unreadable)} could not be read and stay as they were.",
                "Add the key they were written with to ENCRYPTION_KEYS, or sign in again.",
            )
        say("  Older keys may be removed once every process runs with this first key.")
