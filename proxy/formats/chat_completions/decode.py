"""Chunks of a Chat Completions answer, in any dialect, as canonical events.

Copilot's endpoint speaks as Azure OpenAI, Claude and Gemini speak behind it; several choices are
one answer here. Source: docs/upstream.md#chat-completions.
"""

from typing import Any

import orjson

from proxy.errors import UpstreamFailed
from proxy.formats.canonical import (
    AnnotationDelta,
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Event,
    Failure,
    OpaqueDelta,
    Start,
    Stop,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolUse,
    Usage,
    UsageReport,
)
from proxy.formats.chat_completions.failures import (
    FILTERED,
    NO_ANSWER,
    SERVER_ERROR,
    find_failure,
    is_filtered,
)
from proxy.formats.chat_completions.moulds import mould_of
from proxy.formats.chat_completions.wire import (
    REASONING_FIELDS,
    load_object,
    merge_usage,
    stop_reason,
    text_of,
    tool_call_id,
    unwrap_opaque,
)
from proxy.formats.contract import NO_PIECES, Pieces
from proxy.formats.moulds import Mould
from proxy.formats.sse import Frame

Body = dict[str, Any]


class _Call:
    """One tool call while it arrives: `pieces` are its arguments so far."""

    __slots__ = ("custom", "id", "name", "opened", "pieces", "stopped")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.custom = False
        self.pieces: list[str] = []
        self.opened = False
        self.stopped = False

    def is_whole(self) -> bool:
        """Whether the arguments are a JSON object, to which nothing can follow."""
        if self.custom or not self.pieces or not self.pieces[-1].rstrip().endswith("}"):
            return False
        try:
            return isinstance(orjson.loads("".join(self.pieces)), dict)
        except orjson.JSONDecodeError:
            return False


def _is_text(events: list[Event], chunk: Body) -> bool:
    """Whether a piece of text is all that a chunk says, now and whenever its like comes again."""
    return (
        len(events) == 1
        and type(events[0]) is TextDelta
        and events[0].logprobs is None
        and chunk.get("usage") is None
        and "copilot_usage" not in chunk
    )


class ChatDecoder:
    """Frames in, events out. The canonical order allows one open block at a time: what comes
    interleaved waits until the open call is whole.

    `finished` is true from the finish reason on, as streams without `[DONE]` occur; usage and the
    closing events come with `[DONE]` or in `close`.
    """

    def __init__(self) -> None:
        self.finished = False
        self.usage: Usage | None = None
        self._ended = False
        self._answered = False
        self._blocked = False
        self._id = ""
        self._index = -1
        # "", or what the open block is: text, refusal, thinking, tool.
        self._open = ""
        self._only_refusal: bool | None = None
        self._calls: dict[tuple[int, int], _Call] = {}
        self._order: list[_Call] = []
        self._current: _Call | None = None
        self._held: list[tuple[str, str, list[Body] | None]] = []
        self._opaque: str | None = None
        self._last_opaque: str | None = None
        self._reason: str | None = None
        self._done_choices: set[int] = set()
        self._mould: Mould | None = None

    # The doors

    def feed(self, frame: Frame) -> list[Event]:
        """Events of one frame. Raises `UpstreamFailed` for what is no JSON or no such event."""
        if self._ended:
            return []
        data = frame.data
        if self._mould is not None and self._open == "text" and not self._done_choices:
            text = self._mould.text_in(data)
            if text is not None:
                return [TextDelta(self._index, text)] if text else []
        data = data.strip()
        if data == b"[DONE]":
            return self._end() if self._answered else self._fail(self._why_nothing())
        if not data:
            return []
        chunk = load_object(data)
        events = self._chunk(chunk)
        if self._mould is None and _is_text(events, chunk):
            self._mould = mould_of(data, chunk)
        return events

    def pieces(self, chunk: bytes) -> Pieces:
        if self._mould is None or self._ended or self._open != "text" or self._done_choices:
            return NO_PIECES
        return self._mould.pieces(chunk)

    def close(self) -> list[Event]:
        """The end of the bytes: closes a finished answer; one that was cut gets no ending."""
        if self._ended:
            return []
        if self.finished:
            return self._end()
        return self._fail(FILTERED) if self._blocked and not self._answered else []

    def whole(self, body: Body) -> list[Event]:
        """A body that was not streamed: its choices are parts of one answer."""
        self.usage = merge_usage(self.usage, body)
        failure = find_failure(body)
        if failure is not None:
            return self._fail(failure)
        events: list[Event] = []
        choices = body.get("choices")
        if isinstance(choices, list):
            self._blocked = is_filtered(body)
            # Claude's split choices have no index: the place in the list tells them apart.
            for position, choice in enumerate(choices):
                if not self._ended:
                    self._choice(choice, position, body, events)
        if not self._answered:
            return self._fail(self._why_nothing())
        return events if self._ended else events + self._end()

    # Chunks

    def _chunk(self, chunk: Body) -> list[Event]:
        if "usage" in chunk or "copilot_usage" in chunk:
            self.usage = merge_usage(self.usage, chunk)
        choices = chunk.get("choices")
        events: list[Event] = []
        if isinstance(choices, list) and choices:
            for position, choice in enumerate(choices):
                number = choice.get("index") if isinstance(choice, dict) else None
                known = number if isinstance(number, int) else position
                self._choice(choice, known, chunk, events)
                if self._ended:
                    return events
        elif choices is not None and not isinstance(choices, list):
            raise UpstreamFailed("The upstream sent choices that are not a list.")
        else:
            self._blocked = self._blocked or is_filtered(chunk)
        # Copilot's side-channel errors are final only when no choice comes with them.
        if chunk.get("error") or (not choices and chunk.get("copilot_errors")):
            failure = find_failure(chunk)
            if failure is not None:
                events += self._fail(failure)
        return events

    def _why_nothing(self) -> Failure:
        return FILTERED if self._blocked else NO_ANSWER

    def _choice(self, choice: Any, number: int, chunk: Body, out: list[Event]) -> None:
        if choice is None or number in self._done_choices:
            return
        if not isinstance(choice, dict):
            raise UpstreamFailed("The upstream sent a choice that is not an object.")
        if not self._answered:
            self._answered = True
            self._start(chunk, out)
        delta = choice.get("delta")
        if delta is None:
            delta = choice.get("message")
        if isinstance(delta, dict):
            self._delta(delta, choice.get("logprobs"), number, out)
        elif delta is not None:
            raise UpstreamFailed("The upstream sent a delta that is not an object.")
        reason = choice.get("finish_reason")
        if reason:
            self._finish(reason, number, out)

    def _start(self, chunk: Body, out: list[Event]) -> None:
        identity, model = chunk.get("id"), chunk.get("model")
        self._id = identity if isinstance(identity, str) else ""
        out.append(Start(self._id, model if isinstance(model, str) else ""))

    def _finish(self, reason: Any, number: int, out: list[Event]) -> None:
        if not isinstance(reason, str):
            raise UpstreamFailed("The upstream sent a finish reason that is not a string.")
        if reason == "error":
            out += self._fail(SERVER_ERROR)
            return
        self._done_choices.add(number)
        self.finished = True
        if self._reason in (None, "stop"):
            self._reason = reason

    def _delta(self, delta: Body, logprobs: Any, number: int, out: list[Event]) -> None:
        for name in REASONING_FIELDS:
            # Dialects that send two names for the same text must not double it.
            if delta.get(name):
                self._say("thinking", text_of(delta[name], name), None, out)
                break
        opaque = delta.get("reasoning_opaque")
        if opaque and opaque != self._last_opaque:
            self._take_opaque(text_of(opaque, "reasoning_opaque"), out)
        content = delta.get("content")
        tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
        tokens = tokens if isinstance(tokens, list) and tokens else None
        if content or tokens:
            self._say("text", text_of(content or "", "content"), tokens, out)
        if delta.get("refusal"):
            self._say("refusal", text_of(delta["refusal"], "refusal"), None, out)
        annotations = delta.get("annotations")
        if annotations and isinstance(annotations, list) and self._open == "text":
            for annotation in annotations:
                if isinstance(annotation, dict):
                    out.append(AnnotationDelta(self._index, annotation))
        calls = delta.get("tool_calls")
        if calls:
            if not isinstance(calls, list):
                raise UpstreamFailed("The upstream sent tool calls that are not a list.")
            for call in calls:
                self._tool_call(call, number, out)
        legacy = delta.get("function_call")
        if legacy:
            self._tool_call({"index": -1, "function": legacy}, number, out)

    # Text and reasoning

    def _say(self, kind: str, text: str, logprobs: list[Body] | None, out: list[Event]) -> None:
        if self._open == "tool":
            self._held.append((kind, text, logprobs))
            self._advance(out)
            return
        if self._open != kind:
            self._stop_block(out)
            self._open_block(
                kind,
                Thinking() if kind == "thinking" else Text(text="", refusal=kind == "refusal"),
                out,
            )
            if kind != "thinking":
                self._only_refusal = kind == "refusal" and self._only_refusal is not False
        if kind == "thinking":
            out.append(ThinkingDelta(self._index, text))
        else:
            out.append(TextDelta(self._index, text, logprobs))

    def _take_opaque(self, value: str, out: list[Event]) -> None:
        """The sealed form of the reasoning closes it; in the midst of an answer it waits."""
        self._last_opaque = self._opaque = value
        if self._open in ("", "thinking"):
            self._write_opaque(out)

    def _write_opaque(self, out: list[Event]) -> None:
        if self._opaque is None:
            return
        if self._open != "thinking":
            self._open_block("thinking", Thinking(), out)
        out.append(OpaqueDelta(self._index, unwrap_opaque(self._opaque)))
        self._opaque = None
        self._open = ""
        out.append(BlockStop(self._index))

    def _open_block(self, kind: str, block: Text | Thinking | ToolUse, out: list[Event]) -> None:
        self._index += 1
        self._open = kind
        out.append(BlockStart(self._index, block))

    def _stop_block(self, out: list[Event]) -> None:
        """Closes what is open, and says what waited for that."""
        if self._open == "tool" and self._current is not None:
            call, self._current = self._current, None
            call.stopped = True
            if not call.custom and not "".join(call.pieces).strip():
                # Clients parse the arguments: no arguments is an empty object.
                out.append(ArgumentsDelta(self._index, "{}"))
        if self._open:
            self._open = ""
            out.append(BlockStop(self._index))
        self._write_opaque(out)

    # Tool calls

    def _tool_call(self, item: Any, number: int, out: list[Event]) -> None:
        if item is None:
            return
        if not isinstance(item, dict):
            raise UpstreamFailed("The upstream sent a tool call that is not an object.")
        custom = "custom" in item
        target = item.get("custom" if custom else "function")
        if target is None:
            target = {}
        if not isinstance(target, dict):
            raise UpstreamFailed("The upstream sent a tool call without a function.")
        identity = text_of(item.get("id") or "", "id")
        name = text_of(target.get("name") or "", "name")
        arguments = target.get("input" if custom else "arguments")
        if isinstance(arguments, dict):
            arguments = orjson.dumps(arguments).decode()
        piece = text_of(arguments or "", "arguments")
        call = self._find_call(number, item.get("index"), identity, name)
        call.id = call.id or identity
        call.name = call.name or name
        call.custom = call.custom or custom
        if not piece and call.opened:
            return
        if call.stopped:
            # Its JSON was whole: some dialects repeat a call in their last chunk.
            return
        if piece:
            call.pieces.append(piece)
            if call is self._current:
                out.append(ArgumentsDelta(self._index, piece))
        self._advance(out)

    def _find_call(self, number: int, index: Any, identity: str, name: str) -> _Call:
        """The call that a delta belongs to: by index, else by id, else the latest one."""
        if isinstance(index, int):
            known = self._calls.get((number, index))
            if known is not None and not (identity and name and known.id not in ("", identity)):
                return known
            # Gemini gives all its parallel calls the index 0: a new id and name is a new call.
            call = self._calls[(number, index)] = _Call()
            self._order.append(call)
            return call
        if identity:
            for call in self._order:
                if call.id == identity:
                    return call
        if identity or name:
            call = _Call()
            self._order.append(call)
            return call
        if self._order:
            return self._order[-1]
        raise UpstreamFailed("The upstream sent arguments that belong to no tool call.")

    def _advance(self, out: list[Event]) -> None:
        """Goes on to the next call, or to held text, once the open call is whole."""
        while True:
            waiting = next((call for call in self._order if not call.opened), None)
            if self._current is not None:
                if (waiting is None and not self._held) or not self._current.is_whole():
                    return
                if waiting is not None and not waiting.name:
                    return
                self._stop_block(out)
            if waiting is None:
                self._release(out)
                return
            if not waiting.name:
                return
            self._open_call(waiting, out)

    def _open_call(self, call: _Call, out: list[Event]) -> None:
        self._stop_block(out)
        call.opened = True
        self._current = call
        identity = call.id or tool_call_id(f"call_{self._id}_{self._order.index(call)}")
        block = ToolUse(id=identity, name=call.name, custom=call.custom)
        self._open_block("tool", block, out)
        if call.pieces:
            out.append(ArgumentsDelta(self._index, "".join(call.pieces)))

    def _release(self, out: list[Event]) -> None:
        held, self._held = self._held, []
        for kind, text, logprobs in held:
            self._say(kind, text, logprobs, out)

    # The end

    def _end(self) -> list[Event]:
        out: list[Event] = []
        self._stop_block(out)
        for call in self._order:
            if call.opened:
                continue
            if not call.name:
                raise UpstreamFailed("The upstream sent a tool call without a name.")
            self._open_call(call, out)
            self._stop_block(out)
        self._release(out)
        self._stop_block(out)
        self._ended = self.finished = True
        if self.usage is not None:
            out.append(UsageReport(self.usage))
        calls = any(call.opened for call in self._order)
        out.append(
            Stop(stop_reason(self._reason, calls=calls, only_refusal=bool(self._only_refusal)))
        )
        return out

    def _fail(self, failure: Failure) -> list[Event]:
        self._ended = True
        return [failure]


def decode_body(body: Body) -> list[Event]:
    """A whole answer as the events it would have streamed. Raises `UpstreamFailed`."""
    return ChatDecoder().whole(body)
