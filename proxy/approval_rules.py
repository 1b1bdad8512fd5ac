"""Which requests want a person's word: `--manual`, keys that ask, and the rules of the team.

Answered from memory. A scope that somebody chose settles the one rule that asked: for that
conversation, or for that key for an hour.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.db.models import Count, Max

from accounts import hours
from accounts.auth import Caller
from accounts.clock import now
from accounts.snapshots import Snapshot, revision_of
from proxy.models import Approval, ApprovalRule

if TYPE_CHECKING:
    from proxy.exchange import Exchange

# What asks without being a row of `ApprovalRule`.
MANUAL: Final = "--manual"
KEY_ASKS: Final = "this key asks for approval"
# These cost nothing, so that only what asks for everything asks for them.
FREE: Final = frozenset({"count_tokens"})


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of `ApprovalRule` as it is compared; zero, empty and None are conditions not set."""

    name: str
    models: tuple[str, ...]
    above_nano_aiu: int
    above_context_tokens: int
    key_younger_than: timedelta
    outside_hours: hours.Hours | None
    team_id: int | None
    key_id: int | None

    def fits(self, exchange: "Exchange", at: datetime) -> bool:
        """Whether all conditions hold. What is not known (a price, a key's age) does not hold."""
        caller, estimate = exchange.caller, exchange.estimate
        if self.team_id is not None and caller.team_id != self.team_id:
            return False
        if self.key_id is not None and caller.key_id != self.key_id:
            return False
        if self.models and not self._names(exchange):
            return False
        if self.above_nano_aiu and (
            estimate is None or not estimate.is_priced or estimate.nano_aiu <= self.above_nano_aiu
        ):
            return False
        if self.above_context_tokens and (
            estimate is None or estimate.input_tokens <= self.above_context_tokens
        ):
            return False
        if self.key_younger_than and not _is_younger(caller, self.key_younger_than, at):
            return False
        return self.outside_hours is None or not self.outside_hours.is_open(at)

    def _names(self, exchange: "Exchange") -> bool:
        """Whether the model is meant, by the name that was asked for or by its own."""
        asked = {exchange.model}
        if exchange.estimate is not None:
            asked.add(exchange.estimate.model)
        return any(
            name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
            for pattern in self.models
            for name in asked
        )


def _is_younger(caller: Caller, age: timedelta, at: datetime) -> bool:
    return caller.created_at is not None and at - caller.created_at < age


def _load_rules() -> tuple[Rule, ...]:
    return tuple(rule_of(row) for row in ApprovalRule.objects.filter(is_enabled=True))


def rule_of(row: ApprovalRule) -> Rule:
    try:
        outside = hours.parse(row.outside_hours)
    except ValueError:
        # Hours that nobody can read are never open: better asked once too often.
        outside = hours.Hours(row.outside_hours, ())
    return Rule(
        name=row.name,
        models=tuple(str(name) for name in row.for_models or ()),
        above_nano_aiu=row.above_nano_aiu,
        above_context_tokens=row.above_context_tokens,
        key_younger_than=timedelta(hours=row.key_younger_than_h),
        outside_hours=outside,
        team_id=row.team_id,
        key_id=row.key_id,
    )


rules: Snapshot[tuple[Rule, ...]] = Snapshot(
    "approval rules", revision_of(ApprovalRule), _load_rules, ()
)

# What is settled: `("conversation", conversation, rule)` or `("hour", member, key, rule)`.
Settled = dict[tuple[object, ...], datetime]


def _settling() -> "list[Approval]":
    return list(
        Approval.objects.filter(settles_until__gt=now(), state=Approval.State.APPROVED).only(
            "scope", "conversation", "member_id", "key_id", "rule", "settles_until"
        )
    )


def _settled_revision() -> object:
    found = Approval.objects.filter(settles_until__gt=now()).aggregate(
        n=Count("pk"), at=Max("decided_at")
    )
    return tuple(found.values())


def _load_settled() -> Settled:
    found: Settled = {}
    for row in _settling():
        assert row.settles_until is not None
        key = _place(row.scope, row.conversation, row.member_id, row.key_id, row.rule)
        if key is not None:
            found[key] = max(row.settles_until, found.get(key, row.settles_until))
    return found


def _place(
    scope: str, conversation: str, member_id: int | None, key_id: int | None, rule: str
) -> tuple[object, ...] | None:
    match scope:
        case Approval.Scope.CONVERSATION if conversation:
            return (scope, conversation, rule)
        case Approval.Scope.HOUR:
            return (scope, member_id, key_id, rule)
    return None


settled: Snapshot[Settled] = Snapshot("settled approvals", _settled_revision, _load_settled, {})


def asking(exchange: "Exchange", kind: str = "generation") -> list[str]:
    """The rules that this request meets, whatever was decided before."""
    found = []
    if settings.GATEWAY_MANUAL:
        found.append(MANUAL)
    if exchange.caller.needs_approval:
        found.append(KEY_ASKS)
    if rules.value and kind not in FREE:
        at = now()
        found += [rule.name for rule in rules.value if rule.fits(exchange, at)]
    return found


def rule_for(exchange: "Exchange", kind: str = "generation") -> str:
    """The first rule that wants a person's word for this request; empty when none does."""
    if not (rules.value or settings.GATEWAY_MANUAL or exchange.caller.needs_approval):
        return ""
    return next((rule for rule in asking(exchange, kind) if not is_settled(exchange, rule)), "")


def is_settled(exchange: "Exchange", rule: str) -> bool:
    """Whether an earlier word covers this rule, as far as this process knows."""
    known = settled.value
    if not known:
        return False
    caller, at = exchange.caller, now()
    places = (
        _place(Approval.Scope.CONVERSATION, exchange.conversation, None, None, rule),
        _place(Approval.Scope.HOUR, "", caller.member_id, caller.key_id, rule),
    )
    return any(place is not None and known.get(place, at) > at for place in places)
