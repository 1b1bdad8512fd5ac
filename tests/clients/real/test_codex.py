"""Codex as people run it: `codex exec`, set up by the connect page's configuration."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.clients.real.conftest import SECRET, Desk

# What Codex would ask the world for beside the model.
QUIET = (
    "check_for_update_on_startup=false",
    "analytics.enabled=false",
    "features.plugins=false",
    "features.apps=false",
)


FLAGS = ("--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")


def codex(
    desk: Desk, programs: Path, *words: str, settings: tuple[str, ...] = (), **environment: str
) -> "subprocess.CompletedProcess[str]":
    configured = [word for setting in (*QUIET, *settings) for word in ("-c", setting)]
    program = programs / ".bin/codex"
    return desk.run(program, "exec", *configured, *FLAGS, *words, **environment)


def shell_call(desk: Desk) -> str:
    command = {"cmd": f"cat {desk.note}; printf hello > {desk.made}"}
    return f"call exec_command {json.dumps(command)}"


@pytest.mark.parametrize(
    "model", ["gpt-5.5", "gpt-5.3-codex", "claude-sonnet-4.6", "gpt-4.1", "gemini-3.7-flash"]
)
def test_codex_reads_and_writes_files_through_its_shell(
    desk: Desk, node_programs: Path, model: str
) -> None:
    desk.point("codex", model)
    said = codex(desk, node_programs, shell_call(desk)).stdout
    assert "Tool said:" in said
    assert SECRET in said
    desk.assert_written()
    desk.assert_served(model)


def test_codex_runs_scripts_where_its_tools_come_as_an_input_item(
    desk: Desk, node_programs: Path
) -> None:
    # Models that it knows as code-mode models get one tool that takes JavaScript.
    desk.point("codex", "gpt-5.6-sol")
    command = json.dumps({"cmd": f"cat {desk.note}; printf hello > {desk.made}"})
    script = f"const done = await tools.exec_command({command}); text(done.output)"
    said = codex(desk, node_programs, f"call exec {script}").stdout
    assert "Tool said:" in said
    assert SECRET in said
    desk.assert_written()
    desk.assert_served("gpt-5.6-sol")


def test_codex_applies_a_patch(desk: Desk, node_programs: Path) -> None:
    # A free-text tool; offered for models of its own catalogue only.
    desk.point("codex", "gpt-5.5")
    patch = "*** Begin Patch\n*** Add File: made.txt\n+hello\n*** End Patch"
    said = codex(desk, node_programs, f"call apply_patch {patch}").stdout
    assert "Tool said:" in said
    desk.assert_written()
    desk.assert_served("gpt-5.5")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("gpt-5.5", "gpt-5.5"),
        ("claude-sonnet-4.6", "claude-sonnet-4.6"),
        # What one family has sealed, another one refuses.
        ("gpt-5.5", "claude-sonnet-4.6"),
        ("gemini-3.7-flash", "gpt-5.5"),
    ],
)
def test_codex_takes_a_conversation_up_again_also_on_another_model(
    desk: Desk, node_programs: Path, before: str, after: str
) -> None:
    desk.point("codex", before)
    codex(desk, node_programs, shell_call(desk))
    desk.point("codex", after)
    said = codex(desk, node_programs, "resume", "--last", "and now").stdout
    assert "You said: and now" in said
    desk.assert_served({before, after}, ("user", "agent", "user"))


@pytest.mark.parametrize("model", ["gpt-5.5", "claude-sonnet-4.6"])
def test_codex_compacts_a_long_conversation(desk: Desk, node_programs: Path, model: str) -> None:
    desk.point("codex", model)
    codex(desk, node_programs, shell_call(desk))
    small = "model_auto_compact_token_limit=2000"
    said = codex(desk, node_programs, "resume", "--last", "and now", settings=(small,)).stdout
    assert "You said: and now" in said
    # The summary is the program's own wish.
    desk.assert_served(model, ("user", "agent", "agent", "user"))


def test_codex_with_its_built_in_provider_falls_back_to_http_at_once(
    desk: Desk, node_programs: Path
) -> None:
    # It opens a websocket first; anything but a 426 would cost seven attempts.
    settings = (f'openai_base_url="{desk.gateway.url}/v1"', 'model="gpt-5.5"')
    done = codex(desk, node_programs, shell_call(desk), settings=settings, CODEX_API_KEY="any-key")
    assert "Reconnecting" not in done.stderr
    assert SECRET in done.stdout
    desk.assert_written()
    desk.assert_served("gpt-5.5")


@pytest.mark.parametrize("model", ["gpt-5.5", "claude-sonnet-4.6"])
def test_codex_lets_the_gateway_compact_with_its_built_in_provider(
    desk: Desk, node_programs: Path, model: str
) -> None:
    built_in = (f'openai_base_url="{desk.gateway.url}/v1"', f'model="{model}"')
    codex(desk, node_programs, shell_call(desk), settings=built_in, CODEX_API_KEY="any-key")
    small = (*built_in, "model_auto_compact_token_limit=2000")
    words = ("resume", "--last", "and now")
    said = codex(desk, node_programs, *words, settings=small, CODEX_API_KEY="any-key").stdout
    assert "You said: and now" in said
    desk.assert_served(model, ("user", "agent", "agent", "user"))
