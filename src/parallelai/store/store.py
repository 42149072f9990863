"""One project's state: its folder, its journal, the commands to its runs, its cache."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from parallelai.store import migrations, place, repair
from parallelai.store.cache import Cache
from parallelai.store.commands import Commands
from parallelai.store.database import Database
from parallelai.store.journal import Journal


class Store:
    """The open state of a project. A context manager: closing ends its writers, keeping what they queued."""

    def __init__(self, state: Path, database: Database) -> None:
        self.state = state
        self._database = database
        self.journal = Journal(database, state)
        self.commands = Commands(database)
        self.cache = Cache(state / "cache")

    @classmethod
    def open(cls, state: Path, *, create: bool = True) -> Self:
        """Open the state in a folder, making or migrating it if needed.

        Raises `NotFoundError` if there is none and `create` is False, `StoreFormatError` for a newer
        version's, `StoreCorruptError`, `StoreFullError`, and `StoreError` on a network file system.
        """
        state = place.prepare(state, create=create)
        path = state / "journal.db"
        repair.refuse_emptied(path, state / "runs")
        database = Database(path, migrations.JOURNAL)
        database.open()
        return cls(state, database)

    @staticmethod
    def repair(state: Path) -> list[str]:
        """Save what can be read of a journal that does not open; returns what was done.

        Raises `BusyError` if another process has it open, `NotFoundError` if there is none.
        """
        state = place.prepare(state, create=False)
        return repair.salvage(state / "journal.db", migrations.JOURNAL)

    def close(self) -> None:
        """Write what is queued, blocking, and close all."""
        self.journal.stop_writers()
        self.cache.close()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
