"""JavaScript libraries: the same task as in Python, through tools of their own."""

from pathlib import Path

import pytest

from tests.clients.real.conftest import HERE, SECRET, Desk

PROGRAMS = HERE / "programs"
EVERY_FAMILY = ["claude-sonnet-4.6", "gpt-5.5", "gpt-4.1", "gemini-3.7-flash"]


@pytest.mark.parametrize("model", EVERY_FAMILY)
@pytest.mark.parametrize(
    "program", ["openai_chat.mjs", "openai_responses.mjs", "anthropic_messages.mjs"]
)
def test_the_official_sdks_finish_a_tool_loop(
    desk: Desk, node_programs: Path, program: str, model: str
) -> None:
    assert_done(desk, desk.run("node", PROGRAMS / program, MODEL=model).stdout, model)


@pytest.mark.parametrize("model", EVERY_FAMILY)
@pytest.mark.parametrize("wire", ["chat", "messages", "responses"])
def test_the_ai_sdk_finishes_a_tool_loop(
    desk: Desk, node_programs: Path, wire: str, model: str
) -> None:
    done = desk.run("node", PROGRAMS / "ai_sdk.mjs", MODEL=model, WIRE=wire)
    assert_done(desk, done.stdout, model)


def assert_done(desk: Desk, said: str, model: str) -> None:
    assert "Tool said:" in said, said
    assert SECRET in said
    desk.assert_written()
    desk.assert_served(model)
