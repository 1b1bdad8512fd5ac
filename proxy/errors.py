"""Every answer other than success: one tree, raised where it is known, rendered once.

The handler at the edge renders an error with the client's format (`formats.<source>.error_body`).
"""

MAX_MESSAGE = 500


class GatewayError(Exception):
    """An answer other than success.

    `status` is HTTP; `code` a stable word; `retry_after_s` seconds or None; `should_retry` False
    when repeating cannot cure it (sent as `x-should-retry: false`).
    """

    status: int = 500
    code: str = "internal_error"
    should_retry: bool | None = None
    # True when it says something of the account and nothing of the request: another could serve.
    is_of_account = False

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        code: str | None = None,
        status: int | None = None,
        should_retry: bool | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message[:MAX_MESSAGE]
        self.retry_after_s = retry_after_s
        self.param = param
        # Set where they are known: the id of the exchange, and headers that go with the answer.
        self.request_id = ""
        self.headers: dict[str, str] = {}
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status
        if should_retry is not None:
            self.should_retry = should_retry


class InvalidRequest(GatewayError):
    """The body or a header is not what the called API asks for; nothing was sent upstream."""

    status = 400
    code = "invalid_request"
    should_retry: bool | None = False


class UnsupportedContent(InvalidRequest):
    """Content that the target format has no place for: refused rather than silently lost."""

    code = "unsupported_content"


class ContextOverflow(InvalidRequest):
    """The prompt is longer than the model's context. `tokens` and `limit` are None when unsaid."""

    code = "context_length_exceeded"

    def __init__(
        self, message: str, *, tokens: int | None = None, limit: int | None = None
    ) -> None:
        super().__init__(message)
        self.tokens = tokens
        self.limit = limit


class Unauthorized(GatewayError):
    status = 401
    code = "invalid_api_key"
    should_retry: bool | None = False


class PaymentRequired(GatewayError):
    status = 402
    code = "insufficient_quota"
    should_retry: bool | None = False


class Forbidden(GatewayError):
    status = 403
    code = "forbidden"
    should_retry: bool | None = False


class NotFound(GatewayError):
    status = 404
    code = "not_found"
    should_retry: bool | None = False


class MethodNotAllowed(GatewayError):
    status = 405
    code = "method_not_allowed"
    should_retry: bool | None = False


class RequestTimedOut(GatewayError):
    status = 408
    code = "request_timeout"


class Conflict(GatewayError):
    """What is asked for contradicts what is there."""

    status = 409
    code = "conflict"
    should_retry: bool | None = False


class BodyTooLarge(GatewayError):
    status = 413
    code = "request_too_large"
    should_retry: bool | None = False


class UnsupportedMediaType(GatewayError):
    status = 415
    code = "unsupported_media_type"
    should_retry: bool | None = False


class UpgradeRequired(GatewayError):
    status = 426
    code = "upgrade_required"


class RateLimited(GatewayError):
    status = 429
    code = "rate_limited"


class UpstreamFailed(GatewayError):
    """The upstream broke, answered nonsense, or could not be reached."""

    status = 502
    code = "upstream_error"


class Unavailable(GatewayError):
    """No account, no slot, or shutting down: try again after `retry_after_s`."""

    status = 503
    code = "unavailable"


class ShuttingDown(Unavailable):
    """The gateway ends what it has begun; what is recorded so is `interrupted`."""


class UpstreamTimedOut(GatewayError):
    status = 504
    code = "upstream_timeout"
