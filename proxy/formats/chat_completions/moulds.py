"""Which chunks make a mould."""

from typing import Any

from proxy.formats.moulds import Mould, mould_around


def mould_of(data: bytes, chunk: dict[str, Any]) -> Mould | None:
    """The mould of a chunk, of which `data` is the JSON; None unless it is one piece of text."""
    try:
        (choice,) = chunk["choices"]
        delta = choice["delta"]
        return mould_around(data, chunk, delta, "content") if len(delta) == 1 else None
    except (KeyError, TypeError, ValueError):
        return None
