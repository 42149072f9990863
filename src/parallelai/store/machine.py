"""What belongs to the machine and not to a project: trust, consent, limits, the ledger."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from parallelai.config import machine_path
from parallelai.records import LimitKey, utc_now
from parallelai.store import migrations, place
from parallelai.store.database import Database
from parallelai.store.faults import told
from parallelai.store.ledger import LedgerTable

_CONSENTS = "{} FROM consent WHERE engine = ?1 OR substr(engine, 1, length(?1) + 1) = ?1 || ' '"
"""The rows of an engine: its name, or its name and an address with a space between them."""


class Trusted(Struct, frozen=True):
    """Content that may run commands: the file or project `path`, as long as its digest is this one."""

    path: str
    digest: str
    at: str


class Machine:
    """The user's memory on this machine. Safe to use from several threads and processes at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, path: Path | None = None) -> Self:
        """Open the database at `path`, or the user's own, making it if needed. Raises `StoreError`."""
        path = (path or machine_path()).absolute()
        with told(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # No WAL: it is written rarely, and home folders on network file systems are common.
        database = Database(path, migrations.MACHINE, is_wal=False)
        database.open()
        return cls(database)

    @property
    def ledger(self) -> LedgerTable:
        """Who holds which ports, names and memory of this machine."""
        return LedgerTable(self._database)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def is_trusted(self, path: Path, digest: str) -> bool:
        """Tell whether the user said yes to this content at this path."""
        return self._has("SELECT 1 FROM trust WHERE path = ? AND digest = ?", _name(path), digest)

    def trust(self, path: Path, digest: str) -> None:
        """Keep the user's yes to this content at this path."""
        self._do("INSERT OR REPLACE INTO trust VALUES (?, ?, ?)", _name(path), digest, utc_now())

    def untrust(self, path: Path) -> bool:
        """Forget every yes for this path; returns whether there was one."""
        return self._do("DELETE FROM trust WHERE path = ?", _name(path)) > 0

    def trusted(self) -> list[Trusted]:
        """List what the user said yes to, by path."""
        with self._database.read() as connection:
            found = connection.execute("SELECT path, digest, at FROM trust ORDER BY path, at").fetchall()
        return [Trusted(*row) for row in found]

    def has_consent(self, engine: str) -> bool:
        """Tell whether the user agreed that `auto` may take this engine, wherever it asks."""
        return bool(self.consents(engine))

    def consents(self, engine: str) -> frozenset[str]:
        """Return the addresses at which the user agreed to an engine; empty for its usual one."""
        with self._database.read() as connection:
            rows = connection.execute(_CONSENTS.format("SELECT engine"), (engine,)).fetchall()
        return frozenset(str(row[0]).partition(" ")[2] for row in rows)

    def consent(self, engine: str, address: str = "") -> None:
        """Keep that the user agreed to an engine at an address; empty for its usual one."""
        self._do("INSERT OR REPLACE INTO consent VALUES (?, ?)", f"{engine} {address}".rstrip(), utc_now())
        self._do("DELETE FROM declined WHERE engine = ?", engine)

    def has_declined(self, engine: str) -> bool:
        """Tell whether the user said no when asked about an engine: nobody is asked twice."""
        return self._has("SELECT 1 FROM declined WHERE engine = ?", engine)

    def decline(self, engine: str) -> None:
        """Keep that the user said no."""
        self._do("INSERT OR REPLACE INTO declined VALUES (?, ?)", engine, utc_now())

    def keep_state(self, state: Path) -> None:
        """Keep that a state folder was made here, and did not come with a checkout or an archive."""
        self._do(
            "INSERT OR REPLACE INTO states VALUES (?, ?)",
            place.identity(state, is_made=True) or "",
            utc_now(),
        )

    def knows_state(self, state: Path) -> bool:
        """Tell whether a state folder is one that was made here."""
        identity = place.identity(state, is_made=False)
        return identity is not None and self._has("SELECT 1 FROM states WHERE identity = ?", identity)

    def memory(self, engine: str) -> int | None:
        """Return what one session of an engine took at most lately, in bytes; None if unknown."""
        with self._database.read() as connection:
            row = connection.execute("SELECT bytes FROM memory WHERE engine = ?", (engine,)).fetchone()
        return None if row is None else int(row[0])

    def keep_memory(self, engine: str, taken: int) -> None:
        """Keep what a session took, in bytes: the highest, of which older ones fade by a tenth each time."""
        known = self.memory(engine) or 0
        self._do(
            "INSERT OR REPLACE INTO memory VALUES (?, ?, ?)", engine, max(taken, known * 9 // 10), utc_now()
        )

    def conformance(self, engine: str, version: str | None) -> tuple[str, ...] | None:
        """Return the checks that an engine failed with this version of its client; None if it was not proven."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT failed FROM conformance WHERE engine = ? AND version = ?", (engine, version or "")
            ).fetchone()
        return None if row is None else tuple(str(row[0]).splitlines())

    def keep_conformance(self, engine: str, version: str | None, failed: Sequence[str]) -> None:
        """Keep which checks an engine failed with this version of its client."""
        values = (engine, version or "", "\n".join(failed), utc_now())
        self._do("INSERT OR REPLACE INTO conformance VALUES (?, ?, ?, ?)", *values)

    def revoke(self, engine: str) -> bool:
        """Forget the consent to an engine at all addresses; returns whether there was one."""
        return self._do(_CONSENTS.format("DELETE"), engine) > 0

    def last_good_limit(self, key: LimitKey) -> int | None:
        """Return how many calls at once worked last for the key; None if unknown."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT good FROM limits WHERE engine = ? AND account = ? AND model = ?", tuple(key)
            ).fetchone()
        return None if row is None else int(row[0])

    def keep_limit(self, key: LimitKey, limit: int) -> None:
        """Keep how many calls at once worked for the key."""
        self._do("INSERT OR REPLACE INTO limits VALUES (?, ?, ?, ?, ?)", *key, limit, utc_now())

    def _has(self, query: str, *values: str) -> bool:
        with self._database.read() as connection:
            return connection.execute(query, values).fetchone() is not None

    def _do(self, statement: str, *values: str | int) -> int:
        with self._database.write() as connection:
            return connection.execute(statement, values).rowcount


def _name(path: Path) -> str:
    """Name a path in one way; what is not UTF-8 in it is kept apart, reversibly."""
    return os.path.realpath(path).encode("utf-8", "backslashreplace").decode()
