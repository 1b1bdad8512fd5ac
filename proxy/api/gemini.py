"""Google's surface: generateContent, its stream, the token counter, embeddings, models.

Model and method stand in the path. The routes under /v1 are for SDKs whose `api_version` says so.
"""

from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from ninja import Router

from proxy import catalog, listing
from proxy.api.callers import authenticate
from proxy.catalog import Entry
from proxy.errors import InvalidRequest, NotFound
from proxy.formats.gemini import embedding
from proxy.pipeline import serve, serve_count_tokens, serve_embeddings

router = Router(tags=["Gemini"])
MOUNTS = ("",)
PREFIXES = ("/v1beta/",)
METHODS = (
    ":generateContent",
    ":streamGenerateContent",
    ":countTokens",
    ":embedContent",
    ":batchEmbedContents",
)

Body = dict[str, Any]


def source_of(path: str) -> str | None:
    is_ours = path.startswith(PREFIXES) or (
        path.startswith("/v1/models/") and path.endswith(METHODS)
    )
    return "gemini" if is_ours else None


@router.post("/v1beta/models/{path:model}:generateContent", summary="Generate content")
@router.post("/v1/models/{path:model}:generateContent", summary="Generate content")
async def generate_content(request: HttpRequest, model: str) -> HttpResponseBase:
    complete = partial(with_url, model=model, stream=False)
    return await serve(request, "gemini", await authenticate(request), complete=complete)


@router.post("/v1beta/models/{path:model}:streamGenerateContent", summary="Stream content")
@router.post("/v1/models/{path:model}:streamGenerateContent", summary="Stream content")
async def stream_generate_content(request: HttpRequest, model: str) -> HttpResponseBase:
    """Server-sent events with `?alt=sse`, else one JSON array that grows."""
    alt = request.GET.get("alt") or request.GET.get("$alt") or "json"
    if alt not in ("sse", "json"):
        raise InvalidRequest("alt: 'sse' or 'json' is required.", param="alt")
    complete = partial(with_url, model=model, stream=True, alt=alt)
    response = await serve(request, "gemini", await authenticate(request), complete=complete)
    if alt == "json":
        response.headers["Content-Type"] = "application/json"
    return response


def with_url(body: Body, **said: Any) -> Body:
    """The body with what the URL says; the same fields in the body do not count."""
    return {**body, "alt": None, **said}


@router.post("/v1beta/models/{path:model}:countTokens", summary="Count the tokens of contents")
@router.post("/v1/models/{path:model}:countTokens", summary="Count the tokens of contents")
async def count_tokens(request: HttpRequest, model: str) -> HttpResponse:
    return await serve_count_tokens(
        request,
        await authenticate(request),
        source="gemini",
        complete=lambda body: with_url(embedding.counted(body), model=model, stream=False),
        write=lambda answer: {"totalTokens": answer["input_tokens"]},
    )


@router.post("/v1beta/models/{path:model}:embedContent", summary="Embed one text")
@router.post("/v1/models/{path:model}:embedContent", summary="Embed one text")
async def embed_content(request: HttpRequest, model: str) -> HttpResponse:
    return await serve_embeddings(
        request,
        await authenticate(request),
        complete=partial(embedding.embed_input, model=model),
        write=embedding.embed_answer,
    )


@router.post("/v1beta/models/{path:model}:batchEmbedContents", summary="Embed many texts")
@router.post("/v1/models/{path:model}:batchEmbedContents", summary="Embed many texts")
async def batch_embed_contents(request: HttpRequest, model: str) -> HttpResponse:
    return await serve_embeddings(
        request,
        await authenticate(request),
        complete=partial(embedding.batch_input, model=model),
        write=embedding.batch_answer,
    )


@router.get("/v1beta/models", summary="List the models that the caller may use, in Google's words")
async def models(request: HttpRequest) -> HttpResponse:
    """All on one page, whatever `pageSize` asks for."""
    listed = await listing.entries_for(await authenticate(request))
    return JsonResponse({"models": [described(entry, entry.id) for entry in listed]})


@router.get("/v1beta/models/{path:model}", summary="One model, in Google's words")
async def model(request: HttpRequest, model: str) -> HttpResponse:
    listed = {entry.id: entry for entry in await listing.entries_for(await authenticate(request))}
    entry = catalog.find(model, listed)
    if entry is None:
        raise NotFound(
            f"The model {model[: catalog.MAX_QUOTED]!r} does not exist here.",
            code="model_not_found",
            param="model",
        )
    # A client that asked by its own spelling looks for that name in the answer.
    return JsonResponse(described(entry, model))


def described(entry: Entry, name: str) -> Body:
    """Google's `Model`; limits that the catalog does not say are left out."""
    methods = ["generateContent", "streamGenerateContent", "countTokens"]
    if entry.type == "embeddings":
        methods = ["embedContent", "batchEmbedContents"]
    facts = entry.facts
    shown = {
        "name": f"models/{name}",
        "baseModelId": entry.id,
        "version": entry.id,
        "displayName": entry.name,
        "description": f"{entry.name} by {entry.vendor}, served by GitHub Copilot.",
        "inputTokenLimit": facts.max_prompt_tokens,
        "outputTokenLimit": facts.max_output_tokens,
        "supportedGenerationMethods": methods,
        "thinking": bool(facts.efforts or facts.max_thinking_budget),
    }
    return {key: value for key, value in shown.items() if value is not None}
