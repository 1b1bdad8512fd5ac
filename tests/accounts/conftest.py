"""Fixtures of accounts: the simulator stands in for GitHub, memory starts empty."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connections

from accounts import database, tokens
from accounts.encryption import Secret
from accounts.models import Account, Member
from accounts.snapshots import Snapshot
from simulator.testing import SimulatorThread


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file: threads that share an in-memory SQLite lock each other out at once."""
    default: dict[str, Any] = django_settings.DATABASES["default"]
    if default["ENGINE"].endswith("sqlite3"):
        path: Path = tmp_path_factory.mktemp("database") / "test.sqlite3"
        default.setdefault("TEST", {})["NAME"] = str(path)


@pytest.fixture(scope="session", autouse=True)
def _close_database_thread(django_db_setup: None) -> Iterator[None]:
    """PostgreSQL does not drop a database that the database thread is still connected to."""
    yield
    database._executor.submit(connections.close_all).result(timeout=10)


@pytest.fixture(scope="session")
def running_simulator() -> Iterator[SimulatorThread]:
    with SimulatorThread() as simulator:
        yield simulator


@pytest.fixture
def simulator(running_simulator: SimulatorThread, settings: Any) -> Iterator[SimulatorThread]:
    running_simulator.reset()
    settings.GITHUB_URL = settings.GITHUB_API_URL = running_simulator.url
    settings.COPILOT_API_URL = ""
    settings.GATEWAY_GITHUB_TIMEOUT_S = 5.0
    yield running_simulator
    running_simulator.reset()


@pytest.fixture(autouse=True)
def _empty_memory() -> Iterator[None]:
    empty = [(snapshot, snapshot.value) for snapshot in Snapshot.all]
    yield
    tokens.forget()
    for snapshot, value in empty:
        snapshot.value, snapshot.loaded_at = value, None


@pytest.fixture
def ada(transactional_db: None) -> Member:
    return Member.objects.create_superuser("ada")


@pytest.fixture
def ben(transactional_db: None) -> Member:
    return Member.objects.create_user("ben")


@pytest.fixture
def make_account(transactional_db: None) -> Callable[..., Account]:
    """An account as it stands after an upgrade: a GitHub token, no Copilot token yet."""

    def make(login: str = "octocat", token: str = "ghu_octocat", **values: Any) -> Account:
        account = Account(login=login, token_kind=token.partition("_")[0], **values)
        account.github_token = Secret.of(token)
        account.save()
        return account

    return make
