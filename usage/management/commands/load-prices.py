# ruff: noqa: N999 - commands carry the names that people type.
"""`manage.py load-prices FILE`: a price table of the operator's own; no network."""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import Error

from accounts import audit
from usage import price_files


class Command(BaseCommand):
    help = "Take prices from a JSON or YAML file into the price table; see docs/models.md."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="the file, or - for standard input (JSON)")
        parser.add_argument("--check", action="store_true", help="only say whether it is right")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["file"]
        try:
            rows = price_files.read(self._text(name), is_yaml=name.endswith((".yaml", ".yml")))
        except (OSError, UnicodeDecodeError) as error:
            self._refuse(f"{name} cannot be read: {error}.", "Correct the path.")
            return
        except price_files.BadPriceFile as error:
            self._refuse(str(error), "Nothing was changed. The form stands in docs/models.md.")
            return
        if options["check"]:
            self.stdout.write(f"{len(rows)} prices, all right. Nothing was changed.")
            return
        try:
            loaded = price_files.store(rows)
            words = {"file": Path(name).name, "added": loaded.added, "changed": loaded.changed}
            audit.record("manage.py", "prices.loaded", Path(name).name, words)
        except Error as error:
            self._refuse(
                f"The price table cannot be written: {error}.",
                "Check DATABASE_URL, run `python manage.py migrate`, then try again.",
            )
            return
        self.stdout.write(
            f"{loaded.added} prices added, {loaded.changed} changed, {loaded.same} as before."
        )

    def _text(self, name: str) -> str:
        if name == "-":
            return sys.stdin.read(price_files.MAX_FILE_BYTES)
        with open(name, encoding="utf-8-sig") as file:
            return file.read(price_files.MAX_FILE_BYTES)

    def _refuse(self, what: str, what_to_do: str) -> None:
        self.stderr.write(what)
        self.stderr.write(what_to_do)
        sys.exit(1)
