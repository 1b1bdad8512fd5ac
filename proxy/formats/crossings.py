"""What survives a crossing from one format to another, found out by crossing.

Each feature is said in the source's own words, read, written for the target, and read again there.
`docs/formats.md` prints what came of it; the tests hold it against what is declared.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import orjson
from msgspec import Struct, field

from proxy.errors import InvalidRequest
from proxy.formats import FORMATS
from proxy.formats.canonical import (
    Built,
    Document,
    Image,
    Message,
    ModelFacts,
    OutputFormat,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from proxy.formats.observing import told

# `unsaid`: the source has no words for it. `lost` never happens, which the tests see to.
Outcome = Literal["kept", "shape", "dropped", "refused", "unsaid", "lost"]
Observe = Callable[[Request], Any]

# The formats that Copilot's endpoints speak.
TARGETS: Final = ("chat_completions", "messages", "responses")

PIXEL: Final = "iVBORw0KGgo="
PDF: Final = "JVBERi0xLjQK"
MARK: Final = "zanzibar"
_EFFORTS: Final = ("low", "medium", "high")
FACTS: Final = {
    "chat_completions": ModelFacts(
        id="gpt-chat", vendor="OpenAI", max_output_tokens=4000, efforts=_EFFORTS
    ),
    "responses": ModelFacts(
        id="gpt-responses", vendor="OpenAI", max_output_tokens=4000, efforts=_EFFORTS
    ),
    "messages": ModelFacts(
        id="claude",
        vendor="Anthropic",
        max_output_tokens=4000,
        efforts=_EFFORTS,
        min_thinking_budget=1024,
        max_thinking_budget=3000,
        adaptive_thinking=True,
    ),
    "gemini": ModelFacts(id="gemini", vendor="Google", max_output_tokens=4000, efforts=_EFFORTS),
}


class Feature(Struct, kw_only=True):
    """Something a request may hold, beside what it needs for it.

    `marks` are words that must arrive wherever the request is not refused. `by_themselves` names
    targets whose upstream does this without being told, `declared` the words under which a loss
    of it stands in `LOSSES`.
    """

    name: str
    fields: dict[str, Any]
    beside: dict[str, Any] = field(default_factory=dict)
    observe: Observe = told
    marks: tuple[str, ...] = ()
    by_themselves: tuple[str, ...] = ()
    declared: tuple[str, ...] = ()


def user(*blocks: Any) -> Message:
    return Message(role="user", blocks=list(blocks))


def assistant(*blocks: Any) -> Message:
    return Message(role="assistant", blocks=list(blocks))


def said(role: Any, text: str) -> Message:
    return Message(role=role, blocks=[Text(text=text)])


HELLO: Final = said("user", "hello")
_SCHEMA: Final[dict[str, Any]] = {"type": "object", "properties": {"a": {"type": "string"}}}


def _tools(**more: Any) -> list[Tool]:
    return [Tool(name="read", description="Reads.", schema=_SCHEMA, **more)]


def _loop(*results: ToolResult, **more: Any) -> dict[str, Any]:
    calls = [
        ToolUse(id=one.tool_use_id, name="read", arguments='{"a":"b"}', custom=one.custom)
        for one in results
    ]
    return {"messages": [HELLO, assistant(*calls), user(*results)], "tools": _tools(), **more}


def _result(number: int, *content: Any, **more: Any) -> ToolResult:
    return ToolResult(tool_use_id=f"call_{number}", content=list(content), name="read", **more)


def _knob(name: str, value: Any, *, called: str = "", **beside: Any) -> Feature:
    return Feature(
        name=called or name,
        fields={name: value},
        beside=beside,
        observe=lambda request: getattr(request, name),
        declared=(name, "max_tokens") if name == "max_output_tokens" else (name,),
    )


def _reasoning(name: str, **wish: Any) -> Feature:
    return Feature(
        name=name,
        fields={"reasoning": Reasoning(**wish)},
        beside={"max_output_tokens": 3900},
        observe=lambda r: r.reasoning and (r.reasoning.effort, r.reasoning.budget_tokens),
        declared=("effort", "reasoning_effort", "budget_tokens"),
    )


def _caches(request: Request) -> list[Any]:
    blocks = [b for m in request.messages for b in m.blocks]
    holders = [*(request.tools or []), *(request.system or []), *blocks]
    return [cache for holder in holders if (cache := getattr(holder, "cache", None))]


def _choice(mode: Any, name: str | None = None) -> Feature:
    return Feature(
        name=f"tool choice: {mode}",
        fields={"tool_choice": ToolChoice(mode=mode, name=name)},
        beside={"tools": _tools()},
        observe=lambda r: r.tool_choice and (r.tool_choice.mode, r.tool_choice.name),
    )


def _offers(request: Request) -> list[Any]:
    return [(t.name, t.kind, t.description, t.schema) for t in request.tools or []]


_CACHE: Final = {"type": "ephemeral"}
FEATURES: Final[tuple[Feature, ...]] = (
    Feature(name="text", fields={"messages": [said("user", MARK)]}, marks=(MARK,)),
    Feature(
        name="several turns",
        fields={"messages": [HELLO, said("assistant", MARK), said("user", "go on")]},
        marks=(MARK, "go on"),
    ),
    Feature(name="system prompt", fields={"system": [Text(text=MARK)]}, marks=(MARK,)),
    Feature(
        name="system message at the head",
        fields={"messages": [said("system", MARK), HELLO]},
        marks=(MARK,),
    ),
    Feature(
        name="developer message at the head",
        fields={"messages": [said("developer", MARK), HELLO]},
        marks=(MARK,),
    ),
    Feature(
        name="system message in the middle",
        declared=("system messages",),
        fields={
            "messages": [HELLO, said("assistant", "yes"), said("system", MARK), said("user", "so")]
        },
        marks=(MARK,),
    ),
    Feature(
        name="system message at the end",
        declared=("system messages",),
        fields={"messages": [HELLO, said("system", MARK)]},
        marks=(MARK,),
    ),
    Feature(
        name="name of the speaker",
        declared=("name",),
        fields={"messages": [Message(role="user", blocks=[Text(text="hello")], name="ada")]},
        observe=lambda r: [m.name for m in r.messages if m.name],
    ),
    Feature(
        name="image, base64",
        fields={
            "messages": [user(Text(text=MARK), Image(media_type="image/png", data=PIXEL))],
        },
        marks=(MARK, PIXEL),
    ),
    Feature(
        name="image, address",
        fields={"messages": [user(Text(text="look"), Image(url=f"https://x.test/{MARK}.png"))]},
        marks=(MARK,),
    ),
    Feature(
        name="PDF",
        declared=("document", "documents"),
        fields={
            "messages": [
                user(
                    Text(text="read"),
                    Document(media_type="application/pdf", data=PDF, name="a.pdf"),
                )
            ]
        },
        marks=(PDF,),
    ),
    Feature(
        name="text document",
        declared=("text documents",),
        fields={
            "messages": [
                user(Text(text="read"), Document(media_type="text/plain", text=MARK, name="a.txt"))
            ]
        },
        marks=(MARK,),
    ),
    Feature(name="tools", fields={"tools": _tools()}, observe=_offers),
    Feature(
        name="parallel calls and results",
        fields=_loop(_result(1, Text(text=MARK)), _result(2, Text(text="two"))),
        marks=(MARK, "two", "call_1", "call_2"),
    ),
    Feature(
        name="tool result with an image",
        declared=("tool result images",),
        fields=_loop(_result(1, Text(text=MARK), Image(media_type="image/png", data=PIXEL))),
        marks=(MARK, PIXEL),
    ),
    Feature(
        name="tool result with an error",
        declared=("is_error",),
        fields=_loop(_result(1, Text(text=MARK), is_error=True)),
        marks=(MARK,),
    ),
    _choice("auto"),
    _choice("any"),
    _choice("none"),
    _choice("tool", "read"),
    Feature(
        name="one call at a time",
        fields={"parallel_tools": False},
        beside={"tools": _tools(), "tool_choice": ToolChoice(mode="auto")},
        observe=lambda r: r.parallel_tools,
    ),
    Feature(
        name="strict tools",
        declared=("tools.strict",),
        fields={"tools": _tools(strict=True)},
        beside={"tools": _tools()},
        observe=lambda r: [tool.strict for tool in r.tools or [] if tool.strict],
    ),
    Feature(
        name="free-text tools",
        declared=("custom tools",),
        fields={"tools": [Tool(name="patch", kind="custom", description=MARK)]},
        observe=_offers,
        marks=(MARK,),
    ),
    _reasoning("effort", effort="high"),
    _reasoning("effort above the model's", effort="max"),
    _reasoning("thinking budget", budget_tokens=2048, mode="enabled"),
    Feature(
        name="JSON schema",
        fields={"output_format": OutputFormat(kind="json_schema", name="a", schema=_SCHEMA)},
        observe=lambda r: r.output_format and (r.output_format.kind, r.output_format.schema),
    ),
    Feature(
        name="JSON object",
        declared=("output format",),
        fields={"output_format": OutputFormat(kind="json_object")},
        observe=lambda r: r.output_format and r.output_format.kind,
    ),
    _knob("stop", [MARK]),
    _knob("max_output_tokens", 100),
    _knob("max_output_tokens", 900_000, called="max_output_tokens above the model's"),
    _knob("temperature", 0.5),
    _knob("top_p", 0.9),
    _knob("top_k", 7),
    _knob("seed", 7),
    _knob("presence_penalty", 0.5),
    _knob("frequency_penalty", 0.5),
    _knob("logprobs", True),
    _knob("n", 2),
    _knob("user", "ada"),
    _knob("metadata", {"key": "value"}),
    _knob("verbosity", "low"),
    _knob("prompt_cache_key", "key"),
    Feature(
        name="cache markers",
        declared=("cache", "cache_control"),
        fields={
            "tools": _tools(cache=_CACHE),
            "messages": [user(Text(text="hello", cache=_CACHE))],
        },
        beside={"tools": _tools(), "messages": [user(Text(text="hello"))]},
        observe=_caches,
        by_themselves=("chat_completions", "responses"),
    ),
    _knob("stream", True),
)


UNKNOWN_MODEL: Final = ModelFacts(id="m")


def request_of(name: str, fields: dict[str, Any]) -> Request:
    given: dict[str, Any] = {"messages": [HELLO], **fields}
    if name == "messages":
        given.setdefault("max_output_tokens", 1000)
    return Request(source=name, model="m", **given)


def body_of(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A client's body of this format that says what `fields` hold.

    Raises `InvalidRequest` when the format has no place for it.
    """
    return FORMATS[name].build_request(request_of(name, fields), UNKNOWN_MODEL).body


def cross(source: str, target: str, body: dict[str, Any]) -> Built:
    """What the target's endpoint gets of a source's body."""
    return FORMATS[target].build_request(FORMATS[source].parse_request(body), FACTS[target])


def outcome(source: str, target: str, feature: Feature) -> Outcome:
    """What becomes of a request's feature on the way from `source` to `target`."""
    fields = {**feature.beside, **feature.fields}
    wished = feature.observe(request_of(source, fields))
    try:
        body = body_of(source, fields)
        asked = FORMATS[source].parse_request(body)
    except InvalidRequest:
        return "unsaid"
    if feature.observe(asked) != wished:
        return "unsaid"
    try:
        built = cross(source, target, body)
    except InvalidRequest:
        return "refused"
    arrived = feature.observe(FORMATS[target].parse_request(built.body))
    if arrived == wished:
        return "kept"
    baseline = cross(source, target, body_of(source, feature.beside))
    if feature.marks:
        has_arrived = all(mark in dumped(built.body) for mark in feature.marks)
    else:
        has_arrived = bool(arrived) or built.body != baseline.body
    if has_arrived or target in feature.by_themselves:
        return "shape"
    return "dropped" if set(built.dropped) > set(baseline.dropped) else "lost"


def dumped(value: Any) -> str:
    return orjson.dumps(value).decode()


def pairs() -> Iterator[tuple[str, str]]:
    """All crossings that translate."""
    for target in TARGETS:
        for source in FORMATS:
            if source != target:
                yield source, target
