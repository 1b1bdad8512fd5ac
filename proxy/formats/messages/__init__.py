"""Anthropic Messages: what Claude Code and Anthropic's SDKs speak, and Copilot's `/v1/messages`."""

from proxy.formats.canonical import Family
from proxy.formats.contract import Answer, Decoder, Encoder, Tap
from proxy.formats.messages.answers import decode_body, encode_body, repair_body
from proxy.formats.messages.building import NAME, build_request
from proxy.formats.messages.checks import check
from proxy.formats.messages.decoding import Decoder as _Decoder
from proxy.formats.messages.encoding import PING
from proxy.formats.messages.encoding import Encoder as _Encoder
from proxy.formats.messages.errors import error_body
from proxy.formats.messages.gists import gist
from proxy.formats.messages.losses import LOSSES
from proxy.formats.messages.passthrough import Tap as _Tap
from proxy.formats.messages.plain import outline
from proxy.formats.messages.requests import parse_request

FAMILY: Family = "anthropic"
KEEPALIVE = PING
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


def decoder() -> Decoder:
    return _Decoder()


def encoder(answer: Answer) -> Encoder:
    return _Encoder(answer)


def tap(answer: Answer) -> Tap:
    return _Tap(answer)
