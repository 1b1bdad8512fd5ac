"""Whatever arrives is served or refused by name: bodies and chunks with parts gone or changed."""

import copy
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import GatewayError, InvalidRequest, UnsupportedContent
from proxy.formats import chat_completions as chat
from proxy.formats.canonical import ModelFacts
from tests.formats.chat_completions.chat_golden import (
    ANSWER,
    ASKING,
    check_order,
    decode,
    encode,
    frame,
    load,
    names,
    stream,
)

JUNK = (
    *(None, True, 0, -1, 2**63, 1.5, "", "x", "{"),
    *([], [None], [[]], ["x"], {}, {"type": "text"}),
)
FACTS = ModelFacts(
    id="m", vendor="Anthropic", max_output_tokens=100, efforts=("low",), max_thinking_budget=50
)
# One number decides what is damaged: quick to draw, and a failure names it.
SEEDS = st.integers(0, 2**32)
QUIET = settings(max_examples=60, deadline=None)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            found += places(inner, (*path, i))
    return found


def damaged(chance: Random, body: Any) -> Any:
    """A copy in which up to three places are gone or hold something else."""
    body = copy.deepcopy(body)
    for _ in range(chance.randint(1, 3)):
        choices = places(body)
        if not choices:
            break
        *way, last = chance.choice(choices)
        holder = body
        for step in way:
            holder = holder[step]
        if chance.random() < 0.4:
            del holder[last]
        else:
            holder[last] = copy.deepcopy(chance.choice(JUNK))
    return body


@pytest.mark.parametrize("name", names("request-*.json"))
@QUIET
@given(seed=SEEDS)
def test_a_damaged_request_is_served_or_refused(name, seed):
    body = damaged(Random(seed), load(name))
    chat.gist(body)
    try:
        request = chat.parse_request(body)
    except InvalidRequest:
        return
    try:
        chat.build_request(request, FACTS)
        request.source = "another"
        chat.build_request(request, FACTS)
    except UnsupportedContent:
        pass


@pytest.mark.parametrize("name", names("*.sse"))
@QUIET
@given(seed=SEEDS)
def test_a_damaged_stream_is_read_or_failed(name, seed):
    chance = Random(seed)
    frames = [
        one
        if one.data == b"[DONE]" or chance.random() < 0.5
        else frame(damaged(chance, orjson.loads(one.data)))
        for one in stream(name)
    ]
    try:
        events = decode(frames)
        check_order(events)
        assert encode(events).count(b"[DONE]\n") <= 1
    except GatewayError:
        pass
    tap = chat.tap(ASKING)
    try:
        out = b"".join([tap.feed(one) for one in frames])
        if tap.finished:
            out += tap.end()
        assert out.count(b"[DONE]\n") <= 1
    except GatewayError:
        pass


@pytest.mark.parametrize("name", names("answer-*.json"))
@QUIET
@given(seed=SEEDS)
def test_a_damaged_answer_is_read_or_failed(name, seed):
    body = damaged(Random(seed), load(name))
    try:
        events = chat.decode_body(body)
        check_order(events)
        chat.encode_body(events, ANSWER)
    except GatewayError:
        pass
    try:
        repaired = chat.repair_body(body, ANSWER)
        assert repaired["choices"][0]["message"]["role"] == "assistant"
    except GatewayError:
        pass
