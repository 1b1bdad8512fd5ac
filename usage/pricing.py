"""What a request costs: said by the upstream, or computed from dated prices and marked so.

Integers throughout: nano-AIU, 10^9 to an AI credit, which is 0.01 USD. A price is nano-AIU per
batch of tokens. An estimate takes what the account's model list says; else the price table of this
gateway (`Price` rows, the one in force at the time); else the shipped table.
Source: docs/upstream.md#copilot-usage and #published-prices.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from accounts.clock import now
from accounts.snapshots import Snapshot, revision_of
from usage.bounds import MAX_NANO_AIU
from usage.journal import Record
from usage.models import Price

NANO_PER_CREDIT = 10**9
CREDITS_PER_USD = 100
MILLION = 1_000_000
PRICES_FILE = Path(__file__).parent / "data" / "prices.json"
# What variants of a model carry behind its name. `-fast` is not among them: it has its own price.
_VARIANT = re.compile(r"-(preview|picker|internal|1m|high|xhigh|low|medium|max|thought)$")
_DATE = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")
_DASHED_VERSION = re.compile(r"(?<=-)(\d{1,2})-(\d{1,2})(?=-|$)")


class TokenCounts(Protocol):
    """What is counted. `input_tokens` includes cache reads and writes."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


@dataclass(frozen=True, slots=True)
class Rates:
    """Nano-AIU per batch. A cache price of `None` means that such tokens cost as input does."""

    input: int
    output: int
    cache_read: int | None = None
    cache_write: int | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of one model; `long` counts when the input exceeds `long_above` tokens.

    `further` are tiers above that one, the lowest first: `(above tokens, rates)`.
    """

    rates: Rates
    batch_size: int = MILLION
    long: Rates | None = None
    long_above: int = 0
    further: tuple[tuple[int, Rates], ...] = ()

    def rates_for(self, input_tokens: int) -> Rates:
        """The rates of the tier that an input of this length falls into."""
        rates = self.rates
        if self.long is not None and input_tokens > self.long_above:
            rates = self.long
        for above, higher in self.further:
            if input_tokens > above:
                rates = higher
        return rates


@dataclass(frozen=True, slots=True)
class Dated:
    """Prices in force from a day (UTC) on, and where they were read."""

    valid_from: date
    prices: Prices
    source: str


# By model in lower case, each the newest first.
Table = Mapping[str, tuple[Dated, ...]]
_NO_PRICES: Table = {}


def cost(usage: TokenCounts, prices: Prices) -> int:
    """Nano-AIU of `usage`, rounded half up once at the end."""
    rates = prices.rates_for(usage.input_tokens)
    read, write = max(0, usage.cache_read_tokens), max(0, usage.cache_write_tokens)
    total = (
        max(0, usage.input_tokens - read - write) * rates.input
        + read * (rates.input if rates.cache_read is None else rates.cache_read)
        + write * (rates.input if rates.cache_write is None else rates.cache_write)
        + max(0, usage.output_tokens) * rates.output
    )
    return min(MAX_NANO_AIU, (2 * total + prices.batch_size) // (2 * prices.batch_size))


def estimate(
    model: str,
    usage: TokenCounts,
    prices: Mapping[str, Any] | None = None,
    *,
    at: datetime | None = None,
) -> int | None:
    """Nano-AIU by the catalog's `token_prices`, else by a table; `None`: no price.

    `at` is the time whose prices count, by default now.
    """
    known = catalog_prices(prices) or table_prices(model, at)
    return None if known is None else cost(usage, known)


def table_prices(model: str, at: datetime | None = None) -> Prices | None:
    """The gateway's own price in force at that time, else the shipped one."""
    dated = price_in_force(model, at)
    return published_prices(model) if dated is None else dated.prices


def price_in_force(
    model: str, at: datetime | None = None, *, table: Table | None = None
) -> Dated | None:
    """The entry of the price table that counts at that time, if there is one.

    `table` stands in for the one in memory, which a page's process may not have read.
    """
    table = stored.value if table is None else table
    day = (at or now()).astimezone(UTC).date()
    entries = table.get(_key_in(table, model), ())
    return next((entry for entry in entries if entry.valid_from <= day), None)


def apply_cost(record: Record, usage_nano_aiu: int | None, listed: Prices | None = None) -> None:
    """Write cost and its source into `record`, whose model and tokens are known.

    `usage_nano_aiu` is what the upstream said, `listed` the model's prices in the catalog. A figure
    that cannot be true (negative, absurd, no integer) counts as unsaid.
    """
    if type(usage_nano_aiu) is int and 0 <= usage_nano_aiu <= MAX_NANO_AIU:
        record.nano_aiu, record.cost_source = usage_nano_aiu, "exact"
        return
    record.nano_aiu, record.cost_source = 0, "none"
    if record.input_tokens <= 0 and record.output_tokens <= 0:
        return
    prices = listed or table_prices(record.model_used or record.model_asked, record.started_at)
    if prices is not None:
        record.nano_aiu, record.cost_source = cost(record, prices), "estimated"


def listed_prices(entry: Mapping[str, Any] | None) -> Prices | None:
    """The prices of a catalog entry."""
    return catalog_prices(token_prices(entry))


def token_prices(entry: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """`entry["billing"]["token_prices"]` when the catalog entry has it as a map."""
    billing = entry.get("billing") if entry else None
    prices = billing.get("token_prices") if isinstance(billing, Mapping) else None
    return prices if isinstance(prices, Mapping) else None


def catalog_prices(prices: Mapping[str, Any] | None) -> Prices | None:
    """Read `token_prices`: AI credits per `batch_size` tokens.

    Tiers stand under `default` and `long_context`, each with `context_max`; the earlier form has
    the prices at the top. `None` when input or output price is missing.
    Source: docs/upstream.md#models.
    """
    if not prices:
        return None
    default = prices.get("default", prices)
    rates = _catalog_rates(default)
    batch_size = prices.get("batch_size", MILLION)
    if rates is None or type(batch_size) is not int or batch_size <= 0:
        return None
    context_max = default.get("context_max")
    long = _catalog_rates(prices.get("long_context"))
    if long is None or type(context_max) is not int:
        return Prices(rates, batch_size)
    return Prices(rates, batch_size, long, context_max)


def published_prices(model: str) -> Prices | None:
    """The shipped prices of `model`, also by a dated, dashed or suffixed form of its name."""
    table = _published()
    return table.get(_key_in(table, model))


def _key_in(table: Mapping[str, Any], model: str) -> str:
    """The name under which a table may have `model`: its own, or without date and variant."""
    forms = _forms(model)
    return next((form for form in forms if form in table), forms[-1])


@lru_cache(maxsize=1024)
def _forms(model: str) -> tuple[str, ...]:
    """The names to look for, in this order. Each request asks; to work them out costs 5 us."""
    names = [model.strip().lower()[:200]]
    while (shorter := _VARIANT.sub("", _DATE.sub("", names[-1]))) != names[-1]:
        names.append(shorter)
    return (*names, _DASHED_VERSION.sub(r"\1.\2", names[-1]))


def prices_date() -> str:
    """The day on which the shipped prices were read, ISO."""
    date: str = _document()["date"]
    return date


def _catalog_rates(tier: Any) -> Rates | None:
    if not isinstance(tier, Mapping):
        return None
    given = {
        name: _nano(tier.get(key), NANO_PER_CREDIT)
        for name, key in (
            ("input", "input_price"),
            ("output", "output_price"),
            ("cache_write", "cache_write_price"),
        )
    }
    read = tier.get("cache_read_price", tier.get("cache_price"))
    if given["input"] is None or given["output"] is None:
        return None
    return Rates(
        input=given["input"],
        output=given["output"],
        cache_read=_nano(read, NANO_PER_CREDIT),
        cache_write=given["cache_write"],
    )


def _nano(price: Any, factor: int) -> int | None:
    if isinstance(price, bool) or not isinstance(price, int | float | str):
        return None
    try:
        nano = Decimal(str(price)) * factor
    except InvalidOperation:
        return None
    return int(nano) if nano.is_finite() and 0 <= nano < 10**18 else None


@lru_cache(maxsize=1)
def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(PRICES_FILE.read_text(encoding="utf-8"))
    return document


@lru_cache(maxsize=1)
def _published() -> dict[str, Prices]:
    return {entry["model"]: _published_entry(entry) for entry in _document()["models"]}


def _published_entry(entry: dict[str, Any]) -> Prices:
    long = entry.get("long")
    return Prices(
        rates=_published_rates(entry),
        long=_published_rates(long) if long else None,
        long_above=entry.get("long_above", 0),
    )


def _published_rates(tier: dict[str, Any]) -> Rates:
    nano = {
        name: _nano(tier.get(name), NANO_PER_CREDIT * CREDITS_PER_USD) for name in Rates.__slots__
    }
    assert nano["input"] is not None
    assert nano["output"] is not None
    return Rates(nano["input"], nano["output"], nano["cache_read"], nano["cache_write"])


# The price table of this gateway.


def table_of(rows: Iterable[Price]) -> Table:
    """`Price` rows by model. A day without a price for short inputs has none."""
    tiers: dict[tuple[str, date], list[Price]] = {}
    for row in rows:
        tiers.setdefault((row.model.strip().lower(), row.valid_from), []).append(row)
    table: dict[str, list[Dated]] = {}
    for (model, day), days_rows in tiers.items():
        ordered = sorted(days_rows, key=lambda row: row.above_tokens)
        if ordered[0].above_tokens == 0:
            dated = Dated(day, _prices_of(ordered), ordered[0].source)
            table.setdefault(model, []).append(dated)
    return {
        model: tuple(sorted(entries, key=lambda entry: entry.valid_from, reverse=True))
        for model, entries in table.items()
    }


def _prices_of(rows: list[Price]) -> Prices:
    """One day's rows of one model, the lowest tier first."""
    first, *higher = [(row.above_tokens, _rates_of(row)) for row in rows]
    if not higher:
        return Prices(first[1])
    above, long = higher[0]
    return Prices(first[1], long=long, long_above=above, further=tuple(higher[1:]))


def _rates_of(row: Price) -> Rates:
    return Rates(
        row.input_nano_aiu, row.output_nano_aiu, row.cache_read_nano_aiu, row.cache_write_nano_aiu
    )


stored: Snapshot[Table] = Snapshot(
    "prices", revision_of(Price), lambda: table_of(Price.objects.all()), _NO_PRICES
)
