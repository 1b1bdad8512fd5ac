"""Quirks: what Copilot refuses or gets wrong in a request, put right before it is sent.

Each quirk carries its papers: what Copilot does, when it was seen, where that is written, when the
quirk can go. They run in order, change the body in place and never raise, whatever the body holds.
A quirk's name says what it is about; the names of those that acted are recorded with the request.
"""

from typing import Any, Final

from proxy.errors import InvalidRequest
from proxy.formats.canonical import ModelFacts
from proxy.upstream.quirks import chat_completions, messages, responses
from proxy.upstream.quirks.body import WATCHED, Quirk, QuirkContext, fields_within
from proxy.upstream.quirks.messages import has_system_message, needed_betas
from proxy.upstream.quirks.tools import has_deferred_marker

__all__ = ["QUIRKS", "Quirk", "QuirkContext", "apply", "check", "needed_betas"]

QUIRKS: Final[dict[str, tuple[Quirk, ...]]] = {
    "chat_completions": chat_completions.QUIRKS,
    "responses": responses.QUIRKS,
    "messages": messages.QUIRKS,
    "count_tokens": messages.COUNT_TOKENS_QUIRKS,
    "embeddings": (),
}

_WATCHED: Final = {
    endpoint: frozenset[str]().union(*[WATCHED[quirk] for quirk in quirks if quirk in WATCHED])
    for endpoint, quirks in QUIRKS.items()
}
_ALWAYS_AWAKE: Final = {
    endpoint: tuple(quirk for quirk in quirks if quirk not in WATCHED)
    for endpoint, quirks in QUIRKS.items()
}
MAX_TOOLS: Final = 128


def apply(
    endpoint: str, body: dict[str, Any], model: ModelFacts, context: QuirkContext
) -> list[str]:
    """Run the quirks of an endpoint over `body` in place; returns the names of those that acted.

    What they took away of the client's own wishes stands in `context.dropped` afterwards.
    """
    quirks = QUIRKS.get(endpoint, ())
    names = fields_within(body)
    if _WATCHED.get(endpoint, frozenset()).isdisjoint(names):
        awake = _ALWAYS_AWAKE.get(endpoint, ())
    else:
        awake = tuple([q for q in quirks if not (q in WATCHED and WATCHED[q].isdisjoint(names))])
    return [quirk.__name__ for quirk in awake if quirk(body, model, context)]


def look_at_all(
    endpoint: str, body: dict[str, Any], model: ModelFacts, context: QuirkContext
) -> bool:
    """Whether a quirk needs the messages that are left in bytes, too (`proxy.formats.outlines`).

    Claude's prompts in chat get cache markers at places that all messages decide; a system message
    without its beta moves into the message before it, a deferred tool's marker to the tool before it.
    """
    match endpoint:
        case "chat_completions":
            return model.vendor.lower() == "anthropic"
        case "messages" | "count_tokens":
            lacks_beta = messages.SYSTEM_BETA not in context.betas and has_system_message(body)
            return lacks_beta or has_deferred_marker(body)
    return False


def check(endpoint: str, body: dict[str, Any], model: ModelFacts) -> None:
    """Refuse what the upstream would refuse without saying why.

    Raises `InvalidRequest` for more than 128 tools on chat completions, which the upstream answers
    with a bare 400. Source: docs/upstream.md#chat-fields.
    """
    tools = body.get("tools")
    if endpoint == "chat_completions" and isinstance(tools, list) and len(tools) > MAX_TOOLS:
        raise InvalidRequest(
            f"tools: {model.id} takes at most {MAX_TOOLS} tools through chat completions,"
            f" got {len(tools)}",
            param="tools",
        )
