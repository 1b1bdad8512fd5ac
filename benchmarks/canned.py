"""What the mock upstream answers: bytes made once, so that answering costs nothing.

A stream is a list of pieces that are sent one by one, each an HTTP chunk of its own, as a model sends
them. A paced piece holds `@0000000000000000@`, which the mock replaces with the time of sending in
microseconds of the monotonic clock: readers on the same machine know how late each piece is.
"""

import json
from typing import Any

EVENTS = 50
STAMP = b"@0000000000000000@"
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "runs", "on")
CHAT_MODEL, MESSAGES_MODEL, RESPONSES_MODEL = "bench-chat", "bench-messages", "bench-responses"

Json = dict[str, Any]


def response(body: bytes, content_type: str = "application/json") -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n"
        "x-github-request-id: BE7C:1\r\n\r\n"
    )
    return head.encode() + body


def chunked(pieces: list[bytes]) -> list[bytes]:
    """Head and first piece, each further piece, the end."""
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        b"transfer-encoding: chunked\r\nx-github-request-id: BE7C:1\r\n\r\n"
    )
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return [head + chunks[0], *chunks[1:-1], chunks[-1] + b"0\r\n\r\n"]


def word(number: int, *, stamped: bool) -> str:
    return STAMP.decode() if stamped else WORDS[number % len(WORDS)] + " "


# Chat Completions.

CHAT_USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": EVENTS,
    "total_tokens": 1200 + EVENTS,
    "prompt_tokens_details": {"cached_tokens": 1024},
}


def chat_body() -> bytes:
    text = " ".join(WORDS * 4)
    return json.dumps(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": 1790000000,
            "model": CHAT_MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
            "usage": CHAT_USAGE,
        }
    ).encode()


def chat_pieces(*, stamped: bool = False) -> list[bytes]:
    base = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1790000000}
    base["model"] = CHAT_MODEL

    def piece(delta: Json, reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return b"data: " + json.dumps({**base, "choices": [choice], **more}).encode() + b"\n\n"

    texts = [word(i, stamped=stamped) for i in range(EVENTS)]
    first = piece({"role": "assistant", "content": texts[0]})
    last = piece({}, "stop", usage=CHAT_USAGE) + b"data: [DONE]\n\n"
    return [first, *(piece({"content": text}) for text in texts[1:]), last]


# Messages.


def event(name: str, value: Json) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **value})}\n\n".encode()


def messages_message(content: list[Json], output_tokens: int) -> Json:
    return {
        "id": "msg_bench",
        "type": "message",
        "role": "assistant",
        "model": MESSAGES_MODEL,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1200, "output_tokens": output_tokens},
    }


def messages_body() -> bytes:
    message = messages_message([{"type": "text", "text": " ".join(WORDS * 4)}], EVENTS)
    return json.dumps({**message, "stop_reason": "end_turn"}).encode()


def messages_pieces(*, stamped: bool = False) -> list[bytes]:
    text = {"type": "text", "text": ""}
    start = event("message_start", {"message": messages_message([], 1)})
    start += event("content_block_start", {"index": 0, "content_block": text})
    deltas = [{"type": "text_delta", "text": word(i, stamped=stamped)} for i in range(EVENTS)]
    end = event("content_block_stop", {"index": 0})
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    end += event("message_delta", {"delta": stop, "usage": {"output_tokens": EVENTS}})
    end += event("message_stop", {})
    pieces = [event("content_block_delta", {"index": 0, "delta": delta}) for delta in deltas]
    return [start + pieces[0], *pieces[1:], end]


# Responses.


def responses_answer(status: str, text: str | None) -> Json:
    output = [] if text is None else [responses_item(text)]
    usage = {"input_tokens": 1200, "output_tokens": EVENTS, "total_tokens": 1200 + EVENTS}
    return {
        "id": "resp_bench",
        "object": "response",
        "created_at": 1790000000,
        "model": RESPONSES_MODEL,
        "status": status,
        "output": output,
        "usage": None if text is None else usage,
    }


def responses_item(text: str) -> Json:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def responses_body() -> bytes:
    return json.dumps(responses_answer("completed", " ".join(WORDS * 4))).encode()


def responses_pieces(*, stamped: bool = False) -> list[bytes]:
    texts = [word(i, stamped=stamped) for i in range(EVENTS)]
    whole = "".join(texts)
    here = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    opened = {**responses_item(""), "status": "in_progress", "content": []}
    steps: list[tuple[str, Json]] = [
        ("response.created", {"response": responses_answer("in_progress", None)}),
        ("response.output_item.added", {"output_index": 0, "item": opened}),
        (
            "response.content_part.added",
            {**here, "part": {"type": "output_text", "text": "", "annotations": []}},
        ),
        *(("response.output_text.delta", {**here, "delta": text}) for text in texts),
        ("response.output_text.done", {**here, "text": whole}),
        (
            "response.content_part.done",
            {**here, "part": {"type": "output_text", "text": whole, "annotations": []}},
        ),
        ("response.output_item.done", {"output_index": 0, "item": responses_item(whole)}),
        ("response.completed", {"response": responses_answer("completed", whole)}),
    ]
    events = [event(name, {"sequence_number": i, **value}) for i, (name, value) in enumerate(steps)]
    return [b"".join(events[:4]), *events[4 : 3 + EVENTS], b"".join(events[3 + EVENTS :])]


# What GitHub answers when an account signs in.


def model(model_id: str, vendor: str, endpoint: str) -> Json:
    limits = {
        "max_output_tokens": 16384,
        "max_prompt_tokens": 128000,
        "max_context_window_tokens": 144384,
    }
    supports = {"streaming": True, "tool_calls": True, "vision": True}
    return {
        "id": model_id,
        "name": model_id,
        "vendor": vendor,
        "version": model_id,
        "object": "model",
        "model_picker_enabled": True,
        "preview": False,
        "policy": {"state": "enabled"},
        "supported_endpoints": [endpoint],
        "capabilities": {
            "type": "chat",
            "family": model_id,
            "object": "model_capabilities",
            "tokenizer": "o200k_base",
            "limits": limits,
            "supports": supports,
        },
    }


def documents(url: str) -> dict[bytes, bytes]:
    """Answers by path for everything that is asked once."""
    endpoints = {"api": url, "proxy": url, "telemetry": url}
    token = {
        "token": "tid=bench;exp=4102444800;sku=plus_monthly_subscriber_quota;proxy-ep=localhost",
        "expires_at": 4102444800,
        "refresh_in": 86400,
        "endpoints": endpoints,
        "chat_enabled": True,
        "sku": "plus_monthly_subscriber_quota",
    }
    plenty = {"entitlement": 0, "remaining": 0, "percent_remaining": 100.0, "unlimited": True}
    account = {
        "login": "bench",
        "copilot_plan": "individual_pro",
        "access_type_sku": "plus_monthly_subscriber_quota",
        "chat_enabled": True,
        "endpoints": endpoints,
        "quota_reset_date": "2027-01-01",
        "quota_snapshots": {"chat": plenty, "completions": plenty, "premium_interactions": plenty},
    }
    models = [
        model(CHAT_MODEL, "Azure OpenAI", "/chat/completions"),
        model(MESSAGES_MODEL, "Anthropic", "/v1/messages"),
        model(RESPONSES_MODEL, "OpenAI", "/responses"),
    ]
    answers: dict[str, Any] = {
        "/copilot_internal/v2/token": token,
        "/copilot_internal/user": account,
        "/user": {"login": "bench", "id": 1, "type": "User"},
        "/models": {"object": "list", "data": models},
    }
    return {path.encode(): response(json.dumps(a).encode()) for path, a in answers.items()}
