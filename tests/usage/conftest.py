"""What tests of usage share: records, a recorder with a journal of its own, a clean memory."""

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connections

from accounts.database import _executor
from usage import quota
from usage import recorder as recorder_module
from usage.journal import Record
from usage.recorder import Recorder
from usage.spend import spend

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def clean_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sums, caches and readings are of the process; no test may find another's."""
    cache.clear()
    spend.forget()
    quota._heard.clear()
    # Threads that end take no open connection with them.
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
    yield
    spend.forget()
    # PostgreSQL drops no test database while the database thread is connected to it.
    _executor.submit(connections.close_all).result()


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """A finished exchange; every field can be said."""

    def make(**values: Any) -> Record:
        defaults: dict[str, Any] = {
            "id": f"exchange{next(_numbers):08d}",
            "started_at": datetime(2026, 11, 20, 8, 15, tzinfo=UTC),
            "outcome": "completed",
            "status": 200,
            "source": "messages",
            "target": "messages",
            "model_asked": "claude-opus-5",
            "model_used": "claude-opus-5",
            "client": "claude-cli/2.1",
            "member_id": 1,
            "member": "ben",
            "key_id": 7,
            "key": "laptop",
            "account_id": 3,
            "account": "octo-build",
            "input_tokens": 100,
            "output_tokens": 20,
            "nano_aiu": 1_000,
            "cost_source": "exact",
            "first_token_ms": 700,
            "total_ms": 2_000,
        }
        return Record(**(defaults | values))

    return make


@pytest.fixture
def journal_dir(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def recorder(journal_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """A running recorder that writes into the test's database."""
    monkeypatch.setattr(recorder_module, "MAX_BACK_OFF_S", 0.2)
    running = Recorder(journal_dir)
    running.start()
    yield running
    running.stop(timeout_s=10)
