"""Members over HTTP: invited, given a role, disabled with their keys, let in again."""

from django.http import HttpRequest, JsonResponse

from accounts import acceptable_use, invites, roles
from accounts.database import in_database
from accounts.hosts import client_address
from accounts.models import Member, Role, Team
from proxy.api.management.callers import member_of
from proxy.api.management.resources import find, router_of
from proxy.api.management.schemas import Strict, row_of
from proxy.api.management.tables import INVITES, MEMBERS, NOTICES
from proxy.errors import Conflict, InvalidRequest

router = router_of(MEMBERS)
invite_router = router_of(INVITES)
notice_router = router_of(NOTICES)


class RoleChange(Strict):
    """admin, member or auditor."""

    role: Role


class Why(Strict):
    """The reason, for the audit log."""

    why: str = ""


class InviteNew(Strict):
    """Whom, as what, into which team, for how many days (1 to 90)."""

    email: str = ""
    role: Role = Role.MEMBER
    team_id: int | None = None
    days: int = invites.DEFAULT_DAYS


class NoticeNew(Strict):
    """The text that everybody is asked to agree to; empty: nothing is asked any more."""

    text: str


@router.post("/{pk}/role", summary="Give a member a role")
async def change_role(request: HttpRequest, pk: str, payload: RoleChange) -> JsonResponse:
    by, address = member_of(request), client_address(request.META)
    return JsonResponse(await in_database(given, pk, payload.role, by, address))


@router.post("/{pk}/disable", summary="Refuse a member from now on; all keys are revoked")
async def disable(request: HttpRequest, pk: str, payload: Why | None = None) -> JsonResponse:
    by, address = member_of(request), client_address(request.META)
    why = payload.why if payload else ""
    return JsonResponse(await in_database(disabled, pk, why, by, address))


@router.post("/{pk}/enable", summary="Let a disabled member in again, without the old keys")
async def enable(request: HttpRequest, pk: str, payload: Why | None = None) -> JsonResponse:
    by, address = member_of(request), client_address(request.META)
    why = payload.why if payload else ""
    return JsonResponse(await in_database(enabled, pk, why, by, address))


@invite_router.post("", summary="Invite somebody; the link is in this answer and nowhere else")
async def invite(request: HttpRequest, payload: InviteNew) -> JsonResponse:
    by, address = member_of(request), client_address(request.META)
    made = await in_database(invited, payload, by, address)
    made["link"] = f"{request.scheme}://{request.get_host()}/dashboard/join/{made['token']}/"
    response = JsonResponse(made, status=201)
    response.headers["Cache-Control"] = "no-store"
    return response


@invite_router.post("/{pk}/revoke", summary="End an invite that nobody has used")
async def revoke_invite(request: HttpRequest, pk: str) -> JsonResponse:
    by, address = member_of(request), client_address(request.META)
    return JsonResponse(await in_database(revoked, pk, by, address))


@notice_router.post("", summary="Publish a notice of acceptable use; everybody is asked again")
async def publish(request: HttpRequest, payload: NoticeNew) -> JsonResponse:
    by, address = member_of(request), client_address(request.META)
    if len(payload.text) > acceptable_use.MAX_CHARS:
        raise InvalidRequest(f"text: at most {acceptable_use.MAX_CHARS} characters.", param="text")
    notice = await in_database(acceptable_use.publish, payload.text, actor=by, address=address)
    return JsonResponse(row_of(notice, NOTICES.shown), status=201)


def given(pk: str, role: Role, by: Member, address: str) -> dict[str, object]:
    member = find(MEMBERS, pk)
    try:
        roles.set_role(member, role, actor=by, address=address)
    except roles.LastAdministrator as error:
        raise Conflict(error.message) from None
    return _row(member)


def disabled(pk: str, why: str, by: Member, address: str) -> dict[str, object]:
    member = find(MEMBERS, pk)
    try:
        roles.disable(member, actor=by, why=why[:500], address=address)
    except roles.LastAdministrator as error:
        raise Conflict(error.message) from None
    return _row(member)


def enabled(pk: str, why: str, by: Member, address: str) -> dict[str, object]:
    member = find(MEMBERS, pk)
    roles.enable(member, actor=by, why=why[:500], address=address)
    return _row(member)


def _row(member: Member) -> dict[str, object]:
    member.refresh_from_db()
    return row_of(member, MEMBERS.shown)


def invited(asked: InviteNew, by: Member, address: str) -> dict[str, object]:
    team = None
    if asked.team_id is not None:
        team = Team.objects.filter(pk=asked.team_id).first()
        if team is None:
            raise InvalidRequest("team_id: there is no such team.", param="team_id")
    made, token = invites.make(
        actor=by, role=asked.role, team=team, email=asked.email, days=asked.days, address=address
    )
    return {**row_of(made, INVITES.shown), "token": token}


def revoked(pk: str, by: Member, address: str) -> dict[str, object]:
    row = find(INVITES, pk)
    if not invites.revoke(row, actor=by, address=address):
        raise Conflict("The invite is used, expired or revoked already.")
    row.refresh_from_db()
    return row_of(row, INVITES.shown)
