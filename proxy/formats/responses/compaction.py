"""Compaction: a conversation becomes one opaque item, which later stands in its place.

OpenAI's own models do it out of sight. Here an ordinary call writes a summary, the item carries it
sealed, and a later request that holds the item gets the summary back as a message. So it works
with every model behind every endpoint. Source: docs/clients.md, docs/upstream.md#responses.
"""

from collections.abc import Callable
from typing import Any, Final

from proxy.errors import GatewayError, InvalidRequest, UpstreamFailed
from proxy.formats.canonical import (
    BlockStart,
    BlockStop,
    Event,
    Failure,
    Foreign,
    Start,
    Stop,
    Text,
    TextDelta,
    UsageReport,
)
from proxy.formats.contract import Answer, Encoder
from proxy.formats.responses.answers import raised
from proxy.formats.responses.encoding import Encoder as ResponseEncoder
from proxy.formats.responses.fields import as_dict, as_list, as_str, item_id

TRIGGER: Final = "compaction_trigger"
ITEM: Final = "compaction"
# Before the sealed summary: an upstream's own items are never taken for ours.
MARK: Final = "cgw1.compaction."
REQUEST: Final = (
    "Summarise this conversation for the model that goes on with it: it will see your summary and"
    " nothing of the conversation itself. Say what the user wants and every constraint and"
    " preference that was given; what has been done and decided, and why; what was found out,"
    " with exact names, paths, commands, values and error messages; what is unfinished, and the"
    " next step. Leave out what no longer matters. Do not go on with the work, do not call tools:"
    " answer with the summary alone."
)
BRIEFING: Final = (
    "The conversation before this point was compacted. This is the summary that the model wrote of"
    " it; go on from there without repeating what is done.\n\n<summary>\n{summary}\n</summary>"
)
CUT: Final = "\n\n[The summary ends here because the model's output limit was reached.]"

Body = dict[str, Any]
Seal = Callable[[str], str]


def is_triggered(body: Body) -> bool:
    """Whether the input ends with the order to compact what stands before it."""
    items = as_list(body.get("input"))
    return bool(items) and as_dict(items[-1]).get("type") == TRIGGER


def triggered(body: Body) -> Body:
    """A body of the compaction route as the turn that says the same."""
    given = body.get("input")
    if isinstance(given, str):
        given = [{"type": "message", "role": "user", "content": given}]
    if not isinstance(given, list) or is_triggered(body):
        return body
    return {**body, "input": [*given, {"type": TRIGGER}]}


def summary_request(body: Body) -> tuple[Body, list[str]]:
    """The ordinary request that writes the summary, and the wishes it does not carry.

    Tools stay on offer, unused: without them prompt caches and calls of the history would break.
    Raises `InvalidRequest` when there is nothing to compact.
    """
    items = as_list(body.get("input"))[:-1]
    if not items:
        raise InvalidRequest("input: there is nothing to compact.", param="input")
    asked = {**body, "input": [*items, _said(REQUEST)]}
    dropped = []
    if asked.pop("max_output_tokens", None) is not None:
        dropped.append("max_output_tokens")
    text = dict(as_dict(asked.pop("text", None)))
    if as_dict(text.pop("format", None)).get("type", "text") != "text":
        dropped.append("text.format")
    if text:
        asked["text"] = text
    asked.pop("tool_choice", None)
    if body.get("tools") or any(as_dict(i).get("type") == "additional_tools" for i in items):
        asked["tool_choice"] = "none"
    return asked, dropped


def unfolded(body: Body, unseal: Callable[[str], str | None]) -> Body:
    """The body with the summaries of our own compaction items in their places.

    `unseal` gives None for what it cannot read. Items of the upstream's own stay as they are. Raises
    `InvalidRequest` for an item of ours that cannot be read: going on without it would be silent
    loss of all that it stands for.
    """
    items = body.get("input")
    if not isinstance(items, list) or not any(_is_ours(item) for item in items):
        return body
    rebuilt: list[Any] = []
    for index, item in enumerate(items):
        if not _is_ours(item):
            rebuilt.append(item)
            continue
        summary = unseal(item["encrypted_content"].removeprefix(MARK))
        if summary is None:
            raise InvalidRequest(
                f"input[{index}]: this compaction item cannot be read here any more. Send the"
                " history that it stands for, or begin a new conversation.",
                param=f"input[{index}].encrypted_content",
            )
        rebuilt.append(_said(BRIEFING.format(summary=summary)))
    return {**body, "input": rebuilt}


def _is_ours(item: object) -> bool:
    fields = as_dict(item)
    return fields.get("type") == ITEM and as_str(fields.get("encrypted_content")).startswith(MARK)


def _said(text: str) -> dict[str, Any]:
    """A user's message: models of every vendor take one at any place."""
    return {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": text}],
    }


class Voice:
    """Writes the answer of the summarising call as the one item that the client waits for.

    `seal` makes the summary opaque. `is_bare` is the answer of the compaction route, whose object
    is none of a response.
    """

    def __init__(self, seal: Seal, *, is_bare: bool) -> None:
        self._seal = seal
        self._is_bare = is_bare

    def encoder(self, answer: Answer) -> Encoder:
        return _Encoder(answer, self._seal)

    def encode_body(self, events: list[Event], answer: Answer) -> dict[str, Any]:
        """Raises the upstream's failure, and `UpstreamFailed` when no summary came."""
        for event in events:
            if isinstance(event, Failure):
                raise raised(event)
        encoder = _Encoder(answer, self._seal)
        encoder.encode(events)
        response = encoder.body()
        if not self._is_bare:
            return response
        return {
            "id": response["id"],
            "object": "response.compaction",
            "created_at": response["created_at"],
            "output": [*_user_messages(answer), *response["output"]],
            "usage": response["usage"],
        }


def _user_messages(answer: Answer) -> list[dict[str, Any]]:
    """What the user has said stays as it is before the item, as OpenAI answers it."""
    kept = []
    for index, item in enumerate(as_list(answer.request.get("input"))):
        fields = as_dict(item)
        if fields.get("role") != "user" or fields.get("type", "message") != "message":
            continue
        content = fields.get("content")
        if isinstance(content, str):
            content = [{"type": "input_text", "text": content}]
        own = {"id": item_id(answer.id, "message", index), "status": "completed"}
        kept.append({**own, **fields, "type": "message", "content": content})
    return kept


class _Encoder:
    """Collects the summary and writes it at the end; the stream begins as every other."""

    def __init__(self, answer: Answer, seal: Seal) -> None:
        self._inner = ResponseEncoder(answer)
        self._seal = seal
        self._pieces: list[str] = []
        self._stop: Stop | None = None
        self._is_refusal = False
        self._sealed = False

    def encode(self, events: list[Event]) -> bytes:
        passed: list[Event] = []
        for event in events:
            match event:
                case TextDelta():
                    self._pieces.append(event.text)
                case BlockStart(block=Text() as block):
                    self._is_refusal |= block.refusal
                    self._pieces.append(block.text)
                case Stop():
                    self._stop = event
                case Start() | UsageReport() | Failure():
                    passed.append(event)
        return self._inner.encode(passed)

    def write(self, texts: list[bytes]) -> bytes | None:
        return None

    def end(self) -> bytes:
        """The item and the response's end. Raises `UpstreamFailed` when no summary came."""
        return self._write() + self._inner.end()

    def body(self) -> dict[str, Any]:
        self._write()
        return self._inner.body()

    def fail(self, error: GatewayError) -> bytes:
        return self._inner.fail(error)

    def _write(self) -> bytes:
        if self._sealed:
            return b""
        self._sealed = True
        summary = "".join(self._pieces).strip()
        reason = self._stop.reason if self._stop is not None else "end_turn"
        if not summary or self._is_refusal or reason in ("refusal", "content_filter"):
            raise UpstreamFailed(
                "The model wrote no summary, so the conversation is not compacted."
            )
        if reason in ("max_tokens", "context_overflow"):
            summary += CUT
        value = {"type": ITEM, "encrypted_content": MARK + self._seal(summary)}
        block = Foreign(family="openai", kind=ITEM, value=value)
        return self._inner.encode([BlockStart(0, block), BlockStop(0)])
