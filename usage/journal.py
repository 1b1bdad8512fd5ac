"""The journal: what a process began and ended, on disk before the database knows of it.

One process appends to one file at a time and holds it locked while it lives. A line is
`{"b": {...}}` for a beginning or `{"e": {...}}` for an end, each written by a single `os.write`
into the page cache without fsync: it survives the death of the process, not that of the machine.
A file whose lock can be taken belongs to a dead process; whoever finds it first reads it.
"""

import logging
import os
import re
import secrets
import socket
import threading
import weakref
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings

from usage.bounds import all_fit, fit
from usage.file_lock import remove_locked, try_lock

SEGMENT_BYTES = 8 * 1024 * 1024
logger = logging.getLogger(__name__)


class Record(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One exchange as it is known so far. Names, units and meanings are `UsageRecord`'s."""

    id: str
    started_at: datetime
    finished_at: datetime | None = None
    outcome: str = ""
    status: int | None = None
    upstream_status: int | None = None
    error_code: str = ""
    error_message: str = ""
    stop_reason: str = ""
    source: str = ""
    target: str = ""
    path: str = ""
    streamed: bool = False
    model_asked: str = ""
    model_used: str = ""
    effort: str = ""
    client: str = ""
    member_id: int | None = None
    member: str = ""
    key_id: int | None = None
    key: str = ""
    account_id: int | None = None
    account: str = ""
    conversation: str = ""
    parent: str = ""
    upstream_request_id: str = ""
    team_id: int | None = None
    team: str = ""
    cost_centre: str = ""
    initiator: str = ""
    initiator_rule: str = ""
    dropped: list[Any] = []
    quirks: list[Any] = []
    attempts: list[Any] = []
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    usage_estimated: bool = False
    nano_aiu: int = 0
    estimated_nano_aiu: int = 0
    cost_source: str = "none"
    queue_ms: int = 0
    upstream_ms: int | None = None
    first_token_ms: int | None = None
    total_ms: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    tools_sent: int = 0
    messages_sent: int = 0


class JournalUnwritable(Exception):
    """The journal takes no line and `GATEWAY_JOURNAL_STRICT` is on: the request must be refused."""


def is_stored(record: Record) -> bool:
    """A request refused before its caller was known leaves a metric, not a row."""
    return record.outcome != "refused" or record.member_id is not None


def fitted(record: Record) -> Record:
    """The record itself when every value fits its column, as nearly always, else a copy that does."""
    if all_fit(record):
        return record
    return Record(**fit(msgspec.structs.asdict(record)))


class _Segment:
    """One file of ours: its descriptor, its size and the exchanges that only it remembers."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.size_bytes = 0
        self.unsettled: set[str] = set()
        self.is_torn = False


class Journal:
    """The journal of this process. `begin` and `end` may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        host = re.sub(r"[^A-Za-z0-9_-]", "_", socket.gethostname())[:60]
        self._process = f"{host}-{os.getpid()}-{secrets.token_hex(6)}"
        self._lock = threading.Lock()
        self._segments: list[_Segment] = []
        self._made = 0
        self._is_failing = False
        self._replaying: list[tuple[Path, int]] = []
        _alive.add(self)

    # Writing

    def open(self) -> None:
        """Make the first file. Failing is said once in the log and tried again by `tidy`."""
        try:
            segment = self._make_segment()
        except OSError as error:
            self._failed(error)
            return
        with self._lock:
            self._segments.append(segment)

    def begin(self, record: Record) -> bool:
        """Append the beginning. Raises `JournalUnwritable` in strict mode when that fails."""
        done = self._append("b", record)
        if not done and getattr(settings, "GATEWAY_JOURNAL_STRICT", False):
            raise JournalUnwritable("The usage journal cannot be written.")
        return done

    def end(self, record: Record) -> bool:
        """Append the end. False when it could not be written; the caller keeps the record."""
        return self._append("e", record)

    def settle(self, ids: Iterable[str]) -> None:
        """These exchanges are in the database, or never will be: the journal may forget them."""
        settled = set(ids)
        with self._lock:
            for segment in self._segments:
                segment.unsettled -= settled

    def tidy(self) -> None:
        """Begin a new file when the present one is large; delete old files that are settled.

        Called by the writer thread, so that no request waits for the making of a file.
        """
        with self._lock:
            newest = self._segments[-1] if self._segments else None
            settled = [s for s in self._segments[:-1] if not s.unsettled]
            self._segments = [s for s in self._segments if s not in settled]
        for segment in settled:
            remove_locked(segment.path, segment.descriptor)
        if newest is None or newest.size_bytes > SEGMENT_BYTES:
            self.open()

    def close(self) -> None:
        """Let go of every file; those with unsettled exchanges stay for the next start."""
        with self._lock:
            segments, self._segments = self._segments, []
        for segment in segments:
            if segment.unsettled:
                os.close(segment.descriptor)
            else:
                remove_locked(segment.path, segment.descriptor)

    def _append(self, kind: str, record: Record) -> bool:
        try:
            line = msgspec.json.encode({kind: record}) + b"\n"
        except (UnicodeEncodeError, TypeError, ValueError, OverflowError):
            # Lone surrogates and the like: seldom, so the price is paid only here.
            line = msgspec.json.encode({kind: fitted(record)}) + b"\n"
        with self._lock:
            if not self._segments:
                return False
            segment = self._segments[-1]
            if segment.is_torn:
                line = b"\n" + line
            try:
                written = os.write(segment.descriptor, line)
            except OSError as error:
                self._failed(error)
                return False
            segment.size_bytes += written
            segment.is_torn = written < len(line)
            if segment.is_torn:
                self._failed(OSError("the disk took a part of a line"))
                return False
            segment.unsettled.add(record.id)
        if self._is_failing:
            self._is_failing = False
            logger.warning("the usage journal can be written again")
        return True

    def _failed(self, error: OSError) -> None:
        if not self._is_failing:
            logger.error("the usage journal cannot be written, records stay in memory: %s", error)
        self._is_failing = True

    def _make_segment(self) -> _Segment:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        while True:
            suffix = f".{self._made}" if self._made else ""
            self._made += 1
            path = self._folder / f"{self._process}{suffix}.jsonl"
            descriptor = os.open(
                path,
                os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0),
                0o600,
            )
            # Another process may look between the making and the locking, find an empty file of
            # nobody and delete it: then the next name is ours.
            if try_lock(descriptor) and path.exists():
                return _Segment(path, descriptor)
            os.close(descriptor)

    # Reading

    def reread(self, known: set[str], limit: int) -> list[Record]:
        """Ends in our own files that are neither settled nor among `known`; at most `limit`.

        How records come back that did not fit into memory while the database was away.
        """
        with self._lock:
            wanted = {s.path: s.unsettled - known for s in self._segments}
        found: dict[str, Record] = {}
        for path, ids in wanted.items():
            if not ids:
                continue
            for kind, values in _lines(path.read_bytes()):
                if kind == "e" and values.get("id") in ids and values["id"] not in found:
                    record = _record(values)
                    if record is not None and is_stored(record):
                        found[record.id] = record
                if len(found) >= limit:
                    return list(found.values())
        return list(found.values())

    def replay_dead(self) -> list[Record]:
        """What dead processes left: ends as they are, beginnings without an end as `interrupted`.

        The files stay locked until `forget_replayed` deletes them or `keep_replayed` lets go.
        """
        ends: dict[str, Record] = {}
        begins: dict[str, Record] = {}
        for descriptor in self._lock_dead():
            for kind, values in _lines(_content(descriptor)):
                record = _record(values)
                if record is not None:
                    (ends if kind == "e" else begins).setdefault(record.id, record)
        for exchange_id, record in begins.items():
            if exchange_id not in ends:
                record.outcome = "interrupted"
                record.finished_at = record.started_at
                record.status = None
                record.usage_estimated = True
                if record.estimated_nano_aiu:
                    # It went up and is charged; nobody knows for how much of an answer.
                    record.nano_aiu = record.estimated_nano_aiu
                    record.cost_source = "estimated"
                ends[exchange_id] = record
        return [record for record in ends.values() if is_stored(record)]

    def forget_replayed(self) -> None:
        """The replayed records are in the database: delete their files."""
        for path, descriptor in self._replaying:
            remove_locked(path, descriptor)
        self._replaying = []

    def keep_replayed(self) -> None:
        """The database did not take them: leave the files for a later try."""
        for _, descriptor in self._replaying:
            os.close(descriptor)
        self._replaying = []

    def _lock_dead(self) -> Iterator[int]:
        """Descriptors of the files of dead processes, locked; all files of a process or none.

        A process that dies loses its locks one by one. Reading the beginnings of one file without
        the ends of the next would call a finished exchange interrupted.
        """
        self.keep_replayed()
        processes: dict[str, list[Path]] = {}
        for path in sorted(self._folder.glob("*.jsonl")):
            processes.setdefault(path.name.split(".")[0], []).append(path)
        processes.pop(self._process, None)
        for paths in processes.values():
            held = [(path, descriptor) for path in paths if (descriptor := _take(path)) is not None]
            if len(held) == len(paths):
                self._replaying += held
            else:
                for _, descriptor in held:
                    os.close(descriptor)
        return (descriptor for _, descriptor in self._replaying)

    def _forked(self) -> None:
        """In a forked child: drop the files, which keep the parent's lock alive as long as open."""
        for segment in self._segments:
            os.close(segment.descriptor)
        for _, descriptor in self._replaying:
            os.close(descriptor)
        self._segments, self._replaying = [], []
        self._lock = threading.Lock()


def _take(path: Path) -> int | None:
    """A locked descriptor of a dead process's file; `None` while its process lives."""
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    # Deleted between the opening and the locking: somebody else has replayed it.
    if try_lock(descriptor) and path.exists():
        return descriptor
    os.close(descriptor)
    return None


def _content(descriptor: int) -> bytes:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return file.read()


def _lines(content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """The whole lines of a journal; what a full disk or a killed process tore is passed over."""
    for line in content.split(b"\n"):
        try:
            decoded = msgspec.json.decode(line) if line else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            logger.warning("passed over a torn journal line of %d bytes", len(line))
            continue
        if isinstance(decoded, dict):
            for kind in ("b", "e"):
                if isinstance(values := decoded.get(kind), dict):
                    yield kind, values


def _record(values: dict[str, Any]) -> Record | None:
    known = fit(values)
    if not known.get("id") or known.get("started_at") is None:
        return None
    return Record(**known)


_alive: "weakref.WeakSet[Journal]" = weakref.WeakSet()


def _forget_in_child() -> None:
    for journal in list(_alive):
        journal._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
