"""Which models a caller may use, and which model serves in the place of one that cannot.

Rules stand on keys, members and teams (allow and deny lists) and in the policies of models
(`ModelPolicy`: on or off, for which plans, with which fallback). All is read from memory. A fallback
serves where a model is missing, switched off or waits for its terms; never where a limit or a rule
about the caller refuses.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from accounts import book as account_book
from accounts.book import AccountView
from accounts.keys import Caller, ModelRule
from accounts.limits import Allowance, allowance
from accounts.snapshots import Snapshot, revision_of
from proxy import catalog
from proxy.catalog import Entry
from proxy.errors import Forbidden, GatewayError, NotFound
from proxy.models import ModelPolicy

MAX_FALLBACKS: Final = 3
MAX_PATTERN: Final = 100
MAX_TOLD: Final = 10
SERVED_TYPES: Final = ("chat", "embeddings")
_PATTERN: Final = re.compile(r"[\w.:/-]+\*?|\*", re.ASCII)
_UNSENDABLE: Final = re.compile(r"[^\x21-\x7e]")
# GitHub's account document and its model list name the plans of persons differently.
# Source: docs/upstream.md#account-document, #models.
_PLANS_OF_PERSONS: Final = {
    "individual": "pro",
    "individual_pro": "pro_plus",
    "individual_max": "max",
    "individual_edu": "edu",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What the team does with the models that fit `pattern`; `id` is the row's."""

    id: int
    pattern: str
    is_enabled: bool
    plans: tuple[str, ...]
    fallback: str
    allowance: Allowance | None = None


@dataclass(frozen=True, slots=True)
class Policies:
    """Every policy: those of one model by its id, those of many the longest first."""

    exact: Mapping[str, Policy] = field(default_factory=dict)
    wide: tuple[Policy, ...] = ()

    def of(self, model_id: str) -> Policy | None:
        """The policy of a model: its own, else the longest pattern that fits."""
        name = model_id.lower()
        own = self.exact.get(name)
        return own or next((p for p in self.wide if name.startswith(p.pattern[:-1])), None)


@dataclass(frozen=True, slots=True)
class Choice:
    """The model that serves. `fallback` tells why it is another one: `asked -> used (reason)`."""

    entry: Entry
    fallback: str = ""


@dataclass(frozen=True, slots=True)
class _Obstacle:
    """Why a model cannot serve. `fallback` may serve in its place, if there is one."""

    error: GatewayError
    reason: str = ""
    fallback: str = ""


def load() -> Policies:
    exact: dict[str, Policy] = {}
    wide: list[Policy] = []
    for row in ModelPolicy.objects.all():
        plans = row.plans if isinstance(row.plans, list) else []
        policy = Policy(
            id=row.pk,
            pattern=row.model.strip().lower(),
            is_enabled=row.is_enabled,
            plans=tuple(str(plan).strip().lower() for plan in plans if str(plan).strip()),
            fallback=row.fallback.strip(),
            allowance=allowance(
                row,
                f"model:{row.model.strip().lower()}",
                f"the model {row.model}",
                f"model {row.model}",
            ),
        )
        if policy.pattern.endswith("*"):
            wide.append(policy)
        else:
            exact[policy.pattern] = policy
    return Policies(exact, tuple(sorted(wide, key=lambda p: -len(p.pattern))))


book: Snapshot[Policies] = Snapshot("model policies", revision_of(ModelPolicy), load, Policies())


def policy_for(model_id: str) -> Policy | None:
    return book.value.of(model_id)


def allowance_of(model_id: str) -> Allowance | None:
    """The limits that the model's policy sets; None when there are none."""
    policies = book.value
    if not policies.exact and not policies.wide:
        return None
    policy = policies.of(model_id)
    return None if policy is None else policy.allowance


# What a caller may.


def may_use(caller: Caller, account: AccountView, entry: Entry) -> None:
    """Raise `Forbidden`, with the reason and who set it, unless the caller may use this model."""
    refusal = _by_rules(caller, entry.id, catalog.of_account(account.id).entries)
    if refusal is not None:
        raise refusal
    if (obstacle := _by_policy(account, entry)) is not None:
        raise obstacle.error


def permits(caller: Caller, account: AccountView, entry: Entry) -> bool:
    """Whether a list of models shows it: enabled, of a kind that the API serves, permitted."""
    if not entry.is_enabled or entry.type not in SERVED_TYPES:
        return False
    if not caller.model_rules and not book.value.exact and not book.value.wide:
        return True
    try:
        may_use(caller, account, entry)
    except Forbidden:
        return False
    return True


def check(caller: Caller, name: str) -> None:
    """Refuse what no account could serve to this caller, before anything is asked of anybody.

    Only a first look over the stored lists: `choose` decides when the account is known.
    """
    if not caller.model_rules and not book.value.exact and not book.value.wide:
        return
    refused: GatewayError | None = None
    for account_id, known in catalog.book.value.by_account.items():
        account = account_book.get(account_id)
        is_other = caller.account_id not in (None, account_id)
        if account is None or is_other or not known.entries:
            continue
        try:
            choose(caller, account, name, known.entries)
        except Forbidden as error:
            refused = error
        except NotFound:
            return
        else:
            return
    if refused is not None:
        raise refused


def choose(caller: Caller, account: AccountView, name: str, entries: Mapping[str, Entry]) -> Choice:
    """The model that serves a caller who asks for `name`, by the policies perhaps another one.

    Raises `Forbidden` or `NotFound` about the model that was asked for.
    """
    asked, first = name, None
    reasons: list[str] = []
    seen: set[str] = set()
    for _ in range(MAX_FALLBACKS + 1):
        found = _look(caller, account, name, entries)
        if isinstance(found, Entry):
            return Choice(found, _disclosed(asked, found.id, reasons))
        first = first or found.error
        seen.add(name.lower())
        if not found.fallback or found.fallback.lower() in seen:
            break
        reasons.append(found.reason)
        name = found.fallback
    assert first is not None
    raise first


def _disclosed(asked: str, used: str, reasons: list[str]) -> str:
    if not reasons:
        return ""
    return f"{_UNSENDABLE.sub('?', asked)[:80]} -> {used} ({', then '.join(reasons)})"


def _look(
    caller: Caller, account: AccountView, name: str, entries: Mapping[str, Entry]
) -> Entry | _Obstacle:
    entry = catalog.named(name, entries)
    model_id = entry.id if entry is not None else catalog.alias_target(name) or name
    policy = policy_for(model_id)
    fallback = policy.fallback if policy is not None else ""
    if entry is None and not fallback:
        # Nobody has said what serves instead: the nearest of its family, if it is of one.
        entry = catalog.of_family(name, entries)
        model_id = entry.id if entry is not None else model_id
    refusal = _by_rules(caller, model_id, entries)
    if refusal is not None:
        return _Obstacle(refusal)
    if entry is None:
        return _Obstacle(catalog.unknown(name, entries), "not in the account's list", fallback)
    obstacle = _by_policy(account, entry)
    if obstacle is None and not entry.is_enabled:
        obstacle = _Obstacle(catalog.not_enabled(entry), "its terms are not accepted", fallback)
    return obstacle or entry


def _by_rules(caller: Caller, model_id: str, entries: Mapping[str, Entry]) -> Forbidden | None:
    return refusal_by(caller.model_rules, model_id, entries)


def refusal_by(
    rules: tuple[ModelRule, ...], model_id: str, entries: Mapping[str, Entry]
) -> Forbidden | None:
    """The refusal of the first rule that does not let a model through; None when all do."""
    for rule in rules:
        if any(_denies(pattern, model_id, entries) for pattern in rule.denied):
            return _forbidden(f"The model {model_id[:80]!r} is denied for {rule.who}.")
        if rule.allowed and not any(_allows(p, model_id, entries) for p in rule.allowed):
            told = ", ".join(rule.allowed[:MAX_TOLD])
            more = ", …" if len(rule.allowed) > MAX_TOLD else ""
            who = rule.who[0].upper() + rule.who[1:]
            return _forbidden(
                f"{who} may not use the model {model_id[:80]!r}. It may use: {told}{more}."
                if rule.who == "this API key"
                else f"{who} may use these models only: {told}{more}; not {model_id[:80]!r}."
            )
    return None


def _by_policy(account: AccountView, entry: Entry) -> _Obstacle | None:
    policy = policy_for(entry.id)
    if policy is None:
        return None
    if not policy.is_enabled:
        error = _forbidden(
            f"The model {entry.id!r} is switched off by an administrator "
            f"(policy {policy.pattern!r})."
        )
        return _Obstacle(error, "switched off by an administrator", policy.fallback)
    plans = plans_of(account)
    if policy.plans and not any(_fits(wanted, plan) for wanted in policy.plans for plan in plans):
        error = _forbidden(
            f"The model {entry.id!r} is for accounts of the plans {', '.join(policy.plans)} only "
            f"(policy {policy.pattern!r} of an administrator)."
        )
        return _Obstacle(error, "not for the account's plan", policy.fallback)
    return None


def _forbidden(message: str) -> Forbidden:
    return Forbidden(message, code="model_not_permitted", param="model")


def plans_of(account: AccountView) -> frozenset[str]:
    """What an account's plan is called: by its document, by the model list, by its product."""
    plan = (account.plan or account.account_type).lower()
    return frozenset({plan, _PLANS_OF_PERSONS.get(plan, plan), account.sku.lower()} - {""})


# Patterns.


def _fits(pattern: str, name: str) -> bool:
    if pattern.endswith("*"):
        return name.lower().startswith(pattern[:-1].lower())
    return pattern.lower() == name.lower()


def _allows(pattern: str, model_id: str, entries: Mapping[str, Entry]) -> bool:
    return _fits(pattern, model_id) or _means(pattern, model_id, entries)


def _denies(pattern: str, model_id: str, entries: Mapping[str, Entry]) -> bool:
    """A denial also holds for `claude-opus-4-*` where the model is called `claude-opus-4.8`."""
    if _fits(pattern, model_id) or _means(pattern, model_id, entries):
        return True
    return _fits(pattern.replace(".", "-"), model_id.replace(".", "-"))


def _means(pattern: str, model_id: str, entries: Mapping[str, Entry]) -> bool:
    """Whether a rule's name is an alias or another spelling of this model."""
    if pattern.endswith("*") or pattern in entries:
        return False
    meant = catalog.named(pattern, entries)
    return meant is not None and meant.id == model_id


def read_patterns(text: str) -> list[str]:
    """Ids and patterns of a form's field, separated by commas or blanks. Raises `ValueError`."""
    names = list(dict.fromkeys(name for name in re.split(r"[\s,]+", text) if name))
    for name in names:
        check_pattern(name)
    return names


def check_pattern(name: str) -> None:
    """Raise `ValueError`, with the sentence for the person, unless it is an id or `gpt-5*`."""
    if len(name) > MAX_PATTERN or not _PATTERN.fullmatch(name):
        raise ValueError(
            f"{name[:MAX_PATTERN]!r} is no model id and no pattern; a star may stand at the end."
        )


def check_fallback(model: str, fallback: str, others: Mapping[str, str]) -> None:
    """Raise `ValueError` when a policy's fallback leads back to itself or too far.

    `others` are the fallbacks of the other policies by their patterns.
    """
    chain, name = [model], fallback
    known = {pattern.lower(): target for pattern, target in others.items() if target}
    while name:
        if _fits(model, name) or name.lower() in (one.lower() for one in chain[1:]):
            raise ValueError(f"The fallbacks go round: {' -> '.join([*chain, name])}.")
        chain.append(name)
        if len(chain) > MAX_FALLBACKS + 1:
            raise ValueError(
                f"More than {MAX_FALLBACKS} fallbacks one after the other: {' -> '.join(chain)}."
            )
        name = _next(known, name)


def _next(fallbacks: Mapping[str, str], name: str) -> str:
    if name.lower() in fallbacks:
        return fallbacks[name.lower()]
    fitting = [p for p in fallbacks if p.endswith("*") and _fits(p, name)]
    return fallbacks[max(fitting, key=len)] if fitting else ""
