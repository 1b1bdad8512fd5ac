"""Joining, agreeing and leaving through a running gateway: pages and API of one process."""

import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

NEW = "a sentence nobody guesses 7"
MESSAGES = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 16}
CALLS = {
    "/v1/chat/completions": {"model": "gpt-4.1", **MESSAGES},
    "/v1/messages": {"model": "claude-sonnet-4.6", **MESSAGES},
    "/v1/responses": {"model": "gpt-5.5", "input": "hi"},
    "/v1beta/models/gemini-2.5-pro:generateContent": {"contents": [{"parts": [{"text": "hi"}]}]},
}


def send(client: httpx.Client, path: str, **values: Any) -> httpx.Response:
    """Fill in the form of a page, as a browser does: with the token against forgery."""
    token = client.cookies.get("gateway_csrf")
    if token is None:
        client.get("/dashboard/me/")
        token = client.cookies.get("gateway_csrf")
    answer = client.post(path, data={"csrfmiddlewaretoken": token, **values})
    assert answer.status_code < 400, answer.text
    return answer


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text
    return match[1]


@pytest.mark.timeout(120)
def test_a_member_joins_agrees_calls_and_leaves(new_gateway: Callable[..., Any]) -> None:
    gateway = new_gateway(GATEWAY_REQUIRE_KEYS="1")
    with (
        httpx.Client(base_url=gateway.url, follow_redirects=True) as owner,
        httpx.Client(base_url=gateway.url, follow_redirects=True) as dora,
        httpx.Client(base_url=gateway.url) as api,
    ):
        assert owner.get(gateway.sign_in_link).status_code == 200
        made = send(owner, "/dashboard/invites/new/", role="member", days="7", email="", team="")
        join = found(r"(/dashboard/join/[\w-]+/)", made.text)
        dora.get(join)
        joined = send(
            dora, join, username="dora", password=NEW, repeated=NEW, first_name="", last_name=""
        )
        assert joined.url.path == "/dashboard/"
        form = dora.get("/dashboard/keys/new/").text
        number = found(r'name="form_id" value="([\w-]+)"', form)
        shown = send(dora, "/dashboard/keys/new/", form_id=number, name="laptop").text
        api.headers["x-api-key"] = found(r"(cgw_[\w-]{43})", shown)
        # The key is let in; Dora has no seat of her own yet, and nobody else's is used.
        assert api.get("/v1/models").status_code == 503

        send(owner, "/dashboard/notice/edit/", text="Be kind.")

        for path, body in CALLS.items():
            answer = api.post(path, json=body)
            assert answer.status_code == 403, (path, answer.text)
            assert f"{gateway.url}/dashboard/notice/" in answer.text
            assert answer.headers["x-should-retry"] == "false"
        page = dora.get("/dashboard/notice/").text
        send(dora, "/dashboard/notice/", notice=found(r'name="notice" value="(\d+)"', page))
        assert api.get("/v1/models").status_code == 503

        send(owner, "/dashboard/members/dora/disable/")

        began = time.monotonic()
        assert api.get("/v1/models").status_code == 401
        assert time.monotonic() - began < 2
        assert dora.get("/dashboard/").url.path == "/dashboard/sign-in/"
        assert gateway.query("SELECT revoked_at FROM accounts_apikey")[0]["revoked_at"]
        said = {row["action"] for row in gateway.query("SELECT action FROM accounts_auditentry")}
        assert {"member.joined", "notice.published", "notice.agreed", "member.disabled"} <= said
