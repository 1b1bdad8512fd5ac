"""OpenAI Chat Completions: what most clients speak, and Copilot's /chat/completions."""

from proxy.formats.chat_completions.build import build_request
from proxy.formats.chat_completions.checks import check
from proxy.formats.chat_completions.decode import ChatDecoder, decode_body
from proxy.formats.chat_completions.encode import ChatEncoder, encode_body
from proxy.formats.chat_completions.failures import error_body
from proxy.formats.chat_completions.gist import gist
from proxy.formats.chat_completions.losses import LOSSES
from proxy.formats.chat_completions.parse import parse_request
from proxy.formats.chat_completions.plain import outline
from proxy.formats.chat_completions.repair import repair_body
from proxy.formats.chat_completions.tap import ChatTap
from proxy.formats.chat_completions.wire import FAMILY, KEEPALIVE, NAME
from proxy.formats.contract import Answer, Decoder, Encoder, Tap

RUNS_OF: frozenset[str] = frozenset({"messages"})


def decoder() -> Decoder:
    return ChatDecoder()


def encoder(answer: Answer) -> Encoder:
    return ChatEncoder(answer)


def tap(answer: Answer) -> Tap:
    return ChatTap(answer)


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
