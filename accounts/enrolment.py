"""Enrolment: a GitHub token becomes an account, or renews the account it belongs to."""

from dataclasses import dataclass, field
from typing import Any, Final

from django.db import transaction
from django.db.models.functions import Now

from accounts import audit, book, github, refusals, states
from accounts.database import in_database
from accounts.encryption import Secret
from accounts.errors import GitHubRefused
from accounts.hosts import DOTCOM, copilot_host, known_host
from accounts.lifetimes import DIRECT_S, lifetime_s
from accounts.models import Account, Member

DIRECT: Final = Account.CredentialKind.DIRECT
EXCHANGE: Final = Account.CredentialKind.EXCHANGE
INSTALLATION: Final = Account.CredentialKind.INSTALLATION
# Installation tokens belong to an app, not to a person: GitHub names nobody for them.
INSTALLATION_LOGIN: Final = "installation"


@dataclass(slots=True)
class Found:
    """What GitHub said about a token. `answer` is the exchange's, None for direct credentials."""

    login: str
    github_id: int | None
    kind: str
    answer: dict[str, Any] | None = field(default=None, repr=False)
    document: dict[str, Any] = field(default_factory=dict, repr=False)


async def add_account(
    github_token: str,
    *,
    account_type: str = Account.Plan.INDIVIDUAL,
    owner: Member | None = None,
    host: str = DOTCOM,
    actor: Member | str | None = None,
) -> Account:
    """Check the token and its seat with GitHub and store it, in place of an older one.

    A known account keeps its owner, and stays frozen or paused if it is; the owner is set on
    accounts that have none. What belongs to another member, or to a pool of the organisation, only
    an administrator may sign in again. Raises `GitHubRefused`, whose message says what to do, and then
    stores nothing.
    """
    token = github.check_token(github_token)
    place = known_host(host)
    found = await _look_up(token, place)
    account = await in_database(_store, found, token, account_type, owner, place, actor)
    # This process serves with the new account and token at once, the others within a second.
    await in_database(book.snapshot.refresh, force=True)
    return account


async def _look_up(token: str, host: str) -> Found:
    prefix = github.token_kind(token)
    login, github_id = await _identify(token, prefix, host)
    found = Found(login, github_id, github.credential_kind_for(prefix))
    try:
        await _check_seat(found, token, prefix, host)
    except GitHubRefused as refused:
        raise GitHubRefused(
            f"Signed in as {login}. {refused.message}",
            status=refused.status,
            reason=refused.reason,
            retry_after_s=refused.retry_after_s,
        ) from None
    return found


async def _identify(token: str, prefix: str, host: str) -> tuple[str, int | None]:
    try:
        user = await github.whoami(token, host=host)
    except GitHubRefused as refused:
        if prefix == "ghs" and refused.status in (403, 404):
            return INSTALLATION_LOGIN, None
        raise
    number = user.get("id")
    is_number = isinstance(number, int) and not isinstance(number, bool)
    return user["login"][:100], number if is_number else None


async def _check_seat(found: Found, token: str, prefix: str, host: str) -> None:
    """Try the way that fits the token's kind, then the other one if GitHub hides the first."""
    ways = (_check_direct, _check_exchange)
    first, second = ways if found.kind == DIRECT else reversed(ways)
    try:
        await first(found, token, host)
    except GitHubRefused as refused:
        if refused.reason != refusals.NOT_ALLOWED:
            raise
        if prefix == "ghs":
            # It has no account document; only a request can tell whether it may use Copilot.
            return
        if prefix == "github_pat":
            raise GitHubRefused(
                refusals.PAT_WITHOUT_PERMISSION, status=refused.status, reason=refused.reason
            ) from None
        try:
            await second(found, token, host)
        except GitHubRefused:
            raise refused from None


async def _check_direct(found: Found, token: str, host: str) -> None:
    found.document = await github.account_document(token, host=host)
    found.kind, found.answer = DIRECT, None
    if found.document.get("chat_enabled") is False:
        raise GitHubRefused(refusals.TEXTS[refusals.NO_CHAT], status=403, reason=refusals.NO_CHAT)


async def _check_exchange(found: Found, token: str, host: str) -> None:
    found.answer = await github.exchange(token, host=host)
    found.kind = EXCHANGE
    try:
        found.document = await github.account_document(token, host=host)
    except GitHubRefused:
        # Plan and quota follow with the next poll; the seat is proven.
        found.document = {}


@transaction.atomic
def _store(
    found: Found,
    token: str,
    account_type: str,
    owner: Member | None,
    host: str,
    actor: Member | str | None,
) -> Account:
    account = _existing(found, host) or Account(host=host)
    is_new = account.pk is None
    _check_owner(account, owner)
    account.login = found.login
    account.github_id = found.github_id or account.github_id
    # An administrator who signs in a seat of the organisation does not make it their own.
    stays_ownerless = not is_new and (account.pool_id is not None or _is_admin(owner))
    if not stays_ownerless:
        account.owner = account.owner or owner
    account.account_type = account_type
    account.credential_kind = found.kind
    account.token_kind = github.token_kind(token)
    account.github_token = Secret.of(token)
    _take_token(account, found)
    _take_plan(account, found)
    account.save()
    # The time of the database, as every refresh writes it.
    # Read and written back: SQLite's own text of a time has fewer digits than Django's, and a claim
    # compares the stored value.
    rows = Account.objects.filter(pk=account.pk)
    rows.update(token_fetched_at=rows.annotate(at=Now()).values_list("at", flat=True).get())
    who = actor or owner or audit.GATEWAY
    audit.record(who, "account.added" if is_new else "account.signed_in", account)
    if account.state not in (Account.State.FROZEN, Account.State.PAUSED):
        states.set_state(account, Account.State.ACTIVE, "", None, who)
    account.refresh_from_db()
    return account


def _is_admin(person: Member | None) -> bool:
    return person is not None and person.is_superuser


def _check_owner(account: Account, person: Member | None) -> None:
    """Raise `GitHubRefused` when the account is not this person's to sign in."""
    if person is None or person.is_superuser:
        return
    if account.owner_id not in (None, person.pk):
        raise GitHubRefused(
            f"{account.login} is connected by another member already. One seat serves one person: "
            "use an account of your own, or let them disconnect theirs first.",
            status=0,
            reason=refusals.UNUSABLE,
        )
    if account.pool_id is not None or account.credential_kind == INSTALLATION:
        raise GitHubRefused(
            f"{account.login} is a seat of the organisation. Only an administrator signs it in.",
            status=0,
            reason=refusals.UNUSABLE,
        )


def _existing(found: Found, host: str) -> Account | None:
    """By GitHub's number first: people rename themselves."""
    rows = Account.objects.select_for_update().filter(host=host)
    row: Account | None = None
    if found.github_id is not None:
        row = rows.filter(github_id=found.github_id).first()
    return row or rows.filter(login__iexact=found.login).first()


def _take_token(account: Account, found: Found) -> None:
    if found.answer is None:
        account.copilot_token = Secret("")
        account.token_lifetime_s = round(DIRECT_S)
        account.api_base = copilot_host(found.document, account)
    else:
        account.copilot_token = Secret.of(found.answer["token"])
        account.token_lifetime_s = round(lifetime_s(found.answer))
        account.api_base = copilot_host(found.answer, account)
    account.refresh_claimed_until = None
    account.refresh_not_before = None
    account.refresh_failures = 0
    account.refresh_error = ""


def _take_plan(account: Account, found: Found) -> None:
    sources = (found.document, found.answer or {})
    plan = found.document.get("copilot_plan")
    sku = next((s[k] for s in sources for k in ("access_type_sku", "sku") if s.get(k)), "")
    account.plan = str(plan or account.plan)[:64]
    account.sku = str(sku or account.sku)[:100]
    if isinstance(found.document.get("token_based_billing"), bool):
        account.token_based_billing = found.document["token_based_billing"]
