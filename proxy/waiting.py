"""Approvals that wait for more than a minute are told to the administrators."""

from datetime import datetime, timedelta
from typing import Final

from proxy.models import Approval
from usage import notices
from usage.watching import watcher

TOLD_AFTER: Final = timedelta(minutes=1)


@watcher
def approvals(at: datetime) -> int:
    """One notice for all that wait now; another one a quarter of an hour later at the earliest."""
    waiting = Approval.objects.filter(
        state=Approval.State.WAITING, opened_at__lte=at - TOLD_AFTER, expires_at__gt=at
    ).order_by("opened_at")
    oldest = waiting.first()
    if oldest is None:
        return 0
    count = waiting.count()
    what = "1 request waits" if count == 1 else f"{count} requests wait"
    made = notices.note(
        "approvals",
        f"{what} for an approval",
        f"The oldest is of {oldest.member or 'nobody'} ({oldest.model}), rule: "
        f"{oldest.rule or 'every request'}; it is refused at {oldest.expires_at:%H:%M} UTC when "
        "nobody answers.",
        dedupe=f"approvals:{at:%Y-%m-%dT%H}:{at.minute // 15}",
        detail={"waiting": count, "url": "/dashboard/approvals/"},
    )
    return int(made is not None)
