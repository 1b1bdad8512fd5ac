"""Generation: the way common to the three legs, from a checked body to a charged answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from simulator import metering
from simulator.delivery import send_body, send_stream
from simulator.frames import Frame
from simulator.metering import Usage, count_tokens
from simulator.prompts import Prompt, Reply, compose
from simulator.refusals import (
    CATALOGUE,
    JSON,
    invalid_body,
    model_not_supported,
    text,
    unsupported_api,
)
from simulator.script import Call
from simulator.state import PLAN_NAMES, Account, Json

DEFAULT_ENDPOINT = "/chat/completions"


@dataclass(slots=True)
class Generation:
    """One answer in the making: what a leg needs to write it down."""

    call: Call
    entry: Json
    body: Json
    prompt: Prompt
    usage: Usage
    reply: Reply

    @property
    def model(self) -> str:
        return str(self.entry["id"])

    @property
    def login(self) -> str:
        return self.call.known_account.login

    @property
    def vendor(self) -> str:
        return str(self.entry.get("vendor", ""))

    def cost(self) -> Json | None:
        """Return `copilot_usage`, or None where this account or model has none."""
        if not self.call.known_account.token_based_billing:
            return None
        if self.call.script.usage_edit is not None and self.call.script.usage({}) is None:
            return None
        return metering.copilot_usage(self.entry, self.usage)

    def with_cost(self, document: Json) -> Json:
        cost = self.cost()
        if cost is not None:
            document["copilot_usage"] = cost
        return document

    def text_pieces(self, words: str) -> list[str]:
        """Cut words as they stream; at least two pieces when there are two characters."""
        size = max(1, min(self.call.state.config.chunk_chars, (len(words) + 1) // 2))
        return [words[start : start + size] for start in range(0, len(words), size)]

    def reply_pieces(self) -> list[str]:
        if self.reply.text_pieces is not None:
            return self.reply.text_pieces
        return self.text_pieces(self.reply.text)

    def argument_pieces(self, arguments: str) -> list[str]:
        count = self.reply.argument_pieces
        if not count:
            return self.text_pieces(arguments)
        size = max(1, -(-len(arguments) // count))
        return [arguments[start : start + size] for start in range(0, len(arguments), size)]


@dataclass(frozen=True, slots=True)
class Leg:
    """One of the three generation endpoints.

    `read` checks the body and gives the prompt or raises Refusal; `stream` and `whole` write the
    reply down in the leg's format; `sorts_keys` tells of alphabetical keys.
    """

    path: str
    read: Callable[[Call, Json, Json], Prompt]
    stream: Callable[[Generation], list[Frame]]
    whole: Callable[[Generation], Json]
    sorts_keys: bool


async def answer(call: Call, leg: Leg) -> None:
    """Answer one call of a leg; whatever becomes of it, what was produced is charged."""
    body = json_object(call)
    entry = find_model(call, body, leg.path)
    account = call.known_account
    if account.is_exhausted and is_premium(account, entry):
        raise CATALOGUE["quota_exceeded"]
    try:
        generation = prepare(call, leg, entry, body)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # Types that the upstream checks and the simulator relies on.
        raise invalid_body(f"Invalid body: {error}") from None
    streams = bool(body.get("stream")) != call.script.swap_streaming
    counted = [0]
    try:
        if streams:
            await send_stream(call, leg.stream(generation), counted)
        else:
            option = orjson.OPT_SORT_KEYS if leg.sorts_keys else 0
            document = orjson.dumps(leg.whole(generation), option=option)
            counted[0] = generation.usage.output
            await send_body(call, document, JSON)
    finally:
        _charge(generation, leg.path, counted[0])


def json_object(call: Call) -> Json:
    if not isinstance(call.body, dict):
        raise text(400, "Bad Request\n")
    return call.body


def prepare(call: Call, leg: Leg, entry: Json, body: Json) -> Generation:
    prompt = leg.read(call, entry, body)
    reply = compose(prompt)
    for change in call.script.replies:
        change(reply, prompt)
    usage = metering.measure_prompt(call.state, call.known_account, str(entry["id"]), prompt)
    usage.reasoning = count_tokens(reply.thinking)
    words = sum(count_tokens(item.arguments) + 8 for item in reply.calls)
    usage.output = max(1, usage.reasoning + words + _text_tokens(reply))
    return Generation(call, entry, body, prompt, usage, reply)


def _text_tokens(reply: Reply) -> int:
    if reply.text_pieces is not None:
        return sum(count_tokens(piece) for piece in reply.text_pieces)
    return count_tokens(reply.text)


def find_model(call: Call, body: Json, path: str) -> Json:
    """Return the entry of the asked model, or refuse as the upstream does.

    Unknown ids, models whose terms are not accepted and models that the plan does not include all
    look the same from outside; a known model on the wrong leg is told apart.
    """
    model = body.get("model")
    entry: Json | None = call.state.models_by_id.get(model) if isinstance(model, str) else None
    account = call.known_account
    if entry is None or not _is_enabled(entry, account):
        raise model_not_supported()
    allowed = entry.get("billing", {}).get("restricted_to")
    if allowed is not None and PLAN_NAMES.get(account.plan, account.plan) not in allowed:
        raise model_not_supported()
    kind = entry.get("capabilities", {}).get("type", "chat")
    endpoints = entry.get("supported_endpoints")
    if kind == "embeddings":
        endpoints = ["/embeddings"]
    elif kind == "completion":
        endpoints = []
    if path not in (endpoints if endpoints is not None else [DEFAULT_ENDPOINT]):
        raise unsupported_api(str(model), path)
    return entry


def _is_enabled(entry: Json, account: Account) -> bool:
    policy = entry.get("policy")
    if not isinstance(policy, dict) or policy.get("state", "enabled") == "enabled":
        return True
    return entry["id"] in account.enabled_models


def is_premium(account: Account, entry: Json) -> bool:
    billing = entry.get("billing", {})
    if not account.token_based_billing:
        return bool(billing.get("multiplier", 1))
    default = billing.get("token_prices", {}).get("default", {})
    return bool(default.get("output_price", 0))


def limit_of(entry: Json, name: str) -> int | None:
    value: Any = entry.get("capabilities", {}).get("limits", {}).get(name)
    return value if isinstance(value, int) else None


def supports(entry: Json, name: str) -> Any:
    return entry.get("capabilities", {}).get("supports", {}).get(name)


def _charge(generation: Generation, path: str, counted: int) -> None:
    call = generation.call
    usage = generation.usage
    is_whole = call.out.ended == "complete"
    if not is_whole:
        usage.output = counted if call.script.is_endless else min(usage.output, counted)
        usage.reasoning = min(usage.reasoning, usage.output)
    if not call.out.started:
        # The client left or the connection broke before anything was said; the prompt was read.
        usage.output = 0
    metering.charge(
        call.state,
        call.known_account,
        entry=generation.entry,
        usage=usage,
        path=path,
        initiator=call.header("x-initiator"),
        outcome="complete" if is_whole else call.out.ended or "client_closed",
    )
