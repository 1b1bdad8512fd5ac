"""A stream whose client leaves before its first byte is sent holds nothing afterwards."""

from typing import Any

import pytest

from copilot_site.handler import close_response
from proxy.relay import AnswerStream


@pytest.mark.parametrize("has_begun", [False, True])
async def test_what_a_stream_holds_is_let_go_whether_it_began_or_not(has_begun: bool) -> None:
    ended: list[str] = []

    async def stream() -> Any:
        try:
            yield b"first"
            yield b"second"
        finally:
            ended.append("generator")

    parts = stream()
    response = AnswerStream(parts)
    response.let_go = lambda: ended.append("held")
    if has_begun:
        assert await anext(parts) == b"first"

    await close_response(response)

    assert ended == (["generator", "held"] if has_begun else ["held"])
