"""Pages of stored bodies: read one's own (audited), delete them, and what is kept of whom how long."""

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from accounts.access import address_of, doing_page, member_of, page, scope_of
from accounts.models import ApiKey
from usage import bodies
from usage.models import Removal, UsageRecord

SHOWN_REMOVALS = 20


@page
@require_POST
def read(request: HttpRequest, exchange_id: str) -> HttpResponse:
    """By POST: reading leaves a line in the audit log, which no link or prefetch may write."""
    found = bodies.read(
        exchange_id,
        scope=scope_of(request),
        reader=member_of(request),
        address=address_of(request),
    )
    if found is None:
        raise Http404
    context = {"bodies": found, "exchange_id": exchange_id}
    return render(request, "pages/bodies.html", context)


@doing_page
@require_POST
def delete(request: HttpRequest, exchange_id: str) -> HttpResponseBase:
    deleted = bodies.delete(
        scope=scope_of(request),
        actor=member_of(request),
        exchange_id=exchange_id,
        address=address_of(request),
    )
    if not deleted:
        raise Http404
    messages.success(request, _("The bodies of this exchange are deleted."))
    return redirect("exchange", exchange_id)


@page
def privacy(request: HttpRequest) -> HttpResponse:
    """What is kept of the person, how long, and the proof of what was removed."""
    member = member_of(request)
    scope = scope_of(request)
    context = {
        "records": UsageRecord.objects.filter(member_id=member.pk).count(),
        "bodies": bodies.of_scope(member.pk).count(),
        "keys": ApiKey.objects.filter(owner=member, revoked_at=None, stores_bodies_until__gt=now()),
        "record_days": settings.USAGE_RETENTION_DAYS,
        "body_days": settings.GATEWAY_BODY_RETENTION_DAYS,
        "removals": Removal.objects.all()[:SHOWN_REMOVALS] if scope is None else None,
    }
    return render(request, "pages/privacy.html", context)


@page
@require_POST
def delete_own(request: HttpRequest) -> HttpResponseBase:
    member = member_of(request)
    count = bodies.delete_of(member, actor=member, address=address_of(request))
    messages.success(
        request,
        ngettext(
            "The bodies of %(count)d exchange are deleted.",
            "The bodies of %(count)d exchanges are deleted.",
            count,
        )
        % {"count": count},
    )
    return redirect("privacy")
