"""The live page's WebSocket: sends what happens now, takes nothing but a closing.

Frames are JSON: `{"v": 1, "id": 481, "t": "exchange.started", ...}`; the first is `hello` with what
is in flight and the last exchanges, so that a page that comes back needs nothing else.
"""

from typing import Any

from channels.db import database_sync_to_async

from accounts.sockets import MemberSocket
from usage import live
from usage.journal import Record
from usage.models import UsageRecord
from usage.recorder import recorder

LAST = 50


class LiveConsumer(MemberSocket):
    """`/ws/live/`: members see their own exchanges, administrators and auditors all."""

    async def join(self) -> None:
        self._group = live.GROUP_ALL if self.sees_all else live.member_group(self.member_id)
        await self.channel_layer.group_add(self._group, self.channel_name)
        live.feed.listen()

    async def leave(self) -> None:
        live.feed.leave()
        await self.channel_layer.group_discard(self._group, self.channel_name)

    async def live_events(self, message: dict[str, Any]) -> None:
        """What the feed sends to our group."""
        for event in message["events"]:
            await self.send_json(event)

    async def hello(self) -> dict[str, Any]:
        own = [live.describe(record) for record in recorder.in_flight()]
        elsewhere = await database_sync_to_async(live.in_flight_elsewhere)()
        return {
            "v": 1,
            "t": "hello",
            "in_flight": [e for e in own + elsewhere if self._may_see(e)],
            "last": await database_sync_to_async(self._last)(),
        }

    def _may_see(self, event: dict[str, Any]) -> bool:
        return self.sees_all or event["member_id"] == self.member_id

    def _last(self) -> list[dict[str, Any]]:
        records = UsageRecord.objects.order_by("-started_at", "-id")
        if not self.sees_all:
            records = records.filter(member_id=self.member_id)
        return [live.describe(_as_record(row)) for row in records[:LAST]]


def _as_record(row: UsageRecord) -> Record:
    return Record(**{name: getattr(row, name) for name in Record.__struct_fields__})
