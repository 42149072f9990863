"""The table `events`: the facts, from which all else can be made again."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from parallelai.errors import StoreCorruptError
from parallelai.events import VERSION, Event, data_from_json
from parallelai.store import rows
from parallelai.store.faults import corrupt

SHIFT = 32
"""An event's key is its run's number shifted by this, plus its seq."""

_COLUMNS = "id, run, seq, at, type, task, attempt, v, data"
_PAGE_CHARACTERS = 4 * 1024 * 1024


def span(number: int) -> tuple[int, int]:
    """Return the keys just below and just above all events of a run."""
    return number << SHIFT, (number + 1) << SHIFT


def insert(connection: sqlite3.Connection, number: int, batch: Iterable[tuple[Event, str]]) -> None:
    """Insert events with their encoded data, under the run's number."""
    base = number << SHIFT
    values = [
        (
            base + event.seq,
            event.run,
            event.seq,
            event.at,
            event.type,
            event.task,
            event.attempt,
            event.v,
            text,
        )
        for event, text in batch
    ]
    rows.put(connection, "events", _COLUMNS, values)


def next_number(connection: sqlite3.Connection) -> int:
    """Find the number for a new run; the caller's transaction holds the write lock."""
    (last,) = connection.execute("SELECT max(id) FROM events").fetchone()
    (row,) = connection.execute("SELECT max(number) FROM runs").fetchone()
    return max(0 if last is None else int(last) >> SHIFT, row or 0) + 1


def page(
    connection: sqlite3.Connection,
    number: int,
    after: int,
    types: Collection[str] | None = None,
    *,
    limit: int = 500,
) -> list[tuple[Any, ...]]:
    """Read the next rows above seq `after`, in order: `limit` at most, fewer if they are large."""
    wanted = "" if types is None else f" AND type IN ({','.join('?' * len(types))})"
    low, high = span(number)
    cursor = connection.execute(
        f"SELECT {_COLUMNS} FROM events WHERE id > ? AND id < ?{wanted} ORDER BY id LIMIT ?",  # noqa: S608 - constants and marks
        (low + after, high, *(types or ()), limit),
    )
    found, size = [], 0
    with contextlib.closing(cursor):
        for row in cursor:
            found.append(row)
            size += len(row[8] or "")
            if size > _PAGE_CHARACTERS:
                break
    return found


def event(run: str, row: Sequence[Any]) -> Event:
    """Turn a row of `page` into an event of the run. Raises ValueError if it is not one."""
    _, owner, seq, at, type_, task, attempt, version, text = row
    if owner != run:
        raise ValueError(f"it belongs to {owner!r}")
    try:
        data = data_from_json(type_, text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except TypeError as error:
        raise ValueError(str(error)) from error
    except ValueError:
        if version <= VERSION:
            raise
        data = data_from_json("", text)  # a newer version's: kept as it is
    return Event(run, seq, at, type_, data, task, attempt, version)


def gap(path: Path, run: str, found: int, wanted: int) -> StoreCorruptError:
    """Make the error of a run whose events are not all there."""
    return corrupt(path, f"`{run}` has {found} of its {wanted} events")


def refuse_gaps(connection: sqlite3.Connection, run: str, number: int, wanted: int, path: Path) -> None:
    """Raise `StoreCorruptError` where a new event would not follow the last one."""
    count, last = connection.execute(
        "SELECT count(*), max(seq) FROM events WHERE id > ? AND id < ?", span(number)
    ).fetchone()
    if not count == last == wanted:
        raise gap(path, run, count, wanted)
