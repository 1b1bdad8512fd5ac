"""GitHub over HTTP: device flow, token exchange, account document, whose token it is.

The only module of `accounts` that imports httpx. Every call opens its own client, because calls
come from several event loops and are rare. Source: docs/upstream.md#device-flow, #token-exchange.
"""

import asyncio
import functools
import math
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import parse_qsl

import httpx
import orjson
from django.conf import settings

from accounts import refusals
from accounts.errors import GitHubRefused
from accounts.hosts import DOTCOM, api_url, copilot_host, github_url
from accounts.models import Account
from accounts.profiles import active_profile

__all__ = [
    "account_document",
    "copilot_host",
    "credential_kind_for",
    "exchange",
    "installation_token",
    "poll_device_flow",
    "start_device_flow",
    "token_kind",
    "whoami",
]

TIMEOUT_S: Final = 10.0
MAX_BODY_BYTES: Final = 1024 * 1024
MAX_TOKEN_CHARS: Final = 1024
# Of GitHub's REST API, for `/user` only. Source: docs/upstream.md#other-endpoints.
USER_API_VERSION: Final = "2022-11-28"
DEFAULT_RATE_LIMIT_WAIT_S: Final = 60.0
LONGEST_WAIT_S: Final = 24 * 3600.0
GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"

_KINDS: Final = ("ghu", "gho", "ghp", "ghs", "github_pat")
_SECRET = re.compile(r"gh[opsur]_\w{2,}|github_pat_\w{2,}|tid=\S+|(?:bearer|token)\s+\S{12,}", re.I)


async def start_device_flow(*, host: str = DOTCOM) -> dict[str, Any]:
    """Ask for a code: `device_code`, `user_code`, `verification_uri`, `expires_in`, `interval`.

    Raises `GitHubRefused`. Source: docs/upstream.md#device-flow.
    """
    profile = active_profile()
    form = {"client_id": profile.client_id, "scope": profile.scope}
    answer = await _post(f"{github_url(host)}/login/device/code", form)
    if error := answer.get("error"):
        raise device_refusal(str(error), answer)
    for name in ("device_code", "user_code", "verification_uri"):
        if not isinstance(answer.get(name), str) or not answer[name]:
            raise _unreadable(200)
    # Shown as a link.
    if not answer["verification_uri"].startswith(("https://", "http://")):
        raise _unreadable(200)
    return answer


async def poll_device_flow(device_code: str, *, host: str = DOTCOM) -> dict[str, Any]:
    """Ask once whether the person is done: `access_token`, or `error` (with `interval`).

    The flow's own errors come as 200 and are given back, not raised.
    """
    form = {
        "client_id": active_profile().client_id,
        "device_code": device_code,
        "grant_type": GRANT,
    }
    answer = await _post(f"{github_url(host)}/login/oauth/access_token", form)
    if not isinstance(answer.get("access_token") or answer.get("error"), str):
        raise _unreadable(200)
    return answer


def device_refusal(error: str, answer: Mapping[str, Any]) -> GitHubRefused:
    """The device flow's `error` word as an exception with the next step."""
    said = scrub(str(answer.get("error_description") or error))
    message = refusals.BY_DEVICE_ERROR.get(error, f"GitHub ended the sign-in: {said}. Start again.")
    return GitHubRefused(message, status=200, reason=error)


async def exchange(github_token: str, *, host: str = DOTCOM) -> dict[str, Any]:
    """Exchange a GitHub token for a Copilot token: `token`, `refresh_in`, `endpoints`, ….

    Only `token` is sure to be there. Raises `GitHubRefused`; its message says what to do next.
    """
    headers = _identity() | {"authorization": f"token {github_token}"}
    answer = await _get(f"{api_url(host)}/copilot_internal/v2/token", headers, github_token)
    token = answer.get("token")
    if not isinstance(token, str) or not _is_sendable(token):
        raise _unreadable(200)
    return answer


async def account_document(github_token: str, *, host: str = DOTCOM) -> dict[str, Any]:
    """Plan, quota and hosts of the account. Source: docs/upstream.md#account-document."""
    headers = _identity() | {"authorization": f"Bearer {github_token}"}
    answer = await _get(f"{api_url(host)}/copilot_internal/user", headers, github_token)
    if not ({"login", "copilot_plan", "quota_snapshots", "endpoints"} & answer.keys()):
        raise _unreadable(200)
    return answer


async def whoami(github_token: str, *, host: str = DOTCOM) -> dict[str, Any]:
    """`login` and `id` of the token's account."""
    headers = {
        "accept": "application/vnd.github+json",
        "authorization": f"Bearer {github_token}",
        "user-agent": active_profile().user_agent,
        "x-github-api-version": USER_API_VERSION,
    }
    answer = await _get(f"{api_url(host)}/user", headers, github_token)
    if not isinstance(answer.get("login"), str) or not answer["login"]:
        raise _unreadable(200)
    return answer


class NoteRefused(GitHubRefused):
    """GitHub does not believe an App's proof. `said_at` is GitHub's time, for clocks that differ."""

    def __init__(self, message: str, *, said_at: datetime | None) -> None:
        super().__init__(message, status=401, reason=refusals.REVOKED)
        self.said_at = said_at


async def installation_token(
    note: str, installation_id: int, *, host: str = DOTCOM
) -> tuple[dict[str, Any], datetime | None]:
    """A token of an App's installation, for Copilot alone: `token`, `expires_at`; GitHub's time.

    `note` is the App's proof. Raises `NoteRefused` and `GitHubRefused`.
    Source: docs/upstream.md#installation-tokens.
    """
    headers = {
        "accept": "application/vnd.github+json",
        "authorization": f"Bearer {note}",
        "content-type": "application/json",
        "user-agent": active_profile().user_agent,
        "x-github-api-version": USER_API_VERSION,
    }
    url = f"{api_url(host)}/app/installations/{installation_id}/access_tokens"
    # No more than it is needed for: the App may hold other permissions.
    wanted = orjson.dumps({"permissions": {"copilot_requests": "write"}})
    status, answered, body = await _call("POST", url, headers, wanted)
    parsed = _json(body)
    said_at = _date(answered.get("date", ""))
    if status == 401:
        raise NoteRefused(refusals.APP_UNKNOWN, said_at=said_at)
    if status not in (200, 201):
        raise _installation_refusal(status, answered, parsed, note)
    token = (parsed or {}).get("token")
    if parsed is None or not isinstance(token, str) or not _is_sendable(token):
        raise _unreadable(status)
    return parsed, said_at


def _installation_refusal(
    status: int, headers: Mapping[str, str], body: Mapping[str, Any] | None, secret: str
) -> GitHubRefused:
    said = str((body or {}).get("message") or "").lower()
    if status == 404:
        return GitHubRefused(refusals.APP_NOT_INSTALLED, status=status, reason=refusals.NOT_ALLOWED)
    if status == 403 and "suspended" in said:
        return GitHubRefused(refusals.APP_SUSPENDED, status=status, reason=refusals.FORBIDDEN)
    if status == 422 or (status == 403 and "permission" in said):
        return GitHubRefused(refusals.APP_WITHOUT_PERMISSION, status=403, reason=refusals.FORBIDDEN)
    return _refusal(status, headers, body, secret)


def token_kind(token: str) -> str:
    """ghu, gho, ghp, ghs, github_pat or, for anything else, unknown."""
    return next((kind for kind in _KINDS if token.startswith(f"{kind}_")), "unknown")


def credential_kind_for(kind: str) -> str:
    """How a token of that kind becomes a bearer. Source: docs/upstream.md#token-kinds."""
    if kind in ("gho", "ghs", "github_pat"):
        return Account.CredentialKind.DIRECT
    return Account.CredentialKind.EXCHANGE


def check_token(token: str) -> str:
    """The token without blanks around it. Refuses at once what can never work."""
    text = token.strip()
    if text.startswith("tid="):
        raise GitHubRefused(refusals.COPILOT_TEXT, status=0, reason=refusals.UNUSABLE)
    if not _is_sendable(text) or len(text) > MAX_TOKEN_CHARS:
        raise GitHubRefused(refusals.UNKNOWN_TEXT, status=0, reason=refusals.UNUSABLE)
    if token_kind(text) == "ghp":
        raise GitHubRefused(refusals.CLASSIC_PAT, status=0, reason=refusals.UNUSABLE)
    return text


def scrub(text: str, secret: str = "") -> str:
    """`text` without `secret` or anything that looks like a token, one line, at most 300 long."""
    if secret:
        text = text.replace(secret, "[secret]")
    return " ".join(_SECRET.sub("[secret]", text).split())[:300]


def _identity() -> dict[str, str]:
    profile = active_profile()
    return {
        "accept": "application/json",
        "user-agent": profile.user_agent,
        "x-github-api-version": profile.rest_api_version,
        "editor-version": profile.editor_version,
        "editor-plugin-version": profile.plugin_version,
    }


def _is_sendable(token: str) -> bool:
    """Visible ASCII only: anything else cannot be a header's value."""
    return bool(token) and all("!" <= char <= "~" for char in token)


async def _post(url: str, form: Mapping[str, str]) -> dict[str, Any]:
    headers = {"accept": "application/json", "user-agent": active_profile().user_agent}
    status, answered, body = await _call("POST", url, headers, form)
    # Without an Accept that it likes GitHub answers as a form.
    parsed = _json(body) or _form(body)
    if status != 200:
        raise _refusal(status, answered, parsed, form.get("device_code", ""))
    if parsed is None:
        raise _unreadable(status)
    return parsed


async def _get(url: str, headers: Mapping[str, str], secret: str) -> dict[str, Any]:
    if not _is_sendable(secret):
        raise GitHubRefused(refusals.UNKNOWN_TEXT, status=0, reason=refusals.UNUSABLE)
    status, answered, body = await _call("GET", url, headers, None)
    parsed = _json(body)
    if status != 200:
        raise _refusal(status, answered, parsed or _sentence(body), secret)
    if parsed is None:
        raise _unreadable(status)
    return parsed


async def _call(
    method: str, url: str, headers: Mapping[str, str], sent: Mapping[str, str] | bytes | None
) -> tuple[int, httpx.Headers, bytes]:
    """Status, headers and body within the time limit. Redirects are not followed: a token goes
    nowhere that settings do not name. `sent` is a form, or bytes as they are.
    """
    form = sent if isinstance(sent, Mapping) else None
    content = sent if isinstance(sent, bytes) else None
    limit_s = float(getattr(settings, "GATEWAY_GITHUB_TIMEOUT_S", TIMEOUT_S))
    try:
        async with (
            asyncio.timeout(limit_s),
            httpx.AsyncClient(
                timeout=limit_s,
                trust_env=settings.PROXY_ENV,
                verify=_tls(),
                follow_redirects=False,
            ) as client,
            client.stream(
                method, url, headers=dict(headers), data=form, content=content
            ) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise _unreadable(response.status_code)
            return response.status_code, response.headers, bytes(body)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
        # The error's text names hosts, never headers; even so only its kind is told.
        kind = "did not answer in time" if _is_timeout(error) else "cannot be reached"
        raise GitHubRefused(
            f"GitHub {kind}. Check the network and githubstatus.com, then try again.",
            status=0,
            reason=refusals.UNREACHABLE,
        ) from None


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, TimeoutError | httpx.TimeoutException)


@functools.lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Made once: reading the certificates takes tens of milliseconds."""
    return httpx.create_ssl_context(trust_env=settings.PROXY_ENV)


def _json(body: bytes) -> dict[str, Any] | None:
    """The object in `body`, whatever its content type says; None when it is none."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _sentence(body: bytes) -> dict[str, Any] | None:
    """An error that came as a line of bare text, in the place where JSON would have it."""
    text = body[:500].decode("utf-8", "replace").strip()
    return {"message": text} if text and "<" not in text and "{" not in text else None


def _form(body: bytes) -> dict[str, Any] | None:
    text = body.decode("utf-8", "replace").strip()
    if "<" in text or "=" not in text:
        return None
    return dict(parse_qsl(text)) or None


def _unreadable(status: int) -> GitHubRefused:
    return GitHubRefused(
        refusals.TEXTS[refusals.UNREADABLE], status=status, reason=refusals.UNREADABLE
    )


def _refusal(
    status: int, headers: Mapping[str, str], body: Mapping[str, Any] | None, secret: str
) -> GitHubRefused:
    """An answer other than 200 as an exception. Source: docs/upstream.md#exchange-errors."""
    body = body or {}
    said = scrub(str(body.get("message") or ""), secret)
    wait_s = retry_after(headers)
    if status == 401:
        return GitHubRefused(_unauthorized(said), status=status, reason=refusals.REVOKED)
    if status == 429 or (status == 403 and _is_rate_limit(said)):
        return GitHubRefused(
            "GitHub limits how often it may be asked. The gateway waits and asks again by itself.",
            status=status,
            reason=refusals.RATE_LIMITED,
            retry_after_s=wait_s or DEFAULT_RATE_LIMIT_WAIT_S,
        )
    if status == 403:
        return _forbidden(body, said, secret, wait_s)
    if status == 404:
        text = refusals.TEXTS[refusals.NOT_ALLOWED]
        return GitHubRefused(text, status=status, reason=refusals.NOT_ALLOWED)
    if status == 466 or (status == 400 and refusals.refused_header(said)):
        return GitHubRefused(
            f"GitHub refuses how the gateway presents itself: {said or f'status {status}'}. Check "
            "the active upstream profile in the admin.",
            status=status,
            reason=refusals.CLIENT_REFUSED,
        )
    return GitHubRefused(
        f"GitHub answered with status {status}. Check githubstatus.com, then try again.",
        status=status,
        reason=refusals.INCIDENT,
        retry_after_s=wait_s,
    )


def _unauthorized(said: str) -> str:
    if "Copilot Requests permission" in said:
        return refusals.PAT_WITHOUT_PERMISSION
    if "Personal Access Tokens are not supported" in said:
        return refusals.PAT_UNSUPPORTED
    return refusals.TEXTS[refusals.REVOKED]


def _is_rate_limit(said: str) -> bool:
    return "rate limit" in said.lower()


def _forbidden(
    body: Mapping[str, Any], said: str, secret: str, wait_s: float | None
) -> GitHubRefused:
    details = body.get("error_details")
    details = details if isinstance(details, Mapping) else {}
    reason = str(details.get("notification_id") or body.get("reason") or refusals.FORBIDDEN)
    words = scrub(str(details.get("message") or said), secret)
    return GitHubRefused(
        refusals.text_of(reason, words),
        status=403,
        reason=scrub(reason, secret)[:64],
        retry_after_s=wait_s,
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `retry-after` or, at a limit, `x-ratelimit-reset`; None if implausible."""
    value = headers.get("retry-after", "").strip()
    seconds = _number(value)
    if seconds is None and value:
        seconds = _until(value)
    if seconds is None and headers.get("x-ratelimit-remaining") == "0":
        reset = _number(headers.get("x-ratelimit-reset", ""))
        seconds = None if reset is None else reset - datetime.now(UTC).timestamp()
    return seconds if seconds is not None and 0 < seconds <= LONGEST_WAIT_S else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _until(text: str) -> float | None:
    at = _date(text)
    return None if at is None else (at - datetime.now(UTC)).total_seconds()


def _date(text: str) -> datetime | None:
    """A time as HTTP headers write it; None when it cannot be read."""
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
