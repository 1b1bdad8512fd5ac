"""Costs: what the upstream said, or whole-number arithmetic over dated prices."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage import pricing
from usage.journal import Record

MakeRecord = Callable[..., Record]

OPUS_5 = {
    "batch_size": 1_000_000,
    "default": {
        "input_price": 500,
        "cache_read_price": 50,
        "cache_write_price": 625,
        "output_price": 2500,
        "context_max": 200_000,
    },
    "long_context": {
        "input_price": 1000,
        "cache_read_price": 100,
        "cache_write_price": 1250,
        "output_price": 3750,
        "context_max": 1_000_000,
    },
}


def counts(plain: int, read: int, write: int, output: int) -> Any:
    return Record(
        id="x",
        started_at=None,  # type: ignore[arg-type]
        input_tokens=plain + read + write,
        cache_read_tokens=read,
        cache_write_tokens=write,
        output_tokens=output,
    )


@pytest.mark.parametrize(
    ("model", "usage", "nano_aiu"),
    [
        # Recorded. Source: docs/upstream.md#copilot-usage.
        ("claude-opus-5", counts(94, 621_048, 1_366, 97), 32_195_650_000),
        ("gpt-5.5", counts(1_239, 55_680, 0, 637), 5_314_500_000),
    ],
)
def test_recorded_charges_are_met(model: str, usage: Any, nano_aiu: int) -> None:
    assert pricing.estimate(model, usage) == nano_aiu


def test_the_catalogs_prices_come_first() -> None:
    short = counts(1_000, 0, 0, 10)
    assert pricing.estimate("nobody-knows", short, OPUS_5) == 500_000 * 1_000 + 2_500_000 * 10
    long = counts(200_001, 0, 0, 10)
    assert pricing.estimate("nobody-knows", long, OPUS_5) == 1_000_000 * 200_001 + 3_750_000 * 10


def test_the_catalogs_earlier_flat_form_is_read() -> None:
    flat = {"batch_size": 1000, "input_price": 0.25, "output_price": 2, "cache_price": "0.025"}
    usage = counts(1_000, 2_000, 500, 10)
    expected = (1_500 * 250_000_000 + 2_000 * 25_000_000 + 10 * 2_000_000_000) // 1000
    assert pricing.estimate("m", usage, flat) == expected


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"batch_size": 0, "input_price": 1, "output_price": 1},
        {"batch_size": 10, "input_price": "much", "output_price": 1},
        {"batch_size": 10, "input_price": 1},
        {"batch_size": 10, "default": "free"},
        {"batch_size": 10, "input_price": float("nan"), "output_price": 1},
        {"batch_size": 10, "input_price": True, "output_price": 1},
    ],
)
def test_prices_that_make_no_sense_are_not_used(broken: dict[str, Any]) -> None:
    assert pricing.estimate("claude-opus-5", counts(1, 0, 0, 0), broken) == 500_000
    assert pricing.estimate("nobody-knows", counts(1, 0, 0, 0), broken) is None


@pytest.mark.parametrize(
    ("asked", "table"),
    [
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4.5"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("claude-opus-4.7-xhigh", "claude-opus-4.7"),
        ("claude-opus-4.6-1m-internal", "claude-opus-4.6"),
        ("claude-opus-4-8-fast", "claude-opus-4.8-fast"),
        ("gemini-3.1-pro-preview", "gemini-3.1-pro"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("GPT-5.4-Mini", "gpt-5.4-mini"),
    ],
)
def test_other_forms_of_a_name_find_the_price(asked: str, table: str) -> None:
    assert pricing.published_prices(asked) == pricing.published_prices(table) is not None


def test_published_long_context_prices_begin_above_their_border() -> None:
    assert pricing.estimate("gpt-5.4", counts(272_000, 0, 0, 0)) == 272_000 * 250_000
    assert pricing.estimate("gpt-5.4", counts(272_001, 0, 0, 0)) == 272_001 * 500_000


@given(*[st.integers(0, 10**7)] * 4)
def test_parts_of_a_request_cost_what_the_whole_costs(
    plain: int, read: int, write: int, output: int
) -> None:
    whole = pricing.estimate("claude-opus-5", counts(plain, read, write, output))
    parts = [
        pricing.estimate("claude-opus-5", part)
        for part in (
            counts(plain, 0, 0, 0),
            counts(0, read, 0, 0),
            counts(0, 0, write, 0),
            counts(0, 0, 0, output),
        )
    ]
    assert whole == sum(part or 0 for part in parts)


def test_what_the_upstream_said_is_exact(make_record: MakeRecord) -> None:
    record = make_record(nano_aiu=0, cost_source="none")
    pricing.apply_cost(record, 4_120_000_000, None)
    assert (record.nano_aiu, record.cost_source) == (4_120_000_000, "exact")
    pricing.apply_cost(record, 0, None)
    assert (record.nano_aiu, record.cost_source) == (0, "exact")


@pytest.mark.parametrize("absurd", [None, -1, 10**30, "12", True])
def test_what_it_did_not_say_is_estimated(absurd: Any, make_record: MakeRecord) -> None:
    record = make_record(input_tokens=10, output_tokens=1)
    pricing.apply_cost(record, absurd, pricing.catalog_prices(OPUS_5))
    assert (record.nano_aiu, record.cost_source) == (7_500_000, "estimated")


@pytest.mark.parametrize("entry", [None, {}, {"billing": None}, {"billing": {"token_prices": 3}}])
def test_no_price_or_no_token_means_no_cost(entry: Any, make_record: MakeRecord) -> None:
    unknown = make_record(model_used="mystery")
    pricing.apply_cost(unknown, None, pricing.listed_prices(entry))
    assert (unknown.nano_aiu, unknown.cost_source) == (0, "none")
    unused = make_record(input_tokens=0, output_tokens=0)
    pricing.apply_cost(unused, None, pricing.listed_prices(entry))
    assert (unused.nano_aiu, unused.cost_source) == (0, "none")


def test_every_published_price_is_whole_and_dated() -> None:
    assert pricing.prices_date() == "2026-11-20"
    for name, prices in pricing._published().items():
        assert prices.rates.output >= prices.rates.input >= 0, name
        assert (prices.long is None) == (prices.long_above == 0), name
