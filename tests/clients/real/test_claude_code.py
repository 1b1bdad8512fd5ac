"""Claude Code as people run it: `claude -p`, set up by the connect page's own lines."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.real.conftest import SECRET, Desk

QUIET = {
    "IS_SANDBOX": "1",  # Root may skip permissions only where it says that this is a sandbox.
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
}
MODELS = [
    ("claude-sonnet-4.6", "claude-sonnet-4.6"),
    ("claude-opus-5", "claude-opus-5"),
    # An alias of the program's own, newer than the catalog.
    ("claude-opus-5-5", "claude-opus-5"),
    ("claude-haiku-4-5-20251001", "claude-haiku-4.5"),
    ("claude-sonnet-5[1m]", "claude-sonnet-5"),
    ("gpt-5.5", "gpt-5.5"),
    ("gpt-4.1", "gpt-4.1"),
    ("gemini-3.1-pro-preview", "gemini-3.1-pro-preview"),
]


def claude(desk: Desk, programs: Path, model: str, prompt: str, *flags: str) -> dict[str, Any]:
    """The program's own account of the run."""
    desk.point("claude-code", model)
    done = desk.run(
        programs / ".bin/claude",
        "-p",
        prompt,
        "--output-format",
        "json",
        "--dangerously-skip-permissions",
        *flags,
        **QUIET,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["is_error"] is False
    return answer


def read_and_write(desk: Desk) -> str:
    read = json.dumps({"file_path": str(desk.note)})
    write = json.dumps({"file_path": str(desk.made), "content": "hello"})
    return f"call Read {read} call Write {write}"


@pytest.mark.parametrize(("asked", "used"), MODELS)
def test_claude_code_reads_and_writes_files_through_its_tools(
    desk: Desk, node_programs: Path, asked: str, used: str
) -> None:
    answer = claude(desk, node_programs, asked, read_and_write(desk))
    assert "Tool said:" in answer["result"]
    assert SECRET in answer["result"]
    desk.assert_written()
    desk.assert_served(used)
    # What the program believes to have used is what was recorded.
    records = desk.new_records()
    spent = answer["usage"]
    counted = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    assert sum(spent[name] for name in counted) == sum(r["input_tokens"] for r in records)
    assert spent["output_tokens"] == sum(r["output_tokens"] for r in records)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("claude-opus-5", "claude-opus-5"),
        ("gpt-5.5", "gpt-5.5"),
        ("gemini-3.1-pro-preview", "gemini-3.1-pro-preview"),
        # What one family has sealed, another one refuses.
        ("gpt-5.5", "claude-opus-5"),
        ("claude-opus-5", "gpt-5.5"),
        ("gemini-3.1-pro-preview", "claude-sonnet-4.6"),
        ("claude-sonnet-4.6", "gemini-3.1-pro-preview"),
    ],
)
def test_claude_code_goes_on_with_a_conversation_also_on_another_model(
    desk: Desk, node_programs: Path, before: str, after: str
) -> None:
    claude(desk, node_programs, before, read_and_write(desk))
    answer = claude(desk, node_programs, after, "and now", "--continue")
    assert answer["result"] == "You said: and now"
    desk.assert_served({before, after}, ("user", "agent", "user"))


@pytest.mark.parametrize("model", ["claude-opus-5", "gpt-5.5"])
def test_a_subagent_of_claude_code_is_billed_as_an_agent(
    desk: Desk, node_programs: Path, model: str
) -> None:
    task = {
        "description": "Write a file",
        "prompt": f"call Write {json.dumps({'file_path': str(desk.made), 'content': 'hello'})}",
        "subagent_type": "general-purpose",
        "run_in_background": False,
    }
    answer = claude(desk, node_programs, model, f"call Agent {json.dumps(task)}")
    assert "Tool said:" in answer["result"]
    desk.assert_written()
    desk.assert_served(model, ("user", "agent", "agent", "agent"))


@pytest.mark.parametrize("model", ["claude-opus-5", "gpt-5.5", "gpt-4.1"])
def test_claude_code_gets_an_answer_of_the_form_it_asks_for(
    desk: Desk, node_programs: Path, model: str
) -> None:
    schema = {
        "type": "object",
        "properties": {"birds": {"type": "array", "items": {"type": "string"}}},
        "required": ["birds"],
    }
    prompt = 'call StructuredOutput {"birds": ["heron"]}'
    answer = claude(desk, node_programs, model, prompt, "--json-schema", json.dumps(schema))
    assert answer["structured_output"] == {"birds": ["heron"]}
    desk.assert_served(model, ("user",))


def test_claude_code_learns_the_models_and_counts_its_context(
    desk: Desk, node_programs: Path
) -> None:
    desk.environment["CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY"] = "1"
    answer = claude(desk, node_programs, "claude-sonnet-4.6", "/context")
    assert "| System prompt |" in answer["result"]
    cached = (desk.home / ".claude/cache/gateway-models.json").read_text()
    assert "claude-opus-4.8" in cached
    # Dozens of counts at once: none refused, none billed.
    counted = desk.simulator.received_on("/v1/messages/count_tokens")
    assert {call.status for call in counted} <= {200}
    assert desk.simulator.generations == []
    assert desk.new_records() == []
