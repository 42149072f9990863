"""Puts events of one run on the disk, in batches; used by the writer's thread alone."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parallelai.events import Event
from parallelai.store import facts, projections
from parallelai.store.database import Database, roll_back
from parallelai.store.faults import told
from parallelai.store.projections import RunState


class Committer:
    """One connection and the state of one run's tables, kept up with what was written."""

    def __init__(self, database: Database, run: str) -> None:
        self._path: Path = database.path
        self._connection = database.connect()
        try:
            with told(self._path):
                self._state = self._load(run)
        except BaseException:  # also an interrupt: the file must not stay open
            self._connection.close()
            raise
        self._run = run

    @property
    def last_seq(self) -> int:
        """The last event on the disk; 0 where there is none."""
        return self._state.events if self._state else 0

    def close(self) -> None:
        self._connection.close()

    def write(self, batch: Sequence[tuple[Event, str]]) -> None:
        """Write events with their encoded data, and what they change in the tables: all or nothing.

        After an error the committer must not be used again. Raises `StoreError` and its kinds.
        """
        with told(self._path):
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                state = self._state or self._number()
                self._state = state
                facts.insert(connection, state.number, batch)
                for event, _ in batch:
                    state.apply(event)
                projections.save(connection, state)
                connection.execute("COMMIT")
            finally:
                roll_back(connection)

    def _number(self) -> RunState:
        return RunState(self._run, facts.next_number(self._connection))

    def _load(self, run: str) -> RunState | None:
        self._connection.execute("BEGIN")
        try:
            state = projections.load(self._connection, run)
            if state is not None:
                facts.refuse_gaps(self._connection, run, state.number, state.events, self._path)
                state.kinds = _kinds(self._connection, state.number)
            return state
        finally:
            roll_back(self._connection)


def _kinds(connection: sqlite3.Connection, number: int) -> dict[str, str]:
    row = connection.execute(
        "SELECT data FROM events WHERE id = ? AND type = 'run.created'", ((number << facts.SHIFT) + 1,)
    ).fetchone()
    try:
        data: Any = {} if row is None else json.loads(row[0])
    except ValueError:  # history by kind is not worth refusing to go on
        return {}
    document = data.get("document") if isinstance(data, Mapping) else None
    return projections.kinds_of(document) if isinstance(document, Mapping) else {}
