"""The account book: every account in memory, for routing without the ORM.

What a request finds out of an account (a limit, an abuse text) is in this process's copy at once,
in the row within milliseconds, and in the other processes' copies within a second.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from django.db import Error, transaction

from accounts import audit, states
from accounts.clock import now
from accounts.database import in_database
from accounts.limits import Allowance, allowance
from accounts.models import Account, Member
from accounts.snapshots import Snapshot, revision_of

_lock = threading.Lock()
# Tries, a second apart, to write down what memory knows already while the database is away.
WRITE_TRIES: Final = 120
_writing: set[asyncio.Task[None]] = set()
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelLimit:
    """A model that an account cannot serve now. `kind` is `rate_limited` or `quota_exceeded`.

    Until `until` nothing is asked. `returns_at` is when the limit ends by what GitHub says, which
    may be later: a budget can be raised before, so the gateway asks again from time to time.
    """

    kind: str
    until: datetime
    returns_at: datetime
    reason: str

    def as_json(self) -> dict[str, str]:
        return {
            "kind": self.kind,
            "until": self.until.isoformat(),
            "returns_at": self.returns_at.isoformat(),
            "reason": self.reason,
        }

    @classmethod
    def read(cls, value: Any) -> "ModelLimit | None":
        """What `as_json` wrote; None for anything else."""
        try:
            return cls(
                kind=str(value["kind"]),
                until=datetime.fromisoformat(value["until"]),
                returns_at=datetime.fromisoformat(value["returns_at"]),
                reason=str(value["reason"]),
            )
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account without its secrets. `quota` is the last account document's, read-only."""

    id: int
    login: str
    host: str
    owner_id: int | None
    state: str
    state_reason: str
    state_changed_at: datetime
    cooldown_until: datetime | None
    account_type: str
    kind: str
    plan: str
    sku: str
    token_based_billing: bool
    quota: Mapping[str, Any]
    quota_reset_at: datetime | None
    quota_polled_at: datetime | None
    api_base: str
    token_fetched_at: datetime | None
    token_lifetime_s: int
    refresh_error: str
    allowance: Allowance | None = None
    pool_id: int | None = None
    weight: int = 1
    limits: Mapping[str, ModelLimit] = field(default_factory=dict)

    def state_at(self, at: datetime) -> str:
        """The state, with a cool-down that is over counted as active."""
        is_over = self.cooldown_until is None or self.cooldown_until <= at
        if self.state == Account.State.COOLING_DOWN and is_over:
            return Account.State.ACTIVE
        return self.state

    @property
    def is_available(self) -> bool:
        return self.state_at(now()) == Account.State.ACTIVE

    @property
    def has_failing_token(self) -> bool:
        """True when the token has ended and GitHub gives no new one."""
        if not self.refresh_error:
            return False
        if self.token_fetched_at is None:
            return True
        return (now() - self.token_fetched_at).total_seconds() >= self.token_lifetime_s


def all_accounts() -> Mapping[int, AccountView]:
    """Every account by its id."""
    return snapshot.value


def get(account_id: int) -> AccountView | None:
    return snapshot.value.get(account_id)


def of_owner(member_id: int) -> list[AccountView]:
    """The accounts that a member has connected, in the order of their logins."""
    return [view for view in snapshot.value.values() if view.owner_id == member_id]


async def freeze(account_id: int, reason: str, *, actor: Member | str = audit.GATEWAY) -> None:
    """Take the account out of service until an administrator releases it."""
    _amend(account_id, state=Account.State.FROZEN, state_reason=reason, cooldown_until=None)
    await _write(_set_state, account_id, Account.State.FROZEN, reason, None, actor)


async def cool_down(account_id: int, until: datetime, reason: str) -> None:
    """Rest the account until `until`. A cool-down that runs longer already stays as it is."""
    view = get(account_id)
    if view is not None and view.state_at(now()) != Account.State.ACTIVE:
        if view.state != Account.State.COOLING_DOWN:
            return
        if view.cooldown_until is not None and view.cooldown_until >= until:
            return
    state = Account.State.COOLING_DOWN
    _amend(account_id, state=state, state_reason=reason, cooldown_until=until)
    await _write(_set_state, account_id, state, reason, until, audit.GATEWAY)


async def limit_model(account_id: int, model: str, limit: ModelLimit) -> None:
    """Ask this account for `model` no more until the limit ends. The account serves the others."""
    view = get(account_id)
    if view is None:
        return
    known = view.limits.get(model)
    if known is not None and known.until >= limit.until:
        return
    _amend(account_id, changes_state=False, limits={**view.limits, model: limit})
    await _write(_set_model_limit, account_id, model, limit)


def _amend(account_id: int, *, changes_state: bool = True, **changes: Any) -> None:
    """Change the copy of this process at once; the row and the others follow."""
    with _lock:
        view = snapshot.value.get(account_id)
        if view is not None:
            if changes_state:
                changes["state_changed_at"] = now()
            snapshot.value = {**snapshot.value, account_id: replace(view, **changes)}


async def _write(function: Callable[..., None], *args: Any) -> None:
    """Put into the row what memory knows. With the database away, later, and without waiting."""
    try:
        await in_database(_written, function, *args)
    except Error as error:
        logger.warning("database away, an account's change is written later: %s", error)
        task = asyncio.ensure_future(_write_later(function, *args))
        _writing.add(task)
        task.add_done_callback(_writing.discard)


async def _write_later(function: Callable[..., None], *args: Any) -> None:
    for _ in range(WRITE_TRIES):
        await asyncio.sleep(1)
        try:
            await in_database(_written, function, *args)
            return
        except Error as error:
            logger.debug("database still away: %s", error)
    logger.error("an account's change could not be written")


def _written(function: Callable[..., None], *args: Any) -> None:
    function(*args)
    # A reload that had read the row before would otherwise undo in memory what is now in it.
    snapshot.refresh(force=True)


@transaction.atomic
def _set_model_limit(account_id: int, model: str, limit: ModelLimit) -> None:
    row = Account.objects.select_for_update().filter(pk=account_id).first()
    if row is None:
        return
    at = now()
    limits = {name: one.as_json() for name, one in _limits_of(row).items() if one.until > at}
    limits[model] = limit.as_json()
    Account.objects.filter(pk=account_id).update(model_limits=limits)


def _limits_of(row: Account) -> dict[str, ModelLimit]:
    stored = row.model_limits if isinstance(row.model_limits, dict) else {}
    read = {str(model): ModelLimit.read(value) for model, value in stored.items()}
    return {model: limit for model, limit in read.items() if limit is not None}


def _set_state(
    account_id: int, state: str, reason: str, until: datetime | None, actor: Member | str
) -> None:
    row = Account.objects.filter(pk=account_id).first()
    if row is not None:
        states.set_state(row, state, reason, until, actor)


def view_of(row: Account) -> AccountView:
    return AccountView(
        id=row.pk,
        login=row.login,
        host=row.host,
        owner_id=row.owner_id,
        state=row.state,
        state_reason=row.state_reason,
        state_changed_at=row.state_changed_at,
        cooldown_until=row.cooldown_until,
        account_type=row.account_type,
        kind=row.credential_kind,
        plan=row.plan,
        sku=row.sku,
        token_based_billing=row.token_based_billing,
        quota=row.quota,
        quota_reset_at=row.quota_reset_at,
        quota_polled_at=row.quota_polled_at,
        api_base=row.api_base,
        token_fetched_at=row.token_fetched_at,
        token_lifetime_s=row.token_lifetime_s,
        refresh_error=row.refresh_error,
        allowance=allowance(
            row, f"account:{row.pk}", f"the account {row.login}", f"account {row.login}"
        ),
        pool_id=row.pool_id,
        weight=row.weight,
        limits=_limits_of(row),
    )


def _load() -> dict[int, AccountView]:
    rows = Account.objects.defer("github_token", "copilot_token").order_by("login", "pk")
    return {row.pk: view_of(row) for row in rows}


_empty: Mapping[int, AccountView] = {}
snapshot: Snapshot[Mapping[int, AccountView]] = Snapshot(
    "accounts", revision_of(Account), _load, _empty
)
