"""One SQLite file: opened safely, migrated, read and written through connections of its own.

A connection is used by one thread at a time and never across a fork. Reads and writes are short transactions;
nothing here keeps one open while its caller thinks.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parallelai.errors import BusyError, StoreError, StoreFormatError
from parallelai.store.faults import corrupt, has_no_room, told
from parallelai.store.lock import FileLock
from parallelai.store.migrations import Schema

PAGE_BYTES = 4096
LOG_BYTES = 16 * 1024 * 1024
"""How long the log beside a journal grows before its pages are copied into it, and what of it is kept then: with
SQLite's own 4 MB a review of some thousand files would copy several times, once in its last commit."""
BUSY_SECONDS = 60.0
_SETUP_SECONDS = 30.0
_IDLE = 4

# What is open in this process; and what a forked child found open. That it may not even close: a thread of its
# parent that was within SQLite at the fork has left SQLite's own locks taken for ever.
_open: weakref.WeakSet[_Connection] = weakref.WeakSet()
_inherited: list[_Connection] = []


@functools.cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_inherit)


def _inherit() -> None:
    _inherited.extend(_open)
    _open.clear()


class Database:
    """A file of the given schema, open in this process.

    While it is open a shared lock on `<name>.lock` is held; creating, migrating and replacing the file take
    it exclusively, so that nobody writes to a file that was moved away.
    """

    def __init__(self, path: Path, schema: Schema, *, is_wal: bool = True) -> None:
        self.path = path
        self.schema = schema
        self.is_wal = is_wal
        self._guard = FileLock(lock_path(path))
        self._idle: list[sqlite3.Connection] = []
        self._process = os.getpid()
        self._is_open = False

    def open(self) -> None:
        """Create the file, or bring it to this version's format. Raises `StoreError` and its kinds."""
        _refuse_emptied(self.path)
        if not self._guard.wait(_SETUP_SECONDS, is_shared=True):
            raise _locked(self.path)
        try:
            if self._needs_setup():
                self._set_up()
            if _ends_within_page(self.path):
                self._check_whole()
        except BaseException:  # also an interrupt: nobody else would give the lock back
            self._guard.release()
            raise
        self._process = os.getpid()
        self._is_open = True

    def close(self) -> None:
        """Close every connection. What is still in use elsewhere closes when it is given back."""
        self._is_open = False
        while self._idle:
            self._idle.pop().close()
        self._guard.release()

    def connect(self) -> sqlite3.Connection:
        """Open a connection of one's own, to be closed by the caller. Raises `StoreError`."""
        self.refuse_fork()
        with told(self.path):
            return open_connection(self.path)

    def refuse_fork(self) -> None:
        """Raise `StoreError` in a child that was forked after the file was opened."""
        if os.getpid() != self._process:
            raise StoreError(
                f"`{self.path}` was opened before this process was forked, and cannot be used in it",
                next="open the store anew in the child, or start it with `spawn`",
            )

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that sees one unchanging state of the file."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Give a connection whose changes are kept, all of them, unless the block raises."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def lent(self) -> Iterator[sqlite3.Connection]:
        """Give a connection outside any transaction."""
        if not self._is_open:
            raise StoreError(f"`{self.path}` is closed")
        self.refuse_fork()
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self.connect()
        try:
            with told(self.path):
                yield connection
        finally:
            if self._is_open and len(self._idle) < _IDLE and not connection.in_transaction:
                self._idle.append(connection)
            else:
                connection.close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self.lent() as connection:
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                roll_back(connection)

    def _needs_setup(self) -> bool:
        if not self.path.exists():
            return True
        with told(self.path), _closing(open_connection(self.path)) as connection:
            return _format_of(connection, self.path, self.schema) < self.schema.format

    def _set_up(self) -> None:
        self._guard.release()
        if not self._guard.wait(_SETUP_SECONDS):
            raise _locked(self.path)
        with told(self.path):
            make_private(self.path)
        with told(self.path), _closing(open_connection(self.path)) as connection:
            migrate(connection, self.path, self.schema, is_wal=self.is_wal)
        with told(self.path):
            self._guard.share()

    def _check_whole(self) -> None:
        """Tell a file that was cut from one whose last pages are still in the log beside it."""
        log = self.path.with_name(self.path.name + "-wal")
        if not log.exists() or log.stat().st_size == 0:
            raise corrupt(self.path, "it was cut")
        with told(self.path), _closing(open_connection(self.path)) as connection:
            said = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
        if said != "ok":
            raise corrupt(self.path, f"it was cut ({said.splitlines()[-1]})")


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the database file alone while it is replaced. Raises `BusyError` if any process has it open."""
    guard = FileLock(lock_path(path))
    if not guard.wait(1.0):
        raise BusyError(
            f"another ParallelAI process has `{path}` open", next="end it (or its dashboard) and try again"
        )
    try:
        yield
    finally:
        guard.release()


def lock_path(path: Path) -> Path:
    """Name the lock file of a database."""
    return path.with_suffix(".lock")


class _Connection(sqlite3.Connection):
    """Closes itself when nobody holds it any more: `AsyncParallelAI` may be used without `async with`.

    From Python 3.13 on one that was left open is a warning. In a forked child it stays as it is.
    """

    def __init__(self, *args: Any, **given: Any) -> None:
        self._process = os.getpid()
        super().__init__(*args, **given)
        _watch_forks()
        _open.add(self)

    def close(self) -> None:
        if os.getpid() == self._process:
            super().close()

    def __del__(self) -> None:
        self.close()


def open_connection(path: Path) -> sqlite3.Connection:
    """Open `path` (made if missing), hardened; only to read it where it cannot be written. Raises `sqlite3.Error`."""
    read_only = _read_only(path)
    connection = sqlite3.connect(
        read_only or path,
        uri=read_only is not None,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=64,
        factory=_Connection,
    )
    try:
        # FULL: a commit is on the disk when it returns, also if the power fails. Group commit pays for it.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_BYTES // PAGE_BYTES}")
    except BaseException:  # also an interrupt: the file must not stay open
        connection.close()
        raise
    return connection


def _read_only(path: Path) -> str | None:
    """The address of a file that is there, and can only be read: no right to write, a read-only or a full disk.

    SQLite wants to write beside it even to read it. Where it has no log, nobody has it open, and it need not.
    """
    has_log = path.with_name(path.name + "-wal").exists()
    is_writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    if not path.exists() or (is_writable and (has_log or not has_no_room(path.parent))):
        return None
    return f"{path.absolute().as_uri()}?{'mode=ro' if has_log else 'immutable=1'}"


def migrate(connection: sqlite3.Connection, path: Path, schema: Schema, *, is_wal: bool = True) -> None:
    """Bring the file to the schema's format, in one transaction. Raises `StoreError`, `sqlite3.Error`."""
    before = _format_of(connection, path, schema)
    if before == 0:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        wanted = "wal" if is_wal else "delete"
        (mode,) = connection.execute(f"PRAGMA journal_mode = {wanted}").fetchone()
        if mode != wanted:
            raise StoreError(
                f"`{path}` is on a file system that SQLite's {wanted} mode does not work on",
                next="set `state.path` to a folder on a local disk",
            )
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in schema.steps[before:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.application}")
        connection.execute(f"PRAGMA user_version = {schema.format}")
        connection.execute("COMMIT")
    finally:
        roll_back(connection)


def roll_back(connection: sqlite3.Connection) -> None:
    """End a transaction that was not committed; some errors have ended it already."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


@contextmanager
def _closing(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        yield connection
    finally:
        connection.close()


def _format_of(connection: sqlite3.Connection, path: Path, schema: Schema) -> int:
    """Read the format of the file; 0 is a new one. Raises `StoreFormatError` if it is not ours to use."""
    number = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables, others = connection.execute(
        "SELECT count(*), coalesce(sum(type IN ('trigger', 'view')), 0) FROM sqlite_master"
    ).fetchone()
    if tables and (application != schema.application or others):
        raise StoreFormatError(
            f"`{path}` is a database of something else", next="move it away, or set `state.path`"
        )
    if number > schema.format:
        raise StoreFormatError(
            f"`{path}` was written by a newer ParallelAI (format {number}; this one knows {schema.format})",
            next="upgrade ParallelAI, or set `state.path` to another folder",
        )
    return number


def make_private(path: Path) -> None:
    """Make a file that is not there yet the owner's alone, as SQLite then makes those beside it."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _refuse_emptied(path: Path) -> None:
    """Stop before SQLite meets an empty file with a log: it would delete the log, and the runs in it."""
    log = path.with_name(path.name + "-wal")
    with told(path):
        if log.exists() and log.stat().st_size > 0 and (not path.exists() or path.stat().st_size == 0):
            raise corrupt(path, "it is empty, but the log beside it is not")


def _ends_within_page(path: Path) -> bool:
    # By name alone: opening and closing the file here would drop the locks that this process's other
    # connections hold on it (POSIX locks belong to the process, not to the descriptor).
    with told(path):
        return path.stat().st_size % PAGE_BYTES != 0


def _locked(path: Path) -> StoreError:
    return StoreError(
        f"`{path}` is being set up or repaired by another process", next="try again", retry_helps=True
    )
