"""Pages of approvals: the queue with its last decisions, and the rules that fill it."""

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import audit
from accounts.access import (
    address_of,
    admin_page,
    is_fragment,
    member_of,
    overseer_page,
)
from proxy import approval, approval_rules
from proxy.approval_forms import RuleForm
from proxy.models import Approval, ApprovalRule

# How long a card that somebody else decided stays where it was, saying so.
JUST_NOW = timedelta(seconds=15)


@overseer_page
def approvals(request: HttpRequest) -> HttpResponse:
    return _queue(request)


def _queue(request: HttpRequest, *, missed: Approval | None = None) -> HttpResponse:
    """The queue. `missed` is what the person wanted to decide when somebody else had."""
    decided = approval.decisions()
    since = now() - JUST_NOW
    context: dict[str, Any] = {
        "waiting": approval.waiting(),
        "decisions": decided,
        "just_decided": [row for row in decided if row.decided_at and row.decided_at > since],
        "missed": missed,
        "key_asks": approval_rules.KEY_ASKS,
        "has_rules": ApprovalRule.objects.filter(is_enabled=True).exists(),
    }
    template = "parts/approvals.html" if is_fragment(request) else "pages/approvals.html"
    return render(request, template, context)


@admin_page
@require_POST
def decide(request: HttpRequest, approval_id: str) -> HttpResponseBase:
    """First decision wins; whoever comes later is told so."""
    row = approval.decide(
        approval_id,
        approve=request.POST.get("decision") == "approve",
        scope=approval.SCOPES.get(request.POST.get("scope", ""), "once"),
        actor=member_of(request),
        address=address_of(request),
    )
    missed = None if row is not None else Approval.objects.filter(pk=approval_id).first()
    if is_fragment(request):
        return _queue(request, missed=missed)
    if row is None:
        messages.info(request, _("This request was decided by somebody else, or its time was up."))
    return redirect("approvals")


# Rules.


@overseer_page
def rules(request: HttpRequest) -> HttpResponse:
    found = ApprovalRule.objects.select_related("team", "key")
    return render(request, "pages/approval_rules.html", {"rules": found})


@admin_page
def new_rule(request: HttpRequest) -> HttpResponseBase:
    return _edit(request, ApprovalRule(), "approval_rule.created")


@admin_page
def rule(request: HttpRequest, rule_id: int) -> HttpResponseBase:
    row = get_object_or_404(ApprovalRule, pk=rule_id)
    return _edit(request, row, "approval_rule.changed")


def _edit(request: HttpRequest, row: ApprovalRule, action: str) -> HttpResponseBase:
    form = RuleForm(request.POST or None, instance=row)
    if request.method == "POST" and form.is_valid():
        row = form.save()
        _changed(
            request, action, row, {name: str(form[name].value()) for name in form.changed_data}
        )
        return redirect("approval-rules")
    context = {"form": form, "rule": row}
    return render(request, "pages/approval_rule.html", context, status=400 if form.errors else 200)


@admin_page
@require_POST
def delete_rule(request: HttpRequest, rule_id: int) -> HttpResponseBase:
    row = get_object_or_404(ApprovalRule, pk=rule_id)
    row.delete()
    _changed(request, "approval_rule.deleted", row, {})
    return redirect("approval-rules")


def _changed(request: HttpRequest, action: str, row: ApprovalRule, detail: dict[str, str]) -> None:
    audit.record(member_of(request), action, row.name, detail, address_of(request))
    approval_rules.rules.refresh(force=True)
