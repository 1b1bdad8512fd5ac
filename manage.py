#!/usr/bin/env python
"""The one command surface: `python manage.py start` and its siblings."""

import os
import sys


def take_data_dir(arguments: list[str]) -> None:
    """Settings name the data folder when they are loaded, which is before options are parsed."""
    for position, argument in enumerate(arguments):
        if argument == "--data-dir" and position + 1 < len(arguments):
            os.environ["COPILOT_DATA_DIR"] = arguments[position + 1]
        elif argument.startswith("--data-dir="):
            os.environ["COPILOT_DATA_DIR"] = argument.partition("=")[2]


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "copilot_site.settings")
    take_data_dir(sys.argv)
    # Database, keys and journals are the owner's alone, whatever the shell's habit is.
    os.umask(0o077)
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.stderr.write(f"{error}\nCorrect the setting and start again.\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
