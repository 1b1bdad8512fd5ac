"""OpenAI's surface: chat completions, responses, embeddings, models."""

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from ninja import Router

from proxy import listing
from proxy.api.callers import authenticate
from proxy.errors import UpgradeRequired
from proxy.pipeline import serve, serve_embeddings

router = Router(tags=["OpenAI"])
MOUNTS = ("/v1", "")
PREFIXES = ("/chat/", "/responses", "/embeddings", "/models")


def source_of(path: str) -> str | None:
    plain = path.removeprefix("/v1")
    if plain.startswith("/responses"):
        return "responses"
    return "chat_completions" if plain.startswith(PREFIXES) else None


@router.post("/chat/completions", summary="Create a chat completion")
async def chat_completions(request: HttpRequest) -> HttpResponseBase:
    return await serve(request, "chat_completions", authenticate(request))


@router.post("/responses", summary="Create a response")
async def responses(request: HttpRequest) -> HttpResponseBase:
    return await serve(request, "responses", authenticate(request))


@router.get("/responses", summary="Not served: the answer tells clients to use POST")
async def responses_socket(request: HttpRequest) -> HttpResponseBase:
    # Codex tries a websocket first and falls back to HTTP at once on exactly this status.
    raise UpgradeRequired("WebSocket mode is not served here; use POST /v1/responses.")


@router.post("/embeddings", summary="Create embeddings")
async def embeddings(request: HttpRequest) -> HttpResponse:
    return await serve_embeddings(request, authenticate(request))


@router.get("/models", summary="List the models that the caller may use")
async def models(request: HttpRequest) -> HttpResponse:
    return await listing.models(request, authenticate(request))


@router.get("/models/{path:model_id}", summary="One model")
async def model(request: HttpRequest, model_id: str) -> HttpResponse:
    return await listing.model(request, authenticate(request), model_id)
