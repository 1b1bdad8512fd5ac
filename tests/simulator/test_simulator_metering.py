"""Usage that adds up: the prompt cache, prices, quotas and the ledger."""

from __future__ import annotations

from urllib.parse import parse_qs

from simulator.metering import Usage, copilot_usage
from simulator.models_data import default_models

ENTRIES = {entry["id"]: entry for entry in default_models()}
MARK = {"type": "ephemeral"}


def test_the_formula_gives_the_recorded_costs():
    opus = copilot_usage(
        ENTRIES["claude-opus-5"],
        Usage(input=94, cache_read=621_048, cache_write=1_366, output=97),
    )
    assert opus["total_nano_aiu"] == 32_195_650_000
    gpt = copilot_usage(ENTRIES["gpt-5.5"], Usage(input=1_239, cache_read=55_680, output=637))
    assert gpt["total_nano_aiu"] == 5_314_500_000


def test_long_prompts_cost_the_long_price():
    short = copilot_usage(ENTRIES["gpt-5.5"], Usage(input=272_000))
    long = copilot_usage(ENTRIES["gpt-5.5"], Usage(input=272_001))
    assert short["total_nano_aiu"] == 272_000 * 500_000
    assert long["total_nano_aiu"] == 272_001 * 1_000_000


def cost_of(document):
    details = document["copilot_usage"]["token_details"]
    return {item["token_type"]: item["token_count"] for item in details}


def test_the_same_prompt_again_is_read_from_the_cache(copilot):
    first = copilot.responses("hello " * 50).json()
    again = copilot.responses("hello " * 50).json()
    assert first["usage"]["input_tokens_details"]["cached_tokens"] == 0
    assert again["usage"]["input_tokens_details"]["cached_tokens"] > 70
    assert again["usage"]["input_tokens"] == first["usage"]["input_tokens"]
    assert cost_of(again)["input"] == 0
    assert again["copilot_usage"]["total_nano_aiu"] < first["copilot_usage"]["total_nano_aiu"]
    copilot.bearer = "gho_opencode"
    other = copilot.responses("hello " * 50).json()
    assert other["usage"]["input_tokens_details"]["cached_tokens"] == 0


def test_claude_writes_up_to_the_marker_and_reads_it_later(copilot):
    system = [{"type": "text", "text": "Be kind. " * 40, "cache_control": MARK}]
    first = copilot.messages("one", system=system).json()["usage"]
    later = copilot.messages("two", system=system).json()["usage"]
    assert first["cache_creation_input_tokens"] == 92
    assert first["cache_read_input_tokens"] == 0
    assert later["cache_read_input_tokens"] == 92
    assert later["cache_creation_input_tokens"] == 0
    assert later["input_tokens"] < 10


def test_markers_may_be_demanded(simulator, copilot):
    simulator.config(claude_cache_needs_markers=True)
    copilot.messages("hello " * 50)
    assert copilot.messages("hello " * 50).json()["usage"]["cache_read_input_tokens"] == 0


def test_the_ledger_agrees_with_what_the_answers_said(simulator, copilot):
    told = 0
    for ask in (copilot.chat, copilot.responses, copilot.messages):
        told += ask("hello").json()["copilot_usage"]["total_nano_aiu"]
    ledger = simulator.ledger()
    assert ledger["total_nano_aiu"] == told
    assert set(ledger["accounts"]["octocat"]) == {"gpt-5-mini", "gpt-5.5", "claude-opus-5"}
    assert simulator.account("octocat").credits_used_nano == told
    assert copilot.http.get("/_sim/ledger").json()["total_nano_aiu"] == told


def test_a_cut_stream_costs_what_was_produced(simulator, copilot):
    copilot.messages("x " * 100, stream=True)
    copilot.messages("x " * 100 + "[[cut]]", stream=True)
    whole, cut = simulator.ledger()["requests"]
    assert cut["outcome"] == "cut"
    assert 0 < cut["output"] < whole["output"]


def test_refused_calls_cost_nothing(simulator, copilot):
    copilot.chat(model="nobody")
    simulator.play("status")
    copilot.chat()
    assert simulator.ledger()["requests"] == []


def test_quota_headers_lag_a_few_calls_behind(simulator, copilot):
    simulator.config(quota_lag_calls=2)
    simulator.add_account("octocat", entitlement=1000)

    def left():
        header = copilot.responses("x" * 40_000).headers["x-quota-snapshot-premium_interactions"]
        return float(parse_qs(header)["totRem"][0])

    seen = [left() for _ in range(4)]
    assert seen[0] == seen[1] == 1000
    assert seen[3] < 1000
    remaining = copilot.rest("/copilot_internal/user").json()["quota_snapshots"]
    assert remaining["premium_interactions"]["quota_remaining"] < seen[3]


def test_an_exhausted_account_gets_402_but_free_models_still_serve(simulator, copilot):
    simulator.add_account("octocat", credits_used=3900)
    answer = copilot.responses("hello")
    assert answer.status_code == 402
    assert answer.json() == {"error": {"message": "You have no quota", "code": "quota_exceeded"}}
    assert "retry-after" not in answer.headers
    assert not any(name.startswith("x-quota") for name in answer.headers)
    assert copilot.chat(model="gpt-4o-mini-2024-07-18").status_code == 200


def test_before_token_billing_only_user_calls_count(simulator, copilot):
    simulator.add_account("octocat", token_based_billing=False, entitlement=100)
    entry = {
        "id": "claude-old",
        "vendor": "Anthropic",
        "billing": {"multiplier": 3},
        "capabilities": {"type": "chat"},
    }
    simulator.add_model(entry)
    body = {"model": "claude-old", "messages": [{"role": "user", "content": "hi"}]}
    answer = copilot.post("/chat/completions", body, x_initiator="user")
    assert "copilot_usage" not in answer.json()
    copilot.post("/chat/completions", body, x_initiator="agent")
    assert simulator.account("octocat").premium_used == 3


def test_the_journal_tells_who_asked_what_and_how_it_ended(simulator, copilot):
    copilot.chat("hello", "gpt-4.1")
    received = simulator.received[-1]
    assert (received.login, received.model, received.status) == ("octocat", "gpt-4.1", 200)
    assert received.finished == "complete"
    assert received.json["messages"][0]["content"] == "hello"
    assert received.bearer == "ghu_octocat"
    assert received.bytes_sent > 500
    (shown,) = copilot.http.get("/_sim/journal").json()["requests"]
    assert shown["sha256"] == received.sha256
    assert shown["headers"]["copilot-integration-id"] == "vscode-chat"
    later = copilot.http.get("/_sim/journal", params={"since": received.n}).json()
    assert later["requests"] == []
    copilot.control("reset")
    assert simulator.received == []
    assert copilot.http.get("/_sim/stats").json()["open_streams"] == 0
