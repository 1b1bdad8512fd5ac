"""The journal: nothing that was begun is forgotten, whatever happens to the process."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from usage import journal as journal_module
from usage.journal import Journal, JournalUnwritable, Record

MakeRecord = Callable[..., Record]

CHILD = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
import django
django.setup()
from usage.journal import Journal, Record

journal = Journal(Path(sys.argv[1]))
journal.open()
for number in range(50):
    record = Record(id=f"killed{number:02d}", started_at=datetime(2026, 11, 20, tzinfo=UTC),
                    source="messages", model_asked="claude-opus-5", key_id=7)
    journal.begin(record)
    if number < 20:
        record.outcome, record.status, record.output_tokens = "completed", 200, number
        journal.end(record)
print("ready", flush=True)
sys.stdin.read()
"""


def killed_process(journal_dir: Path) -> None:
    """A process that begins 50 exchanges, ends 20 of them and is killed."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(journal_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "copilot_site.settings"},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    assert Journal(journal_dir).replay_dead() == [], "its journal is not ours while it lives"
    child.send_signal(signal.SIGKILL)
    child.communicate()


def dead_journal(journal_dir: Path, content: bytes) -> None:
    journal_dir.mkdir(parents=True, exist_ok=True)
    (journal_dir / "host-1-abc.jsonl").write_bytes(content)


def line(kind: str, record: Record) -> bytes:
    return msgspec.json.encode({kind: record}) + b"\n"


def test_p01_a_killed_process_leaves_every_exchange_once(journal_dir: Path) -> None:
    killed_process(journal_dir)

    records = {r.id: r for r in Journal(journal_dir).replay_dead()}

    assert sorted(records) == [f"killed{n:02d}" for n in range(50)]
    ended, open_ = records["killed19"], records["killed20"]
    assert (ended.outcome, ended.status, ended.output_tokens) == ("completed", 200, 19)
    assert (open_.outcome, open_.status) == ("interrupted", None)
    assert open_.finished_at == open_.started_at
    assert open_.usage_estimated


def test_p01_v02_what_was_cut_off_costs_what_it_was_expected_to(
    journal_dir: Path, make_record: MakeRecord
) -> None:
    begun = {"nano_aiu": 0, "cost_source": "none"}
    priced, unpriced = make_record(estimated_nano_aiu=7_000, **begun), make_record(**begun)
    dead_journal(journal_dir, line("b", priced) + line("b", unpriced))

    records = {r.id: r for r in Journal(journal_dir).replay_dead()}

    found = records[priced.id]
    assert (found.nano_aiu, found.cost_source, found.usage_estimated) == (7_000, "estimated", True)
    assert (records[unpriced.id].nano_aiu, records[unpriced.id].cost_source) == (0, "none")


def test_a_replayed_journal_goes_only_when_told(journal_dir: Path) -> None:
    killed_process(journal_dir)
    journal = Journal(journal_dir)

    assert len(journal.replay_dead()) == 50
    journal.keep_replayed()
    assert len(journal.replay_dead()) == 50
    assert Journal(journal_dir).replay_dead() == [], "two processes never replay the same file"
    journal.forget_replayed()

    assert list(journal_dir.iterdir()) == []


def test_a_torn_last_line_loses_only_itself(journal_dir: Path, make_record: MakeRecord) -> None:
    whole, torn = make_record(), make_record()
    begun = line("b", torn)
    dead_journal(journal_dir, line("e", whole) + begun + line("e", torn)[:-20])

    records = {r.id: r for r in Journal(journal_dir).replay_dead()}

    assert records[whole.id].outcome == "completed"
    assert records[torn.id].outcome == "interrupted"


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.lists(st.binary(max_size=60), max_size=8))
def test_no_garbage_hides_a_whole_line(
    noise: list[bytes], tmp_path_factory: pytest.TempPathFactory, make_record: MakeRecord
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    record = make_record(id="survivor")
    dead_journal(folder, b"\n".join(noise) + b"\n" + line("e", record) + b"\n".join(noise))

    assert [r.id for r in Journal(folder).replay_dead()] == ["survivor"]


def test_an_end_in_a_later_file_closes_its_beginning(
    journal_dir: Path, make_record: MakeRecord
) -> None:
    record = make_record()
    dead_journal(journal_dir, line("b", record))
    (journal_dir / "host-1-abc.1.jsonl").write_bytes(line("e", record))

    assert [r.outcome for r in Journal(journal_dir).replay_dead()] == ["completed"]


def test_a_refusal_of_an_unknown_caller_is_not_replayed(
    journal_dir: Path, make_record: MakeRecord
) -> None:
    stranger = make_record(outcome="refused", key_id=None, member_id=None)
    dead_journal(journal_dir, line("b", stranger) + line("e", stranger))

    assert Journal(journal_dir).replay_dead() == []


def test_hostile_text_is_written_and_read(journal_dir: Path, make_record: MakeRecord) -> None:
    journal = Journal(journal_dir)
    journal.open()
    record = make_record(model_asked="bad \ud800 \x00 name", attempts=[{"why": "\udfff"}])

    assert journal.end(record)
    journal.close()

    [found] = Journal(journal_dir).replay_dead()
    assert found.model_asked == "bad \ufffd \ufffd name"
    assert found.attempts == [{"why": "\ufffd"}]


def test_a_large_file_is_followed_by_a_new_one_and_deleted_when_settled(
    journal_dir: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 1000)
    journal = Journal(journal_dir)
    journal.open()
    records = [make_record() for _ in range(10)]
    for record in records:
        journal.begin(record)
    journal.tidy()
    for record in records:
        journal.end(record)
    assert len(list(journal_dir.iterdir())) == 2

    journal.settle([r.id for r in records[1:]])
    journal.tidy()
    assert len(list(journal_dir.iterdir())) == 3, "one exchange is only in the first two"

    journal.settle([records[0].id])
    journal.tidy()
    assert len(list(journal_dir.iterdir())) == 1
    journal.close()
    assert list(journal_dir.iterdir()) == []


def test_p04_a_full_disk_is_said_once_and_recovers(
    journal_dir: Path,
    make_record: MakeRecord,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    journal = Journal(journal_dir)
    journal.open()
    real_write = os.write
    monkeypatch.setattr(
        journal_module.os, "write", lambda fd, data: real_write(fd, data[: len(data) // 2])
    )
    assert not journal.end(make_record())
    assert not journal.end(make_record())
    monkeypatch.undo()
    last = make_record()
    assert journal.end(last)
    journal.close()

    assert [r.id for r in Journal(journal_dir).replay_dead()] == [last.id]
    assert sum("cannot be written" in m for m in caplog.messages) == 1


def test_p04_strict_mode_refuses_what_cannot_be_noted(
    tmp_path: Path, make_record: MakeRecord, settings: object
) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    journal = Journal(tmp_path / "file")
    journal.open()

    assert not journal.begin(make_record())
    settings.GATEWAY_JOURNAL_STRICT = True  # type: ignore[attr-defined]
    with pytest.raises(JournalUnwritable):
        journal.begin(make_record())


def test_a_forked_child_does_not_keep_the_journal_locked(
    journal_dir: Path, make_record: MakeRecord
) -> None:
    """A pool's worker outlives its killed parent; the parent's records must not wait for it."""
    script = """
import os, sys, time
from datetime import UTC, datetime
from pathlib import Path
import django
django.setup()
from usage.journal import Journal, Record
journal = Journal(Path(sys.argv[1]))
journal.open()
journal.begin(Record(id="parents", started_at=datetime(2026, 11, 20, tzinfo=UTC)))
child = os.fork()
if child == 0:
    sys.stdin.read()
    os._exit(0)
os._exit(0)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(journal_dir)],
        stdin=subprocess.PIPE,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "copilot_site.settings"},
    )
    parent.wait(timeout=30)

    found = [r.id for r in Journal(journal_dir).replay_dead()]
    assert parent.stdin is not None
    parent.stdin.close()
    assert found == ["parents"]
