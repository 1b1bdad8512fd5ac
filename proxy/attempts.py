"""One call to the upstream with its repetitions: fresh token, other host, one second try.

Repeats only before the client has seen a byte, and never what the upstream has refused for good.
"""

import asyncio
import random
import uuid
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any

import orjson
from django.conf import settings
from django.utils.timezone import now

from accounts import book as account_book
from accounts import tokens
from accounts.errors import AccountUnavailable
from proxy.errors import GatewayError
from proxy.exchange import Exchange
from proxy.routing import Route, cooldowns, unavailable
from proxy.upstream.client import NotAnswered, UpstreamResponse, client
from proxy.upstream.failures import UpstreamFault, read_failure, to_error
from proxy.upstream.headers import quota_headers, request_headers
from proxy.upstream.recovery import recover
from usage import quota

DEFAULT_COOLDOWN_S = 30.0
RETRIED_STATUSES = frozenset({408, 499, 500, 502, 503, 504})


async def open_response(
    exchange: Exchange, route: Route, body: dict[str, Any], *, betas: Sequence[str] | None = None
) -> UpstreamResponse:
    """Send, and wait for the head of an answer with status 200.

    Repeats at most three times: once with a fresh token or host after 401, 403 or 421, once after a
    failure that says nothing of the request, and once without the reasoning of the history when the
    upstream does not accept it back. Raises the upstream's error.
    """
    payload = orjson.dumps(body)
    renewed = repeated = recovered = False
    credential = route.credential
    while True:
        # Not from the system's random source: see `Exchange.begin`.
        request_id = str(uuid.UUID(int=random.getrandbits(128), version=4))
        attempt: dict[str, Any] = {"account": route.account.login, "at_ms": exchange.elapsed_ms()}
        exchange.record.attempts.append(attempt)
        try:
            response = await client().open(
                "POST",
                credential.base_url + route.endpoint.path,
                headers=list(
                    attempt_headers(
                        exchange,
                        route,
                        request_id=request_id,
                        betas=betas,
                        body=body,
                        token=credential.token,
                    ).items()
                ),
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
        if response.status in RETRIED_STATUSES and not repeated:
            repeated = True
            await pause()
            continue
        await note_fault(route, fault)
        raise to_error(fault)


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
    readings = quota_headers(response.headers)
    if readings:
        quota.from_headers(route.account.id, readings)


async def note_fault(route: Route, fault: UpstreamFault) -> None:
    """Take account or model out of service as the fault demands; never another seat instead."""
    account_id = route.account.id
    wait_s = fault.retry_after_s or DEFAULT_COOLDOWN_S
    until = now() + timedelta(seconds=wait_s)
    match fault.kind:
        case "rate_limited" if fault.model_scoped:
            cooldowns.cool(account_id, route.entry.id, wait_s)
        case "rate_limited":
            await account_book.cool_down(account_id, until, fault.message)
        case "quota_exceeded":
            cooldowns.cool(account_id, route.entry.id, fault.retry_after_s or 300)
        case "abuse":
            await account_book.freeze(account_id, fault.message)
