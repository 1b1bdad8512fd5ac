"""One exchange as pages show it: the line of a list, and all that is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from usage import reports
from usage.models import UsageRecord
from usage.wording import FORMATS, RULES, Explanation, OutcomeWord, Text, explain, outcome_word


@dataclass(frozen=True, slots=True)
class Line:
    """A record with the words of its outcome; templates read the rest from `record`."""

    record: UsageRecord
    outcome: OutcomeWord
    is_other_model: bool

    @property
    def model(self) -> str:
        return self.record.model_used or self.record.model_asked

    @property
    def format(self) -> str:
        return FORMATS.get(self.record.source, self.record.source)

    @property
    def cached_share(self) -> float:
        record = self.record
        return record.cache_read_tokens * 100 / record.input_tokens if record.input_tokens else 0


def lines(records: list[UsageRecord]) -> list[Line]:
    """Lines with `slow` where the first token came after the model's p95."""
    slow = reports.slow_after_ms({r.model_used for r in records})
    return [line(record, slow) for record in records]


def line(record: UsageRecord, slow_after_ms: Mapping[str, float]) -> Line:
    first = record.first_token_ms
    limit = slow_after_ms.get(record.model_used)
    return Line(
        record,
        outcome_word(
            record.outcome,
            status=record.upstream_status or record.status,
            attempts=len(record.attempts),
            is_slow=first is not None and limit is not None and first > limit,
        ),
        bool(record.model_used and record.model_asked and record.model_used != record.model_asked),
    )


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the time bar: place and width in percent, duration in ms."""

    style: str
    x: str
    width: str
    ms: int


@dataclass(frozen=True, slots=True)
class Attempt:
    account: str
    status: int | None
    error: str
    at_ms: int | None

    @property
    def tone(self) -> str:
        return "ok" if self.status == 200 else "bad"


@dataclass(frozen=True, slots=True)
class Detail:
    """Everything that the panel says beside the columns of the record."""

    line: Line
    parts: list[Part]
    attempts: list[Attempt]
    fresh_input: int
    rule: Text
    source: str
    target: str
    is_passthrough: bool
    explanation: Explanation | None

    @property
    def record(self) -> UsageRecord:
        return self.line.record


def detail(record: UsageRecord) -> Detail:
    return Detail(
        line=lines([record])[0],
        parts=_parts(record),
        attempts=[_attempt(a) for a in record.attempts if isinstance(a, dict)],
        fresh_input=max(
            0, record.input_tokens - record.cache_read_tokens - record.cache_write_tokens
        ),
        rule=RULES.get(record.initiator_rule, record.initiator_rule),
        source=FORMATS.get(record.source, record.source),
        target=FORMATS.get(record.target, record.target),
        is_passthrough=record.source == record.target,
        explanation=explain(
            record.outcome, record.error_code, record.upstream_status or record.status
        ),
    )


def _attempt(raw: dict[str, Any]) -> Attempt:
    status, at = raw.get("status"), raw.get("at_ms")
    return Attempt(
        str(raw.get("account", "")),
        status if isinstance(status, int) else None,
        str(raw.get("error", "")),
        at if isinstance(at, int) else None,
    )


def _parts(record: UsageRecord) -> list[Part]:
    """Waiting in the gateway, until the first token, then the stream; together the total."""
    total = record.total_ms
    if total <= 0:
        return []
    queue = min(record.queue_ms, total)
    first = min(total, max(queue, record.first_token_ms if record.first_token_ms else total))
    parts = []
    for style, begin, end in (
        ("queue", 0, queue),
        ("first", queue, first),
        ("stream", first, total),
    ):
        x, width = begin * 100 / total, (end - begin) * 100 / total
        parts.append(Part(style, f"{x:.2f}%", f"{width:.2f}%", end - begin))
    return parts


def as_json(line: Line) -> dict[str, Any]:
    """The columns of the record, for the page's Copy JSON. No prompt is stored, so none is here."""
    record = line.record
    return {field.attname: getattr(record, field.attname) for field in record._meta.concrete_fields}
