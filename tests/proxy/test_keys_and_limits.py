"""Keys, permissions, limits and approvals, as callers meet them: rows A of the faults."""

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import httpx
import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.asking import ENDPOINTS, Endpoint, error_message

every_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
CHAT = ENDPOINTS["chat"]


@pytest.fixture(scope="module")
def keyed_gateway(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway that requires keys also on loopback."""
    gateway = Gateway(
        tmp_path_factory.mktemp("keyed"),
        shared_simulator.url,
        ("--github-token", "ghu_octocat", "--require-keys"),
    )
    gateway.wait_signed_in()
    yield gateway
    gateway.stop()


@pytest.fixture
def keyed(keyed_gateway: Gateway, simulator: SimulatorThread) -> Gateway:
    return keyed_gateway


def new_key(gateway: Gateway, *options: str) -> str:
    """A fresh key that the running gateway knows already."""
    key = gateway.manage("create-key", "tests", *options).stdout.strip()
    assert key.startswith("cgw_")
    with gateway.client(headers=bearer(key)) as client:
        assert gateway.wait_for(lambda: client.get("/v1/models").status_code == 200, 5)
    return key


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def good_key(keyed_gateway: Gateway) -> str:
    return new_key(keyed_gateway)


@every_endpoint
def test_a01_a02_a06_without_a_valid_key_the_answer_is_always_the_same(
    keyed: Gateway, good_key: str, simulator: SimulatorThread, endpoint: Endpoint
) -> None:
    wrong = "cgw_" + "x" * 43
    attempts: list[dict[str, str]] = [
        {},
        bearer(wrong),
        {"x-api-key": wrong},
        bearer("dummy"),
        {"authorization": "Bearer"},
        {"authorization": "Basic b2N0b2NhdDpwYXNz"},
        {"authorization": good_key},
        bearer(good_key[:-1]),
        bearer(good_key + "x"),
        bearer("' OR 1=1 --"),
        bearer("k" * 5000),
        {"x-api-key": "é"},
    ]
    messages = set()
    with keyed.client() as client:
        for headers in attempts:
            raw = [(k.encode(), v.encode("latin1")) for k, v in headers.items()]
            answer = client.post(endpoint.path, json=endpoint.good, headers=raw)
            assert answer.status_code == 401
            assert answer.headers["x-should-retry"] == "false"
            messages.add(error_message(endpoint, answer))
            for value in headers.values():
                assert len(value) < 9 or value not in answer.text
            if endpoint.is_anthropic:
                assert answer.json()["error"]["type"] == "authentication_error"
    assert len(messages) == 1
    assert not simulator.generations


@pytest.mark.parametrize(
    "path", ["/v1/models", "/models", "/usage", "/token", "/v1/models/gpt-4.1"]
)
def test_a01_reading_needs_a_key_too(keyed: Gateway, path: str) -> None:
    with keyed.client() as client:
        assert client.get(path).status_code == 401


def test_p18_health_and_the_root_need_no_key_and_tell_nothing(keyed: Gateway) -> None:
    with keyed.client() as client:
        for path in ("/", "/healthz", "/readyz"):
            answer = client.get(path)
            assert answer.status_code == 200
            assert "octocat" not in answer.text


@every_endpoint
def test_a07_either_header_counts_on_every_surface_and_two_keys_are_a_conflict(
    keyed: Gateway, good_key: str, endpoint: Endpoint
) -> None:
    other = "cgw_" + "y" * 43
    with keyed.client() as client:

        def status(**headers: str) -> int:
            named = {k.replace("_", "-"): v for k, v in headers.items()}
            return client.post(endpoint.path, json=endpoint.good, headers=named).status_code

        assert status(authorization=f"Bearer {good_key}") == 200
        assert status(authorization=f"bearer {good_key}") == 200
        assert status(x_api_key=good_key) == 200
        assert status(x_api_key=good_key, authorization=f"Bearer {good_key}") == 200
        assert status(x_api_key=good_key, authorization=f"Bearer {other}") == 401
        assert status(x_api_key=other, authorization=f"Bearer {good_key}") == 401


def test_a03_a_revoked_key_is_refused_within_two_seconds(keyed: Gateway) -> None:
    key = new_key(keyed)
    with keyed.client(headers=bearer(key)) as client:
        assert client.post(CHAT.path, json=CHAT.good).status_code == 200
        keyed.manage("revoke-key", key[:12])
        revoked_at = time.monotonic()
        assert keyed.wait_for(lambda: client.post(CHAT.path, json=CHAT.good).status_code == 401, 2)
        assert time.monotonic() - revoked_at < 2
        # Also where any word would do for a key: ours must be a valid one.
        assert client.get("/v1/models").status_code == 401


def test_a04_a_key_expires_while_the_gateway_runs(keyed: Gateway) -> None:
    from datetime import UTC, datetime, timedelta

    soon = datetime.now(UTC) + timedelta(seconds=8)
    key = new_key(keyed, "--expires", soon.isoformat())
    with keyed.client(headers=bearer(key)) as client:
        assert client.get("/v1/models").status_code == 200
        assert keyed.wait_for(lambda: client.get("/v1/models").status_code == 401, 12)
        assert datetime.now(UTC) >= soon


def test_a05_whose_owner_is_switched_off_is_refused_within_five_seconds(keyed: Gateway) -> None:
    made = keyed.manage(
        "shell",
        "-c",
        "from accounts import keys\nfrom accounts.models import Member\n"
        "print('KEY', keys.create('tests', Member.objects.create_user('leaver'))[1])",
    ).stdout
    key = made.partition("KEY ")[2].split()[0]
    switch = "from accounts.models import Member\nm = Member.objects.get(username='leaver')\n"
    with keyed.client(headers=bearer(key)) as client:
        assert keyed.wait_for(lambda: client.get("/v1/models").status_code != 401, 5)
        keyed.manage("shell", "-c", switch + "m.is_active = False\nm.save()")
        assert keyed.wait_for(lambda: client.get("/v1/models").status_code == 401, 5)
        assert client.post(CHAT.path, json=CHAT.good).status_code == 401


def test_a08_a_key_with_a_model_list_uses_and_sees_these_models_only(
    keyed: Gateway, simulator: SimulatorThread
) -> None:
    key = new_key(keyed, "--models", "gpt-4.1,claude-sonnet-4.6,text-embedding-3-small")
    with keyed.client(headers=bearer(key)) as client:
        listed = [m["id"] for m in client.get("/v1/models").json()["data"]]
        assert sorted(listed) == ["claude-sonnet-4.6", "gpt-4.1", "text-embedding-3-small"]
        assert client.get("/v1/models/gpt-5.5").status_code == 404
        for endpoint in ENDPOINTS.values():
            served = client.post(endpoint.path, json=endpoint.good)
            assert served.status_code == (403 if endpoint.name == "responses" else 200)
        # By another spelling it is the same model.
        spelled = {**ENDPOINTS["messages"].good, "model": "claude-sonnet-4-6"}
        assert client.post("/v1/messages", json=spelled).status_code == 200

        before = len(simulator.generations)
        for endpoint in ENDPOINTS.values():
            refused = client.post(endpoint.path, json={**endpoint.good, "model": "gpt-4o"})
            assert refused.status_code == 403
            assert "gpt-4o" in error_message(endpoint, refused)
        assert len(simulator.generations) == before


def test_a09_requests_per_minute_are_exact_under_concurrency(
    keyed: Gateway, simulator: SimulatorThread
) -> None:
    key = new_key(keyed, "--rpm", "7")
    with keyed.client(headers=bearer(key)) as client, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: client.post(CHAT.path, json=CHAT.good), range(20)))
        statuses = [a.status_code for a in answers]
        assert statuses.count(200) == 7
        assert statuses.count(429) == 13
        assert len(simulator.generations) == 7
        refused = next(a for a in answers if a.status_code == 429)
        assert 50 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json()["error"]["type"] == "rate_limit_error"

        # Embeddings and counting are of a light class: counted by themselves, ten times as many.
        for number in range(71):
            endpoint = ENDPOINTS["embeddings" if number % 10 == 0 else "count_tokens"]
            light = client.post(endpoint.path, json=endpoint.good)
            assert light.status_code == (200 if number < 70 else 429), number
        assert "light" in error_message(endpoint, light)


def test_a09_requests_at_once_are_bounded_by_key_and_free_again_afterwards(
    keyed: Gateway, good_key: str, simulator: SimulatorThread
) -> None:
    key = new_key(keyed, "--concurrency", "2")
    simulator.play("slow", seconds=1.5, match={"model": "gpt-4.1"})
    with keyed.client() as client, ThreadPoolExecutor(5) as pool:

        def ask(with_key: str) -> httpx.Response:
            return client.post(CHAT.path, json=CHAT.good, headers=bearer(with_key))

        began = time.monotonic()
        answers = list(pool.map(ask, [key] * 5))
        # Two at a time; the others wait for their turn, and hear for how long they have waited.
        assert [a.status_code for a in answers] == [200] * 5
        assert 4.5 <= time.monotonic() - began < 9
        waited = sorted(int(a.headers.get("x-gateway-queued-ms", "0")) for a in answers)
        assert waited[:2] == [0, 0]
        assert waited[2] >= 1000
        assert waited[4] >= 2000
        others = list(pool.map(ask, [good_key] * 4))
        assert [a.status_code for a in others] == [200] * 4
        assert [a.status_code for a in pool.map(ask, [key] * 2)] == [200, 200]


def test_a10_a_spent_budget_is_a_429_that_repeating_does_not_cure(
    keyed: Gateway, simulator: SimulatorThread
) -> None:
    key = new_key(keyed, "--budget-day", "0.000001")
    with keyed.client(headers=bearer(key)) as client:
        first = client.post(CHAT.path, json=CHAT.good)
        assert first.status_code == 200
        identity = first.headers["x-request-id"].removeprefix("req_")
        assert keyed.wait_for_records(1, "id = ? AND nano_aiu > 0", identity)

        sent = len(simulator.generations)
        for endpoint in ENDPOINTS.values():
            answer = client.post(endpoint.path, json=endpoint.good)
            if endpoint.name == "count_tokens":
                assert answer.status_code == 200
                sent = len(simulator.generations)
                continue
            assert answer.status_code == 429
            assert answer.headers["x-should-retry"] == "false"
            assert "retry-after" in answer.headers
            error_message(endpoint, answer)
            if not endpoint.is_anthropic:
                assert answer.json()["error"]["code"] == "insufficient_quota"
        assert len(simulator.generations) == sent


def test_a14_two_hundred_wrong_keys_hold_nobody_up(keyed: Gateway, good_key: str) -> None:
    with keyed.client() as client, ThreadPoolExecutor(10) as pool:

        def wrong(number: int) -> int:
            headers = bearer(f"cgw_{number:043}")
            return client.post(CHAT.path, json=CHAT.good, headers=headers).status_code

        attempts = [pool.submit(wrong, number) for number in range(200)]
        began = time.monotonic()
        served = client.post(CHAT.path, json=CHAT.good, headers=bearer(good_key))
        waited = time.monotonic() - began
        assert served.status_code == 200
        assert waited < 2
        assert {a.result() for a in attempts} <= {401, 429}


def test_a15_keys_are_stored_as_hashes_only(keyed: Gateway, good_key: str) -> None:
    rows = keyed.query("SELECT * FROM accounts_apikey")
    assert good_key not in repr(rows)
    assert good_key not in keyed.text


# Limits of the whole gateway.


def test_rate_limit_refuses_what_comes_too_early_on_every_route(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway("--rate-limit", "30")
    with gateway.client() as client:
        assert client.post(CHAT.path, json=CHAT.good).status_code == 200
        sent = len(simulator.generations)
        for endpoint in ENDPOINTS.values():
            answer = client.post(endpoint.path, json=endpoint.good)
            assert answer.status_code == 429
            assert 20 <= int(answer.headers["retry-after"]) <= 30
            assert "too early" in error_message(endpoint, answer)
        assert len(simulator.generations) == sent
        assert client.get("/v1/models").status_code == 200


def test_rate_limit_with_wait_is_a_fair_queue(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway(
        "--rate-limit", "0.4", "--wait", GATEWAY_QUEUE_LIMIT="4", GATEWAY_QUEUE_TIMEOUT_S="20"
    )
    with gateway.client() as client, ThreadPoolExecutor(8) as pool:
        # The first takes its turn at once; the others come one after the other and wait.
        assert client.post(CHAT.path, json=CHAT.good).status_code == 200
        answers = []
        for number in range(4):
            body = {**CHAT.good, "messages": [{"role": "user", "content": f"turn {number}"}]}
            answers.append(pool.submit(client.post, CHAT.path, json=body))
            time_to_arrive(client)
        assert [a.result().status_code for a in answers] == [200] * 4
        arrived = simulator.generations[-4:]
        assert [json.loads(r.body)["messages"][0]["content"] for r in arrived] == [
            f"turn {number}" for number in range(4)
        ]
        times = [r.time for r in simulator.generations[-5:]]
        gaps = [b - a for a, b in pairwise(times)]
        assert min(gaps) > 0.3

        crowd = list(pool.map(lambda _: client.post(CHAT.path, json=CHAT.good), range(8)))
        statuses = [a.status_code for a in crowd]
        assert statuses.count(429) >= 2
        assert statuses.count(200) >= 4
        assert all("retry-after" in a.headers for a in crowd if a.status_code == 429)


def time_to_arrive(client: httpx.Client) -> None:
    """Requests over other connections of this thread come after what was sent before."""
    for _ in range(3):
        client.get("/healthz")


# A person's word.


@pytest.fixture(scope="module")
def manual_gateway(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path_factory.mktemp("manual"),
        shared_simulator.url,
        ("--github-token", "ghu_octocat", "--manual"),
        {"GATEWAY_APPROVAL_TIMEOUT_S": "6"},
    )
    gateway.wait_signed_in()
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def person(manual_gateway: Gateway) -> Iterator[httpx.Client]:
    """The owner, signed in by the link that the terminal shows."""
    with manual_gateway.client(follow_redirects=True) as client:
        page = client.get(manual_gateway.sign_in_link)
        assert page.status_code == 200
        yield client


class Approvals:
    """The approvals page as a person without JavaScript uses it."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def waiting(self) -> list[tuple[str, str]]:
        """Address and CSRF token of each form that waits, oldest first."""
        page = self.client.get("/dashboard/approvals/").text
        forms = re.findall(r'<form method="post" action="(/dashboard/approvals/[^"]+)"', page)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        return [(form, token[1] if token else "") for form in forms]

    def first(self) -> tuple[str, str]:
        deadline = time.monotonic() + 5
        while not (forms := self.waiting()):
            assert time.monotonic() < deadline, "nothing waits on the page"
        return forms[0]

    def decide(self, decision: str, scope: str = "once") -> httpx.Response:
        address, token = self.first()
        return self.client.post(
            address,
            data={"csrfmiddlewaretoken": token, "decision": decision, "scope": scope},
        )


@every_endpoint
def test_a12_a_request_waits_for_the_page_and_goes_on_when_approved(
    manual_gateway: Gateway, person: httpx.Client, simulator: SimulatorThread, endpoint: Endpoint
) -> None:
    simulator_calls = len(simulator.generations)
    with manual_gateway.client() as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, endpoint.path, json=endpoint.good)
        approvals = Approvals(person)
        approvals.first()
        assert len(simulator.generations) == simulator_calls
        assert not answer.done()
        assert approvals.decide("approve").status_code == 200
        assert answer.result().status_code == 200


def test_a13_refused_is_a_403_and_the_upstream_is_never_called(
    manual_gateway: Gateway, person: httpx.Client, simulator: SimulatorThread
) -> None:
    with manual_gateway.client() as client, ThreadPoolExecutor(1) as pool:
        for name in ("chat", "messages"):
            endpoint = ENDPOINTS[name]
            answer = pool.submit(client.post, endpoint.path, json=endpoint.good)
            Approvals(person).decide("refuse")
            refused = answer.result()
            assert refused.status_code == 403
            assert "refused by a person" in error_message(endpoint, refused)
            assert refused.headers["x-should-retry"] == "false"
    assert not simulator.generations


def test_a13_without_a_word_in_time_it_is_refused(
    manual_gateway: Gateway, simulator: SimulatorThread
) -> None:
    began = time.monotonic()
    with manual_gateway.client() as client:
        answer = client.post(CHAT.path, json=CHAT.good)
    assert answer.status_code == 403
    assert "in time" in error_message(CHAT, answer)
    assert 5 < time.monotonic() - began < 9
    assert not simulator.generations


def test_a13_of_two_decisions_the_first_counts(
    manual_gateway: Gateway, person: httpx.Client
) -> None:
    with manual_gateway.client() as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, CHAT.path, json=CHAT.good)
        approvals = Approvals(person)
        address, token = approvals.first()
        form = {"csrfmiddlewaretoken": token, "decision": "approve", "scope": "once"}
        assert person.post(address, data=form).status_code == 200
        late = person.post(address, data={**form, "decision": "refuse"})
        assert "decided by somebody else" in late.text
        assert answer.result().status_code == 200


def test_a13_nobody_decides_without_a_session_or_csrf_token(
    manual_gateway: Gateway, person: httpx.Client, simulator: SimulatorThread
) -> None:
    with manual_gateway.client() as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, CHAT.path, json=CHAT.good)
        address, _ = Approvals(person).first()
        assert client.post(address, data={"decision": "approve"}).status_code in (302, 403)
        assert person.post(address, data={"decision": "approve"}).status_code == 403
        assert not answer.done()
        Approvals(person).decide("refuse")
        assert answer.result().status_code == 403
    assert not simulator.generations


def test_a12_the_rest_of_a_conversation_may_be_approved_with_it(
    manual_gateway: Gateway, person: httpx.Client
) -> None:
    body = {**CHAT.good, "messages": [{"role": "user", "content": "of one conversation"}]}
    with manual_gateway.client() as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, CHAT.path, json=body)
        Approvals(person).decide("approve", "conversation")
        assert answer.result().status_code == 200
        assert client.post(CHAT.path, json=body).status_code == 200


# What web pages and strangers may not do.


@every_endpoint
def test_a16_no_origin_is_allowed_and_a_foreign_page_is_refused(
    gateway: Gateway, simulator: SimulatorThread, endpoint: Endpoint
) -> None:
    with gateway.client() as client:
        for origin in (
            "https://evil.example",
            "http://localhost.evil.example",
            "http://127.0.0.1:1",
        ):
            answer = client.post(endpoint.path, json=endpoint.good, headers={"origin": origin})
            assert answer.status_code == 403
            error_message(endpoint, answer)
            assert "access-control-allow-origin" not in answer.headers
        assert not simulator.generations
        preflight = client.options(
            endpoint.path,
            headers={"origin": "https://evil.example", "access-control-request-method": "POST"},
        )
        assert not [h for h in preflight.headers if h.startswith("access-control")]
        own = client.post(
            endpoint.path,
            json=endpoint.good,
            headers={"origin": gateway.url},
        )
        assert own.status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/usage", "/v1/chat/completions", "/"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost:80@evil"])
def test_d16_a_foreign_host_name_is_refused(gateway: Gateway, path: str, host: str) -> None:
    with gateway.client() as client:
        answer = client.get(path, headers={"host": host})
        assert answer.status_code in (400, 405)
        assert answer.headers["content-type"] == "application/json"


def test_a17_the_token_is_not_served_by_default(gateway: Gateway) -> None:
    with gateway.client() as client:
        answer = client.get("/token")
    assert answer.status_code == 404
    assert "tid=" not in answer.text


def test_a17_the_token_is_not_given_to_whoever_is_on_this_machine(
    new_gateway: Callable[..., Gateway],
) -> None:
    gateway = new_gateway(GATEWAY_TOKEN_ENDPOINT="true")
    with gateway.client() as client:
        answer = client.get("/token?reveal=true")
        assert answer.status_code == 403
        assert "tid=" not in answer.text
        admin = new_key(gateway, "--admin")
        assert client.get("/token", headers=bearer(admin)).status_code == 200


def test_a17_the_token_is_for_administrators_masked_and_audited(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway("--require-keys", GATEWAY_TOKEN_ENDPOINT="true")
    plain, admin = new_key(gateway), new_key(gateway, "--admin")
    with gateway.client() as client:
        assert client.get("/token").status_code == 401
        assert client.get("/token", headers=bearer(plain)).status_code == 403

        masked = client.get("/token", headers=bearer(admin))
        assert masked.status_code == 200
        assert masked.headers["cache-control"] == "no-store"
        assert re.fullmatch(r"\*{8}.{4}", masked.json()["token"])

        revealed = client.get("/token?reveal=true", headers=bearer(admin)).json()["token"]
        assert len(revealed) > 40
    actions = [row["action"] for row in gateway.query("SELECT action FROM accounts_auditentry")]
    assert actions.count("token.read_masked") == 1
    assert actions.count("token.revealed") == 1
    assert revealed not in gateway.text
    assert revealed not in repr(gateway.query("SELECT * FROM accounts_auditentry"))
