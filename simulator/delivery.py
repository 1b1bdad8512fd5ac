"""Delivery: sends whole bodies and event streams, slow, split, compressed or cut as asked."""

from __future__ import annotations

import asyncio
import math
import zlib
from collections.abc import Iterable

from simulator import metering
from simulator.frames import Frame, encode, encode_all
from simulator.minting import github_request_id, uuid
from simulator.script import Call, Delivery
from simulator.server import Header

EVENT_STREAM = "text/event-stream"
FOREVER_S = 3600.0

_FIXED_HEADERS: list[Header] = [
    ("content-security-policy", "default-src 'none'; sandbox"),
    ("strict-transport-security", "max-age=31536000"),
    ("x-content-type-options", "nosniff"),
    ("x-github-backend", "Kubernetes"),
    ("x-github-edge-region", "iad"),
    ("x-copilot-api-exp-assignment-context", ""),
]


def copilot_headers(call: Call, content_type: str, *, quota: bool) -> list[Header]:
    """Return the headers of every answer of the Copilot API; quota headers only on success."""
    state = call.state
    account = call.account
    billed = account is not None and account.token_based_billing
    headers = [
        ("content-type", content_type),
        *_FIXED_HEADERS,
        ("x-request-id", call.header("x-request-id") or uuid(state)),
        ("x-github-request-id", github_request_id(state)),
        ("x-copilot-service-request-id", uuid(state)),
        ("x-github-copilot-request-te", "true" if billed else "false"),
        ("copilot-edits-session", f"{state.now():.6f}.{state.random.getrandbits(64):016x}"),
    ]
    if quota and account is not None:
        headers += metering.quota_headers(state, account)
    return headers


async def send_stream(call: Call, frames: Iterable[Frame], counted: list[int]) -> None:
    """Send an event stream. `counted[0]` grows by the output tokens of every frame sent."""
    script = call.script
    plan = script.delivery
    headers = copilot_headers(call, plan.content_type or EVENT_STREAM, quota=True)
    if script.is_fast and isinstance(frames, list):
        counted[0] += sum(frame.tokens for frame in frames)
        await call.out.send_stream(200, headers, encode_all(frames))
        return
    for edit in script.frame_edits:
        frames = edit(frames)
    await _start(call, headers)
    writer = _Writer(call)
    loop = asyncio.get_running_loop()
    due = loop.time()
    for frame in frames:
        due += plan.interval_s
        pause = frame.wait_s + plan.delay_s + max(0.0, due - loop.time()) * bool(plan.interval_s)
        if pause:
            await _sleep(pause)
        counted[0] += frame.tokens
        if not await writer.write(encode(frame, plan.style)):
            break
        if script.is_endless:
            # A fast reader would otherwise never let another request have its turn.
            await asyncio.sleep(0)
    await writer.finish()


async def send_body(call: Call, body: bytes, content_type: str) -> None:
    """Send a whole body, by the script's delivery."""
    script = call.script
    plan = script.delivery
    headers = copilot_headers(call, plan.content_type or content_type, quota=True)
    if script.is_fast:
        await call.out.send(200, headers, body)
        return
    for edit in script.body_edits:
        body = edit(body)
    plain = plan.ending == "complete" and not plan.split and plan.cut_after_bytes is None
    if plain and not plan.gzip:
        await _wait_for_start(call, plan)
        await call.out.send(plan.status, headers + plan.headers, body)
        return
    if plan.framing == "chunked":
        plan.framing = "as_given"
        # A compressed body is sent with the length it has; the writer compresses whole bodies.
        body, plan.gzip = (_gzip(body), False) if plan.gzip else (body, False)
        headers.append(("content-length", str(len(body))))
        plan.headers += [("content-encoding", "gzip")] if body[:2] == b"\x1f\x8b" else []
    if plan.ending != "complete" and plan.cut_after_bytes is None:
        plan.cut_after_bytes = len(body) // 2
    await _start(call, headers)
    writer = _Writer(call)
    await writer.write(body)
    await writer.finish()


async def _wait_for_start(call: Call, plan: Delivery) -> None:
    if plan.first_delay_s:
        await _sleep(plan.first_delay_s)
    if plan.preamble:
        await call.out.write_raw(plan.preamble)


async def _start(call: Call, headers: list[Header]) -> None:
    plan = call.script.delivery
    await _wait_for_start(call, plan)
    if plan.gzip:
        headers = [*headers, ("content-encoding", "gzip")]
    call.out.start(plan.status, headers + plan.headers, framing=plan.framing)


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(body) + packer.flush()


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(FOREVER_S if math.isinf(seconds) else seconds)


class _Writer:
    """Writes body bytes: compressed, in small pieces, and only up to the cut."""

    def __init__(self, call: Call) -> None:
        self._out = call.out
        self._plan = call.script.delivery
        self._packer = zlib.compressobj(wbits=31) if self._plan.gzip else None
        self._left = self._plan.cut_after_bytes
        self._is_first = True

    async def write(self, data: bytes) -> bool:
        """Write and tell whether more may follow."""
        plan = self._plan
        if self._is_first and plan.style.byte_order_mark:
            data = b"\xef\xbb\xbf" + data
        self._is_first = False
        if self._packer is not None:
            data = self._packer.compress(data) + self._packer.flush(zlib.Z_SYNC_FLUSH)
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        if plan.split:
            for start in range(0, len(data), plan.split):
                await self._out.write(data[start : start + plan.split])
                # Without a pause the kernel would join the pieces again.
                await asyncio.sleep(plan.split_delay_s)
        else:
            await self._out.write(data)
        return self._left is None or self._left > 0

    async def finish(self) -> None:
        plan = self._plan
        ending = plan.ending
        if ending == "complete" and self._left == 0:
            ending = "clean" if plan.framing == "chunked" else "fin"
        match ending:
            case "complete":
                if self._packer is not None:
                    await self._out.write(self._packer.flush())
                self._out.end()
            case "clean":
                self._out.end(keep=plan.framing == "chunked")
                self._out.ended = "cut"
            case "fin":
                self._out.fin()
            case "reset":
                await self._out.reset()
            case "stall":
                await _sleep(math.inf)
