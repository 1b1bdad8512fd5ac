"""What a request's history says: whether a model has answered in it, and whether that is signed.

Read in the client's own format without translating; anything malformed counts as absent.
"""

from collections.abc import Iterator
from typing import Any, Final

from proxy.formats.outlines import Run

# Items of the Responses format that only a model or the upstream writes.
_BY_MODEL: Final = frozenset({"reasoning", "compaction"})
_SIGNED_BLOCKS: Final = frozenset({"thinking", "redacted_thinking"})


def continues(body: dict[str, Any]) -> bool:
    """True when a model has answered before: this is not the beginning of a conversation."""
    if body.get("previous_response_id"):
        return True
    return any(_is_models(turn) for turn in _turns(body))


def is_signed(body: dict[str, Any]) -> bool:
    """True when the history holds what only the account that made it can read or prove.

    Runs of a long history (see `proxy.formats.outlines`) are not looked into: they count as signed.
    """
    if body.get("previous_response_id") or any(isinstance(t, Run) for t in _entries(body)):
        return True
    return any(_has_seal(turn) for turn in _turns(body))


def _turns(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (turn for turn in _entries(body) if isinstance(turn, dict))


def _entries(body: dict[str, Any]) -> Iterator[object]:
    for name in ("messages", "input", "contents"):
        entries = body.get(name)
        if isinstance(entries, list):
            yield from entries


def _is_models(turn: dict[str, Any]) -> bool:
    kind = turn.get("type")
    if turn.get("role") in ("assistant", "model", "tool", "function"):
        return True
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
