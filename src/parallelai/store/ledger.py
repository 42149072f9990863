"""Who holds which ports, names, memory and heavy slots of this machine: two tables of `machine.db`.

All is decided in one write transaction, so that of two processes that ask at once one sees what the other got.
What a process that is gone held is given back by whoever asks next. A workstream's registration (its file
below its project's state) keeps its ports and names beyond its process; memory and heavy slots go with it.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from parallelai.errors import BusyError, UsageError
from parallelai.records import utc_now
from parallelai.store.database import Database

FIRST_PORT, LAST_PORT = 20_000, 32_767
"""Below what Linux (32768-60999) and macOS (49152-65535) give to outgoing connections."""
_ALL = "SELECT * FROM holders ORDER BY at, id"
_ONE = "SELECT * FROM holders WHERE key = ?"
_NEW = "INSERT INTO holders VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_FORGET = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Holder:
    """One workspace and what it holds. `heavy` and `memory` (bytes) count only while its process lives."""

    key: str
    project: str
    run: str
    name: str
    host: str
    pid: int
    start: int
    registration: str | None
    label: str
    has_database: bool
    heavy: int
    memory: int
    folder: str
    at: str = ""
    ports: tuple[int, ...] = ()


class Capacity(Struct, frozen=True):
    """What the machine has to give: heavy slots, and memory in bytes."""

    heavy: int
    memory: int


class Watch(Struct, frozen=True):
    """What the ledger has to ask the machine.

    `is_alive`: whether a holder's process runs; `is_registered`: whether its workstream is unfinished;
    `is_free`: whether nobody listens on a port; `put_aside`: move the folder of one that holds nothing any more
    out of the way, so that who takes the same next finds an empty one.
    """

    is_alive: Callable[[Holder], bool]
    is_registered: Callable[[Holder], bool]
    is_free: Callable[[int], bool]
    put_aside: Callable[[Holder], None]


class Lacking(BusyError):
    """Others hold what is asked for. Trying again helps once they gave it back."""


class LedgerTable:
    """The ledger's part of `machine.db`. Every method is one short transaction that blocks its thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(
        self, wanted: Holder, ports: int, capacity: Capacity, watch: Watch
    ) -> tuple[Holder, list[Holder]]:
        """Give a workspace what it asks for, all or nothing; also gives those whose process is gone.

        One that holds ports keeps them. Raises `Lacking` where others hold too much, `UsageError` where the
        machine has less than is asked for.
        """
        _refuse_too_much(wanted, capacity)
        with self._database.write() as connection:
            gone = _sweep(connection, watch, wanted.host)
            known = _find(connection, wanted.key)
            others = [each for each in _all(connection) if each.key != wanted.key]
            _refuse_lacking(wanted, others, capacity, watch)
            held = (known.ports if known is not None and _is_here(known, wanted) else ())[:ports]
            taken = {each for other in others if _is_here(other, wanted) for each in other.ports}
            fresh = _free_ports(wanted.key, ports - len(held), taken | set(held), watch)
            if known is None:
                kept = _apart(wanted, {each.folder for each in others})
            else:
                kept = replace(wanted, label=known.label, folder=known.folder)
            given = replace(kept, ports=(*held, *fresh), at=utc_now())
            _write(connection, given)
        return given, gone

    def rest(self, key: str) -> None:
        """Give memory and heavy slots of a workspace back; its ports and names stay."""
        with self._database.write() as connection:
            connection.execute("UPDATE holders SET heavy = 0, memory = 0 WHERE key = ?", (key,))

    def release(self, key: str, watch: Watch) -> Holder | None:
        """Give all of a workspace back; gives what it held, None where that was nothing."""
        with self._database.write() as connection:
            known = _find(connection, key)
            if known is not None:
                watch.put_aside(known)
                _delete(connection, key)
            return known

    def sweep(self, watch: Watch, host: str) -> list[Holder]:
        """Take back what nobody holds any more on this machine; gives those who did."""
        with self._database.write() as connection:
            return _sweep(connection, watch, host)

    def holders(self) -> list[Holder]:
        """List who holds something, oldest first."""
        with self._database.read() as connection:
            return list(_all(connection))


def _apart(wanted: Holder, folders: set[str]) -> Holder:
    """Give names of its own to one whose folder another has already: they are made of a digest, which may be alike."""
    while wanted.folder in folders:
        wanted = replace(wanted, label=f"{wanted.label}x", folder=f"{wanted.folder}x")
    return wanted


def _is_here(one: Holder, other: Holder) -> bool:
    """Whether two are of the same machine, also after it was started anew."""
    return one.host.rpartition("/")[0] == other.host.rpartition("/")[0]


def _refuse_too_much(wanted: Holder, capacity: Capacity) -> None:
    if wanted.heavy > capacity.heavy:
        raise UsageError(
            f"`{wanted.name}` needs {wanted.heavy} heavy slots, and this machine has {capacity.heavy}",
            next="ask for fewer (`workspace.needs.heavy`)",
        )
    if wanted.memory > capacity.memory:
        raise UsageError(
            f"`{wanted.name}` needs {wanted.memory >> 20} MB, and this machine has {capacity.memory >> 20} MB",
            next="ask for less (`workspace.needs.memory`)",
        )


def _refuse_lacking(wanted: Holder, others: list[Holder], capacity: Capacity, watch: Watch) -> None:
    if not wanted.heavy and not wanted.memory:
        return
    living = [each for each in others if each.host == wanted.host and (each.heavy or each.memory)]
    living = [each for each in living if watch.is_alive(each)]
    by = ", ".join(f"`{each.name}` of {each.run}" for each in living[:5])
    if wanted.heavy and sum(each.heavy for each in living) + wanted.heavy > capacity.heavy:
        raise Lacking(f"all heavy slots of this machine are taken: by {by}", next="wait until one has ended")
    if wanted.memory and sum(each.memory for each in living) + wanted.memory > capacity.memory:
        raise Lacking(f"too little memory is left on this machine: {by}", next="wait until one has ended")


def _free_ports(key: str, count: int, taken: set[int], watch: Watch) -> tuple[int, ...]:
    """Find ports that nobody holds or listens on, beginning at a place of the key's own, so that they stay alike."""
    if count <= 0:
        return ()
    span = LAST_PORT - FIRST_PORT + 1
    begin = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % span
    found: list[int] = []
    for step in range(span):
        port = FIRST_PORT + (begin + step) % span
        if port not in taken and watch.is_free(port):
            found.append(port)
            if len(found) == count:
                return tuple(found)
    raise Lacking(f"fewer than {count} ports are free on this machine", next="end what listens there")


def _sweep(connection: sqlite3.Connection, watch: Watch, host: str) -> list[Holder]:
    """Take back what nobody holds; gives who did. Of other machines that share the file only what is old."""
    machine = host.rpartition("/")[0]
    gone = []
    for each in list(_all(connection)):
        if each.host.rpartition("/")[0] != machine:
            if _is_old(each):
                _delete(connection, each.key)
            continue
        # Processes of before this machine was started anew are gone, whoever has their numbers now.
        is_alive = each.host == host and watch.is_alive(each)
        if not (is_alive if each.registration is None else watch.is_registered(each)):
            watch.put_aside(each)
            _delete(connection, each.key)
            gone.append(each)
        elif not is_alive and (each.heavy or each.memory):
            connection.execute("UPDATE holders SET heavy = 0, memory = 0 WHERE key = ?", (each.key,))
    return gone


def _is_old(holder: Holder) -> bool:
    try:
        return datetime.now(UTC) - datetime.fromisoformat(holder.at) > _FORGET
    except ValueError:
        return True


def _all(connection: sqlite3.Connection) -> Iterator[Holder]:
    ports: dict[int, list[int]] = {}
    for holder, port in connection.execute("SELECT holder, port FROM ports ORDER BY holder, position"):
        ports.setdefault(holder, []).append(port)
    for row in connection.execute(_ALL).fetchall():
        yield _holder(row, tuple(ports.get(row[0], ())))


def _find(connection: sqlite3.Connection, key: str) -> Holder | None:
    row = connection.execute(_ONE, (key,)).fetchone()
    if row is None:
        return None
    ports = connection.execute("SELECT port FROM ports WHERE holder = ? ORDER BY position", (row[0],))
    return _holder(row, tuple(port for (port,) in ports.fetchall()))


def _holder(row: tuple[object, ...], ports: tuple[int, ...]) -> Holder:
    _, key, project, run, name, host, pid, start, registration, label, database, heavy, memory, folder, at = (
        row
    )
    return Holder(
        key=str(key),
        project=str(project),
        run=str(run),
        name=str(name),
        host=str(host),
        pid=int(str(pid)),
        start=int(str(start)),
        registration=None if registration is None else str(registration),
        label=str(label),
        has_database=bool(database),
        heavy=int(str(heavy)),
        memory=int(str(memory)),
        folder=str(folder),
        at=str(at),
        ports=ports,
    )


def _write(connection: sqlite3.Connection, holder: Holder) -> None:
    _delete(connection, holder.key)
    values = (
        *(holder.key, holder.project, holder.run, holder.name, holder.host, holder.pid, holder.start),
        *(holder.registration, holder.label, int(holder.has_database), holder.heavy, holder.memory),
        *(holder.folder, holder.at),
    )
    row = connection.execute(_NEW, values).lastrowid
    connection.executemany(
        "INSERT INTO ports VALUES (?, ?, ?, ?)",
        [(holder.host.rpartition("/")[0], port, row, position) for position, port in enumerate(holder.ports)],
    )


def _delete(connection: sqlite3.Connection, key: str) -> None:
    connection.execute("DELETE FROM ports WHERE holder = (SELECT id FROM holders WHERE key = ?)", (key,))
    connection.execute("DELETE FROM holders WHERE key = ?", (key,))
