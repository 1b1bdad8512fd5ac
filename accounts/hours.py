"""Office hours: `Mon-Fri 08:00-19:00 Europe/Berlin; Sat 10:00-12:00 Europe/Berlin`.

Days are names, ranges or lists of both (`Mon,Wed-Fri`); a span that ends before it begins ends on the
next day (`22:00-06:00`); without a zone it is UTC.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN = re.compile(r"(\S+)\s+(\d{1,2}:\d{2})\s*-\s*(\d{1,2}:\d{2})(?:\s+(\S+))?")
MIDNIGHT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Span:
    """From `begins` to `ends` after local midnight of each of `days` (0 is Monday)."""

    days: frozenset[int]
    begins: timedelta
    ends: timedelta
    zone: ZoneInfo

    def on(self, day: date) -> tuple[datetime, datetime] | None:
        """When the span of that local day opens and closes, in UTC."""
        if day.weekday() not in self.days:
            return None
        return self._at(day, self.begins), self._at(day, self.ends)

    def _at(self, day: date, after_midnight: timedelta) -> datetime:
        # By the clock on the wall: on a day of 23 or 25 hours, 08:00 stays 08:00.
        naive = datetime.combine(day, time()) + after_midnight
        return naive.replace(tzinfo=self.zone).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Hours:
    text: str
    spans: tuple[Span, ...]

    def is_open(self, at: datetime) -> bool:
        return any(opens <= at < closes for opens, closes in self._around(at))

    def opens_at(self, at: datetime) -> datetime:
        """The next opening after `at`, in UTC."""
        return min(opens for opens, _closes in self._around(at) if opens > at)

    def _around(self, at: datetime) -> list[tuple[datetime, datetime]]:
        """Every opening from the day before `at` to more than a week after it."""
        found = []
        for span in self.spans:
            today = at.astimezone(span.zone).date()
            for number in range(-1, 9):
                if (times := span.on(today + timedelta(days=number))) is not None:
                    found.append(times)
        return found


@lru_cache(maxsize=512)
def parse(text: str) -> Hours | None:
    """The hours that `text` names; None when it is empty. Raises `ValueError` with the reason."""
    parts = [part.strip() for part in text.split(";") if part.strip()]
    return Hours("; ".join(parts), tuple(_span(part) for part in parts)) if parts else None


def validate(text: str) -> None:
    """For forms. Raises `ValidationError`."""
    try:
        parse(text)
    except ValueError as error:
        raise ValidationError(str(error)) from error


def _span(part: str) -> Span:
    found = _SPAN.fullmatch(part)
    if found is None:
        raise ValueError(
            _("%(part)r is not like “Mon-Fri 08:00-19:00 Europe/Berlin”.") % {"part": part[:60]}
        )
    days, begins_at, ends_at, zone = found.groups()
    begins, ends = _time(begins_at), _time(ends_at)
    if begins in (MIDNIGHT, ends):
        raise ValueError(_("%(part)r opens for no time.") % {"part": part[:60]})
    return Span(
        _days(days), begins, ends if ends > begins else ends + MIDNIGHT, _zone(zone or "UTC")
    )


def _time(text: str) -> timedelta:
    hour, minute = (int(number) for number in text.split(":"))
    if minute > 59 or (hour, minute) > (24, 0):
        raise ValueError(_("%(time)s is no time of day.") % {"time": text})
    return timedelta(hours=hour, minutes=minute)


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _dash, last = part.partition("-")
        begin, end = _day(first), _day(last or first)
        found.update((begin + n) % 7 for n in range((end - begin) % 7 + 1))
    return frozenset(found)


def _day(text: str) -> int:
    name = text.strip().lower()[:3]
    if name not in DAYS:
        raise ValueError(_("%(day)r is no day of the week.") % {"day": text[:20]})
    return DAYS.index(name)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(_("%(zone)r is no time zone.") % {"zone": name[:60]}) from error
