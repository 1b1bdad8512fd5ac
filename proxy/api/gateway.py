"""The gateway's own surface: usage, token, health, and the answer at the root."""

import asyncio
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from ninja import Router

from accounts import audit, tokens
from accounts.database import OneThread, in_database
from accounts.errors import AccountUnavailable
from accounts.hosts import client_address
from accounts.limits import present
from accounts.models import Account
from proxy import routing
from proxy.admission import gates
from proxy.api.callers import authenticate
from proxy.errors import Forbidden, NotFound, Unavailable
from proxy.limits.gate import gate
from proxy.reading import decode_json
from proxy.rehearsal import rehearse
from usage import quota

router = Router(tags=["Gateway"])
MOUNTS = ("",)
# A database that hangs is as good as away; who asks whether we are ready waits about as long.
DATABASE_PATIENCE_S = 3.0
# Not the thread that everybody waits in line for: a locked table is no reason not to be ready.
_probe = OneThread("readiness")
PREFIXES = ("/usage", "/token", "/healthz", "/readyz", "/api/")


def source_of(path: str) -> str | None:
    return "chat_completions" if path.startswith(PREFIXES) else None


@router.api_operation(["GET", "HEAD"], "/", summary="Is the gateway there?")
async def root(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Server running", content_type="text/plain; charset=utf-8")


@router.get("/usage", summary="Quota of the caller's account, as GitHub words it")
async def usage(request: HttpRequest) -> HttpResponse:
    caller = await authenticate(request)
    accounts = routing.candidates(caller)
    if not accounts:
        raise Unavailable(routing.NOBODY, retry_after_s=30, code="no_account")
    account = next((a for a in accounts if a.is_available), accounts[0])
    return JsonResponse(await in_database(seed_usage, account.id))


def seed_usage(account_id: int) -> dict[str, Any]:
    return quota.seed_usage_json(Account.objects.get(pk=account_id))


@router.get("/api/limits", summary="Your limits: what each window has left")
async def limits(request: HttpRequest) -> JsonResponse:
    """The limits of the key, its owner and the team, and of the accounts that it may use."""
    caller = await authenticate(request)
    accounts = present(*(account.allowance for account in routing.candidates(caller)))
    response = JsonResponse(
        {
            "counted_in": gate.counted_in,
            "limits": await gate.left(caller.allowances),
            "accounts": await gate.left(accounts),
        }
    )
    response.headers["Cache-Control"] = "no-store"
    return response


@router.post("/api/translate", summary="What a request becomes, step by step, without sending it")
async def translate(request: HttpRequest) -> JsonResponse:
    caller = await authenticate(request)
    wish = decode_json(request.body, request.headers.get("content-type", ""))
    response = JsonResponse(await rehearse(caller, wish))
    response.headers["Cache-Control"] = "no-store"
    return response


@router.get("/token", summary="The Copilot token: administrators only, off by default")
async def token(request: HttpRequest) -> HttpResponse:
    """Masked unless `?reveal=true`; every reading is audited."""
    caller = await authenticate(request)
    if not settings.GATEWAY_TOKEN_ENDPOINT:
        raise NotFound("GET /token is switched off. GATEWAY_TOKEN_ENDPOINT=true serves it.")
    if not caller.is_admin or caller.key_id is None:
        # Without a key everybody on this machine is the owner; its tokens are not everybody's.
        raise Forbidden("Only an administrator's API key may read the Copilot token.")
    accounts = routing.candidates(caller)
    if not accounts:
        raise Unavailable(routing.NOBODY, retry_after_s=30, code="no_account")
    try:
        credential = await tokens.credential(accounts[0].id)
    except AccountUnavailable as error:
        raise routing.unavailable(error) from error
    reveal = request.GET.get("reveal") == "true"
    address = client_address(request.META)
    await in_database(
        audit.record,
        caller.member,
        "token.revealed" if reveal else "token.read_masked",
        accounts[0].login,
        {"key": caller.key_prefix},
        address,
    )
    shown = credential.token if reveal else "********" + credential.token[-4:]
    response = JsonResponse({"token": shown})
    response.headers["Cache-Control"] = "no-store"
    return response


@router.get("/healthz", summary="The process is alive")
async def healthz(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok", "version": settings.VERSION})


@router.get("/readyz", summary="The process can serve: database and accounts")
async def readyz(request: HttpRequest) -> HttpResponse:
    checks = await readiness()
    ok = all(checks.values())
    return JsonResponse(
        {"status": "ok" if ok else "unavailable", "checks": checks}, status=200 if ok else 503
    )


async def readiness() -> dict[str, bool]:
    """Nothing secret: whether the database answers and new requests are taken."""
    try:
        async with asyncio.timeout(DATABASE_PATIENCE_S):
            answers = await asyncio.get_running_loop().run_in_executor(_probe, database_answers)
    except TimeoutError:
        answers = False
    return {"database": answers, "accepting": not gates.draining}


def database_answers() -> bool:
    from django.db import Error, close_old_connections, connection

    close_old_connections()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return False
    return True
