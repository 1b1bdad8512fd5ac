"""opencode as people run it: `opencode run`, set up by the connect page's configuration."""

import json
from pathlib import Path

import pytest

from tests.clients.real.conftest import SECRET, Desk

QUIET = {
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
    "OPENCODE_DISABLE_SHARE": "1",
}
PACKAGES = ["@ai-sdk/anthropic", "@ai-sdk/openai", "@ai-sdk/openai-compatible"]
PATCH = "*** Begin Patch\n*** Add File: made.txt\n+hello\n*** End Patch"


@pytest.mark.parametrize(
    "model", ["claude-sonnet-4.6", "gpt-5.5", "gpt-4.1", "gemini-3.1-pro-preview"]
)
@pytest.mark.parametrize("package", PACKAGES)
def test_opencode_reads_and_writes_files_through_its_tools(
    desk: Desk, node_programs: Path, package: str, model: str
) -> None:
    desk.point("opencode", model)
    config = desk.folder / "opencode.json"
    config.write_text(config.read_text().replace("@ai-sdk/anthropic", package))
    prompt = f"call read {json.dumps({'filePath': str(desk.note)})} "
    if model.startswith("gpt-5"):
        # Models of this family get patches instead of the other tools that write.
        prompt += f"call apply_patch {json.dumps({'patchText': PATCH})}"
    else:
        prompt += f"call write {json.dumps({'filePath': str(desk.made), 'content': 'hello'})}"
    done = desk.run(
        node_programs / ".bin/opencode",
        "run",
        typed=prompt,  # On the command line it would be put in quotes.
        # It wants to install a library for plugins; nobody has that library here.
        npm_config_registry=desk.gateway.url,
        **QUIET,
    )
    assert "Tool said:" in done.stdout
    assert SECRET in done.stdout
    desk.assert_written()
    # The title of the session is asked for on the side.
    desk.assert_served(model, side_requests=1)
