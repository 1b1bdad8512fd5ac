"""API keys over HTTP: made and shown once, changed, rotated, extended, revoked."""

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.http import HttpRequest, JsonResponse

from accounts import key_changes, keys
from accounts.database import in_database
from accounts.hosts import client_address
from accounts.models import Account, ApiKey, Member, Pool
from proxy.api.management.callers import member_of
from proxy.api.management.resources import find, router_of
from proxy.api.management.schemas import Strict, row_of
from proxy.api.management.tables import KEYS, MEMBERS
from proxy.errors import Conflict, InvalidRequest

router = router_of(KEYS)
MAX_GRACE_H = 24 * 30


class KeyNew(Strict):
    """A key for a member. Limits follow by PATCH, or are given here by their names."""

    name: str
    owner_id: int
    account_id: int | None = None
    pool_id: int | None = None
    expires_at: datetime | None = None
    models_allowed: list[str] = []
    requests_per_minute: int = 0
    concurrency: int = 0
    budget_day_nano_aiu: int = 0
    budget_month_nano_aiu: int = 0
    needs_approval: bool = False
    allows_web_search: bool = False
    is_admin: bool = False


class Rotation(Strict):
    """How many hours the old key still works, 0 to 720."""

    grace_h: float = 24


class Extension(Strict):
    """The new end; null: none."""

    until: datetime | None


class LimitsSource(Strict):
    """The key whose limits are taken over."""

    from_key_id: int


@router.post("", summary="Make an API key; its secret is in this answer and nowhere else")
async def add_key(request: HttpRequest, payload: KeyNew) -> JsonResponse:
    by = member_of(request)
    made = await in_database(make, payload.model_dump(), by, client_address(request.META))
    return _secret(made)


@router.post("/{pk}/rotate", summary="A new secret with the same limits; the old one ends later")
async def rotate_key(request: HttpRequest, pk: str, payload: Rotation) -> JsonResponse:
    by = member_of(request)
    if not 0 <= payload.grace_h <= MAX_GRACE_H:
        raise InvalidRequest(f"grace_h: 0 to {MAX_GRACE_H} hours.", param="grace_h")
    grace = timedelta(hours=payload.grace_h)
    made = await in_database(rotated, pk, by, grace, client_address(request.META))
    return _secret(made)


@router.post("/{pk}/extend", summary="Move a key's end")
async def extend_key(request: HttpRequest, pk: str, payload: Extension) -> JsonResponse:
    by = member_of(request)
    address = client_address(request.META)
    return JsonResponse(await in_database(extended, pk, payload.until, by, address))


@router.post("/{pk}/copy-limits", summary="Take over another key's limits")
async def copy_limits(request: HttpRequest, pk: str, payload: LimitsSource) -> JsonResponse:
    by = member_of(request)
    address = client_address(request.META)
    return JsonResponse(await in_database(copied, pk, payload.from_key_id, by, address))


@router.post("/{pk}/revoke", summary="Refuse a key from now on, everywhere")
async def revoke_key(request: HttpRequest, pk: str) -> JsonResponse:
    by = member_of(request)
    return JsonResponse(await in_database(revoked, pk, by, client_address(request.META)))


def make(values: dict[str, Any], by: Member, address: str) -> dict[str, Any]:
    """Raises `NotFound` for an owner, account or pool that is not there, or `InvalidRequest`."""
    owner = find(MEMBERS, str(values.pop("owner_id")))
    name = values.pop("name").strip()
    if not name or len(name) > 100:
        raise InvalidRequest("name: 1 to 100 characters are required.", param="name")
    if values["is_admin"] and not owner.is_superuser:
        raise InvalidRequest("is_admin: its owner is no administrator.", param="is_admin")
    account_id, pool_id = values.pop("account_id"), values.pop("pool_id")
    account = None if account_id is None else _one(Account, account_id, "account_id")
    check_seat(account, owner)
    pool = None if pool_id is None else _one(Pool, pool_id, "pool_id")
    for field, value in values.items():
        if type(value) is int and not 0 <= value < 2**63:
            raise InvalidRequest(f"{field}: a number from 0 on is required.", param=field)
    with transaction.atomic():
        key, secret = keys.create(name, owner, actor=by, address=address, account=account, **values)
        if pool is not None:
            ApiKey.objects.filter(pk=key.pk).update(pool=pool)
    keys.ring.refresh(force=True)
    key.refresh_from_db()
    return {**row_of(key, KEYS.shown), "secret": secret}


def check_seat(account: Account | None, owner: Member) -> None:
    """A personal account serves its own person only. Raises `InvalidRequest`."""
    if account is not None and account.owner_id not in (None, owner.pk):
        raise InvalidRequest(
            "account_id: this account belongs to another member.", param="account_id"
        )


def _one(model: Any, pk: int, param: str) -> Any:
    row = model.objects.filter(pk=pk).first()
    if row is None:
        raise InvalidRequest(f"{param}: there is no such row.", param=param)
    return row


def rotated(pk: str, by: Member, grace: timedelta, address: str) -> dict[str, Any]:
    try:
        key, secret = key_changes.rotate(find(KEYS, pk), actor=by, grace=grace, address=address)
    except key_changes.KeyEnded as error:
        raise Conflict(str(error)) from None
    return {**row_of(key, KEYS.shown), "secret": secret}


def extended(pk: str, until: datetime | None, by: Member, address: str) -> dict[str, Any]:
    key = find(KEYS, pk)
    try:
        key_changes.extend(key, until, actor=by, address=address)
    except key_changes.KeyEnded as error:
        raise Conflict(str(error)) from None
    return row_of(key, KEYS.shown)


def copied(pk: str, source_id: int, by: Member, address: str) -> dict[str, Any]:
    key, source = find(KEYS, pk), find(KEYS, str(source_id))
    key_changes.copy_limits(source, [key], actor=by, address=address)
    key.refresh_from_db()
    return row_of(key, KEYS.shown)


def revoked(pk: str, by: Member, address: str) -> dict[str, Any]:
    key = find(KEYS, pk)
    keys.revoke(key, actor=by, address=address)
    key.refresh_from_db()
    return row_of(key, KEYS.shown)


def _secret(made: dict[str, Any]) -> JsonResponse:
    response = JsonResponse(made, status=201)
    response.headers["Cache-Control"] = "no-store"
    return response
