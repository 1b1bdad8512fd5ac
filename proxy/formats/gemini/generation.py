"""`generationConfig`: sampling, thinking, and the format of the output."""

from typing import Any, Literal

from proxy.errors import InvalidRequest, UnsupportedContent
from proxy.formats.canonical import OutputFormat, Reasoning, Request
from proxy.formats.gemini.fields import (
    Body,
    json_object,
    optional_count,
    optional_flag,
    optional_number,
    optional_string,
    others,
    proto,
    strings,
    wrong,
)
from proxy.formats.gemini.schemas import json_schema

WHERE = "generationConfig"
FORMAT_FIELDS = ("responseMimeType", "responseSchema", "responseJsonSchema")
_LEVELS = ("MINIMAL", "LOW", "MEDIUM", "HIGH")
_MAX_CANDIDATES = 8
_KNOWN = frozenset(
    {
        "temperature",
        "topP",
        "topK",
        "maxOutputTokens",
        "stopSequences",
        "candidateCount",
        "seed",
        "presencePenalty",
        "frequencyPenalty",
        "responseLogprobs",
        "logprobs",
        "thinkingConfig",
        *FORMAT_FIELDS,
    }
)
_THINKING = frozenset({"includeThoughts", "thinkingBudget", "thinkingLevel"})


def read_sampling(request: Request, config: Body) -> None:
    def number(name: str) -> float | None:
        return optional_number(config.get(name), f"{WHERE}.{name}")

    def count(name: str, least: int) -> int | None:
        return optional_count(config.get(name), f"{WHERE}.{name}", least)

    request.temperature = number("temperature")
    request.top_p = number("topP")
    request.presence_penalty = number("presencePenalty")
    request.frequency_penalty = number("frequencyPenalty")
    request.top_k = count("topK", 0)
    request.max_output_tokens = count("maxOutputTokens", 1)
    request.seed = count("seed", -(2**31))
    request.top_logprobs = count("logprobs", 0)
    request.logprobs = optional_flag(config.get("responseLogprobs"), f"{WHERE}.responseLogprobs")
    request.n = count("candidateCount", 1)
    if request.n is not None and request.n > _MAX_CANDIDATES:
        raise wrong(f"{WHERE}.candidateCount", f"a number from 1 to {_MAX_CANDIDATES}")
    if config.get("stopSequences") is not None:
        request.stop = strings(config["stopSequences"], f"{WHERE}.stopSequences")


def reasoning(config: Body) -> tuple[bool | None, Reasoning | None]:
    """Whether thoughts are to be shown, and how much to think.

    A budget of -1 leaves the amount to the model, 0 switches thinking off.
    """
    if config.get("thinkingConfig") is None:
        return None, None
    where = f"{WHERE}.thinkingConfig"
    entry = proto(config["thinkingConfig"], where)
    shown = optional_flag(entry.get("includeThoughts"), f"{where}.includeThoughts")
    budget = optional_count(entry.get("thinkingBudget"), f"{where}.thinkingBudget", -1)
    level = (optional_string(entry.get("thinkingLevel"), f"{where}.thinkingLevel") or "").upper()
    if level and level not in _LEVELS and level != "THINKING_LEVEL_UNSPECIFIED":
        raise wrong(f"{where}.thinkingLevel", "MINIMAL, LOW, MEDIUM or HIGH")
    effort = level.lower() if level in _LEVELS else None
    # `enabled` is the word for thinking that is shown; it adds nothing to an effort or a budget.
    mode: Literal["adaptive", "enabled", "disabled"] | None = "enabled" if shown else None
    if budget == 0:
        mode = "disabled"
    elif budget == -1:
        mode, budget = "adaptive", None
    if mode is None and budget is None and effort is None:
        return shown, None
    display = "summarized" if shown and mode == "adaptive" else None
    return shown, Reasoning(effort=effort, budget_tokens=budget, mode=mode, display=display)


def output_format(config: Body) -> tuple[Body | None, OutputFormat | None]:
    """The fields that ask for a format, as they came, and what they ask for."""
    fields = {name: config[name] for name in FORMAT_FIELDS if config.get(name) is not None}
    if not fields:
        return None, None
    mime = optional_string(fields.get("responseMimeType"), f"{WHERE}.responseMimeType")
    schema: Body | None = None
    if "responseJsonSchema" in fields:
        schema = json_object(fields["responseJsonSchema"], f"{WHERE}.responseJsonSchema")
    elif "responseSchema" in fields:
        schema = json_schema(fields["responseSchema"], f"{WHERE}.responseSchema")
    if mime not in (None, "application/json", "text/plain"):
        raise InvalidRequest(
            f"The responseMimeType {mime[:60]!r} is not served here; application/json with a "
            "schema and text/plain are.",
            param=f"{WHERE}.responseMimeType",
        )
    if schema is not None:
        if mime == "text/plain":
            raise wrong(f"{WHERE}.responseMimeType", "application/json beside a schema")
        return fields, OutputFormat(kind="json_schema", schema=schema)
    return fields, OutputFormat(kind="text" if mime == "text/plain" else "json_object")


def rest(config: Body) -> Body:
    """What has no canonical name. Raises `UnsupportedContent` when more than text is wanted."""
    found = others(config, _KNOWN)
    wanted: Any = found.get("responseModalities")
    if isinstance(wanted, list) and any(str(one).upper() != "TEXT" for one in wanted):
        raise UnsupportedContent(
            "Copilot's models answer with text only.", param=f"{WHERE}.responseModalities"
        )
    if isinstance(wanted, list):
        del found["responseModalities"]
    thinking = config.get("thinkingConfig")
    if isinstance(thinking, dict):
        for name, value in others(proto(thinking, WHERE), _THINKING).items():
            found[f"thinkingConfig.{name}"] = value
    return found
