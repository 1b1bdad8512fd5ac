"""Headers to the Copilot API and back."""

from datetime import UTC, date, datetime
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.headers import (
    SHIPPED,
    Profile,
    accepted_betas,
    answer_headers,
    models_headers,
    quota_headers,
    request_headers,
)

CLAUDE_CODE_BETAS = (
    "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,"
    "per-turn-control-2026-07-01,mid-conversation-tool-changes-2026-07-01,"
    "thinking-token-count-2026-05-13,advanced-tool-use-2025-11-20,effort-2025-11-24"
)


def headers(profile: Profile = SHIPPED, **changes: Any) -> dict[str, str]:
    facts: dict[str, Any] = {
        "credential_token": "tid=1;exp=2:abc",
        "initiator": "user",
        "has_images": False,
        "request_id": "11111111-1111-4111-8111-111111111111",
        "interaction_id": "22222222-2222-4222-8222-222222222222",
    }
    return request_headers(profile, **{**facts, **changes})


def test_a_chat_request_carries_identity_initiator_and_ids() -> None:
    assert headers() == {
        "Authorization": "Bearer tid=1;exp=2:abc",
        "Copilot-Integration-Id": "vscode-chat",
        "Editor-Version": "vscode/1.140.0",
        "Editor-Plugin-Version": "copilot-chat/0.68.0",
        "User-Agent": "GitHubCopilotChat/0.68.0",
        "X-GitHub-Api-Version": "2026-08-01",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "X-Request-Id": "11111111-1111-4111-8111-111111111111",
        "X-Interaction-Id": "22222222-2222-4222-8222-222222222222",
        "X-Initiator": "user",
        "OpenAI-Intent": "conversation-agent",
        "X-Interaction-Type": "conversation-agent",
    }


def test_images_are_announced() -> None:
    assert headers(has_images=True)["Copilot-Vision-Request"] == "true"


def test_anthropic_headers_go_to_the_messages_endpoint_only() -> None:
    assert "anthropic-version" not in headers()
    assert headers(betas=[])["anthropic-version"] == "2023-06-01"
    assert "anthropic-beta" not in headers(betas=[])
    assert headers(betas=["a", "b"])["anthropic-beta"] == "a,b"


def test_a_raised_profile_changes_what_is_sent_without_a_release() -> None:
    raised = msgspec.structs.replace(
        SHIPPED, editor_version="vscode/1.150.0", valid_from=date(2026, 12, 1)
    )
    assert headers(raised)["Editor-Version"] == "vscode/1.150.0"
    assert headers(intent="conversation-panel")["X-Interaction-Type"] == "conversation-panel"
    assert headers(stream=True)["Accept"] == "text/event-stream"


def test_the_model_list_is_asked_without_initiator() -> None:
    asked = models_headers(SHIPPED, credential_token="x", request_id="r")
    assert asked["OpenAI-Intent"] == "model-access"
    assert "X-Initiator" not in asked


def test_betas_that_the_upstream_refuses_are_left_out_and_named() -> None:
    kept, dropped = accepted_betas(CLAUDE_CODE_BETAS, SHIPPED, set())

    assert kept == [
        "claude-code-20250219",
        "interleaved-thinking-2025-05-14",
        "context-management-2025-06-27",
        "advanced-tool-use-2025-11-20",
        "effort-2025-11-24",
    ]
    assert dropped == [
        "per-turn-control-2026-07-01",
        "mid-conversation-tool-changes-2026-07-01",
        "thinking-token-count-2026-05-13",
    ]


def test_needed_betas_are_added_once_and_only_when_allowed() -> None:
    needed = {"mid-conversation-system-2026-04-07", "claude-code-20250219", "unheard-of"}

    kept, dropped = accepted_betas(" claude-code-20250219 ,, ", SHIPPED, needed)

    assert kept == ["claude-code-20250219", "mid-conversation-system-2026-04-07"]
    assert dropped == []
    assert accepted_betas(None, SHIPPED, set()) == ([], [])


def test_the_client_sees_the_upstreams_id_and_nothing_else() -> None:
    upstream = {
        "X-GitHub-Request-Id": "AAAA:BBBBB:CCCCCC",
        "set-cookie": "s=1",
        "server": "nginx",
        "content-security-policy": "default-src 'none'",
        "x-quota-snapshot-chat": "ent=-1",
        "transfer-encoding": "chunked",
    }
    assert answer_headers(upstream) == {"x-gateway-upstream-id": "AAAA:BBBBB:CCCCCC"}
    assert answer_headers({"x-github-request-id": "a\r\nset-cookie: b"}) == {}
    assert answer_headers({}) == {}


def test_quota_headers_are_read() -> None:
    readings = quota_headers(
        {
            "X-Quota-Snapshot-Chat": "ent=-1&ov=0.0&ovPerm=false&rem=100.0"
            "&rst=2026-12-01T00%3A00%3A00Z",
            "x-quota-snapshot-premium_interactions": "ent=4000&ov=2.5&ovPerm=true&rem=-4.3"
            "&rst=2026-12-01T00:00:00+00:00&totRem=3830.1",
            "x-usage-ratelimit-weekly": "ent=100&rem=12.5&rst=2026-11-23T00%3A00%3A00",
            "content-type": "application/json",
        }
    )

    assert set(readings) == {"chat", "premium_interactions", "weekly"}
    assert readings["chat"].unlimited
    premium = readings["premium_interactions"]
    assert (premium.entitlement, premium.remaining, premium.percent_remaining) == (
        4000,
        3830.1,
        -4.3,
    )
    assert (premium.overage, premium.overage_permitted) == (2.5, True)
    assert premium.resets_at == datetime(2026, 12, 1, tzinfo=UTC)
    assert readings["weekly"].resets_at == datetime(2026, 11, 23, tzinfo=UTC)


def test_what_cannot_be_read_is_left_out() -> None:
    readings = quota_headers(
        {
            "x-quota-snapshot-chat": "nonsense",
            "x-quota-snapshot-": "ent=1",
            "x-quota-snapshot-completions": "ent=nan&rem=inf&ov=&rst=tomorrow&ovPerm=yes",
            "x-usage-ratelimit-session": "ent=10&rem=x",
        }
    )
    assert set(readings) == {"session"}
    assert readings["session"].entitlement == 10
    assert readings["session"].percent_remaining is None


@given(st.text(max_size=60), st.text(max_size=200))
def test_no_header_breaks_the_reading(name: str, value: str) -> None:
    quota_headers({f"x-quota-snapshot-{name}": value, "x-usage-ratelimit-session": value})
    answer_headers({"x-github-request-id": value})
    accepted_betas(value, SHIPPED, set())
