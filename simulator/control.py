"""The control endpoints under `/_sim/`: watch the simulator and tell it what to play."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from simulator import device_flow, installations, metering
from simulator.refusals import JSON
from simulator.scenarios import SCENARIOS, UnknownScenario, make_play
from simulator.server import Request, Responder
from simulator.state import Json, State


def play(state: State, document: Json) -> Json:
    state.plays.append(make_play(document))
    return {"plays": len(state.plays)}


# How often the real upstream fails, by one heavy user's month.
# Source: docs/upstream.md (failures after 200, catalogue).
SOAK: tuple[tuple[str, Json, float], ...] = (
    ("cut", {"at": "mid_block"}, 0.001),
    ("reset", {}, 0.005),
    ("upload_timeout", {}, 0.00005),
    ("cancelled_499", {}, 0.00003),
    ("session_limit", {"retry_after": 5}, 0.00002),
    ("overflow_responses", {}, 0.0003),
)


def soak(state: State, document: Json) -> Json:
    """Play faults as rare as in reality, or `{"factor": n}` times as often."""
    factor = float(document.get("factor", 1))
    for name, args, probability in SOAK:
        play(state, {"scenario": name, "args": args, "probability": probability * factor})
    return {"plays": len(state.plays)}


def clear(state: State, document: Json) -> Json:
    """Forget all plays."""
    state.plays.clear()
    return {}


def reset(state: State, document: Json) -> Json:
    """Put everything back to the start; `{"keep_tokens": true}` leaves who signed in signed in."""
    state.reset(keep_tokens=bool(document.get("keep_tokens")))
    return {}


def config(state: State, document: Json) -> Json:
    state.config.change(document)
    return {name: getattr(state.config, name) for name in state.config.__slots__}


def accounts(state: State, document: Json) -> Json:
    account = state.add_account(document)
    tokens = [token.value for token in state.github_tokens.values() if token.login == account.login]
    return {"login": account.login, "tokens": tokens}


def apps(state: State, document: Json) -> Json:
    """Register a GitHub App by its public key, with its installations."""
    app = installations.register(state, document)
    return {"issuer": app.issuer, "installations": sorted(app.installations)}


def models(state: State, document: Json) -> Json:
    """`{"add": entry or entries, "remove": id or ids, "replace": entries}`."""
    if "replace" in document:
        state.models = list(document["replace"])
        state.index_models()
    for entry in _listed(document.get("add")):
        state.add_model(entry)
    for model_id in _listed(document.get("remove")):
        state.remove_model(model_id)
    return {"models": len(state.models)}


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def device_approve(state: State, document: Json) -> Json:
    code = device_flow.find(state, document.get("user_code"))
    if code is None:
        raise KeyError("no sign-in waits for approval")
    device_flow.approve(state, code, document.get("login") or state.config.device_auto_login)
    return {"user_code": code.user_code, "login": code.login}


def device_deny(state: State, document: Json) -> Json:
    code = device_flow.find(state, document.get("user_code"))
    if code is None:
        raise KeyError("no sign-in waits for approval")
    code.answer = "denied"
    return {"user_code": code.user_code}


def device_expire(state: State, document: Json) -> Json:
    for code in state.device_codes.values():
        code.expires_at = state.now()
    return {"expired": len(state.device_codes)}


def revoke_copilot_tokens(state: State, document: Json) -> Json:
    """Make the Copilot tokens of one login, or of all, answer 401 from now on."""
    login = document.get("login")
    hit = [token for token in state.copilot_tokens.values() if login in (None, token.login)]
    for token in hit:
        token.revoked = True
    return {"revoked": len(hit)}


def revoke_github_tokens(state: State, document: Json) -> Json:
    """Make GitHub tokens answer 401: one by `token`, or all of a `login`."""
    value, login = document.get("token"), document.get("login")
    hit = [
        token
        for token in state.github_tokens.values()
        if value == token.value or login == token.login
    ]
    for token in hit:
        token.revoked = True
    return {"revoked": len(hit)}


def journal(state: State, query: dict[str, str]) -> Json:
    since = query.get("since", "0")
    received = state.journal.since(int(since) if since.isdigit() else 0)
    if "path" in query:
        received = [item for item in received if item.path == query["path"]]
    return {"requests": [item.as_dict() for item in received]}


def ledger(state: State, query: dict[str, str]) -> Json:
    return metering.ledger_document(state)


def stats(state: State, query: dict[str, str]) -> Json:
    return {
        "open_streams": state.journal.open_generations(),
        "accounts": {
            account.login: {
                "exchanges": account.exchanges,
                "user_polls": account.user_polls,
                "credits_used": account.used,
            }
            for account in state.accounts.values()
        },
        "copilot_tokens": len(state.copilot_tokens),
        "plays": len(state.plays),
    }


def scenarios(state: State, query: dict[str, str]) -> Json:
    rows = sorted(SCENARIOS.values(), key=lambda item: item.name)
    return {"scenarios": [{"name": row.name, "path": row.path, "about": row.about} for row in rows]}


_READS: dict[str, Callable[[State, dict[str, str]], Json]] = {
    "journal": journal,
    "ledger": ledger,
    "stats": stats,
    "scenarios": scenarios,
}
WRITES: dict[str, Callable[[State, Json], Json]] = {
    "play": play,
    "clear": clear,
    "soak": soak,
    "reset": reset,
    "config": config,
    "accounts": accounts,
    "apps": apps,
    "models": models,
    "device/approve": device_approve,
    "device/deny": device_deny,
    "device/expire": device_expire,
    "revoke_copilot_tokens": revoke_copilot_tokens,
    "revoke_github_tokens": revoke_github_tokens,
}


async def handle(state: State, request: Request, out: Responder) -> None:
    """Answer a control request; faults in it are told as 400 with a reason."""
    name = request.path.removeprefix("/_sim/")
    status = 200
    document: Json = {}
    try:
        if request.method == "POST" and name in WRITES:
            given = orjson.loads(request.body) if request.body else {}
            document = WRITES[name](state, given)
        elif request.method == "GET" and name in _READS:
            document = _READS[name](state, request.query)
        else:
            status, document = 404, {"error": f"unknown control: {name}"}
    except (UnknownScenario, KeyError, TypeError, ValueError, AttributeError) as error:
        status, document = 400, {"error": f"{type(error).__name__}: {error}"}
    await out.send(status, [("content-type", JSON)], orjson.dumps(document))
