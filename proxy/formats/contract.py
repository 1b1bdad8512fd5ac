"""What a format offers: the one interface that pipeline and relay know.

A format is a module (or package) with these names at its top; `proxy.formats.FORMATS` holds them.
"""

from typing import Any, Final, Literal, NamedTuple, Protocol

from msgspec import Struct, field

from proxy.errors import GatewayError
from proxy.formats.canonical import Built, Event, Family, ModelFacts, Request, Usage
from proxy.formats.outlines import Outline
from proxy.formats.sse import Frame


class Loss(Struct, frozen=True):
    """Something of another format that this format cannot say.

    `kind` is `knob` (left out and named in `x-gateway-dropped`), `content` (refused with a 400), or
    `shape` (arrives in another form: what changes is said in `note`).
    """

    what: str
    kind: str
    note: str


class Answer(Struct, kw_only=True):
    """What an encoder must know to write an answer.

    `id` is ours and unique (hex), `created` unix seconds, `request` the client's own body.
    """

    id: str
    created: int
    model: str
    request: dict[str, Any] = field(default_factory=dict)


class Gist(Struct, kw_only=True):
    """What admission and routing must know of a client's body, read without translating it.

    `last` is the kind of the last conversational item: `user` when a person's words end the
    request, `tool` for tool results, `assistant` for a prefill or continuation; system and developer
    messages (also in mid-conversation) and text blocks that are only a `<system-reminder>` do not
    count. A user message that holds tool results *and* reminders is `tool`; tool results together with
    a person's own words are `user`.
    `conversation` is an id that the client put into the body (session, prompt_cache_key), `opening`
    the text that stays the same while the conversation grows: the first user message.
    """

    last: Literal["user", "tool", "assistant"] = "user"
    has_images: bool = False
    messages: int = 0
    tools: int = 0
    max_output_tokens: int | None = None
    effort: str | None = None
    conversation: str | None = None
    opening: str = ""


class Passed(NamedTuple):
    """So many events, of so many bytes together, need not be read: `out` is what the client gets."""

    events: int
    size: int
    out: bytes


NONE_PASSED: Final = Passed(0, 0, b"")


class Pieces(NamedTuple):
    """Events at the beginning of a chunk, of `size` bytes together, that are a piece of text each.

    The texts are as they stand between the quotes of a JSON string, without escapes.
    """

    texts: list[bytes]
    size: int


NO_PIECES: Final = Pieces([], 0)


class Decoder(Protocol):
    """Frames of one upstream stream in, events out.

    `finished` turns true when the wire's own end has been seen: a stream that ends before is cut.
    `usage` is what the upstream reported so far, read before any translation.
    """

    finished: bool
    usage: Usage | None

    def feed(self, frame: Frame) -> list[Event]:
        """Events of one frame. Raises `UpstreamFailed` for what is no JSON or no such event."""
        ...

    def pieces(self, chunk: bytes) -> Pieces:
        """What at the beginning of `chunk`, which begins an event, need not become frames."""
        ...

    def close(self) -> list[Event]:
        """Called once at the end of the bytes: whatever was held back until now."""
        ...


class Encoder(Protocol):
    """Events in, bytes of the client's stream out."""

    def encode(self, events: list[Event]) -> bytes: ...

    def write(self, texts: list[bytes]) -> bytes | None:
        """`Pieces` of text, for the block that is open; None where they must come as events."""
        ...

    def end(self) -> bytes:
        """The format's own end, with stop reason and usage. Called once, after a finished stream."""
        ...

    def fail(self, error: GatewayError) -> bytes:
        """Closes what is open and says the error in the format's own event; never a false end."""
        ...


class Tap(Protocol):
    """Passthrough: frames in, the same format out, repaired where a client would stumble.

    Reads usage and the end on the way. `model`, `stop_reason` are the upstream's own words, `failure`
    is an error event that the upstream sent inside the stream (already passed on in `feed`).
    """

    finished: bool
    usage: Usage | None
    model: str | None
    stop_reason: str | None
    failure: GatewayError | None

    def passes(self, chunk: bytes) -> Passed:
        """What at the head of `chunk`, which begins with an event, goes to the client as it is."""
        ...

    def feed(self, frame: Frame) -> bytes: ...

    def end(self) -> bytes: ...

    def fail(self, error: GatewayError) -> bytes: ...


class Voice(Protocol):
    """The half of a format that writes answers. A `Format` is its own voice."""

    def encoder(self, answer: Answer) -> Encoder: ...

    def encode_body(self, events: list[Event], answer: Answer) -> dict[str, Any]: ...


class Format(Protocol):
    """One wire format. Bodies are decoded JSON objects; functions never change their arguments."""

    NAME: str
    FAMILY: Family
    LOSSES: tuple[Loss, ...]
    KEEPALIVE: bytes
    # The formats whose runs `build_request` writes; others are decoded first.
    RUNS_OF: frozenset[str]

    def gist(self, body: dict[str, Any]) -> Gist:
        """Never raises: what is missing or of the wrong type counts as absent."""
        ...

    def outline(self, raw: bytes) -> Outline | None:
        """A large body with its conversation in runs, None where it must be read in full."""
        ...

    def check(self, body: dict[str, Any], *, counted: bool = False) -> None:
        """A shallow look, for bodies that pass through: required fields, types, bounds.

        Raises `InvalidRequest` naming the field. What it refuses, `parse_request` refuses in the
        same words. `counted` says that no answer is wanted, only the number of tokens: what concerns
        the answer alone may then be missing.
        """
        ...

    def parse_request(self, body: dict[str, Any]) -> Request:
        """Raises `InvalidRequest` naming the field that is missing or of the wrong type."""
        ...

    def build_request(self, request: Request, model: ModelFacts) -> Built:
        """Raises `UnsupportedContent` when content would be lost."""
        ...

    def decoder(self) -> Decoder: ...

    def decode_body(self, body: dict[str, Any]) -> list[Event]:
        """A whole answer as the events it would have streamed. Raises `UpstreamFailed`."""
        ...

    def encoder(self, answer: Answer) -> Encoder: ...

    def encode_body(self, events: list[Event], answer: Answer) -> dict[str, Any]: ...

    def tap(self, answer: Answer) -> Tap: ...

    def repair_body(self, body: dict[str, Any], answer: Answer) -> dict[str, Any]:
        """A whole upstream answer of this format as its strictest clients accept it."""
        ...

    def error_body(self, error: GatewayError, request_id: str) -> dict[str, Any]: ...
