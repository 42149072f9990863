"""Which commands of git programs ran, and where, as git wrote it down by itself (`GIT_TRACE2_EVENT`).

Like the trace of refs (`guard.traces`) it tells what the programs of an attempt did to the user's checkout from what
the user did there meanwhile. It is evidence, and no fence. git before 2.22 writes none.
(The lines: `technical/api-trace2` of git, JSON objects; `sid` is one process.)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from parallelai.engines.planted import read_plain

VARIABLE = "GIT_TRACE2_EVENT"
VARIABLES = {"GIT_TRACE2_EVENT_BRIEF": "0"}
"""Beside it: without times, which the user's settings may leave out, nothing is told by it."""
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
_ONLY_STASHES = frozenset({"clear", "create", "drop", "list", "show", "store"})
"""What can follow `stash`, and leaves the checkout as it is."""
THROWS_AWAY = frozenset({"gc", "maintenance", "prune", "prune-packed", "reflog", "repack"})
"""Commands after which objects or lines of logs may be gone."""
FETCHES = frozenset({"fetch", "fetch-pack", "pull"})
"""Commands that bring commits, and may end their history."""
ENDING = ".events"
"""Of the name of a trace."""
_MOST_BYTES = 32 * 1024 * 1024
_MOST_LINE_BYTES = 64 * 1024
_BEGINNING = b'{"event":"'
_UNHEARD = 2.0
"""Seconds: one that was killed can have written so long after the last line that it wrote."""
_SLACK = 0.02
"""Seconds: a file's time is taken from a coarser clock than a program's."""


class Deed(Struct):
    """One process of git: the checkout that it worked in, and from when to when it ran (Unix time).

    `commands` is its command, after those of git that called it; `is_aside` says that it has to do with stashes, and
    leaves the checkout as it is. Without lines that say so it ran at no time.
    """

    commands: tuple[str, ...] = ()
    checkout: str = ""
    began: float = float("inf")
    ended: float = float("-inf")
    is_aside: bool = False


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
        if len(line) > _MOST_LINE_BYTES or not line.startswith(_BEGINNING):
            continue
        try:
            row = json.loads(line)
            _take(found.setdefault(str(row["sid"]), Deed()), row)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
    return tuple(found.values())


def _take(deed: Deed, row: dict[str, Any]) -> None:
    event = row["event"]
    if event == "cmd_name":
        deed.commands = tuple(str(row["hierarchy"]).split("/"))
    elif event == "def_repo" and not deed.checkout:  # the first is its own; others are submodules
        deed.checkout = str(row["worktree"])
    when = _time(row)
    if event == "start":
        deed.began = when
        deed.is_aside = _is_aside(row.get("argv"))
    deed.ended = when if event == "exit" else max(deed.ended, when + _UNHEARD)


def _is_aside(argv: object) -> bool:
    words = argv if isinstance(argv, list) else []
    after = words[words.index(STASH) + 1 :] if STASH in words else []
    return bool(after) and after[0] in _ONLY_STASHES


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


def has_committed(deeds: Iterable[Deed], checkout: Path, when: int) -> bool:
    """Whether one of these made a commit in a checkout in some second (Unix time). Pure."""
    return any(
        "commit" in deed.commands and deed.began - 1 <= when <= deed.ended + 1
        for deed in _in(deeds, checkout)
    )


def has_fetched(deeds: Iterable[Deed]) -> bool:
    """Whether one of these brought commits from elsewhere, into whatever checkout. Pure."""
    return any(not FETCHES.isdisjoint(deed.commands) for deed in deeds)


def has_stashed(deeds: Iterable[Deed], checkout: Path) -> bool:
    """Whether one of these put aside what was in a checkout, or took it out again. Pure."""
    return any(STASH in deed.commands and not deed.is_aside for deed in _in(deeds, checkout))


def has_thrown_away(deeds: Iterable[Deed], checkouts: Iterable[Path]) -> bool:
    """Whether one of these can have thrown objects or lines of logs away, from one of these checkouts. Pure."""
    places = set(map(str, checkouts))
    return any(deed.checkout in places and not THROWS_AWAY.isdisjoint(deed.commands) for deed in deeds)


def _in(deeds: Iterable[Deed], checkout: Path) -> Iterator[Deed]:
    return (deed for deed in deeds if deed.checkout == str(checkout))
