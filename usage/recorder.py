"""The recorder: one usage record per request, exactly once, and never in the request's way.

`begin` and `finish` append a line to the journal and keep the record in memory: microseconds, no
waiting. A writer thread inserts what has finished, twice a second and more, together with its rollups
in one transaction. A record that is already there is left alone and counted nowhere again, so that
writing twice, or replaying a journal that was written already, changes nothing.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings
from django.core.exceptions import SynchronousOnlyOperation
from django.db import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    connection,
    transaction,
)
from django.db.models import DateTimeField, F, JSONField, Q

from accounts.models import ApiKey
from usage import inserting, live, quota, rollups
from usage.journal import Journal, JournalUnwritable, Record, fitted, is_stored
from usage.models import UsageRecord, fields_of
from usage.spend import REFRESH_S, spend

DRAIN_EVERY_S = 0.4
MAX_BACK_OFF_S = 10.0
BATCH = 2000
MAX_IN_MEMORY = 50_000
REPLAY_EVERY_S = 10.0
HEARD_EVERY_S = 15.0
SHARE_EVERY_S = 2.0
KEY_USED_EVERY_S = 60.0
# Columns whose values a database wants in another form than Python has them.
PREPARED = (DateTimeField, JSONField)
logger = logging.getLogger(__name__)


class Recorder:
    """One per process. `lost` counts records that neither memory nor journal could hold."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._journal: Journal | None = None
        self._lock = threading.Lock()
        self._in_flight: dict[str, Record] = {}
        self._finished: dict[str, Record] = {}
        self._overflowed = 0
        self.lost = 0
        self.written = 0
        self._keys_used: dict[int, float] = {}
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._drained = threading.Condition()
        self._writing = threading.Lock()
        self._replaying = threading.Lock()
        self._database_away = False
        self._failures = 0

    # On the request's way

    def begin(self, record: Record) -> None:
        """The upstream call begins. Raises `JournalUnwritable` in strict mode, nothing else."""
        try:
            if self._journal is not None:
                self._journal.begin(record)
            self._in_flight[record.id] = record
            live.exchange("started", record)
        except JournalUnwritable:
            raise
        except Exception:
            # A request is served also when its beginning cannot be noted.
            logger.exception("the beginning of a usage record could not be kept")

    def finish(self, record: Record) -> None:
        """The request has ended, however. The record must not change afterwards. Never raises."""
        try:
            self._finish(record)
        except Exception:
            # The answer is out; whatever is wrong with its record must not break it.
            logger.exception("a usage record could not be kept")

    def in_flight(self) -> list[Record]:
        """The exchanges of this process that have begun and not ended, oldest first."""
        return list(self._in_flight.copy().values())

    @property
    def waiting(self) -> int:
        """Finished records that are not in the database yet."""
        return len(self._finished) + self._overflowed

    def _finish(self, record: Record) -> None:
        was_in_flight = self._in_flight.pop(record.id, None) is not None
        if not is_stored(record):
            if was_in_flight and self._journal is not None:
                self._journal.end(record)
                self._journal.settle([record.id])
            live.finished(record)
            return
        in_journal = self._journal is not None and self._journal.end(record)
        with self._lock:
            if record.id not in self._finished:
                if len(self._finished) < MAX_IN_MEMORY:
                    self._finished[record.id] = record
                elif in_journal:
                    self._overflowed += 1
                else:
                    self.lost += 1
        spend.add(record)
        live.finished(record)

    # Life

    def start(self) -> None:
        """Open the journal, read the sums that budgets need, and begin to write.

        A database that is away delays nothing: the writer thread tries again. Call it outside of an
        event loop's thread.
        """
        if self._thread is not None:
            return
        self._stopping.clear()
        self._journal = self._new_journal()
        self._journal.open()
        with contextlib.suppress(Error, SynchronousOnlyOperation):
            spend.refresh()
        self._thread = threading.Thread(target=self._run, name="usage recorder", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Write what is left and end; False when time ran out. The journal keeps the rest."""
        thread = self._thread
        if thread is None:
            return True
        self._stopping.set()
        self._wake.set()
        thread.join(timeout=timeout_s)
        if self._journal is not None:
            self._journal.close()
        self._thread = self._journal = None
        return not thread.is_alive() and not self.waiting

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything finished so far is in the database; without a writer, write now."""
        if self._thread is None:
            while self._finished:
                self._write_batch()
            return True
        self._wake.set()
        with self._drained:
            return self._drained.wait_for(lambda: not self.waiting, timeout=timeout_s)

    def replay(self) -> int:
        """Store what dead processes left in their journals; gives back how many records.

        Raises `django.db.Error` when the database does not take them; the journals then stay.
        """
        with self._replaying:
            journal = self._journal or self._new_journal()
            records = journal.replay_dead()
            try:
                for start in range(0, len(records), BATCH):
                    self._write(records[start : start + BATCH])
            except Error:
                journal.keep_replayed()
                raise
            journal.forget_replayed()
        if records:
            logger.info("stored %d usage records that a dead process had left", len(records))
        return len(records)

    def _new_journal(self) -> Journal:
        return Journal(self._folder or Path(settings.JOURNAL_DIR))

    # The writer thread

    def _run(self) -> None:
        chores = (
            _Chore(self.replay, REPLAY_EVERY_S),
            _Chore(spend.refresh, REFRESH_S),
            _Chore(quota.store_heard, HEARD_EVERY_S),
            _Chore(lambda: live.share_in_flight(self.in_flight()), SHARE_EVERY_S),
        )
        while not self._stopping.is_set():
            self._turn(chores)
            self._wake.wait(self._pause_s())
            self._wake.clear()
        # The last turn; what a missing database leaves behind stays in the journal.
        self._turn((_Chore(quota.store_heard, HEARD_EVERY_S),))
        connection.close()

    def _pause_s(self) -> float:
        if not self._failures:
            return DRAIN_EVERY_S
        return float(min(MAX_BACK_OFF_S, DRAIN_EVERY_S * 2 ** min(self._failures, 10)))

    def _turn(self, chores: Iterable["_Chore"]) -> None:
        try:
            # Not `close_old_connections`: this thread keeps its connection until it fails.
            self._drain()
            for chore in chores:
                chore.run_when_due()
            self._failures = 0
            if self._database_away:
                self._database_away = False
                logger.warning("the database takes usage records again")
        except Error as error:
            self._failures += 1
            if not self._database_away:
                self._database_away = True
                logger.warning("usage records wait for the database: %s", error)
            connection.close()
        except Exception:
            # The thread must outlive a surprise: without it nothing would be recorded any more.
            self._failures += 1
            logger.exception("the usage recorder stumbled")
            connection.close()
        if self._journal is not None:
            self._journal.tidy()

    def _drain(self) -> None:
        while self._finished:
            self._write_batch()
        if self._overflowed and self._journal is not None:
            self._fetch_overflowed(self._journal)
        if not self.waiting:
            with self._drained:
                self._drained.notify_all()

    def _write_batch(self) -> None:
        with self._lock:
            batch = list(islice(self._finished.values(), BATCH))
        if not batch:
            return
        self._write(batch)
        with self._lock:
            for record in batch:
                self._finished.pop(record.id, None)

    def _fetch_overflowed(self, journal: Journal) -> None:
        """Take back from the journal what memory had no room for."""
        while True:
            with self._lock:
                known = set(self._finished) | set(self._in_flight)
                overflowed = self._overflowed
            records = journal.reread(known, limit=BATCH * 10)
            if not records:
                with self._lock:
                    self._overflowed -= overflowed
                return
            for start in range(0, len(records), BATCH):
                self._write(records[start : start + BATCH])

    # Writing

    def _write(self, records: Sequence[Record]) -> None:
        """Store `records`, once each. Raises `django.db.Error` when the database is away."""
        with self._writing:
            fit = [_whole(fitted(record)) for record in records]
            for part in self._stored_parts(fit):
                ids = [record.id for record in part]
                spend.settle(ids)
                if (journal := self._journal) is not None:
                    journal.settle(ids)
                self.written += len(part)
        self._mark_keys_used(fit)

    def _stored_parts(self, records: Sequence[Record]) -> Iterable[Sequence[Record]]:
        # Nearly always all are new; to ask first costs a tenth of the writing.
        for may_be_there in (False, True):
            try:
                _insert(records, may_be_there=may_be_there)
                yield records
                return
            except (DataError, IntegrityError, ValueError, TypeError, OverflowError):
                # Some were there, another process has just written one, or one of them is unfit.
                continue
        for record in records:
            try:
                _insert([record])
            except (DataError, IntegrityError, ValueError, TypeError, OverflowError):
                self.lost += 1
                logger.exception("usage record %s cannot be stored", record.id)
            yield [record]

    def _mark_keys_used(self, records: Sequence[Record]) -> None:
        """`last_used_at`, at most once a minute for a key; best effort."""
        newest: dict[int, datetime] = {}
        for record in records:
            if record.key_id is not None:
                newest[record.key_id] = max(
                    record.started_at, newest.get(record.key_id, record.started_at)
                )
        at = time.monotonic()
        for key_id, used_at in newest.items():
            if at - self._keys_used.get(key_id, float("-inf")) < KEY_USED_EVERY_S:
                continue
            try:
                # `updated_at` stays: it would make every process read all keys again.
                ApiKey.objects.filter(
                    Q(last_used_at=None) | Q(last_used_at__lt=used_at), pk=key_id
                ).update(last_used_at=used_at, updated_at=F("updated_at"))
            except DatabaseError:
                return
            self._keys_used[key_id] = at


def _insert(records: Sequence[Record], *, may_be_there: bool = True) -> None:
    """Insert those that are not there yet, and their rollups, in one transaction.

    Raises `IntegrityError` when one is there that could not be.
    """
    unique = {record.id: record for record in records}
    with transaction.atomic():
        there: set[str] = set()
        if may_be_there:
            there.update(UsageRecord.objects.filter(pk__in=unique).values_list("pk", flat=True))
        new = [record for key, record in unique.items() if key not in there]
        if not new:
            return
        # Not `ignore_conflicts`: a row that another process inserts between the two statements
        # must stop this transaction, or its rollup would be counted twice.
        _insert_rows(new)
        rollups.add(new)


def _insert_rows(records: Sequence[Record]) -> None:
    # `bulk_create` makes a model and compiles each cell, 300 us a row that the gateway's streams wait
    # for; the values fit their columns already (`usage.bounds`).
    fields = fields_of(UsageRecord)
    quote = connection.ops.quote_name
    columns = ", ".join(quote(field.column) for field in fields.values())
    head = f"INSERT INTO {quote(UsageRecord._meta.db_table)} ({columns})"
    inserting.insert(head, _rows(records, fields))


def _rows(records: Sequence[Record], fields: Mapping[str, Any]) -> list[list[Any]]:
    """The values of `records` in the order of `fields`, as the database wants them."""
    read = attrgetter(*fields)
    prepared = [(i, _preparer(f)) for i, f in enumerate(fields.values()) if isinstance(f, PREPARED)]
    rows = []
    for record in records:
        row = list(read(record))
        for place, prepare in prepared:
            row[place] = prepare(row[place])
        rows.append(row)
    return rows


def _preparer(field: Any) -> Callable[[Any], Any]:
    def prepare(value: Any) -> Any:
        return field.get_db_prep_save(value, connection)

    if connection.vendor != "sqlite" or connection.timezone is not UTC:
        return prepare
    # What Django writes, without asking each time which database it writes for.
    if isinstance(field, JSONField):
        return lambda value: orjson.dumps(value).decode() if value else "[]"
    return lambda value: (
        str(value.replace(tzinfo=None)) if value and value.tzinfo is UTC else prepare(value)
    )


def _whole(record: Record) -> Record:
    record.outcome = record.outcome or UsageRecord.Outcome.INTERRUPTED
    return record


class _Chore:
    """Something the writer does every now and then."""

    def __init__(self, work: Callable[[], object], every_s: float) -> None:
        self._work = work
        self._every_s = every_s
        self._due_at = float("-inf")

    def run_when_due(self) -> None:
        if time.monotonic() >= self._due_at:
            self._work()
            self._due_at = time.monotonic() + self._every_s


recorder = Recorder()


def _begin_anew_in_child() -> None:
    # The parent writes what it holds; a child that kept it would write it too.
    recorder.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)
