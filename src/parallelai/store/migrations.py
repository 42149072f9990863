"""The tables, as numbered steps. A step that was released is never changed: a new one is added after it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schema:
    """What a database of ours holds. Its format is the number of its steps.

    `application` marks the file (SQLite's application_id), so that a foreign database is never written.
    """

    application: int
    steps: tuple[tuple[str, ...], ...]

    @property
    def format(self) -> int:
        return len(self.steps)


# `events` is the only table of facts. Its key is the run's number and the event's: appending is then at the
# end of one run's range, and a damaged file keeps the beginnings of its runs readable.
_JOURNAL_1 = (
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY,      -- number of the run * 2**32 + seq
        run TEXT NOT NULL,
        seq INTEGER NOT NULL,        -- from 1, without gaps
        at TEXT NOT NULL,
        type TEXT NOT NULL,
        task TEXT,
        attempt INTEGER,
        v INTEGER NOT NULL,
        data TEXT NOT NULL           -- JSON
    )""",
    """CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        number INTEGER NOT NULL UNIQUE,
        events INTEGER NOT NULL,     -- the last seq
        plan TEXT,
        kind TEXT NOT NULL,
        created_at TEXT NOT NULL,
        started_at TEXT,
        ended_at TEXT,
        outcome TEXT,
        exit INTEGER,
        seconds REAL,
        counts TEXT NOT NULL         -- JSON: tasks by outcome, and `unfinished`
    ) WITHOUT ROWID""",
    """CREATE TABLE tasks (
        number INTEGER NOT NULL,
        id TEXT NOT NULL,
        position INTEGER NOT NULL,   -- in plan order, from 0
        kind TEXT NOT NULL,
        status TEXT,
        stage TEXT NOT NULL,
        engine TEXT,
        attempts INTEGER NOT NULL,
        seconds REAL,
        ended_at TEXT,
        measured REAL,               -- seconds of a real ok attempt: neither kept nor from the cache
        PRIMARY KEY (number, id)
    ) WITHOUT ROWID""",
    "CREATE INDEX tasks_history ON tasks (engine, kind, ended_at) WHERE measured IS NOT NULL",
    """CREATE TABLE commands (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        run TEXT NOT NULL,
        kind TEXT NOT NULL,
        args TEXT NOT NULL,          -- JSON
        "by" TEXT NOT NULL,
        at TEXT NOT NULL,
        done_at TEXT,
        result TEXT
    )""",
    "CREATE INDEX commands_pending ON commands (run) WHERE done_at IS NULL",
)

_MACHINE_1 = (
    """CREATE TABLE trust (
        path TEXT NOT NULL, digest TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (path, digest)
    )""",
    "CREATE TABLE consent (engine TEXT PRIMARY KEY, at TEXT NOT NULL)",
    """CREATE TABLE limits (
        engine TEXT NOT NULL, account TEXT NOT NULL, model TEXT NOT NULL,
        good INTEGER NOT NULL, at TEXT NOT NULL,
        PRIMARY KEY (engine, account, model)
    )""",
)

_MACHINE_2 = (
    "CREATE TABLE declined (engine TEXT PRIMARY KEY, at TEXT NOT NULL)",
    """CREATE TABLE memory (             -- what one of an engine's programs took at most
        engine TEXT PRIMARY KEY, bytes INTEGER NOT NULL, at TEXT NOT NULL
    )""",
)

_MACHINE_3 = ("CREATE TABLE states (identity TEXT PRIMARY KEY, at TEXT NOT NULL)",)

_MACHINE_4 = (
    """CREATE TABLE holders (            -- who holds what of the machine: a workspace each
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,      -- of a workstream its project and name; else also its run
        project TEXT NOT NULL,         -- its state folder
        run TEXT NOT NULL,
        name TEXT NOT NULL,
        host TEXT NOT NULL,            -- with `/` and which start of it: processes are told apart within
        pid INTEGER NOT NULL,
        start INTEGER NOT NULL,        -- of the process, so that a later one of its number is not meant
        registration TEXT,             -- the file that is there as long as the workstream is
        label TEXT NOT NULL,           -- what names of databases, Compose projects and folders are made of
        database INTEGER NOT NULL,
        heavy INTEGER NOT NULL,        -- slots, while the process lives
        memory INTEGER NOT NULL,       -- bytes, while the process lives
        folder TEXT NOT NULL,          -- of its temporary files and caches
        at TEXT NOT NULL
    )""",
    """CREATE TABLE ports (
        host TEXT NOT NULL,            -- without which start
        port INTEGER NOT NULL,
        holder INTEGER NOT NULL, position INTEGER NOT NULL,
        PRIMARY KEY (host, port)
    ) WITHOUT ROWID""",
    "CREATE INDEX ports_of ON ports (holder)",
)

_MACHINE_5 = (
    """CREATE TABLE conformance (        -- what `engines conform` found last
        engine TEXT PRIMARY KEY,
        version TEXT NOT NULL,         -- of its client; empty where it has none
        failed TEXT NOT NULL,          -- the checks that failed, a line each
        at TEXT NOT NULL
    )""",
)

JOURNAL = Schema(application=0x50414C4A, steps=(_JOURNAL_1,))
MACHINE = Schema(application=0x50414C4D, steps=(_MACHINE_1, _MACHINE_2, _MACHINE_3, _MACHINE_4, _MACHINE_5))
