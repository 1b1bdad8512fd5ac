"""One compatibility retry: an upstream that refuses replayed reasoning is asked again without it.

Signatures and item ids lose their validity for reasons that no client can see: another backend, a
restarted connection, another account. The client would be stuck with its history for good.
"""

import re
from typing import Any, Final

from proxy.formats.outlines import decode_runs
from proxy.upstream.failures import UpstreamFault
from proxy.upstream.quirks.body import dicts_of
from proxy.upstream.quirks.replays import forget, is_thoughtless_loop

# What the endpoints say of reasoning or ids that they do not accept back.
# Source: docs/upstream.md#thinking, docs/upstream.md#responses-ids, docs/upstream.md#reasoning.
_REFUSALS: Final = re.compile(
    r"invalid `?signature`? in `?thinking`? block"
    r"|thinking`? blocks .{0,60}cannot be modified"
    r"|expected `?thinking`? or `?redacted_thinking"
    r"|item id does not belong to this connection"
    r"|encrypted content .{0,60}could not be (?:verified|decrypted)"
    r"|thought[ _]signature",
    re.IGNORECASE,
)
# Gemini checks the calls of the running turn only, and a person's words begin a new one.
_GO_ON: Final = {"role": "user", "content": "Go on with these results."}


def recover(fault: UpstreamFault, wire: str, body: dict[str, Any]) -> bool:
    """Change `body` into one that the upstream can take; False when that is not the matter."""
    if fault.status != 400 or not _REFUSALS.search(fault.message):
        return False
    decode_runs(body)
    acted = forget(wire, body)
    if wire == "messages":
        return _stop_thinking(body) or acted
    if wire == "chat_completions":
        return _end_turn(body) or acted
    return acted


def _stop_thinking(body: dict[str, Any]) -> bool:
    """With a thinking budget, a tool loop that began without thinking is refused."""
    thinking = body.get("thinking")
    is_enabled = isinstance(thinking, dict) and thinking.get("type") == "enabled"
    if not is_enabled or not is_thoughtless_loop(body.get("messages")):
        return False
    del body["thinking"]
    return True


def _end_turn(body: dict[str, Any]) -> bool:
    messages = list(dicts_of(body.get("messages")))
    if not messages or messages[-1].get("role") != "tool":
        return False
    body["messages"] = [*body["messages"], dict(_GO_ON)]
    return True
