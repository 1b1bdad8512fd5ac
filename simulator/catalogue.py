"""The model endpoints that do not generate: the list, policies, Auto selection.

Source: docs/upstream.md (models, others).
"""

from __future__ import annotations

import orjson

from simulator import minting
from simulator.delivery import copilot_headers, send_body
from simulator.models_data import as_listed
from simulator.refusals import CATALOGUE, JSON, capi, text
from simulator.script import Call
from simulator.state import Json

# What an absent `X-GitHub-Api-Version` is taken for.
OLDEST_VERSION = "2025-04-01"


async def models(call: Call) -> None:
    """`GET /models`: the list, more or less of it by the api version."""
    account = call.known_account
    version = call.header("x-github-api-version") or OLDEST_VERSION
    entries = [
        as_listed(entry, version, token_billed=account.token_based_billing)
        for entry in call.state.models
    ]
    for entry in entries:
        if entry["id"] in account.enabled_models and isinstance(entry.get("policy"), dict):
            entry["policy"]["state"] = "enabled"
    document = orjson.dumps({"object": "list", "data": entries})
    await send_body(call, document, f"{JSON}; charset=utf-8")


async def policy(call: Call) -> None:
    """`POST /models/{id}/policy`: accept a model's terms; an organisation's seat may not."""
    model_id = call.request.path.removeprefix("/models/").removesuffix("/policy")
    account = call.known_account
    if model_id not in call.state.models_by_id:
        raise capi(404, "model not found", "not_found")
    if account.organisation is not None:
        raise capi(403, "The policy is managed by your organization.", "policy_managed")
    if not isinstance(call.body, dict) or call.body.get("state") != "enabled":
        raise text(400, "Bad Request\n")
    if model_id not in account.enabled_models:
        account.enabled_models.append(model_id)
    await send_body(call, orjson.dumps({"state": "enabled"}), JSON)


def _session(call: Call) -> Json:
    return {
        "session_token": f"auto_{call.state.random.randbytes(24).hex()}",
        "expires_at": int(call.state.now()) + 24 * 3600,
        "discounted_costs": {"gpt-5.4": 0.9, "claude-sonnet-5": 0.9},
    }


async def session(call: Call) -> None:
    """`POST /models/session`: Auto of the first kind."""
    document = _session(call) | {
        "available_models": ["gpt-5.4", "claude-sonnet-5", "gpt-5-mini"],
        "selected_model": "gpt-5.4",
    }
    await send_body(call, orjson.dumps(document), JSON)


async def auto(call: Call) -> None:
    """`POST /auto`: Auto of the second kind, gated by the api version."""
    if call.header("x-github-api-version") < "2026-08-01":
        raise CATALOGUE["not_found_text"]
    entry = as_listed(call.state.models_by_id["gpt-5.4"], "2026-08-01", token_billed=True)
    document = _session(call) | {"selected_model": entry, "hydra_scores": {"gpt-5.4": 0.8}}
    await send_body(call, orjson.dumps(document), JSON)


async def ping(call: Call) -> None:
    headers = copilot_headers(call, "text/plain; charset=utf-8", quota=False)
    await call.out.send(200, headers, minting.uuid(call.state).encode())
