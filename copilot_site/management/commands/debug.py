"""`manage.py debug`: what a bug report needs, without secrets; works without network."""

import json
from argparse import ArgumentParser
from typing import Any

from copilot_site import diagnosis
from copilot_site.terminal import GatewayCommand, quiet_logs


class Command(GatewayCommand):
    help = "Show versions, folders, services and accounts, without secrets."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="the same as a JSON object")

    def run(self, **options: Any) -> None:
        with quiet_logs():
            found = diagnosis.report()
        if options["json"]:
            self.out(json.dumps(found, indent=2))
            return
        rows = diagnosis.text(found)
        label_width = max(len(label) for label, _ in rows)
        for label, value in rows:
            self.out(f"{label:<{label_width}}  {value}")
