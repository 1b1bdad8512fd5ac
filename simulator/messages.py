"""The messages leg's answers: native Anthropic Messages with alphabetical keys and no pings.

Source: docs/upstream.md (messages).
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from simulator import minting
from simulator.delivery import send_body
from simulator.frames import Frame, sorted_frame
from simulator.generation import Generation, Leg, find_model, json_object
from simulator.messages_rules import (
    ADAPTIVE_ONLY,
    CONTEXT_MANAGEMENT,
    betas_of,
    read_for_counting,
    read_messages,
)
from simulator.metering import count_tokens
from simulator.prompts import ToolCall
from simulator.refusals import JSON
from simulator.script import Call
from simulator.state import Json

_PREFIXES = {"anthropic": "msg_01", "bedrock": "msg_bdrk_01", "vertex": "msg_vrtx_01"}
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def _message_id(generation: Generation) -> str:
    """Mint an id of one of the three backends; which one changes from call to call."""
    state = generation.call.state
    backend = state.config.messages_backend
    if backend == "rotate":
        backend = list(_PREFIXES)[state.messages % len(_PREFIXES)]
        state.messages += 1
    return minting.short_id(state, _PREFIXES[backend], 22)


def _input_usage(generation: Generation) -> Json:
    usage = generation.usage
    return {
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "input_tokens": usage.input,
    }


def _opening_usage(generation: Generation) -> Json:
    return _input_usage(generation) | {
        "cache_creation": {
            "ephemeral_1h_input_tokens": 0,
            "ephemeral_5m_input_tokens": generation.usage.cache_write,
        },
        "inference_geo": "global",
        "output_tokens": 2,
    }


def _final_usage(generation: Generation) -> Json:
    usage = generation.usage
    return _input_usage(generation) | {
        "output_tokens": usage.output,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }


def _stop(generation: Generation) -> Json:
    reply = generation.reply
    reason = _STOP_REASONS.get(reply.finish, reply.finish)
    details = {"category": "cyber", "type": "refusal"} if reason == "refusal" else None
    return {
        "stop_details": details,
        "stop_reason": reason,
        "stop_sequence": reply.stop_sequence,
    }


def _shell(generation: Generation) -> Json:
    return {
        "content": [],
        "id": _message_id(generation),
        "model": generation.model,
        "role": "assistant",
        "type": "message",
    }


def _shows_thinking(generation: Generation) -> bool:
    """Tell whether thinking text is sent; newer models omit it unless asked."""
    thinking = generation.body.get("thinking") or {}
    default = "omitted" if generation.model in ADAPTIVE_ONLY else "summarized"
    return bool(thinking.get("display", default) == "summarized")


def _blocks(generation: Generation) -> list[Json]:
    """Return the content blocks of the reply, whole."""
    state, reply = generation.call.state, generation.reply
    login, model = generation.login, generation.model
    blocks: list[Json] = []
    if reply.redacted_thinking:
        data = minting.seal(state, "redacted", login, model, "")
        blocks.append({"data": data, "type": "redacted_thinking"})
    if reply.thinking:
        words = reply.thinking if _shows_thinking(generation) else ""
        signature = minting.seal(state, "signature", login, model, reply.thinking)
        blocks.append({"signature": signature, "thinking": words, "type": "thinking"})
    text = reply.text
    if reply.calls and not text and not reply.text_pieces:
        text = f"I will call {reply.calls[0].name}."
    if reply.text_pieces is not None:
        text = "".join(reply.text_pieces)
    if text:
        blocks.append({"text": text, "type": "text"})
    for call in reply.calls:
        blocks += _call_blocks(generation, call)
    return blocks


def _call_blocks(generation: Generation, call: ToolCall) -> list[Json]:
    """Return the blocks of a call; a deferred tool is searched for before it is called."""
    state = generation.call.state
    try:
        arguments = orjson.loads(call.arguments)
    except orjson.JSONDecodeError:
        arguments = {}
    blocks: list[Json] = []
    if call.deferred:
        search_id = minting.short_id(state, "srvtoolu_01", 22)
        blocks.append(
            {
                "id": search_id,
                "input": {"pattern": re.escape(call.name)},
                "name": "tool_search_tool_regex",
                "type": "server_tool_use",
            }
        )
        found = [{"tool_name": call.name, "type": "tool_reference"}]
        blocks.append(
            {
                "content": {"tool_references": found, "type": "tool_search_tool_search_result"},
                "tool_use_id": search_id,
                "type": "tool_search_tool_result",
            }
        )
    blocks.append(
        {
            "id": minting.short_id(state, "toolu_01", 22),
            "input": arguments if isinstance(arguments, dict) else {"value": arguments},
            "name": call.name,
            "type": "tool_use",
        }
    )
    return blocks


def _stream(generation: Generation) -> list[Frame]:
    usage = generation.call.script.usage(_opening_usage(generation))
    message = _shell(generation) | {
        "stop_details": None,
        "stop_reason": None,
        "stop_sequence": None,
    }
    if usage is not None:
        message["usage"] = usage
    start = {"message": message, "type": "message_start"}
    frames = [sorted_frame("message_start", start, "start")]
    for index, block in enumerate(_blocks(generation)):
        frames += _block_frames(generation, index, block)
    last: Json = {"delta": _stop(generation), "type": "message_delta"}
    if CONTEXT_MANAGEMENT in betas_of(generation.call):
        last["context_management"] = {"applied_edits": []}
    usage = generation.call.script.usage(_final_usage(generation))
    if usage is not None:
        last["usage"] = usage
    frames.append(sorted_frame("message_delta", generation.with_cost(last), "finish"))
    frames.append(sorted_frame("message_stop", {"type": "message_stop"}, "end"))
    return frames


def _block_frames(generation: Generation, index: int, block: Json) -> list[Frame]:
    empty, deltas = _start_and_deltas(generation, block)
    start = {"content_block": empty, "index": index, "type": "content_block_start"}
    frames = [sorted_frame("content_block_start", start, "open")]
    for delta, tokens in deltas:
        body = {"delta": delta, "index": index, "type": "content_block_delta"}
        frames.append(sorted_frame("content_block_delta", body, "delta", tokens))
    stop = {"index": index, "type": "content_block_stop"}
    frames.append(sorted_frame("content_block_stop", stop, "close"))
    return frames


def _start_and_deltas(generation: Generation, block: Json) -> tuple[Json, list[tuple[Json, int]]]:
    """Return the block as it opens, and its deltas with the tokens that each brings."""
    deltas: list[tuple[Json, int]] = []
    match block["type"]:
        case "text":
            pieces = generation.reply.text_pieces or generation.text_pieces(block["text"])
            for piece in pieces:
                deltas.append(({"text": piece, "type": "text_delta"}, count_tokens(piece)))
            return {"text": "", "type": "text"}, deltas
        case "thinking":
            for piece in generation.text_pieces(block["thinking"]):
                deltas.append(({"thinking": piece, "type": "thinking_delta"}, count_tokens(piece)))
            signature = {"signature": block["signature"], "type": "signature_delta"}
            deltas.append((signature, 0))
            return {"signature": "", "thinking": "", "type": "thinking"}, deltas
        case "tool_use" | "server_tool_use":
            arguments = orjson.dumps(block["input"]).decode()
            for piece in ["", *generation.argument_pieces(arguments)]:
                delta = {"partial_json": piece, "type": "input_json_delta"}
                deltas.append((delta, count_tokens(piece)))
            return block | {"input": {}}, deltas
    return block, deltas


def _whole(generation: Generation) -> Json:
    document = _shell(generation) | _stop(generation)
    document["content"] = _blocks(generation)
    usage: Any = generation.call.script.usage(_opening_usage(generation) | _final_usage(generation))
    if usage is not None:
        document["usage"] = usage
    if CONTEXT_MANAGEMENT in betas_of(generation.call):
        document["context_management"] = {"applied_edits": []}
    return generation.with_cost(document)


MESSAGES_LEG = Leg("/v1/messages", read_messages, _stream, _whole, sorts_keys=True)


async def count(call: Call) -> None:
    """Answer `POST /v1/messages/count_tokens`: the size of the prompt, never billed."""
    body = json_object(call)
    entry = find_model(call, body, "/v1/messages")
    prompt = read_for_counting(call, entry, body)
    await send_body(call, orjson.dumps({"input_tokens": prompt.tokens}), JSON)
