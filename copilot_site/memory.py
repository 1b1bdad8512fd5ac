"""Memory of the process: one heap for all threads, and what the start leaves behind given back.

glibc gives each thread a heap of its own, which holds on to what it once had: 23 MiB of this
process's 160. Whoever runs another C library keeps its ways.
"""

import ctypes
import gc
import os
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from django.db import connections

M_ARENA_MAX = -8
COLLECT_AFTER = 20_000


@lru_cache(maxsize=1)
def _libc() -> Any:
    try:
        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
    except (OSError, TypeError):
        return None


def use_one_heap() -> None:
    """Call it before the first thread begins."""
    if (libc := _libc()) is not None:
        libc.mallopt(M_ARENA_MAX, 1)


def aside(work: Callable[[], object]) -> None:
    """Do `work` in a child, whose memory goes with it: migrations alone leave 15 MiB behind.

    Where that cannot be, or fails, it is done here, so that its error is raised here.
    """
    if hasattr(os, "fork") and threading.active_count() == 1:
        connections.close_all()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)
        if os.waitpid(child, 0)[1] == 0:
            return
    work()


def settle() -> None:
    """What is there now stays: the collector need not look at it again; what is free goes back."""
    gc.collect()
    gc.freeze()
    # A large body is thousands of objects: with 700 the collector walks it several times while it
    # is read, without finding anything.
    gc.set_threshold(COLLECT_AFTER, 20, 20)
    give_back()


def give_back() -> None:
    """What was freed goes back to the system: the C library keeps it for next time otherwise."""
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)
