"""What was used, over HTTP: records, sums by grouping, the export of both the pages and this."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, JsonResponse, QueryDict, StreamingHttpResponse
from ninja import Router

from accounts import audit
from accounts.database import in_database
from accounts.hosts import client_address
from proxy.api.management.callers import member_of
from proxy.api.management.schemas import row_of
from proxy.errors import InvalidRequest, NotFound
from usage import exports, filters, listing, reports
from usage.models import UsageRecord

router = Router(tags=["usage"])
GROUPINGS = ("model", "member", "key", "client", "account", "team")
RECORD = tuple(field.attname for field in UsageRecord._meta.concrete_fields)
# One database hop for so many rows of an export.
EXPORT_ROWS = 1000


@router.get("/records", summary="Usage records, newest first, fifty a page")
async def records(request: HttpRequest) -> JsonResponse:
    """The filters of the Requests page: range, from, to, member, key, account, model, client,
    endpoint, outcome, q. `after` is the last answer's `next`."""
    return JsonResponse(await in_database(records_page, request.GET))


@router.get("/records/{exchange_id}", summary="One usage record")
async def record(request: HttpRequest, exchange_id: str) -> JsonResponse:
    found = await in_database(reports.find, exchange_id.removeprefix("req_"), None)
    if found is None:
        raise NotFound(f"There is no usage record {exchange_id[:40]!r}.")
    return JsonResponse(row_of(found, RECORD))


@router.get("/groups/{grouping}", summary="Sums by model, member, key, client, account or team")
async def groups(request: HttpRequest, grouping: str) -> JsonResponse:
    if grouping not in GROUPINGS:
        raise NotFound(f"There is no grouping {grouping[:40]!r}; there are {', '.join(GROUPINGS)}.")
    return JsonResponse(await in_database(sums_by, request.GET, grouping))


@router.get("/export.json", summary="All records that the filters leave, one object a line")
async def export(request: HttpRequest) -> StreamingHttpResponse:
    by = member_of(request)
    asked = _asked(request.GET)
    await in_database(
        audit.record,
        by,
        "usage.exported",
        "records",
        {"query": dict(asked.named)},
        client_address(request.META),
    )

    async def lines() -> AsyncIterator[bytes]:
        place: listing.Place | None = None
        before = "[\n"
        while found := await in_database(_some, asked, place):
            text, place = found
            yield (before + text).encode()
            before = ",\n"
        yield b"[]\n" if place is None else b"\n]\n"

    return StreamingHttpResponse(lines(), content_type="application/json")


def _some(asked: filters.Filters, after: listing.Place | None) -> tuple[str, listing.Place] | None:
    """The next rows as text, and where they end; None when there are no more."""
    found = list(exports.rows(listing.behind(asked, after)[:EXPORT_ROWS]))
    if not found:
        return None
    last = found[-1]
    text = ",\n".join(json.dumps(row, ensure_ascii=False) for row in found)
    return text, (datetime.fromisoformat(last["started_at"]), last["id"])


def _asked(query: QueryDict) -> filters.Filters:
    return filters.read(query, zone=UTC, scope=None, default="30d")


def records_page(query: QueryDict) -> dict[str, Any]:
    after = query.get("after", "")
    if after and listing.read_place(after) is None:
        raise InvalidRequest("after: what an earlier answer gave as `next`.", param="after")
    page = listing.page(_asked(query), after)
    return {
        "data": [row_of(row, RECORD) for row in page.rows],
        "next": page.after or None,
        "count": page.count_text,
    }


def sums_by(query: QueryDict, grouping: str) -> dict[str, Any]:
    asked = _asked(query)
    lines, other = reports.grouped(asked, grouping)
    shown = ("value", "label", "requests", "tokens", "nano_aiu", "failed")
    return {
        "from": asked.start,
        "to": asked.end,
        "data": [{name: getattr(line, name) for name in shown} for line in lines],
        "other": None if other is None else {name: getattr(other, name) for name in shown},
    }
