"""What the upstream refuses, and what the client hears of it: rows S of the faults."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.conftest import ROUTES, WIRES

every_route = pytest.mark.parametrize(("wire_name", "model"), ROUTES)

# scenario -> status for the client, attempts made, x-should-retry
REFUSALS = {
    "invalid_request_body": (400, 1, "false"),
    "bad_request_empty": (400, 1, "false"),
    "bad_request_text": (400, 1, "false"),
    "overflow_chat": (400, 1, "false"),
    "overflow_messages": (400, 1, "false"),
    "overflow_responses": (400, 1, "false"),
    "forbidden": (403, 2, "false"),
    "forbidden_empty": (403, 2, "false"),
    "not_found_json": (404, 1, "false"),
    "not_found_text": (404, 1, "false"),
    "upload_timeout": (504, 2, None),
    "too_large_json": (413, 1, "false"),
    "too_large_text": (413, 1, "false"),
    "misdirected": (502, 2, None),
    "cyber_policy": (400, 1, "false"),
    "content_filter": (400, 1, "false"),
    "failed_dependency": (502, 1, None),
    "client_version": (502, 1, "false"),
    "teapot": (502, 1, None),
    "cancelled_499": (502, 2, None),
    "error_500_html": (502, 2, None),
    "error_500_json": (502, 2, None),
    "error_502": (502, 2, None),
    "error_503": (503, 2, None),
    "error_504": (504, 2, None),
    "huge_error": (502, 2, None),
    "error_500": (502, 2, None),
    "overloaded_529": (529, 1, None),
}


@pytest.mark.parametrize("scenario", REFUSALS)
@pytest.mark.parametrize(
    ("wire_name", "model"),
    [("chat_completions", "gpt-4.1"), ("messages", "gpt-5.5"), ("messages", "claude-sonnet-4.6")],
)
def test_s01_s05_s06_s07_s08_s09_s10_s15_s16_s17_s18_s21_s24_refusals_have_their_status(
    ask: Any,
    simulator: SimulatorThread,
    last_record: Any,
    wire_name: str,
    model: str,
    scenario: str,
) -> None:
    status, attempts, should_retry = REFUSALS[scenario]
    simulator.play(scenario)
    answer = ask(WIRES[wire_name], model, "hello")

    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers.get("x-should-retry") == should_retry
    error = answer_error(answer.raw)
    assert error["message"]
    assert len(error["message"]) <= 500
    assert "<" not in error["message"]
    if wire_name == "messages":
        assert '"type":"error"' in answer.raw
        assert "request_id" in answer.raw
    assert len(simulator.generations) == attempts
    record = last_record(status=status)
    assert record["outcome"] == ("timeout" if status == 504 else "upstream_error")
    if status == 503:
        assert "retry-after" in answer.headers


def test_s04_a_spent_quota_is_said_once_and_not_asked_again(
    new_gateway: Any, simulator: SimulatorThread
) -> None:
    gateway: Gateway = new_gateway()
    simulator.play("quota_exceeded")
    with gateway.client() as client:
        for number, (wire_name, model) in enumerate(
            [
                ("chat_completions", "gpt-4.1"),
                ("messages", "gpt-5.5"),
                ("messages", "claude-sonnet-4.6"),
            ]
        ):
            wire = WIRES[wire_name]
            spent = client.post(wire.path, json=wire.body("hello", model))
            assert spent.status_code == 402
            assert spent.headers["x-should-retry"] == "false"
            assert len(simulator.generations) == number + 1
            if wire_name == "messages":
                assert spent.json()["error"]["type"] == "billing_error"

            again = client.post(wire.path, json=wire.body("hello", model))
            assert again.status_code == 402
            assert again.headers["x-should-retry"] == "false"
            # A month's credits are new on the first.
            first = (datetime.now(UTC).replace(day=1) + timedelta(days=32)).replace(
                day=1, hour=0, minute=0, second=0
            )
            left_s = (first - datetime.now(UTC)).total_seconds()
            for answer in (spent, again):
                assert left_s - 5 <= int(answer.headers["retry-after"]) <= left_s + 10
            assert len(simulator.generations) == number + 1


def answer_error(raw: str) -> dict[str, Any]:
    import json

    error = json.loads(raw)["error"]
    assert isinstance(error, dict)
    return error


def test_s_context_overflow_reads_as_the_clients_own_vendor_says_it(
    ask: Any, simulator: SimulatorThread
) -> None:
    for scenario in ("overflow_chat", "overflow_messages", "overflow_responses"):
        simulator.clear()
        simulator.play(scenario)
        claude = answer_error(ask(WIRES["messages"], "gpt-5.5", "hello").raw)
        assert claude["message"].startswith("prompt is too long")
        openai = answer_error(ask(WIRES["chat_completions"], "gpt-5.5", "hello").raw)
        assert openai["code"] == "context_length_exceeded"


def test_s02_an_expired_token_is_renewed_and_the_request_repeated(
    new_gateway: Any, simulator: SimulatorThread
) -> None:
    # Another account: the shared gateway's token is not to be revoked under it.
    gateway: Gateway = new_gateway(token="ghu_mona")
    body = WIRES["messages"].body("hello", "gpt-4.1")
    with gateway.client() as client:
        assert client.post("/v1/messages", json=body).status_code == 200
        exchanges = simulator.exchanges("mona")
        simulator.revoke_copilot_tokens("mona")

        assert client.post("/v1/messages", json=body).status_code == 200
    assert simulator.exchanges("mona") == exchanges + 1
    first, second = simulator.generations[-2:]
    assert first.status == 401
    assert first.headers["authorization"] != second.headers["authorization"]


def test_s03_a_second_401_is_not_the_clients_fault(
    new_gateway: Any, simulator: SimulatorThread
) -> None:
    # A gateway of its own: the shared one may have renewed its token within the last minute.
    gateway: Gateway = new_gateway()
    exchanges = simulator.exchanges("octocat")
    simulator.play("token_expired")
    with gateway.client() as client:
        body = WIRES["chat_completions"].body("hello", "gpt-4.1")
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code in (502, 503)
    assert len(simulator.generations) == 2
    assert simulator.exchanges("octocat") == exchanges + 1


@pytest.mark.parametrize(
    ("scenario", "wait_s"),
    [("model_limit retry_after=7", 7), ("rate_limited retry_after=9", 9)],
)
def test_s11_a_429_is_passed_on_at_once_and_cools_that_model_only(
    new_gateway: Any, simulator: SimulatorThread, scenario: str, wait_s: int
) -> None:
    gateway: Gateway = new_gateway()
    name, _, argument = scenario.partition(" ")
    simulator.play(name, match={"model": "gpt-4.1"}, retry_after=int(argument.partition("=")[2]))
    body = WIRES["chat_completions"].body("hello", "gpt-4.1", stream=False)
    with gateway.client() as client:
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == str(wait_s)

        again = client.post("/v1/chat/completions", json=body)
        assert again.status_code == 429
        assert 1 <= int(again.headers["retry-after"]) <= wait_s
        assert len(simulator.generations) == 1

        other = client.post("/v1/chat/completions", json={**body, "model": "gpt-4o"})
        assert other.status_code == 200


# What Retry-After says, and the least and most that the client may be told.
WAITS: dict[str, tuple[int, int]] = {
    "date:45": (40, 45),
    "absent": (1, 300),
    "soon": (1, 300),
    "-5": (1, 300),
    "date:-600": (1, 300),
    "99999999999": (1, 300),
    "1e400": (1, 300),
    "0": (1, 300),
}


def test_s11_s12_s13_s14_whatever_the_upstream_says_of_waiting_the_client_hears_something_sane(
    new_gateway: Any, simulator: SimulatorThread
) -> None:
    gateway: Gateway = new_gateway()
    # A model for each: one that cools down is not asked again.
    models = ["gpt-4.1", "gpt-4o", "gpt-5.5", "gpt-5-mini", "claude-sonnet-4.6", "gpt-5.3-codex",
              "gemini-3.1-pro-preview", "claude-opus-4.8"]  # fmt: skip
    with gateway.client() as client:
        known = {entry["id"] for entry in client.get("/v1/models").json()["data"]}
        models += sorted(known - set(models))
        for status, kind in ((503, "api_error"), (429, "rate_limit_error")):
            for model, (said, (least, most)) in zip(models, WAITS.items(), strict=False):
                assert model in known
                simulator.clear()
                simulator.play("status", code=status, retry_after=said)
                body = WIRES["messages"].body("hello", model, stream=False)
                answer = client.post("/v1/messages", json=body)
                assert answer.status_code == status, (model, said, answer.text)
                assert least <= int(answer.headers["retry-after"]) <= most, said
                assert answer.json()["error"]["type"] == kind
                # What cools down is this model: it is refused at once, and not asked.
                asked = len(simulator.generations)
                if status == 429:
                    assert client.post("/v1/messages", json=body).status_code == 429
                    assert len(simulator.generations) == asked


def test_s11_a_session_limit_cools_the_account_and_says_until_when(
    new_gateway: Any, simulator: SimulatorThread
) -> None:
    gateway: Gateway = new_gateway()
    simulator.play("session_limit", times=1)
    body = WIRES["chat_completions"].body("hello", "gpt-4.1", stream=False)
    with gateway.client() as client:
        first = client.post("/v1/chat/completions", json=body)
        assert first.status_code == 429
        assert int(first.headers["retry-after"]) > 60

        second = client.post("/v1/chat/completions", json={**body, "model": "gpt-4o"})
        assert second.status_code == 429
        assert len(simulator.generations) == 1


def test_s05_abuse_wording_freezes_the_account(
    new_gateway: Any, simulator: SimulatorThread
) -> None:
    gateway: Gateway = new_gateway()
    simulator.play("forbidden_abuse")
    body = WIRES["chat_completions"].body("hello", "gpt-4.1", stream=False)
    with gateway.client() as client:
        assert client.post("/v1/chat/completions", json=body).status_code == 403
        sent = len(simulator.generations)
        simulator.clear()

        frozen = client.post("/v1/chat/completions", json=body)
        assert frozen.status_code == 503
        assert "frozen" in frozen.json()["error"]["message"]
        assert len(simulator.generations) == sent


def test_s19_an_error_that_quotes_the_token_is_scrubbed(
    ask: Any, simulator: SimulatorThread, gateway: Gateway
) -> None:
    simulator.play("leaky_error")
    answer = ask(WIRES["messages"], "gpt-5.5", "hello")
    token = simulator.generations[-1].headers["authorization"].removeprefix("Bearer ")

    assert token not in answer.raw
    assert token[:24] not in answer.raw
    assert token not in gateway.text


@every_route
@pytest.mark.parametrize("place", ["before_first", "after_created", "mid_block"])
def test_s19_an_error_event_that_quotes_a_token_is_scrubbed(
    ask: Any,
    simulator: SimulatorThread,
    last_record: Any,
    wire_name: str,
    model: str,
    place: str,
) -> None:
    leak = "token tid=9a1b2c;exp=1795000000:deadbeef and ghu_0123456789abcdefghij were refused"
    simulator.play("error_event", at=place, message=leak)
    answer = ask(WIRES[wire_name], model, "hello")
    assert "were refused" in answer.raw
    record = last_record(outcome="upstream_error")
    assert "were refused" in record["error_message"]
    for said in (answer.raw, record["error_message"]):
        assert "tid=" not in said
        assert "ghu_" not in said
