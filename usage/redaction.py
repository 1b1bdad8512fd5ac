"""Redaction: what looks like a secret never reaches a stored body."""

import re
from typing import Final

REDACTED: Final = "[redacted]"
_SECRETS: Final = re.compile(
    r"""
    -----BEGIN[ A-Z]*PRIVATE\ KEY-----.*?(?:-----END[ A-Z]*PRIVATE\ KEY-----|\Z)
    | (?<![A-Za-z0-9])gh[a-z]_[A-Za-z0-9_]{4,}
    | \bgithub_pat_\w{4,}
    | \bcgw_[\w-]{8,}
    | \btid=[^\s"'\\,]+
    | \bsk-[\w-]{8,}
    | \bAKIA[A-Z0-9]{16}\b
    | \bxox[abeprs]-[\w-]{8,}
    | \bAIza[\w-]{20,}
    | \beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?
    | (?i:\bbearer)\s+[A-Za-z0-9._~+/=;:-]{12,}
    | (?i:\b(?:password|passwd|secret|api[_-]?key|access[_-]?token)\b["'\\]*\s*[:=]\s*["'\\]*)
      [^\s"'\\,;]{6,}
    """,
    re.VERBOSE | re.DOTALL,
)
# Pictures and files: nobody reads them here, and they would fill the room that words need.
# Begun at the start of a run only: a run that is too short is looked through once, not a thousand times.
_BASE64: Final = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{1000,}={0,2}")


def redact(text: str) -> str:
    """`text` without secrets, and with the size in place of long base64 data."""
    return _BASE64.sub(_size_of, _SECRETS.sub(REDACTED, text))


def _size_of(found: re.Match[str]) -> str:
    return f"[{len(found[0])} characters of data]"
