"""Upstream failures: what an error answer means, whose business it is, what the client gets.

`read_failure` looks at the bytes once, `to_error` maps the finding to our error tree, `explain`
says it to people. Never by content type: the Copilot API serves JSON as text/plain, and front doors
answer in bare text or HTML. Source: docs/upstream.md#errors.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal

from msgspec import Struct

from proxy import errors
from proxy.errors import MAX_MESSAGE, GatewayError
from proxy.upstream.explanations import EXPLANATIONS, Explanation
from proxy.upstream.scrubbing import MAX_TEXT, presentable, scrub

__all__ = ["Kind", "UpstreamFault", "explain", "presentable", "read_failure", "scrub", "to_error"]

Kind = Literal[
    "context_overflow",
    "invalid_request",
    "model_not_supported",
    "wrong_endpoint",
    "token_expired",
    "forbidden",
    "abuse",
    "quota_exceeded",
    "rate_limited",
    "overloaded",
    "misdirected",
    "client_outdated",
    "too_large",
    "request_timeout",
    "content_filter",
    "not_found",
    "server_cancelled",
    "server_error",
    "unknown",
]

# Bytes of an error body that are looked at.
MAX_BODY: Final = 65_536
# Seconds. A longer wait than this is taken for a fault of the upstream.
MAX_WAIT_S: Final = 32 * 24 * 3600.0
# What Retry-After says when the upstream gave no believable time.
DEFAULT_WAIT_S: Final = {"rate_limited": 60.0, "quota_exceeded": 3600.0, "overloaded": 10.0}

# The message of a JSON body that was cut in the middle.
_CUT_MESSAGE: Final = re.compile(r'"message"\s*:\s*"((?:[^"\\]|\\.)*)')

_OVERFLOW_CODES: Final = {"model_max_prompt_tokens_exceeded", "context_length_exceeded"}
# One shape per endpoint, and OpenAI's own. Source: docs/upstream.md#context-overflow.
_OVERFLOWS: Final = (
    re.compile(
        r"prompt token count of (?P<tokens>\d{1,12}) exceeds the limit of (?P<limit>\d{1,12})"
    ),
    re.compile(
        r"prompt is too long(?:: (?P<tokens>\d{1,12}) tokens > (?P<limit>\d{1,12}) maximum)?"
    ),
    re.compile(
        r"maximum context length is (?P<limit>\d{1,12}) tokens"
        r"(?:.{0,200}?(?P<tokens>\d{1,12}) tokens)?",
        re.DOTALL,
    ),
    re.compile(r"exceeds the context window"),
)
_SECONDS: Final = re.compile(r"\b(\d{1,9}(?:\.\d{1,3})?) ?(?:seconds?|secs?|s)\b")

# Wording and codes upon which an account stops until a person has looked.
_ABUSE: Final = re.compile(
    r"\babus|terms[ -]of[ -](?:service|use)|copilot terms|terms for additional|acceptable use"
    r"|suspend|suspicious|unusual activity|\bspam|\bviolat|\bbanned\b|programmatic[ _]token"
)
_ABUSE_CODES: Final = {
    "access_revoked",
    "go_http_client",
    "programmatic_token_generation",
    "spammy_user",
    "trade_restricted",
    "trade_restricted_country",
}
_SIGNUP_CODES: Final = {
    "billing_locked",
    "codespaces_demo_inactive",
    "enterprise_managed_user_account",
    "expired_coupon",
    "feature_flag_blocked",
    "no_copilot_access",
    "not_signed_up",
    "revoked_coupon",
    "server_error",
    "snippy_not_configured",
    "subscription_ended",
}
_QUOTA_CODES: Final = {
    "additional_spend_limit_reached",
    "billing_not_configured",
    "overage_limit_reached",
}
# Limits of the whole account. Others hold for the model that was asked.
_ACCOUNT_LIMITS: Final = re.compile(
    r"user_global|user_weekly|session|weekly"
    r"|integration_rate_limited|agent_mode_limit|api rate limit"
)

_KIND_BY_STATUS: Final[dict[int, Kind]] = {
    400: "invalid_request",
    401: "token_expired",
    402: "quota_exceeded",
    404: "not_found",
    408: "request_timeout",
    413: "too_large",
    421: "misdirected",
    422: "content_filter",
    429: "rate_limited",
    466: "client_outdated",
    499: "server_cancelled",
    503: "overloaded",
    529: "overloaded",
}


class UpstreamFault(Struct, kw_only=True, frozen=True):
    """What an upstream error answer means.

    `message` is scrubbed, at most 500 characters, never empty. `code` is the upstream's own word or
    empty. `retry_after_s` is `None` when no believable time was given. `model_scoped`: only this
    model is out of reach, the account serves others. `tokens` and `limit` belong to overflows.
    """

    status: int
    kind: Kind
    message: str
    code: str = ""
    param: str | None = None
    retry_after_s: float | None = None
    model_scoped: bool = False
    tokens: int | None = None
    limit: int | None = None


def read_failure(
    status: int, body: bytes, headers: Mapping[str, str], *, now: datetime | None = None
) -> UpstreamFault:
    """Read an answer other than success. Never raises; `now` is for waits given as a date."""
    said = _presentable_words(_said(body[:MAX_BODY]))
    message = presentable(said.message) or f"GitHub Copilot answered {status} without a message."
    lowered = {name.lower(): value for name, value in headers.items()}
    exceeded = lowered.get("x-ratelimit-exceeded", "").lower()
    words = f"{said.code} {exceeded} {said.message}".lower()
    kind = _kind(status, said.code.lower(), words)
    tokens, limit = _overflow_numbers(said.message) if kind == "context_overflow" else (None, None)
    return UpstreamFault(
        status=status,
        kind=kind,
        message=message,
        code=said.code,
        param=said.param,
        retry_after_s=_wait(lowered, said.message, now or datetime.now(UTC)),
        model_scoped=_is_model_scoped(kind, words),
        tokens=tokens,
        limit=limit,
    )


def to_error(fault: UpstreamFault) -> GatewayError:
    """The error that the client gets. Status and text stay the upstream's where they help.

    A 401 of the upstream is about our token, never about the client's key: it becomes a 502.
    Source: docs/upstream.md#errors.
    """
    message, status = fault.message, fault.status
    match fault.kind:
        case "context_overflow":
            return errors.ContextOverflow(message, tokens=fault.tokens, limit=fault.limit)
        case "quota_exceeded" | "rate_limited":
            return _limit_error(fault)
        case "forbidden" | "abuse":
            code = "account_frozen" if fault.kind == "abuse" else (fault.code or "forbidden")
            return errors.Forbidden(_with_next_step(fault), code=code)
        case "not_found":
            return errors.NotFound(message, code="model_not_found")
        case "too_large":
            return errors.BodyTooLarge(message)
        case "content_filter":
            return errors.InvalidRequest(message, code="content_filter")
        case "request_timeout":
            return errors.UpstreamTimedOut(message)
        case "overloaded":
            return _overload_error(fault)
        case "client_outdated":
            return errors.UpstreamFailed(_with_next_step(fault), should_retry=False)
        case "invalid_request" | "model_not_supported" | "wrong_endpoint":
            code = fault.code or "invalid_request"
            return errors.InvalidRequest(message, code=code, param=fault.param)
        case "server_error" if status == 504:
            return errors.UpstreamTimedOut(message)
        case _:
            return errors.UpstreamFailed(message)


def explain(fault: UpstreamFault) -> Explanation:
    """The fault in plain words: what happened, whose business it is, the next step."""
    if fault.kind == "forbidden" and fault.status == 403 and not fault.code:
        return EXPLANATIONS["forbidden_unsaid"]
    return EXPLANATIONS[fault.kind]


class _Said(Struct, frozen=True):
    message: str = ""
    code: str = ""
    param: str | None = None


def _presentable_words(said: _Said) -> _Said:
    """Cut and scrub what is not the message: a code may quote a token as well."""
    param = scrub(said.param)[:100] if said.param else None
    return _Said(said.message[:MAX_TEXT], presentable(said.code)[:100], param)


def _said(body: bytes) -> _Said:
    """The message, code and parameter of a body: JSON `error`, JSON top level, else raw text."""
    text = body.decode("utf-8", "replace").lstrip("\ufeff").strip()
    try:
        # Not msgspec: it refuses lone surrogates, and here every word counts.
        parsed = json.loads(text)
    except (RecursionError, ValueError):
        cut = _CUT_MESSAGE.search(text) if text.startswith("{") else None
        return _Said(cut.group(1)) if cut else _Said("" if text.startswith("{") else text)
    if isinstance(parsed, str):
        return _Said(parsed)
    return _said_in(parsed) if isinstance(parsed, dict) else _Said()


def _said_in(parsed: dict[str, Any]) -> _Said:
    inner = parsed.get("error")
    details = parsed.get("error_details")
    if isinstance(inner, dict):
        source = inner
    elif isinstance(details, dict):
        # The token exchange: its top-level message is the same for every reason.
        source = details
    else:
        source = parsed
    code = source.get("code", source.get("notification_id"))
    param = source.get("param")
    return _Said(
        _first_text(source.get("message"), inner, parsed.get("message"), parsed.get("detail")),
        str(code)[:200] if isinstance(code, str | int) and code else _kind_word(source),
        param[:200] if isinstance(param, str) else None,
    )


def _kind_word(source: dict[str, Any]) -> str:
    """Anthropic's errors have a `type` where others have a code; the bare word `error` is none."""
    word = source.get("type")
    return word[:200] if isinstance(word, str) and word != "error" else ""


def _first_text(*values: object) -> str:
    return next((value for value in values if isinstance(value, str) and value.strip()), "")


def _kind(status: int, code: str, words: str) -> Kind:
    if status in (400, 413) and (
        code in _OVERFLOW_CODES or any(shape.search(words) for shape in _OVERFLOWS)
    ):
        return "context_overflow"
    match status:
        case 400:
            return _kind_of_400(code, words)
        case 403:
            return _kind_of_403(code, words)
        case 429 if "quota_exceeded" in words or "quota exceeded" in words or code in _QUOTA_CODES:
            return "quota_exceeded"
    if status in _KIND_BY_STATUS:
        return _KIND_BY_STATUS[status]
    return "server_error" if 500 <= status <= 599 else "unknown"


def _kind_of_400(code: str, words: str) -> Kind:
    if code == "rate_limited" or "rate_limited" in code:
        return "rate_limited"
    if "quota_exceeded" in code or code in _QUOTA_CODES:
        return "quota_exceeded"
    if code == "model_not_supported" or "requested model is not supported" in words:
        return "model_not_supported"
    if code == "unsupported_api_for_model" or "is not accessible via the" in words:
        return "wrong_endpoint"
    if code in ("content_filter", "cyber_policy"):
        return "content_filter"
    return "invalid_request"


def _kind_of_403(code: str, words: str) -> Kind:
    if "rate limit" in words:
        return "rate_limited"
    if code in _ABUSE_CODES:
        return "abuse"
    if code in _SIGNUP_CODES:
        return "forbidden"
    return "abuse" if _ABUSE.search(words) else "forbidden"


def _is_model_scoped(kind: Kind, words: str) -> bool:
    """Whether the account may go on with other models: true unless the whole account is named."""
    if kind in ("rate_limited", "overloaded"):
        return not _ACCOUNT_LIMITS.search(words)
    return kind in ("model_not_supported", "wrong_endpoint", "not_found")


def _overflow_numbers(message: str) -> tuple[int | None, int | None]:
    for shape in _OVERFLOWS:
        found = shape.search(message.lower())
        if found:
            said = found.groupdict()
            return _integer(said.get("tokens")), _integer(said.get("limit"))
    return None, None


def _integer(digits: str | None) -> int | None:
    return int(digits) if digits else None


def _wait(headers: dict[str, str], message: str, now: datetime) -> float | None:
    """Seconds to wait, in the order in which the sources can be trusted."""
    in_words = _SECONDS.search(message)
    return (
        _believable(headers.get("retry-after"), now)
        or _believable(headers.get("x-ratelimit-user-retry-after"), now)
        or _believable(in_words.group(1) if in_words else None, now)
    )


def _believable(text: str | None, now: datetime) -> float | None:
    """Seconds of a wait given in seconds or as a date; `None` if past, absurd or unreadable."""
    text = (text or "").strip()[:100]
    try:
        seconds = float(text)
    except ValueError:
        moment = _date(text)
        if moment is None:
            return None
        seconds = (moment - now).total_seconds()
    if not math.isfinite(seconds) or not 0 < seconds <= MAX_WAIT_S:
        return None
    return max(1.0, seconds)


def _date(text: str) -> datetime | None:
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = read(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


def _limit_error(fault: UpstreamFault) -> GatewayError:
    if fault.kind == "quota_exceeded" and fault.status == 402:
        return errors.PaymentRequired(_with_next_step(fault), retry_after_s=fault.retry_after_s)
    wait = fault.retry_after_s or DEFAULT_WAIT_S[fault.kind]
    if fault.kind == "quota_exceeded":
        return errors.RateLimited(
            fault.message, retry_after_s=wait, code="insufficient_quota", should_retry=False
        )
    return errors.RateLimited(fault.message, retry_after_s=wait)


def _overload_error(fault: UpstreamFault) -> GatewayError:
    wait = fault.retry_after_s or DEFAULT_WAIT_S["overloaded"]
    if fault.status == 529:
        return GatewayError(fault.message, status=529, code="overloaded", retry_after_s=wait)
    return errors.Unavailable(fault.message, retry_after_s=wait)


def _with_next_step(fault: UpstreamFault) -> str:
    """The upstream's message and, within the limit, the sentence that says what to do."""
    step = explain(fault).next_step
    message = fault.message[: MAX_MESSAGE - len(step) - 2].rstrip()
    stop = "" if message.endswith((".", "!", "?")) else "."
    return f"{message}{stop} {step}"
