"""Error bodies as OpenAI's clients read them."""

import openai
import pytest

from proxy import errors
from proxy.formats import chat_completions as chat
from proxy.formats.contract import Format
from tests.formats.chat_completions.chat_golden import ANSWER, sdk


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (errors.InvalidRequest("x", param="n"), "invalid_request_error", "invalid_request"),
        (errors.UnsupportedContent("x"), "invalid_request_error", "unsupported_content"),
        (errors.Unauthorized("x"), "authentication_error", "invalid_api_key"),
        (errors.PaymentRequired("x"), "insufficient_quota", "insufficient_quota"),
        (errors.Forbidden("x"), "permission_error", "forbidden"),
        (errors.NotFound("x"), "invalid_request_error", "not_found"),
        (errors.BodyTooLarge("x"), "invalid_request_error", "request_too_large"),
        (errors.UnsupportedMediaType("x"), "invalid_request_error", "unsupported_media_type"),
        (errors.RateLimited("x"), "rate_limit_error", "rate_limited"),
        (errors.RateLimited("x", code="insufficient_quota"), "insufficient_quota", None),
        (errors.UpstreamFailed("x"), "server_error", "upstream_error"),
        (errors.Unavailable("x"), "server_error", "unavailable"),
        (errors.UpstreamTimedOut("x"), "server_error", "upstream_timeout"),
    ],
)
def test_the_kind_goes_by_the_status(error, kind, code):
    body = chat.error_body(error, "req_1")["error"]
    assert body.keys() == {"message", "type", "param", "code"}
    assert body["type"] == kind
    assert body["code"] == (code or error.code)
    assert body["param"] == error.param


def test_an_overflow_with_numbers_reads_like_openais_own():
    error = errors.ContextOverflow("too long", tokens=13613, limit=12288)
    assert chat.error_body(error, "r")["error"] == {
        "message": "This model's maximum context length is 12288 tokens. However, your messages "
        "resulted in 13613 tokens. Please reduce the length of the messages.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }
    unsaid = errors.ContextOverflow("Your input exceeds the context window of this model.")
    body = chat.error_body(unsaid, "r")["error"]
    assert body["message"] == "Your input exceeds the context window of this model."
    assert body["code"] == "context_length_exceeded"


def test_the_official_client_raises_the_stream_error():
    encoder = chat.encoder(ANSWER)
    data = encoder.fail(errors.UpstreamFailed("The upstream went away."))
    client = sdk(data, "text/event-stream")
    chunks = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    with pytest.raises(openai.APIError, match="went away"):
        list(chunks)


def test_the_package_is_a_format():
    # mypy checks the types; this tells which name is missing.
    names = [name for name in vars(Format) if not name.startswith("_")]
    assert "build_request" in names
    assert [name for name in names if not hasattr(chat, name)] == []
    assert {loss.kind for loss in chat.LOSSES} == {"knob", "content", "shape"}
