"""What changes in the accounts' model lists: kept with dates, told once.

Each refresh compares the new list with the stored one; the first list of an account is no change.
Source: docs/upstream.md#models.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
from django.db.models import QuerySet
from django.utils.timezone import now

from proxy.models import CatalogChange, ModelAlias, ModelPolicy
from usage import notices
from usage.bounds import storable

Kind = CatalogChange.Kind
Entry = Mapping[str, Any]
MAX_TOLD: Final = 20
GOES_BACK: Final = timedelta(days=90)
KEPT: Final = timedelta(days=400)


def note(account_id: int, before: list[Any], after: list[Any]) -> list[CatalogChange]:
    """Keep what differs between two lists of an account; empty when there was no list before."""
    if not before:
        return []
    rows = [
        CatalogChange(
            account_id=account_id,
            kind=kind,
            model=storable(model, 100),
            before=old,
            after=new,
        )
        for kind, model, old, new in compare(before, after)
    ]
    return CatalogChange.objects.bulk_create(rows)


def compare(before: list[Any], after: list[Any]) -> list[tuple[str, str, Any, Any]]:
    """`(kind, model, old facts, new facts)` of all that differs, by model."""
    old, new = _by_id(before), _by_id(after)
    found: list[tuple[str, str, Any, Any]] = []
    for model in sorted({*old, *new}):
        if model not in old:
            found.append((Kind.ADDED, model, None, {"name": _name(new[model])}))
        elif model not in new:
            found.append((Kind.REMOVED, model, {"name": _name(old[model])}, None))
        else:
            for kind, facts in _FACTS.items():
                was, is_now = facts(old[model]), facts(new[model])
                if was != is_now:
                    found.append((kind, model, was, is_now))
    return found


def _by_id(entries: list[Any]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str) and entry["id"]:
            # Ids repeat in Copilot's own list: the first one counts, as in the catalog.
            found.setdefault(entry["id"], entry)
    return found


def _part(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _name(entry: Entry) -> str:
    return str(entry.get("name") or entry["id"])[:200]


def _price(entry: Entry) -> dict[str, Any]:
    """Prices and what changes them. An old contract's are multipliers."""
    return {
        name: value
        for name in ("token_prices", "multiplier", "promo")
        if (value := _part(entry, "billing", name)) is not None
    }


def _limits(entry: Entry) -> dict[str, Any]:
    limits = _part(entry, "capabilities", "limits")
    efforts = _part(entry, "capabilities", "supports", "reasoning_effort")
    return {
        **(limits if isinstance(limits, dict) else {}),
        **({"reasoning_effort": efforts} if efforts is not None else {}),
    }


def _endpoints(entry: Entry) -> Any:
    endpoints = entry.get("supported_endpoints")
    return sorted(map(str, endpoints)) if isinstance(endpoints, list) else None


def _policy(entry: Entry) -> dict[str, Any]:
    """Who may use it, by GitHub: accepted or not, for which plans."""
    return {
        "state": _part(entry, "policy", "state") or "enabled",
        "restricted_to": _part(entry, "billing", "restricted_to"),
    }


_FACTS: Final = {
    Kind.PRICE: _price,
    Kind.LIMITS: _limits,
    Kind.ENDPOINTS: _endpoints,
    Kind.POLICY: _policy,
}


# Telling.


def tell(changes: list[CatalogChange]) -> None:
    """One notice for all that a refresh found; the same news of other accounts is the same notice."""
    if not changes:
        return
    sums = [(change.kind, change.model, change.before, change.after) for change in changes]
    digest = hashlib.sha256(orjson.dumps(sums, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
    lines = [sentence(change) for change in changes]
    lines += pointing_at({c.model for c in changes if c.kind == Kind.REMOVED})
    count = len(changes)
    notices.note(
        "catalog",
        f"Copilot's model list has changed: {lines[0]}"
        if count == 1
        else f"Copilot's model list has {count} changes",
        "\n".join(
            lines[:MAX_TOLD] + ([f"… and {len(lines) - MAX_TOLD} more"] * (len(lines) > MAX_TOLD))
        ),
        dedupe=f"catalog:{digest}:{now():%Y-%m-%d}",
        detail={"url": "/dashboard/models/changes/", "models": [c.model for c in changes][:100]},
    )


def pointing_at(models: set[str]) -> list[str]:
    """Sentences about aliases and fallbacks whose target has gone."""
    if not models:
        return []
    aliases = ModelAlias.objects.filter(is_enabled=True, model__in=models)
    policies = ModelPolicy.objects.filter(fallback__in=models)
    return [
        *(f"The alias {a.pattern} points to {a.model}, which has gone." for a in aliases),
        *(f"The fallback of {p.model} is {p.fallback}, which has gone." for p in policies),
    ]


def sentence(change: CatalogChange) -> str:
    """What changed, in one English line without the whole of its facts."""
    model = change.model
    match change.kind:
        case Kind.ADDED:
            return f"{model} is new."
        case Kind.REMOVED:
            return f"{model} has gone."
        case Kind.ENDPOINTS:
            return f"{model} is served on {', '.join(change.after or ['the default endpoint'])}."
        case Kind.POLICY:
            state = _part(change.after, "state")
            return f"{model}: terms {_part(change.before, 'state')} -> {state}."
    shown = "; ".join(f"{d.name} {d.before} -> {d.after}" for d in differences(change)[:4])
    return f"{model}: {change.get_kind_display().lower()} {shown}."


# For people.


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact before and after, as text; an em dash where there was or is none."""

    name: str
    before: str
    after: str


def differences(change: CatalogChange) -> list[Difference]:
    """The facts that differ, flat: `default.input_price 200 -> 150`."""
    if change.kind in (Kind.ADDED, Kind.REMOVED):
        return []
    old, new = _flat(change.before), _flat(change.after)
    return [
        Difference(name, old.get(name, "—"), new.get(name, "—"))
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def _flat(value: Any, prefix: str = "", depth: int = 5) -> dict[str, str]:
    if isinstance(value, dict) and depth:
        found: dict[str, str] = {}
        for name, one in value.items():
            short = "" if name in ("token_prices", "vision") else f"{name}."
            found |= _flat(one, prefix + short, depth - 1)
        return found
    if isinstance(value, list):
        value = ", ".join(map(str, value[:20]))
    return {} if value is None else {(prefix.rstrip(".") or "served on"): str(value)[:120]}


@dataclass(slots=True)
class Change:
    """One change with all the accounts that it was seen with on that day."""

    row: CatalogChange
    differences: list[Difference]
    accounts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Wish:
    """Which changes: all fields may be empty. `account` is a login."""

    kind: str = ""
    model: str = ""
    account: str = ""
    days: int = 90


def changes(scope: int | None, wish: Wish, limit: int) -> list[Change]:
    """The newest changes that a person may see, the same one of several accounts told once."""
    grouped: dict[bytes, Change] = {}
    for row in _rows(scope, wish)[: limit * 20]:
        key = orjson.dumps(
            [row.at.date().isoformat(), row.kind, row.model, row.before, row.after],
            option=orjson.OPT_SORT_KEYS,
        )
        if key not in grouped:
            if len(grouped) == limit:
                break
            grouped[key] = Change(row, differences(row))
        if row.account.login not in grouped[key].accounts:
            grouped[key].accounts.append(row.account.login)
    return list(grouped.values())


def _rows(scope: int | None, wish: Wish) -> QuerySet[CatalogChange]:
    rows = CatalogChange.objects.select_related("account").filter(
        at__gte=now() - timedelta(days=max(1, min(wish.days, KEPT.days)))
    )
    if scope is not None:
        # A member sees the lists that serve the member: own accounts', or those without an owner.
        rows = rows.filter(account__owner_id=scope) | rows.filter(account__owner=None)
    if wish.kind in Kind.values:
        rows = rows.filter(kind=wish.kind)
    if wish.model:
        rows = rows.filter(model__icontains=wish.model)
    if wish.account:
        rows = rows.filter(account__login=wish.account)
    return rows


def gone_since() -> dict[str, datetime]:
    """When models were last removed from a list, in the time that one looks back."""
    removed = CatalogChange.objects.filter(kind=Kind.REMOVED, at__gte=now() - GOES_BACK)
    return dict(removed.order_by("at").values_list("model", "at"))


def delete_old() -> int:
    """Forget changes of more than 400 days ago; how many."""
    return CatalogChange.objects.filter(at__lt=now() - KEPT).delete()[0]
