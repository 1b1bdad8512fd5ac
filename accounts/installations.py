"""Installation tokens: a GitHub App of the organisation asks Copilot in the organisation's name.

The App proves itself by a signed note of nine minutes and gets a token of an hour, which is sent
directly. The private key stays in the database as ciphertext and is shown nowhere.
Source: docs/upstream.md#installation-tokens.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.db import transaction

from accounts import audit, book, github, refusals, states
from accounts.database import in_database
from accounts.encryption import Secret, Undecryptable
from accounts.errors import GitHubRefused
from accounts.hosts import known_host
from accounts.lifetimes import GRACE_S
from accounts.models import Account, GitHubApp, Member

INSTALLATION: Final = Account.CredentialKind.INSTALLATION
# Issued a minute in the past for clocks that lag; GitHub takes ten minutes at most.
ISSUED_AGO_S: Final = 60
VALID_S: Final = 540
MIN_KEY_BITS: Final = 2048
# GitHub's clock and ours may differ so far before the note is dated by GitHub's.
CLOCK_DIFFERENCE_S: Final = 30.0
LONGEST_S: Final = 3600.0


class UnusableKey(Exception):
    """The text is no private key that an App could have; the message says what is expected."""


@dataclass(frozen=True, slots=True)
class InstallationToken:
    """A token for Copilot; `lifetime_s` counts from its receipt."""

    token: str
    lifetime_s: float


def read_key(pem: str) -> str:
    """The private key as it is stored. Raises `UnusableKey`."""
    try:
        key = load_pem_private_key(pem.strip().encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UnusableKey(
            "This is not a private key. Paste the whole .pem file that GitHub gave, "
            "with its BEGIN and END lines."
        ) from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < MIN_KEY_BITS:
        raise UnusableKey(f"GitHub Apps sign with RSA keys of {MIN_KEY_BITS} bits or more.")
    return pem.strip() + "\n"


def signed(issuer: str, key: str, at: float) -> str:
    """The note by which the App proves itself at the time `at`, in unix seconds."""
    claims: dict[str, Any] = {
        "iat": int(at) - ISSUED_AGO_S,
        "exp": int(at) - ISSUED_AGO_S + VALID_S,
        "iss": issuer,
    }
    return jwt.encode(claims, key, algorithm="RS256")


async def fetch(app: GitHubApp, installation_id: int) -> InstallationToken:
    """Ask GitHub for a token of the installation. Raises `GitHubRefused`."""
    try:
        key = app.private_key.reveal()
    except Undecryptable as error:
        raise GitHubRefused(str(error), status=0, reason=refusals.UNUSABLE) from None
    if not key:
        raise GitHubRefused(refusals.APP_WITHOUT_KEY, status=0, reason=refusals.UNUSABLE)
    answer, said_at = await _ask(app, key, installation_id)
    return InstallationToken(answer["token"], _lifetime_s(answer, said_at))


async def _ask(
    app: GitHubApp, key: str, installation_id: int
) -> tuple[dict[str, Any], datetime | None]:
    """The answer, and the time that GitHub gave it. A clock that is wrong costs one repetition."""
    note = signed(app.issuer, key, time.time())
    try:
        return await github.installation_token(note, installation_id, host=app.host)
    except github.NoteRefused as refused:
        there = refused.said_at
        if there is None or abs(there.timestamp() - time.time()) < CLOCK_DIFFERENCE_S:
            raise
        note = signed(app.issuer, key, there.timestamp())
    return await github.installation_token(note, installation_id, host=app.host)


def _lifetime_s(answer: dict[str, Any], said_at: datetime | None) -> float:
    """By GitHub's own clock on both ends: ours may be wrong."""
    try:
        ends_at = datetime.fromisoformat(str(answer.get("expires_at")))
        left_s = (ends_at - said_at).total_seconds() if said_at is not None else LONGEST_S
    except (ValueError, TypeError):
        left_s = LONGEST_S
    return max(GRACE_S, min(left_s, LONGEST_S) - GRACE_S)


# What administrators change.


async def add_account(
    app: GitHubApp,
    installation_id: int,
    login: str,
    *,
    account_type: str = Account.Plan.BUSINESS,
    actor: Member | str,
    address: str = "",
) -> Account:
    """Try the installation at GitHub and store it as a seat of the organisation.

    Raises `GitHubRefused`, whose message says what to do, and then stores nothing.
    """
    token = await fetch(app, installation_id)
    account = await in_database(_store, app, installation_id, login, account_type, actor, address)
    del token
    await in_database(book.snapshot.refresh, force=True)
    return account


@transaction.atomic
def _store(
    app: GitHubApp,
    installation_id: int,
    login: str,
    account_type: str,
    actor: Member | str,
    address: str,
) -> Account:
    known = Account.objects.select_for_update().filter(host=app.host, login__iexact=login).first()
    if known is not None and known.credential_kind != INSTALLATION:
        raise GitHubRefused(
            f"There is an account named {login} already. Give the installation another name.",
            status=0,
            reason=refusals.UNUSABLE,
        )
    account = known or Account(host=app.host, login=login)
    account.app = app
    account.installation_id = installation_id
    account.credential_kind = INSTALLATION
    account.token_kind = "ghs"  # noqa: S105 - a kind, not a token
    account.account_type = account_type
    account.token_fetched_at = None
    account.refresh_not_before = None
    account.refresh_failures = 0
    account.refresh_error = ""
    account.copilot_token = Secret("")
    account.state = Account.State.ACTIVE if known is None else account.state
    account.save()
    detail = {"app": app.name, "installation": installation_id}
    action = "account.added" if known is None else "account.changed"
    audit.record(actor, action, account, detail, address)
    return account


def save_app(
    name: str,
    issuer: str,
    key: str,
    host: str,
    *,
    app: GitHubApp | None = None,
    actor: Member | str,
    address: str = "",
) -> GitHubApp:
    """Store an App, or change one; an empty `key` keeps the one that is stored.

    Raises `UnusableKey`, and `GitHubRefused` for a host that has no Copilot.
    """
    row = app or GitHubApp()
    row.name, row.issuer, row.host = name, issuer, known_host(host)
    if key.strip():
        row.private_key = Secret.of(read_key(key))
    elif app is None:
        raise UnusableKey("The App's private key is missing.")
    row.save()
    detail = {"issuer": issuer, "host": row.host, "key_changed": bool(key.strip())}
    audit.record(actor, "app.added" if app is None else "app.changed", row, detail, address)
    # The next request or task tries again with what is new.
    Account.objects.filter(app=row).update(
        token_fetched_at=None, refresh_not_before=None, copilot_token=Secret("")
    )
    for account in row.accounts.filter(state=Account.State.NEEDS_SIGN_IN):
        states.set_state(account, Account.State.ACTIVE, "", None, actor, address)
    return row


def remove_app(app: GitHubApp, *, actor: Member | str, address: str = "") -> bool:
    """Forget the App and its key; False while accounts use it."""
    if app.accounts.exists():
        return False
    audit.record(actor, "app.removed", app, {}, address)
    app.delete()
    return True
