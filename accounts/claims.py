"""Claims: of two workers that begin the same work at once, one does it and the other leaves.

A claim is a key of the cache that all processes of a mode share. It ends by itself, so that a
worker that was killed holds nobody up for longer than its time.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from django.core.cache import cache

P = ParamSpec("P")
R = TypeVar("R")
BUSY: Final = "another worker is at it"


@contextmanager
def held(name: str, seconds: float) -> Iterator[bool]:
    """True for the one who has the claim, until the block ends and at most for `seconds`."""
    key, mark = f"claim.{name}", secrets.token_hex(8)
    is_mine = cache.add(key, mark, seconds)
    try:
        yield is_mine
    finally:
        # Ours may have run out and be another's by now.
        if is_mine and cache.get(key) == mark:
            cache.delete(key)


def once_at_a_time(name: str, seconds: float) -> Callable[[Callable[P, R]], Callable[P, R | str]]:
    """For tasks: a second run at the same time does nothing and says so."""

    def wrap(function: Callable[P, R]) -> Callable[P, R | str]:
        @wraps(function)
        def inner(*args: P.args, **kwargs: P.kwargs) -> R | str:
            with held(name, seconds) as is_mine:
                return function(*args, **kwargs) if is_mine else BUSY

        return inner

    return wrap
