"""GitHub's REST answers about a person: `/user`, the token exchange and the quota document.

Source: docs/upstream.md (Copilot token exchange, account endpoints).
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import orjson

from simulator import metering, minting
from simulator.device_flow import EXCHANGING_CLIENTS
from simulator.refusals import CATALOGUE, Refusal, denied_exchange, rest
from simulator.script import Call
from simulator.state import Account, CopilotToken, GitHubToken, Json, State

MAX_TOKENS_KEPT = 10_000
REST_VERSIONS = frozenset({"2022-11-28", "2025-04-01", "2026-03-10"})


async def _send(call: Call, document: Json) -> None:
    headers = [
        ("content-type", "application/json; charset=utf-8"),
        ("x-github-request-id", minting.github_request_id(call.state)),
        ("x-github-media-type", "github.v3; format=json"),
        ("x-ratelimit-limit", "5000"),
        ("x-ratelimit-remaining", "4990"),
    ]
    await call.out.send(200, headers, orjson.dumps(document))


def _credential(call: Call) -> tuple[GitHubToken, Account]:
    """Return the GitHub token and its account; raises the REST front's refusals."""
    if not call.header("user-agent"):
        raise Refusal(
            403,
            b"\r\nRequest forbidden by administrative rules. "
            b"Please make sure your request has a User-Agent header.\r\n",
        )
    version = call.header("x-github-api-version")
    if version and version not in REST_VERSIONS:
        raise rest(400, f'"{version}" is not a supported version.')
    scheme, _, value = call.header("authorization").partition(" ")
    token = call.state.github_token(value.strip())
    if token is None or token.revoked or scheme.lower() not in ("token", "bearer"):
        raise CATALOGUE["bad_credentials"]
    account = call.state.account(token.login)
    if account.refusal == "revoked" or not _is_home(call, account):
        raise CATALOGUE["bad_credentials"]
    return token, account


def _is_home(call: Call, account: Account) -> bool:
    """Each tenant of ghe.com knows its own accounts only, and github.com none of theirs."""
    here = call.header("host")
    if account.github_host is not None:
        return urlsplit(account.github_host).netloc == here
    return all(
        other.github_host is None or urlsplit(other.github_host).netloc != here
        for other in call.state.accounts.values()
    )


async def user(call: Call) -> None:
    """`GET /user`."""
    token, account = _credential(call)
    if token.kind == "ghs":
        raise rest(403, "Resource not accessible by integration")
    await _send(
        call,
        {
            "login": account.login,
            "id": account.id,
            "node_id": f"MDQ6VXNlcj{account.id}",
            "avatar_url": f"https://avatars.githubusercontent.com/u/{account.id}?v=4",
            "html_url": f"https://github.com/{account.login}",
            "type": "User",
            "name": account.login.capitalize(),
            "email": None,
        },
    )


def _endpoints(base_url: str) -> Json:
    return {
        "api": base_url,
        "proxy": base_url.replace("//api.", "//proxy."),
        "telemetry": base_url.replace("//api.", "//telemetry."),
        "origin-tracker": base_url.replace("//api.", "//origin-tracker."),
    }


async def exchange(call: Call) -> None:
    """`GET /copilot_internal/v2/token`: a GitHub token for a short-lived Copilot token."""
    state = call.state
    token, account = _credential(call)
    account.exchanges += 1
    if state.config.exchange_latency_s:
        await asyncio.sleep(state.config.exchange_latency_s)
    may = token.kind == "ghu" or (token.kind == "gho" and token.client_id in EXCHANGING_CLIENTS)
    if not may or not token.may_request_copilot or account.refusal == "hidden":
        raise CATALOGUE["rest_not_found"]
    if account.refusal is not None:
        raise denied_exchange(account.refusal)
    issued = issue_copilot_token(state, account, token)
    document = _exchange_document(state, account, issued)
    document |= state.config.token_body
    for name in state.config.token_body_drop:
        document.pop(name, None)
    await _send(call, document)


def issue_copilot_token(state: State, account: Account, token: GitHubToken) -> CopilotToken:
    expires_at = state.now() + state.config.token_life_s
    proxy = state.copilot_url(account).partition("//")[2].replace("api.", "proxy.", 1)
    fields = {
        "tid": state.random.randbytes(8).hex(),
        "exp": str(int(expires_at)),
        "sku": account.sku,
        "proxy-ep": proxy,
        "st": "dotcom",
        "chat": "1",
        "cit": "1",
        "malfil": "1",
        "agent_mode": "1",
        "mcp": "1",
        "ccr": "1",
        "8kp": "1",
        "ip": "203.0.113.9",
        "asn": "AS64500",
        "rt": "1",
    }
    text = ";".join(f"{key}={value}" for key, value in fields.items())
    value = f"{text}:{state.random.randbytes(32).hex()}"
    issued = CopilotToken(value, account.login, token.value, expires_at)
    state.copilot_tokens[value] = issued
    while len(state.copilot_tokens) > MAX_TOKENS_KEPT:
        state.copilot_tokens.pop(next(iter(state.copilot_tokens)))
    return issued


def _exchange_document(state: State, account: Account, issued: CopilotToken) -> Json:
    is_free = account.plan == "free"
    remaining = {"chat": max(0, int(account.remaining)), "completions": 1990}
    return {
        "token": issued.value,
        "expires_at": int(issued.expires_at),
        "refresh_in": state.config.refresh_in_s,
        "sku": account.sku,
        "individual": account.plan.startswith("individual") or is_free,
        "chat_enabled": True,
        "annotations_enabled": True,
        "agent_mode_auto_approval": True,
        "code_quote_enabled": True,
        "code_review_enabled": True,
        "codesearch": True,
        "copilotignore_enabled": False,
        "blackbird_clientside_indexing": False,
        "vsc_electron_fetcher_v2": False,
        "xcode": True,
        "xcode_chat": False,
        "public_suggestions": "disabled",
        "telemetry": "disabled",
        "snippy_load_test_enabled": False,
        "endpoints": _endpoints(state.copilot_url(account)),
        "enterprise_list": [12345] if account.plan == "enterprise" else None,
        "organization_list": ["a5db0bcaae94032fe715fb34a5e4bce2"] if account.organisation else [],
        "limited_user_quotas": remaining if is_free else None,
        "limited_user_reset_date": metering.RESET_UNIX if is_free else None,
        "tracking_id": "9a1b",
        "nes_enabled": True,
        "prompt_8k": True,
    }


async def copilot_user(call: Call) -> None:
    """`GET /copilot_internal/user`: the plan, the hosts and the quota."""
    state = call.state
    token, account = _credential(call)
    account.user_polls += 1
    if token.kind in ("ghs", "ghp") or not token.may_request_copilot or account.refusal == "hidden":
        raise CATALOGUE["rest_not_found"]
    if account.refusal is not None:
        raise denied_exchange(account.refusal)
    document = _user_document(state, account)
    document |= state.config.user_body
    for name in state.config.user_body_drop:
        document.pop(name, None)
    await _send(call, document)


def _user_document(state: State, account: Account) -> Json:
    document: Json = {
        "login": account.login,
        "access_type_sku": account.sku,
        "copilot_plan": account.plan,
        "analytics_tracking_id": "d41d8c",
        "assigned_date": "2026-02-03T10:11:12+01:00",
        "can_signup_for_limited": False,
        "chat_enabled": True,
        "copilotignore_enabled": account.organisation is not None,
        "is_mcp_enabled": True,
        "codex_agent_enabled": True,
        "restricted_telemetry": True,
        "is_staff": False,
        "can_upgrade_plan": not account.organisation,
        "organization_login_list": [account.organisation] if account.organisation else [],
        "organization_list": [{"login": account.organisation, "name": account.organisation.title()}]
        if account.organisation
        else [],
        "endpoints": _endpoints(account.user_host or state.copilot_url(account)),
    }
    if account.plan == "free" and not account.token_based_billing:
        used = int(account.premium_used)
        total = int(account.entitlement)
        return document | {
            "monthly_quotas": {"chat": total, "completions": 2000},
            "limited_user_quotas": {"chat": total - used, "completions": 1990},
            "limited_user_reset_date": metering.RESET_DATE,
        }
    return document | {
        "token_based_billing": account.token_based_billing,
        "te": False,
        "quota_reset_date": metering.RESET_DATE,
        "quota_reset_date_utc": "2026-12-01T00:00:00.000Z",
        "quota_snapshots": {
            "chat": _unlimited(state, account, "chat"),
            "completions": _unlimited(state, account, "completions"),
            "premium_interactions": _premium(state, account),
        },
    }


def _timestamp(state: State) -> str:
    moment = datetime.fromtimestamp(state.now(), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _unlimited(state: State, account: Account, quota_id: str) -> Json:
    return {
        "quota_id": quota_id,
        "entitlement": 0,
        "remaining": 0,
        "quota_remaining": 0.0,
        "percent_remaining": 100.0,
        "unlimited": True,
        "overage_count": 0,
        "overage_permitted": False,
        "timestamp_utc": _timestamp(state),
        "token_based_billing": account.token_based_billing,
        "has_quota": False,
    }


def _premium(state: State, account: Account) -> Json:
    """Return the premium quota; pooled seats show only credits used, overage goes negative."""
    used = account.used
    pooled = account.pooled or account.unlimited
    remaining = 0.0 if pooled else account.entitlement - used
    entitlement: Any = 0 if account.pooled else int(account.entitlement)
    snapshot = {
        "quota_id": "premium_interactions",
        "entitlement": str(entitlement) if account.entitlement_as_text else entitlement,
        "remaining": int(remaining),
        "quota_remaining": round(remaining, 1),
        "percent_remaining": 100.0 if pooled else metering.percent_left(account, used),
        "unlimited": account.unlimited,
        "overage_count": 0 if pooled else max(0, round(used - account.entitlement, 1)),
        "overage_permitted": account.overage_permitted,
        "overage_entitlement": account.overage_entitlement,
        "has_quota": not pooled and remaining > 0,
        "quota_reset_at": 0 if account.reset_at_unknown else metering.RESET_UNIX,
        "token_based_billing": account.token_based_billing,
        "timestamp_utc": _timestamp(state),
    }
    if account.token_based_billing:
        snapshot["credits_used"] = round(used, 4)
    return snapshot
