"""Gemini CLI as people run it: `gemini -p`, set up by the connect page's lines."""

import json
from pathlib import Path

import pytest

from tests.clients.real.conftest import SECRET, Desk

MODELS = ["gemini-3.1-pro-preview", "gemini-3.7-flash", "claude-sonnet-4.6", "gpt-5.5", "gpt-4.1"]


@pytest.mark.parametrize("model", MODELS)
def test_gemini_cli_reads_and_writes_files_through_its_tools(
    desk: Desk, node_programs: Path, model: str
) -> None:
    desk.point("gemini-cli", model)
    settings = desk.home / ".gemini/settings.json"
    quiet = {
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "general": {"disableAutoUpdate": True, "disableUpdateNag": True},
    }
    desk.write(settings, json.dumps(json.loads(settings.read_text()) | quiet))
    read = json.dumps({"file_path": str(desk.note)})
    write = json.dumps({"file_path": str(desk.made), "content": "hello"})
    done = desk.run(
        node_programs / ".bin/gemini",
        "--model",
        model,
        "--yolo",
        "-p",
        f"call read_file {read} call write_file {write}",
        GEMINI_CLI_TRUST_WORKSPACE="true",
    )
    assert "Tool said:" in done.stdout
    assert SECRET in done.stdout
    desk.assert_written()
    desk.assert_served(model)
