"""A data folder as a first start leaves it, made once by each test process and copied from there.

Migrating and collecting static files cost three times what the rest of a start does. Secrets are not
among what is copied: each gateway makes its own.
"""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.settings import DATA

ROOT = Path(__file__).resolve().parent.parent
PREPARE = """
import django
django.setup()
from copilot_site import preparation
preparation.prepare_database()
preparation.prepare_static_files()
"""


def prepare(folder: Path, environment: dict[str, str]) -> None:
    """Fill a data folder that is still empty; leave every other one as it is."""
    if folder.exists() and any(folder.iterdir()):
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = _made()
    if "DATABASE_URL" not in environment:
        for file in made.glob("gateway.sqlite3*"):
            shutil.copy(file, folder)
    shutil.copytree(made / "static", folder / "static", copy_function=os.link)


@functools.cache
def _made() -> Path:
    folder = DATA / "prepared"
    done = subprocess.run(
        [sys.executable, "-c", PREPARE],
        cwd=ROOT,
        env={
            **os.environ,
            "COPILOT_DATA_DIR": str(folder),
            "DJANGO_SETTINGS_MODULE": "copilot_site.settings",
        },
        capture_output=True,
        text=True,
        umask=0o077,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder
