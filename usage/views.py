"""Pages of usage: overview, requests, one exchange, one conversation, live, exports."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar
from uuid import UUID, uuid4

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.core.handlers.asgi import ASGIRequest
from django.core.paginator import Paginator
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Case, Q, When
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    QueryDict,
    StreamingHttpResponse,
)
from django.shortcuts import redirect, render
from django.utils.timezone import now
from django.utils.translation import gettext as _
from kombu.exceptions import OperationalError

from accounts.access import is_fragment, member_of, page, scope_of, zone_of
from accounts.models import ApiKey
from usage import bodies, cards, charts, exports, filters, large_exports, lines, listing, reports
from usage.filters import Filters
from usage.recorder import recorder
from usage.wording import FORMATS

Piece = TypeVar("Piece", str, bytes)
# How long a page waits for a record that has finished and is being written.
FLUSH_S = 2.0
KEYS_A_PAGE = 50
EXPORT_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


def _asked(request: HttpRequest, default: str = "24h") -> Filters:
    return filters.read(
        request.GET, zone=zone_of(request), scope=scope_of(request), default=default
    )


@page
def overview(request: HttpRequest) -> HttpResponse:
    asked = _asked(request)
    grouping = request.GET.get("by", "model")
    grouping = grouping if grouping in reports.GROUPINGS else "model"
    if grouping == "member" and asked.scope is not None:
        grouping = "model"
    found = reports.overview(asked)
    groups, other = reports.grouped(asked, grouping)
    scope = asked.scope
    context = {
        "asked": asked,
        "sums": found.sums,
        "before": found.before,
        "chart": reports.tokens_chart(asked, found),
        "sparks": {
            "requests": charts.spark([b.requests for b in found.buckets]),
            "credits": charts.spark([b.nano_aiu for b in found.buckets]),
            "errors": charts.spark([b.failed for b in found.buckets]),
            "first": charts.spark([b.p50 or 0 for b in found.buckets]),
        },
        "grouping": grouping,
        "groupings": [g for g in reports.GROUPINGS if scope is None or g != "member"],
        "groups": groups,
        "other": other,
        "cards": cards.cards(member_of(request)),
        "is_new": not found.sums.requests and not reports.has_any(scope),
        "base_url": base_url(request),
    }
    template = "parts/overview.html" if is_fragment(request) else "pages/overview.html"
    return render(request, template, context)


def base_url(request: HttpRequest) -> str:
    return f"{request.scheme}://{request.get_host()}"


@page
def requests(request: HttpRequest) -> HttpResponse:
    asked = _asked(request, default="7d")
    found = listing.page(asked, request.GET.get("after", ""))
    context = {
        "asked": asked,
        "found": found,
        "lines": lines.lines(found.rows),
        "choices": reports.choices(asked.scope),
        "formats": list(FORMATS.items()),
        "is_new": not found.count and not asked.is_narrowed and not reports.has_any(asked.scope),
        "base_url": base_url(request),
    }
    return render(request, "pages/requests.html", context)


@page
def exchange(request: HttpRequest, exchange_id: str) -> HttpResponse:
    """One exchange: the panel beside the list, or its own page."""
    record = reports.find(exchange_id, scope_of(request))
    if record is None and recorder.waiting:
        # It may have ended a moment ago: the live page knows of it before the database does.
        recorder.flush(FLUSH_S)
        record = reports.find(exchange_id, scope_of(request))
    if record is None:
        raise Http404
    detail = lines.detail(record)
    text = json.dumps(lines.as_json(detail.line), indent=2, cls=DjangoJSONEncoder)
    template = "parts/exchange.html" if is_fragment(request) else "pages/exchange.html"
    has_bodies = bodies.of_scope(scope_of(request)).filter(pk=record.pk).exists()
    context = {"detail": detail, "record": record, "json": text, "has_bodies": has_bodies}
    return render(request, template, context)


@page
def conversation(request: HttpRequest, conversation_id: str) -> HttpResponse:
    rows = reports.conversation(conversation_id, scope_of(request))
    if not rows:
        raise Http404
    total = 0
    turns: list[dict[str, Any]] = []
    for line in lines.lines(rows):
        total += line.record.nano_aiu
        turns.append({"line": line, "running": total})
    context = {
        "conversation": conversation_id,
        "turns": turns,
        "total": total,
        "input": sum(row.input_tokens for row in rows),
        "cached": sum(row.cache_read_tokens for row in rows),
        "output": sum(row.output_tokens for row in rows),
        "is_cut": len(rows) == reports.TREE,
    }
    return render(request, "pages/conversation.html", context)


@page
def live(request: HttpRequest) -> HttpResponse:
    """The first paint of the live page; its script hears the rest by socket, or asks again."""
    scope = scope_of(request)
    latest = lines.lines(reports.latest(scope))
    context = {"in_flight": cards.in_flight(scope), "lines": latest, "shows_member": scope is None}
    template = "parts/live.html" if is_fragment(request) else "pages/live.html"
    return render(request, template, context)


async def _awaited(chunks: Iterator[Piece]) -> AsyncIterator[Piece]:
    take = sync_to_async(lambda: next(chunks, None))
    while (chunk := await take()) is not None:
        yield chunk


@page
def export(request: HttpRequest, kind: str) -> HttpResponseBase:
    """The list as a file, streamed; members get their own rows only."""
    asked = _asked(request, default="7d")
    rows = filters.records(asked)
    if large_exports.is_large(rows):
        return _as_a_task(request, kind)
    chunks = exports.csv_chunks(rows) if kind == "csv" else exports.json_chunks(rows)
    # An ASGI server would read a plain iterator to its end before sending the first byte.
    body = _awaited(chunks) if isinstance(request, ASGIRequest) else chunks
    response = StreamingHttpResponse(body, content_type=EXPORT_TYPES[kind])
    name = f"requests_{asked.start:%Y-%m-%d}_{asked.end:%Y-%m-%d}.{kind}"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _as_a_task(request: HttpRequest, kind: str) -> HttpResponse:
    from usage.tasks import write_export

    query, zone = request.META.get("QUERY_STRING", ""), str(zone_of(request))
    try:
        write_export.delay(member_of(request).pk, query, kind, zone, str(uuid4()))
    except OperationalError:
        messages.error(
            request, _("No worker can be reached now; try again, or ask for fewer rows.")
        )
    else:
        messages.info(
            request,
            _("More than 100,000 rows: the file is being written; a notice will bring its link."),
        )
    return redirect("notifications")


@page
def large_export(request: HttpRequest, export_id: UUID, kind: str) -> HttpResponseBase:
    """A file that a task has written, for who asked for it."""
    found = None
    if kind in EXPORT_TYPES:
        found = large_exports.find(member_of(request), str(export_id), kind)
    if found is None:
        raise Http404
    path, name = found
    pieces = large_exports.pieces(path)
    body = _awaited(pieces) if isinstance(request, ASGIRequest) else pieces
    response = StreamingHttpResponse(body, content_type=EXPORT_TYPES[kind])
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@page
def keys(request: HttpRequest) -> HttpResponse:
    """Keys by name, fifty a page; revoked and expired ones last, to be found in old records."""
    scope = scope_of(request)
    query = request.GET.get("q", "").replace("\x00", "").strip()[:100]
    is_over = Q(revoked_at__isnull=False) | Q(expires_at__lte=now())
    rows = ApiKey.objects.select_related("owner", "account").order_by(
        Case(When(is_over, then=1), default=0), "name", "pk"
    )
    if scope is not None:
        rows = rows.filter(owner_id=scope)
    if query:
        named = Q(name__icontains=query) | Q(prefix__istartswith=query)
        rows = rows.filter(named | Q(owner__username__icontains=query))
    found = Paginator(rows, KEYS_A_PAGE).get_page(request.GET.get("page"))
    used = reports.key_use([key.pk for key in found])
    lines = [
        {
            "key": key,
            "use": use,
            "spark": charts.spark(use.days) if use else None,
            "budget": cards.budget_of(key, use),
        }
        for key in found
        for use in [used.get(key.pk)]
    ]
    context = {"rows": lines, "found": found, "q": query, "shows_owner": scope is None}
    return render(request, "pages/keys.html", context)


@page
def search(request: HttpRequest) -> HttpResponse:
    """Where the search field of the top bar leads: an exchange by id, else the list."""
    text = request.GET.get("q", "").strip()[:100]
    record = reports.find(text, scope_of(request)) if len(text) >= 16 else None
    if record is not None:
        return redirect("exchange", record.pk)
    query = QueryDict(mutable=True)
    query["q"] = text
    query["range"] = "30d"
    response: HttpResponse = redirect("requests")
    response.headers["Location"] += f"?{query.urlencode()}"
    return response


@page
def live_rows(request: HttpRequest) -> JsonResponse:
    """What is in flight now, for a page whose socket is gone."""
    return JsonResponse({"in_flight": cards.in_flight(scope_of(request))})
