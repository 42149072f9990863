"""The user's own git folder, looked after while programs run that nothing holds back.

A task's folder is a repository of its own, so that what an assistant does to git there is nobody else's. The user's
is only a path away where nothing confines it: configuration and hooks are put back; so are refs and stashes where
git's own trace tells that a program of the attempt moved them (`guard.traces`), by compare-and-swap. What a ref was
put on meanwhile is kept below `refs/parallelai/kept/`. All else that moved is only told. HEAD and index of the user's
checkout are put back by the same rule (`guard.standing`), its files never. What `gc` and the like threw away comes back
whoever did it (`guard.keepsake`).
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from parallelai.git.repository import Repository
from parallelai.work.guard import stashes
from parallelai.work.guard.aftercare import Aftercare, said
from parallelai.work.guard.restoring import KEPT, checked_out, is_by_us, restore_files
from parallelai.work.guard.standing import Standing
from parallelai.work.guard.traces import STASH, Traced, read_trace
from parallelai.work.guard.watch import (
    Moved,
    Saved,
    Watch,
    files_changed_since,
    refs_moved_since,
    watch_of,
)
from parallelai.work.guard.way_back import put_on_the_same, with_way_back

_WORDS = "parallelai: back where it was before the attempt"
_LEFT = "new, and left: a checkout is on it"
_IN_CHECKOUT = "moved back; `git status` in its checkout says what else was done there"
_BY_SOMEBODY = "moved, by whom is not known"
_CHANGED = "changed since, by whom is not known"
_NOT_BACK = "changed, could not be put back"
_OF_STASHES: Mapping[stashes.Outcome, str] = {
    "back": "",
    "not_back": _NOT_BACK,
    "more": "one more; `git stash pop` in your checkout brings it back",
    "unknown": "stashes are gone, by whom is not known",
}


class Look(Struct, frozen=True):
    """The user's git folder before an attempt in the folder of this `name`. `stashes` is the log of the stash.

    `standing` is where the checkout stood. `note` is where all of it is written down, for who comes after a killed
    process; there `is_late` is true.
    """

    name: str
    watch: Watch
    stashes: Saved | None
    standing: Standing | None
    note: Path
    is_late: bool = False

    def write(self) -> None:
        """Write it down, readable by its owner alone. Raises `OSError`."""
        self.note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        data = {
            "name": self.name,
            "watch": self.watch.to_json(),
            "stashes": None if self.stashes is None else self.stashes.to_json(),
            "standing": None if self.standing is None else self.standing.to_json(),
        }
        part = self.note.with_suffix(".part")
        part.write_text(json.dumps(data), encoding="utf-8")
        part.replace(self.note)

    @classmethod
    def read(cls, note: Path) -> Look | None:
        """Read what a killed process wrote down; None where that is nothing of ours."""
        try:
            data = json.loads(note.read_text(encoding="utf-8"))
            return cls(
                str(data["name"]),
                Watch.from_json(data["watch"]),
                None if data["stashes"] is None else Saved.from_json(data["stashes"]),
                None if data["standing"] is None else Standing.from_json(data["standing"]),
                note,
                is_late=True,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


class UsersGit:
    """Looks after one repository for one run.

    `folder` is where the traces lie, `kept` where is kept what git may throw away; best on its file system.
    """

    def __init__(self, repository: Repository, folder: Path, kept: Path, run: str) -> None:
        self._repository = repository
        self._aftercare = Aftercare(repository, folder, kept)
        self._looks = kept / "looks"
        self._kept = f"{KEPT}{run}/"
        self._judging = asyncio.Lock()

    def variables(self, name: str) -> dict[str, str]:
        """What the programs in the folder of this name get into their environment."""
        return self._aftercare.variables(name)

    async def look(self, name: str) -> Look:
        """Look at the repository before programs run in the folder of this name."""
        standing = await self._aftercare.look()
        watch = await watch_of(self._repository.common)
        log = await asyncio.to_thread(stashes.saved, self._repository)
        note = self._looks / f"{secrets.token_hex(8)}.json"
        look = Look(name, watch, log, standing, note)
        await asyncio.to_thread(look.write)
        return look

    async def put_back(self, look: Look, aside: Path) -> tuple[str, ...]:
        """Put right what was done since a look, and say what: a path each, with words where it is not put back."""
        async with self._judging:
            return await self._put_back(look, aside)

    async def _put_back(self, look: Look, aside: Path) -> tuple[str, ...]:
        barred = await self._aftercare.clear_way(look.standing, aside)
        told = [*barred, *await self._put_back_files(look, aside)]
        traced = await asyncio.to_thread(read_trace, self._aftercare.trace(look.name))
        first = await self._aftercare.first(look.name, look.standing, is_late=look.is_late)
        for commit in first.left:
            await self._keep(commit, "HEAD")
        refs = await self._put_back_refs(look, traced)
        outcome = await self._aftercare.stashes(look.name, look.stashes)
        if outcome != "same" and not (look.is_late and outcome == "unknown"):
            refs.append(said(STASH, _OF_STASHES[outcome]))
        moved = {ref.partition(" (")[0].removeprefix(".git/") for ref in refs}
        last = await self._aftercare.last(
            look.name, look.standing, first.head, aside, moved, is_late=look.is_late
        )
        return (*told, *first.said, *refs, *last)

    async def forget(self, look: Look) -> None:
        """Take in that an attempt is over, and was looked at for the last time."""
        await asyncio.to_thread(look.note.unlink, missing_ok=True)

    async def resume(self, aside: Path) -> tuple[str, ...]:
        """Put back what a process of the run left undone that was killed while its programs were going.

        Somebody may have worked on for days: what is no program's doing by git's trace stays, and settings and hooks
        are told.
        """
        async with self._judging:
            told: list[str] = []
            for note in sorted(self._looks.glob("*.json")):
                look = await asyncio.to_thread(Look.read, note)
                if look is not None:
                    told += await self._put_back(look, aside)
                await asyncio.to_thread(note.unlink, missing_ok=True)
            return (*dict.fromkeys(told), *await self._aftercare.resume())

    async def close(self) -> None:
        """Let go of what was kept; not before the last attempt was looked at."""
        await self._aftercare.close()

    # -- configuration and hooks

    async def _put_back_files(self, look: Look, aside: Path) -> list[str]:
        changed = await files_changed_since(look.watch)
        above = self._repository.common.parent
        if look.is_late:
            return [f"{os.path.relpath(path, above)} ({_CHANGED})" for path in changed]
        back, left = await asyncio.to_thread(restore_files, look.watch, changed, aside)
        told = {os.path.relpath(path, above): "" for path in back}
        told |= {os.path.relpath(path, above): f" ({_NOT_BACK})" for path in left}
        return [f"{path}{words}" for path, words in sorted(told.items())]

    # -- branches, tags and other refs

    async def _put_back_refs(self, look: Look, traced: Traced) -> list[str]:
        moved_refs = await refs_moved_since(look.watch)
        overwritten = await put_on_the_same(self._repository, look.watch, moved_refs, traced)
        moves = [each for each in (*moved_refs, *overwritten) if not self._is_another_matter(each)]
        if not moves:
            return []
        followed, known = await checked_out(self._repository), look.watch.refs
        others = functools.cache(lambda: self._aftercare.others(look.name))
        told = []
        # New names first: they may stand in the way of one that comes back.
        for moved in sorted(moves, key=lambda each: (each.before is not None, each.ref)):
            if not traced.has(moved, known):
                is_anothers = look.is_late or any(
                    each.has(moved, known) for each in await asyncio.to_thread(others)
                )
                told += [] if is_anothers else [said(moved.ref, _BY_SOMEBODY)]
            elif moved.before is None and moved.ref in followed:
                told.append(said(moved.ref, _LEFT))
            else:
                back = await with_way_back(self._repository, moved, traced.put_on(moved.ref))
                is_back = await self._move_back(back, known)
                words = _IN_CHECKOUT if moved.ref in followed else ""
                told.append(said(moved.ref, words if is_back else _NOT_BACK))
        return told

    def _is_another_matter(self, moved: Moved) -> bool:
        is_ours = moved.ref.startswith(KEPT) or is_by_us(self._repository.common, moved)
        return is_ours or moved.ref == STASH

    async def _move_back(self, moved: Moved, known: Mapping[str, str]) -> bool:
        """Move a ref back by compare-and-swap; what it was on since is kept first."""
        is_new = moved.after is not None and moved.after not in known.values()
        if is_new and not await self._keep(str(moved.after), moved.ref):
            return False
        if moved.before is None:
            change = ["-d", moved.ref, str(moved.after)]
        else:
            now = moved.after or "0" * len(moved.before)
            change = ["--create-reflog", moved.ref, moved.before, now]
        words = ("update-ref", "--no-deref", "-m", _WORDS)
        return (await self._repository.git.attempt(*words, *change)).exit == 0

    async def _keep(self, commit: str, ref: str) -> bool:
        name = f"{self._kept}{commit[:12]}/{ref.removeprefix('refs/')}"
        return (await self._repository.git.attempt("update-ref", "-m", _WORDS, name, commit)).exit == 0
