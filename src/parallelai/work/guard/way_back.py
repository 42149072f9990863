"""Where a ref was when a program moved it: others may have gone on from where it was before the turn.

Landings, guards of other workstreams and people move refs while programs run. A ref that a program then puts on
something else has to go back to what it was on by then, as the ref's log has it, or what they did would be lost.
The log is evidence, as all here: it is believed only where it adds to what there was before.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from parallelai.git.repository import Repository
from parallelai.work.guard.traces import Traced
from parallelai.work.guard.watch import Moved, Watch

OURS = "parallelai: "
"""How what is said of a ref's move begins where it was ParallelAI that moved it."""
_BYTES = 16 * 1024
"""Of the end of a ref's log: more than its last line takes."""


class Line(NamedTuple):
    """A line of a ref's log."""

    old: str
    new: str
    words: str


def last_lines(common: Path, ref: str) -> list[Line]:
    """Read the end of a ref's log, the last line first; nothing where it is no plain file."""
    log = common / "logs" / ref
    if log.is_symlink() or not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _BYTES))
        text = os.fsdecode(file.read())
    rows = (line.partition("\t") for line in reversed(text.split("\n")))
    entries = ((entry.split(" ", 2), words) for entry, _, words in rows)
    return [Line(hashes[0], hashes[1], words) for hashes, words in entries if len(hashes) == 3]


async def with_way_back(repository: Repository, moved: Moved, put_on: Collection[str]) -> Moved:
    """Give a move by programs with where the ref was before it. `put_on` is what they put that on."""
    if moved.before is None or moved.after is None:
        return moved
    at = await asyncio.to_thread(_before, repository.common, moved, put_on)
    has_more = at != moved.after and await repository.ancestor(moved.before, at)
    return replace(moved, before=at) if has_more else moved


def _before(common: Path, moved: Moved, put_on: Collection[str]) -> str:
    """Go back in the log over the moves of programs."""
    at = str(moved.after)
    for line in last_lines(common, moved.ref):
        if line.new != at or at not in put_on or line.words.startswith(OURS):
            break
        at = line.old
    return at


async def put_on_the_same(
    repository: Repository, watch: Watch, moves: Iterable[Moved], traced: Traced
) -> list[Moved]:
    """Refs that others moved since a watch, and programs put on what they had been on: they seem not to have moved."""
    named = {ref for ref, commit in traced.updates if watch.refs.get(ref) == commit}
    still = sorted(named - {moved.ref for moved in moves})
    found = [
        await with_way_back(repository, Moved(ref, watch.refs[ref], watch.refs[ref]), traced.put_on(ref))
        for ref in still
    ]
    return [moved for moved in found if moved.before != moved.after]
