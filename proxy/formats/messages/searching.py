"""Anthropic's web search on the wire: its tool, its blocks, and the words a model gets for them.

Copilot refuses the tool and knows none of the blocks. Where a search is fulfilled here, the model
sees a function of the same name, its calls and their results; the client sees Anthropic's blocks.
The text of a search rides in `encrypted_content`, which clients replay, so that the model reads the
same words again in later turns. Source: docs/clients.md, docs/upstream.md#messages-fields.
"""

import base64
import binascii
from typing import Any, Final

import orjson
from msgspec import Struct

from proxy.formats.messages.wrapping import wire_tool_id

NAME: Final = "web_search"
KIND: Final = "web_search_"
DEFAULT_USES: Final = 5
MAX_USES: Final = 20
ID_PREFIX: Final = "srvtoolu_"
MARK: Final = "cgw1.web_search."
NOTHING_FOUND: Final = "The search found nothing."

Body = dict[str, Any]


class Result(Struct, frozen=True):
    """A page that a search has found."""

    url: str
    title: str


class SearchTool(Struct, frozen=True):
    """What the client allows: how many searches, and where. `location` is Anthropic's object."""

    max_uses: int = DEFAULT_USES
    allowed_domains: tuple[str, ...] = ()
    blocked_domains: tuple[str, ...] = ()
    location: Body | None = None


def tool_of(body: Body) -> SearchTool | None:
    """The web search tool of a request.

    None also when a function of the client's own has the name: calls could not be told apart.
    """
    given = body.get("tools")
    if not isinstance(given, list):
        return None
    tools = [tool for tool in given if isinstance(tool, dict)]
    wanted = [tool for tool in tools if is_search(tool)]
    if not wanted or any(tool.get("name") == NAME for tool in tools if not is_search(tool)):
        return None
    tool = wanted[0]
    uses = tool.get("max_uses")
    location = tool.get("user_location")
    return SearchTool(
        max_uses=min(uses, MAX_USES) if type(uses) is int and uses >= 0 else DEFAULT_USES,
        allowed_domains=_domains(tool.get("allowed_domains")),
        blocked_domains=_domains(tool.get("blocked_domains")),
        location=location if isinstance(location, dict) else None,
    )


def is_search(tool: Body) -> bool:
    return str(tool.get("type")).startswith(KIND)


def _domains(given: Any) -> tuple[str, ...]:
    listed = given if isinstance(given, list) else []
    return tuple(domain for domain in listed if isinstance(domain, str))


def offered(body: Body) -> Body:
    """The body with a function in the place of the server's tool."""
    tools: list[Any] = []
    for tool in body["tools"]:
        if not (isinstance(tool, dict) and is_search(tool)):
            tools.append(tool)
        elif not any(isinstance(one, dict) and one.get("name") == NAME for one in tools):
            marker = tool.get("cache_control")
            tools.append(FUNCTION if marker is None else {**FUNCTION, "cache_control": marker})
    return {**body, "tools": tools}


FUNCTION: Final[Body] = {
    "name": NAME,
    "description": (
        "Search the web for current information. Gives a short report with its sources. Name the"
        " sources that you use in your answer, with their addresses."
    ),
    "input_schema": {
        "type": "object",
        "properties": {"query": {"type": "string", "description": "What to search for"}},
        "required": ["query"],
    },
}


# What the client sees.


def call_id(tool_id: str) -> str:
    """The id of a server's call; the model's own id is what follows the prefix."""
    return ID_PREFIX + wire_tool_id(tool_id)


def found(report: str, results: list[Result]) -> list[Body]:
    """The content of a result block. The first page carries the report."""
    return [
        {
            "type": "web_search_result",
            "url": result.url,
            "title": result.title,
            "encrypted_content": _packed(report if index == 0 else ""),
            "page_age": None,
        }
        for index, result in enumerate(results)
    ]


def failed(code: str) -> Body:
    """The content of a result block when there are no results; `code` is one of Anthropic's."""
    return {"type": "web_search_tool_result_error", "error_code": code}


def result_block(call: str, content: Any) -> Body:
    return {"type": "web_search_tool_result", "tool_use_id": call, "content": content}


def _packed(report: str) -> str:
    return MARK + base64.urlsafe_b64encode(report.encode("utf-8", "replace")).decode()


def _unpacked(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith(MARK):
        return ""
    try:
        return base64.urlsafe_b64decode(value[len(MARK) :]).decode("utf-8", "replace")
    except (ValueError, binascii.Error):
        return ""


# What the model reads.


def has_blocks(body: Body) -> bool:
    """Whether the history tells of searches."""
    return any(
        _is_call(block) or _is_result(block)
        for message in body.get("messages") or ()
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for block in message["content"]
    )


def as_calls(body: Body) -> Body:
    """The history with calls of the function and their results in place of the server's blocks.

    An assistant's message is parted at each result, because results are the user's to say.
    """
    rebuilt: list[Any] = []
    waiting: list[Body] = []
    for message in body["messages"]:
        content = message.get("content") if isinstance(message, dict) else None
        if message.get("role") == "assistant" and isinstance(content, list):
            if waiting:
                rebuilt.append({"role": "user", "content": waiting})
            waiting = _parted(content, rebuilt)
        elif waiting and message.get("role") == "user":
            # Results of one turn stand in one message, beside those that the client brings.
            rebuilt.append({**message, "content": [*waiting, *_blocks(content)]})
            waiting = []
        else:
            rebuilt.append(message)
    if waiting:
        rebuilt.append({"role": "user", "content": waiting})
    return {**body, "messages": rebuilt}


def _parted(content: list[Any], rebuilt: list[Any]) -> list[Body]:
    """Write an assistant's blocks as turns; gives the results that no turn has followed yet."""
    said: list[Any] = []
    results: list[Body] = []
    whole = _whole(content)
    for block in content:
        if _is_result(block) and block.get("tool_use_id") in whole:
            if said:
                rebuilt.append({"role": "assistant", "content": said})
                said = []
            results.append(_as_result(block))
            continue
        if results:
            rebuilt.append({"role": "user", "content": results})
            results = []
        is_paired = _is_call(block) and block.get("id") in whole
        said.append(_as_call(block) if is_paired else _as_word(block))
    if said:
        rebuilt.append({"role": "assistant", "content": said})
    return results


def _whole(content: list[Any]) -> set[Any]:
    """The ids of calls that have both call and result here; a model is shown no halves."""
    calls = {block.get("id") for block in content if _is_call(block)}
    return calls & {block.get("tool_use_id") for block in content if _is_result(block)}


def as_words(body: Body) -> Body:
    """The history with text in place of the server's blocks, for requests that offer no search."""
    rebuilt: list[Any] = []
    for message in body["messages"]:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            message = {**message, "content": [_as_word(block) for block in content]}
        rebuilt.append(message)
    return {**body, "messages": rebuilt}


def _as_word(block: Any) -> Any:
    if _is_call(block):
        query = (block.get("input") or {}).get("query")
        return {"type": "text", "text": f"[Web search: {query}]"}
    if _is_result(block):
        return {"type": "text", "text": f"[Result: {_told(block.get('content'))[0]}]"}
    return block


def _is_call(block: Any) -> bool:
    return (
        isinstance(block, dict)
        and block.get("type") == "server_tool_use"
        and block.get("name") == NAME
    )


def _is_result(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "web_search_tool_result"


def _as_call(block: Body) -> Body:
    kept = {key: block[key] for key in ("input", "cache_control") if block.get(key) is not None}
    own = str(block.get("id")).removeprefix(ID_PREFIX)
    return {"type": "tool_use", "id": own, "name": NAME, "input": {}, **kept}


def _as_result(block: Body) -> Body:
    text, is_error = _told(block.get("content"))
    result: Body = {
        "type": "tool_result",
        "tool_use_id": str(block.get("tool_use_id")).removeprefix(ID_PREFIX),
        "content": text,
    }
    if is_error:
        result["is_error"] = True
    if block.get("cache_control") is not None:
        result["cache_control"] = block["cache_control"]
    return result


def _told(content: Any) -> tuple[str, bool]:
    """The words of a result block, and whether it is an error."""
    if isinstance(content, dict):
        return f"The search failed: {content.get('error_code')}.", True
    results = [one for one in content if isinstance(one, dict)] if isinstance(content, list) else []
    if not results:
        return NOTHING_FOUND, False
    report = "".join(_unpacked(one.get("encrypted_content")) for one in results)
    sources = "\n".join(f"- {one.get('title')}: {one.get('url')}" for one in results)
    return f"{report}\n\nSources:\n{sources}".strip(), False


def _blocks(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}]


def with_count(usage: Body, searches: int) -> Body:
    """The `usage` object with the number of searches that were made."""
    counts = {"web_search_requests": searches, "web_fetch_requests": 0}
    return {**usage, "server_tool_use": counts}


def arguments_query(arguments: str) -> str | None:
    """The query of a call; None when its arguments hold none."""
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return None
    query = value.get("query") if isinstance(value, dict) else None
    return query.strip() or None if isinstance(query, str) else None
