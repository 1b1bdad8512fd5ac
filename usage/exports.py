"""Usage records for other programs: JSON and CSV, written as they are read, however many there are.

One object per exchange; the keys are `UsageRecord`'s columns. Times are ISO with their offset, cost
is integer nano-AIU (10^9 = 1 AI credit = 0.01 USD).
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, TextIO

from django.db.models import QuerySet

from usage.models import UsageRecord, fields_of

# What is asked for most stands first; every other column follows.
_FIRST = (
    "id", "model_asked", "model_used", "source", "target", "outcome", "status", "upstream_status",
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
    "nano_aiu", "cost_source", "account", "key", "member", "conversation", "initiator",
    "initiator_rule", "started_at", "finished_at",
)  # fmt: skip
COLUMNS = (*_FIRST, *(name for name in fields_of(UsageRecord) if name not in _FIRST))
CHUNK = 2000
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def rows(queryset: QuerySet[UsageRecord]) -> Iterator[dict[str, Any]]:
    """Each record as plain values, in the order of the queryset, at most CHUNK in memory."""
    for row in queryset.values(*COLUMNS).iterator(chunk_size=CHUNK):
        yield {name: _plain(row[name]) for name in COLUMNS}


def json_chunks(queryset: QuerySet[UsageRecord]) -> Iterator[str]:
    """A JSON array of objects, one per line."""
    before = "[\n"
    for row in rows(queryset):
        yield before + json.dumps(row, ensure_ascii=False, separators=(",", ":"))
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def csv_chunks(queryset: QuerySet[UsageRecord]) -> Iterator[str]:
    """CSV with a byte order mark, for spreadsheets, which take UTF-8 for something else without."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    buffer.write("\ufeff")
    writer.writerow(COLUMNS)
    for row in rows(queryset):
        writer.writerow([cell(row[name]) for name in COLUMNS])
        if buffer.tell() > 32_768:
            yield _taken(buffer)
    yield _taken(buffer)


def write_json(queryset: QuerySet[UsageRecord], stream: TextIO) -> None:
    _write(json_chunks(queryset), stream)


def write_csv(queryset: QuerySet[UsageRecord], stream: TextIO) -> None:
    _write(csv_chunks(queryset), stream)


def _write(chunks: Iterable[str], stream: TextIO) -> None:
    for chunk in chunks:
        stream.write(chunk)


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; numbers stay plain."""
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False) if value else ""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
