"""Which endpoint a model is asked through."""

import pytest

from proxy.upstream.endpoints import COUNT_TOKENS, EMBEDDINGS, MODELS, choose

CLAUDE = ("/v1/messages", "/chat/completions")
GPT = ("/responses", "/chat/completions", "ws:/responses")


@pytest.mark.parametrize(
    ("source", "supported", "vendor", "path"),
    [
        ("messages", CLAUDE, "Anthropic", "/v1/messages"),
        ("chat_completions", CLAUDE, "Anthropic", "/chat/completions"),
        ("responses", CLAUDE, "Anthropic", "/v1/messages"),
        ("gemini", CLAUDE, "Anthropic", "/v1/messages"),
        ("responses", GPT, "OpenAI", "/responses"),
        ("messages", GPT, "OpenAI", "/responses"),
        ("messages", GPT, "Azure OpenAI", "/responses"),
        ("chat_completions", ("/responses", "ws:/responses"), "OpenAI", "/responses"),
        ("chat_completions", ("/responses",), "xAI", "/responses"),
        ("messages", ("/responses",), "Microsoft", "/responses"),
        ("messages", ("/chat/completions",), "Google", "/chat/completions"),
        ("messages", ("/responses", "/chat/completions"), "Google", "/chat/completions"),
        ("gemini", ("/responses",), "Moonshot", "/responses"),
        ("responses", ("/chat/completions",), "OpenAI", "/chat/completions"),
    ],
)
def test_the_clients_own_format_wins_and_else_the_vendors(
    source: str, supported: tuple[str, ...], vendor: str, path: str
) -> None:
    assert choose(source, supported, vendor).path == path


@pytest.mark.parametrize("supported", [(), ("ws:/responses",), ("/something/new",)])
def test_a_model_that_lists_nothing_known_is_asked_through_chat_completions(
    supported: tuple[str, ...],
) -> None:
    assert choose("messages", supported, "OpenAI").path == "/chat/completions"


def test_paths_have_no_v1_but_for_messages() -> None:
    assert [each.path for each in (COUNT_TOKENS, EMBEDDINGS, MODELS)] == [
        "/v1/messages/count_tokens",
        "/embeddings",
        "/models",
    ]
