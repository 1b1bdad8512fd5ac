"""Whole answers: the same decoder and encoder as for streams, all events at once."""

from proxy.errors import UpstreamFailed
from proxy.formats.canonical import Event, Failure
from proxy.formats.contract import Answer
from proxy.formats.gemini.decoding import Decoder
from proxy.formats.gemini.encoding import Encoder, joined
from proxy.formats.gemini.errors import failure_error, read_failure
from proxy.formats.gemini.fields import Body


def decode_body(body: Body) -> list[Event]:
    """Raises `UpstreamFailed` when the body is no answer."""
    decoder = Decoder()
    events = decoder.take(body)
    if not decoder.finished and not any(isinstance(event, Failure) for event in events):
        raise UpstreamFailed("The upstream's answer is no finished content.")
    return events


def encode_body(events: list[Event], answer: Answer) -> Body:
    """The answer that a client of the stream would have put together. Raises a `Failure`."""
    for event in events:
        if isinstance(event, Failure):
            raise failure_error(event)
    encoder = Encoder(answer)
    parts = encoder.parts(events)
    return encoder.final(joined(parts + encoder.rest()))


def repair_body(body: Body, answer: Answer) -> Body:
    """A whole answer with what the SDKs read; errors are left as they are."""
    candidates = body.get("candidates")
    if read_failure(body) is not None or not isinstance(candidates, list):
        return body
    fixed = [
        {"index": i, **one} if isinstance(one, dict) else one for i, one in enumerate(candidates)
    ]
    return {"modelVersion": answer.model, "responseId": answer.id, **body, "candidates": fixed}
