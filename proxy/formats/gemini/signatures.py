"""Thought signatures: the one field of a part that carries what only the model can read.

A signature of another family than Google's reads `cgw1.<family>.<value>`, so that it comes back to
the model that made it; clients replay it unread.
"""

from typing import get_args

from proxy.formats.canonical import Family, Opaque

PREFIX = "cgw1."
# What clients send where no signature is known. Source: docs/clients.md (Gemini CLI's requests).
PLACEHOLDERS = frozenset(
    {"skip_thought_signature_validator", "context_engineering_is_the_way_to_go"}
)
# Base64 holds no colon, so this cannot be the beginning of a signature. Anthropic takes data of
# redacted thinking and signatures in different fields and refuses one in place of the other.
_REDACTED = "redacted:"
_FAMILIES: dict[str, Family] = {family: family for family in get_args(Family)}


def wrap(opaque: Opaque, *, redacted: bool = False) -> str:
    """The `thoughtSignature` that carries `opaque`; Google's own is byte-exact."""
    if opaque.family == "gemini":
        return opaque.value
    return f"{PREFIX}{opaque.family}.{_REDACTED if redacted else ''}{opaque.value}"


def unwrap(signature: str) -> tuple[Opaque | None, bool]:
    """Whose value a signature carries (None: nobody's), and whether its thinking is redacted."""
    if not signature or signature in PLACEHOLDERS:
        return None, False
    if not signature.startswith(PREFIX):
        return Opaque("gemini", signature), False
    name, _, value = signature[len(PREFIX) :].partition(".")
    family = _FAMILIES.get(name)
    if family is None:
        return None, False
    return Opaque(family, value.removeprefix(_REDACTED)), value.startswith(_REDACTED)
