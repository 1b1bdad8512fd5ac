"""Outcomes, initiator rules and errors in words that people understand."""

from dataclasses import dataclass
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

Text = str | Promise


@dataclass(frozen=True, slots=True)
class OutcomeWord:
    """How an outcome looks: word, icon of the sprite, colour (ok, warn, bad, info or empty)."""

    word: str
    icon: str
    tone: str


def outcome_word(
    outcome: str, *, status: int | None = None, attempts: int = 1, is_slow: bool = False
) -> OutcomeWord:
    match outcome:
        case "completed" if attempts > 1:
            return OutcomeWord(_("retried"), "retried", "warn")
        case "completed" if is_slow:
            return OutcomeWord(_("slow"), "slow", "warn")
        case "completed":
            return OutcomeWord(_("ok"), "ok", "ok")
        case "cancelled":
            return OutcomeWord(_("client gone"), "gone", "")
        case "refused":
            return OutcomeWord(_("refused"), "refused", "warn")
        case "timeout":
            return OutcomeWord(_("timed out"), "clock", "bad")
        case "interrupted":
            return OutcomeWord(_("interrupted"), "failed", "bad")
        case "in_flight":
            return OutcomeWord(_("in flight"), "in-flight", "info")
        case _ if status:
            return OutcomeWord(_("failed %(status)s") % {"status": status}, "failed", "bad")
        case _:
            return OutcomeWord(_("failed"), "failed", "bad")


RULES: Final[dict[str, Text]] = {
    "declared_subagent": gettext_lazy("the client declares a sub-agent"),
    "declared_compaction": gettext_lazy("the client declares a compaction"),
    "side_request": gettext_lazy("a title or warm-up that the client asks for by itself"),
    "hosted_search": gettext_lazy("the model asked the gateway for a web search"),
    "last_item_tool": gettext_lazy("the last message is a tool result"),
    "last_item_user": gettext_lazy("the last message is a person's"),
    "last_item_assistant": gettext_lazy(
        "the last message is the model's own, which leaves open who asked: counted as a person's"
    ),
    "client_says_user": gettext_lazy("the client says that a person caused it"),
}

FORMATS: Final[dict[str, str]] = {
    "chat_completions": "Chat Completions",
    "messages": "Messages",
    "responses": "Responses",
    "gemini": "Gemini",
    "embeddings": "Embeddings",
    "count_tokens": "Count tokens",
    "models": "Models",
}

YOU: Final = gettext_lazy("you")
ADMIN: Final = gettext_lazy("an administrator")
GITHUB: Final = "GitHub"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a failure means, whose move it is, and what to do."""

    means: Text
    owner: Text
    do: Text


_STATUS_PAGE: Final = gettext_lazy(
    "Wait, then try again. githubstatus.com says whether it is known."
)

EXPLANATIONS: Final[dict[str, Explanation]] = {
    "rate_limited": Explanation(
        gettext_lazy("More was asked than a limit allows in this time."),
        YOU,
        gettext_lazy("Wait for the time that the answer's Retry-After names."),
    ),
    "account_cooling_down": Explanation(
        gettext_lazy("GitHub has asked this account to pause for a while."),
        GITHUB,
        gettext_lazy("Wait. The account's page says until when."),
    ),
    "insufficient_quota": Explanation(
        gettext_lazy("The credits of the account, or the budget of the key, are used up."),
        ADMIN,
        gettext_lazy("Raise the budget or allow extra use on GitHub, or wait for the reset."),
    ),
    "invalid_api_key": Explanation(
        gettext_lazy("The key is unknown, revoked or past its last day."),
        YOU,
        gettext_lazy("Make a new key and put it into the client."),
    ),
    "model_not_found": Explanation(
        gettext_lazy("No account of yours offers a model of this name."),
        YOU,
        gettext_lazy("Choose a name from the Models page, or ask for an alias."),
    ),
    "model_not_permitted": Explanation(
        gettext_lazy("The key may not use this model."),
        ADMIN,
        gettext_lazy("Use one of the key's models, or ask for a key with this one."),
    ),
    "context_length_exceeded": Explanation(
        gettext_lazy("The conversation is longer than the model can read."),
        YOU,
        gettext_lazy("Compact or shorten it, or choose a model with a larger window."),
    ),
    "request_too_large": Explanation(
        gettext_lazy("The request's body is above the size limit, often because of images."),
        YOU,
        gettext_lazy("Send fewer or smaller images and files."),
    ),
    "unsupported_content": Explanation(
        gettext_lazy("The model's API has no place for a part of this request."),
        YOU,
        gettext_lazy("Leave that part out, or choose a model of the client's own family."),
    ),
    "content_filter": Explanation(
        gettext_lazy("GitHub's content filter refused the request. The gateway passes that on."),
        GITHUB,
        gettext_lazy("Say it differently. False alarms can be reported to GitHub."),
    ),
    "approval_timeout": Explanation(
        gettext_lazy("Nobody approved the request in time."),
        ADMIN,
        gettext_lazy("Ask somebody to watch the Approvals page, then send it again."),
    ),
    "approval_refused": Explanation(
        gettext_lazy("A person refused this request."),
        ADMIN,
        gettext_lazy("Ask an administrator why."),
    ),
    "account_frozen": Explanation(
        gettext_lazy("GitHub's answer spoke of abuse or terms, so the account was frozen."),
        ADMIN,
        gettext_lazy("Read GitHub's message first; then an administrator may unfreeze it."),
    ),
    "no_account": Explanation(
        gettext_lazy("No GitHub account is connected for this key."),
        YOU,
        gettext_lazy("Connect an account on the Accounts page."),
    ),
    "needs_sign_in": Explanation(
        gettext_lazy("GitHub no longer accepts the account's sign-in."),
        YOU,
        gettext_lazy("Sign in again on the Accounts page."),
    ),
    "no_seat": Explanation(
        gettext_lazy("The account has no Copilot seat."),
        ADMIN,
        gettext_lazy("Assign a seat on GitHub, then poll the account's quota."),
    ),
    "upstream_error": Explanation(
        gettext_lazy("Copilot broke off, could not be reached or answered nonsense."),
        GITHUB,
        _STATUS_PAGE,
    ),
    "upstream_timeout": Explanation(
        gettext_lazy("Copilot did not answer in time."), GITHUB, _STATUS_PAGE
    ),
    "overloaded": Explanation(
        gettext_lazy("The model is overloaded at its provider."),
        GITHUB,
        gettext_lazy("Wait a minute, or choose another model."),
    ),
    "unavailable": Explanation(
        gettext_lazy("The gateway had no free place, or was about to stop."),
        ADMIN,
        gettext_lazy("Send it again. If it stays, the Health page says more."),
    ),
    "forbidden": Explanation(
        gettext_lazy("GitHub does not allow this for the account, by plan or by policy."),
        ADMIN,
        gettext_lazy("Look at the Copilot policies of the organisation on GitHub."),
    ),
    "invalid_request": Explanation(
        gettext_lazy("The request is not what this API asks for."),
        YOU,
        gettext_lazy("The message names the field. An update of the client often cures it."),
    ),
}

BY_OUTCOME: Final[dict[str, Explanation]] = {
    "cancelled": Explanation(
        gettext_lazy("The client closed the connection before the answer was complete."),
        YOU,
        gettext_lazy("Nothing, if you stopped it. What was answered until then is charged."),
    ),
    "interrupted": Explanation(
        gettext_lazy("The gateway's process ended while this was in flight."),
        ADMIN,
        gettext_lazy("Send it again. The server's log says why the process ended."),
    ),
    "timeout": EXPLANATIONS["upstream_timeout"],
    "upstream_error": EXPLANATIONS["upstream_error"],
}

BY_STATUS: Final[dict[int, str]] = {
    400: "invalid_request",
    401: "needs_sign_in",
    402: "insufficient_quota",
    403: "forbidden",
    404: "model_not_found",
    413: "request_too_large",
    422: "content_filter",
    429: "rate_limited",
    503: "overloaded",
    504: "upstream_timeout",
}


def explain(outcome: str, code: str, status: int | None) -> Explanation | None:
    """A failure in words, from its code, else its status, else its outcome; None for success."""
    if outcome == "completed":
        return None
    if outcome in ("cancelled", "interrupted"):
        return BY_OUTCOME[outcome]
    known = EXPLANATIONS.get(code)
    if known is None and status is not None:
        known = EXPLANATIONS.get(BY_STATUS.get(status, ""))
    return known or BY_OUTCOME.get(outcome) or EXPLANATIONS["invalid_request"]
