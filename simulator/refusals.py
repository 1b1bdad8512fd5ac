"""Refusals: every error answer of the upstream with its exact body, type and newline.

Three families of bodies: Copilot's own JSON sent as text/plain with a newline, the provider's
Anthropic envelope as application/json, and bare text from the front door.
Source: docs/upstream.md (errors).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import orjson

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
HTML = "text/html; charset=utf-8"


@dataclass(slots=True)
class Refusal(Exception):
    """An answer other than success, ready to send."""

    status: int
    body: bytes
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()

    def with_headers(self, *headers: tuple[str, str]) -> Refusal:
        return Refusal(self.status, self.body, self.content_type, self.headers + headers)


def capi(status: int, message: str, code: str, **more: Any) -> Refusal:
    """Copilot's own refusal: `{"error": {...}}` as text/plain with a trailing newline."""
    error = {"message": message, "code": code} | more
    return Refusal(status, orjson.dumps({"error": error}) + b"\n")


def text(status: int, message: str) -> Refusal:
    """A bare text of the front door."""
    return Refusal(status, message.encode())


def provider(status: int, kind: str, message: str, request_id: str = "req_sim") -> Refusal:
    """The model provider's own refusal on the messages leg, passed on untouched."""
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
    return Refusal(status, orjson.dumps(body), JSON)


def invalid(message: str) -> Refusal:
    """A provider's 400 on the messages leg."""
    return provider(400, "invalid_request_error", message)


def invalid_body(message: str, **more: Any) -> Refusal:
    """Copilot's 400 for any parameter fault."""
    return capi(400, message, "invalid_request_body", **more)


def rest(status: int, message: str) -> Refusal:
    """An error of GitHub's REST front."""
    body = {
        "message": message,
        "documentation_url": "https://docs.github.com/rest",
        "status": str(status),
    }
    return Refusal(status, orjson.dumps(body), "application/json; charset=utf-8")


def model_not_supported() -> Refusal:
    return capi(
        400,
        "The requested model is not supported.",
        "model_not_supported",
        param="model",
        type="invalid_request_error",
    )


def unsupported_api(model: str, path: str) -> Refusal:
    return capi(
        400,
        f'model "{model}" is not accessible via the {path} endpoint',
        "unsupported_api_for_model",
    )


def chat_overflow(tokens: int, limit: int) -> Refusal:
    message = f"prompt token count of {tokens} exceeds the limit of {limit}"
    return capi(400, message, "model_max_prompt_tokens_exceeded")


def messages_overflow(tokens: int, limit: int) -> Refusal:
    """The provider's text in Copilot's rewriting: sorted keys, a code, `>` escaped."""
    body = {
        "error": {
            "code": "model_max_prompt_tokens_exceeded",
            "message": f"prompt is too long: {tokens} tokens > {limit} maximum",
            "type": "invalid_request_error",
        },
        "request_id": "req_011CsimOverflow",
        "type": "error",
    }
    return Refusal(400, orjson.dumps(body).replace(b">", b"\\u003e"), JSON)


def responses_overflow() -> Refusal:
    return invalid_body(
        "Your input exceeds the context window of this model. "
        "Please adjust your input and try again."
    )


def denied_exchange(notification_id: str) -> Refusal:
    """The 403 envelope of the token exchange."""
    body = {
        "can_signup_for_limited": False,
        "error_details": {
            "message": f"Access to Copilot is refused: {notification_id}.",
            "notification_id": notification_id,
            "title": "No access to GitHub Copilot",
            "url": "https://github.com/settings/copilot",
        },
        "message": "Resource not accessible by integration. See the terms of service at "
        "https://docs.github.com/site-policy/github-terms/github-terms-of-service",
        "reason": notification_id,
    }
    return Refusal(403, orjson.dumps(body), "application/json; charset=utf-8")


def _limit(code: str, message: str, key: str) -> Refusal:
    return capi(429, message, code).with_headers(("x-ratelimit-exceeded", key))


def _error_page(status: int, words: str) -> Refusal:
    page = (
        f"<html>\r\n<head><title>{status} {words}</title></head>\r\n<body>\r\n"
        f"<center><h1>{status} {words}</h1></center>\r\n<hr><center>nginx</center>\r\n"
        "</body>\r\n</html>\r\n"
    )
    return Refusal(status, page.encode(), HTML)


SESSION_TEXT = "Sorry, you've exceeded your 5 hour session limits. Please retry after 2733 seconds."

# Every row of the catalogue by a name that can be played. Source: docs/upstream.md (errors).
CATALOGUE: dict[str, Refusal] = {
    "model_not_supported": model_not_supported(),
    "unsupported_api": unsupported_api("gpt-5.5", "/chat/completions"),
    "overflow_chat": chat_overflow(13613, 12288),
    "overflow_messages": messages_overflow(1051542, 1000000),
    "overflow_responses": responses_overflow(),
    "invalid_request_body": invalid_body("Invalid value for a parameter."),
    "unsupported_beta": invalid_body("unsupported beta header(s): example-2026-01-01"),
    "invalid_reasoning_effort": capi(
        400, "reasoning effort is not supported by this model", "invalid_reasoning_effort"
    ),
    "unsupported_value": capi(400, "store is not supported", "unsupported_value", param="store"),
    "previous_response_not_found": capi(
        400, "Previous response not found.", "previous_response_not_found"
    ),
    "foreign_item_id": invalid_body("input item ID does not belong to this connection"),
    "invalid_signature": invalid("messages.1.content.0: Invalid signature in thinking block"),
    "off_topic": capi(400, "the request was classified as off_topic", "off_topic"),
    "rate_limited_400": capi(400, "Too many requests.", "rate_limited"),
    "bad_request_empty": Refusal(400, b""),
    "bad_request_text": text(400, "Bad Request\n"),
    "token_expired": text(401, "unauthorized: token expired\n"),
    "unauthorized_text": text(401, "unauthorized: AuthenticateToken authentication failed\n"),
    "bad_credentials": rest(401, "Bad credentials"),
    "authorize_url": Refusal(
        401, orjson.dumps({"authorize_url": "https://github.com/login/oauth/authorize"}), JSON
    ),
    "quota_exceeded": capi(402, "You have no quota", "quota_exceeded"),
    **{
        code: capi(402, "You have no quota", code)
        for code in (
            "free_quota_exceeded",
            "session_quota_exceeded",
            "overage_limit_reached",
            "billing_not_configured",
            "additional_spend_limit_reached",
        )
    },
    "forbidden": capi(403, "You are not authorized to use this model.", "model_not_entitled"),
    "forbidden_empty": Refusal(403, b""),
    "forbidden_abuse": capi(
        403,
        "Your account has been suspended from Copilot for abuse of the terms of service.",
        "access_revoked",
    ),
    "not_found_json": capi(404, "model not found", "not_found"),
    "not_found_text": text(404, "404 page not found\n"),
    "upload_timeout": capi(
        408,
        "Timed out reading request body. Try again, or use a smaller request size.",
        "user_request_timeout",
    ),
    "too_large_json": capi(413, "failed to parse request", ""),
    "too_large_text": text(413, "Request Entity Too Large\n"),
    "teapot": text(418, "I'm a teapot\n"),
    "misdirected": text(421, "Misdirected Request"),
    "cyber_policy": capi(
        422, "This content was flagged for possible cybersecurity risk.", "cyber_policy"
    ),
    "content_filter": capi(
        422, "The response was filtered by the content management policy.", "content_filter"
    ),
    "failed_dependency": text(424, "failed dependency\n"),
    "session_limit": _limit(
        "user_global_rate_limited:pro", SESSION_TEXT, "user_global_rate_limited"
    ).with_headers(("retry-after", "2733")),
    "weekly_limit": _limit(
        "user_weekly_rate_limited",
        "Sorry, you've exceeded your weekly limit.",
        "user_weekly_rate_limited",
    ).with_headers(("retry-after", "2113200")),
    "rate_limited": _limit("rate_limited", "Too many requests.", "rate_limited"),
    "model_limit": _limit(
        "user_model_rate_limited",
        "Sorry, you have been rate-limited on this model.",
        "user_model_rate_limited",
    ),
    "global_limit": _limit(
        "user_global_rate_limited", "Sorry, you have been rate-limited.", "user_global_rate_limited"
    ),
    "integration_limit": _limit(
        "integration_rate_limited", "This client is rate-limited.", "integration_rate_limited"
    ),
    "model_overloaded": _limit("model_overloaded", "The model is overloaded.", "model_overloaded"),
    "agent_limit": _limit(
        "agent_mode_limit_exceeded", "Agent mode limit exceeded.", "agent_mode_limit_exceeded"
    ),
    "provider_limit": _limit(
        "upstream_provider_rate_limit", "The provider is busy.", "upstream_provider_rate_limit"
    ),
    "quota_text_429": text(429, "quota exceeded\n").with_headers(
        ("x-ratelimit-exceeded", "quota_exceeded")
    ),
    "extension_blocked": capi(
        429, "Extension blocked.", "extension_blocked", type="rate_limit_error"
    ),
    "client_version": text(466, "client version is not supported, please update\n"),
    "cancelled_499": Refusal(499, b""),
    "error_500": text(500, "internal server error\n"),
    "error_500_html": _error_page(500, "Internal Server Error"),
    "error_500_json": capi(500, "internal server error", "internal_error"),
    "error_502": _error_page(502, "Bad Gateway"),
    "error_503": text(503, "upstream provider rate limit\n"),
    "error_504": _error_page(504, "Gateway Time-out"),
    "overloaded_529": provider(529, "overloaded_error", "Overloaded"),
    "rest_limit_403": rest(403, "API rate limit exceeded for user ID 1234567.").with_headers(
        ("x-ratelimit-limit", "5000"), ("x-ratelimit-remaining", "0")
    ),
    "rest_limit_429": rest(429, "API rate limit exceeded for user ID 1234567.").with_headers(
        ("x-ratelimit-remaining", "0"), ("retry-after", "60")
    ),
    "rest_not_found": rest(404, "Not Found"),
}


def retry_after_value(given: Any) -> str:
    """Return the header's value: any text; `date:<seconds from now>` becomes an HTTP date."""
    words = str(given)
    if words.startswith("date:"):
        return formatdate(time.time() + float(words[5:]), usegmt=True)
    return words
