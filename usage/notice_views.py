"""Pages of notifications: the last notices, and the channels that tell them."""

from typing import Final

from django.contrib import messages
from django.core.cache import cache
from django.db.models import Prefetch, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import audit
from accounts.access import address_of, doing_page, member_of, oversees, page
from accounts.encryption import Secret
from accounts.models import Member, Team
from usage import channels, deliveries, notices
from usage.channel_forms import ChannelForm, teams_of
from usage.models import Channel, Delivery, Notification

PAGE: Final = 50
MAX_CHANNELS: Final = 20
TESTS: Final = 5
TESTS_WINDOW_S: Final = 600
ACTIONS: Final = ("test", "enable", "disable", "delete", "secret")


def seen_channels(member: Member) -> QuerySet[Channel]:
    """Own ones, those of teams one looks after; of all teams and the administrators' for overseers.

    Another person's own channels are nobody else's business.
    """
    shared = Q(member=None) if oversees(member) else Q(team__in=teams_of(member))
    return Channel.objects.filter(Q(member=member) | shared).select_related("team", "member")


def changeable_channels(member: Member) -> QuerySet[Channel]:
    """What one may edit; an auditor changes nothing."""
    if member.is_auditor:
        return Channel.objects.none()
    shared = Q(member=None) if member.is_superuser else Q(team__in=teams_of(member))
    return Channel.objects.filter(Q(member=member) | shared).select_related("team")


def _event(request: HttpRequest) -> str:
    name = request.GET.get("event", "")
    return name if name in notices.BY_NAME else ""


@page
def notifications(request: HttpRequest) -> HttpResponse:
    member = member_of(request)
    channels_seen = list(seen_channels(member))
    event = _event(request)
    rows = notices.visible_to(member)
    if event:
        rows = rows.filter(event=event)
    before = request.GET.get("before", "")
    if before.isascii() and before.isdigit() and len(before) < 19:
        rows = rows.filter(pk__lt=int(before))
    mine = Delivery.objects.filter(channel__in=channels_seen).select_related("channel")
    found = list(
        rows.order_by("-pk").prefetch_related(
            Prefetch("deliveries", queryset=mine, to_attr="shown_deliveries")
        )[: PAGE + 1]
    )
    more, found = len(found) > PAGE, found[:PAGE]
    changeable = set(changeable_channels(member).values_list("pk", flat=True))
    context = {
        "rows": [_row(row) for row in found],
        "more_before": found[-1].pk if more else None,
        "channels": [{"channel": row, "may_change": row.pk in changeable} for row in channels_seen],
        "changeable": changeable,
        "events": [(each.name, each.label) for each in notices.EVENTS],
        "event": event,
        "is_first": not before,
        "events_total": len(notices.EVENTS),
    }
    return render(request, "pages/notifications.html", context)


def _row(row: Notification) -> dict[str, object]:
    known = notices.BY_NAME.get(row.event)
    url = str(row.detail.get("url", ""))
    return {
        "notice": row,
        "word": known.word if known else row.event,
        "tone": known.tone if known else "warn",
        # Only ways of our own: a notice's detail comes from many places.
        "url": url if url.startswith("/dashboard/") else "",
        "deliveries": getattr(row, "shown_deliveries", []),
    }


@doing_page
def channel_new(request: HttpRequest) -> HttpResponse:
    member = member_of(request)
    initial = {"address": member.email, "kind": Channel.Kind.MAIL}
    form = ChannelForm(request.POST or None, member=member, initial=initial)
    if request.method == "POST" and form.is_valid():
        if Channel.objects.filter(member=member).count() >= MAX_CHANNELS:
            form.add_error(None, _("You have twenty channels; remove one first."))
        else:
            channel, secret = form.save()
            _audit(request, "channel.added", channel)
            if secret:
                return _shown_once(request, channel, secret)
            messages.success(
                request, _("The channel is there. Send a test to see whether it works.")
            )
            return redirect("notifications")
    return render(request, "pages/channel.html", {"form": form}, status=400 if form.errors else 200)


def _shown_once(request: HttpRequest, channel: Channel, secret: str) -> HttpResponse:
    return render(request, "pages/channel_secret.html", {"channel": channel, "secret": secret})


def _channel(request: HttpRequest, channel_id: int) -> Channel:
    return get_object_or_404(changeable_channels(member_of(request)), pk=channel_id)


@doing_page
def channel(request: HttpRequest, channel_id: int) -> HttpResponse:
    found = _channel(request, channel_id)
    form = ChannelForm(request.POST or None, member=member_of(request), channel=found)
    if request.method == "POST" and form.is_valid():
        form.save()
        _audit(request, "channel.changed", found)
        messages.success(request, _("Saved."))
        return redirect("notifications")
    context = {"form": form, "channel": found}
    return render(request, "pages/channel.html", context, status=400 if form.errors else 200)


@page
@require_POST
def channel_act(request: HttpRequest, channel_id: int, action: str) -> HttpResponse:
    found = _channel(request, channel_id)
    if action not in ACTIONS:
        raise Http404
    if action == "test":
        _test(request, found)
    elif action == "secret":
        return _new_secret(request, found)
    else:
        _audit(request, f"channel.{action}d", found)
        _change(found, action)
        messages.success(request, _("Done."))
    return redirect("notifications")


def _change(channel: Channel, action: str) -> None:
    if action == "delete":
        channel.delete()
        return
    channel.is_enabled = action == "enable"
    channel.save(update_fields=["is_enabled", "updated_at"])
    if not channel.is_enabled:
        # Nobody wants last month's notices on the day it is switched on again.
        channel.deliveries.filter(state=Delivery.State.WAITING).delete()


def _new_secret(request: HttpRequest, channel: Channel) -> HttpResponse:
    if channel.kind != Channel.Kind.WEBHOOK:
        raise Http404
    secret = channels.new_secret()
    channel.secret = Secret.of(secret)
    channel.save(update_fields=["secret", "updated_at"])
    _audit(request, "channel.secret_renewed", channel)
    return _shown_once(request, channel, secret)


def _test(request: HttpRequest, channel: Channel) -> None:
    member = member_of(request)
    counter = f"channel-tests:{member.pk}"
    cache.add(counter, 0, TESTS_WINDOW_S)
    # A test sends at once to wherever somebody likes: a few are enough to set up a channel.
    if cache.incr(counter) > TESTS:
        messages.error(request, _("That were many tests; wait ten minutes."))
        return
    problem = deliveries.send_test(channel, member.get_username())
    _audit(request, "channel.tested", channel, problem)
    if problem:
        messages.error(
            request,
            _("The test was not taken: %(reason)s") % {"reason": problem},
        )
    else:
        messages.success(request, _("The test was taken. Look whether it arrived."))


@page
@require_POST
def delivery_again(request: HttpRequest, delivery_id: int) -> HttpResponse:
    mine = changeable_channels(member_of(request))
    found = get_object_or_404(Delivery, pk=delivery_id, channel__in=mine)
    deliveries.try_again(found)
    messages.success(request, _("It will be tried again within a minute."))
    return redirect("notifications")


def _audit(request: HttpRequest, action: str, channel: Channel, problem: str = "") -> None:
    team: Team | None = channel.team
    detail = {"kind": channel.kind, "events": channel.events, "digest": channel.digest}
    if team is not None:
        detail["team"] = team.name
    if problem:
        detail["problem"] = problem
    audit.record(member_of(request), action, channel, detail, address_of(request))
