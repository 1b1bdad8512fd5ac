"""Closing: a month (UTC) becomes figures that do not change any more.

The lines are summed from the records once, in one transaction, and their SHA-256 proves that nobody
has changed them since. Records that arrive later are neither added nor lost: `after_closing` lists
them beside the month. Written down in docs/accounting.md.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Case, Count, F, Q, QuerySet, Sum, Value, When
from django.utils.timezone import now

from accounts import audit
from accounts.models import Member
from usage import notices
from usage.figures import nano_credits
from usage.models import ClosedLine, ClosedMonth, UsageRecord

# Records of a gateway that was killed, or had no database, arrive within hours.
GRACE: Final = timedelta(days=1)
NAMES: Final = ("cost_centre", "team", "member_id", "member", "key", "account", "model")
SUMS: Final = ("requests", "input_tokens", "output_tokens", "nano_aiu", "estimated_nano_aiu")


class NotClosable(Exception):
    """The month is not over, or is closed already. The message is for people."""


def month_of(text: str) -> date | None:
    """`2026-10` -> its first day; None for every other text."""
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        return None


def bounds(month: date) -> tuple[datetime, datetime]:
    start = datetime.combine(month.replace(day=1), time.min, UTC)
    return start, (start + timedelta(days=32)).replace(day=1)


def last_month(at: datetime) -> date:
    """The first day of the month before that of `at`, UTC."""
    start, _ = bounds(at.astimezone(UTC).date())
    return (start - timedelta(days=1)).date().replace(day=1)


def close_due(at: datetime | None = None) -> int:
    """Close last month from its second day after on; how many were closed: 0 or 1. Run it daily."""
    at = at or now()
    start, _ = bounds(at.astimezone(UTC).date())
    month = last_month(at)
    if at < start + GRACE or ClosedMonth.objects.filter(month=month).exists():
        return 0
    try:
        close(month, audit.GATEWAY, at=at)
    except NotClosable:
        # Another worker was faster.
        return 0
    return 1


def close(
    month: date, actor: Member | str, *, address: str = "", at: datetime | None = None
) -> ClosedMonth:
    """Sum the month's records into lines that stay. Raises `NotClosable`."""
    month = month.replace(day=1)
    _, end = bounds(month)
    if end > (at or now()):
        raise NotClosable(f"{month:%Y-%m} is not over before {end:%Y-%m-%d} 00:00 UTC.")
    name = actor if isinstance(actor, str) else actor.get_username()
    try:
        with transaction.atomic():
            # The unique month comes first: of two that close at once one fails here.
            closing = ClosedMonth.objects.create(month=month, closed_by=name, digest="")
            lines = [ClosedLine(closing=closing, **line) for line in lines_of(month)]
            ClosedLine.objects.bulk_create(lines, batch_size=500)
            closing.records = sum(line.requests for line in lines)
            closing.nano_aiu = sum(line.nano_aiu for line in lines)
            closing.digest = digest_of(lines)
            closing.save(update_fields=["records", "nano_aiu", "digest"])
            detail = {"records": closing.records, "nano_aiu": closing.nano_aiu}
            audit.record(
                actor, "month.closed", closing, detail | {"digest": closing.digest}, address
            )
    except IntegrityError:
        raise NotClosable(f"{month:%Y-%m} is closed already.") from None
    notices.note(
        "closing",
        f"{month:%Y-%m} is closed",
        f"{closing.records:,} requests, {nano_credits(closing.nano_aiu)} credits. Look through the "
        "report and sign it off.",
        dedupe=f"closed:{month:%Y-%m}",
        detail={"url": f"/dashboard/reports/months/{month:%Y-%m}/"},
    )
    return closing


def records_of(month: date) -> QuerySet[UsageRecord]:
    start, end = bounds(month)
    return UsageRecord.objects.filter(started_at__gte=start, started_at__lt=end)


def lines_of(month: date) -> Iterator[dict[str, Any]]:
    """One line for each cost centre, team, member, key, account and model, in their order."""
    model = Case(When(model_used="", then=F("model_asked")), default=F("model_used"))
    estimated = Q(cost_source=UsageRecord.CostSource.ESTIMATED)
    rows = (
        records_of(month)
        .order_by()
        # Names of columns, as a later expression must not be taken for them.
        .annotate(of_model=model)
        .values("cost_centre", "team", "member_id", "member", "key", "account", "of_model")
        .annotate(
            n=Count("pk"),
            input=Sum("input_tokens"),
            output=Sum("output_tokens"),
            nano=Sum("nano_aiu"),
            estimated=Sum("nano_aiu", filter=estimated, default=Value(0)),
        )
    )
    made = [
        {
            "cost_centre": row["cost_centre"],
            "team": row["team"],
            "member_id": row["member_id"] or 0,
            "member": row["member"],
            "key": row["key"],
            "account": row["account"],
            "model": row["of_model"],
            "requests": row["n"],
            "input_tokens": row["input"],
            "output_tokens": row["output"],
            "nano_aiu": row["nano"],
            "estimated_nano_aiu": row["estimated"],
        }
        for row in rows
    ]
    # By Python, as databases order texts each in their own way.
    return iter(sorted(made, key=_place))


def _place(line: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(line[name] for name in NAMES)


def as_dict(line: ClosedLine) -> dict[str, Any]:
    return {name: getattr(line, name) for name in (*NAMES, *SUMS)}


def digest_of(lines: Iterable[ClosedLine]) -> str:
    """SHA-256 over the lines as JSON, one a line, in the order of their names."""
    digest = hashlib.sha256()
    for line in sorted((as_dict(line) for line in lines), key=_place):
        text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()


def is_untouched(closing: ClosedMonth) -> bool:
    """True while the lines are those of the day on which the month was closed."""
    return digest_of(closing.lines.all()) == closing.digest


@dataclass(frozen=True, slots=True)
class Late:
    """What differs from a closed line today: records that came later, or were removed since."""

    line: dict[str, Any]

    @property
    def requests(self) -> int:
        return int(self.line["requests"])

    @property
    def nano_aiu(self) -> int:
        return int(self.line["nano_aiu"])


def after_closing(closing: ClosedMonth) -> list[Late]:
    """The records of the month less its lines; empty when retention has begun to take them."""
    start, _ = bounds(closing.month)
    if start < now() - timedelta(days=settings.USAGE_RETENTION_DAYS):
        return []
    closed = {_place(as_dict(line)): as_dict(line) for line in closing.lines.all()}
    present = {_place(line): line for line in lines_of(closing.month)}
    late = []
    for place in sorted(closed.keys() | present.keys()):
        was, became = closed.get(place, {}), present.get(place, {})
        if any(was.get(name, 0) != became.get(name, 0) for name in SUMS):
            names = dict(zip(NAMES, place, strict=True))
            moved = {name: became.get(name, 0) - was.get(name, 0) for name in SUMS}
            late.append(Late(names | moved))
    return late


def sign_off(closing: ClosedMonth, member: Member, address: str = "") -> bool:
    """Say that the figures are accepted. False when somebody has said so before."""
    rows = ClosedMonth.objects.filter(pk=closing.pk, signed_off_at=None)
    if not rows.update(signed_off_by=member.get_username(), signed_off_at=now()):
        return False
    audit.record(member, "month.signed_off", closing, {"digest": closing.digest}, address)
    notices.note(
        "closing",
        f"{closing.month:%Y-%m} is signed off",
        f"{member.get_username()} has signed off the figures of {closing.month:%Y-%m}.",
        dedupe=f"signed-off:{closing.month:%Y-%m}",
        detail={"url": f"/dashboard/reports/months/{closing.month:%Y-%m}/"},
    )
    return True
