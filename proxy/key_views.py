"""Pages of one API key: made, shown, rotated, extended, its limits, what it stores, revoked."""

import uuid
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import audit, key_changes
from accounts import keys as key_ring
from accounts.access import (
    address_of,
    admin_page,
    doing_page,
    member_of,
    page,
    scope_of,
)
from accounts.forms import NewKeyForm, RevokeForm
from accounts.key_forms import CopyLimitsForm, ExtendForm, RotateForm, SeatForm, StoreForm
from accounts.models import ApiKey
from accounts.people_forms import LimitsForm
from proxy import model_table, snippets
from proxy.views import base_url
from usage import cards, charts, reports

FORM_KEPT_S: Final = 24 * 3600


@doing_page
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
        return _secret_page(request, key, secret)
    context = {"form": form, "offered": model_table.offered(scope_of(request))}
    return render(request, "pages/key_new.html", context, status=400 if form.errors else 200)


def _secret_page(request: HttpRequest, key: ApiKey, secret: str) -> HttpResponse:
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
    return _key_page(request, _key(request, prefix))


def _key_page(request: HttpRequest, found: ApiKey, **bound: forms.Form) -> HttpResponse:
    """One key with its forms; `bound` are those that were sent and not accepted."""
    use = reports.key_use([found.pk]).get(found.pk)
    offered = model_table.offered(scope_of(request))
    shown: dict[str, forms.Form] = {
        "revoke": RevokeForm(key=found),
        "rotate": RotateForm(),
        "store": StoreForm(key=found, auto_id="store_%s"),
    }
    if member_of(request).is_superuser:
        shown |= {
            "extend": ExtendForm(key=found),
            "limits": LimitsForm(initial=LimitsForm.initial_of(found)),
            "seat": SeatForm(key=found),
            "copy": CopyLimitsForm(key=found),
        }
    context: dict[str, Any] = {
        "key": found,
        "use": use,
        "spark": charts.spark(use.days) if use else None,
        "budget": cards.budget_of(found, use),
        "forms": shown | bound,
        "tabs": snippets.tabs(base_url(request), snippets.PLACEHOLDER, offered),
        "offered": offered,
        "replaced_by": found.replaced_by.filter(revoked_at=None).first(),
    }
    return render(request, "pages/key.html", context, status=400 if bound else 200)


@doing_page
@require_POST
def revoke_key(request: HttpRequest, prefix: str) -> HttpResponseBase:
    found = _key(request, prefix)
    form = RevokeForm(request.POST, key=found)
    if not form.is_valid():
        return _key_page(request, found, revoke=form)
    key_ring.revoke(found, actor=member_of(request), address=address_of(request))
    messages.success(request, _("The key %(name)s is refused from now on.") % {"name": found.name})
    return redirect("keys")


@doing_page
@require_POST
def rotate_key(request: HttpRequest, prefix: str) -> HttpResponseBase:
    """A new secret with the same limits, shown this once; the old one works a while longer."""
    found = _key(request, prefix)
    form = RotateForm(request.POST)
    if not form.is_valid():
        return _key_page(request, found, rotate=form)
    try:
        new, secret = key_changes.rotate(
            found, actor=member_of(request), grace=form.grace, address=address_of(request)
        )
    except key_changes.KeyEnded as error:
        messages.error(request, str(error))
        return redirect("key", found.prefix)
    return _secret_page(request, new, secret)


@doing_page
@require_POST
def store_bodies(request: HttpRequest, prefix: str) -> HttpResponseBase:
    """The owner, or an administrator, lets this key keep what it sends and gets, for a while."""
    found = _key(request, prefix)
    form = StoreForm(request.POST, key=found, auto_id="store_%s")
    if not form.is_valid():
        return _key_page(request, found, store=form)
    key_changes.store_bodies(
        found, form.until, actor=member_of(request), address=address_of(request)
    )
    messages.success(request, _("Saved."))
    return redirect("key", found.prefix)


@admin_page
@require_POST
def extend_key(request: HttpRequest, prefix: str) -> HttpResponseBase:
    found = _key(request, prefix)
    form = ExtendForm(request.POST, key=found)
    if not form.is_valid():
        return _key_page(request, found, extend=form)
    try:
        key_changes.extend(found, form.until, actor=member_of(request), address=address_of(request))
        messages.success(request, _("Saved."))
    except key_changes.KeyEnded as error:
        messages.error(request, str(error))
    return redirect("key", found.prefix)


@admin_page
@require_POST
def limit_key(request: HttpRequest, prefix: str) -> HttpResponseBase:
    found = _key(request, prefix)
    form = LimitsForm(request.POST)
    if not form.is_valid():
        return _key_page(request, found, limits=form)
    _write(request, found, form.write(found), "key.limits_changed")
    return redirect("key", found.prefix)


@admin_page
@require_POST
def seat_key(request: HttpRequest, prefix: str) -> HttpResponseBase:
    """Which account or pool it uses, its lane, whether people approve."""
    found = _key(request, prefix)
    form = SeatForm(request.POST, key=found)
    if not form.is_valid():
        return _key_page(request, found, seat=form)
    _write(request, found, form.write(found), "key.changed")
    return redirect("key", found.prefix)


@admin_page
@require_POST
def copy_limits(request: HttpRequest, prefix: str) -> HttpResponseBase:
    found = _key(request, prefix)
    form = CopyLimitsForm(request.POST, key=found)
    if not form.is_valid():
        return _key_page(request, found, copy=form)
    key_changes.copy_limits(
        form.cleaned_data["source"],
        [found],
        actor=member_of(request),
        address=address_of(request),
    )
    messages.success(request, _("The limits are taken over."))
    return redirect("key", found.prefix)


def _write(request: HttpRequest, found: ApiKey, changed: dict[str, Any], action: str) -> None:
    if changed:
        found.save(update_fields=[*changed, "updated_at"])
        key_ring.ring.refresh(force=True)
        audit.record(member_of(request), action, found, changed, address_of(request))
    messages.success(request, _("Saved."))
