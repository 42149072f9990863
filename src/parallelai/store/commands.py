"""What somebody asks of a running run, from any process; its owner reads and answers (CONTRACTS §8)."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from parallelai.errors import NotFoundError, UsageError
from parallelai.records import utc_now
from parallelai.store.database import Database
from parallelai.store.faults import corrupt

KINDS = (
    "cancel",
    "pause",
    "resume",
    "retry",
    "add",
    "set-limit",
    "set-budget",
    "send",
    "answer",
    "approve",
    "reject",
    "done",
    "stop",
    "drop",
    "lease",
    "land",
    "sync",
)
MAX_BYTES = 1024 * 1024
"""How large a command's arguments may be."""

_COLUMNS = 'seq, run, kind, args, "by", at, done_at, result'


class CommandRow(Struct, frozen=True):
    """One command. `done_at` and `result` are None until the run's owner has answered it."""

    seq: int
    run: str
    kind: str
    args: Mapping[str, Any]
    by: str
    at: str
    done_at: str | None
    result: str | None


class Commands:
    """The table of commands. Safe to use from several threads and processes at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, run: str, kind: str, args: Mapping[str, Any], by: str) -> int:
        """Ask something of a run; returns the command's number.

        Raises `UsageError` for an unknown kind or arguments that are not JSON or larger than 1 MiB, and
        `NotFoundError` for an unknown run.
        """
        _check_kind(kind)
        text = _encode(args)
        with self._database.write() as connection:
            if connection.execute("SELECT 1 FROM runs WHERE id = ?", (run,)).fetchone() is None:
                raise NotFoundError(f"no run `{run[:80]}`", next="see `parallelai runs list`")
            (seq,) = connection.execute(
                'INSERT INTO commands (run, kind, args, "by", at) VALUES (?, ?, ?, ?, ?) RETURNING seq',
                (run, kind, text, by.encode("utf-8", "replace").decode(), utc_now()),
            ).fetchone()
        return int(seq)

    def pending(self, run: str) -> list[CommandRow]:
        """List the commands to a run that have no answer yet, in the order in which they were asked."""
        with self._database.read() as connection:
            found = connection.execute(
                f"SELECT {_COLUMNS} FROM commands WHERE run = ? AND done_at IS NULL ORDER BY seq",  # noqa: S608 - constants
                (run,),
            ).fetchall()
        return [self._row(row) for row in found]

    def done(self, seq: int, result: str) -> None:
        """Answer a command; a second answer changes nothing."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE commands SET done_at = ?, result = ? WHERE seq = ? AND done_at IS NULL",
                (utc_now(), result.encode("utf-8", "replace").decode(), seq),
            )

    def get(self, seq: int) -> CommandRow:
        """Find a command by its number. Raises `NotFoundError`."""
        with self._database.read() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM commands WHERE seq = ?",  # noqa: S608 - constants
                (seq,),
            ).fetchone()
        if row is None:
            raise NotFoundError(f"no command {seq}")
        return self._row(row)

    def _row(self, row: Sequence[Any]) -> CommandRow:
        seq, run, kind, args, *rest = row
        try:
            return CommandRow(seq, run, kind, json.loads(args), *rest)
        except (ValueError, RecursionError) as error:
            raise corrupt(self._database.path, f"command {seq} is not readable ({error})") from error


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        raise UsageError(
            f"no command `{kind[:80]}`",
            next=f"did you mean `{near[0]}`?" if near else f"one of {', '.join(KINDS)}",
        )


def _encode(args: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(dict(args), separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the arguments of a command must be JSON: {error}") from error
    if len(text) > MAX_BYTES:
        raise UsageError(f"the arguments of a command take {len(text):,} bytes, more than {MAX_BYTES:,}")
    return text
