"""Quirks: their papers, their order, and that nothing breaks them."""

import copy
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import InvalidRequest
from proxy.formats.canonical import ModelFacts
from proxy.upstream.quirks import QUIRKS, Quirk, QuirkContext, apply, check

ROOT = Path(__file__).parents[3]
TESTS = Path(__file__).parent
MODELS = (
    ModelFacts(id="bare"),
    ModelFacts(
        id="thinker",
        vendor="Anthropic",
        max_output_tokens=64000,
        efforts=("low", "medium", "high"),
        adaptive_thinking=True,
        min_thinking_budget=1024,
        max_thinking_budget=32000,
    ),
    ModelFacts(
        id="budgeted",
        vendor="Anthropic",
        max_output_tokens=2000,
        min_thinking_budget=1024,
        max_thinking_budget=32000,
    ),
    ModelFacts(id="gpt", vendor="OpenAI", max_output_tokens=128000, efforts=("none", "high")),
)
ALL = {quirk for quirks in QUIRKS.values() for quirk in quirks}


@pytest.mark.parametrize("quirk", sorted(ALL, key=lambda each: (each.__module__, each.__name__)))
def test_every_quirk_carries_its_papers(quirk: Quirk) -> None:
    papers = inspect.getdoc(quirk) or ""
    assert re.search(r"([Ss]een|Reported) [^.]*20\d\d-\d\d", papers), papers
    assert "Source: docs/upstream.md#" in papers
    assert "Remove " in papers


def test_every_quirk_is_tested_by_name() -> None:
    tests = "".join(path.read_text() for path in TESTS.glob("test_quirks_*.py"))
    missing = [quirk.__name__ for quirk in ALL if f'"{quirk.__name__}"' not in tests]
    assert missing == []


def test_every_cited_fact_stands_in_the_document() -> None:
    document = (ROOT / "docs/upstream.md").read_text()
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).strip().replace(" ", "-")
        for line in document.splitlines()
        if line.startswith("#")
    } | set(re.findall(r'<a id="([a-z0-9-]+)">', document))
    cited = {
        anchor
        for path in (ROOT / "proxy/upstream").rglob("*.py")
        for anchor in re.findall(r"docs/upstream\.md#([a-z0-9-]+)", path.read_text())
    }
    assert cited - headings == set()


def test_an_endpoint_without_quirks_leaves_the_body_alone() -> None:
    body = {"input": ["a"], "service_tier": "auto"}
    assert apply("embeddings", body, MODELS[0], QuirkContext()) == []
    assert apply("unheard-of", body, MODELS[0], QuirkContext()) == []
    assert body == {"input": ["a"], "service_tier": "auto"}


def test_more_than_128_tools_are_refused_on_chat_completions_only() -> None:
    body = {"tools": [{"type": "function"}] * 129}
    with pytest.raises(InvalidRequest, match="at most 128 tools") as refused:
        check("chat_completions", body, MODELS[0])
    assert refused.value.param == "tools"
    check("chat_completions", {"tools": [{}] * 128}, MODELS[0])
    check("messages", body, MODELS[0])
    check("chat_completions", {"tools": "many"}, MODELS[0])


WORDS = """
model messages input system tools tool_choice stream stream_options thinking output_config
max_tokens max_completion_tokens max_output_tokens reasoning reasoning_effort effort
budget_tokens type role content text cache_control copilot_cache_control scope id name
function input_schema $schema defer_loading strict tool_use_id detail output
reasoning_content edits reasoning_opaque context_management metadata output_format store
include_usage odd
"""
KEYS = st.sampled_from(sorted(set(WORDS.split())))
KINDS = """
text tool_use tool_result user system enabled adaptive low max web_search_20250305
image_generation item_reference input_image x-anthropic-billing-header:
"""
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(sorted(set(KINDS.split())))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=40,
)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(sorted(QUIRKS)),
    st.dictionaries(KEYS, VALUES, max_size=10),
    st.sampled_from(MODELS),
    st.booleans(),
    st.frozensets(st.sampled_from(["mid-conversation-system-2026-04-07", "x"])),
)
def test_no_body_breaks_the_quirks(
    endpoint: str, body: dict[str, Any], model: ModelFacts, stream: bool, betas: frozenset[str]
) -> None:
    before = copy.deepcopy(body)
    context = QuirkContext(betas=betas, stream=stream)

    fired = apply(endpoint, body, model, context)

    assert len(fired) == len(set(fired))
    json.dumps(body)
    if not fired and not any(value is None for value in before.values()):
        assert body == before
    again = copy.deepcopy(body)
    apply(endpoint, body, model, QuirkContext(betas=betas, stream=stream))
    assert body == again
