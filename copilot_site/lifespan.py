"""What a gateway process starts before it serves and ends when it stops."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable
from typing import Any

from django.db import Error

from accounts import book as account_book
from accounts import device_flow
from accounts.database import in_database
from accounts.models import Account
from accounts.snapshots import Watcher, refresh_all
from copilot_site import memory
from proxy import approval, counting
from proxy.admission import gates
from proxy.affinity import affinity
from proxy.errors import GatewayError, ShuttingDown
from proxy.exchange import end_all
from proxy.limits.gate import gate
from proxy.routing import warm
from proxy.shared import shared
from proxy.upstream.client import close_client
from usage import quota
from usage.recorder import recorder

logger = logging.getLogger(__name__)
WELCOME_EVERY_S = 1.0
SWITCH_S = 0.0005
GIVE_BACK_EVERY_S = 15.0
LOOK_FOR_OVERDUE_EVERY_S = 15.0
# At a stop the database is waited for this long at a time, and the recorder for RECORDER_S.
DATABASE_S = 3.0
RECORDER_S = 10.0


class Lifespan:
    """ASGI lifespan: caches, recorder and upstream client of this process."""

    def __init__(self) -> None:
        self._watcher: Watcher | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.start()
                except Exception as error:
                    logger.exception("the gateway cannot start")
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def start(self) -> None:
        gates.open()
        await shared.start()
        gate.start()
        await in_database(refresh_all, force=True)
        await in_database(affinity.preload)
        await in_database(recorder.start)
        self._watcher = Watcher()
        self._watcher.start()
        approval.start()
        self._hold(approval.queue.sweep_for_ever())
        self._hold(self._welcome())
        self._hold(self._tidy())
        self._hold(self._poll_overdue())
        self._hold(affinity.keep_writing())
        self._hold(device_flow.resume_pending())
        # A thread that wants the interpreter waits this long (5 ms by itself): streams would pause
        # each time that the recorder's thread is at work.
        sys.setswitchinterval(SWITCH_S)
        memory.settle()

    async def _welcome(self) -> None:
        """See to accounts that this process has not met: token, models, quota, before they are asked."""
        met: set[int] = set()
        while True:
            for account_id in set(account_book.all_accounts()) - met:
                met.add(account_id)
                self._hold(self._warm(account_id))
            await asyncio.sleep(WELCOME_EVERY_S)

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(GIVE_BACK_EVERY_S)
            # In a thread, because it takes some milliseconds.
            await asyncio.to_thread(memory.give_back)

    async def _poll_overdue(self) -> None:
        """Quotas stay young also when no worker runs."""
        while True:
            await asyncio.sleep(LOOK_FOR_OVERDUE_EVERY_S)
            try:
                await quota.poll_overdue()
            except Error as error:
                logger.debug("quotas not looked at: %s", error)
            except Exception:
                # The loop must outlive a surprise: nobody would start it again.
                logger.exception("quotas could not be polled")

    async def _warm(self, account_id: int) -> None:
        # GitHub may be away: the first request tries again and says so, quotas are polled anyway.
        with contextlib.suppress(GatewayError, TimeoutError):
            await warm(account_id)
            account = await in_database(Account.objects.filter(pk=account_id).first)
            if account is not None and account.quota_polled_at is None:
                await quota.poll_account(account)

    def _hold(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, within_s: float) -> int:
        """Take nothing new, let streams end, end the rest honestly; how many had to be ended."""
        gates.draining = True
        await _unless_it_hangs(approval.queue.lose_all(), "refusing what waits for approval")
        return await end_all(
            ShuttingDown("The gateway is shutting down.", retry_after_s=5), within_s
        )

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await _unless_it_hangs(affinity.flush(), "writing the conversations' accounts")
        await _unless_it_hangs(device_flow.stop_following(), "letting go of sign-ins")
        await close_client()
        await gate.stop()
        await shared.close()
        counting.stop_workers()
        if self._watcher is not None:
            self._watcher.stop()
        # Not in the database thread, which a database that hangs may hold.
        await asyncio.to_thread(recorder.stop, RECORDER_S)


async def _unless_it_hangs(work: Awaitable[Any], what: str) -> None:
    """What can be done at a stop when the database answers; what is left the next process takes up."""
    try:
        async with asyncio.timeout(DATABASE_S):
            await work
    except TimeoutError:
        logger.warning("%s is given up: the database does not answer", what)
