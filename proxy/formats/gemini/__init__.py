"""Google's Gemini API (`generateContent`): what Gemini CLI and Google's SDKs speak.

A client format: no endpoint of Copilot speaks it. A body of this format is Google's, with three
fields that Google has in the URL: `model`, `stream`, and `alt` (`json` asks for the stream as one
JSON array instead of server-sent events).
"""

from proxy.formats.canonical import Family
from proxy.formats.contract import Answer, Decoder, Encoder, Tap
from proxy.formats.gemini.answers import decode_body, encode_body, repair_body
from proxy.formats.gemini.building import build_request
from proxy.formats.gemini.checks import check
from proxy.formats.gemini.decoding import Decoder as _Decoder
from proxy.formats.gemini.encoding import Encoder as _Encoder
from proxy.formats.gemini.errors import error_body
from proxy.formats.gemini.fields import NAME
from proxy.formats.gemini.gists import gist
from proxy.formats.gemini.losses import LOSSES
from proxy.formats.gemini.passthrough import Tap as _Tap
from proxy.formats.gemini.requests import parse_request
from proxy.formats.outlines import Outline

FAMILY: Family = "gemini"
# Comments and events without a candidate make Gemini CLI fail. Source: docs/clients.md.
KEEPALIVE = b""
RUNS_OF: frozenset[str] = frozenset()

__all__ = [
    "FAMILY",
    "KEEPALIVE",
    "LOSSES",
    "NAME",
    "RUNS_OF",
    "build_request",
    "check",
    "decode_body",
    "decoder",
    "encode_body",
    "encoder",
    "error_body",
    "gist",
    "outline",
    "parse_request",
    "repair_body",
    "tap",
]


def outline(raw: bytes) -> Outline | None:
    """None: every body is translated, and Google's clients send smaller ones."""
    return None


def decoder() -> Decoder:
    return _Decoder()


def encoder(answer: Answer) -> Encoder:
    return _Encoder(answer)


def tap(answer: Answer) -> Tap:
    return _Tap(answer)
