"""How much Claude is to think, from what other formats say about reasoning.

Source: docs/upstream.md (messages leg: thinking and effort rules; models: supports).
"""

from typing import Any

from proxy.formats.canonical import ModelFacts, Reasoning, Request
from proxy.formats.messages.blocks import drop

KNOB = "reasoning_effort"
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_BUDGETS = {"low": 4096, "medium": 10240, "high": 24576, "xhigh": 32000, "max": 64000}
_LEAST_BUDGET = 1024


def apply(body: dict[str, Any], request: Request, model: ModelFacts, dropped: list[str]) -> None:
    """Write `thinking` and `output_config.effort` into a translated body that is otherwise done.

    A model that takes neither, a budget that does not fit below `max_tokens`, a forced tool, and a
    tool loop whose thinking is gone leave thinking out, and name it in `dropped`.
    """
    reasoning = request.reasoning
    if reasoning is None:
        return
    budget = reasoning.budget_tokens
    if reasoning.effort is None and budget is None and reasoning.mode is None:
        return
    if reasoning.mode == "disabled" or reasoning.effort in ("none", "minimal") or budget == 0:
        if model.adaptive_thinking:
            # These models think on their own account unless they are told not to.
            body["thinking"] = {"type": "disabled"}
        return
    if body.get("tool_choice", {}).get("type") in ("any", "tool"):
        drop(dropped, KNOB)
        return
    if model.adaptive_thinking:
        _adaptive(body, reasoning, model, dropped)
    else:
        _enabled(body, reasoning, model, dropped)
    if "thinking" in body:
        _remove_sampling(body, dropped)


def _adaptive(
    body: dict[str, Any], reasoning: Reasoning, model: ModelFacts, dropped: list[str]
) -> None:
    body["thinking"] = {"type": "adaptive", "display": reasoning.display or "summarized"}
    wanted = reasoning.effort or _effort_of(reasoning.budget_tokens)
    if wanted is None:
        return
    effort = _clamped(wanted, model.efforts)
    if effort is None:
        drop(dropped, KNOB)
    else:
        body.setdefault("output_config", {})["effort"] = effort


def _effort_of(budget: int | None) -> str | None:
    if budget is None or budget < 0:
        return None
    return next((effort for effort, most in _BUDGETS.items() if budget <= most), "max")


def _clamped(wanted: str, efforts: tuple[str, ...]) -> str | None:
    """The effort itself, else the nearest lower one the model knows, else its lowest."""
    if wanted in efforts:
        return wanted
    known = sorted((e for e in efforts if e in _EFFORTS), key=_EFFORTS.index)
    if not known or wanted not in _EFFORTS:
        return None
    lower = [e for e in known if _EFFORTS.index(e) < _EFFORTS.index(wanted)]
    return lower[-1] if lower else known[0]


def _enabled(
    body: dict[str, Any], reasoning: Reasoning, model: ModelFacts, dropped: list[str]
) -> None:
    least, most = model.min_thinking_budget, model.max_thinking_budget
    if (least is None and most is None) or _continues_without_thinking(body["messages"]):
        drop(dropped, KNOB)
        return
    budget = reasoning.budget_tokens
    if budget is None or budget < 0:
        budget = _BUDGETS.get(reasoning.effort or "medium", _BUDGETS["medium"])
    least = max(least or 0, _LEAST_BUDGET)
    limit = body["max_tokens"]
    # At least a quarter of the output is left for the answer where the smallest budget allows it.
    budget = min(max(budget, least), most or budget, max(limit * 3 // 4, least))
    if budget < _LEAST_BUDGET or budget >= limit:
        drop(dropped, KNOB)
        return
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _continues_without_thinking(messages: list[dict[str, Any]]) -> bool:
    """Whether a tool loop goes on whose assistant turn has no thinking at its head.

    With an explicit budget the upstream refuses such a turn.
    """
    if len(messages) < 2 or messages[-1]["role"] != "user":
        return False
    first = messages[-2]["content"][0]["type"]
    return messages[-1]["content"][0]["type"] == "tool_result" and first not in (
        "thinking",
        "redacted_thinking",
    )


def _remove_sampling(body: dict[str, Any], dropped: list[str]) -> None:
    """Thinking takes no temperature but 1, no top_k, and a top_p of 0.95 at least."""
    if body.get("temperature", 1) != 1:
        del body["temperature"]
        drop(dropped, "temperature")
    if body.get("top_p", 1) < 0.95:
        del body["top_p"]
        drop(dropped, "top_p")
    if body.pop("top_k", None) is not None:
        drop(dropped, "top_k")
