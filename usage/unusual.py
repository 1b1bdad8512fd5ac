"""Unusual use: an hour of a member or key far above what is usual for it.

The pattern is the credits of the hours of the last fourteen days in which there was any use; it
counts from twenty-four such hours on. An hour is unusual above the largest of: median + 8 times the
median absolute deviation (scaled by 1.4826, as for a normal distribution), three times the median,
and 20 credits. Told once a day for each. Written down in docs/notifications.md.
"""

from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Final

from django.db.models import Sum

from accounts.models import ApiKey, Member
from usage import notices
from usage.figures import nano_credits
from usage.models import Rollup
from usage.pricing import NANO_PER_CREDIT
from usage.watching import watcher

DAYS: Final = 14
ENOUGH_HOURS: Final = 24
DEVIATIONS: Final = 8
SCALE: Final = 1.4826
TIMES: Final = 3
LEAST_NANO_AIU: Final = 20 * NANO_PER_CREDIT


def bound(hours: list[int]) -> int | None:
    """Nano-AIU above which an hour is unusual; None while there is no pattern."""
    used = [hour for hour in hours if hour > 0]
    if len(used) < ENOUGH_HOURS:
        return None
    usual = median(used)
    deviation = median(abs(hour - usual) for hour in used) * SCALE
    return int(max(usual + DEVIATIONS * deviation, TIMES * usual, LEAST_NANO_AIU))


@watcher
def look(at: datetime) -> int:
    """Compare this hour and the last one of every member and key with its own pattern."""
    return _look("member_id", at) + _look("key_id", at)


def _look(column: str, at: datetime) -> int:
    hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    recent = hour - timedelta(hours=1)
    # Only who used enough to be unusual at all is compared: few rows on most minutes.
    now_used = (
        Rollup.objects.filter(hour__gte=recent, **{f"{column}__gt": 0})
        .order_by()
        .values_list(column, "hour")
        .annotate(nano=Sum("nano_aiu"))
        .filter(nano__gte=LEAST_NANO_AIU)
    )
    most: dict[int, tuple[int, datetime]] = {}
    for subject, used_at, nano in now_used:
        most[subject] = max(most.get(subject, (0, hour)), (nano, used_at))
    if not most:
        return 0
    pattern: dict[int, list[int]] = {}
    before = Rollup.objects.filter(
        hour__gte=hour - timedelta(days=DAYS), hour__lt=recent, **{f"{column}__in": list(most)}
    )
    for subject, _hour, nano in (
        before.order_by().values_list(column, "hour").annotate(nano=Sum("nano_aiu"))
    ):
        pattern.setdefault(subject, []).append(nano)
    told = 0
    for subject, (nano, used_at) in most.items():
        limit = bound(pattern.get(subject, []))
        if limit is not None and nano > limit:
            usual = int(median(h for h in pattern[subject] if h > 0))
            told += _tell(column, subject, used_at, nano=nano, usual=usual)
    return told


def _tell(column: str, subject: int, hour: datetime, *, nano: int, usual: int) -> int:
    kind = column.removesuffix("_id")
    name, member_id, url = _named(kind, subject)
    made = notices.note(
        "unusual",
        f"Unusual use: {name}",
        f"{nano_credits(nano)} credits in the hour from {hour:%Y-%m-%d %H:%M} UTC; usual are "
        f"{nano_credits(usual)}. See whether it was meant; revoke the key if nobody knows of it.",
        dedupe=f"unusual:{kind}:{subject}:{hour:%Y-%m-%d}",
        detail={"kind": kind, "id": subject, "nano_aiu": nano, "usual_nano_aiu": usual, "url": url},
        member_id=member_id,
    )
    return int(made is not None)


def _named(kind: str, subject: int) -> tuple[str, int | None, str]:
    if kind == "member":
        member = Member.objects.filter(pk=subject).first()
        name = member.username if member else f"number {subject}"
        return f"member {name}", subject, f"/dashboard/requests/?range=24h&member={subject}"
    key = ApiKey.objects.filter(pk=subject).select_related("owner").first()
    if key is None:
        return f"key number {subject}", None, f"/dashboard/requests/?range=24h&key={subject}"
    return (
        f"key {key.name!r} of {key.owner.username}",
        key.owner_id,
        f"/dashboard/keys/{key.prefix}/",
    )
