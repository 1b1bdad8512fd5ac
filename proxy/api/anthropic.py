"""Anthropic's surface: messages and the token counter."""

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from ninja import Router

from proxy.api.callers import authenticate
from proxy.pipeline import serve, serve_count_tokens

router = Router(tags=["Anthropic"])
MOUNTS = ("/v1", "")
PREFIXES = ("/messages",)


def source_of(path: str) -> str | None:
    return "messages" if path.removeprefix("/v1").startswith(PREFIXES) else None


@router.post("/messages", summary="Create a message")
async def messages(request: HttpRequest) -> HttpResponseBase:
    return await serve(request, "messages", await authenticate(request))


@router.post("/messages/count_tokens", summary="Count the tokens of a message")
async def count_tokens(request: HttpRequest) -> HttpResponse:
    return await serve_count_tokens(request, await authenticate(request))
