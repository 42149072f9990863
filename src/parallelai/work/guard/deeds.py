"""Which commands of git programs ran, and where, as git wrote it down by itself (`GIT_TRACE2_EVENT`).

Like the trace of refs (`guard.traces`) it tells what the programs of an attempt did to the user's checkout from what
the user did there meanwhile. It is evidence, and no fence. git before 2.22 writes none.
(The lines: `technical/api-trace2` of git, JSON objects; `sid` is one process.)
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from parallelai.engines.planted import read_plain

VARIABLE = "GIT_TRACE2_EVENT"
WRITES_CHECKOUT = frozenset(
    (
        *("add", "am", "apply", "bisect", "branch", "checkout", "checkout-index", "cherry-pick", "commit"),
        *(
            "merge",
            "mv",
            "pull",
            "read-tree",
            "rebase",
            "reset",
            "restore",
            "revert",
            "rm",
            "sparse-checkout",
        ),
        *("stash", "switch", "symbolic-ref", "update-index", "update-ref"),
    )
)
"""Commands that write HEAD, the index or files of a checkout; but for `stash`, whose work is in the stash."""
STASH = "stash"
THROWS_AWAY = frozenset({"gc", "maintenance", "prune", "prune-packed", "reflog", "repack"})
"""Commands after which objects or lines of logs may be gone."""
ENDING = ".events"
"""Of the name of a trace."""
_MOST_BYTES = 32 * 1024 * 1024
_MOST_LINE_BYTES = 64 * 1024
_BEGINNINGS = tuple(b'{"event":"%s"' % event for event in (b"start", b"cmd_name", b"def_repo", b"exit"))
_SLACK = 0.02
"""Seconds: a file's time is taken from a coarser clock than a program's."""


@dataclass(slots=True)
class Deed:
    """One process of git: the checkout that it worked in, and from when to when it ran (Unix time).

    `commands` is its command, after those of git that called it.
    """

    commands: tuple[str, ...] = ()
    checkout: str = ""
    began: float = 0.0
    ended: float = float("inf")


class Evidence:
    """What programs of one place did with git, and those of all others; read when it is asked for, and once.

    `own` is the trace of the place, `folder` that of all traces, whose names end in `ENDING`.
    """

    def __init__(self, own: Path, folder: Path) -> None:
        self._own = own
        self._folder = folder
        self._read: dict[bool, tuple[Deed, ...]] = {}

    async def own(self) -> tuple[Deed, ...]:
        """Of this place."""
        return await self._of(is_own=True)

    async def others(self) -> tuple[Deed, ...]:
        """Of all other places."""
        return await self._of(is_own=False)

    async def _of(self, *, is_own: bool) -> tuple[Deed, ...]:
        if is_own not in self._read:
            paths = sorted(self._folder.glob(f"*{ENDING}")) if not is_own else [self._own]
            wanted = [path for path in paths if (path == self._own) == is_own]
            found = await asyncio.to_thread(lambda: [read_deeds(path) for path in wanted])
            self._read[is_own] = tuple(deed for deeds in found for deed in deeds)
        return self._read[is_own]


def read_deeds(path: Path) -> tuple[Deed, ...]:
    """Read a trace, in the order in which its processes began; what is no line of git's is passed over."""
    try:
        data = read_plain(path, _MOST_BYTES, is_tail=True)
    except OSError:
        return ()
    return parse(data.split(b"\n"))


def parse(lines: Iterable[bytes]) -> tuple[Deed, ...]:
    """Put the lines of each process together. Pure."""
    found: dict[str, Deed] = {}
    for line in lines:
        if len(line) > _MOST_LINE_BYTES or not line.startswith(_BEGINNINGS):
            continue
        try:
            row = json.loads(line)
            _take(found.setdefault(str(row["sid"]), Deed()), row)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return tuple(found.values())


def _take(deed: Deed, row: dict[str, Any]) -> None:
    if row["event"] == "start":
        deed.began = _time(row)
    elif row["event"] == "exit":
        deed.ended = _time(row)
    elif row["event"] == "cmd_name":
        deed.commands = tuple(str(row["hierarchy"]).split("/"))
    elif not deed.checkout:  # the first is its own; others are submodules
        deed.checkout = os.path.realpath(str(row["worktree"]))


def _time(row: dict[str, Any]) -> float:
    return datetime.fromisoformat(str(row["time"])).timestamp()


def is_last_writer(deeds: Iterable[Deed], checkout: Path, written: float) -> bool:
    """Whether a file of a checkout, written at a time (Unix time), was written last by one of these. Pure."""
    return any(
        deed.began - _SLACK <= written <= deed.ended + _SLACK
        and not WRITES_CHECKOUT.isdisjoint(deed.commands)
        and STASH not in deed.commands
        for deed in _in(deeds, checkout)
    )


def has_stashed(deeds: Iterable[Deed], checkout: Path) -> bool:
    """Whether one of these put aside what was in a checkout, or took it out again. Pure."""
    return any(STASH in deed.commands for deed in _in(deeds, checkout))


def has_thrown_away(deeds: Iterable[Deed], checkouts: Iterable[Path]) -> bool:
    """Whether one of these can have thrown objects or lines of logs away, from one of these checkouts. Pure."""
    places = set(map(str, checkouts))
    return any(deed.checkout in places and not THROWS_AWAY.isdisjoint(deed.commands) for deed in deeds)


def _in(deeds: Iterable[Deed], checkout: Path) -> Iterator[Deed]:
    return (deed for deed in deeds if deed.checkout == str(checkout))
