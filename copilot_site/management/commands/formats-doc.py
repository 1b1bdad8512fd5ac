# ruff: noqa: N999 - commands carry the names that people type.
"""`manage.py formats-doc`: write docs/formats.md from what the formats declare and do."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from proxy.formats import document


class Command(BaseCommand):
    help = "Write docs/formats.md: what survives a crossing from one format to another."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="only say whether it is stale")

    def handle(self, *args: Any, **options: Any) -> None:
        path = settings.BASE_DIR / "docs" / "formats.md"
        text = document.text()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            self.stdout.write("docs/formats.md is up to date.")
            return
        if options["check"]:
            raise CommandError("docs/formats.md is stale; run `python manage.py formats-doc`.")
        path.write_text(text, encoding="utf-8")
        self.stdout.write("docs/formats.md is written.")
