"""Minting: opaque ids, signatures and encrypted reasoning that only their minter can check."""

from __future__ import annotations

import base64
import hashlib
import string

from simulator.state import State

_ALPHABET = string.ascii_letters + string.digits
_MAC_BYTES = 16


def short_id(state: State, prefix: str, length: int = 24) -> str:
    return prefix + "".join(state.random.choices(_ALPHABET, k=length))


def uuid(state: State) -> str:
    digits = state.random.randbytes(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def github_request_id(state: State) -> str:
    digits = state.random.randbytes(16).hex().upper()
    return f"{digits[:4]}:{digits[4:9]}:{digits[9:15]}:{digits[15:21]}:{digits[21:29]}"


def family_of(model_id: str) -> str:
    """Return the family whose models accept each other's signatures: `claude`, `gpt`, ..."""
    return model_id.partition("-")[0]


def _mac(state: State, purpose: str, payload: bytes) -> bytes:
    return hashlib.blake2b(
        payload, key=state.secret, digest_size=_MAC_BYTES, person=purpose.encode()[:16]
    ).digest()


def opaque_id(state: State) -> str:
    """Return an item or response id of the responses leg: different each time, tied to one call."""
    nonce = state.random.randbytes(50)
    return base64.b64encode(nonce + _mac(state, "item", nonce)).decode()


def is_opaque_id(state: State, value: str) -> bool:
    """Tell whether we minted this item id, on whatever call."""
    return _opened(state, "item", value) is not None


def seal(state: State, purpose: str, login: str, model_id: str, content: str) -> str:
    """Bind `content` (as a digest) to the account and the model's family.

    `purpose` is `signature` (messages), `reasoning` (responses) or `opaque` (chat).
    """
    bound = f"{login}|{family_of(model_id)}|".encode()
    digest = hashlib.blake2b(content.encode(), digest_size=16).digest()
    payload = state.random.randbytes(96) + digest + bound
    return base64.b64encode(payload + _mac(state, purpose, payload)).decode()


def check_seal(
    state: State, purpose: str, login: str, model_id: str, value: str, content: str = ""
) -> str:
    """Return `ok`, `foreign` (not ours, other account or family) or `modified` (text changed).

    Empty content always fits: omitted thinking comes back with its signature and no text.
    """
    payload = _opened(state, purpose, value)
    bound = f"{login}|{family_of(model_id)}|".encode()
    if payload is None or payload[112:] != bound:
        return "foreign"
    digest = hashlib.blake2b(content.encode(), digest_size=16).digest()
    return "ok" if not content or payload[96:112] == digest else "modified"


def _opened(state: State, purpose: str, value: str) -> bytes | None:
    try:
        raw = base64.b64decode(value, validate=True)
    except ValueError:
        return None
    payload, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
    return payload if payload and mac == _mac(state, purpose, payload) else None
