"""Scrubbing: upstream text as people may see it, without secrets, pages and host names."""

import re
from typing import Final

from proxy.errors import MAX_MESSAGE

# Characters of a text that are looked at.
MAX_TEXT: Final = 8_000

REDACTED: Final = "[redacted]"
_SECRETS: Final = re.compile(
    r"""
    \b(?:proxy-)?authorization["']?\s*[:=]\s*["']?(?:(?:bearer|token|basic)\s+)?[^\s"',]+
    | \b(?:set-)?cookie["']?\s*[:=]\s*[^\r\n"']+
    | \bx-(?:goog-)?api-key["']?\s*[:=]\s*["']?[^\s"',]+
    | \bbearer\s+[^\s"',]+
    | \btid=[^\s"',]+
    | (?<![A-Za-z0-9])gh[a-z]_\w+
    | \bgithub_pat_\w+
    | \bsk-[\w-]{4,}
    | \bcgw_[\w-]+
    | \bAIza[\w-]{20,}
    | \beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?
    """,
    re.IGNORECASE | re.VERBOSE,
)
_UPSTREAM_HOST: Final = re.compile(
    r"(?:\w{2,5}://)?\b[\w.-]{0,100}\b(?:githubcopilot\.com|ghe\.com)\b[^\s\"',]*", re.IGNORECASE
)
_HTML: Final = re.compile(r"^\s*<|<(?:!doctype|html|head|body|script|title)\b", re.IGNORECASE)
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]+")


def scrub(text: str) -> str:
    """Take out what looks like a token, key or cookie. Source: docs/upstream.md#token-kinds."""
    return _SECRETS.sub(REDACTED, text)


def presentable(text: str) -> str:
    """A message of the upstream as people may see it; empty when it was a page and no message.

    Without secrets, host names, control characters and lone surrogates; at most 500 characters.
    """
    if _HTML.search(text[:MAX_TEXT]):
        return ""
    text = text[:MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
    text = _UPSTREAM_HOST.sub("GitHub Copilot", scrub(text))
    return _CONTROLS.sub(" ", text).strip()[:MAX_MESSAGE]
