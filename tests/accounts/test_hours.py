"""Office hours: what they say, when they are open, and what is no such text."""

from datetime import UTC, datetime

import pytest
from django.core.exceptions import ValidationError

from accounts import hours
from accounts.hours import Hours


def parsed(text: str) -> Hours:
    found = hours.parse(text)
    assert found is not None
    return found


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment", "is_open"),
    [
        # 2026-11-20 is a Friday; Berlin is an hour ahead in winter, two in summer.
        ("Mon-Fri 08:00-19:00 Europe/Berlin", "2026-11-20 06:59", False),
        ("Mon-Fri 08:00-19:00 Europe/Berlin", "2026-11-20 07:00", True),
        ("Mon-Fri 08:00-19:00 Europe/Berlin", "2026-11-20 17:59", True),
        ("Mon-Fri 08:00-19:00 Europe/Berlin", "2026-11-20 18:00", False),
        ("Mon-Fri 08:00-19:00 Europe/Berlin", "2026-07-17 06:00", True),
        ("Mon-Fri 08:00-19:00", "2026-11-21 12:00", False),
        ("Mon-Fri 08:00-19:00; Sat 10:00-12:00", "2026-11-21 11:00", True),
        ("fri,sun 09:00-10:00", "2026-11-22 09:30", True),
        ("Fri-Mon 09:00-10:00", "2026-11-23 09:30", True),
        ("Fri-Mon 09:00-10:00", "2026-11-24 09:30", False),
        # A night belongs to the day on which it begins.
        ("Fri 22:00-06:00", "2026-11-21 05:59", True),
        ("Fri 22:00-06:00", "2026-11-20 05:59", False),
        ("Mon-Sun 00:00-24:00", "2026-11-20 23:59", True),
    ],
)
def test_hours_are_those_of_the_clock_on_the_wall(text: str, moment: str, is_open: bool) -> None:
    assert parsed(text).is_open(at(moment)) is is_open


def test_the_next_opening_is_told_also_over_the_change_of_the_clocks() -> None:
    week = parsed("Mon-Fri 08:00-19:00 Europe/Berlin")
    assert week.opens_at(at("2026-11-20 20:00")) == at("2026-11-23 07:00")
    # Summer time ends on Sunday the 25th.
    assert week.opens_at(at("2026-10-23 20:00")) == at("2026-10-26 07:00")
    assert week.opens_at(at("2026-11-20 05:00")) == at("2026-11-20 07:00")
    once = parsed("Fri 10:00-11:00 UTC")
    assert once.opens_at(at("2026-11-20 10:30")) == at("2026-11-27 10:00")


@pytest.mark.parametrize(
    "text",
    [
        "always",
        "Mon 8-9",
        "Mon 08:00-08:00",
        "Mon 25:00-26:00",
        "Mon 08:60-09:00",
        "Mon 24:00-09:00",
        "Mun 08:00-09:00",
        "Mon 08:00-09:00 Europe/Atlantis",
        "Mon 08:00-09:00 ../../etc/passwd",
        "Mon-Fri 08:00-19:00, Sat 10:00-12:00",
    ],
)
def test_what_is_no_hours_is_refused_in_forms(text: str) -> None:
    with pytest.raises(ValidationError):
        hours.validate(text)


def test_nothing_said_is_no_limit() -> None:
    assert hours.parse("") is None
    assert hours.parse(" ; ") is None
