"""Puts changes of a run into the user's checkout, and takes them out again: each all or nothing."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from parallelai.run.workspaces import Applied
from parallelai.work.checkout.changes import writes_for
from parallelai.work.checkout.writing import Checkout, NotWritten, written
from parallelai.work.scratch.snapshot import Snapshot


class Changes:
    """Puts changes of a run into the user's checkout, and takes them out again."""

    def __init__(self, snapshot: Snapshot, folder: Path) -> None:
        self._snapshot = snapshot
        self._checkout = Checkout(snapshot.root, folder / "applied")

    async def apply(self, task: str, base: str, commit: str) -> Applied:
        """Apply one change: all of it, or nothing."""
        name = record_name(task)
        try:
            await asyncio.to_thread(self._checkout.recover, name)
            writes = await writes_for(self._snapshot.git, self._snapshot.root, base, commit)
            await asyncio.to_thread(self._checkout.write, name, writes)
        except NotWritten as error:
            return Applied(task, {}, error.paths, error.said)
        return Applied(task, written(writes))

    async def undo(self, task: str) -> Applied:
        """Take a change out again, byte by byte; nothing happens where something was edited since."""
        try:
            writes = await asyncio.to_thread(self._checkout.undo, record_name(task))
        except NotWritten as error:
            return Applied(task, {}, error.paths, error.said)
        back = {path: (after, before) for path, (before, after) in written(writes).items()}
        return Applied(task, back)


def record_name(task: str) -> str:
    """A file name for a task's record, which no other task has: ids hold slashes, dots and are long."""
    return hashlib.sha256(task.encode("utf-8", "backslashreplace")).hexdigest()[:40]
