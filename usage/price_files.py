"""Price tables from a file: what an operator read on GitHub's page, checked before any row changes."""

import json
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from importlib import import_module
from typing import Any, Final

from django.db import transaction

from usage.models import Price
from usage.pricing import CREDITS_PER_USD, NANO_PER_CREDIT

MAX_FILE_BYTES: Final = 1024 * 1024
MAX_MODELS: Final = 2_000
# USD for a million tokens; beyond it a comma is in the wrong place.
MAX_USD: Final = Decimal(10_000)
MAX_TOKENS: Final = 100_000_000
NANO_PER_USD: Final = NANO_PER_CREDIT * CREDITS_PER_USD
RATES: Final = ("input", "output", "cache_read", "cache_write")
_OF_FILE: Final = frozenset({"date", "source", "unit", "models"})
_OF_TIER: Final = frozenset({"above", *RATES})
_OF_MODEL: Final = frozenset({"model", "date", "source", "long_above", "long", "tiers", *RATES})

Row = dict[str, Any]


class BadPriceFile(ValueError):
    """The file is no price table; the message names the place and what belongs there."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """How many rows were new, had another price, and were the same."""

    added: int
    changed: int
    same: int


def read(text: str, *, is_yaml: bool = False) -> list[Row]:
    """The rows of a file, as columns of `Price`. Raises `BadPriceFile`; see docs/models.md."""
    document = _yaml(text) if is_yaml else _json(text)
    if not isinstance(document, dict):
        raise BadPriceFile("The file holds no object with `date`, `source` and `models`.")
    _only(document, _OF_FILE, "the file")
    models = document.get("models")
    if not isinstance(models, list) or not models or len(models) > MAX_MODELS:
        raise BadPriceFile(f"models: a list of 1 to {MAX_MODELS} models belongs here.")
    rows = [row for number, one in enumerate(models, 1) for row in _rows(one, number, document)]
    seen: set[tuple[Any, ...]] = set()
    for row in rows:
        key = (row["model"], row["valid_from"], row["above_tokens"])
        if key in seen:
            raise BadPriceFile(f"{row['model']}: the same day and tier stand twice.")
        seen.add(key)
    return rows


def store(rows: list[Row]) -> Loaded:
    """Keep the rows, all or none. Rows of other days and models stay as they are."""
    added = changed = same = 0
    with transaction.atomic():
        for row in rows:
            key = {name: row[name] for name in ("model", "valid_from", "above_tokens")}
            values = {name: value for name, value in row.items() if name not in key}
            known = Price.objects.filter(**key).first()
            if known is None:
                Price.objects.create(**row)
                added += 1
            elif all(getattr(known, name) == value for name, value in values.items()):
                same += 1
            else:
                for name, value in values.items():
                    setattr(known, name, value)
                known.save()
                changed += 1
    return Loaded(added, changed, same)


def usd_to_nano(usd: Decimal) -> int:
    """USD for a million tokens as nano-AIU. Raises `ValueError` when that is no whole number."""
    nano = usd * NANO_PER_USD
    if not nano.is_finite() or nano != nano.to_integral_value() or not 0 <= usd <= MAX_USD:
        raise ValueError(f"A price between 0 and {MAX_USD} USD belongs here, not {usd}.")
    return int(nano)


def nano_to_usd(nano: int | None) -> Decimal | None:
    return None if nano is None else (Decimal(nano) / NANO_PER_USD).normalize()


def _json(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise BadPriceFile("The same name stands twice in one object.")
        return found

    try:
        # Decimals as written: 0.1 is a tenth.
        return json.loads(text, parse_float=Decimal, object_pairs_hook=once)
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadPriceFile(f"This is no JSON: {error}") from error


def _yaml(text: str) -> Any:
    try:
        yaml = import_module("yaml")
    except ModuleNotFoundError:
        raise BadPriceFile("YAML needs the package PyYAML here; give the file as JSON.") from None
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise BadPriceFile(f"This is no YAML: {error}") from error


def _rows(entry: Any, number: int, document: dict[str, Any]) -> list[Row]:
    where = f"models[{number}]"
    if not isinstance(entry, dict):
        raise BadPriceFile(f"{where}: an object belongs here.")
    model = entry.get("model")
    if not isinstance(model, str) or not model.strip() or len(model) > 100:
        raise BadPriceFile(f"{where}: `model` must name a model.")
    where = model.strip()
    _only(entry, _OF_MODEL, where)
    shared = {
        "model": where.lower(),
        "valid_from": _day(entry.get("date", document.get("date")), where),
        "source": str(entry.get("source", document.get("source", "")))[:200],
    }
    tiers: list[tuple[int, Any]] = [(0, entry)]
    if ("long" in entry) != ("long_above" in entry):
        raise BadPriceFile(f"{where}: `long` and `long_above` belong together.")
    if "long" in entry:
        tiers.append((_tokens(entry["long_above"], where), entry["long"]))
    further = entry.get("tiers", [])
    if not isinstance(further, list):
        raise BadPriceFile(f"{where}: `tiers` is a list.")
    for tier in further:
        above = tier.get("above") if isinstance(tier, dict) else None
        tiers.append((_tokens(above, where), tier))
    return [
        shared | {"above_tokens": above} | _rates(tier, where, is_first=not above)
        for above, tier in tiers
    ]


def _rates(tier: Any, where: str, *, is_first: bool) -> Row:
    if not isinstance(tier, dict):
        raise BadPriceFile(f"{where}: a tier is an object.")
    if not is_first:
        _only(tier, _OF_TIER, where)
    found: Row = {}
    for name in RATES:
        value = tier.get(name)
        if value is None and name in ("input", "output"):
            raise BadPriceFile(f"{where}: `{name}` is missing.")
        found[f"{name}_nano_aiu"] = None if value is None else _nano(value, f"{where}: {name}")
    return found


def _nano(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise BadPriceFile(f"{where}: USD for a million tokens belongs here, not {value!r}.")
    try:
        return usd_to_nano(Decimal(str(value).strip()))
    except (InvalidOperation, ValueError):
        raise BadPriceFile(
            f"{where}: USD for a million tokens belongs here, from 0 to {MAX_USD} with at most 11 "
            f"decimals, not {str(value)[:40]!r}."
        ) from None


def _tokens(value: Any, where: str) -> int:
    if type(value) is not int or not 0 < value <= MAX_TOKENS:
        raise BadPriceFile(f"{where}: a tier begins above a number of tokens.")
    return value


def _day(value: Any, where: str) -> date:
    try:
        # YAML reads a date by itself.
        return value if type(value) is date else date.fromisoformat(str(value))
    except ValueError:
        raise BadPriceFile(f"{where}: `date` is missing or no day like 2026-12-01.") from None


def _only(given: dict[str, Any], known: frozenset[str], where: str) -> None:
    unknown = sorted(str(name)[:40] for name in given if name not in known)
    if unknown:
        raise BadPriceFile(f"{where}: {', '.join(unknown)} means nothing here.")
