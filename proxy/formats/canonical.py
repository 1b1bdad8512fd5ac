"""The canonical conversation: what the client formats and the upstream endpoints have in common.

Data only. A format parses its wire body into a `Request` and builds its wire body from one; it
decodes its answers into events and encodes events into its answers. Absent stays absent: `None`
means that nobody said anything. What only one family understands rides in `Opaque` or `Foreign`,
untouched, and is returned to the family that made it.

msgspec structs, because they are created several times faster than dataclasses and a stream
creates one per event.
"""

from typing import Any, Literal

from msgspec import Struct, field

from proxy.formats.outlines import Run

Family = Literal["anthropic", "openai", "copilot_chat", "gemini"]
Role = Literal["system", "developer", "user", "assistant"]


class Opaque(Struct, frozen=True):
    """A value only the model that made it can read: a signature, encrypted reasoning.

    `family` says whose it is (`copilot_chat` is the `reasoning_opaque` of the chat endpoint),
    `value` is byte-exact as received.
    """

    family: Family
    value: str


# Content blocks. `cache` is the wire's cache marker ({"type": "ephemeral", "ttl"?}), `extras` holds
# fields of the source format that have no canonical name; only that same format writes them again.


class Text(Struct, kw_only=True):
    text: str
    cache: dict[str, Any] | None = None
    annotations: list[dict[str, Any]] | None = None
    refusal: bool = False
    extras: dict[str, Any] | None = None


class Image(Struct, kw_only=True):
    """Base64 `data` with its `media_type`, or a `url` that is passed on and never fetched by us."""

    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    detail: str | None = None
    cache: dict[str, Any] | None = None
    extras: dict[str, Any] | None = None


class Document(Struct, kw_only=True):
    """A file: base64 `data` with `media_type`, plain `text`, or a `url`."""

    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    text: str | None = None
    name: str | None = None
    cache: dict[str, Any] | None = None
    extras: dict[str, Any] | None = None


class Thinking(Struct, kw_only=True):
    """Reasoning of the model. `text` may be empty while `opaque` is not; `redacted` has no text."""

    text: str = ""
    opaque: Opaque | None = None
    redacted: bool = False
    extras: dict[str, Any] | None = None


class ToolUse(Struct, kw_only=True):
    """A call. `arguments` is JSON text as the model wrote it (`custom` tools: free text)."""

    id: str
    name: str
    arguments: str = ""
    custom: bool = False
    opaque: Opaque | None = None
    cache: dict[str, Any] | None = None
    extras: dict[str, Any] | None = None


class ToolResult(Struct, kw_only=True):
    """The answer to a call; `plain` says that the wire had one string instead of a list."""

    tool_use_id: str
    content: "list[Text | Image | Document | Foreign]"
    plain: bool = False
    is_error: bool | None = None
    name: str | None = None
    custom: bool = False
    cache: dict[str, Any] | None = None
    extras: dict[str, Any] | None = None


class Foreign(Struct, kw_only=True):
    """A block that one family alone has (server tools, tool references, compaction items)."""

    family: Family
    kind: str
    value: dict[str, Any]


Block = Text | Image | Document | Thinking | ToolUse | ToolResult | Foreign


class Message(Struct, kw_only=True):
    """One turn's part. Tool results stand in `user` messages; `plain` as in `ToolResult`.

    With a `run` it stands for several whole turns, and has no blocks: see `Request`.
    """

    role: Role
    blocks: list[Block]
    plain: bool = False
    name: str | None = None
    extras: dict[str, Any] | None = None
    run: Run | None = None


class Tool(Struct, kw_only=True):
    """A tool on offer. `server` tools are run by the vendor: `extras` is then the whole wire entry."""

    name: str
    kind: Literal["function", "custom", "server"] = "function"
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    defer_loading: bool | None = None
    cache: dict[str, Any] | None = None
    family: Family | None = None
    extras: dict[str, Any] | None = None


class ToolChoice(Struct, kw_only=True):
    mode: Literal["auto", "any", "none", "tool"]
    name: str | None = None
    custom: bool = False
    extras: dict[str, Any] | None = None


class Reasoning(Struct, kw_only=True):
    """How much to think: `effort` is a word of the catalog, `budget_tokens` an explicit amount.

    `mode` and `display` are Anthropic's words (adaptive, enabled, disabled; omitted, summarized),
    `summary` is OpenAI's (auto, concise, detailed).
    """

    effort: str | None = None
    budget_tokens: int | None = None
    mode: Literal["adaptive", "enabled", "disabled"] | None = None
    display: str | None = None
    summary: str | None = None
    extras: dict[str, Any] | None = None


class OutputFormat(Struct, kw_only=True):
    kind: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class Request(Struct, kw_only=True):
    """A request for one completion.

    `system` holds what the wire keeps apart from the messages (Anthropic `system`, Responses
    `instructions`, Gemini `systemInstruction`); system messages inside the conversation stay in
    `messages` at their place. `extras` are top-level fields of `source` without a canonical name.

    Of a large body whole turns and all tools may be left in the structs of `source`, as runs
    (`proxy.formats.outlines`), but only for a target that says it writes them (`Format.RUNS_OF`).
    """

    source: str
    model: str
    messages: list[Message]
    system: list[Text] | None = None
    system_plain: bool = False
    tools: list[Tool] | None = None
    tool_run: Run | None = None
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    n: int | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    verbosity: str | None = None
    reasoning: Reasoning | None = None
    output_format: OutputFormat | None = None
    prompt_cache_key: str | None = None
    stream: bool | None = None
    include_usage: bool | None = None
    extras: dict[str, Any] = field(default_factory=dict)


class ModelFacts(Struct, kw_only=True, frozen=True):
    """What the catalog says about the model that a request goes to. Token counts; `None`: unsaid."""

    id: str
    vendor: str = ""
    max_output_tokens: int | None = None
    max_non_streaming_output_tokens: int | None = None
    max_prompt_tokens: int | None = None
    efforts: tuple[str, ...] = ()
    adaptive_thinking: bool = False
    min_thinking_budget: int | None = None
    max_thinking_budget: int | None = None
    vision: bool = True
    tool_calls: bool = True
    structured_outputs: bool = True
    media_types: tuple[str, ...] = ()


class Built(Struct, kw_only=True):
    """A wire body, and the names of the tuning knobs that had no place in it."""

    body: dict[str, Any]
    dropped: list[str] = field(default_factory=list)


class Usage(Struct, kw_only=True):
    """What the upstream reported. `input_tokens` includes cache reads and writes.

    `nano_aiu` is the exact cost from `copilot_usage` (10^9 = 1 AI credit), `None` when unsaid.
    Source: docs/upstream.md#copilot-usage.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    nano_aiu: int | None = None


StopReason = Literal[
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "refusal",
    "content_filter",
    "pause_turn",
    "context_overflow",
]


# Events of an answer, in the order: Start, then blocks (opened, filled, closed; never two open at
# once, indexes 0, 1, 2…), then Stop. A UsageReport may come anywhere, the last one counts.


class Start(Struct, frozen=True):
    id: str
    model: str


class BlockStart(Struct, frozen=True):
    """Opens a block. Its `block` is empty but for what is known at once (a tool's id and name)."""

    index: int
    block: Text | Thinking | ToolUse | Foreign


class TextDelta(Struct, frozen=True):
    index: int
    text: str
    logprobs: list[dict[str, Any]] | None = None


class ThinkingDelta(Struct, frozen=True):
    index: int
    text: str


class OpaqueDelta(Struct, frozen=True):
    """The signature or encrypted form of the open block, whole."""

    index: int
    opaque: Opaque


class ArgumentsDelta(Struct, frozen=True):
    """A piece of a call's JSON text; the pieces joined are the arguments."""

    index: int
    json: str


class AnnotationDelta(Struct, frozen=True):
    index: int
    annotation: dict[str, Any]


class BlockStop(Struct, frozen=True):
    index: int


class UsageReport(Struct, frozen=True):
    usage: Usage


class Stop(Struct, frozen=True):
    reason: StopReason
    sequence: str | None = None
    details: dict[str, Any] | None = None


class Failure(Struct, frozen=True):
    """The upstream says, inside a stream or a 200 body, that it failed. Nothing follows."""

    status: int
    code: str
    message: str


Event = (
    Start
    | BlockStart
    | TextDelta
    | ThinkingDelta
    | OpaqueDelta
    | ArgumentsDelta
    | AnnotationDelta
    | BlockStop
    | UsageReport
    | Stop
    | Failure
)
