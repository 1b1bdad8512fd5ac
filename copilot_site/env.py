"""The environment, read in one place: each setting with its unit, default and reason.

`settings.py` is the only caller; everything else asks `django.conf.settings`.
"""

import os
import secrets
import sys
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()


def data_dir() -> Path:
    """Where solo mode keeps its database, keys and journals. Made on first use, owner only."""
    named = env.str("COPILOT_DATA_DIR", default="")
    if named:
        path = Path(named).expanduser().absolute()
    elif sys.platform == "darwin":
        path = Path.home() / "Library" / "Application Support" / "copilot-gateway"
    else:
        base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
        path = Path(base) / "copilot-gateway"
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ImproperlyConfigured(
            f"The data folder {str(path)!r} cannot be made: {error.strerror}. "
            "Name another one with COPILOT_DATA_DIR or --data-dir."
        ) from error
    return path


def secret(name: str, path: Path) -> str:
    """A secret from the variable `name`, else from the file `path`, which is made on first use.

    The file is created exclusively with mode 0600, so that two processes starting at once agree.
    """
    given: str = env.str(name, default="")
    if given:
        return given
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if value := path.read_text().strip():
            return value
        raise ImproperlyConfigured(
            f"{path} is empty; restore it from a backup, or set {name}."
        ) from None
    value = secrets.token_urlsafe(48)
    with os.fdopen(descriptor, "w") as file:
        file.write(value + "\n")
    return value


def positive(name: str, default: float) -> float:
    """A number above zero; anything else names the variable that is wrong."""
    raw = env.str(name, default="")
    if not raw:
        return default
    try:
        value = float(raw)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ImproperlyConfigured(f"{name} must be a number above zero, not {raw!r}.")
    return value


def url(name: str, default: str) -> str:
    """An http(s) address without its trailing slash."""
    value = env.str(name, default="") or default
    if value and not value.startswith(("https://", "http://")):
        raise ImproperlyConfigured(f"{name} must begin with https:// or http://, not {value!r}.")
    return value.rstrip("/")
