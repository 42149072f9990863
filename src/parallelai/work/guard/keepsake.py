"""What git throws away for good (`gc`, `prune`, `repack -ad`, `reflog expire`), kept while nothing holds programs back.

Before programs run, objects are kept by hard links and logs of refs as copies, in the run's state. What is gone
afterwards comes back: the objects as a pack, the lines of logs in their place. Who threw it away nobody has to know for
that: an object that nothing refers to harms nobody, and a log gets back only lines that vanished.

An ordinary `gc`, which git starts by itself after a commit, throws away what nothing refers to and what is older than
the user's settings say. Where no more than that is gone, nothing is put back, and nothing told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from msgspec import Struct

from parallelai.git.plumbing import Git
from parallelai.git.repository import Repository
from parallelai.processes.removing import remove
from parallelai.work.guard import kept_logs, kept_objects
from parallelai.work.guard.kept_objects import Listing

_DAYS = 24 * 3600.0
_OBJECTS_LAST = ("gc.pruneExpire", 14 * _DAYS)
_LINES_LAST = ("gc.reflogExpireUnreachable", 30 * _DAYS)
_CLOCKS = 60.0
"""Seconds by which the clocks of a file system and of this machine may differ."""


class Returned(Struct, frozen=True):
    """What had been thrown away: how many objects are back and how many are not; the refs whose logs got lines back.

    `lost_logs` are refs whose logs did not.
    """

    objects: int = 0
    lost: int = 0
    logs: tuple[str, ...] = ()
    lost_logs: tuple[str, ...] = ()


class Keepsake:
    """Of one repository, for one run. `folder` is absolute, below the run's state, and nobody else's."""

    def __init__(self, repository: Repository, folder: Path) -> None:
        self._repository = repository
        self._folder = folder
        self._store = repository.common / "objects"
        self._objects = folder / "objects"
        self._logs = folder / "logs"
        self._cut: Mapping[str, tuple[bytes, ...]] = {}
        self._is_owed = False
        self._busy = asyncio.Lock()

    async def keep(self) -> None:
        """Keep what there is and was not kept yet. Raises `OSError`."""
        async with self._busy:
            await asyncio.to_thread(kept_objects.link_new, self._store, self._objects)
            await asyncio.to_thread(kept_logs.keep_logs, self._repository.common, self._logs)

    @property
    def is_open(self) -> bool:
        """Whether something is kept: also by a process of the run that was killed."""
        return self._folder.is_dir()

    async def put_back_objects(self) -> Returned:
        """Put objects back, before anything else is that may need them. Raises `GitError`, `OSError`."""
        async with self._busy:
            self._cut = await self._cut_logs()
            before = await asyncio.to_thread(kept_objects.list_store, self._store)
            kept = await asyncio.to_thread(kept_objects.list_store, self._objects)
            left = kept.without(before)
            if not (left.loose or left.packs):
                return Returned()
            gone = await self._gone(left)
            returned = Returned()
            if gone and not await self._is_ordinary(gone):
                returned = await self._put_back(gone)
            if not self._is_owed:
                await self._forget(left, before)
            return returned

    async def put_back_logs(self, deleted: Callable[[], Collection[str]]) -> Returned:
        """Put lines of logs back, after the refs: those of a ref that is there. Raises `GitError`, `OSError`.

        `deleted` gives the refs that programs deleted: who else deletes one and makes it again wants a new log.
        """
        async with self._busy:
            cut, self._cut = {**self._cut, **await self._cut_logs()}, {}
            if not cut:
                return Returned()
            since = await self._since(*_LINES_LAST)
            there = await self._refs()
            gone = await asyncio.to_thread(deleted)
            back: list[str] = []
            lost: list[str] = []
            for ref, lines in sorted(cut.items()):
                is_anew = ref not in gone and await asyncio.to_thread(
                    kept_logs.is_anew, self._repository.common, self._logs, ref
                )
                is_old = not any(kept_logs.time_of(line) > since for line in lines)
                if ref not in there or is_old or is_anew:
                    await asyncio.to_thread(kept_logs.forget, self._logs, ref)
                    continue
                common = self._repository.common
                is_back = await asyncio.to_thread(kept_logs.put_lines_back, common, self._logs, ref)
                (back if is_back else lost).append(ref)
            return Returned(logs=tuple(back), lost_logs=tuple(lost))

    async def forget(self) -> None:
        """Let go of all that is kept, but where that is the only place in which something still is."""
        if not self._is_owed:
            await asyncio.to_thread(remove, self._folder)

    # -- what is gone

    async def _cut_logs(self) -> Mapping[str, tuple[bytes, ...]]:
        return await asyncio.to_thread(kept_logs.cut_logs, self._repository.common, self._logs)

    async def _gone(self, left: Listing) -> dict[str, float]:
        """The objects that are nowhere any more, with when they were written."""
        found: dict[str, float] = {}
        pieces = kept_objects.names_in(self._objects, left)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            found |= {name: piece[name] for name in await self._missing(piece)}
        return found

    async def _missing(self, names: Collection[str]) -> list[str]:
        if not names:
            return []
        asked = "".join(f"{name}\n" for name in names).encode()
        listed = await self._repository.git.run(
            "cat-file", "--batch-check=%(objectname)", "--buffer", stdin=asked
        )
        rows = (row.split(" ") for row in listed.decode().splitlines())
        return [row[0] for row in rows if row[1:] == ["missing"]]

    async def _is_ordinary(self, gone: Mapping[str, float]) -> bool:
        """Whether an ordinary `gc` would have thrown these away, and did no more than that."""
        since = await self._since(*_OBJECTS_LAST)
        if any(when > since for when in gone.values()):
            return False
        there = await self._refs()
        lines_since = await self._since(*_LINES_LAST)
        cut = (line for ref, lines in self._cut.items() if ref in there for line in lines)
        if any(kept_logs.time_of(line) > lines_since for line in cut):
            return False
        words = ("rev-list", "--objects", "--quiet", "--missing=allow-promisor", "--all")
        walked = await self._repository.git.attempt(*words)
        return walked.exit == 0

    async def _since(self, key: str, age: float) -> float:
        """The time (Unix) before which an ordinary `gc` throws away; by the user's settings."""
        done = await self._repository.as_user("config", "--type=expiry-date", "--get", key)
        now = time.time()
        said = done.stdout.decode("ascii", "replace").strip()
        return min(now, float(said)) if done.exit == 0 and said.isdigit() else now - age - _CLOCKS

    async def _refs(self) -> frozenset[str]:
        listed = await self._repository.git.run("for-each-ref", "--format=%(refname)")
        return frozenset(("HEAD", *listed.decode("utf-8", "surrogateescape").splitlines()))

    # -- put back

    async def _put_back(self, names: Collection[str]) -> Returned:
        """Bring objects into the repository again, as a pack: the next `gc` sees them as new."""
        there = await asyncio.to_thread(lambda: [name for name in names if self._is_whole(name)])
        git = Git(self._repository.common, objects=self._store, alternates=(self._objects,))
        asked = "".join(f"{name}\n" for name in there).encode()
        target = str(self._store / "pack" / "pack")
        if there:
            await git.attempt("pack-objects", "--quiet", "--window=0", target, stdin=asked)
        lost = await self._missing(names)
        self._is_owed = bool(set(lost).intersection(there))
        return Returned(len(names) - len(lost), len(lost))

    def _is_whole(self, name: str) -> bool:
        return kept_objects.is_kept(self._objects, name)

    async def _forget(self, left: Listing, before: Listing) -> None:
        """Let go of what left its place, where all that there is now is kept, and was there while it was looked at."""
        after = await asyncio.to_thread(kept_objects.link_new, self._store, self._objects)
        if not (before.without(after).loose or before.without(after).packs):
            await asyncio.to_thread(kept_objects.forget, self._objects, left)
