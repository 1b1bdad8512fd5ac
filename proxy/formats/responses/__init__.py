"""OpenAI's Responses API: what Codex and the OpenAI SDKs speak, and Copilot's /responses.

Source: docs/upstream.md#responses, docs/clients.md.
"""

from proxy.formats.canonical import Family
from proxy.formats.contract import Answer, Decoder, Encoder, Loss, Tap
from proxy.formats.responses.answers import error_body, repair_body
from proxy.formats.responses.building import build_request
from proxy.formats.responses.checks import check
from proxy.formats.responses.decoding import Decoder as _Decoder
from proxy.formats.responses.decoding import decode_body
from proxy.formats.responses.encoding import Encoder as _Encoder
from proxy.formats.responses.encoding import encode_body
from proxy.formats.responses.gist import gist
from proxy.formats.responses.parsing import parse_request
from proxy.formats.responses.plain import outline
from proxy.formats.responses.tapping import Tap as _Tap

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

NAME: str = "responses"
FAMILY: Family = "openai"
KEEPALIVE: bytes = b": keep-alive\n\n"
RUNS_OF: frozenset[str] = frozenset()

LOSSES: tuple[Loss, ...] = (
    Loss("stop", "knob", "There are no stop sequences."),
    Loss("top_k", "knob", "Sampling knows temperature and top_p only."),
    Loss("seed", "knob", "Sampling cannot be repeated."),
    Loss("presence_penalty", "knob", "There are no penalties."),
    Loss("frequency_penalty", "knob", "There are no penalties."),
    Loss("metadata", "knob", "Kept from OpenAI clients only: the values have rules of OpenAI's."),
    Loss("user", "knob", "Kept from OpenAI clients only: at most 64 characters are accepted."),
    Loss("messages.name", "knob", "Messages have no author's name."),
    Loss(
        "tools.strict", "knob", "Anthropic's strict schemas are not OpenAI's; sent as not strict."
    ),
    Loss("server tools", "knob", "A tool that another vendor runs is not offered to the model."),
    Loss("thinking", "knob", "Thoughts of another family's model are left out of the history."),
    Loss("n", "content", "There is one answer; n above 1 is refused."),
    Loss("foreign blocks", "content", "Blocks that only another family knows are refused."),
    Loss("images of the assistant", "content", "An assistant message holds text only."),
    Loss("cache_control", "shape", "Prompts are cached by themselves; markers are not needed."),
    Loss("defer_loading", "shape", "Deferred tools are sent in full."),
    Loss("tool_reference", "shape", "A tool that was found becomes a line of text."),
    Loss("is_error", "shape", "A tool's error arrives as its text, without the mark."),
    Loss("effort", "shape", "Clamped to the nearest lower effort that the model lists."),
    Loss("budget_tokens", "shape", "Below 4096 low, below 16384 medium, otherwise high."),
    Loss("max_output_tokens", "shape", "At least 16, at most what the model's entry says."),
    Loss(
        "stop reasons",
        "shape",
        "A full context reads `max_output_tokens`, a refusal without words `content_filter`; pauses and"
        " stop sequences complete the response.",
    ),
    Loss("system messages", "shape", "Inside the conversation they become developer messages."),
    Loss("thinking blocks", "shape", "Several summary parts become one, with blank lines between."),
    Loss("text documents", "shape", "A plain text document becomes text."),
)


def decoder() -> Decoder:
    return _Decoder()


def encoder(answer: Answer) -> Encoder:
    return _Encoder(answer)


def tap(answer: Answer) -> Tap:
    return _Tap(answer)
