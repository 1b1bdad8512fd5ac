"""Parts: records alike in all that is summed by, summed; rollups and tallies are made of them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import add, attrgetter
from typing import Any, NamedTuple, Protocol

from usage.histograms import bucket_of
from usage.models import UsageRecord

SUMS = (
    "requests",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "nano_aiu",
    "estimated_nano_aiu",
    "total_ms",
)
_SUMMED = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
    "nano_aiu", "total_ms",
)  # fmt: skip
_ALIKE = (
    "member_id", "member", "key_id", "key", "account_id", "account", "team_id", "team",
    "cost_centre", "model_used", "model_asked", "client", "source", "outcome",
)  # fmt: skip
COLUMNS = ("started_at", "attempts", "cost_source", "first_token_ms", *_ALIKE, *_SUMMED)
MOST = 2**63 - 1


class Summable(Protocol):
    """What a part needs of a record; `journal.Record` and `UsageRecord` both have it."""

    started_at: Any
    attempts: Any
    first_token_ms: Any
    nano_aiu: Any
    cost_source: Any


class Likeness(NamedTuple):
    """What the records of a part share. Absent ids are 0, absent names empty."""

    hour: datetime
    member_id: int = 0
    member: str = ""
    key_id: int = 0
    key: str = ""
    account_id: int = 0
    account: str = ""
    team_id: int = 0
    team: str = ""
    cost_centre: str = ""
    model: str = ""
    asked: str = ""
    client: str = ""
    source: str = ""
    outcome: str = ""
    is_retried: bool = False


@dataclass(slots=True)
class Part:
    """`sums` are in the order of `SUMS`."""

    like: Likeness
    sums: tuple[int, ...]
    histogram: Mapping[str, int]


def hour_of(moment: datetime) -> datetime:
    """The beginning of the UTC hour."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def parts_of(records: Iterable[Summable]) -> Iterator[Part]:
    groups: dict[tuple[Any, ...], list[Summable]] = {}
    hours: dict[datetime, datetime] = {}
    for record in records:
        minute = record.started_at.replace(second=0, microsecond=0)
        if minute not in hours:
            hours[minute] = hour_of(minute)
        key = (hours[minute], *_alike(record), len(record.attempts) > 1)
        group = groups.get(key)
        if group is None:
            groups[key] = [record]
        else:
            group.append(record)
    for key, group in groups.items():
        yield _part(key, group)


_alike = attrgetter(*_ALIKE)
_summed = attrgetter(*_SUMMED)


def _part(key: tuple[Any, ...], records: list[Summable]) -> Part:
    """Column by column: record by record it costs ten times as much."""
    hour, member_id, member, key_id, name, account_id, account, team_id, *rest = key
    team, cost_centre, used, asked, client, source, outcome, has_more = rest
    model = used or asked
    completed: str = UsageRecord.Outcome.COMPLETED
    like = Likeness(
        hour, member_id or 0, member, key_id or 0, name, account_id or 0, account,
        team_id or 0, team, cost_centre, model, asked if asked != model else "", client, source,
        outcome, has_more and outcome == completed,
    )  # fmt: skip
    *totals, total_ms = map(sum, zip(*map(_summed, records), strict=True))
    source_of_cost: str = UsageRecord.CostSource.ESTIMATED
    estimated = sum(r.nano_aiu for r in records if r.cost_source == source_of_cost)
    histogram: dict[str, int] = {}
    for ms, count in Counter([record.first_token_ms for record in records]).items():
        if ms is not None:
            bucket = str(bucket_of(ms))
            histogram[bucket] = histogram.get(bucket, 0) + count
    return Part(like, (len(records), *totals, estimated, total_ms), histogram)


def added(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(add, one, other))


def bounded(sums: tuple[int, ...]) -> tuple[int, ...]:
    """As much as the columns hold."""
    return sums if max(sums) <= MOST else tuple([min(MOST, each) for each in sums])
