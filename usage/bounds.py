"""What fits a column: values of a usage record made storable, so that no insert ever fails.

The upstream and clients send what they like: NUL characters, lone surrogates, negative counts,
numbers of 300 digits. The row is stored all the same, with the nearest value that fits.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any

from django.db import models

from usage.models import UsageRecord, fields_of

TOKENS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
# A million AI credits for one request is absurd; nine thousand such rows still sum up in 64 bits.
MAX_NANO_AIU = 10**15
MAX_LIST = 50
MAX_DEPTH = 5
MAX_JSON_TEXT = 500
# What every whole number's column holds that is looked at together with others.
MAX_COUNT = 2**31 - 1
# Texts that differ from record to record.
DIFFERENT = frozenset({"id", "conversation", "parent", "upstream_request_id", "error_message"})
MAX_KNOWN_WORDS = 1000
_COUNTED, _REPEATED, _SINGULAR = "counted", "repeated", "singular"
_fitting_words: set[tuple[Any, ...]] = set()
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def fit(values: Mapping[str, Any]) -> dict[str, Any]:
    """Column name -> storable value, for the columns named in `values`. Unknown names are dropped.

    A token count that had to be changed sets `usage_estimated`: the figure is no longer what the
    upstream said.
    """
    fields = _columns()
    fitted = {name: _fit(fields[name], value) for name, value in values.items() if name in fields}
    if "nano_aiu" in fitted:
        fitted["nano_aiu"] = max(0, min(MAX_NANO_AIU, fitted["nano_aiu"]))
    if any(name in fitted and fitted[name] != values[name] for name in TOKENS):
        fitted["usage_estimated"] = True
    return fitted


def storable(text: str, max_length: int) -> str:
    """`text` without what PostgreSQL refuses, cut to `max_length` characters."""
    return _UNSTORABLE.sub("\ufffd", text[:max_length])


@lru_cache(maxsize=1)
def _columns() -> dict[str, Any]:
    return fields_of(UsageRecord)


def all_fit(record: object) -> bool:
    """A quick look, a tenth of what `fit` costs: false when in doubt."""
    counts = _counts()(record)
    if set(map(type, counts)) != {int} or min(counts) < 0 or max(counts) > MAX_COUNT:
        return False
    # Most words of a record are those of the one before it.
    words = _words()(record)
    if set(map(type, words)) != {str}:
        return False
    if words not in _fitting_words:
        if not _fit_singly(record, _REPEATED):
            return False
        if len(_fitting_words) >= MAX_KNOWN_WORDS:
            _fitting_words.clear()
        _fitting_words.add(words)
    return _fit_singly(record, _SINGULAR)


def _fit_singly(record: object, part: str) -> bool:
    for name, kind, high, is_optional in _quick_looks()[part]:
        value: Any = getattr(record, name)
        if value is None and is_optional:
            continue
        found: Any = type(value)
        if found is not kind:
            return False
        if kind is int:
            if not 0 <= value <= high:
                return False
        elif kind is str:
            if value and (len(value) > high or not value.isascii() or "\x00" in value):
                return False
        elif kind is list:
            if value and (len(value) > high or not all(map(_is_small, value))):
                return False
        elif kind is datetime and value.tzinfo is not UTC:
            return False
    return True


def _is_small(value: object) -> bool:
    """Short texts and small numbers, or an object of such, as our own steps note them."""
    if type(value) is str:
        return len(value) <= 100 and value.isascii() and "\x00" not in value
    if type(value) is dict:
        return len(value) < MAX_LIST and all(
            type(name) is str and (type(one) is not dict and _is_small(one))
            for name, one in value.items()
        )
    return value is None or (type(value) is int and 0 <= value < 2**53)


Look = tuple[str, type, int, bool]


@lru_cache(maxsize=1)
def _quick_looks() -> dict[str, tuple[Look, ...]]:
    """Column name, type of its values, their bound (a length for text and lists), may it be None?"""
    parts: dict[str, list[Look]] = {_COUNTED: [], _REPEATED: [], _SINGULAR: []}
    for name, field in _columns().items():
        kind, high = _kind_of(field)
        if kind is int and not field.null and high >= MAX_COUNT:
            part = _COUNTED
        elif kind is str and name not in DIFFERENT:
            part = _REPEATED
        else:
            part = _SINGULAR
        parts[part].append((name, kind, high, bool(field.null)))
    return {part: tuple(looks) for part, looks in parts.items()}


@lru_cache(maxsize=1)
def _counts() -> "attrgetter[tuple[Any, ...]]":
    return attrgetter(*(look[0] for look in _quick_looks()[_COUNTED]))


@lru_cache(maxsize=1)
def _words() -> "attrgetter[tuple[Any, ...]]":
    return attrgetter(*(look[0] for look in _quick_looks()[_REPEATED]))


def _kind_of(field: Any) -> tuple[type, int]:
    match field:
        case models.CharField():
            return str, field.max_length or 0
        case models.BooleanField():
            return bool, 0
        case models.DateTimeField():
            return datetime, 0
        case models.JSONField():
            return list, MAX_LIST
        case models.PositiveSmallIntegerField():
            return int, 2**15 - 1
        case models.PositiveBigIntegerField():
            return int, 2**63 - 1
        case models.PositiveIntegerField():
            return int, 2**31 - 1
        case _:
            return int, MAX_NANO_AIU


def _fit(field: Any, value: Any) -> Any:
    if value is None:
        return None if field.null else field.get_default()
    match field:
        case models.CharField():
            return storable(str(value), field.max_length or 0)
        case models.BooleanField():
            return bool(value)
        case models.DateTimeField():
            return _moment(value)
        case models.JSONField():
            return _json_list(value)
        case models.PositiveSmallIntegerField():
            return _whole(value, 0, 2**15 - 1)
        case models.PositiveBigIntegerField():
            return _whole(value, 0, 2**63 - 1)
        case models.PositiveIntegerField():
            return _whole(value, 0, 2**31 - 1)
        case _:
            return _whole(value, -(2**63), 2**63 - 1)


def _whole(value: Any, low: int, high: int) -> int:
    """The nearest whole number within the column; 0 for what is no number."""
    if isinstance(value, int):
        return max(low, min(high, int(value)))
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0
    if math.isnan(number):
        return 0
    return high if number >= high else low if number <= low else int(number)


def _moment(value: Any) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _json_list(value: Any) -> list[Any]:
    listed = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    return [_json(item, MAX_DEPTH) for item in listed[:MAX_LIST]]


def _json(value: Any, depth: int) -> Any:
    match value:
        case None | bool():
            return value
        case int():
            return max(-(2**53), min(2**53, value))
        case float():
            return value if math.isfinite(value) else None
        case Mapping() if depth:
            pairs = list(value.items())[:MAX_LIST]
            return {storable(str(k), 100): _json(v, depth - 1) for k, v in pairs}
        case list() | tuple() if depth:
            return [_json(item, depth - 1) for item in value[:MAX_LIST]]
        case _:
            return storable(str(value), MAX_JSON_TEXT)
