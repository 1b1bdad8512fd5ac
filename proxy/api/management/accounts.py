"""Seats over HTTP: steered, never read: no answer holds a token."""

from django.http import HttpRequest, JsonResponse

from accounts import audit, pools, states, tasks
from accounts.database import in_database
from accounts.hosts import client_address
from accounts.models import Account, Member, Pool
from proxy.api.management.callers import member_of
from proxy.api.management.resources import find, router_of
from proxy.api.management.schemas import Strict, row_of
from proxy.api.management.tables import ACCOUNTS
from proxy.errors import Conflict, InvalidRequest, Unavailable
from usage import tasks as usage_tasks

router = router_of(ACCOUNTS)
State = Account.State


class Reason(Strict):
    """Why, for the audit log and whoever meets the account."""

    reason: str = ""


class PoolChange(Strict):
    """The pool that the seat joins with a weight; null takes it out."""

    pool_id: int | None
    weight: int = 1


@router.post("/{pk}/pool", summary="Put a seat of the organisation into a pool, or take it out")
async def change_pool(request: HttpRequest, pk: str, payload: PoolChange) -> JsonResponse:
    by, address = member_of(request), client_address(request.META)
    return JsonResponse(await in_database(_pooled, pk, payload, by, address))


def _pooled(pk: str, asked: PoolChange, by: Member, address: str) -> dict[str, object]:
    row = find(ACCOUNTS, pk)
    if asked.pool_id is None:
        pools.take_out(row, actor=by, address=address)
    else:
        pool = Pool.objects.filter(pk=asked.pool_id).first()
        if pool is None or not 0 < asked.weight < 1000:
            raise InvalidRequest("pool_id, weight: a pool and 1 to 999 are required.")
        try:
            pools.put(row, pool, weight=asked.weight, actor=by, address=address)
        except pools.NotPooled as error:
            raise Conflict(str(error)) from None
    row.refresh_from_db()
    return row_of(row, ACCOUNTS.shown)


@router.post("/{pk}/pause", summary="Take an account out of service")
async def pause(request: HttpRequest, pk: str, payload: Reason | None = None) -> JsonResponse:
    return await _set(request, pk, State.PAUSED, payload.reason if payload else "")


@router.post("/{pk}/resume", summary="Put a paused account back")
async def resume(request: HttpRequest, pk: str, payload: Reason | None = None) -> JsonResponse:
    return await _set(
        request, pk, State.ACTIVE, payload.reason if payload else "", only_from=State.PAUSED
    )


@router.post("/{pk}/unfreeze", summary="Release a frozen account, having looked into the reason")
async def unfreeze(request: HttpRequest, pk: str, payload: Reason | None = None) -> JsonResponse:
    return await _set(
        request, pk, State.ACTIVE, payload.reason if payload else "", only_from=State.FROZEN
    )


@router.post("/{pk}/refresh", summary="Refresh its Copilot token: a task")
async def refresh(request: HttpRequest, pk: str) -> JsonResponse:
    by = member_of(request)
    row = await in_database(find, ACCOUNTS, pk)
    await in_database(_send, "accounts.tasks.refresh_account", row, by, request)
    return JsonResponse({"task": "accounts.tasks.refresh_account"}, status=202)


@router.post("/{pk}/poll", summary="Ask GitHub for its quota now: a task")
async def poll(request: HttpRequest, pk: str) -> JsonResponse:
    by = member_of(request)
    row = await in_database(find, ACCOUNTS, pk)
    await in_database(_send, "usage.tasks.poll_account", row, by, request)
    return JsonResponse({"task": "usage.tasks.poll_account"}, status=202)


async def _set(
    request: HttpRequest, pk: str, state: str, reason: str, *, only_from: str | None = None
) -> JsonResponse:
    by = member_of(request)
    address = client_address(request.META)
    return JsonResponse(await in_database(_put, pk, state, reason, by, only_from, address))


def _put(
    pk: str, state: str, reason: str, by: Member, only_from: str | None, address: str
) -> dict[str, object]:
    row = find(ACCOUNTS, pk)
    if only_from is not None and row.state != only_from:
        raise Conflict(f"The account {row.login} is {row.state}, not {only_from}.")
    states.set_state(row, state, reason[:500], actor=by, address=address)
    row.refresh_from_db()
    return row_of(row, ACCOUNTS.shown)


def _send(name: str, row: Account, by: Member, request: HttpRequest) -> None:
    from kombu.exceptions import OperationalError

    known = {task.name: task for task in (tasks.refresh_account, usage_tasks.poll_account)}
    try:
        known[name].delay(row.pk)
    except OperationalError:
        raise Unavailable("The broker is away; no task can be sent.", retry_after_s=30) from None
    audit.record(by, "account.task_sent", row, {"task": name}, client_address(request.META))
