"""Scenarios below and around HTTP: resets, silence, garbage, compression, odd framing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

from simulator.delivery import FOREVER_S
from simulator.scenarios import scenario
from simulator.script import Call, Ending, Script

_EOLS = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}


@scenario("reset_before")
def reset_before(script: Script) -> None:
    """RST after the request, before any byte of the answer."""

    async def answer(call: Call) -> None:
        await call.out.reset()

    script.instead = answer


@scenario("close_before")
def close_before(script: Script) -> None:
    """FIN after the request, before any byte of the answer."""

    async def answer(call: Call) -> None:
        call.out.fin()

    script.instead = answer


@scenario("stale_connection")
def stale_connection(script: Script) -> None:
    """A pooled connection dies as it is used again; a new one serves."""
    close_before(script)


@scenario("hang")
def hang(script: Script, seconds: float = FOREVER_S) -> None:
    """No answer at all; the connection stays open."""

    async def answer(call: Call) -> None:
        await asyncio.sleep(seconds)
        call.out.fin()

    script.instead = answer


@scenario("slow")
def slow(script: Script, seconds: float = 1.0) -> None:
    """The head of the answer comes late; then all is well."""
    script.delivery.first_delay_s = seconds


@scenario("garbage")
def garbage(script: Script) -> None:
    """Bytes that are not HTTP, then FIN."""

    async def answer(call: Call) -> None:
        await call.out.write_raw(b"SSH-2.0-OpenSSH_9.9\r\n\x00\x01\x02 this is not HTTP\r\n")
        call.out.fin()

    script.instead = answer


@scenario("early_hints")
def early_hints(script: Script, count: int = 2) -> None:
    """Informational 1xx answers before the real one."""
    hint = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n"
    script.delivery.preamble = b"HTTP/1.1 102 Processing\r\n\r\n" + hint * count


@scenario("gzip")
def gzip(script: Script) -> None:
    """The answer or stream is compressed with gzip, asked for or not."""
    script.delivery.gzip = True


@scenario("split")
def split(script: Script, size: int = 1, delay: float = 0.0) -> None:
    """Writes of `size` bytes: splits inside UTF-8, inside `data:`, inside line ends."""
    script.delivery.split = size
    script.delivery.split_delay_s = delay


@scenario("crlf")
def crlf(script: Script, eol: str = "crlf") -> None:
    """Lines end with CRLF (or `eol=cr`)."""
    script.delivery.style = replace(script.delivery.style, eol=_EOLS[eol])


@scenario("comments")
def comments(script: Script) -> None:
    """Comment lines, `id:` and `retry:` lines among the events."""
    script.delivery.style = replace(script.delivery.style, comments=True, ids=True)


@scenario("no_blank")
def no_blank(script: Script) -> None:
    """No blank after the colon of `data:` and `event:`."""
    script.delivery.style = replace(script.delivery.style, blank_after_colon=False)


@scenario("split_data_lines")
def split_data_lines(script: Script) -> None:
    """One event's JSON in two `data:` lines."""
    script.delivery.style = replace(script.delivery.style, split_data_lines=True)


@scenario("byte_order_mark")
def byte_order_mark(script: Script) -> None:
    """The stream begins with a byte order mark."""
    script.delivery.style = replace(script.delivery.style, byte_order_mark=True)


@scenario("until_close")
def until_close(script: Script) -> None:
    """The answer has no length and no chunks: it ends when the connection does."""
    script.delivery.framing = "close"


@scenario("cut_after_bytes")
def cut_after_bytes(script: Script, n: int = 100, how: str = "clean") -> None:
    """The body stops after n bytes; how: clean (well framed), fin or reset."""
    script.delivery.cut_after_bytes = n
    script.delivery.ending = cast(Ending, _checked(how))


def _checked(how: str) -> str:
    if how not in ("clean", "fin", "reset", "stall"):
        raise ValueError(f"how={how!r} is none of clean, fin, reset, stall")
    return how


@scenario("short_body")
def short_body(script: Script, how: str = "fin") -> None:
    """A plain body shorter than its Content-Length, then FIN (or how=reset)."""
    script.delivery.ending = cast(Ending, _checked(how))


@scenario("silent_body")
def silent_body(script: Script) -> None:
    """A plain body that stops in the middle; the connection stays open, silent."""
    script.delivery.ending = "stall"


@scenario("wrong_type")
def wrong_type(script: Script, content_type: str = "text/plain") -> None:
    """A good answer under another content type."""
    script.delivery.content_type = content_type


@scenario("swap")
def swap(script: Script) -> None:
    """Plain JSON where a stream was asked for, a stream where plain JSON was."""
    script.swap_streaming = True


@scenario("plain")
def plain(script: Script) -> None:
    """A good answer without any fault; shields a request from lasting plays."""
    script.is_fast = True
