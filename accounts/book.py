"""The account book: every account in memory, for routing without the ORM."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.utils.timezone import now

from accounts import audit, states
from accounts.database import in_database
from accounts.models import Account, Member
from accounts.snapshots import Snapshot, revision_of

_lock = threading.Lock()


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

    def state_at(self, at: datetime) -> str:
        """The state, with a cool-down that is over counted as active."""
        is_over = self.cooldown_until is None or self.cooldown_until <= at
        if self.state == Account.State.COOLING_DOWN and is_over:
            return Account.State.ACTIVE
        return self.state

    @property
    def is_available(self) -> bool:
        return self.state_at(now()) == Account.State.ACTIVE


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
    await in_database(_set_state, account_id, Account.State.FROZEN, reason, None, actor)


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
    await in_database(_set_state, account_id, state, reason, until, audit.GATEWAY)


def _amend(account_id: int, **changes: Any) -> None:
    """Change the copy of this process at once; the row and the others follow."""
    with _lock:
        view = snapshot.value.get(account_id)
        if view is not None:
            amended = replace(view, state_changed_at=now(), **changes)
            snapshot.value = {**snapshot.value, account_id: amended}


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
    )


def _load() -> dict[int, AccountView]:
    rows = Account.objects.defer("github_token", "copilot_token").order_by("login", "pk")
    return {row.pk: view_of(row) for row in rows}


_empty: Mapping[int, AccountView] = {}
snapshot: Snapshot[Mapping[int, AccountView]] = Snapshot(
    "accounts", revision_of(Account), _load, _empty
)
