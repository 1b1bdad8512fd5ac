"""What the vendors' own servers would do, done by the gateway: compaction and web search."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.testing import SimulatorThread
from tests.clients.real.conftest import Desk
from tests.clients.real.outside import Outside
from tests.clients.real.test_claude_code import claude
from tests.clients.real.test_codex import codex, shell_call
from tests.conftest import Gateway


@pytest.mark.parametrize("model", ["gpt-5.5", "claude-sonnet-4.6", "gpt-4.1"])
def test_codex_compacts_its_conversation_and_goes_on(
    desk: Desk, node_programs: Path, model: str
) -> None:
    """Its built-in provider leaves that to the server: the turn fails without exactly one item."""
    settings = (
        f'openai_base_url="{desk.gateway.url}/v1"',
        # So few that the first tool's result is too much.
        "model_auto_compact_token_limit=50",
    )
    key = {"OPENAI_API_KEY": "any-key", "CODEX_API_KEY": "any-key"}
    done = codex(desk, node_programs, "-m", model, shell_call(desk), settings=settings, **key)
    assert "context compacted" in done.stdout + done.stderr
    assert "The conversation before this point was compacted" in done.stdout
    desk.assert_written()
    desk.gateway.wait_for(lambda: len(desk.new_records()) == 3)
    rules = [record["initiator_rule"] for record in desk.new_records()]
    assert rules == ["last_item_user", "declared_compaction", "last_item_assistant"], desk.story()
    assert all(record["outcome"] == "completed" for record in desk.new_records())


def test_claude_code_searches_the_web(
    new_gateway: Callable[..., Gateway],
    simulator: SimulatorThread,
    outside: Outside,
    node_programs: Path,
    tmp_path: Path,
) -> None:
    gateway = new_gateway(GATEWAY_WEB_SEARCH="true")
    desk = Desk(tmp_path / "home", gateway, simulator, outside)
    # Its tool makes a request of its own, in which the server is to search.
    query = json.dumps({"query": "please call web_search now"})
    desk.environment["CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS"] = "1"
    answer = claude(desk, node_programs, "claude-sonnet-4.6", f"call WebSearch {query}")
    assert "https://example.com/source" in answer["result"]
    used = answer["modelUsage"]["claude-sonnet-4.6"]
    assert used["webSearchRequests"] == 1
    assert [g.path for g in simulator.generations].count("/responses") == 1
