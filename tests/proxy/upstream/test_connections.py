"""Connections to the upstream: kept, replaced, bounded in time, and never lost."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.errors import GatewayError, UpstreamFailed, UpstreamTimedOut
from proxy.upstream.client import NotAnswered, UpstreamClient
from proxy.upstream.connections import HIGH_WATER
from simulator.testing import SimulatorThread

CHAT = "/chat/completions"


@pytest.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    client = UpstreamClient(connect_timeout_s=2)
    yield client
    await client.close()


@pytest.fixture
def bearer(simulator: SimulatorThread) -> list[tuple[str, str]]:
    return [("Authorization", "Bearer gho_opencode"), ("Content-Type", "application/json")]


def asking(text: str, *, stream: bool = True) -> bytes:
    import orjson

    message = {"role": "user", "content": text}
    return orjson.dumps({"model": "gpt-4.1", "stream": stream, "messages": [message]})


async def ask(
    client: UpstreamClient, simulator: SimulatorThread, headers: Any, text: str, **options: Any
) -> Any:
    return await client.open(
        "POST",
        simulator.url + CHAT,
        headers=headers,
        body=asking(text),
        **{"first_byte_timeout_s": 2, **options},
    )


async def test_a_connection_carries_one_exchange_after_another(
    client: UpstreamClient, simulator: SimulatorThread, bearer: Any
) -> None:
    for _ in range(5):
        response = await ask(client, simulator, bearer, "hello")
        assert b"[DONE]" in await response.read()
        await response.close()

    assert len({r.connection_id for r in simulator.generations}) == 1


async def test_an_answer_not_read_to_its_end_closes_its_connection(
    client: UpstreamClient, simulator: SimulatorThread, bearer: Any
) -> None:
    response = await ask(client, simulator, bearer, "[[drip chunks=100 delay=0.05]]")
    await response.receive()
    await response.close()

    assert await asyncio.to_thread(simulator.closed_within, 1)
    assert client.transport is not None
    assert client.transport.pool.open_count == 0


async def test_u35_calls_cancelled_at_any_moment_leave_nothing_open(
    client: UpstreamClient, simulator: SimulatorThread, bearer: Any
) -> None:
    async def one(delay_s: float) -> None:
        async with asyncio.timeout(delay_s):
            response = await ask(client, simulator, bearer, "[[slow seconds=1]]")
            await response.close()

    results = await asyncio.gather(
        *(one(number * 0.0005) for number in range(1, 120)), return_exceptions=True
    )
    assert all(isinstance(r, TimeoutError) for r in results)
    assert client.transport is not None
    assert client.transport.pool.open_count == 0
    response = await ask(client, simulator, bearer, "hello")
    assert b"[DONE]" in await response.read()
    await response.close()


async def test_c05_a_reader_that_lags_behind_holds_back_the_upstream(
    client: UpstreamClient, simulator: SimulatorThread, bearer: Any
) -> None:
    response = await ask(client, simulator, bearer, "[[huge_line 12]]")
    await response.receive()
    await asyncio.sleep(0.5)

    connection = response._connection
    assert connection is not None
    assert connection._buffered < HIGH_WATER + 1024 * 1024
    assert len(await response.read()) > 11_000_000
    await response.close()


async def test_silence_before_and_within_an_answer_ends_it(
    client: UpstreamClient, simulator: SimulatorThread, bearer: Any
) -> None:
    with pytest.raises(UpstreamTimedOut):
        await ask(client, simulator, bearer, "[[hang]]", first_byte_timeout_s=0.3)

    response = await ask(client, simulator, bearer, "[[stall at=mid_block]]")
    response.expect_silence(0.3)
    with pytest.raises(UpstreamTimedOut):
        await response.read()
    await response.close()


@pytest.mark.parametrize(
    ("scenario", "error"),
    [("reset_before", NotAnswered), ("close_before", NotAnswered), ("garbage", UpstreamFailed)],
)
async def test_what_is_no_answer_is_an_error_of_the_upstream(
    client: UpstreamClient,
    simulator: SimulatorThread,
    bearer: Any,
    scenario: str,
    error: type[GatewayError],
) -> None:
    with pytest.raises(error):
        await ask(client, simulator, bearer, f"[[{scenario}]]")


async def test_u01_u02_nobody_listening_and_no_such_host_are_errors_of_the_upstream(
    client: UpstreamClient,
) -> None:
    for url in ("http://127.0.0.1:9/x", "http://no-such-host.invalid/x"):
        with pytest.raises(UpstreamFailed):
            await client.open("GET", url, headers=[], first_byte_timeout_s=2)


async def test_waiting_for_a_piece_ends_without_harm(
    client: UpstreamClient, simulator: SimulatorThread, bearer: Any
) -> None:
    response = await ask(client, simulator, bearer, "[[drip chunks=3 delay=0.4]]")
    waits, text = 0, b""
    while (chunk := await response.receive(0.1)) != b"":
        waits += chunk is None
        text += chunk or b""
    await response.close()
    assert waits >= 3
    assert b"[DONE]" in text


@pytest.mark.parametrize("scenario", ["gzip", "until_close", "early_hints", "split size=1"])
async def test_odd_framing_is_read_by_the_letter(
    client: UpstreamClient, simulator: SimulatorThread, bearer: Any, scenario: str
) -> None:
    response = await ask(client, simulator, bearer, f"hello [[{scenario}]]")
    assert b"[DONE]" in await response.read()
    await response.close()
