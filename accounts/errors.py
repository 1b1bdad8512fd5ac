"""Why an account cannot serve. `proxy` turns these into answers in the caller's format."""


class AccountUnavailable(Exception):
    """No credential to be had now. `retry_after_s` is when to ask again, None when a person must act.

    `code` is a stable word: no_account, needs_sign_in, no_seat, frozen, paused, cooling_down,
    refresh_failed.
    """

    def __init__(self, message: str, *, code: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.retry_after_s = retry_after_s


class GitHubRefused(Exception):
    """GitHub answered other than success. `status` is HTTP, 0 when it could not be reached.

    `reason` is GitHub's own `notification_id` or error word. `message` holds no secret.
    """

    def __init__(
        self, message: str, *, status: int, reason: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s
