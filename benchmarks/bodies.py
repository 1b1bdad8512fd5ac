"""Request bodies: small ones, and such as agents send, with tools and a long history."""

import json
from typing import Any

from benchmarks.canned import CHAT_MODEL, MESSAGES_MODEL, RESPONSES_MODEL

Json = dict[str, Any]
SENTENCE = 'def handle(self, request): return self.view(request)  # "as it was", 100 %\n'


def schema(number: int) -> Json:
    properties = {
        f"argument_{i}": {"type": "string", "description": f"What to do, part {i} of {number}."}
        for i in range(6)
    }
    return {"type": "object", "properties": properties, "required": ["argument_0"]}


def chat(text: str, *, stream: bool) -> bytes:
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": text},
    ]
    return _dump({"model": CHAT_MODEL, "messages": messages, "stream": stream})


def large_chat(*, stream: bool) -> bytes:
    """About 205 kB: 20 tools, 30 turns with a call and its result."""
    messages: list[Json] = [{"role": "system", "content": SENTENCE * 120}]
    for turn in range(30):
        call = {"name": f"tool_{turn % 20}", "arguments": json.dumps({"argument_0": SENTENCE})}
        messages += [
            {"role": "user", "content": f"Step {turn}. " + SENTENCE * 8},
            {
                "role": "assistant",
                "content": "I look at the file.",
                "tool_calls": [{"id": f"call_{turn}", "type": "function", "function": call}],
            },
            {"role": "tool", "tool_call_id": f"call_{turn}", "content": SENTENCE * 63},
        ]
    tools = [
        {
            "type": "function",
            "function": {
                "name": f"tool_{i}",
                "description": SENTENCE * 4,
                "parameters": schema(i),
            },
        }
        for i in range(20)
    ]
    return _dump({"model": CHAT_MODEL, "messages": messages, "tools": tools, "stream": stream})


def messages(text: str, *, stream: bool, model: str = CHAT_MODEL) -> bytes:
    turns = [{"role": "user", "content": text}]
    return _dump(
        {
            "model": model,
            "max_tokens": 1024,
            "system": "You are a helpful assistant.",
            "messages": turns,
            "stream": stream,
        }
    )


def large_messages(*, stream: bool, model: str = CHAT_MODEL) -> bytes:
    """About 195 kB, as Claude Code sends it: blocks, tool calls, results, cache markers."""
    turns: list[Json] = []
    for turn in range(30):
        use_id = f"toolu_{turn:04d}"
        given = {"argument_0": SENTENCE, "argument_1": turn}
        use = {"type": "tool_use", "id": use_id, "name": f"tool_{turn % 20}", "input": given}
        result = {"type": "tool_result", "tool_use_id": use_id, "content": SENTENCE * 60}
        turns += [
            {"role": "user", "content": [{"type": "text", "text": f"{turn}. " + SENTENCE * 8}]},
            {"role": "assistant", "content": [{"type": "text", "text": "I look."}, use]},
            {"role": "user", "content": [result]},
        ]
    turns[-1]["content"][-1]["cache_control"] = {"type": "ephemeral"}
    tools = [
        {"name": f"tool_{i}", "description": SENTENCE * 4, "input_schema": schema(i)}
        for i in range(20)
    ]
    system = [{"type": "text", "text": SENTENCE * 120, "cache_control": {"type": "ephemeral"}}]
    return _dump(
        {
            "model": model,
            "max_tokens": 8192,
            "system": system,
            "messages": turns,
            "tools": tools,
            "stream": stream,
        }
    )


def large_responses(*, stream: bool) -> bytes:
    """About 200 kB, as Codex sends it: items of several kinds."""
    items: list[Json] = []
    for turn in range(30):
        text = {"type": "input_text", "text": f"{turn}. " + SENTENCE * 8}
        call = {
            "type": "function_call",
            "call_id": f"call_{turn}",
            "name": f"tool_{turn % 20}",
            "arguments": json.dumps({"argument_0": SENTENCE}),
        }
        output = {
            "type": "function_call_output",
            "call_id": f"call_{turn}",
            "output": SENTENCE * 63,
        }
        items += [{"type": "message", "role": "user", "content": [text]}, call, output]
    items.append({"type": "message", "role": "user", "content": "Go on."})
    tools = [
        {
            "type": "function",
            "name": f"tool_{i}",
            "description": SENTENCE * 4,
            "parameters": schema(i),
        }
        for i in range(20)
    ]
    return _dump(
        {
            "model": RESPONSES_MODEL,
            "instructions": SENTENCE * 120,
            "input": items,
            "tools": tools,
            "stream": stream,
            "store": False,
        }
    )


def passthrough_messages(*, stream: bool) -> bytes:
    return large_messages(stream=stream, model=MESSAGES_MODEL)


def _dump(body: Json) -> bytes:
    # Compact, as JavaScript and the SDKs write it.
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
