"""Quirks of thinking and effort on /v1/messages. Source: docs/upstream.md#thinking."""

from typing import Any, Final

from proxy.formats.canonical import ModelFacts
from proxy.upstream.quirks.body import Quirk, QuirkContext, clamp_effort, dicts_of, integer, watches
from proxy.upstream.quirks.replays import is_thoughtless_loop

# The share of the model's largest budget that an effort stands for, in both directions.
SHARES: Final = {"none": 0.0, "minimal": 0.0, "low": 0.125, "medium": 0.5}
USUAL_EFFORT: Final = "medium"
# Anthropic's own minimum, for models whose catalog entry does not say it.
MIN_BUDGET: Final = 1024


@watches("thinking")
def adaptive_only(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """400 `"thinking.type.enabled" is not supported for this model` where thinking is adaptive.

    The budget becomes the effort that comes nearest. Who asks with a budget expects to see the
    thinking, which adaptive models leave out unless told. Seen 2026-04-16.
    Source: docs/upstream.md#thinking. Remove when adaptive models take budgets.
    """
    thinking = _thinking(body, "enabled")
    if not model.adaptive_thinking or thinking is None:
        return False
    budget = integer(thinking.pop("budget_tokens", None))
    thinking["type"] = "adaptive"
    thinking.setdefault("display", "summarized")
    config = body.get("output_config")
    config = config if isinstance(config, dict) else {}
    if budget and model.max_thinking_budget and model.efforts and config.get("effort") is None:
        body["output_config"] = {**config, "effort": _effort_of(budget, model.max_thinking_budget)}
    return True


@watches("thinking")
def no_adaptive(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """400 `thinking: Input tag 'adaptive' found ...` on models that know budgets only.

    The effort becomes a share of the model's largest budget. A model whose catalog entry names no
    budgets does not think: the wish is dropped. Reported by 2026-08.
    Source: docs/upstream.md#thinking. Remove when all listed models think adaptively.
    """
    thinking = _thinking(body, "adaptive")
    if model.adaptive_thinking or thinking is None:
        return False
    most = model.max_thinking_budget or model.min_thinking_budget
    if not most:
        _drop_thinking(body, context)
        return True
    config = body.get("output_config")
    asked = config.get("effort") if isinstance(config, dict) else None
    share = SHARES.get(asked if isinstance(asked, str) else USUAL_EFFORT, 1.0)
    thinking["type"] = "enabled"
    thinking["budget_tokens"] = int(most * share)
    return True


@watches("thinking")
def thinking_budget(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """A budget below the model's minimum, above its maximum, or not below `max_tokens` is refused.

    Where `max_tokens` leaves no room for the minimum the model answers without thinking.
    Seen 2026-08. Source: docs/upstream.md#thinking. Remove never: facts of the catalog.
    """
    thinking = _thinking(body, "enabled")
    if model.adaptive_thinking or thinking is None:
        return False
    least = model.min_thinking_budget or MIN_BUDGET
    most = max(least, model.max_thinking_budget or 0)
    asked = integer(thinking.get("budget_tokens"))
    budget = max(least, asked if asked is not None else most)
    if model.max_thinking_budget:
        budget = min(budget, most)
    room = integer(body.get("max_tokens"))
    if room is not None and room <= least:
        _drop_thinking(body, context)
        return True
    if room is not None:
        budget = min(budget, room - 1)
    thinking["budget_tokens"] = budget
    return budget != asked


@watches("output_config")
def effort(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """`output_config.effort` is refused on models without efforts, and when it is not listed.

    Seen by 2026-08. Source: docs/upstream.md#thinking.
    Remove never: the list of a model is a fact of the catalog.
    """
    config = body.get("output_config")
    if not isinstance(config, dict) or not clamp_effort(config, "effort", model.efforts):
        return False
    if not config:
        del body["output_config"]
    context.drop("output_config.effort")
    return True


@watches("thinking")
def thoughtless_loop(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """400 `Expected thinking or redacted_thinking, but found tool_use` where a budget is set.

    A tool loop whose turn began without thinking (another model's was left out, or the client
    keeps none) goes on without it. Adaptive thinking takes such turns. Reported by 2026-08.
    Source: docs/upstream.md#thinking. Remove never: Anthropic's own rule.
    """
    if _thinking(body, "enabled") is None or not is_thoughtless_loop(body.get("messages")):
        return False
    _drop_thinking(body, context)
    return True


THINKING_QUIRKS: Final[tuple[Quirk, ...]] = (
    adaptive_only,
    no_adaptive,
    thoughtless_loop,
    thinking_budget,
    effort,
)


def _thinking(body: dict[str, Any], kind: str) -> dict[str, Any] | None:
    thinking = body.get("thinking")
    return thinking if isinstance(thinking, dict) and thinking.get("type") == kind else None


def _effort_of(budget: int, most: int) -> str:
    share = budget / most
    return "low" if share <= SHARES["low"] else "medium" if share <= SHARES["medium"] else "high"


def _drop_thinking(body: dict[str, Any], context: QuirkContext) -> None:
    """Without thinking, edits that clear thinking are refused as well."""
    del body["thinking"]
    context.drop("thinking")
    management = body.get("context_management")
    edits = management.get("edits") if isinstance(management, dict) else None
    if isinstance(management, dict) and isinstance(edits, list):
        kept = [edit for edit in dicts_of(edits) if not _clears_thinking(edit)]
        if kept:
            body["context_management"] = {**management, "edits": kept}
        else:
            del body["context_management"]


def _clears_thinking(edit: dict[str, Any]) -> bool:
    return str(edit.get("type")).startswith("clear_thinking")
