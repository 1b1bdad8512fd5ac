"""Scenarios that answer with an error instead of the endpoint: statuses and error bodies."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import orjson

from simulator.delivery import copilot_headers
from simulator.refusals import (
    CATALOGUE,
    JSON,
    TEXT,
    Refusal,
    capi,
    denied_exchange,
    rest,
    retry_after_value,
)
from simulator.scenarios import EXCHANGE, SCENARIOS, Scenario, scenario
from simulator.script import Call, Script


async def send_refusal(call: Call, refusal: Refusal) -> None:
    """Send an error answer with the headers of the Copilot API, but without quota headers."""
    headers = copilot_headers(call, refusal.content_type, quota=False)
    await call.out.send(refusal.status, [*headers, *refusal.headers], refusal.body)


def _instead(script: Script, refusal: Refusal) -> None:
    async def answer(call: Call) -> None:
        await send_refusal(call, refusal)

    script.instead = answer


def _with_wait(refusal: Refusal, retry_after: Any) -> Refusal:
    """Replace the retry-after header; `absent` removes it."""
    kept = tuple(header for header in refusal.headers if header[0] != "retry-after")
    bare = Refusal(refusal.status, refusal.body, refusal.content_type, kept)
    if retry_after == "absent":
        return bare
    return bare.with_headers(("retry-after", retry_after_value(retry_after)))


def _known(refusal: Refusal, script: Script, retry_after: Any = None) -> None:
    _instead(script, refusal if retry_after is None else _with_wait(refusal, retry_after))


for _name, _refusal in CATALOGUE.items():
    _path = "/copilot_internal/*" if _name.startswith("rest_") else "generation"
    _about = f"{_refusal.status}: {_refusal.body[:60].decode().strip() or 'empty body'}"
    SCENARIOS[_name] = Scenario(_name, partial(_known, _refusal), _path, _about)


@scenario("status")
def status(
    script: Script,
    code: int = 500,
    *,
    status: int | None = None,
    body: str | None = None,
    content_type: str = TEXT,
    retry_after: Any = None,
    error_code: str = "simulated",
    message: str | None = None,
) -> None:
    """Any status; body, content type, error_code, message and retry_after as given."""
    number = status or code
    refusal = capi(number, message or f"simulated status {number}", error_code)
    if body is not None:
        refusal = Refusal(number, str(body).encode(), content_type)
    if retry_after is not None:
        refusal = _with_wait(refusal, retry_after)
    _instead(script, refusal)


@scenario("html_200")
def html_200(script: Script) -> None:
    """200 with the HTML page of a captive portal."""
    page = b"<!doctype html><html><body><h1>Please sign in to this network</h1></body></html>"
    _instead(script, Refusal(200, page, "text/html"))


@scenario("empty_200")
def empty_200(script: Script, content_type: str = JSON) -> None:
    """200 with headers and an empty body."""
    _instead(script, Refusal(200, b"", content_type))


@scenario("broken_json_200")
def broken_json_200(script: Script) -> None:
    """200 with JSON that stops in the middle (its length is right)."""
    _instead(script, Refusal(200, b'{"choices":[{"message":{"content":"You sa', JSON))


@scenario("endless_body")
def endless_body(script: Script, megabytes: float = 0) -> None:
    """200 with a plain JSON body that never ends (or only after that many megabytes)."""

    async def answer(call: Call) -> None:
        call.out.start(200, copilot_headers(call, JSON, quota=True))
        await call.out.write(b'{"choices":[{"message":{"content":"')
        sent = 0
        while not megabytes or sent < megabytes * 1024 * 1024:
            await call.out.write(b"x" * 65536)
            sent += 65536
            # A fast reader would otherwise never let another request have its turn.
            await asyncio.sleep(0)
        call.out.end()

    script.instead = answer


@scenario("json_200")
def json_200(script: Script, body: str = "{}") -> None:
    """200 with the JSON given, `{}` unless told."""
    _instead(script, Refusal(200, str(body).encode(), JSON))


@scenario("error_in_200")
def error_in_200(script: Script, code: str = "rate_limited", message: str = "Try later.") -> None:
    """200 with an error object as body."""
    error = {"error": {"message": message, "code": code}}
    _instead(script, Refusal(200, orjson.dumps(error), JSON))


@scenario("huge_error")
def huge_error(script: Script, code: int = 500, megabytes: float = 5) -> None:
    """An error body of megabytes."""
    filler = "x" * int(megabytes * 1024 * 1024)
    _instead(script, capi(code, f"something failed: {filler}", "internal_error"))


@scenario("leaky_error")
def leaky_error(script: Script, code: int = 400) -> None:
    """An error text that quotes the bearer token it was asked with."""

    async def answer(call: Call) -> None:
        bearer = call.header("authorization")
        message = f"request with header Authorization: {bearer} (token tid=9a1b;exp=1) was refused"
        await send_refusal(call, capi(code, message, "invalid_request_body"))

    script.instead = answer


@scenario("redirect")
def redirect(script: Script, code: int = 307, location: str = "https://example.com/stolen") -> None:
    """A redirect to another place."""
    _instead(script, Refusal(code, b"", TEXT, (("location", location),)))


@scenario("cookies")
def cookies(script: Script) -> None:
    """Cookies, CORS and hop-by-hop headers on an otherwise good answer."""
    script.delivery.headers += [
        ("set-cookie", "session=stolen; Path=/"),
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("server", "envoy"),
        ("keep-alive", "timeout=3"),
        ("x-powered-by", "simulator"),
    ]


@scenario("exchange_denied", path=EXCHANGE)
def exchange_denied(script: Script, notification_id: str = "no_copilot_access") -> None:
    """403 of the token exchange with that notification_id."""
    _instead(script, denied_exchange(notification_id))


@scenario("rest_error", path=EXCHANGE)
def rest_error(script: Script, code: int = 500, message: str = "Server Error") -> None:
    """An error of GitHub's REST front."""
    _instead(script, rest(code, message))
