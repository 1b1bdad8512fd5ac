"""A stream cut by the upstream at any byte ends in the client's format with its error event."""

import json
from typing import Any

import pytest

from tests.conftest import Gateway
from tests.proxy.conftest import ROUTES, WIRES, read_stream

# The longest of these answers has some 12 kB; every part of it is met by a step that shares no factor.
LENGTH = 14_000
STEP = 397


@pytest.mark.parametrize(("wire_name", "model"), ROUTES)
def test_wherever_the_upstream_stops_the_client_hears_of_it(
    gateway: Gateway, wire_name: str, model: str
) -> None:
    wire = WIRES[wire_name]
    whole = 0
    with gateway.client() as client:
        for cut in range(1, LENGTH, STEP):
            body = wire.body(f"hello there [[cut_after_bytes {cut}]]", model)
            stream = read_stream(client, wire.path, body)
            if stream.status != 200:
                assert stream.status == 502, (cut, stream.raw)
                continue
            said = wire.error_in(stream.frames)
            ends = wire.ends(stream.raw)
            assert (said is not None) != (ends == 1), (cut, stream.raw)
            whole += ends
            if wire_name == "messages":
                assert_blocks_closed(stream.frames)
    assert whole, "no cut fell behind the end"


def assert_blocks_closed(frames: list[dict[str, Any]]) -> None:
    opened = [f["index"] for f in frames if f["type"] == "content_block_start"]
    closed = [f["index"] for f in frames if f["type"] == "content_block_stop"]
    assert opened == closed


def test_a_gemini_stream_cut_anywhere_says_so(gateway: Gateway) -> None:
    path = "/v1beta/models/{}:streamGenerateContent?alt=sse"
    with gateway.client() as client:
        for model in ("claude-sonnet-4.6", "gpt-5.5", "gemini-3.1-pro-preview"):
            for cut in range(1, LENGTH, STEP):
                text = f"hello there [[cut_after_bytes {cut}]]"
                body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
                answer = client.post(path.format(model), json=body)
                if answer.status_code != 200:
                    assert answer.status_code == 502
                    continue
                frames = [
                    json.loads(line.removeprefix("data: "))
                    for line in answer.text.split("\n")
                    if line.startswith("data: ")
                ]
                finished = any(
                    c.get("finishReason") for f in frames for c in f.get("candidates", [])
                )
                assert finished != any("error" in f for f in frames), (model, cut, answer.text)
