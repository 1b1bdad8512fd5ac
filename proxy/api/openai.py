"""OpenAI's surface: chat completions, responses, embeddings, models."""

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from ninja import Router

from proxy import compaction, listing
from proxy.api.callers import authenticate
from proxy.errors import NotFound, UpgradeRequired
from proxy.pipeline import serve, serve_count_tokens, serve_embeddings

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
    return await serve(request, "chat_completions", await authenticate(request))


@router.post("/responses", summary="Create a response")
async def responses(request: HttpRequest) -> HttpResponseBase:
    return await serve(request, "responses", await authenticate(request))


@router.get("/responses", summary="Not served: the answer tells clients to use POST")
async def responses_socket(request: HttpRequest) -> HttpResponseBase:
    # Codex tries a websocket first and falls back to HTTP at once on exactly this status.
    raise UpgradeRequired("WebSocket mode is not served here; use POST /v1/responses.")


@router.post("/responses/compact", summary="Compact a conversation into one item")
async def compact(request: HttpRequest) -> HttpResponseBase:
    return await serve(
        request, "responses", await authenticate(request), complete=compaction.as_triggered
    )


@router.post("/responses/input_tokens", summary="Count the tokens of a response's input")
async def input_tokens(request: HttpRequest) -> HttpResponse:
    return await serve_count_tokens(
        request,
        await authenticate(request),
        source="responses",
        # OpenAI counts instructions and tools alone, too.
        complete=lambda body: {**body, "input": "" if body.get("input") is None else body["input"]},
        write=lambda answer: {"object": "response.input_tokens", **answer},
    )


@router.api_operation(["GET", "DELETE"], "/responses/{response_id}", summary="Not stored: 404")
@router.post("/responses/{response_id}/cancel", summary="Not stored: 404")
@router.get("/responses/{response_id}/input_items", summary="Not stored: 404")
async def stored_response(request: HttpRequest, response_id: str) -> HttpResponse:
    await authenticate(request)
    raise NotFound(
        f"Response {response_id[:80]!r} was not found: responses are not stored here. Send the full"
        " history with each request.",
        code="response_not_found",
        param="response_id",
    )


@router.post("/embeddings", summary="Create embeddings")
async def embeddings(request: HttpRequest) -> HttpResponse:
    return await serve_embeddings(request, await authenticate(request))


@router.get("/models", summary="List the models that the caller may use")
async def models(request: HttpRequest) -> HttpResponse:
    return await listing.models(request, await authenticate(request))


@router.get("/models/{path:model_id}", summary="One model")
async def model(request: HttpRequest, model_id: str) -> HttpResponse:
    return await listing.model(request, await authenticate(request), model_id)
