"""The price table: dated, by tiers, from a file or the admin; estimates take what was in force."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from accounts.models import AuditEntry, Member
from usage import price_files, pricing
from usage.journal import Record
from usage.models import Price

MakeRecord = Callable[..., Record]
NANO = 10**11  # of one USD


@pytest.fixture(autouse=True)
def no_table() -> Iterator[None]:
    yield
    pricing.stored.value, pricing.stored.loaded_at = {}, None


def price(model: str, day: str, usd_in: str, usd_out: str, **values: Any) -> Price:
    row = Price.objects.create(
        model=model,
        valid_from=date.fromisoformat(day),
        input_nano_aiu=int(Decimal(usd_in) * NANO),
        output_nano_aiu=int(Decimal(usd_out) * NANO),
        **values,
    )
    pricing.stored.refresh(force=True)
    return row


def estimated(make_record: MakeRecord, at: str, model: str = "gpt-5.5", tokens: int = 1_000) -> int:
    record = make_record(
        started_at=datetime.fromisoformat(at).replace(tzinfo=UTC),
        model_used=model,
        input_tokens=tokens,
        output_tokens=0,
    )
    pricing.apply_cost(record, None)
    assert record.cost_source == "estimated"
    return record.nano_aiu


def test_an_estimate_takes_the_price_in_force_at_its_time(
    db: None, make_record: MakeRecord
) -> None:
    shipped = estimated(make_record, "2026-11-20T08:00")
    price("gpt-5.5", "2026-06-01", "4", "20")
    price("gpt-5.5", "2026-12-01", "3", "15")

    # Before the first price of the table the shipped one counts.
    assert estimated(make_record, "2026-05-31T23:59") == shipped == 5 * NANO // 1000
    assert estimated(make_record, "2026-06-01T00:00") == 4 * NANO // 1000
    assert estimated(make_record, "2026-11-30T23:59") == 4 * NANO // 1000
    assert estimated(make_record, "2026-12-01T00:00") == 3 * NANO // 1000
    # Names with dates and variants are the same model.
    assert estimated(make_record, "2026-12-01T00:00", "gpt-5.5-2026-11-02") == 3 * NANO // 1000


def test_tiers_count_by_the_length_of_the_input(db: None, make_record: MakeRecord) -> None:
    price("gpt-5.5", "2026-06-01", "4", "20")
    price("gpt-5.5", "2026-06-01", "8", "40", above_tokens=200_000)
    price("gpt-5.5", "2026-06-01", "16", "80", above_tokens=500_000)
    at = "2026-11-20T08:00"

    assert estimated(make_record, at, tokens=200_000) == 200_000 * 4 * NANO // 10**6
    assert estimated(make_record, at, tokens=200_001) == 200_001 * 8 * NANO // 10**6
    assert estimated(make_record, at, tokens=500_001) == 500_001 * 16 * NANO // 10**6


def test_a_day_without_a_price_for_short_inputs_has_none(db: None, make_record: MakeRecord) -> None:
    price("gpt-5.5", "2026-06-01", "4", "20")
    price("gpt-5.5", "2026-12-01", "8", "40", above_tokens=200_000)

    assert estimated(make_record, "2026-12-02T00:00") == 4 * NANO // 1000


def test_what_the_upstream_says_counts_more(db: None, make_record: MakeRecord) -> None:
    price("gpt-5.5", "2026-06-01", "4", "20")
    entry = {"billing": {"token_prices": {"default": {"input_price": 100, "output_price": 1}}}}
    record = make_record(model_used="gpt-5.5", input_tokens=1_000, output_tokens=0)

    pricing.apply_cost(record, None, pricing.listed_prices(entry))
    assert record.nano_aiu == 1 * NANO // 1000
    pricing.apply_cost(record, 77, pricing.listed_prices(entry))
    assert (record.nano_aiu, record.cost_source) == (77, "exact")


def test_a_models_cache_prices_may_be_left_out(db: None, make_record: MakeRecord) -> None:
    price("gpt-5.5", "2026-06-01", "4", "20")
    record = make_record(
        model_used="gpt-5.5", input_tokens=1_000, cache_read_tokens=900, output_tokens=0
    )
    pricing.apply_cost(record, None)
    assert record.nano_aiu == 4 * NANO // 1000


# Files.

FILE = {
    "date": "2026-12-01",
    "source": "GitHub's page",
    "models": [
        {"model": "gpt-5.5", "input": "5", "cache_read": 0.5, "output": "30",
         "long_above": 272000, "long": {"input": "10", "output": 45}},
        {"model": "Claude-Opus-5", "date": "2026-12-15", "input": 0.1, "output": "0.3"},
    ],
}  # fmt: skip


def load(path: Path, *options: str) -> str:
    out = StringIO()
    call_command("load-prices", str(path), *options, stdout=out, stderr=out)
    return out.getvalue()


def test_a_file_fills_the_table_and_again_changes_nothing(db: None, tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(FILE))
    assert "3 prices, all right" in load(path, "--check")
    assert not Price.objects.exists()

    assert "3 prices added, 0 changed, 0 as before" in load(path)
    assert "0 prices added, 0 changed, 3 as before" in load(path)

    opus = Price.objects.get(model="claude-opus-5")
    # A tenth is a tenth, to the nano.
    assert (opus.input_nano_aiu, opus.output_nano_aiu) == (NANO // 10, 3 * NANO // 10)
    assert opus.valid_from == date(2026, 12, 15)
    assert opus.source == "GitHub's page"
    long = Price.objects.get(above_tokens=272000)
    assert (long.model, long.cache_read_nano_aiu) == ("gpt-5.5", None)
    assert AuditEntry.objects.filter(action="prices.loaded").count() == 2


def test_a_corrected_price_is_changed_in_its_place(db: None, tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(FILE))
    load(path)
    path.write_text(json.dumps(FILE).replace('"30"', '"31"'))

    assert "0 prices added, 1 changed, 2 as before" in load(path)
    assert Price.objects.get(model="gpt-5.5", above_tokens=0).output_nano_aiu == 31 * NANO


def test_yaml_is_read_where_it_is_installed(db: None, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "prices.yaml"
    path.write_text("date: 2026-12-01\nmodels:\n  - {model: gpt-5.5, input: 5, output: 0.3}\n")

    assert "1 prices added" in load(path)
    assert Price.objects.get().output_nano_aiu == 3 * NANO // 10


MODEL: dict[str, Any] = {"model": "m", "input": 1, "output": 1}


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ([], "no object"),
        ({"date": "2026-12-01"}, "models"),
        ({"models": [MODEL]}, "date"),
        ({"date": "soon", "models": [MODEL]}, "date"),
        ({"date": "2026-12-01", "models": [MODEL], "currency": "EUR"}, "currency means nothing"),
        ({"date": "2026-12-01", "models": [{**MODEL, "ouput": 2}]}, "ouput means nothing"),
        ({"date": "2026-12-01", "models": [{"model": "m", "input": 1}]}, "`output` is missing"),
        ({"date": "2026-12-01", "models": [{**MODEL, "input": -1}]}, "m: input"),
        ({"date": "2026-12-01", "models": [{**MODEL, "input": "2,5"}]}, "m: input"),
        ({"date": "2026-12-01", "models": [{**MODEL, "input": True}]}, "m: input"),
        ({"date": "2026-12-01", "models": [{**MODEL, "input": 1e300}]}, "m: input"),
        ({"date": "2026-12-01", "models": [{**MODEL, "input": "NaN"}]}, "m: input"),
        ({"date": "2026-12-01", "models": [{**MODEL, "long": MODEL}]}, "belong together"),
        ({"date": "2026-12-01", "models": [MODEL, MODEL]}, "twice"),
        ({"date": "2026-12-01", "models": [{**MODEL, "tiers": [{"above": 0}]}]}, "tier"),
        ({"date": "2026-12-01", "models": ["m"]}, "models[1]"),
    ],
)
def test_a_file_that_is_wrong_anywhere_changes_nothing_and_says_where(
    db: None, tmp_path: Path, document: Any, word: str
) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(document))
    out = StringIO()

    with pytest.raises(SystemExit) as ended:
        call_command("load-prices", str(path), stdout=out, stderr=out)

    assert ended.value.code == 1
    assert word in out.getvalue()
    assert not Price.objects.exists()


@pytest.mark.parametrize("text", ["", "{", '{"a": 1, "a": 2}', "[" * 100_000, "\ufeff{}"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(price_files.BadPriceFile):
        price_files.read(text)


# The admin.


def test_the_admin_takes_usd_and_refuses_what_cannot_be(
    db: None, settings: Any, tmp_path: Path
) -> None:
    settings.STATIC_ROOT = tmp_path
    client = Client()
    client.force_login(Member.objects.create_superuser("ada"))
    form = {
        "model": " GPT-5.5 ", "valid_from": "2026-12-01", "above_tokens": "0",
        "input_usd": "2.5", "output_usd": "15", "cache_read_usd": "", "cache_write_usd": "",
    }  # fmt: skip
    url = "/admin/usage/price/add/"

    refused = client.post(url, {**form, "input_usd": "-1"})
    assert refused.status_code == 200
    alone = client.post(url, {**form, "above_tokens": "1000"})
    assert "add that first" in alone.content.decode()
    assert not Price.objects.exists()

    assert client.post(url, form).status_code == 302
    row = Price.objects.get()
    assert (row.model, row.input_nano_aiu) == ("gpt-5.5", 250_000_000_000)
    assert row.cache_read_nano_aiu is None
    page = client.get(f"/admin/usage/price/{row.pk}/change/").content.decode()
    assert 'value="2.5"' in page
    assert client.get("/admin/usage/price/").status_code == 200
    assert AuditEntry.objects.filter(action="price.added").exists()
    # The same day and tier once.
    assert client.post(url, form).status_code == 200
