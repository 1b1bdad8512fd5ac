"""What a request would take and cost: `POST /api/estimate`, nothing is sent and nothing recorded."""

from django.http import HttpRequest, JsonResponse
from ninja import Router

from proxy.api.callers import authenticate
from proxy.estimation import estimate
from proxy.reading import decode_json

router = Router(tags=["Gateway"])
MOUNTS = ("",)
PREFIXES = ("/api/estimate",)


def source_of(path: str) -> str | None:
    return "chat_completions" if path.startswith(PREFIXES) else None


@router.post("/api/estimate", summary="Tokens and credits of a request, without sending it")
async def estimated(request: HttpRequest) -> JsonResponse:
    """A body of any of the four formats; `?format=` or `?path=` says which, else it is seen from it."""
    caller = await authenticate(request)
    body = decode_json(request.body, request.headers.get("content-type", ""))
    asked = {name: request.GET[name] for name in ("format", "path", "model") if name in request.GET}
    response = JsonResponse(await estimate(caller, body, asked, request.headers))
    response.headers["Cache-Control"] = "no-store"
    return response
