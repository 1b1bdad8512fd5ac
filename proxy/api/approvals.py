"""The approval queue for programs: what waits, and deciding it with an administrator's key."""

from typing import Any

from django.http import HttpRequest, JsonResponse
from ninja import Router

from accounts.database import in_database
from accounts.hosts import client_address
from proxy import approval
from proxy.api.callers import authenticate
from proxy.api.management.callers import guard
from proxy.errors import GatewayError, InvalidRequest, NotFound
from proxy.models import Approval
from proxy.reading import decode_json

router = Router(tags=["Gateway"])
MOUNTS = ("",)
PREFIXES = ("/api/approvals",)
MAX_ROWS = 200


class Decided(GatewayError):
    status = 409
    code = "already_decided"
    should_retry: bool | None = False


def source_of(path: str) -> str | None:
    return "chat_completions" if path.startswith(PREFIXES) else None


@router.get("/api/approvals", summary="What waits for approval, and the last decisions")
async def listed(request: HttpRequest) -> JsonResponse:
    """Administrators and auditors see all; other keys what waits for their own member."""
    caller = await authenticate(request)
    sees_all = caller.is_admin or caller.is_auditor
    answer = await in_database(_listed, None if sees_all else caller.member_id)
    response = JsonResponse(answer)
    response.headers["Cache-Control"] = "no-store"
    return response


def _listed(member_id: int | None) -> dict[str, Any]:
    return {
        "waiting": [approval.described(row) for row in approval.waiting(member_id)],
        "decided": [approval.described(row) for row in approval.decisions(member_id)],
    }


@router.post("/api/approvals/{approval_id}", summary="Approve or refuse a waiting request")
async def decide(request: HttpRequest, approval_id: str) -> JsonResponse:
    """`{"decision": "approve"|"refuse", "scope": "once"|"conversation"|"hour"}`; 409 when too late."""
    member = await guard(request)
    wish = decode_json(request.body, request.headers.get("content-type", ""))
    decision, scope = wish.get("decision"), wish.get("scope", "once")
    if decision not in ("approve", "refuse"):
        raise InvalidRequest("decision: one of approve, refuse is required", param="decision")
    if scope not in approval.SCOPES:
        raise InvalidRequest(f"scope: one of {', '.join(approval.SCOPES)}", param="scope")
    row = await in_database(
        approval.decide,
        approval_id[:32],
        approve=decision == "approve",
        scope=approval.SCOPES[scope],
        actor=member,
        address=client_address(request.META),
    )
    if row is None:
        raise await in_database(_too_late, approval_id[:32])
    return JsonResponse(approval.described(row))


def _too_late(approval_id: str) -> GatewayError:
    row = Approval.objects.filter(pk=approval_id).first()
    if row is None:
        return NotFound(f"No request {approval_id!r} waits for approval.", code="no_such_approval")
    by = f" by {row.decided_by}" if row.decided_by else ""
    return Decided(f"This request is decided already: {row.get_state_display().lower()}{by}.")
