"""The chat leg's answers in its three dialects: Azure GPT, Claude and Gemini.

Source: docs/upstream.md (chat completions, quirks).
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from simulator import minting
from simulator.chat_rules import read_chat
from simulator.frames import Frame, Tag, json_frame
from simulator.generation import Generation, Leg
from simulator.metering import count_tokens
from simulator.state import Json

DONE = b"[DONE]"
_SAFE = {"filtered": False, "severity": "safe"}
_FILTERS = {"hate": _SAFE, "self_harm": {}, "sexual": {}, "violence": {}}
_LABELS = {
    "claude-sonnet-4.5": "claude-sonnet-4-5-20250929",
    "claude-haiku-4.5": "claude-haiku-4-5-20251001",
}
_FINISH = {"stop_sequence": "stop", "refusal": "content_filter"}


def _finish(generation: Generation) -> str:
    return _FINISH.get(generation.reply.finish, generation.reply.finish)


def _done() -> Frame:
    return Frame(None, DONE, "end")


def _claude_lead_in(generation: Generation) -> str:
    """Claude says a word before it calls a tool, which is what splits its choices."""
    reply = generation.reply
    if reply.text or not reply.calls:
        return reply.text
    return f"I will call {reply.calls[0].name}."


def _opaque(generation: Generation) -> str:
    """Mint the handle under which this reply's reasoning must come back."""
    return minting.seal(generation.call.state, "opaque", generation.login, generation.model, "")


def _call_ids(generation: Generation, prefix: str) -> list[str]:
    return [minting.short_id(generation.call.state, prefix) for _ in generation.reply.calls]


# Azure GPT


def azure_usage(generation: Generation) -> Any:
    usage = generation.usage
    return generation.call.script.usage(
        {
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.output,
            "total_tokens": usage.prompt + usage.output,
            "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": usage.reasoning,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
                "audio_tokens": 0,
            },
        }
    )


def _azure_stream(generation: Generation) -> list[Frame]:
    created = int(generation.call.state.now())
    id_ = minting.short_id(generation.call.state, "chatcmpl-")
    frames = [
        json_frame(
            None,
            {
                "choices": [],
                "created": 0,
                "id": "",
                "model": "",
                "object": "",
                "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": _FILTERS}],
            },
            "start",
        ),
        json_frame(
            None,
            {
                "choices": [
                    {
                        "index": 0,
                        "content_filter_offsets": {
                            "check_offset": 100,
                            "start_offset": 100,
                            "end_offset": 140,
                        },
                        "content_filter_results": {
                            "error": {"code": "", "message": ""},
                            "hate": _SAFE,
                        },
                        "delta": {"content": "", "role": "assistant"},
                    }
                ],
                "created": created,
                "id": id_,
                "model": generation.model,
                "object": "chat.completion.chunk",
                "system_fingerprint": "fp_0a1b",
                "usage": None,
            },
            "open",
        ),
    ]

    def chunk(choice: Json, tag: Tag, tokens: int = 0, **more: Any) -> None:
        body = {"choices": [{"index": 0} | choice], "created": created, "id": id_} | more
        frames.append(json_frame(None, body, tag, tokens))

    for piece in generation.reply_pieces():
        delta = {"delta": {"content": piece, "role": None}}
        chunk(delta, "delta", count_tokens(piece))
    for call in _tool_deltas(generation, _call_ids(generation, "call_")):
        chunk({"delta": {"tool_calls": [call], "role": None}}, "delta", _delta_tokens(call))
    finish = {"finish_reason": _finish(generation), "delta": {"content": None, "role": None}}
    wants_usage = (generation.body.get("stream_options") or {}).get("include_usage")
    chunk(finish, "finish", **({} if wants_usage else generation.with_cost({})))
    if wants_usage:
        usage = azure_usage(generation)
        if usage is not None:
            last = {"choices": [], "created": created, "id": id_, "usage": usage}
            frames.append(json_frame(None, generation.with_cost(last), "usage"))
    return [*frames, _done()]


def _tool_deltas(generation: Generation, ids: list[str]) -> list[Json]:
    """Return the `tool_calls` deltas of Azure; interleaved or with index gaps when asked."""
    rows: list[list[Json]] = []
    for number, (call, id_) in enumerate(zip(generation.reply.calls, ids, strict=True)):
        index = number + number * generation.reply.index_gap
        row: list[Json] = [
            {
                "index": index,
                "id": id_,
                "type": "function",
                "function": {"name": call.name, "arguments": ""},
            }
        ]
        row += [
            {"index": index, "function": {"arguments": piece}}
            for piece in generation.argument_pieces(call.arguments)
        ]
        rows.append(row)
    return woven(rows) if generation.reply.interleave_calls else list(chain.from_iterable(rows))


def woven(rows: list[list[Json]]) -> list[Json]:
    """Take one of each row in turn until all are used up."""
    longest = max((len(row) for row in rows), default=0)
    return [row[number] for number in range(longest) for row in rows if number < len(row)]


def _delta_tokens(call: Json) -> int:
    function = call.get("function", {})
    return (8 if "name" in function else 0) + count_tokens(function.get("arguments", ""))


def _azure_whole(generation: Generation) -> Json:
    message: Json = {"content": generation.reply.text or None, "role": "assistant"}
    if generation.reply.calls:
        message["tool_calls"] = _whole_calls(generation, _call_ids(generation, "call_"))
    choice = {
        "content_filter_results": {"hate": _SAFE},
        "finish_reason": _finish(generation),
        "message": message,
    }
    count = generation.body.get("n") or 1
    document: Json = {
        "choices": [{"index": index} | choice for index in range(count)],
        "created": int(generation.call.state.now()),
        "id": minting.short_id(generation.call.state, "chatcmpl-"),
        "model": generation.model,
        "object": "chat.completion",
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": _FILTERS}],
        "system_fingerprint": "fp_0a1b",
    }
    return _with_usage(generation, document, azure_usage(generation))


def _whole_calls(generation: Generation, ids: list[str]) -> list[Json]:
    return [
        {
            "id": id_,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call, id_ in zip(generation.reply.calls, ids, strict=True)
    ]


def _with_usage(generation: Generation, document: Json, usage: Any) -> Json:
    if usage is not None:
        document["usage"] = usage
    return generation.with_cost(document)


# Claude


def _claude_usage(generation: Generation) -> Any:
    usage = generation.usage
    return generation.call.script.usage(
        {
            "completion_tokens": usage.output,
            "prompt_tokens": usage.prompt,
            "prompt_tokens_details": {"cached_tokens": usage.cache_read},
            "total_tokens": usage.prompt + usage.output,
        }
    )


def _claude_stream(generation: Generation) -> list[Frame]:
    state = generation.call.state
    created = int(state.now())
    id_ = minting.uuid(state)
    frames: list[Frame] = []

    def chunk(choice: Json, tag: Tag, tokens: int = 0, **more: Any) -> None:
        body = {
            "choices": [{"index": 0} | choice],
            "created": created,
            "id": id_,
            "model": generation.model,
        } | more
        frames.append(json_frame(None, body, tag, tokens))

    def delta(fields: Json, tokens: int) -> None:
        chunk({"delta": fields | {"role": "assistant"}}, "delta", tokens)

    reply = generation.reply
    chunk({"delta": {"content": "", "role": "assistant"}}, "start")
    if reply.thinking:
        for piece in generation.text_pieces(reply.thinking):
            delta({"reasoning_text": piece}, count_tokens(piece))
        delta({"reasoning_opaque": _opaque(generation)}, 0)
    lead_in = _claude_lead_in(generation)
    for piece in reply.text_pieces or generation.text_pieces(lead_in):
        delta({"content": piece}, count_tokens(piece))
    for call in _claude_tool_deltas(generation):
        delta({"content": None, "tool_calls": [call]}, _delta_tokens(call))
    usage = _claude_usage(generation)
    more: Json = {} if usage is None else {"usage": usage}
    finish = {"finish_reason": _finish(generation), "delta": {"content": None}}
    chunk(finish, "finish", **generation.with_cost(more))
    return [*frames, _done()]


def _claude_tool_deltas(generation: Generation) -> list[Json]:
    """The first delta has a name and no arguments; the following have neither id nor name."""
    rows: list[list[Json]] = []
    ids = _call_ids(generation, "tooluse_")
    for number, (call, id_) in enumerate(zip(generation.reply.calls, ids, strict=True)):
        index = number + number * generation.reply.index_gap
        row: list[Json] = [
            {"function": {"name": call.name}, "id": id_, "index": index, "type": "function"}
        ]
        row += [
            {"function": {"arguments": piece}, "index": index, "type": "function"}
            for piece in ["", *generation.argument_pieces(call.arguments)]
        ]
        rows.append(row)
    return woven(rows) if generation.reply.interleave_calls else list(chain.from_iterable(rows))


def _claude_whole(generation: Generation) -> Json:
    """Text and tool calls arrive in separate choices, without an index."""
    reply = generation.reply
    finish = _finish(generation)
    text: Json = {"content": _claude_lead_in(generation), "role": "assistant"}
    if reply.thinking:
        text |= {"reasoning_text": reply.thinking, "reasoning_opaque": _opaque(generation)}
    choices: list[Json] = [{"finish_reason": finish, "message": text}]
    if reply.calls:
        calls = _whole_calls(generation, _call_ids(generation, "tooluse_"))
        message = {"role": "assistant", "tool_calls": calls}
        choices.append({"finish_reason": finish, "message": message})
    document: Json = {
        "choices": choices,
        "created": int(generation.call.state.now()),
        "id": minting.uuid(generation.call.state),
        "model": _LABELS.get(generation.model, generation.model),
    }
    return _with_usage(generation, document, _claude_usage(generation))


# Gemini


def _gemini_usage(generation: Generation, *, is_last: bool) -> Any:
    usage = generation.usage
    return generation.call.script.usage(
        {
            "completion_tokens": usage.output if is_last else 0,
            "prompt_tokens": usage.prompt if is_last else 0,
            "prompt_tokens_details": {"cached_tokens": usage.cache_read if is_last else 0},
            "reasoning_tokens": usage.reasoning if is_last else 0,
            "total_tokens": usage.prompt + usage.output if is_last else 0,
        }
    )


def _gemini_stream(generation: Generation) -> list[Frame]:
    state = generation.call.state
    created = int(state.now())
    id_ = minting.short_id(state, "")
    frames: list[Frame] = []
    first_usage = _gemini_usage(generation, is_last=False)
    zeros: Json = {} if first_usage is None else {"usage": first_usage}

    def chunk(choice: Json, tag: Tag, tokens: int = 0, *, more: Json = zeros) -> None:
        body = {
            "choices": [{"index": 0} | choice],
            "created": created,
            "id": id_,
            "model": generation.model,
            "object": "chat.completion.chunk",
        } | more
        frames.append(json_frame(None, body, tag, tokens))

    def delta(fields: Json, tag: Tag, tokens: int) -> None:
        chunk({"delta": fields | {"role": "assistant"}}, tag, tokens)

    reply = generation.reply
    for piece in generation.text_pieces(reply.thinking):
        delta({"content": None, "reasoning_text": piece}, "delta", count_tokens(piece))
    for piece in generation.reply_pieces():
        delta({"content": piece}, "delta", count_tokens(piece))
    last_usage = _gemini_usage(generation, is_last=True)
    last: Json = {"content": None, "role": "assistant"}
    tokens = 0
    if reply.calls:
        calls = _whole_calls(generation, _call_ids(generation, "call_"))
        last["tool_calls"] = [{"index": index} | call for index, call in enumerate(calls)]
        tokens = sum(_delta_tokens(call) for call in calls)
    if reply.calls or reply.thinking:
        last["reasoning_opaque"] = _opaque(generation)
    finish = {"delta": last, "finish_reason": _finish(generation)}
    more: Json = {} if last_usage is None else {"usage": last_usage}
    chunk(finish, "finish", tokens, more=generation.with_cost(more))
    if frames[0].tag == "delta":
        frames[0].tag = "start"
    return [*frames, _done()]


def _gemini_whole(generation: Generation) -> Json:
    reply = generation.reply
    message: Json = {"content": reply.text or None, "role": "assistant"}
    if reply.thinking:
        message["reasoning_text"] = reply.thinking
    if reply.calls:
        message["tool_calls"] = _whole_calls(generation, _call_ids(generation, "call_"))
    if reply.calls or reply.thinking:
        message["reasoning_opaque"] = _opaque(generation)
    document: Json = {
        "choices": [{"finish_reason": _finish(generation), "index": 0, "message": message}],
        "created": int(generation.call.state.now()),
        "id": minting.short_id(generation.call.state, ""),
        "model": generation.model,
        "object": "chat.completion",
    }
    return _with_usage(generation, document, _gemini_usage(generation, is_last=True))


def _stream(generation: Generation) -> list[Frame]:
    match generation.vendor:
        case "Anthropic":
            return _claude_stream(generation)
        case "Google":
            return _gemini_stream(generation)
    return _azure_stream(generation)


def _whole(generation: Generation) -> Json:
    match generation.vendor:
        case "Anthropic":
            return _claude_whole(generation)
        case "Google":
            return _gemini_whole(generation)
    return _azure_whole(generation)


CHAT_LEG = Leg("/chat/completions", read_chat, _stream, _whole, sorts_keys=False)
