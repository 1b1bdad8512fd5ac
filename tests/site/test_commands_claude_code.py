"""`--claude-code`: the models chosen, the line for each shell, the clipboard."""

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from copilot_site import claude_code, clipboard

AWKWARD = 'it\'s a "key" with $HOME; `id` & more\\'
MODELS = [
    ("claude-haiku-4.5", "Claude Haiku 4.5"),
    ("claude-opus-41", "Claude Opus 4.1"),
    ("claude-opus-4.7", "Claude Opus 4.7"),
    ("claude-sonnet-4.6", "Claude Sonnet 4.6"),
    ("claude-3.7-sonnet", "Claude Sonnet 3.7"),
    ("gpt-5.4", "GPT-5.4"),
    ("gpt-5.4-mini", "GPT-5.4 mini"),
]


@pytest.fixture
def tool_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of PATH, so that no clipboard of this machine is touched."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SHELL", "/bin/bash")
    return folder


def put_tool(folder: Path, name: str, script: str) -> None:
    tool = folder / name
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("ids", "main", "small"),
    [
        ([m for m, _ in MODELS], "claude-opus-4.7", "claude-haiku-4.5"),
        (["claude-sonnet-5", "claude-opus-4.7"], "claude-sonnet-5", "claude-sonnet-5"),
        (["claude-opus-5", "claude-sonnet-5"], "claude-opus-5", "claude-opus-5"),
        (["claude-opus-41", "claude-sonnet-4.6"], "claude-sonnet-4.6", "claude-sonnet-4.6"),
        (["claude-opus-4-10", "claude-opus-4-9"], "claude-opus-4-10", "claude-opus-4-10"),
        (["gpt-5.4-mini", "gpt-5.4", "o1"], "gpt-5.4-mini", "gpt-5.4-mini"),
        (["grok-code"], "grok-code", "grok-code"),
    ],
)
def test_the_newest_models_are_the_defaults(ids: list[str], main: str, small: str) -> None:
    models = [(model_id, model_id) for model_id in ids]

    assert claude_code.best_main(models) == main
    assert claude_code.best_small(models) == small


def test_without_a_clipboard_the_command_itself_is_given(tool_folder: Path) -> None:
    command = claude_code.offer("http://localhost:4141", MODELS, "cgw_secret", interactive=False)

    assert command == (
        "export ANTHROPIC_BASE_URL=http://localhost:4141 ANTHROPIC_AUTH_TOKEN=cgw_secret "
        "ANTHROPIC_MODEL=claude-opus-4.7 ANTHROPIC_DEFAULT_SONNET_MODEL=claude-opus-4.7 "
        "ANTHROPIC_SMALL_FAST_MODEL=claude-haiku-4.5 "
        "ANTHROPIC_DEFAULT_HAIKU_MODEL=claude-haiku-4.5 DISABLE_NON_ESSENTIAL_MODEL_CALLS=1 "
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 && claude"
    )


def test_with_a_clipboard_the_whole_command_is_copied_and_the_key_not_shown(
    tool_folder: Path, tmp_path: Path
) -> None:
    put_tool(tool_folder, "pbcopy", f"/bin/cat > {tmp_path}/copied")

    said = claude_code.offer("http://localhost:4141", MODELS, "cgw_0123456789", interactive=False)

    copied = (tmp_path / "copied").read_text()
    assert said.startswith("Copied: export ANTHROPIC_BASE_URL=http://localhost:4141")
    assert "cgw_0123456789" not in said
    assert "ANTHROPIC_AUTH_TOKEN=cgw_0123456789" in copied
    assert copied.endswith("&& claude")


def test_a_clipboard_tool_that_fails_or_hangs_does_not_stop_anything(
    tool_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clipboard, "TIMEOUT_S", 0.3)
    monkeypatch.setenv("DISPLAY", ":9")
    put_tool(tool_folder, "pbcopy", "exec /bin/sleep 30")
    put_tool(tool_folder, "xclip", "exit 1")

    assert clipboard.copy("text") is False


def test_a_dummy_key_serves_where_none_is_asked_for(tool_folder: Path, settings: Any) -> None:
    settings.REQUIRE_KEYS = False
    assert "AUTH_TOKEN=dummy " in claude_code.offer("http://x", MODELS, None, interactive=False)
    settings.REQUIRE_KEYS = True
    assert "AUTH_TOKEN=YOUR_KEY " in claude_code.offer("http://x", MODELS, None, interactive=False)


def test_ids_that_a_shell_could_misread_are_never_used(tool_folder: Path) -> None:
    models = [("claude-opus-9\n$(id)", "trap"), ("claude-opus-4.7", "Claude")]

    assert "$(id)" not in claude_code.offer("http://x", models, None, interactive=False)
    assert "no models are known yet" in claude_code.offer("http://x", models[:1], None, False)


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "fish"])
def test_every_value_comes_through_the_shell_unharmed(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    put_tool(tmp_path, "claude", 'printf %s "$ANTHROPIC_AUTH_TOKEN"')
    values = claude_code.variables("http://localhost:4141", "main", "small", AWKWARD)

    done = subprocess.run(
        [program, "-c", claude_code.script(values, shell)],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )

    assert done.stdout == AWKWARD


def test_windows_shells_get_their_own_form() -> None:
    values = {"A": "it's", "B": "2"}

    assert claude_code.script(values, "powershell") == "$env:A = 'it''s'; $env:B = '2'; claude"
    assert claude_code.script(values, "cmd") == 'set "A=it\'s" && set "B=2" && claude'
    assert claude_code.script(values, "fish") == ("set -gx A 'it\\'s'; set -gx B '2' && claude")
    with pytest.raises(ValueError):
        claude_code.script({"A": "%PATH%"}, "cmd")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/usr/bin/fish", "fish"),
        ("/bin/zsh", "zsh"),
        ("/usr/bin/pwsh", "powershell"),
        ("/bin/dash", "bash"),
        ("", "bash"),
    ],
)
def test_the_shell_is_the_persons_own(
    path: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", path)

    assert claude_code.shell() == name


def test_in_a_terminal_the_models_are_chosen_by_typing(terminal: Any) -> None:
    choose = (
        "import threading, django; django.setup(); from copilot_site import claude_code; "
        "models = [(m, m) for m in ('claude-opus-4.7', 'claude-haiku-4.5', 'gpt-5.4', 'grok')]; "
        # `start` asks from a thread, beside the server's loop.
        "t = threading.Thread(target=lambda: print("
        "claude_code.offer('http://x', models, None, True))); t.start(); t.join()"
    )
    screen = terminal(
        "-c",
        choose,
        DJANGO_SETTINGS_MODULE="copilot_site.settings",
        PATH="/nowhere",
        PROMPT_TOOLKIT_NO_CPR="1",
    )
    screen.wait_for("Model for Claude Code")
    screen.type("gpt")
    # The filter, drawn: what is typed before that would be lost.
    screen.wait_for("gpt\x1b[0m...")
    screen.type("\r")
    screen.wait_for("Small, fast model")
    screen.type("\r")

    assert screen.end() == 0, screen.text
    line = next(text for text in screen.text.splitlines() if "ANTHROPIC_BASE_URL" in text)
    assert "ANTHROPIC_MODEL=gpt-5.4 " in line
    assert "ANTHROPIC_SMALL_FAST_MODEL=claude-haiku-4.5 " in line
