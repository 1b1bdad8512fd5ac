"""The environment, read in one place: each setting with its unit, default and reason.

`settings.py` is the only caller; everything else asks `django.conf.settings`.
"""

import os
import secrets
import sys
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured
from environ.fileaware_mapping import FileAwareMapping


class Variables(FileAwareMapping):  # type: ignore[misc]
    """The environment; `NAME_FILE` names a file that holds NAME: what Docker, Kubernetes and the agents
    of vaults put secrets into."""

    def __getitem__(self, key: str) -> str:
        try:
            return str(super().__getitem__(key)).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ImproperlyConfigured(
                f"{key}_FILE names {os.environ[f'{key}_FILE']!r}, which cannot be read: {error}."
            ) from None


class Env(environ.Env):  # type: ignore[misc]
    ENVIRON = Variables()


env = Env()

# How long libpq waits for a PostgreSQL that does not answer; DATABASE_URL may say otherwise.
PATIENCE = {
    "connect_timeout": 5,
    "tcp_user_timeout": 15_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
# This machine and private networks: where a team's proxy is, as far as nothing else is said.
INSIDE = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
]


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


def sign_in_providers() -> dict[str, Any]:
    """Where people may sign in beside the password, as allauth's settings name it."""
    providers: dict[str, Any] = {}
    if issuer := url("GATEWAY_OIDC_ISSUER", ""):
        providers["openid_connect"] = {
            "OAUTH_PKCE_ENABLED": True,
            "APPS": [
                {
                    "provider_id": "oidc",
                    "name": env.str("GATEWAY_OIDC_NAME", default="") or "single sign-on",
                    "client_id": env.str("GATEWAY_OIDC_CLIENT_ID"),
                    "secret": env.str("GATEWAY_OIDC_CLIENT_SECRET", default=""),
                    "settings": {
                        "server_url": issuer,
                        "scope": env.str(
                            "GATEWAY_OIDC_SCOPES", default="openid profile email"
                        ).split(),
                    },
                }
            ],
        }
    if client_id := env.str("GATEWAY_GITHUB_CLIENT_ID", default=""):
        web = url("GITHUB_URL", "https://github.com")
        providers["github"] = {
            "SCOPE": ["read:user", "user:email", "read:org"],
            **({} if web == "https://github.com" else {"GITHUB_URL": web}),
            "APPS": [
                {
                    "client_id": client_id,
                    "secret": env.str("GATEWAY_GITHUB_CLIENT_SECRET"),
                    "name": "GitHub",
                }
            ],
        }
    return providers


def url(name: str, default: str) -> str:
    """An http(s) address without its trailing slash."""
    value = env.str(name, default="") or default
    if value and not value.startswith(("https://", "http://")):
        raise ImproperlyConfigured(f"{name} must begin with https:// or http://, not {value!r}.")
    return value.rstrip("/")
