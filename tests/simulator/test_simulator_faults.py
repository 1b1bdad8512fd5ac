"""Faults: each row that a gateway must survive can be played, and looks as it should."""

from __future__ import annotations

import gzip
import json
import socket
import time
from pathlib import Path

import httpx
import pytest

from simulator.refusals import CATALOGUE
from simulator.scenarios import SCENARIOS

CHAT = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hello"}], "stream": True}
CLOSED_EARLY = (httpx.RemoteProtocolError, httpx.ReadError)


def raw_answer(simulator, body=None, path="/chat/completions"):
    """Return the bytes of one answer, up to the end of the connection, and how it ended."""
    payload = json.dumps(body or CHAT).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{simulator.port}\r\n"
        "authorization: Bearer gho_opencode\r\nconnection: close\r\n"
        f"content-length: {len(payload)}\r\n\r\n"
    )
    received = b""
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=5) as raw:
        raw.sendall(head.encode() + payload)
        while True:
            try:
                piece = raw.recv(65536)
            except ConnectionResetError:
                return received, "reset"
            if not piece:
                return received, "fin"
            received += piece


def test_the_manual_names_every_scenario():
    manual = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()
    assert [name for name in SCENARIOS if f"`{name}`" not in manual] == []


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_row_of_the_catalogue_can_be_played(simulator, copilot, name):
    path = "/copilot_internal/v2/token" if name.startswith("rest_") else None
    simulator.play(name, times=1, match={"path": path} if path else None)
    answer = copilot.rest(path) if path else copilot.chat()
    known = CATALOGUE[name]
    assert (answer.status_code, answer.content) == (known.status, known.body)
    assert answer.headers["content-type"] == known.content_type
    assert (copilot.rest(path) if path else copilot.chat()).status_code == 200


def test_retry_after_comes_as_seconds_date_nothing_or_nonsense(simulator, copilot):
    def waiting(**args):
        simulator.clear()
        simulator.play("session_limit", **args)
        return copilot.chat().headers.get("retry-after")

    assert waiting() == "2733"
    assert waiting(retry_after=3) == "3"
    assert waiting(retry_after="date:60").endswith("GMT")
    assert waiting(retry_after="absent") is None
    assert waiting(retry_after="soon") == "soon"
    assert waiting(retry_after=-5) == "-5"


def test_plays_are_counted_matched_and_taken_in_order(simulator, copilot):
    simulator.play("status", code=503)
    simulator.play("status", code=500, times=1)
    simulator.play("status", code=429, times=1, match={"model": "gpt-4.1"})
    assert copilot.chat().status_code == 500
    assert copilot.chat().status_code == 503
    assert copilot.chat(model="gpt-4.1").status_code == 429
    simulator.clear()
    simulator.play("status", code=500, match={"login": "mona"})
    assert copilot.chat().status_code == 200
    copilot.bearer = "ghu_mona"
    assert copilot.chat().status_code == 500


def test_a_probable_fault_hits_some_and_spares_some(simulator, copilot):
    simulator.play("status", code=500, probability=0.5)
    seen = {copilot.chat().status_code for _ in range(30)}
    assert seen == {200, 500}


def test_a_soak_run_fails_as_rarely_as_told(simulator, copilot):
    simulator.soak(factor=50)
    outcomes = []
    for _ in range(60):
        try:
            outcomes.append("[DONE]" in copilot.chat(stream=True).text)
        except httpx.HTTPError:
            outcomes.append(False)
    assert 30 < sum(outcomes) < 60


def test_an_unknown_scenario_is_refused_by_name(copilot):
    refused = copilot.control("play", {"scenario": "no_such_thing"})
    assert refused.status_code == 400
    assert "no_such_thing" in refused.json()["error"]
    assert copilot.control("play", {"scenario": "cut", "args": {"at": "noon"}}).status_code == 400
    assert copilot.control("config", {"no_such_switch": 1}).status_code == 400


def test_the_text_itself_may_ask_for_a_fault(copilot):
    answer = copilot.chat("hi [[status 429 retry_after=3]]")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert copilot.chat("hi [[not_a_scenario]] there").status_code == 200
    once = "hi [[status 500 times=1]]"
    assert [copilot.chat(once).status_code for _ in range(2)] == [500, 200]


def test_a_models_entry_may_carry_a_scenario(simulator, copilot):
    entry = {"id": "sim-slow", "scenario": "status 503", "capabilities": {"type": "chat"}}
    copilot.control("models", {"add": entry})
    assert copilot.chat(model="sim-slow").status_code == 503
    listed = copilot.get("/models").json()["data"]
    assert "scenario" not in next(model for model in listed if model["id"] == "sim-slow")


@pytest.mark.parametrize("leg", ["chat", "responses", "messages"])
@pytest.mark.parametrize(
    "at",
    ["before_first", "after_created", "mid_block", "block_end", "before_finish", "after_delta"],
)
def test_a_stream_ends_cleanly_but_too_early(simulator, copilot, events, leg, at):
    simulator.play("cut", at=at)
    seen = events(getattr(copilot, leg)("hello", stream=True))
    names = [event.name or "chunk" for event in seen]
    assert not {"message_stop", "response.completed"} & set(names)
    if leg == "chat":
        assert all(event.data is not None for event in seen)
    if at == "before_first":
        assert seen == []
    elif at == "after_created":
        assert len(seen) == 1
    else:
        assert len(seen) > 2
    if at == "after_delta" and leg == "messages":
        assert names[-1] == "message_delta"
    assert simulator.received[-1].finished == "cut"


def test_a_stream_is_reset_or_closed_in_the_middle(simulator):
    simulator.play("reset")
    received, end = raw_answer(simulator)
    assert end == "reset"
    assert b"You said" in received
    simulator.clear()
    simulator.play("cut", how="fin")
    received, end = raw_answer(simulator)
    assert end == "fin"
    assert not received.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(("name", "end"), [("reset_before", "reset"), ("close_before", "fin")])
def test_the_connection_ends_before_any_answer(simulator, name, end):
    simulator.play(name)
    assert raw_answer(simulator) == (b"", end)


def test_garbage_is_no_http(simulator, copilot):
    simulator.play("garbage")
    with pytest.raises(httpx.RemoteProtocolError):
        copilot.chat()


def test_a_pooled_connection_dies_as_it_is_used_again(simulator, copilot):
    simulator.play("stale_connection", times=1)
    assert copilot.chat().status_code == 200
    with pytest.raises(CLOSED_EARLY):
        copilot.chat()
    assert copilot.chat().status_code == 200


def test_a_hanging_answer_is_recorded_when_the_client_leaves(simulator, copilot):
    simulator.play("hang")
    with pytest.raises(httpx.ReadTimeout):
        copilot.http.post("/chat/completions", json=CHAT, headers=copilot.headers(), timeout=0.2)
    assert simulator.closed_within(seconds=1)
    assert simulator.wait_closed(1)
    assert simulator.ledger()["requests"] == []


def test_a_client_that_leaves_a_stream_is_noticed_and_charged_for_what_came(simulator, copilot):
    simulator.play("drip", chunks=1000, delay=0.01)
    with copilot.http.stream(
        "POST", "/chat/completions", json=CHAT, headers=copilot.headers()
    ) as response:
        # Kept in a variable: a generator that is thrown away closes the connection.
        pieces = response.iter_bytes()
        next(pieces)
        assert simulator.open_streams() == 1
    assert simulator.closed_within(seconds=1)
    assert simulator.wait_closed(1)
    (line,) = simulator.ledger()["requests"]
    assert line["outcome"] == "client_closed"
    assert 0 <= line["output"] < 500
    assert line["nano_aiu"] > 0


def test_silence_then_a_burst_and_silence_for_ever(simulator, copilot):
    simulator.play("think", seconds=0.3)
    began = time.monotonic()
    assert "[DONE]" in copilot.chat(stream=True).text
    assert time.monotonic() - began >= 0.3
    simulator.clear()
    simulator.play("stall")
    with pytest.raises(httpx.ReadTimeout):
        copilot.http.post("/chat/completions", json=CHAT, headers=copilot.headers(), timeout=0.3)
    assert simulator.closed_within(1)


def test_paced_words_keep_to_the_clock(simulator, copilot):
    simulator.play("pace", chunks=20, interval=0.01)
    began = time.monotonic()
    text = copilot.chat(stream=True).text
    assert time.monotonic() - began >= 0.2
    assert "word20" in text


def test_lines_may_be_written_in_every_legal_way(simulator):
    def body(name, **args):
        simulator.clear()
        simulator.play(name, **args)
        return raw_answer(simulator)[0].partition(b"\r\n\r\n")[2]

    assert b"data: [DONE]\r\n\r\n" in body("crlf")
    assert b"\ndata:[DONE]\n\n" in body("no_blank")
    commented = body("comments")
    assert b": keep-alive\nid: 7\nretry: 3000\ndata: " in commented
    assert b'data: {"choices":[]' in body("split_data_lines")
    assert b"\xef\xbb\xbfdata:" in body("byte_order_mark")


def test_bytes_are_split_inside_characters(simulator):
    ask = {
        "model": "gpt-5-mini",
        "messages": [{"role": "user", "content": "é🙂 [[split size=1]]"}],
        "stream": True,
    }
    received, _ = raw_answer(simulator, ask)
    assert b"1\r\n\xf0\r\n1\r\n\x9f\r\n" in received


def test_odd_characters_arrive_unescaped_and_invalid_bytes_too(simulator, copilot):
    text = copilot.chat("[[unicode]]", stream=True).content
    assert "two\u2028".encode()[-3:] in text
    assert b"\xff\xfe\xc3" in copilot.chat("hi [[invalid_utf8]]", stream=True).content
    with pytest.raises(UnicodeDecodeError):
        copilot.chat("hi [[invalid_utf8]]", stream=True).content.decode()


def test_large_and_endless_lines(simulator, copilot):
    answer = copilot.chat("[[huge_line megabytes=1.5]]", stream=True)
    assert max(len(line) for line in answer.content.split(b"\n")) > 1.5 * 1024 * 1024
    assert len(copilot.chat("[[endless_line megabytes=2]]", stream=True).content) > 2 * 1024 * 1024
    simulator.play("endless_line")
    with copilot.http.stream(
        "POST", "/chat/completions", json=CHAT, headers=copilot.headers()
    ) as response:
        size = 0
        for piece in response.iter_raw():
            size += len(piece)
            if size > 8 * 1024 * 1024:
                break
    assert simulator.closed_within(1)


def test_compressed_answers_and_streams(simulator, copilot):
    simulator.play("gzip")
    streamed = copilot.chat(stream=True)
    assert streamed.headers["content-encoding"] == "gzip"
    assert "[DONE]" in streamed.text
    whole = copilot.chat()
    assert whole.headers["content-encoding"] == "gzip"
    assert whole.json()["choices"]
    received, _ = raw_answer(simulator, CHAT | {"stream": False})
    assert b"You said" in gzip.decompress(received.partition(b"\r\n\r\n")[2])


def test_informational_answers_come_first(simulator, copilot):
    simulator.play("early_hints")
    received, _ = raw_answer(simulator)
    assert received.startswith(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints")
    assert copilot.chat().status_code == 200


def test_a_body_may_be_shorter_than_its_length_or_stop(simulator, copilot):
    simulator.play("short_body")
    with pytest.raises(httpx.RemoteProtocolError):
        copilot.chat()
    simulator.clear()
    simulator.play("silent_body")
    with pytest.raises(httpx.ReadTimeout):
        copilot.http.post(
            "/chat/completions",
            json=CHAT | {"stream": False},
            headers=copilot.headers(),
            timeout=0.3,
        )


def test_a_stream_is_cut_after_any_number_of_bytes(simulator, copilot):
    simulator.play("cut_after_bytes", n=333)
    assert len(copilot.chat(stream=True).content) == 333


def test_json_for_a_stream_and_a_stream_for_json(simulator, copilot):
    simulator.play("swap")
    assert copilot.chat(stream=True).json()["choices"]
    assert copilot.chat().text.startswith("data: ")


def test_two_hundred_is_not_always_success(copilot):
    assert "<html>" in copilot.chat("[[html_200]]", stream=True).text
    assert copilot.chat("[[empty_200]]").content == b""
    assert copilot.chat("[[error_in_200]]").json()["error"]["code"] == "rate_limited"
    with pytest.raises(json.JSONDecodeError):
        copilot.chat("[[broken_json_200]]").json()


def test_ends_may_be_missing_doubled_or_followed_by_text(copilot):
    assert "[DONE]" not in copilot.chat("x [[no_done]]", stream=True).text
    doubled = copilot.chat("x [[double_done]]", stream=True).text
    assert doubled.count("[DONE]") == 3
    assert doubled.count('"finish_reason":"stop"') == 2
    late = copilot.chat("x [[late_text]]", stream=True).text
    assert late.index("[DONE]") < late.rindex("You s")
    assert "[DONE]" in copilot.messages("x [[double_done]]", stream=True).text


def test_errors_inside_a_stream_fit_their_leg(events, copilot):
    chat = events(copilot.chat("x [[error_event]]", stream=True))
    assert chat[-1].data == {"error": {"message": "Overloaded", "code": "overloaded_error"}}
    messages = events(copilot.messages("x [[error_event]]", stream=True))
    assert messages[-1].name == "error"
    assert messages[-1].data["error"]["type"] == "overloaded_error"
    responses = events(copilot.responses("x [[error_event]]", stream=True))
    assert responses[-1].data["code"] == "overloaded_error"
    nested = events(copilot.responses("x [[nested_error_event]]", stream=True))
    assert nested[-1].data["error"]["code"] == "service_unavailable"
    failed = events(copilot.responses("x [[finish failed]]", stream=True))
    assert failed[-1].name == "response.failed"
    assert "finish_reason" in copilot.chat("x [[finish error]]", stream=True).text


def test_a_line_may_be_broken(copilot):
    lines = copilot.chat("x [[broken_line]]", stream=True).text.split("\n\n")
    broken = [line for line in lines if line.startswith("data: {") and not line.endswith("}")]
    assert len(broken) == 1


def test_usage_may_be_missing_or_absurd(copilot):
    assert "usage" not in copilot.chat("x [[no_usage]]").json()
    assert "usage" not in copilot.messages("x [[no_usage]]").json()
    assert "usage" not in copilot.responses("x [[no_usage]]").json()
    assert copilot.chat("x [[odd_usage]]").json()["usage"]["prompt_tokens"] == -5
    assert copilot.messages("x [[odd_usage huge]]").json()["usage"]["input_tokens"] == 10**15
    assert copilot.chat("x [[odd_usage text]]").json()["usage"]["total_tokens"] == "many"


@pytest.mark.parametrize("kind", ["empty", "null", "missing", "null_delta", "null_content"])
def test_choices_may_be_odd(copilot, events, kind):
    seen = events(copilot.chat(f"x [[odd_choices {kind}]]", stream=True))
    text = "".join(
        ((choice.get("delta") or {}).get("content") or "")
        for event in seen
        if event.data
        for choice in event.data.get("choices") or []
    )
    assert text == "You said: x"
    assert copilot.chat(f"x [[odd_choices {kind}]]").status_code == 200


def test_parallel_calls_interleave_with_gaps(copilot, events):
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
        for name in ("a", "b")
    ]
    ask = 'call a {"x": "11111111"} call b {"y": "22222222"} [[interleaved]]'
    seen = events(copilot.chat(ask, tools=tools, stream=True))
    calls = [
        call
        for event in seen
        if event.data and event.data["choices"]
        for call in event.data["choices"][0]["delta"].get("tool_calls") or []
    ]
    order = [call["index"] for call in calls]
    assert set(order) == {0, 3}
    assert order != sorted(order)
    for index, wanted in ((0, {"x": "11111111"}), (3, {"y": "22222222"})):
        pieces = [call["function"]["arguments"] for call in calls if call["index"] == index]
        assert json.loads("".join(pieces)) == wanted


def test_error_bodies_may_be_huge_or_quote_the_bearer(copilot):
    huge = copilot.chat("[[huge_error megabytes=3]]")
    assert len(huge.content) > 3 * 1024 * 1024
    assert copilot.bearer in copilot.chat("[[leaky_error]]").text
    assert "tid=" in copilot.messages("[[leaky_event]]", stream=True).text


def test_redirects_and_headers_that_must_not_pass(copilot):
    moved = copilot.chat("[[redirect]]")
    assert (moved.status_code, moved.headers["location"]) == (307, "https://example.com/stolen")
    sticky = copilot.chat("x [[cookies]]")
    assert "set-cookie" in sticky.headers
    assert sticky.headers["access-control-allow-origin"] == "*"


def test_a_host_may_be_down_for_a_while(simulator, copilot):
    simulator.refuse_connections()
    with pytest.raises(httpx.ConnectError):
        httpx.get(simulator.url, trust_env=False)
    simulator.accept_connections()
    assert copilot.chat().status_code == 200


def test_identity_faults_reach_only_identity(simulator, copilot):
    token = "/copilot_internal/v2/token"
    for name, check in (
        ("rest_error", lambda answer: answer.status_code == 500),
        ("html_200", lambda answer: "<html>" in answer.text),
        ("json_200", lambda answer: answer.json() == {}),
    ):
        simulator.play(name, times=1, match={"path": token})
        assert copilot.chat().status_code == 200
        assert check(copilot.rest(token))
    simulator.play("rest_limit_429", match={"path": "/models"}, times=1)
    assert copilot.get("/models").status_code == 429
    assert copilot.get("/models").status_code == 200


@pytest.mark.parametrize("name", sorted(set(SCENARIOS) - set(CATALOGUE)))
@pytest.mark.parametrize("leg", ["chat", "responses", "messages"])
@pytest.mark.parametrize("stream", [True, False])
def test_no_scenario_breaks_the_simulator(simulator, copilot, name, leg, stream):
    simulator.play(name)
    path = {"chat": "/chat/completions", "messages": "/v1/messages"}.get(leg, "/responses")
    body = {
        "chat": CHAT,
        "responses": {"model": "gpt-5.5", "input": "hello"},
        "messages": {
            "model": "claude-opus-5",
            "max_tokens": 500,
            "messages": [{"role": "user", "content": "hello"}],
        },
    }[leg] | {"stream": stream}
    try:
        with copilot.http.stream(
            "POST", path, json=body, headers=copilot.headers(), timeout=0.1
        ) as response:
            for count, _ in enumerate(response.iter_raw()):
                if count > 4:
                    break
    except httpx.HTTPError:
        pass
    simulator.clear()
    assert simulator.wait_closed(2)
    assert copilot.chat().json()["choices"][0]["message"]["content"] == "You said: hello"
