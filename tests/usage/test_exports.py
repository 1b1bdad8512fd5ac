"""Exports: one object per exchange, whole, in the documented keys."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.core.management import call_command

from tests.usage.test_journal import dead_journal, line
from usage import exports
from usage.journal import Record
from usage.models import UsageRecord
from usage.recorder import Recorder

MakeRecord = Callable[..., Record]
pytestmark = pytest.mark.django_db(transaction=True)
KEYS = {
    "id", "model_asked", "model_used", "source", "target", "outcome", "status", "upstream_status",
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
    "nano_aiu", "cost_source", "account", "key", "member", "conversation", "initiator",
    "initiator_rule", "started_at", "finished_at",
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_journals(settings: object, journal_dir: Path) -> None:
    settings.JOURNAL_DIR = journal_dir  # type: ignore[attr-defined]


def stored(*records: Record) -> None:
    recorder = Recorder(Path("/nonexistent"))
    for record in records:
        recorder.finish(record)
    recorder.flush()


def exported(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    call_command("export-usage", *arguments)
    return capsys.readouterr().out


def test_json_is_an_array_with_every_column(
    make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    early = make_record(started_at=datetime(2026, 11, 1, tzinfo=UTC), nano_aiu=2**40)
    late = make_record(started_at=datetime(2026, 11, 2, tzinfo=UTC), attempts=[{"status": 429}])
    stored(late, early)

    found = json.loads(exported(capsys))

    assert [o["id"] for o in found] == [early.id, late.id]
    assert set(found[0]) >= KEYS
    assert set(found[0]) == {f.attname for f in UsageRecord._meta.concrete_fields}
    assert found[0]["nano_aiu"] == 2**40
    assert found[1]["attempts"] == [{"status": 429}]
    assert found[0]["started_at"] == "2026-11-01T00:00:00+00:00"
    assert found[0]["finished_at"] is None


def test_nothing_is_an_empty_array(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(exported(capsys)) == []


@pytest.mark.parametrize(
    ("since", "count"),
    [
        ("2026-11-02", 1),
        ("2026-11-01T00:00:00Z", 2),
        ("2026-11-02T00:30:00+01:00", 1),
        ("2026-11-01 23:00:00+00:00", 1),
        ("2026-12-01", 0),
    ],
)
def test_since_leaves_out_what_began_before(
    since: str, count: int, make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(
        make_record(started_at=datetime(2026, 11, 1, tzinfo=UTC)),
        make_record(started_at=datetime(2026, 11, 2, tzinfo=UTC)),
    )
    assert len(json.loads(exported(capsys, "--since", since))) == count


def test_d15_csv_opens_in_a_spreadsheet_and_runs_nothing(
    make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1"]
    stored(*(make_record(client=text, member="Fátima, 李伟\n", nano_aiu=12) for text in evil))

    text = exported(capsys, "--format", "csv")

    assert text.startswith("\ufeffid,")
    table = list(csv.DictReader(io.StringIO(text[1:], newline="")))
    assert sorted(row["client"] for row in table) == sorted("'" + e for e in evil)
    assert {row["member"] for row in table} == {"Fátima, 李伟\n"}
    assert {row["nano_aiu"] for row in table} == {"12"}
    assert {row["started_at"] for row in table} == {"2026-11-20T08:15:00+00:00"}


def test_large_exports_come_in_pieces(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(*(make_record() for _ in range(400)))

    pieces = list(exports.csv_chunks(UsageRecord.objects.order_by("id")))

    assert len(pieces) > 2
    assert "".join(pieces).count("\n") == 401
    assert len(list(exports.json_chunks(UsageRecord.objects.all()))) == 401


def test_what_a_killed_gateway_left_is_exported(
    make_record: MakeRecord, journal_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, open_ = make_record(), make_record(outcome="")
    dead_journal(journal_dir, line("b", open_) + line("e", ended))

    found = {o["id"]: o["outcome"] for o in json.loads(exported(capsys))}

    assert found == {ended.id: "completed", open_.id: "interrupted"}


def command(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "export-usage", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COPILOT_DATA_DIR": str(tmp_path / "data"), "DATABASE_URL": ""},
    )


@pytest.mark.parametrize("since", ["yesterday", "", "2026-13-01", "0001-01-01T00:00:00+23:00"])
def test_a_bad_time_is_refused_in_two_lines(since: str, tmp_path: Path) -> None:
    done = command(tmp_path, "--since", since)

    assert done.returncode == 2
    assert done.stdout == ""
    what, what_to_do = done.stderr.splitlines()
    assert repr(since) in what
    assert "2026-11-01" in what_to_do


def test_a_database_without_tables_is_said(tmp_path: Path) -> None:
    done = command(tmp_path)

    assert done.returncode == 1
    assert done.stdout == ""
    assert "migrate" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
