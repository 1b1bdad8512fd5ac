"""Rows of sums in the database: made from parts, and added to by the database itself."""

from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any

from django.db import connection, models

from usage import inserting
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


def add(model: type[models.Model], place: tuple[str, ...], rows: Rows) -> None:
    """Add to the rows that are there, insert the others. Call it in a transaction."""
    columns = fields_of(model)
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

    def said_histogram(histogram: dict[str, int]) -> Any:
        return columns[HISTOGRAM].get_db_prep_save(histogram, connection) if histogram else nothing

    nothing = columns[HISTOGRAM].get_db_prep_save({}, connection)
    head, tail = _statement(model, place, connection.vendor)
    # Always in the same order, so that two processes wait for each other and never both ways.
    inserting.insert(
        head,
        [
            (*said(values), *bounded(sums), said_histogram(histogram))
            for values, (sums, histogram) in sorted(rows.items(), key=itemgetter(0))
        ],
        tail,
    )


@lru_cache(maxsize=8)
def _statement(model: type[models.Model], place: tuple[str, ...], vendor: str) -> tuple[str, str]:
    """Head and tail of the statement that adds."""
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
    sets.append(f"{quote(HISTOGRAM)} = {_merged(table, vendor)}")
    names = ", ".join(quote(columns[name].column) for name in (*place, *SUMS, HISTOGRAM))
    unique = ", ".join(quote(columns[name].column) for name in place)
    head = f"INSERT INTO {table} ({names})"
    return head, f"ON CONFLICT ({unique}) DO UPDATE SET {', '.join(sets)}"


def _merged(table: str, vendor: str) -> str:
    """SQL of the histogram of both: the counts of each bucket, added."""
    each, object_of = "json_each", "json_group_object(bucket, total)"
    if vendor != "sqlite":
        each, object_of = "jsonb_each_text", "jsonb_object_agg(bucket, total)"
    name = connection.ops.quote_name(HISTOGRAM)
    both = " UNION ALL ".join(
        f"SELECT key AS bucket, CAST(value AS bigint) AS count FROM {each}({which}.{name})"  # noqa: S608
        for which in (table, "excluded")
    )
    return (
        f"CASE WHEN excluded.{name} = '{{}}' THEN {table}.{name} ELSE (SELECT {object_of} FROM "  # noqa: S608
        f"(SELECT bucket, SUM(count) AS total FROM ({both}) AS counts GROUP BY bucket) AS summed) END"
    )
