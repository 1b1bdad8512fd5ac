"""Models and waiting requests as their pages show them."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from accounts.models import Account
from proxy import approval
from proxy.catalog import Entry, read_entry
from proxy.models import Catalog, ModelAlias
from usage.pricing import NANO_PER_CREDIT

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
class Row:
    """One model. `accounts` are the logins whose list has it enabled."""

    entry: Entry
    price: Price | None
    long_price: Price | None
    context: int | None
    accounts: list[str]
    note: str

    @property
    def id(self) -> str:
        return self.entry.id

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
    """Every model of the accounts that serve this person, by vendor and id: one query."""
    found: dict[str, Row] = {}
    lists = []
    for catalog in _catalogs(scope):
        login = catalog.account.login
        lists.append(ListState(login, len(catalog.entries), catalog.fetched_at, catalog.error))
        for raw in catalog.entries:
            entry = read_entry(raw) if isinstance(raw, dict) else None
            if entry is None:
                continue
            row = found.setdefault(entry.id, _row(entry))
            if entry.is_enabled and login not in row.accounts:
                row.accounts.append(login)
    # Those that people choose first, hidden ones at the end.
    order = sorted(found.values(), key=lambda r: (r.entry.type != "chat", _vendor(r), r.id))
    return order, lists


def _vendor(row: Row) -> str:
    return row.entry.vendor.replace("Azure ", "")


def _row(entry: Entry) -> Row:
    billing = entry.raw.get("billing")
    prices = billing.get("token_prices") if isinstance(billing, dict) else None
    prices = prices if isinstance(prices, dict) else {}
    batch = prices.get("batch_size")
    batch = batch if isinstance(batch, int | float) and batch > 0 else MILLION
    usual = prices.get("default", prices)
    capabilities = entry.raw.get("capabilities")
    limits = capabilities.get("limits") if isinstance(capabilities, dict) else None
    context = limits.get("max_context_window_tokens") if isinstance(limits, dict) else None
    warning = entry.raw.get("warning_message")
    return Row(
        entry,
        _price(usual, batch),
        _price(prices.get("long_context"), batch),
        context if isinstance(context, int) else None,
        [],
        warning if isinstance(warning, str) else "",
    )


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
    """Ids of enabled chat models, for pickers: one query."""
    found, _lists = rows(scope)
    return [row.id for row in found if row.accounts and row.entry.type == "chat"]


def aliases() -> list[ModelAlias]:
    return list(ModelAlias.objects.all())


# Approvals.


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that waits, with when its time is up and what it may cost in nano-AIU."""

    pending: approval.Pending
    ends_at: datetime
    nano_aiu: int | None


def waiting() -> list[Waiting]:
    queue = approval.pending()
    if not queue:
        return []
    prices = {row.id: row.price for row in rows(None)[0]}
    at = time.time()
    return [
        Waiting(
            one,
            datetime.fromtimestamp(at + one.seconds_left, UTC),
            _input_cost(prices.get(one.model), one.input_tokens),
        )
        for one in queue
    ]


def _input_cost(price: Price | None, tokens: int) -> int | None:
    """What the input alone costs at most; nobody knows the length of the answer yet."""
    if price is None or price.input is None:
        return None
    return int(price.input / CREDIT_USD * tokens / MILLION * NANO_PER_CREDIT)


@dataclass(frozen=True, slots=True)
class Decided:
    decision: approval.Decision
    at: datetime


def decisions() -> list[Decided]:
    """The last fifty decisions of this process."""
    return [Decided(d, datetime.fromtimestamp(d.at, UTC)) for d in approval.queue.decisions]
