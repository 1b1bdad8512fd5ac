"""Many rows by few statements, for the recorder's thread.

After each statement (and each row of `executemany`) the thread waits for the interpreter, and the event
loop, which has it, is interrupted at the end of each callback until it is given: with a statement a
row that cost more than the writing.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from django.db import connection

# Rows of one statement. The largest takes 10 200 of the 32 766 values that SQLite allows since 3.32;
# only so many sizes, that the driver keeps few statements prepared.
SIZES = (200, 40, 8, 1)


def insert(head: str, rows: Sequence[Sequence[Any]], tail: str = "") -> None:
    """`INSERT INTO t (…)` as `head`, `ON CONFLICT …` as `tail`; values as the database takes them.

    Neither may hold a `%`. In the order of `rows`; raises what `django.db` raises.
    """
    start = 0
    for size in SIZES:
        while len(rows) - start >= size:
            part = rows[start : start + size]
            _execute(head, tail, size, len(part[0]), list(chain.from_iterable(part)))
            start += size


def _execute(head: str, tail: str, size: int, width: int, values: list[Any]) -> None:
    if connection.vendor == "sqlite":
        # The driver itself: Django would look for `%s` in each statement.
        connection.ensure_connection()
        with connection.wrap_database_errors:
            connection.connection.execute(_statement(head, tail, size, width, "?"), values)
        return
    with connection.cursor() as cursor:
        cursor.execute(_statement(head, tail, size, width, "%s"), values)


@lru_cache(maxsize=32)
def _statement(head: str, tail: str, size: int, width: int, mark: str) -> str:
    row = f"({', '.join([mark] * width)})"
    return f"{head} VALUES {', '.join([row] * size)} {tail}"
