"""Many rows in one statement.

Each statement gives the interpreter's lock away once, and a busy event loop takes up to five milliseconds to
give it back: a thousand rows one by one could take seconds.
"""

from __future__ import annotations

import functools
import itertools
import sqlite3
from collections.abc import Sequence
from typing import Any

_ROWS = 1024


def _same(value: Any) -> Any:
    return value


for _kind in (
    type(None),
    bytes,
):  # asked how they are to be stored, Python's module looks far and wide each time
    sqlite3.register_adapter(_kind, _same)


def put(
    connection: sqlite3.Connection,
    table: str,
    columns: str,
    rows: Sequence[tuple[Any, ...]],
    *,
    is_replacing: bool = False,
) -> None:
    """Insert rows, in as few statements as there can be; their first value must not be None."""
    start = 0
    while start < len(rows):
        room = _room(len(rows) - start)
        part = rows[start : start + room]
        start += room
        values: list[Any] = list(itertools.chain.from_iterable(part))
        values += [None, *[0] * (len(part[0]) - 1)] * (room - len(part))
        connection.execute(_statement(table, columns, len(part[0]), room, is_replacing), values)


def _room(count: int) -> int:
    """Choose a power of two for the next statement: to hold all that is left, unless much would be padding."""
    room = 1 << (count - 1).bit_length()
    return min(room if room <= 64 or room - count <= room // 4 else room // 2, _ROWS)


@functools.lru_cache(maxsize=64)
def _statement(table: str, columns: str, width: int, room: int, is_replacing: bool) -> str:
    """Write an insertion of up to `room` rows; those whose first value is NULL are padding.

    `room` is a power of two, so that there are few statements, each compiled once for a connection.
    """
    verb = "INSERT OR REPLACE" if is_replacing else "INSERT"
    marks = "(" + ",".join("?" * width) + ")"
    values = ",".join([marks] * room)
    rows = f"SELECT * FROM (VALUES {values}) WHERE column1 IS NOT NULL"  # noqa: S608 - marks only
    return f"{verb} INTO {table} ({columns}) {rows}"
