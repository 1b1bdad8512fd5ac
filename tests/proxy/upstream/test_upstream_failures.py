"""What upstream errors mean, and what the client gets."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import (
    BodyTooLarge,
    ContextOverflow,
    Forbidden,
    GatewayError,
    InvalidRequest,
    NotFound,
    PaymentRequired,
    RateLimited,
    Unavailable,
    UpstreamFailed,
    UpstreamTimedOut,
)
from proxy.upstream.explanations import EXPLANATIONS
from proxy.upstream.failures import UpstreamFault, explain, read_failure, scrub, to_error

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HTML = b"<!DOCTYPE html><html><head><title>502</title></head><body>Bad gateway</body></html>"


def failure(
    status: int, body: object = b"", headers: dict[str, str] | None = None
) -> UpstreamFault:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_failure(status, raw, headers or {}, now=NOW)


def openai(code: str, message: str, **more: object) -> dict[str, Any]:
    return {"error": {"message": message, "code": code, **more}}


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (openai("c", "said") | {"message": "not this"}, "said", "c"),
        (
            {"type": "error", "error": {"type": "invalid_request_error", "message": "m"}},
            "m",
            "invalid_request_error",
        ),
        ({"message": "Bad credentials", "status": "401"}, "Bad credentials", ""),
        ({"error": "text of an agent"}, "text of an agent", ""),
        (b"Misdirected Request\n", "Misdirected Request", ""),
        (b'"a bare string"', "a bare string", ""),
        (b'\xef\xbb\xbf{"error":{"message":"bom"}}\n', "bom", ""),
        ({"error": {"message": "a \ud800 b\x00c"}}, "a ? b c", ""),
        (b'{"error":{"message":"cut in the mid', "cut in the mid", ""),
    ],
)
def test_messages_are_found_whatever_the_shape(body: object, message: str, code: str) -> None:
    fault = failure(400, body)
    assert (fault.message, fault.code) == (message, code)


@pytest.mark.parametrize("body", [b"", b"   \n", HTML, b"{}", b"[]", b"17", b'{"error":{}}', b"{"])
def test_an_answer_without_words_still_gives_a_message_and_no_page(body: bytes) -> None:
    assert failure(500, body).message == "GitHub Copilot answered 500 without a message."
    wrapped = failure(500, {"error": {"message": HTML.decode()}})
    assert "<" not in wrapped.message


def test_a_long_body_is_cut() -> None:
    fault = failure(400, json.dumps(openai("x", "word " * 1_000_000)).encode())
    assert fault.message.startswith("word word")
    assert len(fault.message) == 500


@pytest.mark.parametrize(
    "secret",
    [
        "tid=9a1b;exp=1795000000;sku=x;proxy-ep=p:0f1e2d",
        "ghu_16C7e42F292c6912E7",
        "gho_16C7e42F292c6912E7",
        "github_pat_11ABC_xyz",
        "sk-ant-api03-abcdef",
        "cgw_abcdefABCDEF",
        "Bearer abc.def-ghi",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig",
        "Authorization: token abcdef",
        '"authorization": "Basic dXNlcjpwYXNz"',
        "set-cookie: session=abcdef; Path=/",
        "x-api-key: abcdef",
    ],
)
def test_secrets_never_pass(secret: str) -> None:
    told = scrub(f"before {secret}")
    assert told.startswith("before ")
    for part in secret.replace('"', " ").split():
        if part.lower().rstrip(":") not in ("authorization", "bearer", "set-cookie", "x-api-key"):
            assert part not in told
    body = openai(secret, f"refused {secret}", param=secret)
    for fault in (failure(400, body), failure(400, f"refused {secret}".encode())):
        shown = f"{to_error(fault).message} {to_error(fault).code} {fault.param}"
        assert "abcdef" not in shown
        assert secret not in shown


def test_ordinary_words_are_not_taken_for_secrets() -> None:
    text = (
        "unauthorized: token expired; prompt is too long: 5 tokens > 4 maximum, task-force risk-x"
    )
    assert scrub(text) == text


def test_host_names_of_the_upstream_are_not_shown() -> None:
    fault = failure(502, b"no route to https://api.business.githubcopilot.com/chat/completions now")
    assert fault.message == "no route to GitHub Copilot now"


@pytest.mark.parametrize(
    ("body", "tokens", "limit"),
    [
        (
            openai(
                "model_max_prompt_tokens_exceeded",
                "prompt token count of 13613 exceeds the limit of 12288",
            ),
            13613,
            12288,
        ),
        (
            {
                **openai(
                    "model_max_prompt_tokens_exceeded",
                    "prompt is too long: 1051542 tokens > 1000000 maximum",
                ),
                "request_id": "req_1",
                "type": "error",
            },
            1051542,
            1000000,
        ),
        (
            openai(
                "invalid_request_body",
                "Your input exceeds the context window of this model. "
                "Please adjust your input and try again.",
            ),
            None,
            None,
        ),
        (
            openai(
                "context_length_exceeded",
                "This model's maximum context length is 128000 tokens. However, your messages "
                "resulted in 130000 tokens.",
            ),
            130000,
            128000,
        ),
    ],
)
def test_context_overflow_is_known_in_all_its_shapes(
    body: dict[str, Any], tokens: int | None, limit: int | None
) -> None:
    fault = failure(400, body)
    error = to_error(fault)

    assert isinstance(error, ContextOverflow)
    assert (fault.kind, error.tokens, error.limit) == ("context_overflow", tokens, limit)
    assert error.message == body["error"]["message"]
    assert error.status == 400
    assert error.should_retry is False


@pytest.mark.parametrize(
    ("status", "body", "kind", "error", "out", "code"),
    [
        (400, openai("invalid_request_body", "bad"), "invalid_request", InvalidRequest, 400,
         "invalid_request_body"),
        (400, b"Bad Request\n", "invalid_request", InvalidRequest, 400, "invalid_request"),
        (400, openai("model_not_supported", "The requested model is not supported."),
         "model_not_supported", InvalidRequest, 400, "model_not_supported"),
        (400, openai("unsupported_api_for_model", 'model "x" is not accessible via the /y'),
         "wrong_endpoint", InvalidRequest, 400, "unsupported_api_for_model"),
        (400, openai("rate_limited", "slow"), "rate_limited", RateLimited, 429, "rate_limited"),
        (401, b"unauthorized: token expired", "token_expired", UpstreamFailed, 502,
         "upstream_error"),
        (402, openai("quota_exceeded", "You have no quota"), "quota_exceeded", PaymentRequired,
         402, "insufficient_quota"),
        (403, b"", "forbidden", Forbidden, 403, "forbidden"),
        (403, b"Your account was suspended for abuse", "abuse", Forbidden, 403, "account_frozen"),
        (403, b"You have violated the Terms of Service", "abuse", Forbidden, 403,
         "account_frozen"),
        (403, {"message": "API rate limit exceeded for user ID 1."}, "rate_limited", RateLimited,
         429, "rate_limited"),
        (404, b"404 page not found", "not_found", NotFound, 404, "model_not_found"),
        (408, openai("user_request_timeout", "Timed out reading request body."),
         "request_timeout", UpstreamTimedOut, 504, "upstream_timeout"),
        (413, b"Request Entity Too Large\n", "too_large", BodyTooLarge, 413,
         "request_too_large"),
        (418, b"teapot", "unknown", UpstreamFailed, 502, "upstream_error"),
        (421, b"Misdirected Request", "misdirected", UpstreamFailed, 502, "upstream_error"),
        (422, openai("cyber_policy", "This content was flagged"), "content_filter",
         InvalidRequest, 400, "content_filter"),
        (424, b"dependency", "unknown", UpstreamFailed, 502, "upstream_error"),
        (429, openai("user_model_rate_limited", "slow"), "rate_limited", RateLimited, 429,
         "rate_limited"),
        (429, b"quota exceeded", "quota_exceeded", RateLimited, 429, "insufficient_quota"),
        (466, b"client version not supported", "client_outdated", UpstreamFailed, 502,
         "upstream_error"),
        (499, b"", "server_cancelled", UpstreamFailed, 502, "upstream_error"),
        (500, HTML, "server_error", UpstreamFailed, 502, "upstream_error"),
        (502, HTML, "server_error", UpstreamFailed, 502, "upstream_error"),
        (503, b"upstream provider rate limit", "overloaded", Unavailable, 503, "unavailable"),
        (504, HTML, "server_error", UpstreamTimedOut, 504, "upstream_timeout"),
        (529, openai("overloaded_error", "Overloaded"), "overloaded", GatewayError, 529,
         "overloaded"),
        (599, b"", "server_error", UpstreamFailed, 502, "upstream_error"),
        (302, b"", "unknown", UpstreamFailed, 502, "upstream_error"),
    ],
)  # fmt: skip
def test_each_status_becomes_the_fitting_error(
    status: int, body: object, kind: str, error: type[GatewayError], out: int, code: str
) -> None:
    fault = failure(status, body)
    given = to_error(fault)

    assert fault.kind == kind
    assert type(given) is error
    assert (given.status, given.code) == (out, code)
    assert given.message.startswith(fault.message.rstrip("."))


def test_the_parameter_at_fault_is_named() -> None:
    error = to_error(failure(400, openai("unsupported_value", "no", param="store")))
    assert (error.code, error.param) == ("unsupported_value", "store")


def test_reasons_of_the_token_exchange_count_more_than_its_standing_text() -> None:
    def envelope(reason: str) -> dict[str, Any]:
        return {
            "can_signup_for_limited": False,
            "error_details": {"message": "No access.", "notification_id": reason, "title": "t"},
            "message": "Resource not accessible. See the terms of service.",
        }

    no_seat = failure(403, envelope("no_copilot_access"))
    assert (no_seat.kind, no_seat.message, no_seat.code) == (
        "forbidden",
        "No access.",
        "no_copilot_access",
    )
    assert failure(403, envelope("spammy_user")).kind == "abuse"


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"Retry-After": "2733"}, "after 5 seconds", 2733),
        ({"retry-after": "0.2"}, "", 1),
        ({"retry-after": "Fri, 20 Nov 2026 12:10:00 GMT"}, "", 600),
        ({"retry-after": "2026-11-20T13:00:00Z"}, "", 3600),
        ({"x-ratelimit-user-retry-after": "77"}, "after 5 seconds", 77),
        ({"retry-after": "nonsense", "x-ratelimit-user-retry-after": "77"}, "", 77),
        ({}, "Please retry after 2733 seconds.", 2733),
        ({"retry-after": "-5"}, "", None),
        ({"retry-after": "0"}, "", None),
        ({"retry-after": "nan"}, "", None),
        ({"retry-after": "Fri, 20 Nov 2020 12:10:00 GMT"}, "", None),
        ({"retry-after": "Fri, 20 Nov 9999 12:10:00 GMT"}, "", None),
        ({"retry-after": "99999999999"}, "", None),
        ({"retry-after": str(587 * 3600)}, "", 587 * 3600),
        ({}, "", None),
    ],
)
def test_the_wait_is_read_in_the_order_of_trust(
    headers: dict[str, str], message: str, seconds: float | None
) -> None:
    fault = failure(429, openai("rate_limited", message), headers)
    assert fault.retry_after_s == seconds
    assert to_error(fault).retry_after_s == (seconds or 60)


@pytest.mark.parametrize(
    ("status", "code", "message", "scoped"),
    [
        (429, "user_model_rate_limited", "", True),
        (429, "model_overloaded", "", True),
        (429, "upstream_provider_rate_limit", "", True),
        (429, "", "too many", True),
        (429, "user_global_rate_limited:pro", "You've exceeded your 5 hour session limits", False),
        (429, "user_weekly_rate_limited", "", False),
        (429, "integration_rate_limited", "", False),
        (402, "quota_exceeded", "", False),
        (503, "", "upstream provider rate limit", True),
        (400, "model_not_supported", "", True),
        (401, "", "token expired", False),
    ],
)
def test_limits_of_one_model_leave_the_account_in_service(
    status: int, code: str, message: str, scoped: bool
) -> None:
    assert failure(status, openai(code, message)).model_scoped is scoped


@pytest.mark.parametrize("status", [402, 403, 466])
def test_the_next_step_follows_the_upstreams_own_words(status: int) -> None:
    fault = failure(status, openai("x", "Their words"))
    error = to_error(fault)
    assert error.message == f"Their words. {explain(fault).next_step}"

    long = failure(status, openai("x", "word " * 400))
    assert to_error(long).message.endswith(explain(long).next_step)
    assert len(to_error(long).message) <= 500


def test_what_repeating_cannot_cure_says_so() -> None:
    for status, body in ((402, b"x"), (403, b"x"), (466, b"x"), (429, b"quota exceeded")):
        assert to_error(failure(status, body)).should_retry is False
    assert to_error(failure(500)).should_retry is None


def test_an_older_quota_form_is_known_by_its_header() -> None:
    fault = failure(429, b"", {"X-RateLimit-Exceeded": "quota_exceeded"})
    assert fault.kind == "quota_exceeded"


def test_every_kind_is_explained_in_sentences() -> None:
    from typing import get_args

    from proxy.upstream.failures import Kind

    assert set(get_args(Kind)) == set(EXPLANATIONS) - {"forbidden_unsaid"}
    for explanation in EXPLANATIONS.values():
        assert explanation.what.endswith(".")
        assert explanation.next_step.endswith(".")
        assert explanation.whose in ("member", "admin", "github")
    assert "no reason" in explain(failure(403)).what


@given(
    st.integers(100, 599),
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "message", "code", "param", "error_details", "type"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
    st.dictionaries(
        st.sampled_from(["Retry-After", "x-ratelimit-user-retry-after", "x-ratelimit-exceeded"]),
        st.text(max_size=30),
    ),
)
def test_no_answer_breaks_the_reading(status: int, body: bytes, headers: dict[str, str]) -> None:
    fault = read_failure(status, body, headers, now=NOW)
    error = to_error(fault)

    assert fault.message
    assert len(fault.message) <= 500
    assert fault.retry_after_s is None or 1 <= fault.retry_after_s <= 32 * 24 * 3600
    assert error.status != 401
    assert 400 <= error.status <= 599
    error.message.encode()
    assert explain(fault).next_step


def test_deeply_nested_and_hostile_bodies_are_read_quickly() -> None:
    for body in (b"[" * 60_000, b'{"a":' * 12_000, b"a.b-c." * 11_000, b"eyJaaaaaaaa-" * 5_000):
        assert read_failure(400, body, {}, now=NOW).message
