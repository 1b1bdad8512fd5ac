"""Quirks of /chat/completions. Source: docs/upstream.md#chat-fields."""

from itertools import takewhile
from typing import Any, Final

from proxy.formats.canonical import ModelFacts
from proxy.upstream.quirks.body import (
    Quirk,
    QuirkContext,
    clamp_effort,
    dicts_of,
    drop_unknown,
    integer,
    pop_fields,
    watches,
)
from proxy.upstream.quirks.replays import foreign_opaque

KNOWN_FIELDS: Final = frozenset(
    {
        "frequency_penalty",
        "function_call",
        "functions",
        "intent",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning_effort",
        "response_format",
        "seed",
        "snippy",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "thinking_budget",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
    }
)
SILENT_FIELDS: Final = frozenset({"metadata"})
REFUSED_FIELDS: Final = ("service_tier", "store", "safety_identifier")
ANTHROPIC_FIELDS: Final = (
    "thinking",
    "top_k",
    "metadata",
    "cache_control",
    "output_config",
    "context_management",
)
OPENAI_VENDORS: Final = frozenset({"openai", "azure openai"})
MAX_CACHE_MARKERS: Final = 4
CACHE_FIELD: Final = "copilot_cache_control"


@watches(*REFUSED_FIELDS)
def refused_fields(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Copilot keeps no answers and sells no service tiers: these fields are refused.

    Seen by 2026-07 on /responses and /v1/messages. Source: docs/upstream.md#service-tier.
    Remove when the upstream takes the fields.
    """
    gone = pop_fields(body, REFUSED_FIELDS)
    context.drop(*gone)
    return bool(gone)


@watches(*ANTHROPIC_FIELDS)
def anthropic_fields(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Copilot refuses Anthropic's own fields here, also for Claude models.

    Seen 2026-05-13. Source: docs/upstream.md#chat-fields.
    Remove when the endpoint takes them.
    """
    gone = pop_fields(body, ANTHROPIC_FIELDS)
    context.drop(*(name for name in gone if name not in SILENT_FIELDS))
    return bool(gone)


def unknown_fields(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """What no known client of this endpoint sends stays here, above all keys and addresses.

    Some libraries put `api_key` and `api_base` into the body. Seen 2026-11-20.
    Source: docs/upstream.md#chat-fields.
    Remove never: an allow-list is the safe policy; extend it as fields are seen to be accepted.
    """
    return drop_unknown(body, context, known=KNOWN_FIELDS, silent=SILENT_FIELDS)


@watches("cache_control", CACHE_FIELD)
def cache_markers(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Here the prompt cache marker is `copilot_cache_control`, on a message or tool, at most four.

    Clients of Claude models send Anthropic's `cache_control` on messages, content parts and tools.
    Other vendors cache by themselves. The last four markers stay: each covers all before it.
    Seen 2026-03-28. Source: docs/upstream.md#chat-fields.
    Remove when the endpoint takes `cache_control`.
    """
    acted = False
    carriers = [*dicts_of(body.get("tools")), *dicts_of(body.get("messages"))]
    for carrier in carriers:
        parts = [carrier.get("function"), *dicts_of(carrier.get("content"))]
        found = [
            holder.pop("cache_control")
            for holder in (carrier, *parts)
            if isinstance(holder, dict) and "cache_control" in holder
        ]
        if any(marker is not None for marker in found) and model.vendor.lower() == "anthropic":
            carrier.setdefault(CACHE_FIELD, {"type": "ephemeral"})
        acted = acted or bool(found)
    marked = [carrier for carrier in carriers if CACHE_FIELD in carrier]
    for carrier in marked[:-MAX_CACHE_MARKERS]:
        del carrier[CACHE_FIELD]
        acted = True
    return acted


def prompt_cache(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Of Claude's prompts nothing is cached without markers, and OpenAI's format has none.

    A request without any gets those that VS Code sets: on the last tool, the last system message at
    the head and the last two turns of the user. Seen 2026-03-28.
    Source: docs/upstream.md#prompt-cache. Remove when the upstream caches by itself.
    """
    if model.vendor.lower() != "anthropic":
        return False
    tools, messages = dicts_of(body.get("tools")), dicts_of(body.get("messages"))
    if any(CACHE_FIELD in carrier for carrier in (*tools, *messages)):
        return False
    head = list(takewhile(lambda m: m.get("role") in ("system", "developer"), messages))
    turns = [
        message
        for message, after in zip(messages, [*messages[1:], {}], strict=False)
        if message.get("role") in ("user", "tool") and after.get("role") not in ("user", "tool")
    ]
    ends = [*tools[-1:], *head[-1:], *turns[-2:]]
    for end in ends:
        end[CACHE_FIELD] = {"type": "ephemeral"}
    return bool(ends)


@watches("reasoning_content", "reasoning", "reasoning_details")
def reasoning_history(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Copilot's reasoning is `reasoning_text`; clients replay what we showed, `reasoning_content`.

    With its `reasoning_opaque` the text goes back under Copilot's name, alone it proves nothing and
    is left out. Seen 2026-03-28. Source: docs/upstream.md#reasoning.
    Remove when the endpoint knows `reasoning_content`.
    """
    acted = False
    for message in dicts_of(body.get("messages")):
        gone = [
            name
            for name in ("reasoning_content", "reasoning", "reasoning_details")
            if name in message
        ]
        for name in gone:
            text = message.pop(name)
            if name == "reasoning_content" and text and message.get("reasoning_opaque"):
                message.setdefault("reasoning_text", text)
        acted = acted or bool(gone)
    return acted


@watches("tools", "tool_choice", "parallel_tool_calls")
def idle_tool_fields(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """An empty `tools`, and what speaks of tools without any, is answered with 400.

    Seen 2026-11. Source: docs/upstream.md#chat-fields.
    Remove never: OpenAI's own rule.
    """
    acted = False
    if "tools" in body and body["tools"] in (None, []):
        del body["tools"]
        acted = True
    if "tools" not in body:
        acted = bool(pop_fields(body, ("tool_choice", "parallel_tool_calls"))) or acted
    return acted


def output_limit(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Without a limit the upstream's own default may cut an answer short.

    Other gateways fill in what the catalog says of the model, seen 2025-10; that more is refused is
    inferred. Source: docs/upstream.md#chat-fields.
    Remove when the upstream's own default is the model's limit.
    """
    most = model.max_output_tokens
    if not most:
        return False
    asked = [name for name in ("max_completion_tokens", "max_tokens") if body.get(name) is not None]
    if not asked:
        body["max_tokens"] = most
        return True
    acted = False
    for name in asked:
        wanted = integer(body[name])
        if wanted is not None and wanted > most:
            body[name] = most
            acted = True
    return acted


def output_limit_name(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """OpenAI's reasoning models refuse `max_tokens`, others know nothing but `max_tokens`.

    Seen 2026-11-20. Source: docs/upstream.md#chat-fields.
    Remove when all models take both names.
    """
    new, old = "max_completion_tokens", "max_tokens"
    if not (model.vendor.lower() in OPENAI_VENDORS and model.efforts):
        new, old = old, new
    if body.get(old) is None:
        return False
    limit = body.pop(old)
    if body.get(new) is None:
        body[new] = limit
    return True


@watches("reasoning_effort")
def effort(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Copilot answers 400 `invalid_reasoning_effort` to an effort that the model does not list.

    Seen by 2026-07. Source: docs/upstream.md#models.
    Remove never: the list of a model is a fact of the catalog.
    """
    if not clamp_effort(body, "reasoning_effort", model.efforts):
        return False
    context.drop("reasoning_effort")
    return True


def stream_usage(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """OpenAI and Azure models report usage in a stream only when asked, and refuse to be asked
    outside of one.

    We account for every stream; the tap withholds the chunk from a client that did not ask.
    Seen 2026-04-28. Source: docs/upstream.md#chat-stream.
    Remove when usage always comes.
    """
    options = body.get("stream_options")
    if not context.stream:
        return bool(pop_fields(body, ("stream_options",)))
    if isinstance(options, dict) and options.get("include_usage") is True:
        return False
    body["stream_options"] = {
        **(options if isinstance(options, dict) else {}),
        "include_usage": True,
    }
    return True


QUIRKS: Final[tuple[Quirk, ...]] = (
    refused_fields,
    anthropic_fields,
    unknown_fields,
    cache_markers,
    prompt_cache,
    foreign_opaque,
    reasoning_history,
    idle_tool_fields,
    output_limit,
    output_limit_name,
    effort,
    stream_usage,
)
