"""The recorder: one row per request, exactly once, and sums that are true."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.db.models import Sum
from django.utils.timezone import now
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts.models import ApiKey, Member
from tests.usage.test_journal import dead_journal, killed_process, line
from usage import recorder as recorder_module
from usage.journal import Record, fitted, is_stored
from usage.models import Rollup, UsageRecord
from usage.recorder import Recorder

MakeRecord = Callable[..., Record]
pytestmark = pytest.mark.django_db(transaction=True)


def test_what_has_finished_is_stored_whole(recorder: Recorder, make_record: MakeRecord) -> None:
    record = make_record(
        quirks=["service_tier"], attempts=[{"status": 429}], finished_at=now(), conversation="c1"
    )
    recorder.begin(record)
    assert [r.id for r in recorder.in_flight()] == [record.id]
    assert not UsageRecord.objects.exists(), "what is in flight lives in memory"

    recorder.finish(record)

    assert recorder.flush()
    assert recorder.in_flight() == []
    row = UsageRecord.objects.get()
    for name in Record.__struct_fields__:
        assert getattr(row, name) == getattr(record, name), name


def test_v08_a_second_writing_changes_nothing(recorder: Recorder, make_record: MakeRecord) -> None:
    record = make_record(nano_aiu=5)
    recorder.finish(record)
    recorder.finish(record)
    assert recorder.flush()
    recorder.finish(make_record(id=record.id, nano_aiu=999))
    assert recorder.flush()

    assert UsageRecord.objects.get().nano_aiu == 5
    rollup = Rollup.objects.get()
    assert (rollup.requests, rollup.nano_aiu) == (1, 5)


def test_v07_refusals_leave_a_row_only_for_a_known_caller(
    recorder: Recorder, make_record: MakeRecord, journal_dir: Path
) -> None:
    stranger = make_record(outcome="refused", key_id=None, member_id=None)
    recorder.begin(stranger)
    recorder.finish(stranger)
    known = make_record(outcome="refused")
    recorder.finish(known)
    assert recorder.flush()

    assert list(UsageRecord.objects.values_list("id", flat=True)) == [known.id]
    recorder.stop()
    assert list(journal_dir.iterdir()) == [], "nothing is left to replay"


def test_p01_records_of_a_killed_gateway_appear_once(
    journal_dir: Path, make_record: MakeRecord
) -> None:
    killed_process(journal_dir)
    recorder = Recorder(journal_dir)

    assert recorder.replay() == 50
    assert recorder.replay() == 0

    assert UsageRecord.objects.count() == 50
    assert UsageRecord.objects.filter(outcome="interrupted").count() == 30
    assert Rollup.objects.aggregate(n=Sum("requests"))["n"] == 50


def test_a_journal_already_written_counts_nothing_twice(
    journal_dir: Path, make_record: MakeRecord
) -> None:
    """Killed after the insert and before the file was deleted."""
    stored, left = make_record(nano_aiu=3), make_record(nano_aiu=4)
    recorder = Recorder(journal_dir)
    recorder.finish(stored)
    recorder.flush()
    dead_journal(journal_dir, line("e", stored) + line("e", left))

    recorder.replay()

    assert UsageRecord.objects.count() == 2
    assert Rollup.objects.aggregate(n=Sum("nano_aiu"))["n"] == 7


def test_a_start_replays_by_itself(journal_dir: Path, make_record: MakeRecord) -> None:
    dead_journal(journal_dir, line("e", make_record(id="left")))
    recorder = Recorder(journal_dir)
    recorder.start()
    deadline = time.monotonic() + 10
    while list(journal_dir.glob("host-*")) and time.monotonic() < deadline:
        recorder.flush(0.05)
    recorder.stop()

    assert UsageRecord.objects.get().id == "left"


def lock_database() -> sqlite3.Connection:
    name = connection.settings_dict["NAME"]
    other = sqlite3.connect(name, uri="mode=memory" in str(name), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    # Shared memory has locks of tables, files have one of the whole.
    other.execute("DELETE FROM usage_usagerecord")
    return other


@pytest.mark.skipif(connection.vendor != "sqlite", reason="locks a SQLite file")
def test_p03_a_locked_database_delays_records_and_loses_none(
    recorder: Recorder, make_record: MakeRecord
) -> None:
    lock = lock_database()
    records = [make_record() for _ in range(30)]
    slowest = 0.0
    for record in records:
        at = time.perf_counter()
        recorder.begin(record)
        recorder.finish(record)
        slowest = max(slowest, time.perf_counter() - at)
    assert not recorder.flush(0.6)
    assert recorder.waiting == 30
    assert slowest < 0.1, "no request waits for the database"

    lock.execute("ROLLBACK")
    lock.close()

    assert recorder.flush(30)
    assert UsageRecord.objects.count() == 30
    assert Rollup.objects.aggregate(n=Sum("requests"))["n"] == 30


def test_p12_a_missing_table_delays_records_and_loses_none(
    recorder: Recorder, make_record: MakeRecord
) -> None:
    """As while an upgrade migrates."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE usage_rollup RENAME TO away")
    try:
        recorder.finish(make_record())
        assert not recorder.flush(0.5)
        assert UsageRecord.objects.count() == 0, "a row and its sums come together"
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE away RENAME TO usage_rollup")

    assert recorder.flush(15)
    assert UsageRecord.objects.count() == Rollup.objects.get().requests == 1


def test_p02_what_memory_cannot_hold_comes_back_from_the_journal(
    journal_dir: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "MAX_IN_MEMORY", 5)
    monkeypatch.setattr(recorder_module, "DRAIN_EVERY_S", 60)
    recorder = Recorder(journal_dir)
    recorder.start()
    for _ in range(40):
        recorder.finish(make_record())
    assert len(recorder._finished) <= 5

    assert recorder.flush(10)
    recorder.stop()

    assert UsageRecord.objects.count() == 40
    assert Rollup.objects.get().requests == 40
    assert recorder.lost == 0
    assert list(journal_dir.iterdir()) == []


def test_v08_two_processes_with_the_same_records_count_each_once(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    """As after a journal was copied, or a lock did not hold across hosts."""
    records = [make_record(model_used=f"m{n % 5}", key_id=n % 7) for n in range(600)]
    recorders = [Recorder(tmp_path / str(n)) for n in range(3)]
    for number, recorder in enumerate(recorders):
        recorder.start()
        for record in records[number * 50 :] + records[: number * 50]:
            recorder.finish(record)
    for recorder in recorders:
        assert recorder.stop(timeout_s=60)

    assert UsageRecord.objects.count() == 600
    assert Rollup.objects.aggregate(n=Sum("requests"))["n"] == 600
    assert [r.lost for r in recorders] == [0, 0, 0]


def test_without_a_journal_records_are_still_stored(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    (tmp_path / "file").write_text("where the folder should be")
    recorder = Recorder(tmp_path / "file")
    recorder.start()
    record = make_record()
    recorder.begin(record)
    recorder.finish(record)

    assert recorder.flush()
    recorder.stop()
    assert UsageRecord.objects.count() == 1


def test_stopping_writes_what_is_left(journal_dir: Path, make_record: MakeRecord) -> None:
    recorder = Recorder(journal_dir)
    recorder.start()
    for _ in range(1200):
        recorder.finish(make_record())

    assert recorder.stop(timeout_s=30)
    assert UsageRecord.objects.count() == 1200


def test_what_is_in_flight_at_the_end_becomes_interrupted(
    journal_dir: Path, make_record: MakeRecord
) -> None:
    recorder = Recorder(journal_dir)
    recorder.start()
    recorder.begin(make_record(outcome="", status=None))
    recorder.stop()

    Recorder(journal_dir).replay()

    assert UsageRecord.objects.get().outcome == "interrupted"


def test_a_key_is_marked_used_without_making_all_keys_reload(
    recorder: Recorder, make_record: MakeRecord
) -> None:
    owner = Member.objects.create(username="ben")
    key = ApiKey.objects.create(name="laptop", prefix="cgw_1", digest=b"1" * 32, owner=owner)
    at = now() - timedelta(minutes=3)
    recorder.finish(make_record(key_id=key.pk, started_at=at))
    assert recorder.flush()
    recorder.stop()

    after = ApiKey.objects.get()
    assert after.last_used_at == at
    assert after.updated_at == key.updated_at


def test_threads_may_record_at_once(recorder: Recorder, make_record: MakeRecord) -> None:
    def work() -> None:
        for _ in range(100):
            record = make_record()
            recorder.begin(record)
            recorder.finish(record)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert recorder.flush(30)
    assert UsageRecord.objects.count() == 400
    assert Rollup.objects.get().requests == 400


WILD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=700),
    st.lists(st.one_of(st.text(st.characters(), max_size=20), st.floats()), max_size=3),
)


@hypothesis_settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    values=st.dictionaries(
        st.sampled_from([f for f in Record.__struct_fields__ if f not in ("id", "started_at")]),
        WILD,
        max_size=12,
    )
)
def test_no_record_is_too_wild_to_store(
    values: dict[str, object], make_record: MakeRecord, journal_dir: Path
) -> None:
    recorder = Recorder(journal_dir)
    record = make_record(**values)
    before = UsageRecord.objects.count()

    recorder.finish(record)
    recorder.flush()

    stored = is_stored(record)
    assert UsageRecord.objects.count() == before + stored
    assert recorder.lost == 0


def test_v05_absurd_counts_are_clamped_and_flagged(make_record: MakeRecord) -> None:
    record = fitted(make_record(input_tokens=-5, output_tokens=10**400, error_message="x" * 900))

    assert (record.input_tokens, record.output_tokens) == (0, 2**31 - 1)
    assert record.usage_estimated
    assert len(record.error_message) == 500
    assert not fitted(make_record()).usage_estimated


def test_a_forked_child_writes_nothing_of_its_parent(make_record: MakeRecord) -> None:
    parent = recorder_module.recorder
    parent._finished["x"] = make_record()
    try:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, str(recorder_module.recorder.waiting).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 10) == b"0"
    finally:
        parent._finished.clear()
        os.close(read)
        os.close(write)


def test_times_are_utc_hours_of_the_beginning(recorder: Recorder, make_record: MakeRecord) -> None:
    recorder.finish(make_record(started_at=datetime(2026, 11, 20, 23, 59, 59, tzinfo=UTC)))
    assert recorder.flush()

    assert Rollup.objects.get().hour == datetime(2026, 11, 20, 23, tzinfo=UTC)
