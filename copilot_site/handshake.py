"""Websockets asked of the API: the handshake gets the answer that a GET of its path gets.

Codex opens a websocket on `/v1/responses` first. It falls back to HTTP at once when the handshake
is answered with 426; the server's own 403 costs it seven attempts. Source: docs/clients.md.
"""

from typing import Any

EXTENSION = "websocket.http.response"


async def answer_handshake(
    application: Any, scope: dict[str, Any], receive: Any, send: Any
) -> None:
    """Let the HTTP application refuse a handshake. A server that cannot say its answer says 403."""
    await receive()
    if EXTENSION not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    asked = False

    async def receive_request() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return {"type": "http.disconnect"}

    async def send_answer(message: dict[str, Any]) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    request = {**scope, "type": "http", "method": "GET", "scheme": "http"}
    await application(request, receive_request, send_answer)
