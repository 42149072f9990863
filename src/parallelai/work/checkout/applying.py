"""Puts changes of a run into the user's checkout, and takes them out again: each all or nothing."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from msgspec import Struct

from parallelai.run.workspaces import Applied, Written
from parallelai.work.checkout.changes import Before, writes_for
from parallelai.work.checkout.placing import read_as_git
from parallelai.work.checkout.writing import Checkout, NotWritten, digest, written
from parallelai.work.scratch.snapshot import Snapshot


class Changes:
    """Puts changes of a run into the user's checkout, and takes them out again.

    `known` is what those wrote that were applied before, and not taken back.
    """

    def __init__(self, snapshot: Snapshot, folder: Path, known: Written) -> None:
        self._snapshot = snapshot
        self._checkout = Checkout(snapshot.root, folder / "applied")
        self._known = {task: dict(paths) for task, paths in known.items()}

    async def apply(self, task: str, base: str, commit: str) -> Applied | None:
        """Apply one change: all of it, or nothing; None where it was applied before, and is still there."""
        name = record_name(task)
        before = _before(self._known, task) if task in self._known else None
        try:
            await asyncio.to_thread(self._checkout.recover, name)
            writes = await writes_for(self._snapshot.git, self._snapshot.root, base, commit, before)
            if before is not None and not writes:
                return None
            await asyncio.to_thread(self._checkout.write, name, writes)
        except NotWritten as error:
            return Applied(task, {}, error.paths, error.said)
        done = written(writes)
        self._known.setdefault(task, {}).update(done)
        return Applied(task, done)

    async def undo(self, task: str) -> Applied:
        """Take a change out again, byte by byte; nothing happens where something was edited since."""
        found = standing(self._snapshot.root, self._known, task) if task in self._known else Standing()
        try:
            writes = await asyncio.to_thread(self._checkout.undo, record_name(task), found.back)
        except NotWritten as error:
            return Applied(task, {}, error.paths, error.said)
        back = {path: (after, before) for path, (before, after) in written(writes).items()}
        return Applied(task, back)


def _before(known: Written, task: str) -> Before:
    return Before({path: found for path, (found, _) in known[task].items()}, beyond(known, task))


def beyond(known: Written, task: str) -> dict[str, frozenset[str | None]]:
    """Give, for each path of a task's change, what other changes made of its result, one upon the other. Pure."""
    others = [paths for other, paths in known.items() if other != task]
    found = {}
    for path, (_, after) in known[task].items():
        steps = [paths[path] for paths in others if path in paths]
        reached = {after}
        for _ in steps:  # each adds one at most
            reached |= {end for start, end in steps if start in reached}
        found[path] = frozenset(reached)
    return found


class Standing(Struct, frozen=True):
    """How an applied change lies in the checkout now: the files that are again as before it, and those edited since.

    `is_gone`: nothing of it is there any more.
    """

    back: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    is_gone: bool = False


def standing(root: Path, known: Written, task: str) -> Standing:
    """Say what has become of an applied change in the checkout at `root`. Nothing but its files is read."""
    reached = beyond(known, task)
    paths = sorted(path for path, (before, after) in known[task].items() if before != after)
    back: list[str] = []
    edited: list[str] = []
    for path in paths:
        try:
            now = digest(read_as_git(root, path))
        except NotWritten:  # something else than a file lies there
            edited.append(path)
            continue
        if now not in reached[path]:
            (back if now in beneath(known, task, path) else edited).append(path)
    return Standing(tuple(back), tuple(edited), is_gone=bool(back) and len(back) == len(paths))


def beneath(known: Written, task: str, path: str) -> frozenset[str | None]:
    """Give what lay at a path before a task's change, and before those that it was made upon. Pure."""
    steps = [paths[path] for other, paths in known.items() if other != task and path in paths]
    reached = {known[task][path][0]}
    for _ in steps:  # each adds one at most
        reached |= {start for start, end in steps if end in reached}
    return frozenset(reached)


def record_name(task: str) -> str:
    """A file name for a task's record, which no other task has: ids hold slashes, dots and are long."""
    return hashlib.sha256(task.encode("utf-8", "backslashreplace")).hexdigest()[:40]
