"""Explanations: upstream failures in plain words, for API errors and for pages.

Source: docs/upstream.md#errors.
"""

from typing import Final, Literal

from msgspec import Struct

Whose = Literal["member", "admin", "github"]


class Explanation(Struct, frozen=True):
    """`what` happened, `whose` business it is, and the `next_step` as one sentence."""

    what: str
    whose: Whose
    next_step: str


# By kind of fault; `forbidden_unsaid` is a 403 that came without any reason.
EXPLANATIONS: Final[dict[str, Explanation]] = {
    "context_overflow": Explanation(
        "The conversation is longer than the model can read.",
        "member",
        "Compact or restart the conversation, or choose a model with a larger context.",
    ),
    "invalid_request": Explanation(
        "GitHub Copilot does not accept a part of the request.",
        "member",
        "Change what the message names; if the client does this by itself, tell an administrator.",
    ),
    "model_not_supported": Explanation(
        "The model is unknown to GitHub Copilot, not in the plan, or its terms are not accepted.",
        "admin",
        "Choose a model from the list, or enable this one in the Copilot settings on GitHub.",
    ),
    "wrong_endpoint": Explanation(
        "The model cannot be asked through the endpoint that was chosen for it.",
        "admin",
        "Refresh the model list, and report it if the failure stays.",
    ),
    "token_expired": Explanation(
        "GitHub no longer accepts the sign-in of the account.",
        "member",
        "Connect the GitHub account again on the accounts page.",
    ),
    "forbidden": Explanation(
        "GitHub refuses this account or this model, for example by a policy of the organisation.",
        "admin",
        "Check the seat and the Copilot policies of the organisation on GitHub.",
    ),
    "forbidden_unsaid": Explanation(
        "GitHub refuses this account or this model and gives no reason.",
        "admin",
        "Check on GitHub that the account has a Copilot seat and that the model is enabled for it.",
    ),
    "abuse": Explanation(
        "GitHub has objected to how the account is used. The account is frozen here.",
        "admin",
        "Stop, read GitHub's message to the account's owner, and release the account only then.",
    ),
    "quota_exceeded": Explanation(
        "The account's Copilot budget is used up.",
        "admin",
        "Wait for the monthly reset, or allow more spending in the Copilot settings on GitHub.",
    ),
    "rate_limited": Explanation(
        "The account has asked more than GitHub Copilot allows in this time.",
        "member",
        "Wait for the time that Retry-After names, then continue.",
    ),
    "overloaded": Explanation(
        "The model's provider is overloaded.",
        "github",
        "Try again shortly, or choose another model.",
    ),
    "misdirected": Explanation(
        "The account's token belongs to another Copilot host.",
        "admin",
        "Try again in a minute; if it stays, connect the GitHub account again.",
    ),
    "client_outdated": Explanation(
        "GitHub Copilot no longer supports the editor version that the gateway names.",
        "admin",
        "An administrator must raise the editor and plugin version in the upstream profile.",
    ),
    "too_large": Explanation(
        "The request is larger than GitHub Copilot takes, most often because of images.",
        "member",
        "Send fewer or smaller images, or shorten the conversation.",
    ),
    "request_timeout": Explanation(
        "GitHub Copilot did not receive the whole request in time.",
        "github",
        "Try again; if it stays, shorten the conversation.",
    ),
    "content_filter": Explanation(
        "A safety filter of GitHub Copilot refused the content.",
        "member",
        "Rephrase the request; the filter's verdict is passed on unchanged.",
    ),
    "not_found": Explanation(
        "GitHub Copilot does not know this model or path.",
        "member",
        "Choose a model from the list.",
    ),
    "server_cancelled": Explanation(
        "GitHub Copilot ended the call before it had answered.",
        "github",
        "Try again; very long conversations fail this way more often.",
    ),
    "server_error": Explanation(
        "GitHub Copilot has a fault at the moment.",
        "github",
        "Try again later, and look at GitHub's status page.",
    ),
    "unknown": Explanation(
        "GitHub Copilot answered in a way that the gateway does not know.",
        "github",
        "Try again; if it stays, report it with the request id.",
    ),
}
