"""The model list that the simulator starts with, in the shape of `GET /models`.

Recorded list of 2026-08-20 with prices of autumn 2026, plus a few older entries that keep old
shapes alive. Source: docs/upstream.md (model list, prices).
"""

from __future__ import annotations

import copy
from typing import Any

Entry = dict[str, Any]

CHAT = "/chat/completions"
RESPONSES = "/responses"
MESSAGES = "/v1/messages"
SOCKET = "ws:/responses"

LOW = ["low", "medium", "high"]
LOW_MAX = ["low", "medium", "high", "max"]
LOW_XHIGH = ["low", "medium", "high", "xhigh"]
LOW_XHIGH_MAX = ["low", "medium", "high", "xhigh", "max"]
NONE_XHIGH = ["none", "low", "medium", "high", "xhigh"]
NONE_MAX = ["none", "low", "medium", "high", "xhigh", "max"]

PAID = ["pro", "pro_plus", "max", "business", "enterprise"]
BIG = ["pro_plus", "max", "business", "enterprise"]

# USD per million tokens: input, cached, output, cache write (None: not priced apart).
Price = tuple[float, float, float, float | None]
OPUS: Price = (5, 0.5, 25, 6.25)
SONNET: Price = (3, 0.3, 15, 3.75)
SONNET_5: Price = (2, 0.2, 10, 2.5)
HAIKU: Price = (1, 0.1, 5, 1.25)


def _credits(price: Price, context_max: int) -> Entry:
    """Turn USD into credits (0.01 USD) per million tokens."""
    tier: Entry = {
        "input_price": round(price[0] * 100, 4),
        "cache_read_price": round(price[1] * 100, 4),
        "output_price": round(price[2] * 100, 4),
        "context_max": context_max,
    }
    if price[3] is not None:
        tier["cache_write_price"] = round(price[3] * 100, 4)
    return tier


def _prices(
    limits: tuple[float, float, float], price: Price, long: tuple[int, Price] | None
) -> Entry:
    context = int(limits[0] * 1000)
    prices: Entry = {"batch_size": 1_000_000}
    prices["default"] = _credits(price, long[0] if long else context)
    if long:
        prices["long_context"] = _credits(long[1], context)
    return prices


def _model(
    id_: str,
    name: str,
    vendor: str,
    limits: tuple[float, float, float],
    *,
    endpoints: list[str] | None,
    price: Price,
    efforts: list[str] | None = None,
    long: tuple[int, Price] | None = None,
    images: int = 1,
    multiplier: float = 1,
    policy: str | None = "enabled",
    restricted_to: list[str] | None = None,
    category: str | None = "versatile",
    **supports: Any,
) -> Entry:
    """Build a chat entry; `limits` are context, prompt and output in thousands of tokens."""
    window, prompt, output = (int(value * 1000) for value in limits)
    entry: Entry = {
        "id": id_,
        "object": "model",
        "name": name,
        "vendor": vendor,
        "version": id_,
        "preview": "preview" in id_,
        "model_picker_enabled": category is not None,
        "is_chat_default": id_ == "gpt-5.3-codex",
        "is_chat_fallback": id_ == "gpt-5.3-codex",
        "billing": {
            "is_premium": multiplier > 0,
            "multiplier": multiplier,
            "token_prices": _prices(limits, price, long),
        },
        "capabilities": {
            "object": "model_capabilities",
            "type": "chat",
            "family": id_,
            "tokenizer": "o200k_base",
            "limits": {
                "max_context_window_tokens": window,
                "max_prompt_tokens": prompt,
                "max_output_tokens": output,
            },
            "supports": {"streaming": True, "tool_calls": True, "parallel_tool_calls": True},
        },
    }
    capabilities = entry["capabilities"]
    if category is not None:
        entry["model_picker_category"] = category
        cost = price[2]
        entry["model_picker_price_category"] = (
            "low"
            if cost <= 5
            else "medium"
            if cost <= 15
            else "high"
            if cost <= 30
            else "very_high"
        )
    if endpoints is not None:
        entry["supported_endpoints"] = endpoints
    if policy is not None:
        entry["policy"] = {"state": policy, "terms": f"Enable access to {name}."}
    if restricted_to is not None:
        entry["billing"]["restricted_to"] = restricted_to
    if images:
        media = ["image/jpeg", "image/png", "image/webp", "image/gif"]
        capabilities["limits"]["vision"] = {
            "max_prompt_images": images,
            "max_prompt_image_size": 3145728,
            "supported_media_types": media + (["application/pdf"] if vendor == "Anthropic" else []),
        }
        capabilities["supports"]["vision"] = True
    if efforts is not None:
        capabilities["supports"]["reasoning_effort"] = efforts
    if vendor == "Anthropic":
        capabilities["limits"]["max_non_streaming_output_tokens"] = 16000
    capabilities["supports"] |= {"structured_outputs": True} | supports
    return entry


def _claude(id_: str, name: str, price: Price, efforts: list[str] | None, **more: Any) -> Entry:
    limits = more.pop("limits", (1000, 936, 64))
    more.setdefault("endpoints", [MESSAGES, CHAT])
    more.setdefault("restricted_to", None)
    if efforts is not None:
        more["adaptive_thinking"] = True
    more.setdefault("min_thinking_budget", 1024)
    more.setdefault("max_thinking_budget", 32000)
    return _model(id_, name, "Anthropic", limits, price=price, efforts=efforts, **more)


def _embedding(id_: str, max_inputs: int | None) -> Entry:
    limits: Entry = {} if max_inputs is None else {"max_inputs": max_inputs}
    return {
        "id": id_,
        "object": "model",
        "name": id_.replace("text-embedding", "Embedding V"),
        "vendor": "Azure OpenAI",
        "version": id_,
        "preview": False,
        "model_picker_enabled": False,
        "capabilities": {
            "object": "model_capabilities",
            "type": "embeddings",
            "family": id_.removesuffix("-inference"),
            "tokenizer": "cl100k_base",
            "limits": limits,
            "supports": {"dimensions": True},
        },
    }


def _old_gpt_4() -> Entry:
    return _model(
        "gpt-4",
        "GPT 4",
        "Azure OpenAI",
        (32.768, 32.768, 4.096),
        endpoints=None,
        price=(10, 10, 30, None),
        images=0,
        multiplier=0,
        policy=None,
        category=None,
    )


def default_models() -> list[Entry]:
    """Return a fresh copy of the list; ids may repeat, as they do upstream."""
    azure, openai, google = "Azure OpenAI", "OpenAI", "Google"
    grok: Price = (2, 0.5, 6, None)
    grok_long = (200_000, (4.0, 1.0, 12.0, None))
    gemini_pro: Price = (2, 0.2, 12, None)
    flash: Price = (0.75, 0.075, 3.75, None)
    free: Price = (0, 0, 0, None)
    opus: Entry = {"images": 1, "category": "powerful"}
    gpt_tail = [RESPONSES, SOCKET]
    entries = [
        _claude("claude-opus-4.6", "Claude Opus 4.6", OPUS, LOW_MAX, multiplier=3, **opus),
        _claude("claude-opus-4.7", "Claude Opus 4.7", OPUS, LOW_XHIGH_MAX, multiplier=7.5, **opus),
        _claude("claude-opus-4.8", "Claude Opus 4.8", OPUS, LOW_XHIGH_MAX, multiplier=7.5, **opus),
        _claude("claude-opus-5", "Claude Opus 5", OPUS, LOW_XHIGH_MAX, multiplier=7.5, **opus),
        _claude(
            "claude-sonnet-4.6",
            "Claude Sonnet 4.6",
            SONNET,
            LOW_MAX,
            endpoints=[CHAT, MESSAGES],
            images=5,
        ),
        _claude("claude-sonnet-5", "Claude Sonnet 5", SONNET_5, LOW_XHIGH_MAX, images=5),
        _claude(
            "claude-haiku-4.5",
            "Claude Haiku 4.5",
            HAIKU,
            None,
            limits=(200, 136, 64),
            endpoints=[CHAT, MESSAGES],
            images=5,
            multiplier=0.33,
            category="lightweight",
        ),
        _claude(
            "claude-sonnet-4.5",
            "Claude Sonnet 4.5",
            SONNET,
            None,
            limits=(200, 168, 32),
            endpoints=[CHAT, MESSAGES],
            images=5,
        ),
        _model(
            "gemini-3.1-pro-preview",
            "Gemini 3.1 Pro (Preview)",
            google,
            (1000, 936, 64),
            endpoints=[CHAT],
            price=gemini_pro,
            efforts=LOW,
            long=(200_000, (4, 0.4, 18, None)),
            images=10,
            category="powerful",
        ),
        *(
            _model(
                f"gemini-{number}-flash",
                f"Gemini {number} Flash",
                google,
                (1000, 936, 64),
                endpoints=[CHAT],
                price=price,
                efforts=LOW,
                images=10,
                multiplier=0.33,
                category="lightweight",
            )
            for number, price in (("3.5", (1.5, 0.15, 9, None)), ("3.6", flash), ("3.7", flash))
        ),
        _model(
            "gpt-5.3-codex",
            "GPT-5.3-Codex",
            openai,
            (400, 272, 128),
            endpoints=gpt_tail,
            price=(1.75, 0.175, 14, None),
            efforts=LOW_XHIGH,
            policy=None,
        ),
        _model(
            "gpt-5.4-mini",
            "GPT-5.4 mini",
            openai,
            (400, 272, 128),
            endpoints=gpt_tail,
            price=(0.75, 0.075, 4.5, None),
            efforts=NONE_XHIGH,
            multiplier=0.33,
            category="lightweight",
        ),
        _model(
            "gpt-5.4",
            "GPT-5.4",
            openai,
            (1050, 922, 128),
            endpoints=[RESPONSES, CHAT, SOCKET],
            price=(2.5, 0.25, 15, None),
            efforts=NONE_XHIGH,
            long=(272_000, (5, 0.5, 22.5, None)),
        ),
        _model(
            "gpt-5.5",
            "GPT-5.5",
            openai,
            (1050, 922, 128),
            endpoints=gpt_tail,
            price=(5, 0.5, 30, None),
            efforts=NONE_XHIGH,
            long=(272_000, (10, 1, 45, None)),
            restricted_to=PAID,
            category="powerful",
        ),
        _model(
            "gpt-5.6-luna",
            "GPT-5.6 Luna",
            openai,
            (1050, 922, 128),
            endpoints=gpt_tail,
            price=(0.2, 0.02, 1.2, 0.25),
            efforts=NONE_MAX,
            long=(200_000, (0.4, 0.04, 2.4, 0.5)),
            category="lightweight",
        ),
        _model(
            "gpt-5.6-terra",
            "GPT-5.6 Terra",
            openai,
            (1050, 922, 128),
            endpoints=gpt_tail,
            price=(2, 0.2, 12, 2.5),
            efforts=NONE_MAX,
        ),
        _model(
            "gpt-5.6-sol",
            "GPT-5.6 Sol",
            openai,
            (1050, 922, 128),
            endpoints=gpt_tail,
            price=(5, 0.5, 30, 6.25),
            efforts=NONE_MAX,
            restricted_to=BIG,
            category="powerful",
        ),
        _model(
            "grok-4.5",
            "Grok 4.5",
            "xAI",
            (500, 372, 128),
            endpoints=[RESPONSES],
            price=grok,
            efforts=LOW,
            long=grok_long,
        ),
        _model(
            "grok-4.6",
            "Grok 4.6",
            "xAI",
            (500, 372, 128),
            endpoints=[RESPONSES],
            price=grok,
            efforts=LOW_XHIGH,
            long=grok_long,
            policy="disabled",
        ),
        *(
            _model(
                id_,
                name,
                "Microsoft",
                (256, 128, 128),
                endpoints=[RESPONSES],
                price=(0.25, 0.025, 2, None),
                efforts=LOW,
                category="lightweight",
            )
            for id_, name in (
                ("mai-code-1-flash-picker", "MAI Code 1 Flash"),
                ("mai-code-1.1-flash", "MAI Code 1.1 Flash"),
            )
        ),
        _model(
            "gpt-5-mini",
            "GPT-5 mini",
            azure,
            (264, 128, 64),
            endpoints=[CHAT, RESPONSES, SOCKET],
            price=(0.25, 0.025, 2, None),
            efforts=LOW,
            multiplier=0,
            policy=None,
            category="lightweight",
        ),
        _model(
            "gpt-4.1",
            "GPT-4.1",
            azure,
            (128, 128, 16.384),
            endpoints=None,
            price=(2, 0.5, 8, None),
            multiplier=0,
            policy=None,
        ),
        *(
            _model(
                id_,
                "GPT-4o",
                azure,
                (128, 64, 16.384),
                endpoints=None,
                price=(2.5, 1.25, 10, None),
                multiplier=0,
                policy=None,
                category=None,
            )
            for id_ in ("gpt-4o", "gpt-4o-2024-11-20", "gpt-4o-2024-08-06")
        ),
        _model(
            "gpt-4o-mini-2024-07-18",
            "GPT-4o mini",
            azure,
            (128, 12.288, 4.096),
            endpoints=None,
            price=free,
            images=0,
            multiplier=0,
            policy=None,
            category=None,
        ),
        _old_gpt_4(),
        _old_gpt_4(),
        _model(
            "trajectory-compaction",
            "Trajectory Compaction",
            "Fireworks",
            (262.144, 246, 16.384),
            endpoints=[CHAT],
            price=free,
            images=0,
            multiplier=0,
            policy=None,
            category=None,
        ),
        _completion("gpt-41-copilot"),
        _embedding("text-embedding-3-small", 512),
        _embedding("text-embedding-3-small-inference", None),
        _embedding("text-embedding-ada-002", 512),
    ]
    return copy.deepcopy(entries)


def _completion(id_: str) -> Entry:
    return {
        "id": id_,
        "object": "model",
        "name": "GPT-4.1 Copilot",
        "vendor": "Azure OpenAI",
        "version": id_,
        "preview": False,
        "model_picker_enabled": False,
        "capabilities": {
            "object": "model_capabilities",
            "type": "completion",
            "family": "gpt-4.1",
            "tokenizer": "o200k_base",
            "supports": {"streaming": True},
        },
    }


def as_listed(entry: Entry, api_version: str, *, token_billed: bool) -> Entry:
    """Return the entry as `GET /models` shows it under `X-GitHub-Api-Version`.

    Before 2026-06-01 an account on token billing sees no prices, only multiplier 1 and a warning;
    2026-06-01 shows the flat price form; 2026-08-01 and later the tiers.
    Source: docs/upstream.md (api version).
    """
    shown = copy.deepcopy({key: value for key, value in entry.items() if key != "scenario"})
    billing = shown.get("billing")
    if not isinstance(billing, dict):
        return shown
    prices = billing.get("token_prices")
    if not token_billed:
        billing.pop("token_prices", None)
    elif api_version < "2026-06-01":
        billing.pop("token_prices", None)
        billing |= {"is_premium": True, "multiplier": 1}
        shown["warning_message"] = "Update your client to see the prices of this model."
    elif api_version < "2026-08-01" and isinstance(prices, dict):
        default = prices.get("default", {})
        billing["token_prices"] = {
            "batch_size": prices.get("batch_size", 1_000_000),
            "input_price": default.get("input_price", 0),
            "output_price": default.get("output_price", 0),
            "cache_price": default.get("cache_read_price", 0),
        }
    if token_billed and api_version >= "2026-06-01":
        billing["multiplier"] = 1
        billing["is_premium"] = True
    return shown
