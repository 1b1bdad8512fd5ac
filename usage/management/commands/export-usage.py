# ruff: noqa: N999 - commands carry the names that people type.
"""`manage.py export-usage`: every usage record as JSON or CSV on stdout."""

import os
import sys
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import Error

from usage import exports
from usage.models import UsageRecord
from usage.recorder import recorder

WRITERS = {"json": exports.write_json, "csv": exports.write_csv}


class Command(BaseCommand):
    help = "Write the usage records to stdout, oldest first."
    # Data goes to stdout as UTF-8, also where the console speaks something else.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--since",
            metavar="ISO",
            help="only exchanges that began at or after this time, such as 2026-11-01 or "
            "2026-11-01T08:00:00+01:00; without an offset it is UTC",
        )
        parser.add_argument("--format", choices=sorted(WRITERS), default="json")

    def handle(self, *args: Any, **options: Any) -> None:
        since = self._since(options["since"])
        records = UsageRecord.objects.order_by("started_at", "id")
        if since is not None:
            records = records.filter(started_at__gte=since)
        try:
            # What a killed gateway left behind belongs to the truth, too.
            recorder.replay()
            self._write(WRITERS[options["format"]], records)
        except Error as error:
            self._refuse(
                f"The usage records cannot be read: {error}.",
                "Check DATABASE_URL, run `python manage.py migrate`, then try again.",
                code=1,
            )

    def _write(self, writer: Any, records: Any) -> None:
        stream = getattr(self.stdout, "_out", self.stdout)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", newline="")
        try:
            writer(records, stream)
            stream.flush()
        except BrokenPipeError:
            # The reader (`head`) has had enough. Python would complain once more while exiting.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _since(self, text: str | None) -> datetime | None:
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text.strip())
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            # A time at the very ends of the calendar has no UTC form.
            return moment.astimezone(UTC)
        except (ValueError, OverflowError):
            self._refuse(
                f"--since {text!r} is not an ISO date or time.",
                "Write it like 2026-11-01 or 2026-11-01T08:00:00+01:00.",
                code=2,
            )
            raise AssertionError from None

    def _refuse(self, what: str, what_to_do: str, *, code: int) -> None:
        self.stderr.write(what)
        self.stderr.write(what_to_do)
        sys.exit(code)
