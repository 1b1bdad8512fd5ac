"""Pages of models: the catalog, aliases, policies, terms, and what has changed."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core import signing
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.feedgenerator import Atom1Feed
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts import audit
from accounts.access import (
    address_of,
    admin_page,
    member_of,
    oversees,
    page,
    scope_of,
    sees_all,
)
from accounts.models import Member
from proxy import catalog_history, model_table, policies, terms
from proxy.catalog_history import Change, Wish
from proxy.errors import GatewayError
from proxy.model_forms import AliasForm, PolicyForm, TermsForm
from proxy.models import CatalogChange, ModelAlias, ModelPolicy

SHOWN_CHANGES = 10
LISTED_CHANGES = 200
FEED_CHANGES = 50
DEFAULT_DAYS = 90
FEED_SALT = "proxy.models.feed"


@page
def models(request: HttpRequest) -> HttpResponse:
    return _models_page(request)


def _models_page(request: HttpRequest, form: AliasForm | None = None) -> HttpResponse:
    scope = scope_of(request)
    rows, lists = model_table.rows(scope)
    model_table.mark_barred(rows, None if scope is None else member_of(request))
    context: dict[str, Any] = {
        "rows": rows,
        "lists": lists,
        "aliases": model_table.aliases(rows),
        "policies": model_table.model_policies(rows) if sees_all(request) else [],
        "changes": catalog_history.changes(scope, Wish(), SHOWN_CHANGES),
    }
    if member_of(request).is_superuser:
        context["form"] = form or AliasForm(known=set())
        context["known"] = sorted(row.id for row in rows)
    return render(request, "pages/models.html", context, status=400 if form else 200)


def _known() -> set[str]:
    rows, _lists = model_table.rows(None)
    return {row.id for row in rows}


# Aliases.


@admin_page
@require_POST
def add_alias(request: HttpRequest) -> HttpResponseBase:
    form = AliasForm(request.POST, known=_known())
    if not form.is_valid():
        return _models_page(request, form)
    alias = ModelAlias.objects.create(**form.cleaned_data)
    _record(request, "alias.added", alias, model=alias.model)
    messages.success(request, _("%(name)s is understood from now on.") % {"name": alias.pattern})
    return redirect("models")


@admin_page
@require_POST
def act_on_alias(request: HttpRequest, alias_id: int) -> HttpResponseBase:
    alias = get_object_or_404(ModelAlias, pk=alias_id)
    match request.POST.get("action"):
        case "disable" | "enable" as action:
            alias.is_enabled = action == "enable"
            alias.save(update_fields=["is_enabled", "updated_at"])
            _record(request, f"alias.{action}d", alias)
        case "delete":
            _record(request, "alias.deleted", alias)
            alias.delete()
        case _:
            raise Http404
    return redirect("models")


def _record(request: HttpRequest, action: str, target: object, **detail: Any) -> None:
    audit.record(member_of(request), action, target, detail, address_of(request))


# Policies.


@admin_page
def new_policy(request: HttpRequest) -> HttpResponseBase:
    asked = request.GET.get("model", "")[: policies.MAX_PATTERN]
    return _policy_page(request, None, {"model": asked, "is_enabled": True})


@admin_page
def policy(request: HttpRequest, policy_id: int) -> HttpResponseBase:
    found = get_object_or_404(ModelPolicy, pk=policy_id)
    if request.method == "POST" and request.POST.get("action") == "delete":
        _record(request, "policy.deleted", found, **_told(found))
        found.delete()
        messages.success(request, _("The policy is gone; it counts no more."))
        return redirect("models")
    return _policy_page(request, found, {})


def _policy_page(
    request: HttpRequest, found: ModelPolicy | None, initial: dict[str, Any]
) -> HttpResponseBase:
    known = _known()
    form = PolicyForm(request.POST or None, known=known, policy=found, initial=initial)
    if request.method == "POST" and form.is_valid():
        saved = found or ModelPolicy()
        before = {} if found is None else _told(found)
        for name, value in form.cleaned_data.items():
            setattr(saved, name, value)
        saved.save()
        action = "policy.added" if found is None else "policy.changed"
        _record(request, action, saved, before=before, after=_told(saved))
        messages.success(request, _("The policy counts from now on."))
        return redirect("models")
    context = {"form": form, "policy": found, "known": sorted(known)}
    return render(request, "pages/model_policy.html", context, status=400 if form.errors else 200)


def _told(found: ModelPolicy) -> dict[str, Any]:
    names = ("model", "is_enabled", "plans", "fallback", "note")
    return {name: getattr(found, name) for name in names}


# Terms.


@admin_page
def model_terms(request: HttpRequest, account_id: int, model_id: str) -> HttpResponseBase:
    """Shows what GitHub asks to agree to; only a person's yes on this page agrees."""
    found = terms.of(account_id, model_id)
    if found is None:
        raise Http404
    if found.entry.is_enabled:
        words = {"model": model_id, "login": found.account.login}
        messages.info(request, _("%(model)s is enabled for %(login)s already.") % words)
        return redirect("models")
    form = TermsForm(request.POST or None)
    problem = ""
    if request.method == "POST" and form.is_valid():
        problem = _accept(request, found)
        if not problem:
            return redirect("models")
    context = {"terms": found, "form": form, "problem": problem}
    status = 409 if problem else 400 if form.errors else 200
    return render(request, "pages/model_terms.html", context, status=status)


def _accept(request: HttpRequest, found: terms.Terms) -> str:
    """Why GitHub said no, empty when it said yes; both are in the audit log."""
    detail = {"account": found.account.login, "terms": found.text[:500]}
    try:
        terms.accept(found.account.pk, found.entry.id)
    except GatewayError as error:
        _record(request, "terms.refused", found.entry.id, **detail, reason=error.message)
        return error.message
    _record(request, "terms.accepted", found.entry.id, **detail)
    words = {"model": found.entry.id, "login": found.account.login}
    messages.success(request, _("%(model)s is enabled for %(login)s.") % words)
    return ""


# Changes.


@page
@require_safe
def changes(request: HttpRequest) -> HttpResponse:
    wish = _wish(request)
    scope = scope_of(request)
    found = catalog_history.changes(scope, wish, LISTED_CHANGES)
    _rows, lists = model_table.rows(scope)
    feed = f"{reverse('model-feed')}?{urlencode({'key': feed_key(member_of(request))})}"
    context = {
        "changes": found,
        "wish": wish,
        "kinds": CatalogChange.Kind.choices,
        "logins": [one.login for one in lists],
        "spans": (7, 30, 90, 400),
        "feed": feed,
    }
    return render(request, "pages/model_changes.html", context)


def _wish(request: HttpRequest) -> Wish:
    days = request.GET.get("days", "")
    return Wish(
        kind=request.GET.get("kind", "")[:16],
        model=request.GET.get("model", "").strip()[:100],
        account=request.GET.get("account", "")[:100],
        days=int(days) if days.isascii() and days.isdigit() and len(days) < 5 else DEFAULT_DAYS,
    )


def feed_key(member: Member) -> str:
    """What lets a feed reader in as this person, for this feed alone; a new password ends it."""
    return signing.dumps([member.pk, _proof(member)], salt=FEED_SALT)


def _proof(member: Member) -> str:
    return salted_hmac(FEED_SALT, member.get_session_auth_hash()).hexdigest()[:32]


def _reader(key: str) -> Member | None:
    try:
        member_id, proof = signing.loads(key[:500], salt=FEED_SALT)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    member = Member.objects.filter(pk=member_id, is_active=True).first()
    if member is None or not constant_time_compare(proof, _proof(member)):
        return None
    return member


@require_safe
def feed(request: HttpRequest) -> HttpResponse:
    """The changes as Atom, for readers that have no session; without its key it does not exist."""
    member = _reader(request.GET.get("key", ""))
    if member is None:
        raise Http404
    scope = None if oversees(member) else member.pk
    found = catalog_history.changes(scope, Wish(), FEED_CHANGES)
    page_url = request.build_absolute_uri(reverse("model-changes"))
    atom = Atom1Feed(title=_("Changes of Copilot's models"), link=page_url, description="")
    for change in found:
        row = change.row
        atom.add_item(
            title=catalog_history.sentence(row),
            link=f"{page_url}?{urlencode({'model': row.model})}",
            description=_told_in_feed(change),
            unique_id=f"urn:copilot-gateway:catalog-change:{row.pk}",
            pubdate=row.at,
            updateddate=row.at,
        )
    return HttpResponse(atom.writeString("utf-8"), content_type=Atom1Feed.content_type)


def _told_in_feed(change: Change) -> str:
    lines = [f"{d.name}: {d.before} -> {d.after}" for d in change.differences]
    return "\n".join([*lines, ", ".join(change.accounts)])
