"""Server-sent events, by the letter: whatever the split, the frames are the same."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import UpstreamFailed
from proxy.formats.sse import Frame, Parser, render

PIECES = st.sampled_from(
    [
        b"data: {}",
        b"data:x",
        b"data:  two",
        b"data",
        b": comment",
        b":",
        b"id: 7",
        b"retry: 10",
        b"event: ping",
        b"event:",
        b"other: x",
        "data: a\u2028b\u2029c\u0085d \xfc\U0001f600".encode(),
        b"",
        b"",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.tuples(PIECES, ENDS)).map(lambda lines: b"".join(a + b for a, b in lines))


def read(*chunks: bytes) -> list[Frame]:
    parser = Parser()
    frames = [frame for chunk in chunks for frame in parser.feed(chunk)]
    return frames + parser.close()


def by_the_letter(data: bytes) -> list[Frame]:
    """The specification, told anew: lines first, then fields."""
    frames: list[Frame] = []
    lines: list[bytes] = []
    event: bytes | None = None
    for line in [*data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"), b""]:
        field, _, value = line.partition(b":")
        if not line:
            if lines:
                frames.append(Frame(event, b"\n".join(lines)))
            lines, event = [], None
        elif field == b"data":
            lines.append(value.removeprefix(b" "))
        elif field == b"event":
            event = value.removeprefix(b" ")
    return frames


@given(data=STREAMS, cuts=st.lists(st.integers(0, 200), max_size=12))
def test_any_split_gives_the_frames_of_the_specification(data, cuts):
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert read(*chunks) == by_the_letter(data)


@given(data=STREAMS)
def test_byte_by_byte_is_the_same(data):
    assert read(*[data[i : i + 1] for i in range(len(data))]) == by_the_letter(data)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_ends_a_line(end):
    data = b"event: a" + end + b"data: 1" + end + b"data: 2" + end + end + b"data: 3" + end + end
    assert read(data) == [Frame(b"a", b"1\n2"), Frame(None, b"3")]


def test_comments_ids_and_retries_are_no_events():
    assert read(b": hello\n\nid: 1\n\nretry: 5\n\nevent: ping\n\ndata: x\n\n") == [
        Frame(None, b"x")
    ]


def test_one_blank_after_the_colon_is_no_part_of_the_value():
    assert read(b"data:x\n\ndata: x\n\ndata:  x\n\n") == [
        Frame(None, b"x"),
        Frame(None, b"x"),
        Frame(None, b" x"),
    ]


def test_unicode_line_separators_end_no_line():
    text = '{"a":"1\u2028 2\u2029 3\u0085 4\x0b 5\x0c 6\x1c"}'.encode()
    assert read(b"data: " + text + b"\n\n") == [Frame(None, text)]


def test_a_byte_order_mark_is_skipped_once():
    assert read(b"\xef\xbb", b"\xbfdata: x\n\ndata: \xef\xbb\xbf\n\n") == [
        Frame(None, b"x"),
        Frame(None, b"\xef\xbb\xbf"),
    ]


def test_a_frame_comes_with_its_blank_line_and_not_before():
    parser = Parser()
    assert parser.feed(b"data: x\n") == []
    assert parser.feed(b"\n") == [Frame(None, b"x")]


def test_a_carriage_return_at_the_end_of_a_chunk_waits_for_no_line_feed():
    parser = Parser()
    assert parser.feed(b"data: x\r\r") == [Frame(None, b"x")]
    assert parser.feed(b"\ndata: y\r\n\r") == [Frame(None, b"y")]
    assert parser.feed(b"\n") == []


def test_a_stream_without_a_last_blank_line_keeps_its_last_event():
    assert read(b"data: x") == [Frame(None, b"x")]
    assert read(b"data: x\n") == [Frame(None, b"x")]


def read_endlessly(parser: Parser, chunk: bytes) -> None:
    for _ in range(4):
        parser.feed(chunk)


def test_a_large_event_passes_and_an_endless_one_does_not():
    large = b"x" * 1_500_000
    assert read(b"data: " + large + b"\n\n") == [Frame(None, large)]
    for chunk in (b"x" * 100, b"data: " + b"x" * 40 + b"\n", b": " + b"x" * 100):
        parser = Parser(limit=80)
        with pytest.raises(UpstreamFailed):
            read_endlessly(parser, chunk)


def test_rendered_frames_are_read_again():
    assert render(b"{}") == b"data: {}\n\n"
    assert read(render(b"{}", b"ping")) == [Frame(b"ping", b"{}")]
