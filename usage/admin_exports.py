"""Lists of the admin as files: CSV for spreadsheets, JSON Lines for programs; streamed, audited."""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import date, datetime
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.urls import path
from django.utils.timezone import localtime, now

from accounts import audit
from accounts.access import address_of
from accounts.admin_rules import actor_of, secret_names
from usage.exports import CHUNK, cell

TYPES: Final = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
PIECE_CHARS: Final = 32_768


class Exported:
    """A list that may be taken away as a file, filtered as it stands. Auditors may, too."""

    list_before_template = "admin/export_links.html"

    def get_urls(self) -> list[Any]:
        own = [
            path(
                f"export.{kind}",
                self.admin_site.admin_view(self.export),  # type: ignore[attr-defined]
                {"kind": kind},
                name=f"{self.opts.app_label}_{self.opts.model_name}_{kind}",  # type: ignore[attr-defined]
            )
            for kind in TYPES
        ]
        return own + super().get_urls()  # type: ignore[misc,no-any-return]

    def export(self, request: HttpRequest, kind: str) -> HttpResponseBase:
        if not self.has_view_permission(request):  # type: ignore[attr-defined]
            raise PermissionDenied
        shown = self.get_changelist_instance(request)  # type: ignore[attr-defined]
        model = self.model  # type: ignore[attr-defined]
        hidden = secret_names(model)
        names = [f.attname for f in model._meta.concrete_fields if f.name not in hidden]
        rows = plain_rows(shown.queryset, names)
        asked = {"kind": kind, "filter": request.META.get("QUERY_STRING", "")[:500]}
        action = f"{model._meta.model_name}.exported"
        audit.record(
            actor_of(request), action, model._meta.verbose_name_plural, asked, address_of(request)
        )
        chunks = csv_chunks(names, rows) if kind == "csv" else json_lines(rows)
        # An ASGI server would read a plain iterator to its end before sending the first byte.
        body = _awaited(chunks) if isinstance(request, ASGIRequest) else chunks
        response = StreamingHttpResponse(body, content_type=TYPES[kind])
        name = f"{model._meta.model_name}_{localtime(now()):%Y-%m-%d}.{kind}"
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        response.headers["Cache-Control"] = "no-store"
        return response


def plain_rows(queryset: QuerySet[Any], names: list[str]) -> Iterator[dict[str, Any]]:
    """Each row as plain values, at most CHUNK in memory."""
    for row in queryset.values(*names).iterator(chunk_size=CHUNK):
        yield {name: _plain(row[name]) for name in names}


def csv_chunks(names: list[str], rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """CSV with a byte order mark; no cell is taken for a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    buffer.write("\ufeff")
    writer.writerow(names)
    for row in rows:
        writer.writerow([cell(row[name]) for name in names])
        if buffer.tell() > PIECE_CHARS:
            yield _taken(buffer)
    yield _taken(buffer)


def json_lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """One object a line."""
    buffer = io.StringIO()
    for row in rows:
        buffer.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
        if buffer.tell() > PIECE_CHARS:
            yield _taken(buffer)
    yield _taken(buffer)


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime | date) else value


async def _awaited(chunks: Iterator[str]) -> AsyncIterator[str]:
    take = sync_to_async(lambda: next(chunks, None))
    while (chunk := await take()) is not None:
        yield chunk
