"""Exports too large to wait for: a task writes the file, a notice brings the link to who asked.

The file lies in the data folder, which web and worker share, for a week. Only who asked may fetch it;
what it holds is what that person may see when it is written, and still when it is fetched.
"""

import contextlib
import logging
import os
import time
import uuid
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db.models import QuerySet
from django.http import QueryDict

from accounts.access import oversees, read_zone
from accounts.models import Member
from usage import exports, filters, notices
from usage.models import Notification, UsageRecord

LIMIT: Final = 100_000
KEPT_S: Final = 7 * 86_400
PIECE: Final = 64 * 1024
logger = logging.getLogger(__name__)


def is_large(rows: QuerySet[UsageRecord]) -> bool:
    """True above a hundred thousand rows; counts no further."""
    return rows.order_by()[: LIMIT + 1].count() > LIMIT


def folder() -> Path:
    path: Path = settings.DATA_DIR / "exports"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def write(member_id: int, query: str, kind: str, *, zone: str, export_id: str) -> str:
    """Write the file and tell its person; a word on what came of it. Safe to run twice."""
    remove_old()
    member = Member.objects.filter(pk=member_id, is_active=True).first()
    if member is None or kind not in ("csv", "json"):
        return "nobody asks for it"
    asked = filters.read(
        QueryDict(query),
        zone=read_zone(zone) or UTC,
        scope=None if oversees(member) else member.pk,
        default="7d",
    )
    rows = filters.records(asked)
    path = path_of(export_id, kind)
    partial = path.with_suffix(f".{uuid.uuid4().hex}.part")
    chunks = exports.csv_chunks(rows) if kind == "csv" else exports.json_chunks(rows)
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            for chunk in chunks:
                file.write(chunk)
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    name = f"requests_{asked.start:%Y-%m-%d}_{asked.end:%Y-%m-%d}.{kind}"
    notices.note(
        "report",
        f"Your export is ready: {name}",
        "Fetch it within seven days; then it is removed.",
        dedupe=_dedupe(export_id),
        detail={
            "url": f"/dashboard/requests/exports/{export_id}.{kind}",
            "name": name,
            "of_all": asked.scope is None,
        },
        member_id=member.pk,
    )
    return name


def _dedupe(export_id: str) -> str:
    return f"export:{export_id}"


def path_of(export_id: str, kind: str) -> Path:
    # A UUID by its route: no way out of the folder.
    return folder() / f"{uuid.UUID(export_id).hex}.{kind}"


def find(member: Member, export_id: str, kind: str) -> tuple[Path, str] | None:
    """The file and its name, for who asked for it."""
    row = Notification.objects.filter(dedupe=_dedupe(export_id), member_id=member.pk).first()
    path = path_of(export_id, kind)
    if row is None or not path.is_file():
        return None
    if row.detail.get("of_all") and not oversees(member):
        # Who saw all when it was written does not any more.
        return None
    return path, str(row.detail.get("name", path.name))


def pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def remove_old() -> int:
    """Remove the files of a week ago; how many."""
    removed = 0
    for path in folder().iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - KEPT_S:
                path.unlink()
                removed += 1
    return removed
