"""The model list as clients read it: one shape for both worlds, Anthropic's own where it is asked for."""

from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse

from accounts.auth import Caller
from accounts.book import AccountView
from proxy import catalog, policies, routing
from proxy.catalog import Entry
from proxy.errors import NotFound, Unavailable

# Copilot says no release dates: one fixed day, so that lists compare equal.
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


async def models(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`{"object": "list", "data": [...], "has_more": false, "first_id", "last_id"}`."""
    listed = await entries_for(caller)
    shape = anthropic if wants_anthropic(request) else common
    data = [shape(entry) for entry in listed]
    answer = {
        "object": "list",
        "data": data,
        "has_more": False,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }
    if "client_version" in request.GET:
        answer["models"] = codex_models()
    return JsonResponse(answer)


def codex_models() -> list[dict[str, Any]]:
    """What Codex reads instead of `data`: a list that must be there, and that is empty.

    An entry of it replaces Codex's own knowledge of a model, its whole system prompt included. An
    empty list is read without complaint and leaves Codex what it knows. Source: docs/clients.md.
    """
    return []


async def model(request: HttpRequest, caller: Caller, model_id: str) -> HttpResponse:
    listed = {entry.id: entry for entry in await entries_for(caller)}
    entry = catalog.find(model_id, listed)
    if entry is None:
        raise NotFound(
            f"The model {model_id[: catalog.MAX_QUOTED]!r} does not exist here.",
            code="model_not_found",
            param="model",
        )
    shape = anthropic if wants_anthropic(request) else common
    # A client that asked by its own spelling looks for that id in the answer.
    return JsonResponse({**shape(entry), "id": model_id})


def wants_anthropic(request: HttpRequest) -> bool:
    return "anthropic-version" in request.headers


async def entries_for(caller: Caller) -> list[Entry]:
    """The union of the caller's accounts' models, in the order of the catalog."""
    accounts = routing.candidates(caller)
    if not accounts:
        raise Unavailable(routing.NOBODY, retry_after_s=30, code="no_account")
    merged: dict[str, Entry] = {}
    for account in accounts:
        for entry in (await known_entries(account)).values():
            if policies.permits(caller, account, entry):
                merged.setdefault(entry.id, entry)
    return list(merged.values())


async def known_entries(account: AccountView) -> dict[str, Entry]:
    known = catalog.of_account(account.id).entries
    if known or not account.is_available:
        return known
    return await routing.entries_of(account, await routing.credential_of(account))


def common(entry: Entry) -> dict[str, Any]:
    """What OpenAI's and Anthropic's clients both accept, with limits and endpoints beside it."""
    limits = entry.raw.get("capabilities", {}).get("limits", {})
    return {
        "id": entry.id,
        "object": "model",
        "type": "model",
        "created": int(CREATED.timestamp()),
        "created_at": CREATED.isoformat().replace("+00:00", "Z"),
        "owned_by": entry.vendor or "github-copilot",
        "display_name": entry.name,
        "context_window": limits.get("max_context_window_tokens"),
        "max_prompt_tokens": entry.facts.max_prompt_tokens,
        "max_output_tokens": entry.facts.max_output_tokens,
        "supported_endpoints": list(entry.endpoints) or ["/chat/completions"],
        "reasoning_efforts": list(entry.facts.efforts),
        "vision": entry.facts.vision,
    }


def anthropic(entry: Entry) -> dict[str, Any]:
    """Anthropic's entry; further fields of ours would be no harm, but this is theirs to the letter."""
    return {
        "type": "model",
        "id": entry.id,
        "display_name": entry.name,
        "created_at": CREATED.isoformat().replace("+00:00", "Z"),
        "max_input_tokens": entry.facts.max_prompt_tokens,
        "max_tokens": entry.facts.max_output_tokens,
    }
