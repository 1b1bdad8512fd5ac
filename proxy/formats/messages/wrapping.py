"""Values of other families on the Messages wire: signatures and tool ids that come back unharmed.

A `signature` that Anthropic has not made reads `cgw1.<family>.<value>`; a tool id outside of
`[A-Za-z0-9_-]+` is sent as `cgw1_<base64url>`. Clients replay both as they got them.
"""

import base64
import binascii
import re
from typing import get_args

from proxy.formats.canonical import Family, Opaque

SIGNATURE_PREFIX = "cgw1."
TOOL_ID_PREFIX = "cgw1_"
# Reasoning text that nobody has signed. The mark tells it from a signature of Anthropic's, whose
# own endpoint refuses anything else.
UNSIGNED = SIGNATURE_PREFIX + "none."

_FAMILIES: dict[str, Family] = {family: family for family in get_args(Family)}
_TOOL_ID = re.compile(r"[A-Za-z0-9_-]+")


def wrap(opaque: Opaque | None) -> str:
    """The `signature` that carries `opaque`; Anthropic's own is byte-exact."""
    if opaque is None:
        return UNSIGNED
    if opaque.family == "anthropic":
        return opaque.value
    return f"{SIGNATURE_PREFIX}{opaque.family}.{opaque.value}"


def unwrap(signature: str) -> Opaque | None:
    """The opaque value of a replayed `signature`; None for reasoning that nobody has signed."""
    if not signature.startswith(SIGNATURE_PREFIX):
        return Opaque("anthropic", signature)
    name, _, value = signature[len(SIGNATURE_PREFIX) :].partition(".")
    family = _FAMILIES.get(name)
    return None if family is None else Opaque(family, value)


def wire_tool_id(tool_id: str) -> str:
    """A tool id as this wire allows it: unchanged where it may be. Source: docs/upstream.md."""
    if _TOOL_ID.fullmatch(tool_id) and not tool_id.startswith(TOOL_ID_PREFIX):
        return tool_id
    packed = base64.urlsafe_b64encode(tool_id.encode("utf-8", "surrogatepass"))
    return TOOL_ID_PREFIX + packed.decode("ascii").rstrip("=")


def canonical_tool_id(tool_id: str) -> str:
    """What `wire_tool_id` has packed; ids that it has not made stay as they are."""
    if not tool_id.startswith(TOOL_ID_PREFIX):
        return tool_id
    packed = tool_id[len(TOOL_ID_PREFIX) :]
    try:
        raw = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
        original = raw.decode("utf-8", "surrogatepass")
    except (ValueError, binascii.Error):
        return tool_id
    return original if wire_tool_id(original) == tool_id else tool_id
