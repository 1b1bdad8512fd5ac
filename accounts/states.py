"""An account's state: the one place that changes it, and what may follow what.

Frozen and paused are decisions of people (frozen also of the gateway, on suspicion): nothing but
an administrator takes them back. A cool-down ends by itself.
"""

from datetime import datetime

from django.db import transaction
from django.utils.timezone import now

from accounts import audit
from accounts.models import Account, AuditEntry, Member

State = Account.State

# What the gateway may change by itself, by the state it finds. A request that still runs may
# report a limit after the account was found revoked; the graver word stays.
_GATEWAY_MAY: dict[str, frozenset[str]] = {
    State.ACTIVE: frozenset(State.values),
    State.COOLING_DOWN: frozenset(State.values),
    State.NO_SEAT: frozenset({State.ACTIVE, State.NO_SEAT, State.NEEDS_SIGN_IN, State.FROZEN}),
    State.NEEDS_SIGN_IN: frozenset(
        {State.ACTIVE, State.NO_SEAT, State.NEEDS_SIGN_IN, State.FROZEN}
    ),
    State.PAUSED: frozenset({State.PAUSED, State.FROZEN}),
    State.FROZEN: frozenset({State.FROZEN}),
}


def set_state(
    account: Account,
    state: str,
    reason: str = "",
    until: datetime | None = None,
    actor: Member | str = audit.GATEWAY,
    address: str = "",
) -> bool:
    """Put the account into `state`, with an audit entry when that is a change.

    `until` is the end of a cool-down. False when the gateway may not change what it found;
    people may always. `account` is brought up to date either way.
    """
    with transaction.atomic():
        row = Account.objects.select_for_update().get(pk=account.pk)
        if actor == audit.GATEWAY and state not in _GATEWAY_MAY[row.state]:
            _copy(row, account)
            return False
        before, row.state, row.state_reason = row.state, state, reason
        row.cooldown_until = until if state == State.COOLING_DOWN else None
        if before != state:
            row.state_changed_at = now()
            detail = {"from": before, "to": state, "reason": reason}
            audit.record(actor, f"account.{state}", row, detail, address)
        Account.objects.filter(pk=row.pk).update(
            state=row.state,
            state_reason=row.state_reason,
            state_changed_at=row.state_changed_at,
            cooldown_until=row.cooldown_until,
        )
    _copy(row, account)
    return True


def _copy(row: Account, account: Account) -> None:
    for name in ("state", "state_reason", "state_changed_at", "cooldown_until"):
        setattr(account, name, getattr(row, name))


def end_cooldowns() -> int:
    """Make rows active whose cool-down is over. The in-memory book does not wait for this."""
    ended = 0
    for row in Account.objects.filter(state=State.COOLING_DOWN, cooldown_until__lte=now()):
        with transaction.atomic():
            # Not over a longer one that came meanwhile.
            still = Account.objects.select_for_update().filter(
                pk=row.pk, state=State.COOLING_DOWN, cooldown_until=row.cooldown_until
            )
            if still.exists():
                ended += set_state(row, State.ACTIVE)
    return ended


def paused_by(account: Account) -> str:
    """The name of who paused the account last; empty when nobody did."""
    entry = (
        AuditEntry.objects.filter(action="account.paused", target=str(account))
        .order_by("-pk")
        .first()
    )
    return "" if entry is None else entry.actor
