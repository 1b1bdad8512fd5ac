"""Passthrough from chat to chat: the upstream's chunks, repaired where a client would stumble.

Unknown fields stay. Ordinary text chunks pass as the bytes they are.
Source: docs/upstream.md#chat-completions, docs/clients.md.
"""

from typing import Any

import orjson

from proxy.errors import GatewayError, UpstreamFailed
from proxy.formats.canonical import Failure, Usage
from proxy.formats.chat_completions.failures import (
    FILTERED,
    NO_ANSWER,
    SERVER_ERROR,
    error_body,
    error_of,
    find_failure,
    is_filtered,
)
from proxy.formats.chat_completions.moulds import mould_of
from proxy.formats.chat_completions.tap_calls import Calls
from proxy.formats.chat_completions.wire import (
    DONE,
    REASONING_FIELDS,
    asks_for_several,
    asks_for_usage,
    count,
    known_text,
    load_object,
    merge_usage,
    model_id,
    text_of,
    usage_body,
)
from proxy.formats.contract import NONE_PASSED, Answer, Passed
from proxy.formats.moulds import Mould
from proxy.formats.sse import Frame, as_utf8

Body = dict[str, Any]
_OBJECT = "chat.completion.chunk"
_TEXT_FIELDS = frozenset(("content", "refusal", "reasoning_opaque", *REASONING_FIELDS))
# Fields that are ours to place: the rest of a chunk stays as it is.
_OURS = ("choices", "usage", "id", "object", "created", "model", "error", "copilot_errors")


class ChatTap:
    """One answer passing by. With one choice asked for, all choices are parts of the same one.

    The finish chunk is held until the end, which follows at once: only then is it known that
    nothing more belongs to the answer.
    """

    def __init__(self, answer: Answer) -> None:
        self.finished = False
        self.usage: Usage | None = None
        self.model: str | None = None
        self.stop_reason: str | None = None
        self.failure: GatewayError | None = None
        self._answer = answer
        self._several = asks_for_several(answer.request)
        self._wants_usage = asks_for_usage(answer.request)
        self._id = ""
        self._shown_model = ""
        self._created = 0
        self._answered = False
        self._blocked = False
        self._ended = False
        self._roles: set[int] = set()
        self._done_choices: set[int] = set()
        self._calls: dict[int, Calls] = {}
        self._mould: Mould | None = None
        self._last_opaque: Any = None
        self._last_chunk: Body | None = None
        self._usage_fields: Body = {}
        self._usage_chunk: Body = {}

    # The doors

    def passes(self, chunk: bytes) -> Passed:
        mould = self._mould
        if mould is None or self._ended or self._done_choices:
            return NONE_PASSED
        texts, size = mould.pieces(chunk)
        return Passed(len(texts), size, chunk[:size])

    def feed(self, frame: Frame) -> bytes:
        """Raises `UpstreamFailed` for what is no JSON or no chunk."""
        if self._ended:
            return b""
        data = as_utf8(frame.data)
        mould = self._mould
        if mould is not None and not self._done_choices and mould.fits(data):
            return b"data: " + data + b"\n\n"
        if data.strip() in (b"[DONE]", b""):
            return self._done() if data.strip() else b""
        chunk = load_object(data)
        if self._is_ordinary(chunk) and b"\n" not in data:
            if mould is None:
                self._mould = mould_of(data, chunk)
            return b"data: " + data + b"\n\n"
        return self._chunk(chunk)

    def end(self) -> bytes:
        """The finish chunk, usage if the client asked for it, and `[DONE]`: once."""
        if self._ended:
            return b""
        self._ended = self.finished = True
        parts = [] if self._several > 1 else [self._finish_chunk()]
        if self._wants_usage and self.usage is not None:
            parts.append(self._last_usage())
        return b"".join([*parts, DONE])

    def fail(self, error: GatewayError) -> bytes:
        if self._ended:
            return b""
        self._ended = True
        return b"data: " + orjson.dumps(error_body(error, self._answer.id)) + b"\n\n"

    # Chunks

    def _is_ordinary(self, chunk: Body) -> bool:
        """Whether nothing needs repair: a piece of text under the names that are known already."""
        choices = chunk.get("choices")
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            return False
        choice = choices[0]
        delta = choice.get("delta")
        return (
            isinstance(delta, dict)
            and len(delta) == 1
            and isinstance(delta.get("content"), str)
            and choice.get("finish_reason") is None
            and choice.get("index") == 0
            and 0 in self._roles
            and not self._done_choices
            and chunk.get("id") == self._id
            and chunk.get("object") == _OBJECT
            and chunk.get("created") == self._created
            and chunk.get("model") == self._shown_model
            and chunk.get("usage") is None
            and "error" not in chunk
            and "copilot_usage" not in chunk
        )

    def _done(self) -> bytes:
        if not self._answered:
            return self._fail(FILTERED if self._blocked else NO_ANSWER)
        return self.end()

    def _fail(self, failure: Failure) -> bytes:
        self.failure = error_of(failure)
        return self.fail(self.failure)

    def _chunk(self, chunk: Body) -> bytes:
        self._read_usage(chunk)
        choices = chunk.get("choices")
        if choices is not None and not isinstance(choices, list):
            raise UpstreamFailed("The upstream sent choices that are not a list.")
        parts: list[bytes] = []
        if choices:
            self._read_names(chunk)
            for position, choice in enumerate(choices):
                parts.append(self._choice(choice, position, chunk))
                if self._ended:
                    return b"".join(parts)
        else:
            self._blocked = self._blocked or is_filtered(chunk)
            if chunk.get("usage"):
                self._usage_chunk = chunk
        if chunk.get("error") or (not choices and chunk.get("copilot_errors")):
            failure = find_failure(chunk)
            if failure is not None:
                parts.append(self._fail(failure))
        return b"".join(parts)

    def _read_usage(self, chunk: Body) -> None:
        if "usage" not in chunk and "copilot_usage" not in chunk:
            return
        self.usage = merge_usage(self.usage, chunk)
        usage = chunk.get("usage")
        if isinstance(usage, dict) and (usage.get("prompt_tokens") or not self._usage_fields):
            self._usage_fields = usage

    def _read_names(self, chunk: Body) -> None:
        """Id, time and model of the answer: the first that are said hold for all its chunks."""
        identity, created, model = chunk.get("id"), chunk.get("created"), chunk.get("model")
        if not self._id:
            self._id = known_text(identity) or f"chatcmpl-{self._answer.id}"
        if not self._created:
            self._created = count(created) or self._answer.created
        if self.model is None and known_text(model):
            self.model = known_text(model)
            self._shown_model = model_id(model) or self._answer.model

    def _names(self) -> Body:
        return {
            "id": self._id or f"chatcmpl-{self._answer.id}",
            "object": _OBJECT,
            "created": self._created or self._answer.created,
            "model": self._shown_model or self._answer.model,
        }

    def _choice(self, choice: Any, position: int, chunk: Body) -> bytes:
        if choice is None:
            return b""
        if not isinstance(choice, dict):
            raise UpstreamFailed("The upstream sent a choice that is not an object.")
        given = choice.get("index")
        number = given if isinstance(given, int) and not isinstance(given, bool) else position
        if number in self._done_choices:
            return b""
        self._answered = True
        index = number if self._several > 1 else 0
        delta = self._delta(choice, index, number)
        reason = choice.get("finish_reason")
        if reason is not None and not isinstance(reason, str):
            raise UpstreamFailed("The upstream sent a finish reason that is not a string.")
        if reason == "error":
            return self._fail(SERVER_ERROR)
        rest = {key: value for key, value in choice.items() if key != "message"}
        rest |= {"index": index, "delta": delta, "finish_reason": None}
        if not reason:
            return self._write(chunk, rest)
        self._done_choices.add(number)
        if self.stop_reason in (None, "stop"):
            self.stop_reason = reason
        if self._several > 1:
            self.finished = len(self._done_choices) >= self._several
            return self._write(chunk, self._closed(rest, index, reason))
        self.finished = True
        self._last_chunk = {**_rest_of(chunk), "choices": [{**rest, "delta": {}}]}
        if any(delta.values()):
            without = {key: value for key, value in chunk.items() if key != "copilot_usage"}
            return self._write(without, rest)
        return b""

    def _write(self, chunk: Body, choice: Body) -> bytes:
        body = {**self._names(), **_rest_of(chunk), "choices": [choice]}
        return b"data: " + orjson.dumps(body) + b"\n\n"

    def _delta(self, choice: Body, index: int, number: int) -> Body:
        given = choice.get("delta")
        if given is None:
            given = choice.get("message")
        if given is None:
            given = {}
        if not isinstance(given, dict):
            raise UpstreamFailed("The upstream sent a delta that is not an object.")
        # Lists of findings break the helper of the OpenAI SDK, which appends them by index.
        delta = {key: value for key, value in given.items() if key != "copilot_annotations"}
        if isinstance(delta.get("annotations"), dict):
            del delta["annotations"]
        # Clients append what repeats, the role as well.
        delta.pop("role", None)
        if index not in self._roles:
            self._roles.add(index)
            delta = {"role": "assistant", **delta}
        for name, value in delta.items():
            if name in _TEXT_FIELDS and value is not None and not isinstance(value, str):
                delta[name] = text_of(value, name)
        _show_reasoning(delta)
        self._drop_repeated_opaque(delta)
        if "tool_calls" in delta:
            calls = self._calls_of(index).repair(delta.pop("tool_calls"), number)
            if calls:
                delta["tool_calls"] = calls
        return delta

    def _drop_repeated_opaque(self, delta: Body) -> None:
        opaque = delta.get("reasoning_opaque")
        if opaque is None or opaque == self._last_opaque:
            delta.pop("reasoning_opaque", None)
        else:
            self._last_opaque = opaque

    def _calls_of(self, index: int) -> Calls:
        if index not in self._calls:
            self._calls[index] = Calls(self._answer.id)
        return self._calls[index]

    # The end

    def _finish_chunk(self) -> bytes:
        last = self._last_chunk or {"choices": [{"index": 0, "delta": {}}]}
        choice = self._closed(last["choices"][0], 0, self.stop_reason)
        if 0 not in self._roles:
            choice["delta"] = {"role": "assistant", **choice["delta"]}
        return self._write(last, choice)

    def _closed(self, choice: Body, index: int, reason: str | None) -> Body:
        """The choice with its finish reason; calls without arguments get their empty object."""
        calls = self._calls.get(index)
        if calls is not None and (missing := calls.missing_arguments()):
            present = choice["delta"].get("tool_calls", [])
            choice = {**choice, "delta": {**choice["delta"], "tool_calls": present + missing}}
        return {**choice, "finish_reason": corrected_reason(reason, calls=bool(calls))}

    def _last_usage(self) -> bytes:
        assert self.usage is not None
        counted = usage_body(self.usage)
        # The upstream's own details stay; its numbers only where they are ones.
        details = {
            key: value
            for key, value in self._usage_fields.items()
            if key not in counted or (isinstance(value, dict) and value)
        }
        body = {**self._names(), **_rest_of(self._usage_chunk), "choices": []}
        body["usage"] = {**counted, **details}
        return b"data: " + orjson.dumps(body) + b"\n\n"


def _rest_of(chunk: Body) -> Body:
    return {key: value for key, value in chunk.items() if key not in _OURS}


def _show_reasoning(delta: Body) -> None:
    """Clients other than Copilot's own know reasoning as `reasoning_content`."""
    if delta.get("reasoning_content"):
        return
    for name in REASONING_FIELDS:
        if delta.get(name):
            delta["reasoning_content"] = delta[name]
            return


def corrected_reason(reason: str | None, *, calls: bool) -> str:
    """`stop` with tool calls present occurs, and clients would not run them."""
    if calls and reason in (None, "stop"):
        return "tool_calls"
    if not calls and reason == "tool_calls":
        return "stop"
    return reason or "stop"
