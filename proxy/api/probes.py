"""What clients ask by the way: telemetry of Claude Code, and who Ollama's clients think we are.

These programs send no key to such paths, or no key at all, and report an error loudly. So they get
a quiet answer that gives nothing away. Source: docs/clients.md.
"""

import hashlib
from typing import Any, Final

from django.http import HttpRequest, JsonResponse
from ninja import Router

from proxy import listing
from proxy.api.callers import authenticate, sends_key
from proxy.catalog import Entry
from proxy.errors import Unauthorized

router = Router(tags=["Probes"])
MOUNTS = ("",)
PREFIXES = ("/api/event_logging/", "/api/tags", "/api/version")
# Clients read from Ollama's version what its OpenAI endpoints can; Codex asks for 0.13.4 and newer,
# which is the first that serves /v1/responses.
OLLAMA_VERSION: Final = "0.13.5"


def source_of(path: str) -> str | None:
    if path.startswith("/api/event_logging/"):
        return "messages"
    return "chat_completions" if path.startswith(PREFIXES) else None


@router.post("/api/event_logging/batch", summary="Telemetry of Claude Code: taken and forgotten")
@router.post("/api/event_logging/v2/batch", summary="Telemetry of Claude Code: taken and forgotten")
async def event_logging(request: HttpRequest) -> JsonResponse:
    return JsonResponse({})


@router.api_operation(["GET", "HEAD"], "/api/version", summary="The version that Ollama would say")
async def ollama_version(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"version": OLLAMA_VERSION})


@router.api_operation(["GET", "HEAD"], "/api/tags", summary="The model list in Ollama's words")
async def ollama_tags(request: HttpRequest) -> JsonResponse:
    """Nothing for a caller without a key, where keys are required: Ollama's clients know none."""
    try:
        caller = await authenticate(request)
    except Unauthorized:
        if sends_key(request):
            raise
        return JsonResponse({"models": []})
    listed = await listing.entries_for(caller)
    return JsonResponse({"models": [described(entry) for entry in listed if entry.type == "chat"]})


def described(entry: Entry) -> dict[str, Any]:
    """An entry of Ollama's list. There is no file, so that its size is 0 and its digest the name's."""
    return {
        "name": entry.id,
        "model": entry.id,
        "modified_at": listing.CREATED.isoformat().replace("+00:00", "Z"),
        "size": 0,
        "digest": hashlib.sha256(entry.id.encode()).hexdigest(),
        "details": {
            "parent_model": "",
            "format": "",
            "family": entry.vendor,
            "families": [entry.vendor],
            "parameter_size": "",
            "quantization_level": "",
        },
    }
