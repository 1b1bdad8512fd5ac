"""Compaction of Responses conversations: when it is asked for, and with what it is sealed.

The summary travels encrypted with the installation's own keys, so that a client can hand it back
and nobody else can read or change it. See `proxy.formats.responses.compaction`.
"""

from typing import Any

from accounts.encryption import Undecryptable, decrypt, encrypt
from proxy.exchange import Exchange
from proxy.formats.responses import compaction

as_triggered = compaction.triggered


def is_asked(body: dict[str, Any]) -> bool:
    """Whether a summary is to be written: the answer then repeats what the user has said."""
    return compaction.is_triggered(body)


def prepare(exchange: Exchange) -> dict[str, Any]:
    """The body that goes on: summaries in their places, or the request that writes a new one.

    Sets the exchange's voice when the client waits for a compaction item.
    """
    body = compaction.unfolded(exchange.body, unseal)
    if not compaction.is_triggered(body):
        return body
    body, dropped = compaction.summary_request(body)
    exchange.drop(*dropped)
    is_bare = exchange.path.rstrip("/").endswith("/compact") and not exchange.stream
    exchange.voice = compaction.Voice(encrypt, is_bare=is_bare)
    return body


def unseal(ciphertext: str) -> str | None:
    try:
        return decrypt(ciphertext)
    except Undecryptable:
        return None
