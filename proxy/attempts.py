"""One call to the upstream with its repetitions: fresh token, other host, one second try.

Repeats only before the client has seen a byte, and never what the upstream has refused for good.
"""

import asyncio
import random
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson
from django.conf import settings
from django.utils.timezone import now

from accounts import book as account_book
from accounts import tokens
from accounts.errors import AccountUnavailable
from proxy import slowdown
from proxy.errors import GatewayError
from proxy.exchange import Exchange
from proxy.placement import load, may_move, still_there
from proxy.reading import breathe
from proxy.routing import Route, cooldowns, unavailable
from proxy.upstream.client import NotAnswered, UpstreamResponse, client
from proxy.upstream.failures import UpstreamFault, read_failure, to_error
from proxy.upstream.headers import quota_headers, request_headers
from proxy.upstream.recovery import recover
from usage import quota, room

DEFAULT_COOLDOWN_S = 30.0
# A quota that is used up is asked again after this, in case somebody has raised it meanwhile.
ASK_QUOTA_EVERY_S = 300.0
# What another account could serve. Words of abuse or terms are never among them.
OF_THE_ACCOUNT = frozenset(
    {"rate_limited", "quota_exceeded", "token_expired", "overloaded", "server_error"}
)
RETRIED_STATUSES = frozenset({408, 499, 500, 502, 503, 504})


async def open_response(
    exchange: Exchange, route: Route, body: dict[str, Any], *, betas: Sequence[str] | None = None
) -> UpstreamResponse:
    """Send, and wait for the head of an answer with status 200.

    Repeats at most three times: once with a fresh token or host after 401, 403 or 421, once after a
    failure that says nothing of the request, and once without the reasoning of the history when the
    upstream does not accept it back. Where another seat may take over, that is the second try.
    Raises the upstream's error.
    """
    payload = orjson.dumps(body)
    await breathe(exchange)
    renewed = repeated = recovered = False
    credential = route.credential
    load.sit(exchange, route.account.id)
    while True:
        still_there(route.account.id)
        request_id = new_request_id()
        attempt: dict[str, Any] = {"account": route.account.login, "at_ms": exchange.elapsed_ms()}
        exchange.record.attempts.append(attempt)
        try:
            response = await client().open(
                "POST",
                credential.base_url + route.endpoint.path,
                headers=attempt_headers(
                    exchange,
                    route,
                    request_id=request_id,
                    betas=betas,
                    body=body,
                    token=credential.token,
                ).items(),
                body=payload,
                first_byte_timeout_s=settings.GATEWAY_FIRST_BYTE_TIMEOUT_S,
                fresh=repeated,
            )
        except NotAnswered as error:
            attempt["error"] = error.code
            if repeated:
                raise
            repeated = True
            if not error.was_idle:
                await pause()
            continue
        except GatewayError as error:
            attempt["error"] = error.code
            raise
        attempt["status"] = response.status
        note_answer(exchange, route, response)
        if response.status == 200:
            exchange.abort = response.abort
            return response
        fault = await read_fault(response)
        attempt["error"] = fault.kind
        if fault.kind in ("token_expired", "misdirected", "forbidden") and not renewed:
            renewed = True
            try:
                credential = await tokens.renew(
                    route.account.id, reason=fault.kind, rejected=credential.token
                )
            except AccountUnavailable as error:
                raise unavailable(error) from error
            continue
        if not recovered and recover(fault, route.endpoint.format, body):
            recovered = True
            payload = orjson.dumps(body)
            exchange.drop("thinking")
            continue
        goes_elsewhere = fault.kind in OF_THE_ACCOUNT and may_move(exchange, route.account)
        # One repetition in all, however many accounts are tried.
        may_repeat = not repeated and not goes_elsewhere and not exchange.tried
        if response.status in RETRIED_STATUSES and may_repeat:
            repeated = True
            await pause()
            continue
        answer = to_error(fault)
        await note_fault(route, fault, answer)
        raise answer


def attempt_headers(
    exchange: Exchange,
    route: Route,
    *,
    request_id: str,
    betas: Sequence[str] | None,
    body: dict[str, Any],
    token: str = "",
) -> dict[str, str]:
    """The headers of one attempt; without a `token` they are only looked at."""
    return request_headers(
        route.profile,
        credential_token=token,
        initiator=exchange.record.initiator or "user",
        has_images=exchange.gist.has_images,
        request_id=request_id,
        interaction_id=interaction_id(exchange),
        betas=betas,
        stream=body.get("stream") is True,
    )


def new_request_id() -> str:
    """A UUID of version 4; not from the system's random source: see `Exchange.begin`."""
    bits = random.getrandbits
    # `uuid.UUID` takes four times as long.
    return f"{bits(32):08x}-{bits(16):04x}-4{bits(12):03x}-{0x8000 | bits(14):04x}-{bits(48):012x}"


async def read_fault(response: UpstreamResponse) -> UpstreamFault:
    try:
        return read_failure(response.status, await response.read_error(), response.headers)
    finally:
        await response.close()


async def pause() -> None:
    """A short wait with jitter before the one repetition."""
    await asyncio.sleep(0.1 + random.random() * 0.3)  # noqa: S311


def interaction_id(exchange: Exchange) -> str:
    """The same for the calls of one conversation, as the upstream groups them."""
    return _uuid_of(exchange.conversation or exchange.id)


@lru_cache(maxsize=4096)
def _uuid_of(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def note_answer(exchange: Exchange, route: Route, response: UpstreamResponse) -> None:
    """Keep what an answer's head says: status, the id that support asks for, quota."""
    record = exchange.record
    record.upstream_status = response.status
    record.upstream_ms = exchange.elapsed_ms()
    record.upstream_request_id = response.headers.get("x-github-request-id", "")[:100]
    if response.status == 200:
        slowdown.succeeded(route.account.id, route.entry.id)
    readings = quota_headers(response.headers)
    if readings:
        quota.from_headers(route.account.id, readings)
        room.note(route.account.id, readings)


async def note_fault(route: Route, fault: UpstreamFault, error: GatewayError) -> None:
    """Take account or model out of service as the fault demands, and let `error` say for how long."""
    account_id = route.account.id
    error.is_of_account = fault.kind in OF_THE_ACCOUNT
    match fault.kind:
        case "rate_limited":
            wait_s = error.retry_after_s = error.retry_after_s or DEFAULT_COOLDOWN_S
            slowdown.limited(account_id, wait_s, route.entry.id if fault.model_scoped else "")
            if fault.model_scoped:
                await cooldowns.cool(account_id, route.entry.id, wait_s, reason=fault.message)
            else:
                until = now() + timedelta(seconds=wait_s)
                await account_book.cool_down(account_id, until, fault.message)
        case "quota_exceeded":
            returns_in_s = fault.retry_after_s or _quota_returns_in_s(route, fault)
            error.retry_after_s = returns_in_s
            await cooldowns.cool(
                account_id,
                route.entry.id,
                min(returns_in_s, ASK_QUOTA_EVERY_S),
                kind=fault.kind,
                reason=fault.message,
                returns_in_s=returns_in_s,
            )
        case "abuse":
            await account_book.freeze(account_id, fault.message)


def _quota_returns_in_s(route: Route, fault: UpstreamFault) -> float:
    """Until the quota is new: by what GitHub has said of it, else by its calendar.

    A month's credits are new at midnight UTC of the first. Source: docs/upstream.md#billing.
    """
    account, at = route.account, now()
    if "session" in fault.code:
        ends_at = room.reset_of(account.id, "session")
    else:
        ends_at = room.returns_at(account.id) or account.quota_reset_at
        if ends_at is None or ends_at <= at:
            ends_at = next_month(at) if account.token_based_billing else None
    left_s = 0.0 if ends_at is None else (ends_at - at).total_seconds()
    return left_s if left_s > 0 else ASK_QUOTA_EVERY_S


def next_month(at: datetime) -> datetime:
    first = at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)
