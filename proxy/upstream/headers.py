"""Headers of the Copilot API: what we send, what of the answer's we read, what we pass on.

Pure functions over a `Profile`, the dated set of identity values. An operator raises those without
a release. Nothing of the client's own headers is forwarded but betas that are on the allow-list.
Source: docs/upstream.md#request-headers.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Final
from urllib.parse import parse_qsl

from msgspec import Struct

# Betas that the upstream answered with 200. Source: docs/upstream.md#beta-headers.
ACCEPTED_BETAS: Final = frozenset(
    {
        "advanced-tool-use-2025-11-20",
        "claude-code-20250219",
        "context-management-2025-06-27",
        "effort-2025-11-24",
        "extended-cache-ttl-2025-04-11",
        "fine-grained-tool-streaming-2025-05-14",
        "interleaved-thinking-2025-05-14",
        "mid-conversation-system-2026-04-07",
        "oauth-2025-04-20",
        "prompt-caching-2024-07-31",
        "prompt-caching-scope-2026-01-05",
        "token-efficient-tools-2025-02-19",
        "tool-search-tool-2025-11-19",
    }
)

ANTHROPIC_VERSION: Final = "2023-06-01"
MAX_BETAS: Final = 64
MAX_QUOTA_VALUE: Final = 2_000


class Profile(Struct, kw_only=True, frozen=True):
    """Who we say we are, as one dated set of values. `valid_from` is the day they were read.

    `api_version` goes to the Copilot API, `rest_api_version` to api.github.com: each refuses the
    other's dates. `intent` is the surface named in OpenAI-Intent.
    """

    name: str = "editor-2026-10"
    valid_from: date = date(2026, 10, 6)
    api_version: str = "2026-08-01"
    rest_api_version: str = "2025-04-01"
    integration_id: str = "vscode-chat"
    editor_version: str = "vscode/1.140.0"
    plugin_version: str = "copilot-chat/0.68.0"
    user_agent: str = "GitHubCopilotChat/0.68.0"
    intent: str = "conversation-agent"
    accepted_betas: frozenset[str] = ACCEPTED_BETAS


SHIPPED: Final = Profile()


class QuotaReading(Struct, kw_only=True, frozen=True):
    """One quota header. `percent_remaining` is 0 to 100 (negative in overage); `None`: unsaid.

    `entitlement`, `remaining` and `overage` are in the quota's own unit (AI credits since
    2026-06-01). Source: docs/upstream.md#quota-headers.
    """

    entitlement: float | None = None
    unlimited: bool = False
    remaining: float | None = None
    percent_remaining: float | None = None
    overage: float | None = None
    overage_permitted: bool | None = None
    resets_at: datetime | None = None


def request_headers(
    profile: Profile,
    *,
    credential_token: str,
    initiator: str,
    has_images: bool,
    request_id: str,
    interaction_id: str,
    betas: Sequence[str] | None = None,
    intent: str | None = None,
    stream: bool = False,
) -> dict[str, str]:
    """The whole header set of one upstream attempt; `request_id` is new for each attempt.

    `betas` is `None` off the messages endpoint, where no Anthropic header belongs.
    Source: docs/upstream.md#request-headers.
    """
    surface = intent or profile.intent
    headers = {
        **identity_headers(profile, credential_token),
        "Content-Type": "application/json",
        "Accept": "text/event-stream" if stream else "application/json",
        "X-Request-Id": request_id,
        "X-Interaction-Id": interaction_id,
        "X-Initiator": initiator,
        "OpenAI-Intent": surface,
        "X-Interaction-Type": surface,
    }
    if has_images:
        # Without it the upstream ignores the images or refuses the call.
        headers["Copilot-Vision-Request"] = "true"
    if betas is not None:
        headers["anthropic-version"] = ANTHROPIC_VERSION
        if betas:
            headers["anthropic-beta"] = ",".join(betas)
    return headers


def models_headers(profile: Profile, *, credential_token: str, request_id: str) -> dict[str, str]:
    """Headers of `GET /models`, which nobody initiates. Source: docs/upstream.md#models."""
    return {
        **identity_headers(profile, credential_token),
        "Accept": "application/json",
        "X-Request-Id": request_id,
        "OpenAI-Intent": "model-access",
        "X-Interaction-Type": "model-access",
    }


def policy_headers(profile: Profile, *, credential_token: str, request_id: str) -> dict[str, str]:
    """Headers of `POST /models/{id}/policy`. Source: docs/upstream.md#models."""
    return {
        **identity_headers(profile, credential_token),
        "Content-Type": "application/json",
        "Accept": "application/json",
        "X-Request-Id": request_id,
        "OpenAI-Intent": "chat-policy",
        "X-Interaction-Type": "chat-policy",
    }


def identity_headers(profile: Profile, credential_token: str) -> dict[str, str]:
    """The credential and the client identity, on every call to the Copilot API."""
    return {
        "Authorization": f"Bearer {credential_token}",
        "Copilot-Integration-Id": profile.integration_id,
        "Editor-Version": profile.editor_version,
        "Editor-Plugin-Version": profile.plugin_version,
        "User-Agent": profile.user_agent,
        "X-GitHub-Api-Version": profile.api_version,
    }


def accepted_betas(
    client_header: str | None, profile: Profile, needed: Iterable[str] = ()
) -> tuple[list[str], list[str]]:
    """Which betas to send, and which of the client's to leave out, both in a stable order.

    `needed` are those that the body cannot do without (`quirks.needed_betas`); they are subject to
    the same allow-list, because one unknown beta makes the upstream refuse the whole request.
    Source: docs/upstream.md#beta-headers.
    """
    asked = [beta.strip() for beta in (client_header or "").split(",")][:MAX_BETAS]
    asked = list(dict.fromkeys(beta for beta in asked if beta))
    kept = [beta for beta in asked if beta in profile.accepted_betas]
    kept += sorted(beta for beta in set(needed) - set(kept) if beta in profile.accepted_betas)
    dropped = [beta for beta in asked if beta not in profile.accepted_betas]
    return kept, dropped


def answer_headers(upstream_headers: Mapping[str, str]) -> dict[str, str]:
    """What of an upstream answer's headers the client may see: the id that support asks for.

    Everything else (cookies, CSP, CORS, HSTS, server names, quota, hop-by-hop) stays here.
    Source: docs/upstream.md#response-headers.
    """
    upstream_id = upstream_headers.get("x-github-request-id")
    if upstream_id is None:
        upstream_id = _lowered(upstream_headers).get("x-github-request-id", "")
    upstream_id = upstream_id.strip()
    if not upstream_id or len(upstream_id) > 128 or not upstream_id.isprintable():
        return {}
    return {"x-gateway-upstream-id": upstream_id}


def quota_headers(headers: Mapping[str, str]) -> dict[str, QuotaReading]:
    """The quota that an answer reports, by quota name, plus `session` and `weekly`.

    Names are open (`chat`, `completions`, `premium_interactions`, the older `premium_models`).
    Values lag some calls behind and are absent on errors. Never raises: what cannot be read is
    `None`, a header that says nothing is left out. Source: docs/upstream.md#quota-headers.
    """
    readings: dict[str, QuotaReading] = {}
    for name, value in headers.items():
        if name[:8].lower() not in ("x-quota-", "x-usage-"):
            continue
        header = name.lower()
        for prefix in ("x-quota-snapshot-", "x-usage-ratelimit-"):
            name = header.removeprefix(prefix)
            if name in ("", header):
                continue
            reading = _read_quota(value[:MAX_QUOTA_VALUE])
            if reading is not None:
                readings[name] = reading
    return readings


def _read_quota(value: str) -> QuotaReading | None:
    fields = dict(parse_qsl(value.strip()))
    reading = QuotaReading(
        entitlement=_number(fields.get("ent")),
        unlimited=_number(fields.get("ent")) == -1,
        remaining=_number(fields.get("totRem")),
        percent_remaining=_number(fields.get("rem")),
        overage=_number(fields.get("ov")),
        overage_permitted=_truth(fields.get("ovPerm")),
        resets_at=_moment(fields.get("rst")),
    )
    return None if reading == QuotaReading() else reading


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _truth(text: str | None) -> bool | None:
    return {"true": True, "false": False}.get((text or "").lower())


def _moment(text: str | None) -> datetime | None:
    text = (text or "").strip()
    # A plus sign that was not percent-encoded has become a blank.
    for spelling in (text, text.replace(" ", "+")):
        try:
            moment = datetime.fromisoformat(spelling)
        except ValueError:
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
