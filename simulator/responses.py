"""The responses leg's answers: a fresh opaque id in every event, alphabetical keys, no `[DONE]`.

Source: docs/upstream.md (responses).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from simulator import minting
from simulator.frames import Frame, Tag, sorted_frame
from simulator.generation import Generation, Leg
from simulator.metering import count_tokens
from simulator.prompts import ToolCall
from simulator.responses_rules import read_responses
from simulator.state import Json

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def _usage(generation: Generation) -> Any:
    usage = generation.usage
    return generation.call.script.usage(
        {
            "input_tokens": usage.prompt,
            "input_tokens_details": {"cached_tokens": usage.cache_read},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.prompt + usage.output,
        }
    )


def _response(generation: Generation, status: str, output: list[Json]) -> Json:
    """Return the response object; the request's tools and instructions are echoed in full."""
    body = generation.body
    now = int(generation.call.state.now())
    is_over = status not in ("in_progress", "queued")
    reasoning = {"context": "current_turn", "effort": "medium", "mode": "standard", "summary": None}
    reason = _INCOMPLETE.get(generation.reply.finish, "max_output_tokens")
    failure = {"code": "server_error", "message": "The server had an error."}
    response: Json = {
        "background": False,
        "completed_at": now if status == "completed" else None,
        "created_at": now,
        "error": failure if status == "failed" else None,
        "frequency_penalty": 0,
        "id": minting.opaque_id(generation.call.state),
        "incomplete_details": {"reason": reason} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "metadata": body.get("metadata") or {},
        "model": generation.model,
        "moderation": None,
        "object": "response",
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "presence_penalty": 0,
        "previous_response_id": None,
        "prompt_cache_retention": "in_memory",
        "reasoning": reasoning | (body.get("reasoning") or {}),
        "safety_identifier": f"copilot-{generation.call.known_account.id}",
        "service_tier": "default" if is_over else "auto",
        "status": status,
        "store": False,
        "temperature": body.get("temperature", 1),
        "text": {"format": {"type": "text"}, "verbosity": "medium"} | (body.get("text") or {}),
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_logprobs": body.get("top_logprobs", 0),
        "top_p": body.get("top_p", 0.98),
        "truncation": body.get("truncation", "disabled"),
        "usage": _usage(generation) if is_over else None,
        "user": None,
    }
    if is_over and generation.call.script.usage_edit is not None and response["usage"] is None:
        del response["usage"]
    if is_over and generation.reply.content_filters:
        response["content_filters"] = [_content_filter()]
    return response


def _content_filter() -> Json:
    return {
        "source_type": "completion",
        "blocked": True,
        "content_filter_raw": [{"action": "BLOCK", "label": "TextCopyright", "result": True}],
        "content_filter_results": {
            "hate": {"filtered": False, "severity": "safe"},
            "protected_material_text": {"detected": True, "filtered": True},
        },
    }


def _status(generation: Generation) -> str:
    finish = generation.reply.finish
    if finish in ("failed", "error"):
        return "failed"
    return "incomplete" if finish in _INCOMPLETE else "completed"


@dataclass(slots=True)
class _Item:
    """One output item: as it opens, as it ends, and the events in between."""

    opening: Json
    final: Json
    events: list[tuple[str, Json, Tag, int]] = field(default_factory=list)

    def event(self, type_: str, body: Json, tag: Tag = "delta", tokens: int = 0) -> None:
        self.events.append((type_, body, tag, tokens))


def _items(generation: Generation) -> list[_Item]:
    reply = generation.reply
    items: list[_Item] = []
    if reply.thinking:
        items.append(_reasoning(generation))
    if reply.search_query is not None:
        items.append(_web_search(reply.search_query))
    compaction = _compaction(generation)
    if compaction is not None:
        items.append(_Item(compaction, compaction))
    if reply.text or reply.text_pieces:
        items.append(_message(generation))
    items += [_tool_call(generation, call) for call in reply.calls]
    return items


def _reasoning(generation: Generation) -> _Item:
    state, body = generation.call.state, generation.body
    opening: Json = {"summary": [], "type": "reasoning"}
    if "reasoning.encrypted_content" in (body.get("include") or []):
        opening["encrypted_content"] = minting.seal(
            state, "reasoning", generation.login, generation.model, ""
        )
    item = _Item(opening, dict(opening))
    if (body.get("reasoning") or {}).get("summary"):
        words = generation.reply.thinking
        part = {"text": words, "type": "summary_text"}
        item.final["summary"] = [part]
        if generation.reply.stream_summary:
            _stream_summary(generation, item, part)
    return item


def _stream_summary(generation: Generation, item: _Item, part: Json) -> None:
    place = {"summary_index": 0}
    empty = {"text": "", "type": "summary_text"}
    item.event("response.reasoning_summary_part.added", place | {"part": empty}, "open")
    for piece in generation.text_pieces(part["text"]):
        body = place | {"delta": piece, "obfuscation": _obfuscation(generation)}
        item.event("response.reasoning_summary_text.delta", body, "delta", count_tokens(piece))
    item.event("response.reasoning_summary_text.done", place | {"text": part["text"]}, "close")
    item.event("response.reasoning_summary_part.done", place | {"part": part}, "close")


def _obfuscation(generation: Generation) -> str:
    return minting.short_id(generation.call.state, "", generation.call.state.random.randint(4, 16))


def _web_search(query: str) -> _Item:
    opening: Json = {"status": "in_progress", "type": "web_search_call"}
    action = {"query": query, "sources": [], "type": "search"}
    item = _Item(opening, {"action": action, "status": "completed", "type": "web_search_call"})
    for step in ("in_progress", "searching", "completed"):
        item.event(f"response.web_search_call.{step}", {})
    return item


def _compaction(generation: Generation) -> Json | None:
    """Return a compaction item when the prompt is above the threshold that the client set."""
    for edit in generation.body.get("context_management") or []:
        threshold = edit.get("compact_threshold") if isinstance(edit, dict) else None
        if isinstance(threshold, int) and generation.prompt.tokens > threshold:
            content = minting.seal(
                generation.call.state, "reasoning", generation.login, generation.model, ""
            )
            return {"encrypted_content": content, "type": "compaction"}
    return None


def _message(generation: Generation) -> _Item:
    pieces = generation.reply_pieces()
    words = "".join(pieces)
    phase = "commentary" if generation.reply.calls else "final_answer"
    opening: Json = {
        "content": [],
        "phase": phase,
        "role": "assistant",
        "status": "in_progress",
        "type": "message",
    }
    part: Json = {"annotations": [], "logprobs": [], "text": words, "type": "output_text"}
    empty = part | {"text": ""}
    status = "incomplete" if _status(generation) == "incomplete" else "completed"
    item = _Item(opening, opening | {"content": [part], "status": status})
    place = {"content_index": 0}
    item.event("response.content_part.added", place | {"part": empty}, "open")
    for piece in pieces:
        body = place | {"delta": piece, "logprobs": [], "obfuscation": _obfuscation(generation)}
        item.event("response.output_text.delta", body, "delta", count_tokens(piece))
    if generation.reply.search_query is not None:
        part["annotations"] = [_citation(words)]
        note = {"annotation": part["annotations"][0], "annotation_index": 0}
        item.event("response.output_text.annotation.added", place | note)
    item.event("response.output_text.done", place | {"logprobs": [], "text": words}, "close")
    item.event("response.content_part.done", place | {"part": part}, "close")
    return item


def _citation(words: str) -> Json:
    return {
        "end_index": len(words),
        "start_index": max(0, len(words) - 12),
        "title": "An example",
        "type": "url_citation",
        "url": "https://example.com/source",
    }


def _tool_call(generation: Generation, call: ToolCall) -> _Item:
    state = generation.call.state
    call_id = minting.short_id(state, "call_")
    opening: Json = {"call_id": call_id, "status": "in_progress"}
    if call.kind == "tool_search":
        opening |= {"arguments": {}, "execution": "client", "type": "tool_search_call"}
        arguments = _json_object(call.arguments)
        return _Item(opening, opening | {"arguments": arguments, "status": "completed"})
    is_custom = call.kind == "custom"
    content = "input" if is_custom else "arguments"
    kind = "custom_tool_call" if is_custom else "function_call"
    opening |= {content: "", "name": call.name, "type": kind}
    if call.namespace is not None:
        opening["namespace"] = call.namespace
    item = _Item(opening, opening | {content: call.arguments, "status": "completed"})
    stem = "response.custom_tool_call_input" if is_custom else "response.function_call_arguments"
    for piece in generation.argument_pieces(call.arguments):
        body = {"delta": piece, "obfuscation": _obfuscation(generation)}
        item.event(f"{stem}.delta", body, "delta", count_tokens(piece))
    done = {content: call.arguments} if is_custom else {content: call.arguments, "name": call.name}
    item.event(f"{stem}.done", done, "close")
    return item


def _json_object(words: str) -> Json:
    try:
        value = orjson.loads(words)
    except orjson.JSONDecodeError:
        return {"query": words}
    return value if isinstance(value, dict) else {"query": words}


def _stream(generation: Generation) -> list[Frame]:
    state = generation.call.state
    frames: list[Frame] = []

    def emit(type_: str, body: Json, tag: Tag, tokens: int = 0) -> None:
        full = body | {"sequence_number": len(frames), "type": type_}
        frames.append(sorted_frame(type_, full, tag, tokens))

    emit("response.created", {"response": _response(generation, "in_progress", [])}, "start")
    emit("response.in_progress", {"response": _response(generation, "in_progress", [])}, "start")
    items = _items(generation)
    for index, item in enumerate(items):
        place = {"output_index": index}
        added = place | {"item": item.opening | {"id": minting.opaque_id(state)}}
        emit("response.output_item.added", added, "open")
        for type_, body, tag, tokens in item.events:
            emit(type_, place | body | {"item_id": minting.opaque_id(state)}, tag, tokens)
        done = place | {"item": item.final | {"id": minting.opaque_id(state)}}
        emit("response.output_item.done", done, "close", _silent_tokens(generation, item))
    status = _status(generation)
    final = _response(generation, status, _output(generation, items))
    emit(f"response.{status}", generation.with_cost({"response": final}), "end")
    return frames


def _silent_tokens(generation: Generation, item: _Item) -> int:
    """Reasoning that is not streamed exists once its item is done."""
    if item.final["type"] == "reasoning" and not generation.reply.stream_summary:
        return generation.usage.reasoning
    return 0


def _output(generation: Generation, items: list[_Item]) -> list[Json]:
    state = generation.call.state
    return [item.final | {"id": minting.opaque_id(state)} for item in items]


def _whole(generation: Generation) -> Json:
    output = _output(generation, _items(generation))
    return generation.with_cost(_response(generation, _status(generation), output))


RESPONSES_LEG = Leg("/responses", read_responses, _stream, _whole, sorts_keys=True)
