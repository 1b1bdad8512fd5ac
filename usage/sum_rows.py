"""Rows of sums in the database: made from parts, and added to by the database itself."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db import connection, models

from usage.histograms import merge
from usage.models import fields_of
from usage.parts import SUMS, bounded

HISTOGRAM = "first_token_histogram"
# What makes a row unique -> its sums in the order of `SUMS`, and its histogram.
Rows = dict[tuple[Any, ...], tuple[tuple[int, ...], dict[str, int]]]


def models_of(model: Any, place: tuple[str, ...], rows: Rows) -> list[Any]:
    return [
        model(
            **dict(zip(place, values, strict=True)),
            **dict(zip(SUMS, bounded(sums), strict=True)),
            **{HISTOGRAM: histogram},
        )
        for values, (sums, histogram) in rows.items()
    ]


def add(
    model: type[models.Model], place: tuple[str, ...], rows: Rows, near: Mapping[str, Iterable[Any]]
) -> None:
    """Add to the rows that are there, insert the others. `near` are filters by an index that every
    row with a histogram meets. Call it in a transaction."""
    columns = fields_of(model)
    # Always in the same order, so that two processes wait for each other and never both ways.
    places = sorted(rows)
    prepared: dict[datetime, Any] = {}

    def said(values: tuple[Any, ...]) -> list[Any]:
        # Texts and numbers are what databases take; a time is looked up, as it is the same in most.
        row = list(values)
        for at, value in enumerate(values):
            if isinstance(value, datetime):
                if value not in prepared:
                    prepared[value] = columns[place[at]].get_db_prep_save(value, connection)
                row[at] = prepared[value]
        return row

    nothing = columns[HISTOGRAM].get_db_prep_save({}, connection)
    with connection.cursor() as cursor:
        cursor.executemany(
            _statement(model, place, connection.vendor),
            [(*said(values), *bounded(rows[values][0]), nothing) for values in places],
        )
    # These rows are locked by now: nobody else reads a histogram between reading and writing it.
    histograms = {values: found for values in places if (found := rows[values][1])}
    if histograms:
        _add_histograms(model, place, histograms, near)


@lru_cache(maxsize=8)
def _statement(model: type[models.Model], place: tuple[str, ...], vendor: str) -> str:
    columns, quote = fields_of(model), connection.ops.quote_name
    table = quote(model._meta.db_table)
    sets = []
    for name in SUMS:
        old, new = f"{table}.{quote(name)}", f"excluded.{quote(name)}"
        most = connection.ops.integer_field_range(columns[name].get_internal_type())[1] or 2**63 - 1
        # SQLite counts on in floats, PostgreSQL refuses what is beyond 64 bits.
        sum_of = f"min({most}, {old} + {new})"
        if vendor != "sqlite":
            sum_of = f"LEAST({most}, {old}::numeric + {new})"
        sets.append(f"{quote(name)} = {sum_of}")
    names = (*place, *SUMS, HISTOGRAM)
    return (
        f"INSERT INTO {table} ({', '.join(quote(columns[n].column) for n in names)}) "  # noqa: S608
        f"VALUES ({', '.join(['%s'] * len(names))}) "
        f"ON CONFLICT ({', '.join(quote(columns[n].column) for n in place)}) "
        f"DO UPDATE SET {', '.join(sets)}"
    )


def _add_histograms(
    model: type[models.Model],
    place: tuple[str, ...],
    histograms: Mapping[tuple[Any, ...], dict[str, int]],
    near: Mapping[str, Iterable[Any]],
) -> None:
    found = model._default_manager.filter(**{f"{name}__in": near[name] for name in near})
    field = fields_of(model)[HISTOGRAM]
    changed: list[tuple[int, Any]] = []
    for pk, histogram, *values in found.order_by().values_list("pk", HISTOGRAM, *place):
        more = histograms.get(tuple(values))
        if more is not None:
            merged = merge(histogram, more)
            changed.append((pk, field.get_db_prep_save(merged, connection)))
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {quote(model._meta.db_table)} SET {quote(field.column)} = %s "  # noqa: S608
            f"WHERE {quote('id')} = %s",
            [(histogram, pk) for pk, histogram in changed],
        )
