"""Who caused a request: the person or the client's machinery."""

from typing import Any, Literal

import pytest

from proxy.formats.contract import Gist
from proxy.upstream.initiator import DECISIONS, Decision, Traits, decide, traits

CLAUDE_CODE = {"user-agent": "claude-cli/2.1.328 (external, cli)"}
OPENCODE = {"user-agent": "opencode/1.18.33 ai-sdk/provider-utils/4.0.23 runtime/bun/1.3.14"}
TITLE_SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}}


def decided(
    last: Literal["user", "tool", "assistant"] = "user",
    declared: Traits | None = None,
    client_value: str | None = None,
) -> Decision:
    said = declared or Traits()
    return decide(
        Gist(last=last),
        is_subagent=said.is_subagent,
        is_compaction=said.is_compaction,
        is_side_request=said.is_side_request,
        client_value=client_value,
    )


@pytest.mark.parametrize(
    ("last", "initiator", "rule"),
    [
        ("user", "user", "last_item_user"),
        ("tool", "agent", "last_item_tool"),
        ("assistant", "user", "last_item_assistant"),
    ],
)
def test_the_last_item_decides_and_doubt_counts_as_a_person(
    last: Literal["user", "tool", "assistant"], initiator: str, rule: str
) -> None:
    decision = decided(last)
    assert (decision.initiator, decision.rule) == (initiator, rule)
    assert decision.text


@pytest.mark.parametrize(
    ("declared", "rule"),
    [
        (Traits(is_subagent=True), "declared_subagent"),
        (Traits(is_compaction=True), "declared_compaction"),
        (Traits(is_side_request=True), "side_request"),
    ],
)
def test_what_the_client_declares_as_its_own_is_agent(declared: Traits, rule: str) -> None:
    decision = decided("user", declared)
    assert (decision.initiator, decision.rule) == ("agent", rule)


def test_a_client_may_say_user_but_never_agent() -> None:
    assert decided("tool", client_value=" User ").rule == "client_says_user"
    assert decided("user", Traits(is_subagent=True), "user").initiator == "user"
    assert decided("user", client_value="agent").initiator == "user"
    assert decided("tool", client_value="anything").initiator == "agent"
    assert decided("user", client_value="user").rule == "last_item_user"


def test_rules_are_distinct_codes() -> None:
    assert len({each.rule for each in DECISIONS}) == len(DECISIONS)


@pytest.mark.parametrize(
    ("headers", "path", "body", "expected"),
    [
        ({"x-claude-code-agent-id": "a1"}, "/v1/messages", {}, Traits(is_subagent=True)),
        ({"x-claude-code-agent-id": " "}, "/v1/messages", {}, Traits()),
        ({"x-openai-subagent": "review"}, "/v1/responses", {}, Traits(is_subagent=True)),
        ({"x-openai-subagent": "compact"}, "/v1/responses", {}, Traits(is_compaction=True)),
        # Codex 0.169 sums up by an ordinary request when the provider is one of the user's own.
        (
            {"x-codex-turn-metadata": '{"request_kind":"compaction","compaction":{}}'},
            "/v1/responses",
            {},
            Traits(is_compaction=True),
        ),
        ({"x-codex-turn-metadata": '{"request_kind":"turn"}'}, "/v1/responses", {}, Traits()),
        ({"x-codex-turn-metadata": "compaction"}, "/v1/responses", {}, Traits()),
        ({"x-codex-turn-metadata": '["compaction"]'}, "/v1/responses", {}, Traits()),
        ({}, "/v1/responses/compact", {}, Traits(is_compaction=True)),
        (
            {},
            "/v1/responses",
            {"input": [{"type": "message"}, {"type": "compaction_trigger"}]},
            Traits(is_compaction=True),
        ),
        (
            {},
            "/v1/responses",
            {"input": [{"type": "compaction_trigger"}, {"type": "message"}]},
            Traits(),
        ),
        ({}, "/v1/responses", {"generate": False}, Traits(is_side_request=True)),
        ({}, "/v1/responses", {"input": "hello"}, Traits()),
    ],
)
def test_declared_traits_are_recognised(
    headers: dict[str, str], path: str, body: dict[str, Any], expected: Traits
) -> None:
    source = "messages" if "messages" in path else "responses"
    assert traits(headers, path, body, source) == expected


def title_request(**changes: Any) -> dict[str, Any]:
    return {
        "tools": [],
        "output_config": {"format": {"type": "json_schema", "schema": TITLE_SCHEMA}},
        **changes,
    }


def test_claude_codes_session_title_is_a_side_request() -> None:
    assert traits(CLAUDE_CODE, "/v1/messages", title_request(), "messages").is_side_request
    asked_by_a_person = traits({}, "/v1/messages", title_request(), "messages")
    assert not asked_by_a_person.is_side_request
    with_tools = title_request(tools=[{"name": "Read"}])
    assert not traits(CLAUDE_CODE, "/v1/messages", with_tools, "messages").is_side_request
    wider = {"properties": {"title": {}, "body": {}}}
    other = title_request(output_config={"format": {"schema": wider}})
    assert not traits(CLAUDE_CODE, "/v1/messages", other, "messages").is_side_request


@pytest.mark.parametrize(
    ("source", "body"),
    [
        ("chat_completions", {"messages": [{"role": "system"}, {"role": "user", "content": "@"}]}),
        (
            "messages",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "@"}]}]},
        ),
        (
            "responses",
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "@"}]}]},
        ),
    ],
)
def test_opencodes_title_is_a_side_request_on_every_wire(source: str, body: dict[str, Any]) -> None:
    def with_opening(text: str) -> dict[str, Any]:
        return fill(body, text)

    title = with_opening("Generate a title for this conversation:\n")
    assert traits(OPENCODE, "/", title, source).is_side_request
    assert not traits({}, "/", title, source).is_side_request
    assert not traits(OPENCODE, "/", with_opening("hello"), source).is_side_request
    assert not traits(OPENCODE, "/", {**title, "tools": [{}]}, source).is_side_request


def fill(value: Any, text: str) -> Any:
    if isinstance(value, dict):
        return {key: fill(each, text) for key, each in value.items()}
    if isinstance(value, list):
        return [fill(each, text) for each in value]
    return text if value == "@" else value
