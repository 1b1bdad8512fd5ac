"""The initiator: whether a person's turn or the client's own machinery caused a request.

The header is truthful. The last conversational item decides, declared sub-agents, compactions and
side requests are `agent`, and in doubt it is `user`. No setting forces it; the rule that decided is
stored with the request. Source: docs/upstream.md#initiator.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import orjson
from msgspec import Struct

from proxy.formats.contract import Gist

Initiator = Literal["user", "agent"]


class Decision(Struct, frozen=True):
    """Who caused a request. `rule` is a stable code, `text` says it to people."""

    initiator: Initiator
    rule: str
    text: str


class Traits(Struct, kw_only=True, frozen=True):
    """What a request declares about itself."""

    is_subagent: bool = False
    is_compaction: bool = False
    is_side_request: bool = False


SUBAGENT: Final = Decision("agent", "declared_subagent", "the client declares a sub-agent")
COMPACTION: Final = Decision("agent", "declared_compaction", "the client declares a compaction")
SIDE_REQUEST: Final = Decision(
    "agent", "side_request", "a title or warm-up that the client asks for by itself"
)
HOSTED_SEARCH: Final = Decision(
    "agent", "hosted_search", "a web search that the model asked the gateway for"
)
TOOL_RESULT: Final = Decision("agent", "last_item_tool", "last message is a tool result")
PERSON: Final = Decision("user", "last_item_user", "last message is a person's")
UNFINISHED: Final = Decision(
    "user",
    "last_item_assistant",
    "last message is the model's own, which leaves open who asked: counted as a person's",
)
CLIENT_SAYS_USER: Final = Decision(
    "user", "client_says_user", "the client says that a person caused it"
)

_BY_LAST_WORD: Final = {"tool": TOOL_RESULT, "assistant": UNFINISHED, "user": PERSON}
DECISIONS: Final = (
    SUBAGENT,
    COMPACTION,
    SIDE_REQUEST,
    HOSTED_SEARCH,
    TOOL_RESULT,
    PERSON,
    UNFINISHED,
    CLIENT_SAYS_USER,
)


def decide(
    gist: Gist,
    *,
    is_subagent: bool,
    is_compaction: bool,
    is_side_request: bool,
    client_value: str | None,
) -> Decision:
    """Decide for one request. `client_value` is the client's own X-Initiator header.

    The client's word counts only from `agent` to `user`: `agent` is the cheaper one, and nobody may
    buy it by saying so.
    """
    ours = _by_content(
        gist,
        is_subagent=is_subagent,
        is_compaction=is_compaction,
        is_side_request=is_side_request,
    )
    if ours.initiator == "agent" and (client_value or "").strip().lower() == "user":
        return CLIENT_SAYS_USER
    return ours


def _by_content(
    gist: Gist, *, is_subagent: bool, is_compaction: bool, is_side_request: bool
) -> Decision:
    if is_subagent:
        return SUBAGENT
    if is_compaction:
        return COMPACTION
    if is_side_request:
        return SIDE_REQUEST
    return _BY_LAST_WORD[gist.last]


def traits(headers: Mapping[str, str], path: str, body: dict[str, Any], source: str) -> Traits:
    """Read what the client declares: only certain signs count, never the wording of a prompt.

    The one text that counts is opencode's fixed title instruction, from opencode itself and without
    tools. `headers` are by lower-case name, `source` is the client's format. Never raises.
    Source: docs/upstream.md#initiator.
    """
    subagent = headers.get("x-openai-subagent", "").strip().lower()
    is_compaction = (
        subagent == "compact"
        or path.rstrip("/").endswith("/responses/compact")
        or _last_item_type(body) == "compaction_trigger"
        or _codex_turn(headers).get("request_kind") == "compaction"
    )
    return Traits(
        is_subagent=bool(headers.get("x-claude-code-agent-id", "").strip())
        or subagent not in ("", "0", "false", "compact"),
        is_compaction=is_compaction,
        is_side_request=_is_warm_up(body, source) or _is_title(headers, body, source),
    )


def _codex_turn(headers: Mapping[str, str]) -> dict[str, Any]:
    """What Codex says of the turn that a request belongs to, as JSON in a header."""
    if (text := headers.get("x-codex-turn-metadata")) is None:
        return {}
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _last_item_type(body: dict[str, Any]) -> object:
    items = body.get("input")
    last = items[-1] if isinstance(items, list) and items else None
    return last.get("type") if isinstance(last, dict) else None


def _is_warm_up(body: dict[str, Any], source: str) -> bool:
    return source == "responses" and body.get("generate") is False


def _is_title(headers: Mapping[str, str], body: dict[str, Any], source: str) -> bool:
    if body.get("tools"):
        return False
    agent = headers.get("user-agent", "").lower()
    if agent.startswith("claude-cli/"):
        return source == "messages" and _wants_only_a_title(body)
    return agent.startswith("opencode/") and _opening(body).startswith(
        "Generate a title for this conversation:"
    )


def _wants_only_a_title(body: dict[str, Any]) -> bool:
    """Claude Code asks for its session title with a JSON schema of that single property."""
    wanted: Any = body
    for key in ("output_config", "format", "schema", "properties"):
        wanted = wanted.get(key) if isinstance(wanted, dict) else None
    return isinstance(wanted, dict) and set(wanted) == {"title"}


def _opening(body: dict[str, Any]) -> str:
    """The text of the first user message of a chat, responses or messages body."""
    items = body.get("messages", body.get("input"))
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and item.get("role") == "user":
            content = item.get("content")
            if isinstance(content, list) and content and isinstance(content[0], dict):
                content = content[0].get("text")
            return content if isinstance(content, str) else ""
    return ""
