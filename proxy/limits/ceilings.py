"""Ceilings of one request: office hours, context, output and effort.

Hours and context refuse; output and effort are lowered in the body that goes up, whatever format the
client speaks, and the answer says so in `x-gateway-limited`.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from accounts.clock import now
from accounts.limits import EFFORTS, Allowance, exceeds, strictest_effort
from proxy.errors import ContextOverflow, Forbidden
from proxy.exchange import Exchange

# A length says less of tokens than a count: what is only guessed may be a tenth above the ceiling.
GUESS_MARGIN = 1.1
# What the upstream thinks when nobody says anything. Source: docs/upstream.md#models.
USUAL_EFFORT = {"messages": "high", "chat_completions": "medium", "responses": "medium"}
# Thinking tokens that an effort stands for where a body names a budget instead.
BUDGETS = {"none": 0, "minimal": 1024, "low": 4096, "medium": 10240, "high": 24576, "xhigh": 32000}
OUTPUT_FIELDS = {
    "messages": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "chat_completions": ("max_completion_tokens", "max_tokens"),
}


def check(exchange: Exchange, allowances: Iterable[Allowance]) -> None:
    """Refuse what is out of hours, or longer than one of `allowances` lets through."""
    moment: datetime | None = None
    for one in allowances:
        if one.office_hours is not None:
            moment = moment or now()
            if not one.office_hours.is_open(moment):
                raise _closed(one, moment)
        if one.max_context_tokens and exchange.estimate is not None:
            _check_context(exchange, one)


def _closed(one: Allowance, moment: datetime) -> Forbidden:
    assert one.office_hours is not None
    opens_at = one.office_hours.opens_at(moment)
    return Forbidden(
        f"{one.who[0].upper()}{one.who[1:]} may be used in office hours only "
        f"({one.office_hours.text}). They begin again at {opens_at:%Y-%m-%d %H:%M} UTC.",
        code="outside_office_hours",
        retry_after_s=(opens_at - moment).total_seconds(),
    )


def _check_context(exchange: Exchange, one: Allowance) -> None:
    estimate = exchange.estimate
    assert estimate is not None
    margin = GUESS_MARGIN if estimate.method == "bytes" else 1.0
    if estimate.input_tokens > one.max_context_tokens * margin:
        # The vendors' own words would leave out whose limit it is.
        raise ContextOverflow(
            f"prompt is too long: {estimate.input_tokens} tokens > {one.max_context_tokens} maximum, "
            f"which an administrator has set for {one.who}."
        )


def lower(
    exchange: Exchange,
    body: dict[str, Any],
    endpoint_format: str,
    allowances: Iterable[Allowance],
    efforts: tuple[str, ...],
) -> None:
    """Keep output and effort of a body for the upstream within `allowances`; `efforts`: the model's."""
    limiting = [one for one in allowances if one.max_output_tokens or one.max_effort]
    if not limiting:
        return
    said = [
        *_lower_output(body, endpoint_format, limiting),
        *_lower_effort(body, endpoint_format, limiting, efforts),
    ]
    if said:
        text = ", ".join(said)
        exchange.disclosed["x-gateway-limited"] = "".join(
            c if " " <= c <= "~" else "?" for c in text
        )[:500]


def _lower_output(
    body: dict[str, Any], endpoint_format: str, limiting: list[Allowance]
) -> list[str]:
    names = OUTPUT_FIELDS.get(endpoint_format, ())
    strict = min(
        (a for a in limiting if a.max_output_tokens),
        key=lambda a: a.max_output_tokens,
        default=None,
    )
    if strict is None or not names:
        return []
    limit = strict.max_output_tokens
    asked = [n for n in names if isinstance(body.get(n), int) and not isinstance(body[n], bool)]
    if not asked:
        # Nobody has said how long; without a word the upstream goes to the model's own end.
        body[names[-1]] = limit
        return []
    said = []
    for name in asked:
        if body[name] > limit:
            said.append(f"{name} {body[name]} -> {limit} ({strict.name})")
            body[name] = limit
    return said


def _lower_effort(
    body: dict[str, Any], endpoint_format: str, limiting: list[Allowance], efforts: tuple[str, ...]
) -> list[str]:
    strict = strictest_effort(limiting)
    if strict is None:
        return []
    asked = _effort_in(body, endpoint_format)
    ceiling = _known(strict.max_effort, efforts) if efforts else strict.max_effort
    # A model that knows efforts thinks its usual one where nobody says any.
    usual = USUAL_EFFORT.get(endpoint_format, "medium") if efforts else "none"
    said = []
    if exceeds(asked or usual, ceiling):
        _set_effort(body, endpoint_format, ceiling)
        said.append(f"effort {asked or 'unsaid'} -> {ceiling} ({strict.name})")
    return said + _lower_thinking(body, strict)


def _known(ceiling: str, efforts: tuple[str, ...]) -> str:
    """The strongest effort of the model within the ceiling, else its weakest."""
    known = sorted((e for e in efforts if e in EFFORTS), key=EFFORTS.index)
    within = [e for e in known if not exceeds(e, ceiling)]
    return within[-1] if within else known[0] if known else ""


def _effort_in(body: dict[str, Any], endpoint_format: str) -> str | None:
    match endpoint_format:
        case "messages":
            holder = body.get("output_config")
        case "responses":
            holder = body.get("reasoning")
        case _:
            holder = {"effort": body.get("reasoning_effort")}
    effort = holder.get("effort") if isinstance(holder, dict) else None
    return effort if isinstance(effort, str) else None


def _set_effort(body: dict[str, Any], endpoint_format: str, effort: str) -> None:
    match endpoint_format:
        case "messages":
            held = body.get("output_config")
            body["output_config"] = {**(held if isinstance(held, dict) else {}), "effort": effort}
        case "responses":
            held = body.get("reasoning")
            body["reasoning"] = {**(held if isinstance(held, dict) else {}), "effort": effort}
        case _:
            body["reasoning_effort"] = effort


def _lower_thinking(body: dict[str, Any], strict: Allowance) -> list[str]:
    """A Claude of before efforts says in tokens how long it is to think."""
    thinking = body.get("thinking")
    most = BUDGETS.get(strict.max_effort)
    if not isinstance(thinking, dict) or most is None:
        return []
    asked = thinking.get("budget_tokens")
    if thinking.get("type") != "enabled" or not isinstance(asked, int) or asked <= most:
        return []
    if most < 1024:
        body.pop("thinking")
    else:
        body["thinking"] = {**thinking, "budget_tokens": most}
    return [f"thinking {asked} -> {most} tokens ({strict.name})"]
