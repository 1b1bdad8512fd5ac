"""What pages sum from tallies is what the records say, to the unit, at every edge of a time."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db.models import Count, Q, Sum
from django.http import QueryDict
from hypothesis import given, settings
from hypothesis import strategies as st

from usage import chargeback, filters, group_sums, listing, reports, rollup_check, rollups
from usage.filters import FAILED, Filters
from usage.journal import Record
from usage.models import Rollup, Tally, UsageRecord
from usage.recorder import Recorder
from usage.spend import Spend
from usage.tallies import PLACE

pytestmark = pytest.mark.django_db(transaction=True)
MakeRecord = Callable[..., Record]
NOW = datetime(2026, 11, 20, 12, 34, 56, 789, tzinfo=UTC)
ZONES = ("UTC", "Asia/Kolkata", "America/St_Johns")
# Edges of hours and days in those zones, a clock that is put back, and the ends of ranges.
EDGES = (
    datetime(2026, 11, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 11, 19, 18, 30, tzinfo=UTC),
    datetime(2026, 11, 20, 3, 30, tzinfo=UTC),
    datetime(2026, 11, 19, 10, 15, tzinfo=UTC),
    datetime(2026, 11, 19, 23, tzinfo=UTC),
    datetime(2026, 11, 13, 13, tzinfo=UTC),
    NOW - timedelta(days=7),
)


def records(make_record: MakeRecord) -> list[Record]:
    dice = random.Random(11)
    times = [edge + timedelta(microseconds=d) for edge in EDGES for d in (-1, 0, 1)]
    times += [NOW - timedelta(seconds=dice.randrange(60 * 86_400)) for _ in range(400)]
    made = []
    for number, at in enumerate(times):
        person = dice.randrange(1, 6)
        made.append(
            make_record(
                id=f"{number:06d}{dice.getrandbits(72):018x}",
                started_at=at,
                member_id=person if person < 5 else None,
                member=f"member{person}" if person < 5 else "",
                key_id=person * 10 + dice.randrange(3) if person < 5 else None,
                # A key that got another name in between.
                key="laptop" if number % 7 else "work laptop",
                account_id=dice.choice((1, 2, None)),
                account=dice.choice(("octo", "mona")),
                team_id=dice.choice((None, 3)),
                team=dice.choice(("", "red")),
                cost_centre=dice.choice(("", "4711")),
                model_asked=dice.choice(("opus", "gpt-5.5", "x")),
                model_used=dice.choice(("claude-opus-5", "gpt-5.5", "")),
                client=dice.choice(("codex", "curl", "")),
                source=dice.choice(("messages", "responses")),
                outcome=dice.choice(("completed", "completed", "cancelled", "timeout", "refused")),
                attempts=dice.choice(
                    ([], [{"account": "a"}], [{"account": "a"}, {"account": "b"}])
                ),
                nano_aiu=dice.randrange(10**12),
                cost_source=dice.choice(("exact", "estimated")),
                first_token_ms=dice.choice((None, dice.randrange(1, 9000))),
                cache_read_tokens=dice.randrange(90),
            )
        )
    return made


@pytest.fixture(autouse=True)
def at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("filters", "reports", "forecasts", "spend", "rollups"):
        monkeypatch.setattr(f"usage.{module}.now", lambda: NOW)


@pytest.fixture
def stored(recorder: Recorder, make_record: MakeRecord) -> None:
    for record in records(make_record):
        recorder.finish(record)
    assert recorder.flush(timeout_s=60)


def asked(query: str, zone: str = "UTC", scope: int | None = None) -> Filters:
    return filters.read(QueryDict(query), zone=ZoneInfo(zone), scope=scope)


RANGES = ("range=24h", "range=7d", "range=30d", "range=cycle", "from=2026-10-24&to=2026-11-19")
NARROWED = (
    "", "member=2", "key=21", "account=1", "model=claude-opus-5", "client=curl", "outcome=errors",
    "outcome=cancelled", "model=gpt-5.5&client=curl", "member=2&outcome=timeout",
)  # fmt: skip


def tally_rows() -> set[tuple[Any, ...]]:
    names = [f.attname for f in Tally._meta.concrete_fields if f.attname != "id"]
    return {
        tuple(json.dumps(getattr(row, name), sort_keys=True, default=str) for name in names)
        for row in Tally.objects.all()
    }


def hours_of(question: Filters) -> Any:
    """The records of the question's whole hours, as charts count them; models as they count."""
    rows = UsageRecord.objects.filter(
        started_at__gte=filters.hour_of(question.start),
        started_at__lt=max(
            question.end,
            filters.hour_of(question.end - timedelta(microseconds=1)) + timedelta(hours=1),
        ),
    ).order_by()
    if question.model:
        rows = rows.filter(
            Q(model_used=question.model) | Q(model_used="", model_asked=question.model)
        )
    for name in ("member", "key", "account"):
        if (value := getattr(question, name)) is not None:
            rows = rows.filter(**{f"{name}_id": value})
    if question.client:
        rows = rows.filter(client=question.client)
    if question.outcome == "errors":
        return rows.filter(outcome__in=FAILED)
    return rows.filter(outcome=question.outcome) if question.outcome else rows


def test_the_overview_sums_what_the_records_say(stored: None) -> None:
    for zone in ZONES:
        for span in RANGES:
            for narrowed in NARROWED:
                question = asked(f"{span}&{narrowed}", zone)
                found = reports.overview(question)
                raw = hours_of(question)
                sums = raw.aggregate(
                    n=Count("pk"), nano=Sum("nano_aiu"), read=Sum("cache_read_tokens"),
                    estimated=Sum("nano_aiu", filter=Q(cost_source="estimated")),
                )  # fmt: skip
                said = (
                    found.sums.requests, found.sums.nano_aiu, found.sums.cache_read,
                    found.sums.estimated_nano_aiu,
                )  # fmt: skip
                assert said == tuple(value or 0 for value in sums.values()), (zone, span, narrowed)
                assert (
                    sum(found.sums.histogram.values()) == raw.exclude(first_token_ms=None).count()
                ), (zone, span, narrowed)
                for grouping in reports.GROUPINGS:
                    groups, _other = reports.grouped(question, grouping)
                    assert sum(group.nano_aiu for group in groups) == (sums["nano"] or 0)
                    assert sum(group.requests for group in groups) == sums["n"]
                    assert (
                        sum(group.failed for group in groups)
                        == raw.filter(outcome__in=FAILED).count()
                    )


@pytest.mark.parametrize("grouping", group_sums.GROUPINGS)
def test_reports_are_the_sums_of_their_records(grouping: str, stored: None) -> None:
    for zone in ZONES:
        for span in RANGES:
            for outcome in ("", "errors", "cancelled"):
                question = asked(f"{span}&outcome={outcome}", zone)
                rows = filters.records(question)
                assert group_sums.sums(
                    grouping, outcome, question.start, question.end
                ) == group_sums.of_records(rows, grouping), (zone, span, outcome)


@pytest.mark.parametrize("grouping", group_sums.GROUPINGS)
def test_the_months_end_is_expected_as_the_records_say(grouping: str, stored: None) -> None:
    from usage.forecasts import month_end, month_end_of_all

    rows = group_sums.named(UsageRecord.objects.all())
    said = month_end(rows, *group_sums.record_columns(grouping))
    assert month_end_of_all(grouping) == said


LISTED = (
    *NARROWED, "outcome=retried", "model=opus", "endpoint=responses", "q=laptop", "q=MEMBER3",
    "q=gpt", "q=nowhere", "model=x&endpoint=messages&outcome=completed", "member=2&q=work",
    "key=21&model=opus", "outcome=retried&account=2",
)  # fmt: skip


def all_pages(question: Filters) -> tuple[list[str], listing.Page]:
    first = page = listing.page(question, "")
    found = [row.pk for row in page.rows]
    while page.after:
        page = listing.page(question, page.after)
        found += [row.pk for row in page.rows]
    return found, first


@pytest.mark.parametrize("limits", [{}, {"MAX_READ": 20, "MAX_QUERIES": 2, "GAP": 0, "PAGE": 7}])
def test_the_list_holds_every_record_once_and_in_order(
    limits: dict[str, int], stored: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(listing, name, value)
    for zone in ("UTC", "Asia/Kolkata"):
        for span in RANGES:
            for narrowed in LISTED:
                for scope in (None, 2):
                    question = asked(f"{span}&{narrowed}", zone, scope)
                    right = list(filters.records(question).values_list("pk", flat=True))
                    found, first = all_pages(question)
                    assert found == right, (zone, span, narrowed, scope)
                    if first.is_exact:
                        assert first.count == len(right), (zone, span, narrowed, scope)
                    else:
                        assert first.count <= len(right), (zone, span, narrowed, scope)


def test_an_exchange_is_found_by_the_beginning_of_its_id(stored: None) -> None:
    record = UsageRecord.objects.filter(started_at__gte=NOW - timedelta(days=6))[5]
    for text in (record.pk, record.pk[:9]):
        assert [row.pk for row in listing.page(asked(f"range=7d&q={text}"), "").rows] == [record.pk]


def test_nobody_counts_what_others_did(stored: None) -> None:
    question = asked("range=30d&member=3", scope=2)
    place = f"{(NOW - timedelta(days=1)).isoformat()}~"
    for after in ("", place):
        assert (listing.page(question, after).count, listing.page(question, after).rows) == (0, [])
    assert not reports.overview(question).sums.requests


def test_budgets_know_what_the_records_cost(stored: None) -> None:
    sums = Spend()
    sums.refresh()
    for period, begin in (
        ("day", NOW.replace(hour=0, minute=0, second=0, microsecond=0)),
        ("month", NOW.replace(day=1, hour=0, minute=0, second=0, microsecond=0)),
    ):
        rows = UsageRecord.objects.filter(started_at__gte=begin).order_by()
        for kind in ("key", "member", "team", "account"):
            column = f"{kind}_id"
            for number, nano in (
                rows.exclude(**{column: None}).values_list(column).annotate(nano=Sum("nano_aiu"))
            ):
                assert sums.spent(f"{kind}:{number}", period) == nano  # type: ignore[arg-type]


def test_made_anew_they_are_the_same(stored: None) -> None:
    right = tally_rows()
    assert right
    assert Tally.objects.values(*PLACE).distinct().count() == len(right)
    rollups.rebuild(NOW - timedelta(days=61), NOW + timedelta(hours=1))
    assert tally_rows() == right
    Tally.objects.filter(begin__gte=NOW - timedelta(days=3)).delete()
    rollups.rebuild(NOW - timedelta(days=4), NOW + timedelta(hours=1))
    assert tally_rows() == right


def test_missing_tallies_are_made_anew_by_the_daily_look(
    stored: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usage.rollup_check.now", lambda: NOW)
    right = tally_rows()
    settled = (NOW - timedelta(hours=20), NOW - timedelta(hours=2))
    Tally.objects.filter(begin__range=settled, span="hour").delete()
    assert rollup_check.check()["rebuilt"]
    assert tally_rows() == right


@settings(max_examples=20, deadline=None)
@given(st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 1)), st.integers(1, 10**7))
def test_pieces_of_a_time_are_the_time(start: datetime, seconds: int) -> None:
    since = start.replace(tzinfo=UTC)
    until = since + timedelta(seconds=seconds)
    for kind in ("", "key"):
        at = since
        for span, begin, end in group_sums.exact_pieces(since, until, kind):
            assert begin == at < end
            at = end
            if span:
                assert begin == filters.hour_of(begin)
                assert end == filters.hour_of(end)
            if span == "day":
                assert begin.hour == end.hour == 0
            assert not (span == "hour" and kind)
        assert at == until


def test_sums_beyond_a_column_are_the_most_it_holds(
    recorder: Recorder, make_record: MakeRecord
) -> None:
    for number in range(3):
        recorder.finish(make_record(nano_aiu=10**15, id=f"large{number}"))
        assert recorder.flush()
    most = 2**63 - 1
    Tally.objects.update(nano_aiu=most - 5)
    Rollup.objects.update(nano_aiu=most - 5)
    recorder.finish(make_record(nano_aiu=10**15, id="last"))
    assert recorder.flush()
    assert set(Tally.objects.values_list("nano_aiu", flat=True)) == {most}


def test_a_lead_and_a_member_see_the_records_sums_still(stored: None) -> None:
    question = asked("range=30d&model=claude-opus-5")
    found = chargeback.Asked(question, filters.records(question), tuple(chargeback.GROUPINGS))
    total = chargeback.total(chargeback.lines(found, "member"))
    assert total["nano_aiu"] == filters.records(question).aggregate(n=Sum("nano_aiu"))["n"]
