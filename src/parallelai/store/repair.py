"""Finds what is wrong with a journal, rebuilds its tables, and saves what a damaged file still holds."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from parallelai.events import Event
from parallelai.store import facts, projections, rows
from parallelai.store.database import (
    PAGE_BYTES,
    exclusive,
    make_private,
    migrate,
    open_connection,
    roll_back,
)
from parallelai.store.faults import corrupt, told
from parallelai.store.migrations import Schema
from parallelai.store.projections import RunState

_MAGIC = b"SQLite format 3\0"
# A damaged header may claim any number of pages; so many times what is there is filled up at most. The filling
# takes no room: it is a hole in the file.
_MAX_GROWTH = 1000
_COMMANDS = 'seq, run, kind, args, "by", at, done_at, result'


def damage(connection: sqlite3.Connection) -> list[str]:
    """Say what is wrong with the file and its events: what rebuilding the tables cannot mend."""
    checked = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)")]
    if checked != ["ok"]:
        return checked
    found = connection.execute(
        "SELECT min(run), min(seq), max(seq), count(*), count(DISTINCT run), sum(NOT json_valid(data))"
        " FROM events GROUP BY id >> 32"
    ).fetchall()
    said = []
    for run, first, last, count, names, unreadable in found:
        if first != 1 or last != count or names != 1:
            said.append(f"`{run}` has {count} of its {last} events")
        if unreadable:
            said.append(f"`{run}` has {unreadable} event(s) that are not readable")
    return said


def problems(connection: sqlite3.Connection) -> list[str]:
    """Say everything that is wrong with the file, its events and the tables made from them."""
    said = damage(connection)
    if said:
        return said
    facts_say = set(connection.execute("SELECT min(run), id >> 32, max(seq) FROM events GROUP BY 2"))
    rows_say = set(connection.execute("SELECT id, number, events FROM runs"))
    differing = sorted({str(row[0]) for row in facts_say ^ rows_say})
    said += [f"the table `runs` does not fit the events of `{run}`" for run in differing]
    for run, counts in connection.execute("SELECT id, counts FROM runs").fetchall():
        state = projections.load(connection, run)
        if state is not None and counts != state.counts_json():
            said.append(f"the table `tasks` does not fit the counts of `{run}`")
    return said


def rebuild(connection: sqlite3.Connection, path: Path) -> int:
    """Make the tables again from the events, within the caller's transaction; returns the number of runs.

    Raises `StoreCorruptError` at an event that is not readable.
    """
    connection.execute("DELETE FROM runs")
    connection.execute("DELETE FROM tasks")
    found = connection.execute("SELECT id >> 32, min(run) FROM events GROUP BY 1 ORDER BY 1").fetchall()
    for number, run in found:
        state = RunState(run, number)
        while page := facts.page(connection, number, state.events):
            for row in page:
                try:
                    state.apply(facts.event(run, row))
                except ValueError as error:
                    raise corrupt(path, f"event {row[2]} of `{run}` is not readable ({error})") from error
            projections.save(connection, state)
    return len(found)


def salvage(path: Path, schema: Schema) -> list[str]:
    """Save the events of each run up to the first gap into a new file; the old one is kept beside it.

    Returns what was done. Raises `BusyError` if the file is open somewhere, `StoreFullError` if the disk has
    no room for the copies; the old file is as it was then.
    """
    kept = _unused(path.with_name(f"{path.stem}-damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}{path.suffix}"))
    with (
        exclusive(path),
        told(path),
        tempfile.TemporaryDirectory(prefix="repair-", dir=path.parent) as folder,
    ):
        old, new = Path(folder, "old.db"), Path(folder, "new.db")
        _copy(path, old, schema)
        make_private(new)
        with contextlib.closing(open_connection(new)) as target:
            migrate(target, new, schema)
            said = _save(old, target)
            target.execute("BEGIN IMMEDIATE")
            rebuild(target, new)
            target.execute("COMMIT")
        _exchange(path, new, kept)
    return [*said, f"the damaged file is kept as `{kept.name}`"]


def _unused(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


def _log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _copy(path: Path, old: Path, schema: Schema) -> None:
    """Copy the file and its log, and fill up what was cut off, so that SQLite reads what is left of it."""
    content = path.read_bytes() if path.exists() else b""
    if len(content) < PAGE_BYTES or not content.startswith(_MAGIC):
        # The first page says where the tables begin: where an empty journal's do. The log may hold newer pages.
        with contextlib.closing(open_connection(old)) as connection:
            migrate(connection, old, schema)
        empty, rest = old.read_bytes(), content[PAGE_BYTES:]
        pages = max(len(empty), PAGE_BYTES + len(rest) + -len(rest) % PAGE_BYTES) // PAGE_BYTES
        first = empty[:28] + pages.to_bytes(4, "big") + empty[32:PAGE_BYTES]
        content = first + rest if rest else empty
    pages = int.from_bytes(content[28:32], "big")
    size = max(len(content), min(pages, _MAX_GROWTH * len(content) // PAGE_BYTES) * PAGE_BYTES)
    with old.open("wb") as file:
        file.write(content)
        file.truncate(size + -size % PAGE_BYTES)
    if _log(path).exists():
        shutil.copyfile(_log(path), _log(old))


def _exchange(path: Path, new: Path, kept: Path) -> None:
    """Put the new file in the place of the old one, which gets the name `kept`, with its log."""
    with new.open("rb") as file:
        os.fsync(file.fileno())
    if path.exists():
        os.link(path, kept)
    if _log(path).exists():
        _log(path).rename(_log(kept))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    new.replace(path)


def _save(old: Path, target: sqlite3.Connection) -> list[str]:
    """Copy what can be read; each run and the commands by themselves."""
    said = []
    try:
        opened = open_connection(old)
    except sqlite3.DatabaseError:
        return ["no event could be read"]
    with contextlib.closing(opened) as source:
        for number in sorted(_numbers(source)):
            target.execute("BEGIN IMMEDIATE")
            try:
                note = _save_run(source, target, number)
                target.execute("COMMIT")
            finally:
                roll_back(target)
            said += [note] if note else []
        target.execute("BEGIN IMMEDIATE")
        try:
            _save_commands(source, target)
            target.execute("COMMIT")
        finally:
            roll_back(target)
    return said or ["no event could be read"]


def _numbers(source: sqlite3.Connection) -> set[int]:
    """Find the runs' numbers wherever they can still be read: from both ends of the events, and in `runs`."""
    found: set[int] = set()
    with contextlib.suppress(sqlite3.DatabaseError):
        for (number,) in source.execute("SELECT number FROM runs"):
            if isinstance(number, int):
                found.add(number)
    up = ("SELECT id FROM events WHERE id >= ? ORDER BY id LIMIT 1", 0, lambda number: facts.span(number)[1])
    down = (
        "SELECT id FROM events WHERE id < ? ORDER BY id DESC LIMIT 1",
        (1 << 63) - 1,
        lambda number: facts.span(number)[0],
    )
    for query, start, following in (up, down):
        found.update(_walk(source, query, start, following))
    return {number for number in found if 0 < number < 1 << 31}


def _walk(
    source: sqlite3.Connection, query: str, start: int, following: Callable[[int], int]
) -> Iterator[int]:
    key = start
    with contextlib.suppress(sqlite3.DatabaseError, OverflowError):
        while (row := source.execute(query, (key,)).fetchone()) is not None:
            number = int(row[0]) >> facts.SHIFT
            yield number
            key = following(number)


def _save_run(source: sqlite3.Connection, target: sqlite3.Connection, number: int) -> str | None:
    """Copy the events of one run up to the first that is missing or unreadable."""
    run, last = "", 0
    for event, text in _readable(source, number):
        facts.insert(target, number, [(event, text)])
        run, last = event.run, event.seq
    if last:
        return f"saved {last} event(s) of `{run}`"
    lost = _name(source, number)
    return f"no event of `{lost}` could be saved" if lost else None


def _name(source: sqlite3.Connection, number: int) -> str | None:
    """The id of a run whose first event is lost, where its row can be read."""
    with contextlib.suppress(sqlite3.DatabaseError):
        for (name,) in source.execute("SELECT id FROM runs WHERE number = ?", (number,)):
            return str(name)[:128] if str(name).isprintable() else None
    return None


def _readable(source: sqlite3.Connection, number: int) -> Iterator[tuple[Event, str]]:
    last, run, many = 0, None, True
    low, high = facts.span(number)
    while True:
        try:
            # One by one near the damage, so that the last readable event is found.
            page = facts.page(source, number, last, limit=500 if many else 1)
        except sqlite3.DatabaseError:
            if not many:
                return
            many = False
            continue
        if not page:
            return
        for row in page:
            event = _event(run or row[1], row)
            if event is None or event.seq != last + 1 or row[0] != low + event.seq or row[0] >= high:
                return
            run, last = event.run, event.seq
            yield event, row[8]


def _event(run: Any, row: tuple[Any, ...]) -> Event | None:
    is_typed = isinstance(run, str) and isinstance(row[2], int) and isinstance(row[3], str)
    try:
        return facts.event(run, row) if is_typed else None
    except ValueError:
        return None


def _save_commands(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy the commands that can be read: of those, what was asked is all that is known."""
    found: list[tuple[Any, ...]] = []
    with contextlib.suppress(sqlite3.DatabaseError):
        for row in source.execute(f"SELECT {_COMMANDS} FROM commands ORDER BY seq"):  # noqa: S608 - constants
            is_whole = isinstance(row[0], int) and all(isinstance(value, str) for value in row[1:6])
            if is_whole:
                found.append(row)
    with contextlib.suppress(sqlite3.IntegrityError):
        rows.put(target, "commands", _COMMANDS, found)


def refuse_emptied(path: Path, runs: Path) -> None:
    """Raise `StoreCorruptError` for an empty file beside folders of runs: someone cut it off."""
    with told(path):
        if path.exists() and path.stat().st_size == 0 and runs.is_dir() and any(runs.iterdir()):
            raise corrupt(path, "it is empty, but there are folders of runs")
