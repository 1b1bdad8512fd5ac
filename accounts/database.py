"""Database work for asyncio code: one dedicated thread, so that the event loop never waits for a row.

Django's ORM is synchronous; `sync_to_async` would hop through the thread that all requests share.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import close_old_connections

P = ParamSpec("P")
R = TypeVar("R")

_executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")


def _fresh(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    close_old_connections()
    return function(*args, **kwargs)


async def in_database(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run `function`, which uses the ORM, in the database thread and give back its result.

    A caller that is cancelled leaves the work to end by itself.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_executor, lambda: _fresh(function, *args, **kwargs))
