"""Database work for asyncio code: one dedicated thread, so that the event loop never waits for a row.

Django's ORM is synchronous; `sync_to_async` would hop through the thread that all requests share.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from django.db import close_old_connections

P = ParamSpec("P")
R = TypeVar("R")


class OneThread(Executor):
    """Runs one thing after the other in a daemon thread.

    The end of the process waits for every thread of a `ThreadPoolExecutor`, and a database that hangs
    does not let go of one.
    """

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._starting = threading.Lock()

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()
        future: Future[R] = Future()
        self._work.put((future, partial(fn, *args, **kwargs)))
        return future

    def _run(self) -> None:
        while True:
            # A method of its own, so that nothing of the last turn is kept until the next.
            self._turn(*self._work.get())

    def _turn(self, future: Future[Any], work: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001
            # As every executor does: who waits for the future gets it.
            future.set_exception(error)
        else:
            future.set_result(result)


_executor = OneThread("database")


def _fresh(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    close_old_connections()
    return function(*args, **kwargs)


async def in_database(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run `function`, which uses the ORM, in the database thread and give back its result.

    A caller that is cancelled leaves the work to end by itself.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_executor, lambda: _fresh(function, *args, **kwargs))
