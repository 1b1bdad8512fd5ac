"""Python libraries: each does the same task, to read a note and write a file through its tools."""

import json
import sys
from pathlib import Path

import pytest

from tests.clients.real.conftest import HERE, SECRET, Desk

PROGRAMS = HERE / "programs"
CLAUDE, CODEX_ONLY, CHAT_ONLY, GEMINI = (
    "claude-sonnet-4.6",
    "gpt-5.5",
    "gpt-4.1",
    "gemini-3.7-flash",
)
EVERY_FAMILY = [CLAUDE, CODEX_ONLY, CHAT_ONLY, GEMINI]
WIRES = ["chat", "messages", "responses"]
OFFICIAL = ["openai_chat.py", "openai_responses.py", "anthropic_messages.py"]


@pytest.mark.parametrize("model", EVERY_FAMILY)
@pytest.mark.parametrize("program", OFFICIAL)
def test_the_official_sdks_finish_a_tool_loop(desk: Desk, program: str, model: str) -> None:
    # As pinned for the gateway's own development; the newest are among the libraries below.
    assert_done(desk, desk.run(sys.executable, PROGRAMS / program, MODEL=model).stdout, model)


@pytest.mark.parametrize("model", EVERY_FAMILY)
@pytest.mark.parametrize("program", OFFICIAL)
def test_the_newest_official_sdks_finish_a_tool_loop(
    desk: Desk, python_programs: Path, program: str, model: str
) -> None:
    done = desk.run(python_programs / "python", PROGRAMS / program, MODEL=model)
    assert_done(desk, done.stdout, model)


@pytest.mark.parametrize("model", EVERY_FAMILY)
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("program", ["langchain_agent.py", "litellm_completion.py"])
def test_frameworks_finish_a_tool_loop(
    desk: Desk, python_programs: Path, program: str, wire: str, model: str
) -> None:
    desk.environment["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    done = desk.run(python_programs / "python", PROGRAMS / program, MODEL=model, WIRE=wire)
    assert_done(desk, done.stdout, model)


@pytest.mark.parametrize("model", EVERY_FAMILY)
@pytest.mark.parametrize("wire", WIRES)
def test_pydantic_ai_finishes_a_tool_loop_after_a_plain_answer(
    desk: Desk, python_programs: Path, wire: str, model: str
) -> None:
    program = PROGRAMS / "pydantic_agent.py"
    done = desk.run(python_programs / "python", program, MODEL=model, WIRE=wire)
    assert_done(desk, done.stdout, model, ("user", "user", "agent"))


@pytest.mark.parametrize("model", EVERY_FAMILY)
def test_llm_finishes_a_tool_loop(desk: Desk, python_programs: Path, model: str) -> None:
    entry = {
        "model_id": "mine",
        "model_name": model,
        "api_base": desk.gateway.url + "/v1",
        "api_key_name": "gateway",
        "supports_tools": True,
    }
    settings = desk.home / "llm"
    desk.write(settings / "extra-openai-models.yaml", json.dumps([entry]))
    desk.write(settings / "keys.json", json.dumps({"gateway": "any-key"}))
    tools = (
        (PROGRAMS / "task.py").read_text().partition("def read_file")[2].partition("def perform")
    )
    functions = "from pathlib import Path\n\ndef read_file" + tools[0]
    note, made = {"path": str(desk.note)}, {"path": str(desk.made), "content": "hello"}
    prompt = f"call read_file {json.dumps(note)} call write_file {json.dumps(made)}"
    done = desk.run(
        python_programs / "llm", "-m", "mine", "--functions", functions, prompt,
        LLM_USER_PATH=str(settings),
    )  # fmt: skip
    assert_done(desk, done.stdout, model)


def assert_done(
    desk: Desk, said: str, model: str, initiators: tuple[str, ...] = ("user", "agent")
) -> None:
    assert "Tool said:" in said, said
    assert SECRET in said
    desk.assert_written()
    desk.assert_served(model, initiators)
