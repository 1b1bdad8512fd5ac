"""Messages streams passed on: byte for byte where clients can read them, repaired where not."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import UpstreamFailed, UpstreamTimedOut
from proxy.formats import messages
from proxy.formats.sse import Frame, Parser
from tests.formats.messages import messages_golden as golden

TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
HI = {
    "type": "content_block_delta",
    "index": 0,
    "delta": {"type": "text_delta", "text": "Hi"},
}
START = {
    "type": "message_start",
    "message": {
        "id": "msg_bdrk_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4.6",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 1},
    },
}
END = {
    "type": "message_delta",
    "delta": {"stop_reason": "max_tokens", "stop_sequence": None},
    "usage": {"input_tokens": 5, "output_tokens": 7},
}


def kinds(data: bytes) -> list[str]:
    return [kind for kind, _ in golden.parsed(data)]


def passed(*payloads: dict[str, Any]) -> tuple[messages.Tap, bytes]:
    tap = messages.tap(golden.ANSWER)
    return tap, b"".join(tap.feed(golden.frame(payload)) for payload in payloads)


@pytest.mark.parametrize("name", [*golden.names("clean-*.sse"), "copilot-text.sse"])
def test_a_good_stream_passes_byte_for_byte(name: str) -> None:
    tap = messages.tap(golden.ANSWER)

    data = b"".join(tap.feed(frame) for frame in golden.stream(name)) + tap.end()

    assert data == (golden.GOLDEN / name).read_bytes()
    assert tap.finished
    assert tap.failure is None
    assert tap.model == "claude-opus-5"
    assert tap.usage is not None
    assert tap.usage.input_tokens == 94 + 62104 + 1366


def test_the_price_and_the_end_are_read_on_the_way() -> None:
    tap = messages.tap(golden.ANSWER)
    for frame in golden.stream("copilot-text.sse"):
        tap.feed(frame)

    assert tap.usage is not None
    assert tap.usage.nano_aiu == 4248450000
    assert tap.usage.output_tokens == 97
    assert tap.stop_reason == "end_turn"


def test_usage_is_filled_in_where_the_backend_leaves_it_out() -> None:
    start = {"type": "message_start", "message": {"id": "msg_1", "model": "m"}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}}

    _, data = passed(start, end)

    (_, first), (_, last) = golden.parsed(data)
    zeros = {
        "input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 0,
    }
    assert first["message"] == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": zeros,
    }
    assert last["usage"] == zeros


def test_usage_in_parts_is_told_whole_at_the_end() -> None:
    _, data = passed(START, {**END, "usage": {"output_tokens": 7}})

    usage = golden.parsed(data)[-1][1]["usage"]
    assert usage["input_tokens"] == 5
    assert usage["output_tokens"] == 7


def test_frames_without_a_name_get_it_from_their_type() -> None:
    tap = messages.tap(golden.ANSWER)

    data = tap.feed(Frame(None, orjson.dumps(START)))

    assert data.startswith(b"event: message_start\ndata: ")


def test_frames_without_a_type_get_it_from_their_name() -> None:
    tap = messages.tap(golden.ANSWER)
    tap.feed(golden.frame(START))
    tap.feed(golden.frame(TEXT))
    nameless = {key: value for key, value in HI.items() if key != "type"}

    data = tap.feed(golden.frame(nameless, b"content_block_delta"))

    assert golden.parsed(data) == [("content_block_delta", HI)]


def test_data_of_several_lines_becomes_one() -> None:
    tap = messages.tap(golden.ANSWER)
    pretty = orjson.dumps(START, option=orjson.OPT_INDENT_2)

    assert golden.parsed(tap.feed(Frame(None, pretty))) == [("message_start", START)]


def test_invalid_utf8_never_reaches_the_client() -> None:
    tap = messages.tap(golden.ANSWER)
    tap.feed(golden.frame(START))
    tap.feed(golden.frame(TEXT))

    data = tap.feed(Frame(None, orjson.dumps(HI).replace(b"Hi", b"H\xff")))

    assert golden.parsed(data)[0][1]["delta"]["text"] == "H\ufffd"


def test_what_clients_do_not_know_is_left_out() -> None:
    tap = messages.tap(golden.ANSWER)

    assert tap.feed(Frame(None, b"[DONE]")) == b""
    assert tap.feed(golden.frame({"type": "thinking_token_count"})) == b""
    assert tap.feed(golden.frame({"type": "ping"})) == messages.KEEPALIVE


def test_missing_starts_and_ends_of_blocks_are_added() -> None:
    _, data = passed(HI, END)

    assert kinds(data) == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
    ]


def test_words_for_a_block_that_is_closed_are_dropped() -> None:
    _, data = passed(START, TEXT, HI, {"type": "content_block_stop", "index": 0}, HI, TEXT, END)

    assert kinds(data).count("content_block_delta") == 1
    assert kinds(data).count("content_block_start") == 1


def test_the_missing_end_is_added_once() -> None:
    tap, data = passed(START, TEXT, HI, END)

    assert tap.finished
    assert tap.stop_reason == "max_tokens"
    data += tap.end() + tap.end()
    assert kinds(data)[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_what_comes_after_the_end_is_dropped() -> None:
    stop = {"type": "message_stop"}
    _, data = passed(START, TEXT, HI, END, HI, END, stop, HI, END, stop, START)

    assert kinds(data).count("content_block_delta") == 1
    assert kinds(data).count("message_delta") == 1
    assert kinds(data)[-1] == "message_stop"


def test_a_stop_alone_gets_its_message_delta() -> None:
    tap, data = passed(START, TEXT, HI, {"type": "message_stop"})

    assert tap.finished
    assert kinds(data)[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_a_cut_stream_ends_with_an_error_and_closed_blocks() -> None:
    tap, data = passed(START, TEXT, HI)

    assert not tap.finished
    data += tap.fail(UpstreamTimedOut("The upstream fell silent."))

    assert kinds(data)[-2:] == ["content_block_stop", "error"]
    assert golden.parsed(data)[-1][1]["error"]["type"] == "timeout_error"
    assert tap.end() == b""
    assert tap.fail(UpstreamFailed("again")) == b""


@pytest.mark.parametrize(
    ("payload", "status", "kind"),
    [
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}},
            529,
            "overloaded_error",
        ),
        ({"error": {"message": "Busy", "code": "server_error"}}, 502, "api_error"),
        ({"type": "error"}, 502, "api_error"),
    ],
)
def test_an_error_of_the_upstream_is_passed_on_in_anthropics_form(
    payload: dict[str, Any], status: int, kind: str
) -> None:
    tap, data = passed(START, TEXT, HI, payload, HI)

    assert tap.failure is not None
    assert tap.failure.status == status
    assert not tap.finished
    assert kinds(data)[-2:] == ["content_block_stop", "error"]
    assert golden.parsed(data)[-1][1]["error"]["type"] == kind
    assert tap.end() == b""


def test_arguments_of_a_call_that_was_never_opened_fail() -> None:
    tap, _ = passed(START)
    lost = {"type": "input_json_delta", "partial_json": "{}"}

    with pytest.raises(UpstreamFailed):
        tap.feed(golden.frame({"type": "content_block_delta", "index": 0, "delta": lost}))


# Pieces that are not read one by one


def read(reads: list[bytes], *, unread: bool) -> tuple[bytes, str | None, int]:
    """What a client gets of these reads, how it ended, and how many events passed as they came."""
    tap, parser, out, count = messages.tap(golden.ANSWER), Parser(), b"", 0
    for rest in reads:
        if unread and parser.is_at_event:
            events, size, said = tap.passes(rest)
            out, count, rest = out + said, count + events, rest[size:]
        out += b"".join(map(tap.feed, parser.feed(rest)))
    out += b"".join(map(tap.feed, parser.close())) + tap.end()
    return out, tap.stop_reason, count


def in_reads(data: bytes, events: int) -> list[bytes]:
    blocks = [block + b"\n\n" for block in data.split(b"\n\n") if block]
    return [b"".join(blocks[i : i + events]) for i in range(0, len(blocks), events)]


@pytest.mark.parametrize("name", golden.names("*.sse"))
@pytest.mark.parametrize("events", [1, 2, 3, 1000])
def test_a_stream_passes_alike_read_or_not(name: str, events: int) -> None:
    reads = in_reads((golden.GOLDEN / name).read_bytes(), events)
    try:
        expected = read(reads, unread=False)
    except UpstreamFailed as error:
        with pytest.raises(UpstreamFailed, match=str(error)):
            read(reads, unread=True)
        return
    assert read(reads, unread=True)[:2] == expected[:2]


def written(*payloads: dict[str, Any]) -> bytes:
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (payload["type"].encode(), orjson.dumps(payload))
        for payload in payloads
    )


def piece(text: str, index: int = 0, kind: str = "text") -> dict[str, Any]:
    delta = {"type": f"{kind}_delta", kind: text}
    return {"type": "content_block_delta", "index": index, "delta": delta}


@given(
    st.lists(
        st.builds(
            piece,
            st.text(max_size=6) | st.sampled_from(["a", "text", "text_delta", "-"]),
            st.sampled_from([0, 0, 0, 1]),
            st.sampled_from(["text", "text", "thinking"]),
        ),
        max_size=12,
    ),
    st.integers(1, 5),
)
def test_any_pieces_pass_alike_read_or_not(pieces: list[dict[str, Any]], events: int) -> None:
    stop = {"type": "content_block_stop", "index": 0}
    data = written(START, TEXT, *pieces, stop, *pieces, END, *pieces, {"type": "message_stop"})
    reads = in_reads(data, events)

    assert read(reads, unread=True)[:2] == read(reads, unread=False)[:2]


def test_ordinary_pieces_pass_as_they_came() -> None:
    pieces = [piece(text) for text in ("One", "two", "", "é", 'say "so"', "three")]
    data = written(START, TEXT, *pieces, END, {"type": "message_stop"})

    out, _, count = read(in_reads(data, 1), unread=True)

    # The first shows what is alike, the quoted one is read.
    assert count == 4
    for each in pieces:
        assert written(each) in out


def test_nothing_passes_into_a_block_that_is_closed() -> None:
    stop = {"type": "content_block_stop", "index": 0}
    tap = messages.tap(golden.ANSWER)
    for payload in (START, TEXT, HI, stop):
        tap.feed(golden.frame(payload))

    assert not tap.passes(written(HI)).events
