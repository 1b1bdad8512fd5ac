"""A chunk that fits a mould means what it would mean if it were read."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import UpstreamFailed
from proxy.formats import messages
from proxy.formats.canonical import Event
from proxy.formats.chat_completions.decode import ChatDecoder
from proxy.formats.chat_completions.moulds import mould_of
from proxy.formats.contract import Answer
from proxy.formats.sse import Frame, Parser
from proxy.relay import Translation
from tests.formats.chat_completions.chat_golden import names, stream


class ReadingDecoder(ChatDecoder):
    """Reads every chunk."""

    def feed(self, frame: Frame) -> list[Event]:
        self._mould = None
        return super().feed(frame)


def both(frames: list[Frame]) -> tuple[Any, Any]:
    found = []
    for decoder in (ChatDecoder(), ReadingDecoder()):
        events: list[Event] = []
        try:
            for frame in frames:
                events += decoder.feed(frame)
            events += decoder.close()
        except UpstreamFailed as error:
            events.append(str(error))  # type: ignore[arg-type]
        found.append((events, decoder.usage, decoder.finished))
    return found[0], found[1]


@pytest.mark.parametrize("name", names("*.sse"))
def test_every_recorded_stream_is_decoded_alike(name: str) -> None:
    with_moulds, without = both(stream(name))

    assert with_moulds == without


def chunk(**changes: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}
    return {"id": "c", "created": 1, "model": "m", "choices": [choice], **changes}


PIECES = st.one_of(
    st.text(max_size=5).map(lambda text: {"content": text}),
    st.sampled_from(
        [
            {"content": None},
            {"content": "a", "refusal": "b"},
            {"role": "assistant", "content": "x"},
            {"reasoning_text": "hm"},
            {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{}"}}]},
            {},
        ]
    ),
)
ENDS = st.sampled_from([None, None, None, "stop", "tool_calls"])


@given(st.lists(st.tuples(PIECES, ENDS, st.integers(0, 1)), min_size=2, max_size=12))
def test_any_order_of_chunks_is_decoded_alike(pieces: list[Any]) -> None:
    frames = [
        Frame(
            None,
            orjson.dumps(
                chunk(choices=[{"index": index, "delta": delta, "finish_reason": reason}])
            ),
        )
        for delta, reason, index in pieces
    ]

    with_moulds, without = both(frames)

    assert with_moulds == without


@pytest.mark.parametrize(
    "odd",
    [
        chunk(choices=[]),
        chunk(choices=[chunk()["choices"][0]] * 2),
        chunk(choices=[{"index": 0, "delta": {"content": ""}}]),
        chunk(choices=[{"index": 0, "delta": {"content": "a", "role": "assistant"}}]),
        chunk(choices=[{"index": 0, "message": {"content": "a"}}]),
        {"choices": None},
        {},
    ],
)
def test_only_a_piece_of_text_makes_a_mould(odd: dict[str, Any]) -> None:
    assert mould_of(orjson.dumps(odd), odd) is None


def test_a_text_that_stands_elsewhere_too_is_cut_out_at_its_own_place() -> None:
    data = orjson.dumps(chunk(id="Hello", model="Hello"))

    mould = mould_of(data, orjson.loads(data))

    assert (
        mould is None
        or mould.text_in(data.replace(b'"content":"Hello"', b'"content":"you"')) == "you"
    )


def test_what_is_no_text_does_not_fit() -> None:
    data = orjson.dumps(chunk())
    mould = mould_of(data, orjson.loads(data))
    assert mould is not None
    assert mould.text_in(data) == "Hello"
    for odd in (b"\\u0041", b'a"b', b"\xff", b"a\tb"):
        assert mould.text_in(data.replace(b"Hello", odd)) is None


def translated(chunks: list[bytes], *, unread: bool) -> tuple[bytes, int]:
    """What a Messages client gets of these reads, and how many events were not read one by one."""
    translation = Translation(ChatDecoder(), messages.encoder(Answer(id="a", created=1, model="m")))
    parser, out, passed = Parser(), b"", 0
    for read in chunks:
        rest = read
        if unread and parser.is_at_event:
            found = translation.passes(read)
            out, passed, rest = out + found.out, passed + found.events, read[found.size :]
        out += b"".join(map(translation.feed, parser.feed(rest)))
    out += b"".join(map(translation.feed, parser.close()))
    return out + translation.end(), passed


@pytest.mark.parametrize("name", names("*.sse"))
def test_pieces_that_are_not_read_are_translated_alike(name: str) -> None:
    whole = b"".join(b"data: " + frame.data + b"\n\n" for frame in stream(name))
    lines = whole.split(b"\n\n")
    for size in (1, 2, 3, len(lines)):
        reads = [b"\n\n".join([*lines[i : i + size], b""]) for i in range(0, len(lines) - 1, size)]
        try:
            expected = translated(reads, unread=False)[0]
        except UpstreamFailed:
            continue
        assert translated(reads, unread=True)[0] == expected


@given(st.lists(st.text(max_size=6), max_size=12), st.integers(1, 5))
def test_any_texts_are_translated_alike_read_or_not(texts: list[str], size: int) -> None:
    events = [
        b"data: "
        + orjson.dumps(chunk(choices=[{"index": 0, "delta": {"content": text}}]))
        + b"\n\n"
        for text in ("Hello", *texts)
    ]
    events.append(
        b"data: "
        + orjson.dumps(chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
        + b"\n\ndata: [DONE]\n\n"
    )
    reads = [b"".join(events[i : i + size]) for i in range(0, len(events), size)]
    assert translated(reads, unread=True)[0] == translated(reads, unread=False)[0]


def test_ordinary_pieces_are_not_read() -> None:
    events = [
        b"data: "
        + orjson.dumps(chunk(choices=[{"index": 0, "delta": {"content": text}}]))
        + b"\n\n"
        for text in ("Hello", "you", "", "é", "there")
    ]
    out, passed = translated(events, unread=True)
    # One opens the block, one shows what is alike.
    assert passed == 3
    assert out.count(b"text_delta") == 4
    assert "é".encode() in out
