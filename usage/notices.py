"""Notices: something worth telling is told once, to every channel that wants to hear of it.

`note` is the one door. Who calls it says what happened and what to do, in words without secrets and
prompts; `dedupe` names the thing and its time, so that a task that runs twice tells it once.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy

from accounts.models import Member, Team
from usage.bounds import storable
from usage.models import Channel, Delivery, Notification

DIGEST_HOUR_UTC: Final = 6
MAX_TITLE: Final = 200
MAX_TEXT: Final = 4000


@dataclass(frozen=True, slots=True)
class Event:
    """A kind of notice: what stands beside a notice, what a channel's form says, how it is marked."""

    name: str
    word: Any
    label: Any
    tone: Literal["bad", "warn", ""] = "warn"


EVENTS: Final = (
    Event("budget", gettext_lazy("Budget"), gettext_lazy("Budget: 50, 80, 95 and 100 % are spent")),
    Event(
        "quota",
        gettext_lazy("Quota"),
        gettext_lazy("Quota of an account: 50, 80, 95 and 100 % are used"),
    ),
    Event("forecast", gettext_lazy("Forecast"), gettext_lazy("Credits end before the reset")),
    Event(
        "refresh_failing",
        gettext_lazy("Token"),
        gettext_lazy("A token cannot be refreshed"),
        tone="bad",
    ),
    Event(
        "account_frozen", gettext_lazy("Frozen"), gettext_lazy("An account is frozen"), tone="bad"
    ),
    Event(
        "account_sign_in",
        gettext_lazy("Signed out"),
        gettext_lazy("An account needs its owner"),
        tone="bad",
    ),
    Event(
        "account_cooling",
        gettext_lazy("Cooling down"),
        gettext_lazy("An account cools down for long"),
    ),
    Event(
        "drift",
        gettext_lazy("API version"),
        gettext_lazy("Copilot refuses our API version (466)"),
        tone="bad",
    ),
    Event(
        "catalog", gettext_lazy("Catalog"), gettext_lazy("Models, prices or limits have changed")
    ),
    Event(
        "approvals",
        gettext_lazy("Approvals"),
        gettext_lazy("Approvals wait for more than a minute"),
    ),
    Event("unusual", gettext_lazy("Unusual use"), gettext_lazy("Unusual use of a member or key")),
    Event(
        "task", gettext_lazy("Task"), gettext_lazy("A background task fails or is late"), tone="bad"
    ),
    Event(
        "journal", gettext_lazy("Journal"), gettext_lazy("Records cannot be written"), tone="bad"
    ),
    Event(
        "closing", gettext_lazy("Month"), gettext_lazy("A month is closed or signed off"), tone=""
    ),
    Event("report", gettext_lazy("Report"), gettext_lazy("A report is ready"), tone=""),
)
BY_NAME: Final = {event.name: event for event in EVENTS}


def note(
    event: str,
    title: str,
    text: str,
    *,
    dedupe: str,
    detail: Mapping[str, Any] | None = None,
    member_id: int | None = None,
    team_id: int | None = None,
) -> Notification | None:
    """Tell it, unless it was told before; the row, or None for what is known already.

    `detail` is JSON for programs; its `url`, a path of the dashboard, becomes the link. `member_id`
    and `team_id` are whom it concerns beside the administrators. Uses the ORM: call it from tasks,
    pages, or through `in_database`. Raises `django.db.Error` when the database is away.
    """
    dedupe = _unique(dedupe)
    if Notification.objects.filter(dedupe=dedupe).exists():
        return None
    values = {
        "event": storable(event, 64),
        "title": storable(" ".join(title.split()), MAX_TITLE),
        "text": storable(text, MAX_TEXT),
        "detail": storable_json(dict(detail or {})),
        "member_id": member_id,
        "team_id": team_id,
    }
    # Both or neither: a notice without its deliveries would be told to nobody.
    with transaction.atomic():
        made, is_new = Notification.objects.get_or_create(dedupe=dedupe, defaults=values)
        if not is_new:
            return None
        Delivery.objects.bulk_create(
            [
                Delivery(notification=made, channel=channel, next_try_at=due(channel, made.at))
                for channel in wanting(made)
            ],
            ignore_conflicts=True,
        )
    return made


def _unique(dedupe: str) -> str:
    """As much of it as the column holds; of a longer one the digest, so that no two are the same."""
    if len(dedupe) <= 200:
        return storable(dedupe, 200)
    digest = hashlib.sha256(dedupe.encode("utf-8", "replace")).hexdigest()
    return storable(dedupe, 130) + ":" + digest


def storable_json(value: Any, depth: int = 5) -> Any:
    """JSON that PostgreSQL takes, cut where it is deep or long."""
    if isinstance(value, Mapping) and depth:
        return {
            storable(str(k), 100): storable_json(v, depth - 1) for k, v in list(value.items())[:50]
        }
    if isinstance(value, list | tuple) and depth:
        return [storable_json(item, depth - 1) for item in value[:50]]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return storable(str(value), 500)


def wanting(notice: Notification) -> list[Channel]:
    """The channels that hear of it: the administrators', the person's, the team's and its lead's."""
    concerned = Q(member=None, team=None)
    if notice.member_id is not None:
        concerned |= Q(member_id=notice.member_id)
    if notice.team_id is not None:
        concerned |= Q(team_id=notice.team_id) | Q(member__leads=notice.team_id)
    rows = Channel.objects.filter(concerned, is_enabled=True).exclude(member__is_active=False)
    return [row for row in rows if not row.events or notice.event in row.events]


def due(channel: Channel, at: datetime) -> datetime:
    """When a notice of `at` leaves for the channel: now, at the next hour, at the next morning."""
    hour = at.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    if channel.digest == Channel.Digest.HOURLY:
        return hour
    if channel.digest == Channel.Digest.DAILY:
        return hour + timedelta(hours=(DIGEST_HOUR_UTC - hour.hour) % 24)
    return at


def visible_to(member: Member) -> QuerySet[Notification]:
    """All for those who see all; else what concerns the person or a team that the person leads."""
    rows = Notification.objects.all()
    if member.is_superuser or member.is_auditor:
        return rows
    led = Team.objects.filter(lead=member).values("pk")
    return rows.filter(Q(member_id=member.pk) | Q(team_id__in=led))
