"""What a request's history says: whether a model has answered in it, and whether that is signed.

Read in the client's own format without translating; anything malformed counts as absent.
"""

from typing import Any, Final

from proxy.formats.outlines import Run

# Items of the Responses format that only a model or the upstream writes.
_BY_MODEL: Final = frozenset({"reasoning", "compaction"})
_ROLES_OF_MODELS: Final = ("assistant", "model", "tool", "function")
_SIGNED_BLOCKS: Final = frozenset({"thinking", "redacted_thinking"})


def continues(body: dict[str, Any]) -> bool:
    """True when a model has answered before: this is not the beginning of a conversation."""
    if body.get("previous_response_id"):
        return True
    for entries in _lists(body):
        for turn in entries:
            if isinstance(turn, dict) and _is_models(turn):
                return True
    return False


def is_signed(body: dict[str, Any]) -> bool:
    """True when the history holds what only the account that made it can read or prove.

    Runs of a long history (see `proxy.formats.outlines`) are not looked into: they count as signed.
    """
    if body.get("previous_response_id"):
        return True
    return any(
        isinstance(turn, Run) or (isinstance(turn, dict) and _has_seal(turn))
        for entries in _lists(body)
        for turn in entries
    )


def _lists(body: dict[str, Any]) -> list[list[Any]]:
    held = (body.get("messages"), body.get("input"), body.get("contents"))
    return [entries for entries in held if isinstance(entries, list)]


def _is_models(turn: dict[str, Any]) -> bool:
    if turn.get("role") in _ROLES_OF_MODELS:
        return True
    kind = turn.get("type")
    return isinstance(kind, str) and (kind in _BY_MODEL or "_call" in kind)


def _has_seal(turn: dict[str, Any]) -> bool:
    if turn.get("encrypted_content") or turn.get("reasoning_opaque"):
        return True
    blocks = turn.get("parts") if "parts" in turn else turn.get("content")
    for block in blocks if isinstance(blocks, list) else ():
        if not isinstance(block, dict):
            continue
        if block.get("type") in _SIGNED_BLOCKS and (block.get("signature") or block.get("data")):
            return True
        if block.get("thoughtSignature") or block.get("thought_signature"):
            return True
    return False
