"""Server-sent events, read by the letter of the specification.

Only CR, LF and CRLF end a line (`str.splitlines` and httpx's `aiter_lines` also split at U+2028,
which may stand in a JSON string). Comments, `id:` and `retry:` are skipped; an event is delivered at
its blank line. Source: WHATWG HTML, 9.2.6 "Interpreting an event stream".
"""

from msgspec import Struct

from proxy.errors import UpstreamFailed

MAX_EVENT_BYTES = 8 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_SMALL_BYTES = 64 * 1024


class Frame(Struct, frozen=True):
    """One event: its `event:` name or None, and its `data:` lines joined by LF."""

    event: bytes | None
    data: bytes


class Parser:
    """Bytes in, as they arrive; whole frames out."""

    __slots__ = ("_buffer", "_data", "_event", "_first", "_limit", "_size", "_skip_lf")

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._buffer = b""
        self._data: list[bytes] = []
        self._event: bytes | None = None
        self._size = 0
        self._limit = limit
        self._skip_lf = False
        self._first = True

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that `chunk` completes. Raises `UpstreamFailed` past the size limit."""
        if self._first and not self._buffer and len(chunk) >= len(_BOM):
            self._first = False
            chunk = chunk.removeprefix(_BOM)
        if not self._first and b"\n\n" in chunk and self._is_between_events(chunk):
            return self._whole_events(chunk)
        if self._skip_lf:
            # The last chunk ended with CR: an LF now belongs to it.
            self._skip_lf = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        buffer = self._buffer + chunk if self._buffer else chunk
        if b"\r" in buffer:
            if buffer[-1:] == b"\r":
                self._skip_lf = True
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = buffer.split(b"\n")
        self._buffer = lines.pop()
        frames: list[Frame] = []
        for line in lines:
            self._line(line, frames)
        if self._size + len(self._buffer) > self._limit:
            raise UpstreamFailed("The upstream sent an event larger than the gateway accepts.")
        return frames

    @property
    def is_at_event(self) -> bool:
        """Whether nothing is held back: what comes next begins an event."""
        return not (
            self._first or self._buffer or self._data or self._event is not None or self._skip_lf
        )

    def _is_between_events(self, chunk: bytes) -> bool:
        """Whether only the beginning of an event, if anything, is held back, and that a small one."""
        return not (
            self._skip_lf
            or self._data
            or self._event is not None
            or b"\r" in chunk
            or len(self._buffer) > _SMALL_BYTES
            or len(chunk) > self._limit
        )

    def _whole_events(self, chunk: bytes) -> list[Frame]:
        """The ordinary case, event by event instead of line by line: 0.4 us an event, not 0.9."""
        blocks = (self._buffer + chunk if self._buffer else chunk).split(b"\n\n")
        rest = self._buffer = blocks.pop()
        frames: list[Frame] = []
        for block in blocks:
            event, data = None, block
            if block.startswith(b"event: "):
                name, _, data = block.partition(b"\n")
                event = name[7:]
            if data.startswith(b"data: ") and b"\n" not in data:
                frames.append(Frame(event, data[6:]))
                continue
            for line in block.split(b"\n"):
                self._line(line, frames)
            self._line(b"", frames)
        if rest:
            lines = rest.split(b"\n")
            self._buffer = lines.pop()
            for line in lines:
                self._line(line, frames)
        return frames

    def close(self) -> list[Frame]:
        """What a stream that ends without a final blank line still holds.

        The specification discards it; several upstreams end so after their last event, and the
        JSON of a whole line is either complete or rejected by its reader.
        """
        frames: list[Frame] = []
        if self._buffer:
            self._line(self._buffer, frames)
            self._buffer = b""
        self._line(b"", frames)
        return frames

    def _line(self, line: bytes, frames: list[Frame]) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                frames.append(Frame(self._event, b"\n".join(self._data)))
            self._data, self._event, self._size = [], None, 0
            return
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
            if self._size > self._limit:
                raise UpstreamFailed("The upstream sent an event larger than the gateway accepts.")
        elif name == b"event":
            self._event = value


def split_events(chunk: bytes, count: int) -> tuple[bytes, bytes]:
    """The first `count` events of `chunk`, and what comes behind them."""
    end = 0
    for _ in range(count):
        end = chunk.find(b"\n\n", end) + 2
        if end < 2:
            return chunk, b""
    return chunk[:end], chunk[end:]


def as_utf8(data: bytes) -> bytes:
    """`data` itself where it is valid; each broken part becomes U+FFFD."""
    if data.isascii():
        return data
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace").encode()
    return data


def render(data: bytes, event: bytes | None = None) -> bytes:
    """One frame as bytes; `data` must be one line."""
    if event is None:
        return b"data: " + data + b"\n\n"
    return b"event: " + event + b"\ndata: " + data + b"\n\n"
