"""Policies, fallbacks, aliases and terms as administrators set them and callers meet them."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.conftest import WIRES, read_stream

CHAT = {"model": "gpt-5.4", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def team_gateway(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway of its own: its policies are nobody else's business."""
    gateway = Gateway(
        tmp_path_factory.mktemp("models"), shared_simulator.url, ("--github-token", "ghu_octocat")
    )
    gateway.wait_signed_in()
    yield gateway
    gateway.stop()


@pytest.fixture
def team(team_gateway: Gateway, simulator: SimulatorThread) -> Gateway:
    return team_gateway


@pytest.fixture(scope="module")
def owner(team_gateway: Gateway) -> Iterator[httpx.Client]:
    with team_gateway.client(follow_redirects=True) as client:
        assert client.get(team_gateway.sign_in_link).status_code == 200
        yield client


def send(owner: httpx.Client, page: str, to: str = "", **fields: Any) -> httpx.Response:
    """Fill in a form of a page as a person does."""
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', owner.get(page).text)
    assert found is not None
    return owner.post(to or page, data={"csrfmiddlewaretoken": found[1], **fields})


@pytest.fixture
def policy(team: Gateway, owner: httpx.Client) -> Iterator[Any]:
    """`policy(model, fallback=...)`: made on the page, gone after the test."""

    def make(model: str, **fields: str) -> None:
        answer = send(owner, "/dashboard/models/policies/new/", model=model, **fields)
        assert answer.status_code == 200, answer.text[-500:]
        assert team.query("SELECT 1 FROM proxy_modelpolicy WHERE model = ?", model)

    yield make
    for row in team.query("SELECT id FROM proxy_modelpolicy"):
        send(owner, f"/dashboard/models/policies/{row['id']}/", action="delete")
    assert not team.query("SELECT 1 FROM proxy_modelpolicy")


def test_a08_a_model_that_is_off_is_refused_and_in_no_list(
    team: Gateway, simulator: SimulatorThread, policy: Any
) -> None:
    policy("gpt-5*", note="until the audit")
    with team.client() as client:
        assert team.wait_for(
            lambda: client.post("/v1/chat/completions", json=CHAT).status_code == 403
        )
        before = len(simulator.generations)
        for wire in WIRES.values():
            refused = client.post(wire.path, json=wire.body("hello", "gpt-5.5", stream=False))
            assert refused.status_code == 403
            assert "switched off by an administrator" in refused.text
        counted = {"model": "gpt-5.5", "messages": CHAT["messages"]}
        assert client.post("/v1/messages/count_tokens", json=counted).status_code == 403
        embedded = client.post("/v1/embeddings", json={"model": "gpt-5.5", "input": "x"})
        assert embedded.status_code == 403
        assert len(simulator.generations) == before

        openai = [m["id"] for m in client.get("/v1/models").json()["data"]]
        headers = {"anthropic-version": "2023-06-01"}
        anthropic = [m["id"] for m in client.get("/v1/models", headers=headers).json()["data"]]
        google = [m["name"] for m in client.get("/v1beta/models").json()["models"]]
        assert "gpt-4.1" in openai
        for listed in (openai, anthropic, google):
            assert not [one for one in listed if "gpt-5" in one]
        assert client.get("/v1/models/gpt-5.5").status_code == 404
        assert client.get("/v1beta/models/gpt-5.5").status_code == 404


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
def test_a_fallback_serves_every_format_and_is_disclosed(
    team: Gateway, policy: Any, wire: Any
) -> None:
    policy("gpt-5.5", fallback="gpt-4.1")
    body = wire.body("hello there", "gpt-5.5")

    def served() -> Any:
        with team.client() as client:
            answer = read_stream(client, wire.path, body)
        return answer if "x-gateway-fallback" in answer.headers else None

    answer = team.wait_for(served)

    assert answer.status == 200
    assert "hello there" in wire.text_of(answer.frames)
    assert answer.headers["x-gateway-model"] == "gpt-4.1"
    assert answer.headers["x-gateway-fallback"] == (
        "gpt-5.5 -> gpt-4.1 (switched off by an administrator)"
    )
    records = team.wait_for(
        lambda: team.records("model_used = 'gpt-4.1' AND source = ?", wire.name)
    )
    assert records[-1]["model_asked"] == "gpt-5.5"
    assert records[-1]["outcome"] == "completed"


def test_a_model_that_is_not_listed_falls_back_and_never_at_a_limit(
    team: Gateway, simulator: SimulatorThread, policy: Any
) -> None:
    policy("gpt-99", is_enabled="on", fallback="gpt-5.4")
    policy("gpt-5.4", is_enabled="on", fallback="gpt-4.1")
    with team.client() as client:
        asked = {**CHAT, "model": "gpt-99"}
        assert team.wait_for(
            lambda: client.post("/v1/chat/completions", json=asked).status_code == 200
        )
        answer = client.post("/v1/chat/completions", json=asked)
        assert answer.headers["x-gateway-fallback"] == (
            "gpt-99 -> gpt-5.4 (not in the account's list)"
        )
        for scenario, status in (("model_limit", 429), ("quota_exceeded", 402)):
            simulator.play(scenario, retry_after=1)
            limited = client.post("/v1/chat/completions", json=CHAT)
            assert limited.status_code in (status, 429)
            assert "x-gateway-fallback" not in limited.headers
            assert {g.model for g in simulator.generations[-2:]} == {"gpt-5.4"}


def test_rehearsal_tells_of_the_fallback(team: Gateway, policy: Any) -> None:
    policy("gpt-77", is_enabled="on", fallback="gpt-4.1")
    wish = {"format": "chat_completions", "request": {**CHAT, "model": "gpt-77"}}

    def told() -> Any:
        with team.client() as client:
            return client.post("/api/translate", json=wish).json().get("route")

    assert team.wait_for(told)["fallback"] == "gpt-77 -> gpt-4.1 (not in the account's list)"


def test_terms_are_accepted_by_a_person_who_says_so(
    team: Gateway, simulator: SimulatorThread, owner: httpx.Client
) -> None:
    body = WIRES["responses"].body("hello", "grok-4.6", stream=False)
    with team.client() as client:
        refused = client.post("/v1/responses", json=body)
    assert refused.status_code == 404
    assert "terms are not accepted" in refused.json()["error"]["message"]
    account = team.query("SELECT id FROM accounts_account")[0]["id"]
    page = f"/dashboard/models/terms/{account}/grok-4.6/"
    assert page in owner.get("/dashboard/models/").text
    assert "Enable access to Grok 4.6." in owner.get(page).text
    path = "/models/grok-4.6/policy"

    unsaid = send(owner, page)
    assert unsaid.status_code == 400
    assert not simulator.received_on(path)

    said = send(owner, page, agreed="on")

    assert "is enabled for octocat" in said.text
    (told,) = simulator.received_on(path)
    assert told.method == "POST"
    assert told.headers["openai-intent"] == told.headers["x-interaction-type"] == "chat-policy"
    with team.client() as client:
        assert team.wait_for(lambda: client.post("/v1/responses", json=body).status_code == 200)
    (entry,) = team.query("SELECT * FROM accounts_auditentry WHERE action = 'terms.accepted'")
    assert entry["target"] == "grok-4.6"
    assert json.loads(entry["detail"])["account"] == "octocat"
    # The refresh that followed kept the change.
    (change,) = team.query("SELECT * FROM proxy_catalogchange WHERE model = 'grok-4.6'")
    assert change["kind"] == "policy"


def test_an_alias_is_made_for_what_is_there_and_counts_at_once(
    team: Gateway, owner: httpx.Client
) -> None:
    to = "/dashboard/models/aliases/"
    nowhere = send(owner, "/dashboard/models/", to, pattern="fast", model="gpt-nowhere")
    assert nowhere.status_code == 400
    assert "No account lists a model of this id." in nowhere.text
    shadowed = send(owner, "/dashboard/models/", to, pattern="gpt-4.1", model="gpt-5.4")
    assert "would never be used" in shadowed.text

    assert "fast" in send(owner, "/dashboard/models/", to, pattern="fast", model="gpt-4.1").text

    def served() -> Any:
        with team.client() as client:
            return client.post("/v1/chat/completions", json={**CHAT, "model": "fast"})

    assert team.wait_for(lambda: served().status_code == 200)
    assert served().headers["x-gateway-model"] == "gpt-4.1"
    (alias,) = team.query("SELECT id FROM proxy_modelalias WHERE pattern = 'fast'")
    send(owner, "/dashboard/models/", f"{to}{alias['id']}/", action="disable")
    assert team.wait_for(lambda: served().status_code == 404)


def test_a_loop_of_fallbacks_is_refused_on_the_page(owner: httpx.Client, policy: Any) -> None:
    policy("gpt-5.5", fallback="gpt-5.4")

    answer = send(owner, "/dashboard/models/policies/new/", model="gpt-5.4", fallback="gpt-5.5")

    assert answer.status_code == 400
    assert "go round" in answer.text


def test_key_member_and_team_rules_hold_together(team: Gateway) -> None:
    key = team.manage("create-key", "ruled", "--models", "gpt-5*,gpt-4.1").stdout.strip()
    team.manage(
        "shell",
        "-c",
        "from accounts.models import Member, Team\n"
        "blue = Team.objects.create(name='Blue', models_denied=['gpt-5.5'])\n"
        "Member.objects.all().update(team=blue, models_denied=['gpt-4*'])",
    )
    try:
        with team.client(headers={"authorization": f"Bearer {key}"}) as client:

            def refusal(model: str) -> str:
                answer = client.post("/v1/chat/completions", json={**CHAT, "model": model})
                return str(answer.json().get("error", {}).get("message", answer.status_code))

            assert team.wait_for(lambda: "denied for the team Blue" in refusal("gpt-5.5"))
            assert "denied for the member" in refusal("gpt-4.1")
            assert "This API key may not use" in refusal("claude-sonnet-5")
            assert refusal("gpt-5.4") == "200"
            listed = [m["id"] for m in client.get("/v1/models").json()["data"]]
            assert "gpt-5.4" in listed
            assert not {"gpt-5.5", "gpt-4.1", "claude-sonnet-5"} & set(listed)
    finally:
        team.manage(
            "shell",
            "-c",
            "from accounts.models import Member\n"
            "Member.objects.all().update(team=None, models_denied=[])",
        )
