"""Pages of the proxy: set-up, translation, health."""

import json
import platform
from typing import Any

import django
from asgiref.sync import async_to_sync
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.dateparse import parse_datetime
from django.utils.timezone import now

from accounts.access import (
    is_fragment,
    member_of,
    overseer_page,
    own_page,
    page,
    scope_of,
)
from accounts.keys import Caller, model_rules
from accounts.models import ApiKey, Member
from proxy import health_lines, model_table, snippets
from proxy.errors import GatewayError
from proxy.formats import FORMATS
from proxy.reading import decode_json
from proxy.rehearsal import rehearse
from usage import reports
from usage.wording import outcome_word


def base_url(request: HttpRequest) -> str:
    return f"{request.scheme}://{request.get_host()}"


# Set-up.


@page
def setup(request: HttpRequest) -> HttpResponse:
    offered = model_table.offered(scope_of(request))
    context = {
        "tabs": snippets.tabs(base_url(request), snippets.PLACEHOLDER, offered),
        "offered": offered,
        "since": now().isoformat(),
        "base_url": base_url(request),
        "has_key": ApiKey.objects.filter(owner=member_of(request), revoked_at=None).exists(),
    }
    return render(request, "pages/setup.html", context)


@page
def seen(request: HttpRequest) -> HttpResponse:
    """The waiting line of the set-up page: the person's first exchange since it was opened."""
    try:
        since = parse_datetime(request.GET.get("since", "")[:40])
    except ValueError:
        since = None
    if since is None or since.tzinfo is None:
        raise Http404
    record = reports.first_since(member_of(request).pk, since)
    context: dict[str, Any] = {"record": record, "since": since.isoformat()}
    if record is not None:
        context["outcome"] = outcome_word(
            record.outcome, status=record.upstream_status or record.status
        )
    return render(request, "parts/seen.html", context)


# Translation.


@own_page
def translate(request: HttpRequest) -> HttpResponse:
    """What a pasted request becomes; see `proxy.rehearsal`."""
    member = member_of(request)
    given = {name: request.POST.get(name, "") for name in ("format", "model", "request")}
    context: dict[str, Any] = {
        "formats": list(FORMATS),
        "format": given["format"],
        "model": given["model"],
        "body": given["request"],
        "offered": model_table.offered(scope_of(request)),
    }
    if request.method == "POST":
        try:
            body = decode_json(given["request"].encode("utf-8", "replace"), "")
            wish = {"format": given["format"], "request": body, "model": given["model"] or None}
            steps = async_to_sync(rehearse)(_as_caller(member), wish)
        except GatewayError as error:
            context["problem"] = error.message
            return render(request, "pages/translate.html", context, status=400)
        context["steps"] = [
            (name.replace("_", " "), json.dumps(step, indent=2, ensure_ascii=False))
            for name, step in steps.items()
        ]
    return render(request, "pages/translate.html", context)


def _as_caller(member: Member) -> Caller:
    """A signed-in person calls as with a key of their own without limits but the rules of models."""
    return Caller(
        key_id=None,
        key_name="",
        key_prefix="",
        member_id=member.pk,
        member=member.get_username(),
        is_admin=member.is_superuser,
        model_rules=model_rules(member),
    )


# Health.


@overseer_page
def health(request: HttpRequest) -> HttpResponse:
    context = {
        "lines": health_lines.lines(),
        "tasks": health_lines.tasks(),
        "report": health_lines.report(),
        "python": platform.python_version(),
        "django": django.get_version(),
        "at": now(),
    }
    template = "parts/health.html" if is_fragment(request) else "pages/health.html"
    return render(request, template, context)
