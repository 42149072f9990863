"""Reads the journal: events, runs, tasks, history; and the tail of a run that another process carries out."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import weakref
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from parallelai.errors import BusyError, NotFoundError, StoreCorruptError
from parallelai.events import Event, RunEnded
from parallelai.records import Outcome
from parallelai.store import facts, repair
from parallelai.store.database import Database
from parallelai.store.faults import corrupt, told
from parallelai.store.lock import FileLock, is_locked, owner
from parallelai.store.projections import RUN_QUERY, RunRow, TaskRow, run_row
from parallelai.store.writer import RunWriter

_HISTORY = 200
_MEASURED = 5000
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Journal:
    """What happened in every run of a project. Safe to use from several threads and processes at once."""

    def __init__(self, database: Database, state: Path) -> None:
        self._database = database
        self._state = state
        self._writers: weakref.WeakSet[RunWriter] = weakref.WeakSet()

    def folder(self, run: str) -> Path:
        """Return the folder of a run's logs, streams, patches. Raises `NotFoundError` for what is no id."""
        if not _RUN_ID.fullmatch(run):
            raise NotFoundError(f"`{run[:80]}` is not a run's id", next="see `parallelai runs list`")
        return self._state / "runs" / run

    def writer(self, run: str) -> RunWriter:
        """Make the writer of a run; entering it (`async with`) takes the run, or raises `BusyError`."""
        writer = RunWriter(self._database, self.folder(run), run)
        self._writers.add(writer)
        return writer

    def stop_writers(self) -> None:
        """Write what is queued and give every run back, blocking."""
        for writer in tuple(self._writers):
            writer.stop()

    def events(self, run: str, *, after: int = 0, types: Collection[str] | None = None) -> Iterator[Event]:
        """Iterate over the events of a run whose seq is above `after`, of the given types (None: all).

        Raises `NotFoundError`, and `StoreCorruptError` at the place where one is missing or unreadable.
        """
        number = self._number(run)
        last = after
        while page := self._page(run, number, last, types):
            for event in page:
                if types is None and event.seq != last + 1:
                    raise facts.gap(self._database.path, run, last, event.seq)
                last = event.seq
                yield event

    async def tail(self, run: str, *, after: int = 0, poll_seconds: float = 0.2) -> AsyncIterator[Event]:
        """Iterate over a run's events as they come, from whatever process.

        Ends when the run has ended, or when nobody carries it out. Raises as `events` does.
        """
        last, has_ended = after, False
        number = await asyncio.to_thread(self._number, run)
        while True:
            # Asked before reading: what an owner wrote before it left is then read before the end.
            is_owned = self.is_owned(run)
            page = await asyncio.to_thread(self._page, run, number, last, None)
            for event in page:
                if event.seq != last + 1:
                    raise facts.gap(self._database.path, run, last, event.seq)
                last, has_ended = event.seq, event.type == RunEnded.type
                yield event
            if not page:
                if has_ended or not is_owned:
                    return
                await asyncio.sleep(poll_seconds)

    def runs(self) -> list[RunRow]:
        """List all runs, the newest first."""
        return self._rows("ORDER BY number DESC")

    def run(self, name: str) -> RunRow:
        """Find a run by its id or the beginning of it that no other has. Raises `NotFoundError`."""
        rows = self._named(name) if _RUN_ID.fullmatch(name) else []
        if not rows:
            raise NotFoundError(f"no run `{name[:80]}`", next="see `parallelai runs list`")
        if len(rows) > 1:
            names = ", ".join(f"`{row.id}`" for row in rows[:5])
            raise NotFoundError(f"`{name}` begins more than one run: {names}", next="write more of its id")
        return rows[0]

    def _named(self, name: str) -> list[RunRow]:
        return self._rows("WHERE id = ?", name) or self._rows(
            "WHERE substr(id, 1, length(?)) = ? ORDER BY number DESC LIMIT 6", name, name
        )

    def latest(self, *, plan: str | None = None, kind: str | None = None) -> RunRow | None:
        """Find the newest run, of a plan and of a kind where they are given; None where there is none."""
        rows = self._rows(
            "WHERE (? IS NULL OR plan = ?) AND (? IS NULL OR kind = ?) ORDER BY number DESC LIMIT 1",
            plan,
            plan,
            kind,
            kind,
        )
        return rows[0] if rows else None

    def tasks(self, run: str) -> list[TaskRow]:
        """List the tasks of a run in plan order, as far as they are known. Raises `NotFoundError`."""
        number = self._number(run)
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT id, kind, status, stage, engine, attempts, seconds, ended_at FROM tasks"
                " WHERE number = ? ORDER BY position",
                (number,),
            ).fetchall()
        return [
            TaskRow(id_, kind, None if status is None else Outcome(status), *rest)
            for id_, kind, status, *rest in rows
        ]

    def history(self, kind: str, engine: str) -> list[float]:
        """List the seconds that tasks of a kind really took an engine, in all runs, the newest first.

        At most 200. What was kept from before or came from the cache does not count. Tasks whose plan names
        no kind have the kind "".
        """
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT measured FROM tasks WHERE measured IS NOT NULL AND engine = ? AND kind = ?"
                " ORDER BY ended_at DESC LIMIT ?",
                (engine, kind, _HISTORY),
            ).fetchall()
        return [float(seconds) for (seconds,) in rows]

    def measured(self, plan: str) -> dict[tuple[str, str | None], list[float]]:
        """List the seconds that each task of a plan really took each engine, in its latest runs, the newest first.

        The keys are an id and the engine, None for gates of phases. The id is that of an instance, or of a task, for
        all of its instances together. Looks at most at 5,000 instances.
        """
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT tasks.id, engine, measured FROM runs JOIN tasks ON tasks.number = runs.number"
                " WHERE plan = ? AND measured IS NOT NULL ORDER BY runs.number DESC LIMIT ?",
                (plan, _MEASURED),
            ).fetchall()
        found: dict[tuple[str, str | None], list[float]] = {}
        for name, engine, seconds in rows:
            for id_ in {name, name.partition("@")[0]}:
                found.setdefault((id_, engine), []).append(float(seconds))
        return found

    def is_owned(self, run: str) -> bool:
        """Tell whether a living process carries the run out."""
        return is_locked(self.folder(run) / "lock")

    def delete(self, run: str) -> None:
        """Delete a run, its commands and its folder.

        Raises `NotFoundError`, and `BusyError` if it is carried out.
        """
        number = self._number(run)
        folder = self.folder(run)
        with told(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(folder / "lock")
        if not lock.wait(0.1):
            raise BusyError(f"`{run}` is carried out by {owner(lock.path)}", next="cancel it first")
        try:
            with self._database.write() as connection:
                connection.execute("DELETE FROM events WHERE id > ? AND id < ?", facts.span(number))
                connection.execute("DELETE FROM tasks WHERE number = ?", (number,))
                connection.execute("DELETE FROM commands WHERE run = ?", (run,))
                connection.execute("DELETE FROM runs WHERE id = ?", (run,))
            with told(folder):
                shutil.rmtree(folder)
        finally:
            lock.release()
        with self._database.lent() as connection:
            connection.execute("PRAGMA incremental_vacuum").fetchall()

    def check(self) -> list[str]:
        """Say everything that is wrong with the journal; an empty list if nothing is."""
        try:
            with self._database.read() as connection:
                return repair.problems(connection)
        except StoreCorruptError as error:
            return [error.said]

    def repair(self) -> list[str]:
        """Rebuild the tables from the events; of a damaged file save what can be read into a new one.

        Returns what was done. Raises `BusyError` if the file is damaged and another process has it open.
        """
        if not self._damage():
            # An event may be JSON, and say what no event can: then what comes before it is saved.
            with contextlib.suppress(StoreCorruptError), self._database.write() as connection:
                count = repair.rebuild(connection, self._database.path)
                return [f"rebuilt the tables of {count} run(s) from their events"]
        self._database.close()
        try:
            return repair.salvage(self._database.path, self._database.schema)
        finally:
            self._database.open()

    def _damage(self) -> list[str]:
        try:
            with self._database.read() as connection:
                return repair.damage(connection)
        except StoreCorruptError as error:
            return [error.said]

    def _number(self, run: str) -> int:
        self.folder(run)  # refuses what is no id
        with self._database.read() as connection:
            row = connection.execute("SELECT number FROM runs WHERE id = ?", (run,)).fetchone()
        if row is None:
            raise NotFoundError(f"no run `{run[:80]}`", next="see `parallelai runs list`")
        return int(row[0])

    def _rows(self, where: str, *values: str | None) -> list[RunRow]:
        with self._database.read() as connection:
            rows = connection.execute(f"{RUN_QUERY} {where}", values).fetchall()
        try:
            return [run_row(row) for row in rows]
        except (ValueError, TypeError) as error:
            raise corrupt(self._database.path, f"a row of `runs` is not readable ({error})") from error

    def _page(self, run: str, number: int, after: int, types: Collection[str] | None) -> list[Event]:
        """Read the next events; empty at the end, which must be where the run's row says."""
        with self._database.read() as connection:
            (last,) = connection.execute(
                "SELECT coalesce(max(events), 0) FROM runs WHERE number = ?", (number,)
            ).fetchone()
            if after >= last:
                return []
            rows = facts.page(connection, number, after, types)
        if not rows and types is None:
            raise facts.gap(self._database.path, run, after, last)
        return [self._event(run, row) for row in rows]

    def _event(self, run: str, row: Sequence[Any]) -> Event:
        try:
            return facts.event(run, row)
        except ValueError as error:
            raise corrupt(
                self._database.path, f"event {row[2]} of `{run}` is not readable ({error})"
            ) from error
