"""Replies by the content of what was asked, shared between runs: one SQLite file, where damage is a miss.

What a burst of tasks stores goes to the disk in groups; a reply that comes alone goes there at once. A process
that is killed may lose the last group: the run has those replies in its journal.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from parallelai.events.writing import write_json
from parallelai.records import Reply, from_json
from parallelai.store import rows
from parallelai.store.database import make_private, open_connection, roll_back

T = TypeVar("T")

_FILE = "stored.db"
_FORMAT = b"parallelai-cache/2"
_TABLE = """CREATE TABLE IF NOT EXISTS replies (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- grows with each change, so that news are found by it
    key BLOB NOT NULL UNIQUE,
    mark BLOB NOT NULL,
    body BLOB NOT NULL
)"""
_GROUP = 2048
_GROUP_SECONDS = 0.5
_BUSY_MILLISECONDS = 500
_LOOK_SECONDS = 0.02
_MOST_KEYS = 100_000
_MOST_WAITING = 8 * _GROUP


class _Keys:
    """The keys in the file as of a moment ago, so that a miss costs no statement.

    Each statement gives the interpreter's lock away, and the thread that writes the journal would keep it for
    a while: ten thousand misses of a run took a tenth of its time.
    """

    def __init__(self) -> None:
        self._known: set[bytes] | None = set()
        self._last = 0
        self._version: int | None = None  # of the file: changes with what others write, not with what we do
        self._looked_at = -math.inf

    def surely_lack(self, name: bytes) -> bool:
        """Say whether a key was not there a moment ago, without a look at the file."""
        known = self._known
        return known is not None and name not in known and time.monotonic() - self._looked_at < _LOOK_SECONDS

    def must_look(self, name: bytes) -> bool:
        """Say whether only the file can tell that a key is not there: it was, or nobody has looked for a while."""
        known = self._known
        is_old = time.monotonic() - self._looked_at > _GROUP_SECONDS
        return is_old or known is None or name in known

    def found_none(self) -> None:
        """Learn that there is no file."""
        self._looked_at = time.monotonic()

    def may_hold(self, connection: sqlite3.Connection, name: bytes) -> bool:
        """Say whether it is worth while to look for a key; where there are too many, it always is."""
        now = time.monotonic()
        if self._known is not None and now - self._looked_at > _LOOK_SECONDS:
            self._look(connection, self._known)
            self._looked_at = now
        return self._known is None or name in self._known

    def add(self, names: Iterable[bytes]) -> None:
        """Learn of what this process has stored itself."""
        if self._known is not None:
            self._known.update(names)

    def _look(self, connection: sqlite3.Connection, known: set[bytes]) -> None:
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return
        self._version = version
        news = "SELECT number, key FROM replies WHERE number > ? ORDER BY number LIMIT ?"
        for number, key in connection.execute(news, (self._last, _MOST_KEYS)).fetchall():
            known.add(key)
            self._last = number
        if len(known) >= _MOST_KEYS:
            self._known = None


class CacheInfo(Struct, frozen=True):
    """How much there is."""

    entries: int
    bytes: int


class Cache:
    """The stored replies of a project. Safe to use from several threads and processes at once.

    What is to be stored waits in memory until a thread of its own writes it: nobody who runs tasks waits for a
    disk. A fork must not use its parent's: to it the cache is empty, and keeps nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / _FILE
        self._lock = threading.Lock()  # for what is in memory: never kept for long
        self._file_lock = threading.Lock()  # for the file; taken before the other one
        self._connection: sqlite3.Connection | None = None
        self._process = os.getpid()
        self._keys = _Keys()
        self._waiting: dict[str, Reply] = {}
        self._writing: dict[str, Reply] = {}
        self._written_at = -_GROUP_SECONDS
        self._has_writer = False
        self._has_failed = False

    def get(self, key: str) -> Reply | None:
        """Find the reply that was stored for the key; None if there is none, or it is damaged."""
        if self._is_foreign:
            return None
        name = _name(key)
        with self._lock:
            reply = self._waiting.get(key) or self._writing.get(key)
            if reply is not None or self._keys.surely_lack(name):
                return reply
        if not self._file_lock.acquire(blocking=self._keys.must_look(name)):
            return None  # a group is being written: a moment ago the key was not there
        try:
            return self._stored(name)
        finally:
            self._file_lock.release()

    def put(self, key: str, reply: Reply) -> None:
        """Store a validated reply for the key, in place of one that is there.

        One that cannot be stored (no room, no leave) will be asked for again, which is no reason for a run to fail.
        """
        if self._is_foreign:
            return
        with self._lock:
            self._waiting[key] = reply
            now = time.monotonic()
            is_due = now - self._written_at >= _GROUP_SECONDS
            if self._has_writer or not (is_due or (len(self._waiting) >= _GROUP and not self._has_failed)):
                return
            self._written_at = now
            self._has_writer = True
        try:
            threading.Thread(target=self._write_beside, name="parallelai-cache").start()
        except RuntimeError:  # no room for a thread: what waits is written by `flush`
            self._has_writer = False

    def flush(self) -> None:
        """Write what waits for its group."""
        if not self._is_foreign:
            with self._file_lock:
                self._write()

    def close(self) -> None:
        """Write what waits, and let go of the file. It is opened again when it is needed."""
        if not self._is_foreign:
            with self._file_lock:
                self._write()
                if self._has_failed:
                    self._forget()
                self._let_go()

    def info(self) -> CacheInfo:
        """Count the entries and their bytes."""
        if self._is_foreign:
            return CacheInfo(0, 0)
        with self._file_lock:
            self._write()
            return self._info()

    def clear(self) -> CacheInfo:
        """Delete all entries; returns how much that was."""
        if self._is_foreign:
            return CacheInfo(0, 0)
        with self._file_lock:
            self._write()
            self._forget()
            was = self._info()
            if was.entries:
                self._try(_empty, None)
            return was

    def _write_beside(self) -> None:
        try:
            self.flush()
        finally:
            self._has_writer = False

    @property
    def _is_foreign(self) -> bool:
        return os.getpid() != self._process

    # With the file's lock held.

    def _stored(self, name: bytes) -> Reply | None:
        if not self._is_there():
            self._keys.found_none()
            return None
        body = self._try(lambda connection: self._find(connection, name), None)
        if body is None:
            return None
        try:
            return _decode(body)
        except (ValueError, RecursionError):  # another version's, or not a reply
            self._try(lambda connection: _drop(connection, name), None)
            return None

    def _find(self, connection: sqlite3.Connection, name: bytes) -> bytes | None:
        return _read(connection, name) if self._keys.may_hold(connection, name) else None

    def _info(self) -> CacheInfo:
        return self._try(_count, CacheInfo(0, 0)) if self._is_there() else CacheInfo(0, 0)

    def _is_there(self) -> bool:
        """Say whether there is a file to look into: to look must not make one."""
        return self._connection is not None or self._path.exists()

    def _write(self) -> None:
        with self._lock:
            self._writing, self._waiting = self._waiting, {}
        bodies = {_name(key): body for key, reply in self._writing.items() if (body := _encode(reply))}
        is_written = not bodies or self._try(lambda connection: _store(connection, bodies), False)
        with self._lock:
            if is_written:
                self._keys.add(bodies)
            elif len(self._writing) + len(self._waiting) <= _MOST_WAITING:
                self._waiting = {**self._writing, **self._waiting}  # another process may be done soon
            self._writing = {}
            self._has_failed = not is_written

    def _forget(self) -> None:
        """Give up what could not be written."""
        with self._lock:
            self._waiting = {}

    def _try(self, use: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Use the file. Whatever is wrong with it, it is as if it were empty; a damaged one is made anew."""
        if self._is_foreign:
            return otherwise
        try:
            if self._connection is None:
                self._connection = self._open()
            return use(self._connection)
        except sqlite3.OperationalError:  # no room, no leave, taken for too long
            self._let_go()
        except sqlite3.DatabaseError:
            self._let_go()
            for ending in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    self._path.with_name(_FILE + ending).unlink()
        except OSError:
            pass
        return otherwise

    def _open(self) -> sqlite3.Connection:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        make_private(self._path)
        connection = open_connection(self._path)
        try:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
            # Not FULL: what a power cut takes with it is asked for again.
            connection.execute("PRAGMA synchronous = NORMAL")
            if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                connection.execute("PRAGMA journal_mode = wal")
            connection.execute(_TABLE)
        except BaseException:  # also an interrupt: the file must not stay open
            connection.close()
            raise
        return connection

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        self._keys = _Keys()
        if connection is not None and not self._is_foreign:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _name(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _mark(name: bytes, body: bytes) -> bytes:
    """What tells a whole entry of this version, in its own place, from anything else."""
    return hashlib.blake2b(_FORMAT + name + body, digest_size=16).digest()


def _read(connection: sqlite3.Connection, name: bytes) -> bytes | None:
    row = connection.execute("SELECT mark, body FROM replies WHERE key = ?", (name,)).fetchone()
    if row is None:
        return None
    mark, body = row
    if isinstance(body, bytes) and mark == _mark(name, body):
        return body
    _drop(connection, name)
    return None


def _drop(connection: sqlite3.Connection, name: bytes) -> None:
    connection.execute("DELETE FROM replies WHERE key = ?", (name,))


def _store(connection: sqlite3.Connection, entries: dict[bytes, bytes]) -> bool:
    found = [(name, _mark(name, body), body) for name, body in entries.items()]
    connection.execute("BEGIN IMMEDIATE")
    try:
        rows.put(connection, "replies", "key, mark, body", found, is_replacing=True)
        connection.execute("COMMIT")
    finally:
        roll_back(connection)
    return True


def _count(connection: sqlite3.Connection) -> CacheInfo:
    return CacheInfo(
        *connection.execute("SELECT count(*), coalesce(sum(length(body)), 0) FROM replies").fetchone()
    )


def _empty(connection: sqlite3.Connection) -> None:
    """Delete all, and leave nothing of it in the file."""
    connection.execute("DELETE FROM replies")
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _encode(reply: Reply) -> bytes | None:
    """Write a reply as JSON; None where it holds what JSON cannot."""
    try:
        return write_json(reply)
    except ValueError:
        return None


def _decode(body: bytes) -> Reply:
    from pydantic_core import from_json as parse

    return from_json(Reply, parse(body))
