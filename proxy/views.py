"""Pages of the proxy: approvals, models, new keys with their snippets, set-up, health."""

import json
import platform
import uuid
from typing import Any, get_args

import django
from asgiref.sync import async_to_sync
from django.contrib import messages
from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.dateparse import parse_datetime
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import audit
from accounts import keys as key_ring
from accounts.access import address_of, admin_page, is_fragment, member_of, page, scope_of
from accounts.forms import NewKeyForm, RevokeForm
from accounts.keys import Caller
from accounts.models import ApiKey, Member
from proxy import approval, health_lines, model_table, snippets
from proxy.errors import GatewayError
from proxy.formats import FORMATS
from proxy.reading import decode_json
from proxy.rehearsal import rehearse
from usage import cards, charts, reports
from usage.wording import outcome_word

FORM_KEPT_S = 24 * 3600
SCOPES: dict[str, approval.Scope] = {scope: scope for scope in get_args(approval.Scope)}


def base_url(request: HttpRequest) -> str:
    return f"{request.scheme}://{request.get_host()}"


# Approvals.


@admin_page
def approvals(request: HttpRequest) -> HttpResponse:
    context = {"waiting": model_table.waiting(), "decisions": model_table.decisions()}
    template = "parts/approvals.html" if is_fragment(request) else "pages/approvals.html"
    return render(request, template, context)


@admin_page
@require_POST
def decide(request: HttpRequest, pending_id: str) -> HttpResponseBase:
    """First decision wins; whoever comes later is told so."""
    member = member_of(request)
    approve = request.POST.get("decision") == "approve"
    scope = SCOPES.get(request.POST.get("scope", ""), "once")
    won = approval.decide(pending_id, approve=approve, actor=member.get_username(), scope=scope)
    if won:
        action = "approval.approved" if approve else "approval.refused"
        audit.record(member, action, pending_id, {"scope": scope}, address_of(request))
    elif not is_fragment(request):
        messages.info(request, _("This request was decided by somebody else, or its time was up."))
    if is_fragment(request):
        return approvals(request)
    return redirect("approvals")


# Models.


@page
def models(request: HttpRequest) -> HttpResponse:
    scope = scope_of(request)
    rows, lists = model_table.rows(scope)
    context = {"rows": rows, "lists": lists, "aliases": model_table.aliases()}
    return render(request, "pages/models.html", context)


# Keys.


@page
def new_key(request: HttpRequest) -> HttpResponse:
    """The form, and after it the secret: shown in this one answer and stored nowhere."""
    member = member_of(request)
    form = NewKeyForm(request.POST or None, member=member, initial={"form_id": uuid.uuid4()})
    if request.method == "POST" and form.is_valid():
        if not cache.add(f"key-form:{form.cleaned_data['form_id']}", 1, FORM_KEPT_S):
            # A reload of the page with the secret sends the form again.
            messages.info(request, _("This form has made its key. The secret was shown once."))
            return redirect("keys")
        owner = form.cleaned_data.get("owner") or member
        key, secret = key_ring.create(
            form.cleaned_data["name"],
            owner,
            actor=member,
            address=address_of(request),
            **form.limits(),
        )
        offered = model_table.offered(scope_of(request))
        context = {
            "key": key,
            "secret": secret,
            "tabs": snippets.tabs(base_url(request), secret, offered),
            "offered": offered,
            "since": key.created_at.isoformat(),
            "base_url": base_url(request),
        }
        return render(request, "pages/key_secret.html", context)
    context = {"form": form, "offered": model_table.offered(scope_of(request))}
    return render(request, "pages/key_new.html", context, status=400 if form.errors else 200)


def _key(request: HttpRequest, prefix: str) -> ApiKey:
    rows = ApiKey.objects.select_related("owner", "account").filter(prefix=prefix[:16])
    scope = scope_of(request)
    if scope is not None:
        rows = rows.filter(owner_id=scope)
    found: ApiKey | None = rows.first()
    if found is None:
        raise Http404
    return found


@page
def key(request: HttpRequest, prefix: str) -> HttpResponse:
    found = _key(request, prefix)
    return _key_page(request, found, RevokeForm(key=found))


def _key_page(request: HttpRequest, found: ApiKey, form: RevokeForm) -> HttpResponse:
    use = reports.key_use(scope_of(request)).get(found.pk)
    offered = model_table.offered(scope_of(request))
    context = {
        "key": found,
        "use": use,
        "spark": charts.spark(use.days) if use else None,
        "budget": cards.budget_of(found, use),
        "form": form,
        "tabs": snippets.tabs(base_url(request), snippets.PLACEHOLDER, offered),
        "offered": offered,
    }
    return render(request, "pages/key.html", context, status=400 if form.errors else 200)


@page
@require_POST
def revoke_key(request: HttpRequest, prefix: str) -> HttpResponse:
    found = _key(request, prefix)
    form = RevokeForm(request.POST, key=found)
    if not form.is_valid():
        return _key_page(request, found, form)
    key_ring.revoke(found, actor=member_of(request), address=address_of(request))
    messages.success(request, _("The key %(name)s is refused from now on.") % {"name": found.name})
    return redirect("keys")


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


@page
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
    """A signed-in person calls as with a key of their own without limits."""
    return Caller(
        key_id=None,
        key_name="",
        key_prefix="",
        member_id=member.pk,
        member=member.get_username(),
        is_admin=member.is_superuser,
    )


# Health.


@admin_page
def health(request: HttpRequest) -> HttpResponse:
    context = {
        "lines": health_lines.lines(),
        "python": platform.python_version(),
        "django": django.get_version(),
        "at": now(),
    }
    template = "parts/health.html" if is_fragment(request) else "pages/health.html"
    return render(request, template, context)
