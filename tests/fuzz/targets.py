"""What must hold of any bytes: the targets of the fuzzers, and of the seeds that pytest plays again.

Each target takes bytes and returns; an exception other than the named refusals is a finding.
"""

import itertools
from typing import Any

import orjson

from proxy.errors import GatewayError
from proxy.formats import FORMATS
from proxy.formats.canonical import ModelFacts
from proxy.formats.contract import Answer
from proxy.formats.sse import Frame, Parser

FACTS = ModelFacts(id="gpt-5.4", max_output_tokens=1000)
NAMES = sorted(FORMATS)
UPSTREAM = ("chat_completions", "messages", "responses")


def answer() -> Answer:
    return Answer(id="0" * 24, created=0, model="gpt-5.4", request={})


def frames(data: bytes) -> None:
    """The first byte says where the rest is cut: the frames do not depend on the cuts."""
    if not data:
        return
    size, text = data[0] % 17 + 1, data[1:]
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    assert _read([text]) == _read(pieces)


def _read(pieces: list[bytes]) -> list[Frame]:
    parser = Parser()
    read = list(itertools.chain.from_iterable(map(parser.feed, pieces)))
    return read + parser.close()


def requests(data: bytes) -> None:
    """Any JSON object is read or refused by name; what was read can be written for each endpoint."""
    body = _json(data[1:])
    if not data or not isinstance(body, dict):
        return
    source = FORMATS[NAMES[data[0] % len(NAMES)]]
    before = orjson.dumps(body)
    source.gist(body)
    try:
        source.check(body)
        request = source.parse_request(body)
    except GatewayError:
        request = None
    assert orjson.dumps(body) == before
    if request is None:
        return
    for target in UPSTREAM:
        try:
            built = FORMATS[target].build_request(request, FACTS)
        except GatewayError:
            continue
        orjson.dumps(built.body)


def answers(data: bytes) -> None:
    """Any stream of an upstream becomes valid frames of each client's format, or a named failure."""
    if len(data) < 2:
        return
    target = UPSTREAM[data[0] % len(UPSTREAM)]
    source = NAMES[data[1] % len(NAMES)]
    decoder = FORMATS[target].decoder()
    encoder = FORMATS[source].encoder(answer())
    out = b""
    try:
        for frame in _read([data[2:]]):
            out += encoder.encode(decoder.feed(frame))
        out += encoder.encode(decoder.close())
        out += encoder.end() if decoder.finished else b""
    except GatewayError as error:
        out += encoder.fail(error)
    for frame in _read([out]):
        assert frame.data == b"[DONE]" or isinstance(orjson.loads(frame.data), dict), frame
    out.decode()


def taps(data: bytes) -> None:
    """The same when formats are equal: what passes through is whole frames of JSON."""
    if not data:
        return
    tap = FORMATS[UPSTREAM[data[0] % len(UPSTREAM)]].tap(answer())
    out = b""
    try:
        for frame in _read([data[1:]]):
            out += tap.feed(frame)
        out += tap.end() if tap.finished else b""
    except GatewayError as error:
        out += tap.fail(error)
    for frame in _read([out]):
        assert frame.data == b"[DONE]" or isinstance(orjson.loads(frame.data), dict), frame


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


TARGETS = {"frames": frames, "requests": requests, "answers": answers, "taps": taps}
