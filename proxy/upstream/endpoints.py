"""Upstream endpoints: their paths, the wire format of each, and which one a model is asked through.

Source: docs/upstream.md#endpoints.
"""

from typing import Final

from msgspec import Struct


class Endpoint(Struct, frozen=True):
    """A path of the Copilot API. `format` is empty where the path carries no conversation."""

    name: str
    path: str
    format: str


CHAT_COMPLETIONS: Final = Endpoint("chat_completions", "/chat/completions", "chat_completions")
RESPONSES: Final = Endpoint("responses", "/responses", "responses")
MESSAGES: Final = Endpoint("messages", "/v1/messages", "messages")
COUNT_TOKENS: Final = Endpoint("count_tokens", "/v1/messages/count_tokens", "messages")
EMBEDDINGS: Final = Endpoint("embeddings", "/embeddings", "embeddings")
MODELS: Final = Endpoint("models", "/models", "")

# The endpoints that generate, by the path under which the catalog lists them. Others that a model
# may list (`ws:/responses`) are not served over HTTP and are passed over.
GENERATING: Final = {each.path: each for each in (CHAT_COMPLETIONS, RESPONSES, MESSAGES)}

# The endpoint that loses least for models of a vendor: the vendor's own wire format.
NATIVE: Final = {
    "anthropic": MESSAGES,
    "openai": RESPONSES,
    "azure openai": RESPONSES,
    "xai": RESPONSES,
    "microsoft": RESPONSES,
}


def choose(source_format: str, supported: tuple[str, ...], vendor: str) -> Endpoint:
    """The endpoint for a client of `source_format` and a model that lists `supported` paths.

    The client's own format if the model lists it, else the vendor's own, else the first of chat
    completions, responses, messages that is listed. A model that lists nothing we know is asked
    through chat completions: older models come without a list.
    """
    listed = [GENERATING[path] for path in GENERATING if path in supported]
    if not listed:
        return CHAT_COMPLETIONS
    for endpoint in listed:
        if endpoint.format == source_format:
            return endpoint
    native = NATIVE.get(vendor.strip().lower(), CHAT_COMPLETIONS)
    return native if native in listed else listed[0]
