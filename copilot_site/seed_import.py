"""The token of copilot-api, where it is still on this machine: offered for import, never taken."""

import os
import select
import sys
from pathlib import Path
from typing import Final

from accounts.errors import GitHubRefused
from accounts.github import check_token
from accounts.models import Account
from copilot_site.terminal import fit, say

SEED_FILE: Final = Path(".local", "share", "copilot-api", "github_token")
MAX_BYTES: Final = 4096
# An unattended terminal must not keep the gateway from serving.
ANSWER_WITHIN_S: Final = 30.0


def find() -> str | None:
    """The token that copilot-api left, if it is one."""
    try:
        with _path().open("rb") as file:
            text = file.read(MAX_BYTES).decode("ascii", "replace")
        return check_token(text)
    except (OSError, RuntimeError, GitHubRefused):
        # No home folder, no file, not ours to read, or no token in it: nothing to offer.
        return None


def offer(interactive: bool) -> str | None:
    """The token if a person wants it imported; else a hint how to do it.

    Only while nobody has signed in. Run it after the database is prepared.
    """
    if Account.objects.exists():
        return None
    token = find()
    if token is None:
        return None
    if interactive and _agrees():
        return token
    say(
        f"A sign-in of copilot-api is in {_shown()}. To use it: "
        f"GITHUB_TOKEN_FILE={_shown()} python manage.py start"
    )
    return None


def _path() -> Path:
    return Path.home() / SEED_FILE


def _shown() -> str:
    return f"~/{SEED_FILE.as_posix()}"


def _agrees() -> bool:
    question = f"A sign-in of copilot-api is in {_shown()}. Import it? [y]es [n]o "
    sys.stderr.write(fit(question, sys.stderr))
    sys.stderr.flush()
    if os.name == "posix" and not select.select([sys.stdin], [], [], ANSWER_WITHIN_S)[0]:
        say("no answer")
        return False
    return sys.stdin.readline().strip().lower() in ("y", "yes")
