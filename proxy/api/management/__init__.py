"""The HTTP management API under `/api/admin/`: everything that the admin can do, for programs.

Described at `/api/admin/docs` and `/api/admin/openapi.json`. Keys of administrators change, keys of
auditors read; see `callers`.
"""

from django.conf import settings
from django.db import DataError
from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from proxy.api.errors import render
from proxy.api.management import accounts, keys, members, usage
from proxy.api.management.callers import guard
from proxy.api.management.resources import router_of
from proxy.api.management.tables import RESOURCES
from proxy.errors import GatewayError, InvalidRequest

PREFIX = "api/admin/"


def build() -> NinjaAPI:
    api = NinjaAPI(
        title="Copilot Gateway management",
        version=settings.VERSION,
        description=(
            "Members, keys, seats, limits, models, approvals, usage and the audit log. "
            "Authenticate with an administrator's or (to read) an auditor's API key."
        ),
        urls_namespace="management",
        docs_url="/docs",
        openapi_url="/openapi.json",
        auth=guard,
    )
    api.add_exception_handler(GatewayError, _render)
    api.add_exception_handler(ValidationError, _render_invalid)
    api.add_exception_handler(HttpError, _render_unread)
    api.add_exception_handler(DataError, _render_unstorable)
    for resource in RESOURCES:
        api.add_router(f"/{resource.path}", router_of(resource))
    for path, router in (
        ("/members", members.router),
        ("/invites", members.invite_router),
        ("/notices", members.notice_router),
        ("/keys", keys.router),
        ("/accounts", accounts.router),
        ("/usage", usage.router),
    ):
        api.add_router(path, router)
    return api


def _render(request: HttpRequest, error: GatewayError | type[GatewayError]) -> HttpResponse:
    assert isinstance(error, GatewayError)
    return render(error, "chat_completions")


def _render_invalid(
    request: HttpRequest, error: ValidationError | type[ValidationError]
) -> HttpResponse:
    """Pydantic's findings as one sentence that names the field. What was sent is not quoted."""
    assert isinstance(error, ValidationError)
    first = error.errors[0] if error.errors else {}
    place = [str(part) for part in first.get("loc", ()) if part not in ("body", "payload")]
    name = ".".join(place)
    what = str(first.get("msg", "is not valid"))
    found = InvalidRequest(f"{name}: {what}" if name else what, param=name or None)
    return render(found, "chat_completions")


def _render_unread(request: HttpRequest, error: HttpError | type[HttpError]) -> HttpResponse:
    """Ninja could not even read the body."""
    return render(InvalidRequest("The body must be a JSON object."), "chat_completions")


def _render_unstorable(request: HttpRequest, error: DataError | type[DataError]) -> HttpResponse:
    """PostgreSQL holds no NUL in texts, and no number beyond its column."""
    found = InvalidRequest("A value cannot be stored or looked for: NUL, or a number too large.")
    return render(found, "chat_completions")


api = build()
