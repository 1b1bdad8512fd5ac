"""The live feed: everybody hears of their own exchanges, nobody is waited for."""

import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator

from accounts import sockets
from accounts.models import Member
from usage import consumers, live
from usage.consumers import LiveConsumer
from usage.journal import Record
from usage.recorder import Recorder

MakeRecord = Callable[..., Record]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ada() -> Member:
    return Member.objects.create(username="ada", is_superuser=True)


@pytest.fixture
def ben() -> Member:
    return Member.objects.create(username="ben")


@asynccontextmanager
async def socket(user: Any) -> AsyncIterator[WebsocketCommunicator]:
    communicator = WebsocketCommunicator(LiveConsumer.as_asgi(), "/ws/live/")
    communicator.scope["user"] = user
    connected, _ = await communicator.connect()
    assert connected
    try:
        yield communicator
    finally:
        await communicator.disconnect()


async def test_d14_a_member_hears_only_of_their_own(
    ada: Member, ben: Member, make_record: MakeRecord
) -> None:
    async with socket(ada) as adas, socket(ben) as bens:
        assert (await adas.receive_json_from())["t"] == "hello"
        assert (await bens.receive_json_from())["t"] == "hello"
        live.exchange("started", make_record(member_id=ada.pk, id="adas"))
        live.exchange("started", make_record(member_id=ben.pk, id="bens"))

        heard = [await adas.receive_json_from() for _ in range(2)]
        assert [e["exchange"] for e in heard] == ["adas", "bens"]
        assert heard[0]["t"] == "exchange.started"
        assert heard[0]["id"] < heard[1]["id"]
        assert (await bens.receive_json_from())["exchange"] == "bens"
        assert await bens.receive_nothing(0.3)


async def test_hello_shows_what_is_going_on(
    ada: Member, ben: Member, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    monkeypatch.setattr(consumers, "recorder", recorder)
    recorder.begin(make_record(id="flying", member_id=ben.pk, outcome=""))
    for number in range(60):
        recorder.finish(make_record(id=f"adas{number}", member_id=ada.pk))
    recorder.finish(make_record(id="bens", member_id=ben.pk))
    await database_sync_to_async(recorder.flush)()

    async with socket(ben) as bens:
        hello = await bens.receive_json_from()
    assert [e["exchange"] for e in hello["in_flight"]] == ["flying"]
    assert hello["in_flight"][0]["outcome"] == "in_flight"
    assert [e["exchange"] for e in hello["last"]] == ["bens"]
    async with socket(ada) as adas:
        hello = await adas.receive_json_from()
    assert len(hello["last"]) == 50


async def test_events_come_from_any_thread(ada: Member, make_record: MakeRecord) -> None:
    async with socket(ada) as adas:
        await adas.receive_json_from()
        thread = threading.Thread(target=live.publish, args=({"t": "quota.changed"},))
        thread.start()
        assert (await adas.receive_json_from())["t"] == "quota.changed"
        thread.join()


async def test_what_comes_too_fast_is_skipped_and_said(
    ada: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_WAITING", 10)
    async with socket(ada) as adas:
        await adas.receive_json_from()
        for _ in range(1000):
            live.publish({"t": "quota.changed"})
        heard = [await adas.receive_json_from() for _ in range(11)]
    assert (heard[-1]["t"], heard[-1]["n"]) == ("skipped", 990)


async def test_progress_comes_at_most_twice_a_second(ada: Member, make_record: MakeRecord) -> None:
    async with socket(ada) as adas:
        await adas.receive_json_from()
        record = make_record(outcome="")
        for _ in range(20):
            live.progress(record)
        assert (await adas.receive_json_from())["t"] == "exchange.progress"
        assert await adas.receive_nothing(0.2)
    live.finished(record)


@pytest.mark.parametrize("user", [None, SimpleNamespace(is_authenticated=False)])
async def test_d12_strangers_are_refused(user: Any) -> None:
    communicator = WebsocketCommunicator(LiveConsumer.as_asgi(), "/ws/live/")
    communicator.scope["user"] = user
    connected, code = await communicator.connect()
    assert (connected, code) == (False, sockets.NOT_SIGNED_IN)


async def test_d13_floods_and_giants_are_cut(ben: Member) -> None:
    async with socket(ben) as bens:
        await bens.receive_json_from()
        await bens.send_to(text_data="x" * (sockets.MAX_FRAME + 1))
        assert (await bens.receive_output())["code"] == sockets.TOO_LARGE
    async with socket(ben) as bens:
        await bens.receive_json_from()
        for _ in range(sockets.MAX_FRAMES + 1):
            await bens.send_to(text_data="not even JSON")
        assert (await bens.receive_output())["code"] == sockets.TOO_MANY


async def test_a_member_has_a_limit_of_sockets(
    ben: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "MAX_SOCKETS_PER_MEMBER", 1)
    async with socket(ben):
        second = WebsocketCommunicator(LiveConsumer.as_asgi(), "/ws/live/")
        second.scope["user"] = ben
        assert await second.connect() == (False, sockets.TOO_MANY)
    async with socket(ben):
        pass


async def test_d13_the_end_of_a_membership_ends_the_socket(
    ben: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "PING_EVERY_S", 0.05)
    async with socket(ben) as bens:
        await bens.receive_json_from()
        assert (await bens.receive_json_from())["t"] == "ping"
        await database_sync_to_async(Member.objects.update)(is_active=False)
        while (output := await bens.receive_output())["type"] != "websocket.close":
            pass
        assert output["code"] == sockets.NOT_SIGNED_IN


def test_an_event_is_small_and_holds_no_key(make_record: MakeRecord) -> None:
    long = "名" * 500
    event = live.describe(
        make_record(member=long, key=long, client=long, model_asked=long, model_used=long)
    )
    assert len(json.dumps(event, ensure_ascii=False)) < 1024


def test_without_listeners_nothing_is_kept(make_record: MakeRecord) -> None:
    live.publish({"t": "quota.changed"})
    live.exchange("started", make_record())
    assert not live.feed._events
