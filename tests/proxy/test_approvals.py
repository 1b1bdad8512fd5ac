"""Approvals over sockets: streams that wait, what ends the waiting, rules, scopes, restarts."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import anthropic
import httpx
import openai
import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.approving import Queue, signed_in

HELLO = [{"role": "user", "content": "Hello"}]
CHAT = ("/v1/chat/completions", {"model": "gpt-4.1", "messages": HELLO})
STREAMS = {
    "chat_completions": CHAT,
    "messages": (
        "/v1/messages",
        {"model": "claude-sonnet-4.6", "max_tokens": 100, "messages": HELLO},
    ),
    "messages-translated": (
        "/v1/messages",
        {"model": "gpt-4.1", "max_tokens": 100, "messages": HELLO},
    ),
    "responses": ("/v1/responses", {"model": "gpt-5.5", "input": "Hello"}),
    "gemini": (
        "/v1beta/models/gemini-3.1-pro-preview:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]},
    ),
}
HEARTBEATS = {
    "chat_completions": ": ",
    "messages": "event: ping",
    "messages-translated": "event: ping",
    "responses": ": keep-alive",
    # Google's clients know no comments.
    "gemini": "",
}
GOOD_ENDS = ("data: [DONE]", "message_stop", "response.completed", "finishReason")
every_stream = pytest.mark.parametrize("name", STREAMS)


@pytest.fixture(scope="module")
def manual_gateway(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path_factory.mktemp("manual"),
        shared_simulator.url,
        ("--github-token", "ghu_octocat", "--manual"),
        {"GATEWAY_HEARTBEAT_S": "0.3", "GATEWAY_APPROVAL_TIMEOUT_S": "8", "GATEWAY_DRAIN_S": "2"},
    )
    gateway.wait_signed_in()
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def person(manual_gateway: Gateway) -> Iterator[Queue]:
    with signed_in(manual_gateway) as queue:
        yield queue


@pytest.fixture
def manual(manual_gateway: Gateway, simulator: SimulatorThread) -> Gateway:
    return manual_gateway


class Waiting:
    """A stream that is read in a thread; `seen` is what has come of it until now."""

    def __init__(self, gateway: Gateway, name: str, **headers: str) -> None:
        path, body = STREAMS[name]
        body = {**body} if name == "gemini" else {**body, "stream": True}
        self.seen = ""
        self.status = 0
        self._pool = ThreadPoolExecutor(1)
        self.done: Future[None] = self._pool.submit(self._read, gateway, path, body, headers)

    def _read(
        self, gateway: Gateway, path: str, body: dict[str, Any], headers: dict[str, str]
    ) -> None:
        with (
            gateway.client(headers=headers) as client,
            client.stream("POST", path, json=body) as response,
        ):
            self.headers = response.headers
            self.status = response.status_code
            for piece in response.iter_text():
                self.seen += piece

    def wait_for(self, what: Callable[[], Any], seconds: float = 5) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, (self.status, self.seen[-500:])
            time.sleep(0.02)

    def end(self) -> str:
        self.done.result(15)
        self._pool.shutdown()
        return self.seen


@every_stream
def test_a12_a_stream_that_waits_gets_its_200_and_heartbeats_and_then_its_answer(
    manual: Gateway, person: Queue, simulator: SimulatorThread, name: str
) -> None:
    stream = Waiting(manual, name)
    stream.wait_for(lambda: stream.status == 200)
    beat = HEARTBEATS[name]
    if beat:
        stream.wait_for(lambda: stream.seen.count(beat) >= 2)
    else:
        assert stream.seen == ""
    assert not simulator.generations
    assert not any(end in stream.seen for end in GOOD_ENDS)
    assert "x-gateway-estimated-credits" in stream.headers

    person.decide("approve")
    whole = stream.end()

    assert any(end in whole for end in GOOD_ENDS)
    assert len(simulator.generations) == 1
    assert person.ids() == []


@every_stream
def test_a13_a_stream_that_has_begun_to_wait_is_refused_inside_of_it(
    manual: Gateway, person: Queue, simulator: SimulatorThread, name: str
) -> None:
    stream = Waiting(manual, name)
    stream.wait_for(lambda: stream.status == 200)
    person.decide("refuse")
    whole = stream.end()

    assert "refused by a person" in whole
    assert not any(end in whole for end in GOOD_ENDS)
    assert not simulator.generations
    if name.startswith("messages"):
        assert "event: error" in whole
        assert '"permission_error"' in whole


def test_the_openai_sdk_reads_a_stream_that_had_to_wait_and_hears_a_refusal(
    manual: Gateway, person: Queue
) -> None:
    client = openai.OpenAI(base_url=f"{manual.url}/v1", api_key="any", max_retries=0)

    def ask() -> str:
        stream = client.chat.completions.create(model="gpt-4.1", messages=HELLO, stream=True)  # type: ignore[arg-type]
        return "".join(c.choices[0].delta.content or "" for c in stream if c.choices)

    def ask_responses() -> str:
        with client.responses.stream(model="gpt-5.5", input="Hello") as stream:
            return stream.get_final_response().output_text

    with ThreadPoolExecutor(1) as pool:
        for asked in (ask, ask_responses):
            answer = pool.submit(asked)
            person.first()
            time.sleep(0.5)  # Past the first heartbeat.
            person.decide("approve")
            assert answer.result(10)

            answer = pool.submit(asked)
            person.first()
            time.sleep(0.5)
            person.decide("refuse")
            with pytest.raises(openai.APIError, match="refused by a person"):
                answer.result(10)


def test_the_anthropic_sdk_reads_a_stream_that_had_to_wait_and_hears_a_refusal(
    manual: Gateway, person: Queue
) -> None:
    client = anthropic.Anthropic(base_url=manual.url, api_key="any", max_retries=0)

    def ask() -> str:
        with client.messages.stream(
            model="claude-sonnet-4.6",
            max_tokens=100,
            messages=HELLO,  # type: ignore[arg-type]
        ) as stream:
            return str(stream.get_final_text())

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask)
        person.first()
        time.sleep(0.5)
        person.decide("approve")
        assert answer.result(10)

        answer = pool.submit(ask)
        person.first()
        time.sleep(0.5)
        person.decide("refuse")
        with pytest.raises(anthropic.APIStatusError, match="refused by a person"):
            answer.result(10)


def test_c03_a_client_that_leaves_a_waiting_stream_frees_everything(
    manual: Gateway, person: Queue, simulator: SimulatorThread
) -> None:
    path, body = CHAT
    with (
        manual.client() as client,
        client.stream("POST", path, json={**body, "stream": True}) as stream,
    ):
        assert stream.status_code == 200
        waiting = person.first()
    assert manual.wait_for(lambda: person.ids() == [], 1)
    row = manual.wait_for(
        lambda: manual.query("SELECT * FROM proxy_approval WHERE id=? AND state='gone'", waiting), 1
    )
    assert row
    assert manual.wait_for(lambda: manual.records("id=? AND outcome='cancelled'", waiting))
    assert not simulator.generations


def test_time_outs_are_rows_and_audited_like_everything_else(manual: Gateway) -> None:
    path, body = CHAT
    with manual.client() as client:
        answer = client.post(path, json=body)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "approval_timeout"
    waited = answer.headers["x-request-id"].removeprefix("req_")
    row = manual.query("SELECT * FROM proxy_approval WHERE id=?", waited)[0]
    assert row["state"] == "timed_out"
    entries = manual.query("SELECT * FROM accounts_auditentry WHERE target=?", waited)
    assert [entry["action"] for entry in entries] == ["approval.timed_out"]
    record = manual.wait_for(lambda: manual.records("id=?", waited))[0]
    assert record["outcome"] == "refused"
    assert record["queue_ms"] > 7000


def test_decisions_are_audited_with_who_and_from_where(manual: Gateway, person: Queue) -> None:
    path, body = CHAT
    with manual.client() as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, path, json=body)
        waited = person.first()
        person.decide("approve")
        assert answer.result().status_code == 200
    entry = manual.query("SELECT * FROM accounts_auditentry WHERE target=?", waited)[0]
    assert entry["action"] == "approval.approved"
    assert entry["address"] == "127.0.0.1"
    assert entry["actor"]
    assert json.loads(entry["detail"])["rule"] == "--manual"


def test_no_word_of_a_prompt_is_in_the_row_or_on_the_page(manual: Gateway, person: Queue) -> None:
    path, body = CHAT
    secret = "xylophone in the basement"
    with manual.client() as client, ThreadPoolExecutor(1) as pool:
        sent = {**body, "messages": [{"role": "user", "content": secret}]}
        answer = pool.submit(client.post, path, json=sent)
        waited = person.first()
        assert "xylophone" not in person.page
        row = manual.query("SELECT * FROM proxy_approval WHERE id=?", waited)[0]
        assert "xylophone" not in str(row)
        person.decide("refuse")
        assert answer.result().status_code == 403


def test_nobody_is_asked_about_what_is_wrong_anyway(manual: Gateway, person: Queue) -> None:
    with manual.client() as client:
        answer = client.post("/v1/messages", json={"model": "claude-sonnet-4.6", "messages": HELLO})
    assert answer.status_code == 400
    assert person.ids() == []


# Rules, on a gateway that asks nobody by itself.


@pytest.fixture(scope="module")
def ruled_gateway(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path_factory.mktemp("ruled"),
        shared_simulator.url,
        ("--github-token", "ghu_octocat", "--require-keys"),
        {"GATEWAY_HEARTBEAT_S": "30", "GATEWAY_APPROVAL_TIMEOUT_S": "20"},
    )
    gateway.wait_signed_in()
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def ruler(ruled_gateway: Gateway) -> Iterator[Queue]:
    with signed_in(ruled_gateway) as queue:
        yield queue


class Caller:
    """Somebody with a key of their own, and an administrator who looks at what waits."""

    def __init__(self, gateway: Gateway, admin: str) -> None:
        self.gateway = gateway
        self.key = gateway.manage("create-key", "caller").stdout.strip()
        self.client = gateway.client(headers={"authorization": f"Bearer {self.key}"})
        self.admin = gateway.client(headers={"authorization": f"Bearer {admin}"})
        self.pool = ThreadPoolExecutor(1)
        assert gateway.wait_for(lambda: self.client.get("/v1/models").status_code == 200)

    def ask(self, **more: Any) -> "Future[httpx.Response]":
        path, body = CHAT
        return self.pool.submit(self.client.post, path, json={**body, **more})

    def waiting(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.admin.get("/api/approvals").json()["waiting"]
        return found

    def decide(self, decision: str, scope: str = "once") -> dict[str, Any]:
        row = self.gateway.wait_for(self.waiting)[0]
        address = f"/api/approvals/{row['approval']}"
        answer = self.admin.post(address, json={"decision": decision, "scope": scope})
        assert answer.status_code == 200, answer.text
        return row

    def rule_that_asks(self, **more: Any) -> str:
        """The rule that this request meets; empty when it is just answered. Refused then."""
        answer = self.ask(**more)
        self.gateway.wait_for(lambda: answer.done() or self.waiting())
        if answer.done():
            assert answer.result().status_code == 200, answer.result().text
            return ""
        rule = self.decide("refuse")["rule"]
        assert answer.result().status_code == 403
        return str(rule)

    def close(self) -> None:
        self.client.close()
        self.admin.close()
        self.pool.shutdown()


@pytest.fixture(scope="module")
def admin_key(ruled_gateway: Gateway) -> str:
    return ruled_gateway.manage("create-key", "admin", "--admin").stdout.strip()


@pytest.fixture
def caller(
    ruled_gateway: Gateway, ruler: Queue, admin_key: str, simulator: SimulatorThread
) -> Iterator[Caller]:
    caller = Caller(ruled_gateway, admin_key)
    yield caller
    caller.close()
    ruler.delete_rules()


def test_a_word_before_the_first_heartbeat_is_answered_with_its_status(
    caller: Caller, ruler: Queue
) -> None:
    ruler.make_rule("everything")
    bearer = {"authorization": f"Bearer {caller.key}"}
    stream = Waiting(caller.gateway, "messages", **bearer)
    caller.decide("refuse")
    refused = json.loads(stream.end())
    assert stream.status == 403
    assert refused["error"]["type"] == "permission_error"

    stream = Waiting(caller.gateway, "messages", **bearer)
    caller.decide("approve")
    assert "message_stop" in stream.end()
    assert stream.headers["x-gateway-model"] == "claude-sonnet-4.6"


def test_an_hour_is_of_the_key_and_the_rule_that_asked(
    caller: Caller, ruler: Queue, admin_key: str
) -> None:
    ruler.make_rule("mini models", models="gpt-4.1*")
    ruler.make_rule("long ones", above_tokens="5000")
    answer = caller.ask()
    assert caller.decide("approve", "hour")["rule"] == "mini models"
    assert answer.result().status_code == 200
    # This key and this rule are settled, in a conversation of its own as well.
    assert caller.rule_that_asks(messages=[{"role": "user", "content": "Something else"}]) == ""
    # Another rule of the same key is not, nor is another key.
    long = [{"role": "user", "content": "words " * 6000}]
    assert caller.rule_that_asks(messages=long) == "long ones"
    other = Caller(caller.gateway, admin_key)
    assert other.rule_that_asks() == "mini models"
    other.close()


def test_a_conversation_is_settled_for_its_rule_and_for_itself(
    caller: Caller, ruler: Queue
) -> None:
    ruler.make_rule("everything")
    turns = [{"role": "user", "content": f"Of one conversation of {caller.key[-6:]}"}]
    answer = caller.ask(messages=turns)
    caller.decide("approve", "conversation")
    assert answer.result().status_code == 200
    grown = [*turns, {"role": "assistant", "content": "Yes"}, {"role": "user", "content": "More"}]
    assert caller.rule_that_asks(messages=grown) == ""
    assert caller.rule_that_asks(messages=[{"role": "user", "content": "Another"}]) == "everything"


def test_rules_ask_for_what_they_name_and_for_nothing_else(caller: Caller, ruler: Queue) -> None:
    dear = [{"role": "user", "content": "many words " * 4000}]
    assert caller.rule_that_asks() == ""

    ruler.make_rule("dear", above_credits="1.5")
    assert caller.rule_that_asks() == ""
    assert caller.rule_that_asks(messages=dear) == "dear"
    ruler.delete_rules()

    # All conditions that are set must hold.
    ruler.make_rule("dear and of Claude", above_credits="1.5", models="claude-*")
    assert caller.rule_that_asks(messages=dear) == ""
    assert caller.rule_that_asks(model="claude-sonnet-4.6") == ""
    assert caller.rule_that_asks(messages=dear, model="claude-sonnet-4.6") == "dear and of Claude"
    ruler.delete_rules()

    ruler.make_rule("never open", outside_hours="Mon-Sun 00:00-24:00 Europe/Berlin")
    assert caller.rule_that_asks() == ""
    ruler.delete_rules()
    # A day that is neither today nor yesterday, wherever one is.
    far = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[(time.gmtime().tm_wday + 3) % 7]
    ruler.make_rule("not today", outside_hours=f"{far} 08:00-09:00")
    assert caller.rule_that_asks() == "not today"
    ruler.delete_rules()
    assert caller.rule_that_asks() == ""


def test_rules_that_cannot_be_are_refused_by_the_form(ruler: Queue) -> None:
    for name, conditions, word in (
        ("", {}, "required"),
        ("late", {"outside_hours": "when I sleep"}, "not like"),
        ("dear", {"above_credits": "-1"}, "greater than or equal"),
    ):
        token = ruler.token()
        answer = ruler.client.post(
            "/dashboard/approvals/rules/new/",
            data={"csrfmiddlewaretoken": token, "name": name, "is_enabled": "on", **conditions},
        )
        assert answer.status_code == 400
        assert word in answer.text


def test_a_new_key_is_asked_for_until_it_is_old_enough(caller: Caller, ruler: Queue) -> None:
    ruler.make_rule("new keys", younger_than_h="24")
    assert caller.rule_that_asks() == "new keys"
    caller.gateway.manage(
        "shell",
        "-c",
        "from accounts.models import ApiKey; from datetime import timedelta;"
        "from django.utils.timezone import now;"
        "ApiKey.objects.update(created_at=now() - timedelta(hours=25))",
    )
    assert caller.gateway.wait_for(lambda: caller.rule_that_asks() == "", 8)


def test_a_key_that_is_revoked_while_it_waits_is_refused_at_once(
    caller: Caller, ruler: Queue, simulator: SimulatorThread
) -> None:
    ruler.make_rule("everything")
    answer = caller.ask()
    assert caller.gateway.wait_for(caller.waiting)
    caller.gateway.manage("revoke-key", caller.key[:12])
    began = time.monotonic()
    assert answer.result(10).status_code == 401
    assert time.monotonic() - began < 3
    assert caller.gateway.wait_for(lambda: not caller.waiting(), 2)
    assert not simulator.generations


def test_programs_decide_with_a_key_of_an_administrator_only(caller: Caller, ruler: Queue) -> None:
    ruler.make_rule("everything")
    answer = caller.ask()
    waiting = caller.gateway.wait_for(caller.waiting)[0]
    assert waiting["key"] == "caller"
    assert waiting["model"] == "gpt-4.1"
    address = f"/api/approvals/{waiting['approval']}"
    with caller.gateway.client(headers={"authorization": f"Bearer {caller.key}"}) as plain:
        assert plain.get("/api/approvals").json()["waiting"] == [waiting]
        assert plain.post(address, json={"decision": "approve"}).status_code == 403
    with caller.gateway.client() as stranger:
        assert stranger.post(address, json={"decision": "approve"}).status_code == 401
        assert stranger.get("/api/approvals").status_code == 401
    admin = caller.admin
    assert admin.post(address, json={"decision": "perhaps"}).status_code == 400
    assert admin.post(address, json={"decision": "approve", "scope": "ever"}).status_code == 400
    assert admin.post("/api/approvals/nothing", json={"decision": "refuse"}).status_code == 404
    assert not answer.done()
    assert admin.post(address, json={"decision": "approve"}).json()["state"] == "approved"
    assert answer.result().status_code == 200
    late = admin.post(address, json={"decision": "refuse"})
    assert late.status_code == 409
    assert late.json()["error"]["code"] == "already_decided"


# Restarts.


def test_what_waits_is_refused_when_the_gateway_stops(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway("--manual", GATEWAY_HEARTBEAT_S="0.3", GATEWAY_DRAIN_S="5")
    path, body = CHAT
    with signed_in(gateway) as person, gateway.client() as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, path, json=body)
        person.first()
        stream = Waiting(gateway, "messages")
        stream.wait_for(lambda: "ping" in stream.seen)
        began = time.monotonic()
        gateway.process.send_signal(2)
        refused = answer.result(10)
        assert refused.status_code == 403
        assert refused.json()["error"]["code"] == "approval_lost"
        assert "event: error" in stream.end()
        assert time.monotonic() - began < 4
    assert gateway.process.wait(20) is not None
    states = gateway.query("SELECT state FROM proxy_approval")
    assert {row["state"] for row in states} == {"lost"}


def test_what_a_killed_gateway_held_is_refused_by_the_next(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway("--manual")
    path, body = CHAT
    with signed_in(gateway) as person, gateway.client() as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, path, json=body)
        waited = person.first()
        gateway.process.kill()
        with contextlib.suppress(httpx.HTTPError):
            answer.result(10)
    gateway.process.wait()
    gateway._close()
    gateway.output.clear()
    gateway.start()
    assert gateway.wait_for(
        lambda: gateway.query("SELECT 1 FROM proxy_approval WHERE id=? AND state='lost'", waited), 5
    )
    with signed_in(gateway) as person:
        assert person.ids() == []
        late = person.decide("approve", which=waited)
        assert "decided by somebody else" in late.text
    assert not simulator.generations
