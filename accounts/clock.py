"""The time on a request's way: Django's `now` asks the settings for the time zone each time."""

from datetime import UTC, datetime


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)
