"""Bodies, heads and paths that nobody should send: rows I of the faults, at every endpoint."""

import gzip
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy import counting
from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.asking import (
    ENDPOINTS,
    Endpoint,
    answers_in,
    converse,
    error_message,
    first_answer,
)

every_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
every_generation = pytest.mark.parametrize(
    "endpoint",
    [e for e in ENDPOINTS.values() if e.is_generation],
    ids=[e.name for e in ENDPOINTS.values() if e.is_generation],
)
JSON = {"content-type": "application/json"}


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as opened:
        yield opened


def calls(simulator: SimulatorThread) -> int:
    """How often Copilot was asked for anything but tokens and lists."""
    return len(
        [r for r in simulator.received if r.method == "POST" and "copilot_internal" not in r.path]
    )


BROKEN = {
    "broken": b'{"model": "gpt-4.1", ',
    "empty": b"",
    "blank": b"  \n ",
    "array": b"[]",
    "text": b'"hello"',
    "number": b"17",
    "null": b"null",
    "true": b"true",
    "not JSON": b"model=gpt-4.1&messages=hello",
    "two": b"{}{}",
    "single quotes": b"{'model': 'gpt-4.1'}",
    "levels": b"[" * 100_000,
    "levels of objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "invalid UTF-8": b'{"model": "gpt-4.1\xff\xfe"}',
    "UTF-16": '{"model": "gpt-4.1"}'.encode("utf-16"),
    "surrogate bytes": b'{"model": "\xed\xa0\x80"}',
    "NaN": b'{"model": "gpt-4.1", "temperature": NaN}',
    "Infinity": b'{"model": "gpt-4.1", "temperature": -Infinity}',
    "control": b'{"model": "gpt\n4.1"}',
}


@every_endpoint
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_i01_i02_i03_i06_i07_i08_i17_what_is_no_json_object_is_a_400(
    client: httpx.Client, simulator: SimulatorThread, endpoint: Endpoint, body: bytes
) -> None:
    answer = client.post(endpoint.path, content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.headers["x-should-retry"] == "false"
    error_message(endpoint, answer)
    assert calls(simulator) == 0


@every_endpoint
def test_i04_a_missing_field_is_named(
    client: httpx.Client, simulator: SimulatorThread, endpoint: Endpoint
) -> None:
    for field in ("model", endpoint.needs):
        body = {k: v for k, v in endpoint.good.items() if k != field}
        answer = client.post(endpoint.path, json=body)
        assert answer.status_code == 400
        assert field in error_message(endpoint, answer)
    assert calls(simulator) == 0


@every_endpoint
@pytest.mark.parametrize("value", [None, 7, True, {"a": 1}, 1.5], ids=repr)
def test_i05_a_field_of_the_wrong_type_is_named(
    client: httpx.Client, simulator: SimulatorThread, endpoint: Endpoint, value: Any
) -> None:
    for field in ("model", endpoint.needs):
        answer = client.post(endpoint.path, json={**endpoint.good, field: value})
        assert answer.status_code == 400
        assert field in error_message(endpoint, answer)
    assert calls(simulator) == 0


WRONG_MESSAGES: dict[str, Any] = {
    "text": "hello",
    "of numbers": [1],
    "of nulls": [None],
    "without role": [{"content": "hello"}],
    "role of no kind": [{"role": "king", "content": "hello"}],
    "role a number": [{"role": 3, "content": "hello"}],
    "content a number": [{"role": "user", "content": 3}],
    "content of numbers": [{"role": "user", "content": [3]}],
    "block without type": [{"role": "user", "content": [{"text": "hello"}]}],
    "text a list": [{"role": "user", "content": [{"type": "text", "text": ["hello"]}]}],
}


@pytest.mark.parametrize(
    "endpoint",
    [ENDPOINTS[n] for n in ("chat", "messages", "messages-translated", "count_tokens")],
    ids=lambda e: e.name,
)
@pytest.mark.parametrize("messages", WRONG_MESSAGES.values(), ids=WRONG_MESSAGES)
def test_i05_i35_broken_messages_and_blocks_are_a_400_that_says_where(
    client: httpx.Client, simulator: SimulatorThread, endpoint: Endpoint, messages: Any
) -> None:
    answer = client.post(endpoint.path, json={**endpoint.good, "messages": messages})
    assert answer.status_code == 400
    assert "messages" in error_message(endpoint, answer)
    assert calls(simulator) == 0


@pytest.mark.parametrize(
    ("name", "more", "field"),
    [
        ("chat", {"stream": "yes"}, "stream"),
        ("messages", {"stream": 1}, "stream"),
        ("messages-translated", {"max_tokens": "many"}, "max_tokens"),
        ("messages", {"tools": 3}, "tools"),
        ("messages-translated", {"tools": "all"}, "tools"),
        ("messages-translated", {"tools": [1]}, "tools"),
        ("messages-translated", {"system": 5}, "system"),
        ("messages-translated", {"temperature": "hot"}, "temperature"),
        ("messages-translated", {"stop_sequences": "x"}, "stop_sequences"),
        ("responses", {"stream": "no"}, "stream"),
        ("responses", {"context_management": 3}, "context_management"),
        ("embeddings", {"dimensions": "x"}, "dimensions"),
        ("embeddings", {"encoding_format": "xml"}, "encoding_format"),
    ],
)
def test_i05_wrong_options_are_named(
    client: httpx.Client,
    simulator: SimulatorThread,
    name: str,
    more: dict[str, Any],
    field: str,
) -> None:
    endpoint = ENDPOINTS[name]
    answer = client.post(endpoint.path, json={**endpoint.good, **more})
    assert answer.status_code == 400
    assert field in error_message(endpoint, answer)
    assert calls(simulator) == 0


@every_generation
@pytest.mark.parametrize("depth", [120, 250, 600, 1000])
def test_i06_a_deep_schema_is_served_or_refused_and_never_a_500(
    client: httpx.Client, endpoint: Endpoint, depth: int
) -> None:
    schema = "SCHEMA"
    match endpoint.name:
        case "chat":
            tool: dict[str, Any] = {
                "type": "function",
                "function": {"name": "deep", "parameters": schema},
            }
        case "responses":
            tool = {"type": "function", "name": "deep", "parameters": schema}
        case _:
            tool = {"name": "deep", "input_schema": schema}
    # Python's own encoder does not go so deep.
    half = depth // 2
    deep = '{"type":"object","properties":{"a":' * half + '{"type":"string"}' + "}}" * half
    body = json.dumps({**endpoint.good, "tools": [tool]}).replace('"SCHEMA"', deep)
    answer = client.post(endpoint.path, content=body, headers=JSON)
    if depth < 200:
        assert answer.status_code == 200
    else:
        assert answer.status_code == 400
        assert "levels" in error_message(endpoint, answer)


@every_endpoint
def test_i09_a_foreign_content_type_is_served_when_it_is_json_and_a_415_else(
    client: httpx.Client, endpoint: Endpoint
) -> None:
    body = json.dumps(endpoint.good).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/octet-stream", ""):
        answer = client.post(endpoint.path, content=body, headers={"content-type": kind})
        assert answer.status_code == 200
    answer = client.post(
        endpoint.path,
        content=b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n--x--',
        headers={"content-type": "multipart/form-data; boundary=x"},
    )
    assert answer.status_code == 415
    error_message(endpoint, answer)


@every_endpoint
def test_i37_a_compressed_body_is_refused_without_unpacking(
    client: httpx.Client, simulator: SimulatorThread, endpoint: Endpoint
) -> None:
    bomb = gzip.compress(json.dumps(endpoint.good).encode() + b" " * 50_000_000)
    for coding in ("gzip", "br", "zstd", "deflate", "GZIP", "identity, gzip"):
        headers = {**JSON, "content-encoding": coding}
        answer = client.post(endpoint.path, content=bomb, headers=headers)
        assert answer.status_code == 415
        error_message(endpoint, answer)
    assert calls(simulator) == 0
    plain = client.post(
        endpoint.path,
        content=json.dumps(endpoint.good),
        headers={**JSON, "content-encoding": "identity"},
    )
    assert plain.status_code == 200


def head(endpoint: Endpoint, *lines: str) -> bytes:
    text = f"POST {endpoint.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return (text + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode("latin1")


@every_endpoint
def test_i10_a_body_that_says_it_is_too_long_is_refused_before_it_is_read(
    gateway: Gateway, endpoint: Endpoint
) -> None:
    raw = converse(gateway, head(endpoint, f"Content-Length: {33 * 2**20}"))
    answer = first_answer(raw)
    assert answer.status == 413
    assert "bytes" in error_message(endpoint, answer)
    if endpoint.is_anthropic:
        assert answer.json()["error"]["type"] == "request_too_large"


def resident_kib(gateway: Gateway) -> int:
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_i11_an_endless_chunked_body_is_refused_at_the_limit_with_bounded_memory(
    gateway: Gateway, client: httpx.Client, simulator: SimulatorThread
) -> None:
    before = resident_kib(gateway)
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        yield b'{"model": "'
        for _ in range(200):
            sent += 2**20
            yield b"x" * 2**20

    answer = client.post("/v1/chat/completions", content=body(), headers=JSON)
    assert answer.status_code == 413
    assert resident_kib(gateway) - before < 100 * 1024
    assert calls(simulator) == 0
    assert client.get("/healthz").status_code == 200


@every_endpoint
def test_i12_a_chunked_upload_works(client: httpx.Client, endpoint: Endpoint) -> None:
    raw = json.dumps(endpoint.good).encode()

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(raw), 7):
            yield raw[start : start + 7]

    assert client.post(endpoint.path, content=pieces(), headers=JSON).status_code == 200


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"5\r\nhellohello\r\n0\r\n\r\n",
     b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n"],
)  # fmt: skip
def test_i13_bad_chunks_are_a_400_or_the_end(
    gateway: Gateway, simulator: SimulatorThread, chunks: bytes
) -> None:
    raw = converse(gateway, head(ENDPOINTS["chat"], "Transfer-Encoding: chunked") + chunks)
    assert set(answers_in(raw)) <= {400}
    assert calls(simulator) == 0


def smuggled() -> bytes:
    body = json.dumps(ENDPOINTS["chat"].good | {"model": "gpt-4o"}).encode()
    return head(ENDPOINTS["chat"], f"Content-Length: {len(body)}") + body


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 4"),
        ("Content-Length: 4", "Content-Length: 5"),
        ("Content-Length: 4, 5",),
        ("Content-Length: four",),
        ("Content-Length: -1",),
        ("Content-Length: +4",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: gzip, chunked", "Content-Length: 4"),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding: xchunked",),
    ],
    ids=repr,
)
def test_i14_i15_two_lengths_never_let_a_hidden_request_run(
    gateway: Gateway, simulator: SimulatorThread, lines: tuple[str, ...]
) -> None:
    raw = converse(gateway, head(ENDPOINTS["chat"], *lines) + b"0\r\n\r\n" + smuggled())
    assert 200 not in answers_in(raw)
    assert all(400 <= status < 500 or status == 501 for status in answers_in(raw))
    assert calls(simulator) == 0


@every_generation
def test_i16_of_duplicate_keys_the_last_one_counts_for_all(
    client: httpx.Client, simulator: SimulatorThread, endpoint: Endpoint
) -> None:
    good = json.dumps(endpoint.good)
    twice = '{"model": "no-such-model", ' + good[1:]
    assert client.post(endpoint.path, content=twice, headers=JSON).status_code == 200
    sent = simulator.generations[-1].body
    assert json.loads(sent)["model"] == endpoint.good["model"]
    assert b"no-such-model" not in sent


@every_endpoint
@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 5000, "1" + "0" * 400 + ".5"])
def test_i18_numbers_without_reason_are_refused_or_passed_but_not_changed(
    client: httpx.Client, simulator: SimulatorThread, endpoint: Endpoint, number: str
) -> None:
    body = json.dumps(endpoint.good)[:-1] + f', "metadata": {{"n": {number}}}}}'
    answer = client.post(endpoint.path, content=body, headers=JSON)
    assert answer.status_code == 400
    error_message(endpoint, answer)
    assert calls(simulator) == 0


@every_generation
def test_i19_a_nul_is_served_or_refused_and_recorded(
    client: httpx.Client, gateway: Gateway, endpoint: Endpoint
) -> None:
    key = endpoint.needs
    text: Any = "he\0llo" if key == "input" else [{"role": "user", "content": "he\0llo"}]
    answer = client.post(
        endpoint.path,
        json={**endpoint.good, key: text, "user": "a\0b"} if endpoint.name == "chat"
        else {**endpoint.good, key: text},
    )  # fmt: skip
    assert answer.status_code in (200, 400)
    identity = answer.headers["x-request-id"].removeprefix("req_")
    assert gateway.wait_for_records(1, "id = ?", identity)


@every_endpoint
def test_i20_lone_surrogates_are_a_400(
    client: httpx.Client, simulator: SimulatorThread, endpoint: Endpoint
) -> None:
    body = json.dumps(endpoint.good).replace("hello", "he\\ud800llo")
    answer = client.post(endpoint.path, content=body, headers=JSON)
    assert answer.status_code in (200, 400)
    error_message(endpoint, answer)


HOSTILE_MODELS = [
    "",
    " ",
    "no-such-model",
    "x" * 10_000,
    "../../etc/passwd",
    "gpt-4.1\r\nX-Injected: yes",
    "gpt-4.1\0",
    "<script>alert(1)</script>",
    "'; DROP TABLE usage_usagerecord; --",
    "\u202egpt-4.1",
    "{{ 7*7 }}",
    "%s%s%n",
    "🙂" * 100,
]


@every_endpoint
@pytest.mark.parametrize("model", HOSTILE_MODELS, ids=lambda m: ascii(m[:12]))
def test_i21_i22_i27_a_model_of_no_kind_is_refused_without_an_upstream_call(
    client: httpx.Client, simulator: SimulatorThread, endpoint: Endpoint, model: str
) -> None:
    answer = client.post(endpoint.path, json={**endpoint.good, "model": model})
    assert answer.status_code in (400, 404)
    message = error_message(endpoint, answer)
    assert "x" * 81 not in message
    assert "\n" not in message
    assert "x-injected" not in answer.headers
    assert calls(simulator) == 0


@pytest.mark.parametrize(
    "line",
    [
        "X-Odd: " + "a" * 100_000,
        "X-Odd: \x00",
        "X-Odd: a\x0bb",
        "Authorization: Bearer " + "k" * 60_000,
        "X-Request-Id: " + "\xff" * 50,
        "User-Agent: " + "\x1b[2J" * 10,
        "Cookie: " + "a=b; " * 2000,
        "anthropic-beta: " + ",".join(["made-up-2020-01-01"] * 500),
        "x-initiator: root",
        "Accept: \xe9\xff",
        "session-id: " + "\xff" * 300,
        ": no name",
    ],
    ids=lambda line: ascii(line[:24]),
)
@pytest.mark.parametrize("name", ["chat", "messages"])
def test_i23_hostile_headers_are_never_a_500_or_a_hang(
    gateway: Gateway, name: str, line: str
) -> None:
    endpoint = ENDPOINTS[name]
    body = json.dumps(endpoint.good).encode()
    began = time.monotonic()
    raw = converse(gateway, head(endpoint, line, f"Content-Length: {len(body)}") + body)
    statuses = answers_in(raw)
    assert all(status == 200 or 400 <= status < 500 for status in statuses)
    assert time.monotonic() - began < 8


def test_i23_a_thousand_headers_are_no_500(gateway: Gateway) -> None:
    endpoint = ENDPOINTS["chat"]
    body = json.dumps(endpoint.good).encode()
    lines = [f"X-Odd-{n}: {n}" for n in range(1000)]
    raw = converse(gateway, head(endpoint, *lines, f"Content-Length: {len(body)}") + body)
    assert set(answers_in(raw)) <= {200, 400, 431}


@every_endpoint
def test_i24_the_clients_own_headers_never_go_up(
    keyed_gateway: tuple[Gateway, str], simulator: SimulatorThread, endpoint: Endpoint
) -> None:
    gateway, key = keyed_gateway
    mine = {
        "cookie": "session=canary-cookie",
        "authorization": f"Bearer {key}",
        "x-api-key": key,
        "forwarded": "for=canary-forwarded",
        "x-forwarded-for": "canary-xff",
        "x-real-ip": "canary-ip",
        "via": "canary-via",
        "referer": "http://canary-referer/",
        "copilot-integration-id": "canary-integration",
        "copilot-vision-request": "canary-vision",
        "editor-version": "canary-editor/1",
        "editor-plugin-version": "canary-plugin/1",
        "editor-device-id": "canary-device",
        "vscode-sessionid": "canary-session",
        "vscode-machineid": "canary-machine",
        "openai-organization": "canary-organization",
        "openai-intent": "canary-intent",
        "x-github-api-version": "canary-version",
        "x-interaction-id": "canary-interaction",
        "user-agent": "canary-agent/1.0",
        "x-stainless-lang": "canary-lang",
        "traceparent": "00-canary",
        "x-request-id": "canary-request",
    }
    with gateway.client() as client:
        assert client.post(endpoint.path, json=endpoint.good, headers=mine).status_code == 200
    sent = [r for r in simulator.received if r.method == "POST"]
    assert sent
    for received in sent:
        for name, value in received.headers.items():
            assert "canary" not in value, name
            assert key not in value, name


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded"])
def test_i24_what_came_through_a_proxy_is_not_this_machine(
    client: httpx.Client, simulator: SimulatorThread, header: str
) -> None:
    # A proxy on this machine passes on requests of strangers: no keyless use through it.
    chat = ENDPOINTS["chat"]
    answer = client.post(chat.path, json=chat.good, headers={header: "for=203.0.113.7"})
    assert answer.status_code == 401
    assert not simulator.generations


@every_endpoint
def test_i25_the_clients_request_id_is_taken_only_when_it_is_harmless(
    gateway: Gateway, client: httpx.Client, endpoint: Endpoint
) -> None:
    last = httpx.Response(200)

    def answered(sent: str) -> str:
        nonlocal last
        last = client.post(endpoint.path, json=endpoint.good, headers={"x-request-id": sent})
        assert last.status_code == 200
        return last.headers["x-request-id"]

    for bad in ("a" * 65, "a b", "<b>", "a;b", "", "req_;drop"):
        given = answered(bad)
        assert given.startswith("req_")
        assert given != bad
    for good in ("a" * 64, "9", "my-Request_1", "8d7f1c3e-8f0e-4a57-9d8e-2f1f3f6e9b11"):
        # It may come twice: the record has an id of the gateway's own.
        own = set()
        for _ in range(2):
            assert answered(good) == good
            own.add(last.headers["x-gateway-request-id"])
        assert len(own) == 2
        # Counting is free: it has no record.
        for one in own if endpoint.name != "count_tokens" else ():
            assert gateway.wait_for_records(1, "id = ?", one.removeprefix("req_"))


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/v1/chat",
        "/v1/chat/completions/",
        "/v1/chat/completions/x",
        "/v1//chat/completions",
        "/v1/../manage.py",
        "/v1/%2e%2e/%2e%2e/etc/passwd",
        "/v1/embeddings/../../manage.py",
        "/v1/chat/completions%00",
        "/v1/%ff%fe",
        "/v1/completions",
        "/v1/images/generations",
        "/v1/audio/speech",
        "/v1/files",
        "/v1/.env",
        "/v1/" + "a" * 5000,
        "/messages/nothing",
        "/v1/messages/batches",
        "/v1beta/nothing",
    ],
    ids=lambda p: p[:30],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_i26_unknown_paths_are_a_json_404(gateway: Gateway, method: str, path: str) -> None:
    request = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{{}}"
    answer = first_answer(converse(gateway, request.encode("latin1")))
    assert answer.status in (400, 404)
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert error["message"]
    assert len(error["message"]) <= 500
    for inside in (b"root:", b"DJANGO", b"<html", b"Traceback", b"copilot_site"):
        assert inside not in answer.body


@pytest.mark.parametrize(
    ("endpoint", "method"),
    [
        (endpoint, method)
        for endpoint in ENDPOINTS.values()
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
        # This one has an answer of its own, below.
        if (endpoint.name, method) != ("responses", "GET")
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_c13_a_wrong_method_is_a_405_that_says_which_is_right(
    gateway: Gateway, client: httpx.Client, endpoint: Endpoint, method: str
) -> None:
    answer = client.request(method, endpoint.path, headers={"x-canary": "canary"})
    assert answer.status_code == 405
    assert "POST" in answer.headers["allow"]
    error_message(endpoint, answer)
    assert "canary" not in answer.text


def test_codex_asking_for_a_websocket_is_told_to_post(client: httpx.Client) -> None:
    answer = client.get("/v1/responses")
    assert answer.status_code == 426
    assert "POST" in answer.json()["error"]["message"]


def test_the_root_says_that_somebody_is_there(client: httpx.Client) -> None:
    assert client.get("/").status_code == 200
    probe = client.head("/")
    assert probe.status_code == 200
    assert probe.content == b""
    answer = client.get("/", headers={"accept": "text/html"})
    assert answer.status_code in (301, 302)
    assert answer.headers["location"] == "/dashboard/"


@every_generation
def test_i29_addresses_and_keys_in_the_body_have_no_effect(
    client: httpx.Client, simulator: SimulatorThread, endpoint: Endpoint
) -> None:
    hostile = {
        "api_base": "http://127.0.0.1:1/",
        "base_url": "http://127.0.0.1:1/",
        "api_key": "canary-body-key",
        "extra_headers": {"x-canary": "canary-header"},
        "extra_body": {"model": "gpt-4o"},
        "custom_llm_provider": "openai",
    }
    answer = client.post(endpoint.path, json={**endpoint.good, **hostile})
    assert answer.status_code in (200, 400)
    for received in simulator.generations:
        assert "x-canary" not in received.headers
        assert b"canary-body-key" not in received.body
        assert json.loads(received.body)["model"] == endpoint.good["model"]


@pytest.mark.parametrize("name", ["chat", "messages-translated", "responses"])
@pytest.mark.parametrize("scheme", ["http", "file", "gopher"])
def test_i30_image_addresses_are_never_fetched_by_us(
    gateway: Gateway, client: httpx.Client, simulator: SimulatorThread, name: str, scheme: str
) -> None:
    endpoint = ENDPOINTS[name]
    where = f"{scheme}://127.0.0.1:{simulator.port}/canary.png"
    if scheme == "file":
        where = "file:///etc/passwd"
    image: dict[str, Any]
    match name:
        case "chat":
            image = {"type": "image_url", "image_url": {"url": where}}
            body = {"messages": [{"role": "user", "content": [image]}]}
        case "responses":
            image = {"type": "input_image", "image_url": where}
            body = {"input": [{"role": "user", "content": [image]}]}
        case _:
            image = {"type": "image", "source": {"type": "url", "url": where}}
            body = {"messages": [{"role": "user", "content": [image]}]}
    answer = client.post(endpoint.path, json={**endpoint.good, **body})
    assert answer.status_code in (200, 400)
    assert "root:" not in answer.text
    assert not simulator.received_on("/canary.png")


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("", "input"),
        ([], "input"),
        (["a", ""], "input"),
        ([1, 2, 3], "input"),
        ([[1, 2], [3]], "input"),
        (["a", 1], "input"),
        (["a"] * 100_000, "input"),
        ({"text": "a"}, "input"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_i31_i38_embeddings_of_nothing_tokens_or_too_much_are_a_400(
    client: httpx.Client, simulator: SimulatorThread, value: Any, field: str
) -> None:
    endpoint = ENDPOINTS["embeddings"]
    answer = client.post(endpoint.path, json={**endpoint.good, "input": value})
    assert answer.status_code == 400
    assert field in error_message(endpoint, answer)
    assert calls(simulator) == 0


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("chat", {"n": 10**9}),
        ("chat", {"n": -1}),
        ("chat", {"max_tokens": -5}),
        ("messages", {"max_tokens": 0}),
        ("messages", {"max_tokens": -1}),
        ("messages-translated", {"max_tokens": 0}),
        ("messages-translated", {"max_tokens": -1}),
    ],
    ids=repr,
)
def test_i31_absurd_counts_are_a_400(
    client: httpx.Client, simulator: SimulatorThread, name: str, more: dict[str, Any]
) -> None:
    endpoint = ENDPOINTS[name]
    answer = client.post(endpoint.path, json={**endpoint.good, **more})
    assert answer.status_code == 400
    assert next(iter(more)) in error_message(endpoint, answer)


@pytest.mark.parametrize(
    ("name", "model"),
    [("chat", "gpt-4.1"), ("messages", "claude-sonnet-4.6"), ("messages", "gpt-5.5")],
)
def test_i32_four_megabytes_in_five_thousand_messages_hold_nobody_up(
    gateway: Gateway, client: httpx.Client, simulator: SimulatorThread, name: str, model: str
) -> None:
    endpoint = ENDPOINTS[name]
    turn = ["user", "assistant"]
    messages = [{"role": turn[n % 2], "content": f"{n} " + "word " * 160} for n in range(4999)]
    body = json.dumps({**endpoint.good, "model": model, "messages": messages}).encode()
    assert len(body) > 4_000_000

    waits: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        big = pool.submit(client.post, endpoint.path, content=body, headers=JSON)
        with gateway.client() as other:
            while not big.done():
                began = time.monotonic()
                assert other.post("/v1/chat/completions", json=ENDPOINTS["chat"].good).is_success
                waits.append(time.monotonic() - began)
        answer = big.result()
    assert answer.status_code in (200, 400, 413), answer.text
    assert simulator.generations
    assert max(waits, default=0) < 1.5


@pytest.mark.parametrize("filler", ["a" * 300_000, " " * 1_200_000, "\n" * 300_000, "🙂" * 50_000])
def test_i33_counting_pathological_text_is_quick_and_holds_nobody_up(
    gateway: Gateway, client: httpx.Client, filler: str
) -> None:
    body = {"model": "gpt-4.1", "messages": [{"role": "user", "content": filler}]}
    waits: list[float] = []
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        counted = pool.submit(client.post, "/v1/messages/count_tokens", json=body)
        with gateway.client() as other:
            while not counted.done():
                asked = time.monotonic()
                assert other.get("/healthz").is_success
                waits.append(time.monotonic() - asked)
        answer = counted.result()
    # What grows with the square of the text takes minutes.
    assert time.monotonic() - began < 30
    assert answer.status_code == 200
    assert answer.json()["input_tokens"] > 1
    assert max(waits, default=0) < 1.5


def test_i28_counting_refuses_what_it_cannot_count(
    client: httpx.Client, simulator: SimulatorThread
) -> None:
    endpoint = ENDPOINTS["count_tokens"]
    for model, messages, status in (
        ("claude-sonnet-4.6", [], 400),
        ("claude-sonnet-4.6", "hello", 400),
        ("claude-sonnet-4.6", [{"role": "user"}], 400),
        ("gpt-4.1", [{"role": "king", "content": "hello"}], 400),
        ("no-such-model", [{"role": "user", "content": "hello"}], 404),
        ("", [{"role": "user", "content": "hello"}], 400),
    ):
        answer = client.post(endpoint.path, json={"model": model, "messages": messages})
        assert answer.status_code == status, (model, messages, answer.text)
        assert error_message(endpoint, answer)
    assert calls(simulator) == 0
    answer = client.post(endpoint.path, content=b"{", headers=JSON)
    assert answer.status_code == 400
    # Tokens are counted without a limit on what may be answered.
    assert client.post(endpoint.path, json=endpoint.good).json()["input_tokens"] > 0


def test_i33_a_tokenizer_that_panics_costs_the_estimate_of_one_piece(tmp_path: Path) -> None:
    class Panic(BaseException):
        """What the tokenizer's Rust code raises."""

    class Panicking:
        def encode(self, text: str, **_: Any) -> list[int]:
            raise Panic

    loaded = counting._encoding
    counting._encoding = Panicking()
    try:
        assert counting._count("a" * 4000, str(tmp_path)) == 1000
    finally:
        counting._encoding = loaded


def test_i34_claude_codes_own_ways_are_served(client: httpx.Client) -> None:
    answer = client.post(
        "/v1/messages?beta=true",
        json={
            **ENDPOINTS["messages"].good,
            "system": [
                {"type": "text", "text": "You are brief.", "cache_control": {"type": "ephemeral"}}
            ],
        },
        headers={"authorization": "Bearer anything", "anthropic-version": "2023-06-01"},
    )
    assert answer.status_code == 200
    assert answer.json()["type"] == "message"


@every_endpoint
def test_i36_a_key_in_the_query_does_not_count(
    keyed_gateway: tuple[Gateway, str], endpoint: Endpoint
) -> None:
    gateway, key = keyed_gateway
    with gateway.client() as client:
        answer = client.post(f"{endpoint.path}?key={key}", json=endpoint.good)
        assert answer.status_code == 401
        assert key not in answer.text
        header = {"authorization": f"Bearer {key}"}
        served = client.post(endpoint.path, json=endpoint.good, headers=header)
        assert served.status_code == 200
        # Google's own clients say it so, on their own paths.
        assert client.get(f"/v1beta/models?key={key}").status_code == 200
    assert key not in gateway.text


@pytest.fixture(scope="module")
def keyed_gateway(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, str]]:
    """A gateway that requires keys, and one key."""
    gateway = Gateway(
        tmp_path_factory.mktemp("keyed"),
        shared_simulator.url,
        ("--github-token", "ghu_octocat", "--require-keys"),
    )
    gateway.wait_signed_in()
    key = gateway.manage("create-key", "tests").stdout.strip()
    yield gateway, key
    gateway.stop()
