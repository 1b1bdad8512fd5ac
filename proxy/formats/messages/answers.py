"""Whole Messages answers: the same decoder and encoder as for streams, all events at once."""

from typing import Any

from proxy.errors import UpstreamFailed
from proxy.formats.canonical import Event, Failure
from proxy.formats.contract import Answer
from proxy.formats.messages.blocks import arguments_object
from proxy.formats.messages.decoding import Decoder
from proxy.formats.messages.encoding import Encoder
from proxy.formats.messages.errors import failure_error, read_failure
from proxy.formats.messages.passthrough import repair_message
from proxy.formats.messages.usage import Meter

Payload = dict[str, Any]


def decode_body(body: Payload) -> list[Event]:
    """The events of a whole answer; one `Failure` when the body tells of an error.

    Raises `UpstreamFailed` when the body is no message.
    """
    failure = read_failure(body)
    if failure is not None:
        return [failure]
    content = body.get("content")
    if content is None and ("stop_reason" in body or body.get("type") == "message"):
        content = []
    if not isinstance(content, list):
        raise UpstreamFailed("The upstream's answer is no message.")
    decoder = Decoder()
    events = decoder.take({"type": "message_start", "message": body})
    for index, block in enumerate(content):
        start = {"type": "content_block_start", "index": index, "content_block": block}
        events += decoder.take(start)
        events += decoder.take({"type": "content_block_stop", "index": index})
    delta = {**body, "stop_reason": body.get("stop_reason") or "end_turn"}
    events += decoder.take({"type": "message_delta", "delta": delta})
    return events


def encode_body(events: list[Event], answer: Answer) -> Payload:
    """The message that a client of the stream would have put together. Raises a `Failure`."""
    for event in events:
        if isinstance(event, Failure):
            raise failure_error(event)
    encoder = Encoder(answer)
    message: Payload = {}
    content: list[Payload] = []
    pieces: list[str] = []
    for payload in [*encoder.payloads(events), *encoder.ending()]:
        match payload["type"]:
            case "message_start":
                message = payload["message"]
                message["content"] = content
            case "content_block_start":
                content.append(dict(payload["content_block"]))
                pieces = []
            case "content_block_delta":
                _fill(content[-1], payload["delta"], pieces)
            case "content_block_stop":
                _complete(content[-1], pieces)
            case "message_delta":
                message.update(payload["delta"])
                message["usage"] = payload["usage"]
    return message


def _fill(block: Payload, delta: Payload, pieces: list[str]) -> None:
    match delta["type"]:
        case "text_delta":
            pieces.append(delta["text"])
        case "thinking_delta":
            pieces.append(delta["thinking"])
        case "input_json_delta":
            pieces.append(delta["partial_json"])
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "citations_delta":
            block.setdefault("citations", []).append(delta["citation"])


def _complete(block: Payload, pieces: list[str]) -> None:
    text = "".join(pieces)
    match block["type"]:
        case "text":
            block["text"] = text
        case "thinking":
            block["thinking"] = text
        case _ if text:
            block["input"] = arguments_object(text)


def repair_body(body: Payload, answer: Answer) -> Payload:
    """A whole answer with every field that the SDKs demand; errors are left as they are."""
    if read_failure(body) is not None:
        return body
    usage = Meter().read(body.get("usage"), body.get("copilot_usage"))
    fixed = repair_message(body, answer, usage) or body
    if fixed.get("stop_reason") is None:
        fixed = {**fixed, "stop_reason": "end_turn"}
    return fixed
