"""Models as their page shows them: what they can, what they cost, who may use them, what waits."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from accounts.keys import ModelRule, model_rules
from accounts.models import Account, ApiKey, Member, Team
from proxy import catalog_history, policies
from proxy.catalog import Entry, read_entry
from proxy.models import Catalog, ModelAlias, ModelPolicy
from proxy.policies import Policies, Policy
from usage import pricing
from usage.models import Price as PriceRow

# One AI credit is 0.01 USD; prices stand in credits for `batch_size` tokens.
CREDIT_USD: Final = 0.01
MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a million tokens; None where the list says nothing."""

    input: float | None
    cached: float | None
    written: float | None
    output: float | None


@dataclass(frozen=True, slots=True)
class Priced:
    """What a model costs, and who says so: `upstream`, `table` or `shipped`, the last two by a day."""

    usual: Price | None = None
    long: Price | None = None
    source: str = ""
    date: str = ""


@dataclass(frozen=True, slots=True)
class Waits:
    """An account that could use a model if its terms were accepted."""

    account_id: int
    login: str


@dataclass(slots=True)
class Row:
    """One model. `accounts` are the logins whose list has it enabled, `waits` those that have not.

    `barred` are the keys, members and teams that may not use it; for a member, why not.
    """

    entry: Entry
    priced: Priced
    context: int | None
    note: str
    policy: Policy | None
    accounts: list[str] = field(default_factory=list)
    waits: list[Waits] = field(default_factory=list)
    barred: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.entry.id

    @property
    def price(self) -> Price | None:
        return self.priced.usual

    @property
    def long_price(self) -> Price | None:
        return self.priced.long

    @property
    def is_offered(self) -> bool:
        """Some account has it enabled and no policy switches it off."""
        return bool(self.accounts) and (self.policy is None or self.policy.is_enabled)

    @property
    def endpoints(self) -> list[str]:
        if self.entry.endpoints:
            return list(self.entry.endpoints)
        return ["/embeddings" if self.entry.type == "embeddings" else "/chat/completions"]


@dataclass(frozen=True, slots=True)
class ListState:
    """How old an account's list is, and why it is not newer."""

    login: str
    count: int
    fetched_at: datetime | None
    error: str


def _catalogs(scope: int | None) -> list[Catalog]:
    rows = Catalog.objects.select_related("account").exclude(
        account__state__in=[Account.State.NO_SEAT, Account.State.NEEDS_SIGN_IN]
    )
    if scope is not None:
        # A member is served by own accounts, or by those without an owner.
        rows = rows.filter(account__owner_id__in=[scope]) | rows.filter(account__owner=None)
    return list(rows.order_by("account__login"))


def rows(scope: int | None) -> tuple[list[Row], list[ListState]]:
    """Every model of the accounts that serve this person, by vendor and id: a few queries in all."""
    found: dict[str, Row] = {}
    lists = []
    known, table = policies.load(), pricing.table_of(PriceRow.objects.all())
    for catalog in _catalogs(scope):
        login = catalog.account.login
        lists.append(ListState(login, len(catalog.entries), catalog.fetched_at, catalog.error))
        for raw in catalog.entries:
            entry = read_entry(raw) if isinstance(raw, dict) else None
            if entry is None:
                continue
            row = found.get(entry.id)
            if row is None:
                row = found[entry.id] = _row(entry, known, table)
            if entry.is_enabled:
                if login not in row.accounts:
                    row.accounts.append(login)
            elif all(waits.login != login for waits in row.waits):
                row.waits.append(Waits(catalog.account_id, login))
    # Those that people choose first, hidden ones at the end.
    order = sorted(found.values(), key=lambda r: (r.entry.type != "chat", _vendor(r), r.id))
    return order, lists


def _vendor(row: Row) -> str:
    return row.entry.vendor.replace("Azure ", "")


def _row(entry: Entry, known: Policies, table: pricing.Table) -> Row:
    capabilities = entry.raw.get("capabilities")
    limits = capabilities.get("limits") if isinstance(capabilities, dict) else None
    context = limits.get("max_context_window_tokens") if isinstance(limits, dict) else None
    warning = entry.raw.get("warning_message")
    return Row(
        entry,
        _priced(entry, table),
        context if isinstance(context, int) else None,
        warning if isinstance(warning, str) else "",
        known.of(entry.id),
    )


# Prices.


def _priced(entry: Entry, table: pricing.Table) -> Priced:
    """As an estimate would take it: the upstream's own list, the price table, the shipped one."""
    prices = dict(pricing.token_prices(entry.raw) or {})
    batch = prices.get("batch_size")
    batch = batch if isinstance(batch, int | float) and batch > 0 else MILLION
    usual = _price(prices.get("default", prices), batch)
    if usual is not None:
        return Priced(usual, _price(prices.get("long_context"), batch), "upstream")
    dated = pricing.price_in_force(entry.id, table=table)
    if dated is not None:
        return Priced(*_of_table(dated.prices), "table", f"{dated.valid_from}")
    shipped = pricing.published_prices(entry.id)
    if shipped is not None:
        return Priced(*_of_table(shipped), "shipped", pricing.prices_date())
    return Priced()


def _of_table(prices: pricing.Prices) -> tuple[Price, Price | None]:
    return _usd(prices.rates), None if prices.long is None else _usd(prices.long)


def _usd(rates: pricing.Rates) -> Price:
    def usd(nano: int | None) -> float | None:
        return None if nano is None else nano / pricing.NANO_PER_CREDIT * CREDIT_USD

    return Price(usd(rates.input), usd(rates.cache_read), usd(rates.cache_write), usd(rates.output))


def _price(tier: Any, batch: float) -> Price | None:
    if not isinstance(tier, dict):
        return None

    def usd(*names: str) -> float | None:
        value = next((tier[n] for n in names if isinstance(tier.get(n), int | float)), None)
        return None if value is None else value * CREDIT_USD * MILLION / batch

    price = Price(
        usd("input_price"),
        usd("cache_read_price", "cache_price"),
        usd("cache_write_price"),
        usd("output_price"),
    )
    return price if price.input is not None or price.output is not None else None


def offered(scope: int | None) -> list[str]:
    """Ids of enabled chat models, for pickers."""
    found, _lists = rows(scope)
    return [row.id for row in found if row.is_offered and row.entry.type == "chat"]


# Who may use them.


def mark_barred(found: list[Row], member: Member | None) -> None:
    """Note at each row who may not use it: of the team, or (`member`) whether this person may."""
    entries = {row.id: row.entry for row in found}
    for who, rule in _rules() if member is None else _rules_of(member):
        for row in found:
            if policies.refusal_by((rule,), row.id, entries) is not None:
                row.barred.append(who)


def _rules_of(member: Member) -> list[tuple[str, ModelRule]]:
    return [(rule.who, rule) for rule in model_rules(member)]


def _rules() -> list[tuple[str, ModelRule]]:
    """Every rule of keys that still work, members and teams: three queries."""
    keys = ApiKey.objects.filter(revoked_at=None).select_related("owner").order_by("name")
    columns = ("models_allowed", "models_denied")
    subjects: list[tuple[str, ApiKey | Member | Team]] = []
    subjects += [(f"team {team.name}", team) for team in Team.objects.exclude(**_empty(columns))]
    active = Member.objects.filter(is_active=True).order_by("username")
    subjects += [(f"member {m.get_username()}", m) for m in active.exclude(**_empty(columns))]
    subjects += [(f"key {key} of {key.owner}", key) for key in keys.exclude(**_empty(columns))]
    return [
        (who, rule)
        for who, subject in subjects
        for rule in (
            ModelRule(who, *(tuple(map(str, getattr(subject, c) or ())) for c in columns)),
        )
        if rule.allowed or rule.denied
    ]


def _empty(columns: tuple[str, ...]) -> dict[str, list[str]]:
    return {column: [] for column in columns}


# Aliases and policies.


@dataclass(frozen=True, slots=True)
class AliasRow:
    """An alias, and what is wrong with where it points: a word and perhaps a day, or nothing."""

    alias: ModelAlias
    trouble: str = ""
    gone_at: datetime | None = None
    note: str = ""


def aliases(found: list[Row]) -> list[AliasRow]:
    """Every alias with a warning when its model is not there, not enabled, or on its way out."""
    by_id = {row.id: row for row in found}
    gone = catalog_history.gone_since()
    return [_alias(alias, by_id.get(alias.model), gone) for alias in ModelAlias.objects.all()]


def _alias(alias: ModelAlias, row: Row | None, gone: dict[str, datetime]) -> AliasRow:
    if row is None:
        return AliasRow(alias, "gone" if alias.model in gone else "missing", gone.get(alias.model))
    if not row.accounts:
        return AliasRow(alias, "not_enabled")
    if row.policy is not None and not row.policy.is_enabled:
        return AliasRow(alias, "off")
    if row.note:
        return AliasRow(alias, "warned", note=row.note)
    if alias.model in gone:
        # Some account has lost it, others have it still.
        return AliasRow(alias, "going", gone[alias.model])
    return AliasRow(alias)


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A policy with the ids that it holds for now; `lost` says that its fallback is not there."""

    policy: ModelPolicy
    models: list[str]
    lost: bool


def model_policies(found: list[Row]) -> list[PolicyRow]:
    offered_ids = {row.id for row in found if row.accounts}
    return [
        PolicyRow(
            row,
            [one.id for one in found if one.policy is not None and one.policy.id == row.pk],
            bool(row.fallback) and row.fallback not in offered_ids,
        )
        for row in ModelPolicy.objects.all()
    ]
