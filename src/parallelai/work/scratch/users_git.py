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
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from parallelai.git.repository import Repository
from parallelai.work.guard.aftercare import Aftercare, said
from parallelai.work.guard.deeds import ENDING
from parallelai.work.guard.restoring import KEPT, checked_out, is_by_us, locked, put, restore_files
from parallelai.work.guard.standing import Standing
from parallelai.work.guard.traces import Traced, read_trace
from parallelai.work.guard.watch import (
    Moved,
    Saved,
    Watch,
    files_changed_since,
    refs_moved_since,
    save,
    watch_of,
)

STASH = "refs/stash"
_WORDS = "parallelai: back where it was before the attempt"
_LEFT = "new, and left: a checkout is on it"
_IN_CHECKOUT = "moved back; `git status` in its checkout says what else was done there"
_BY_SOMEBODY = "moved, by whom is not known"
_NOT_BACK = "changed, could not be put back"


@dataclass(frozen=True, slots=True)
class Look:
    """The user's git folder before an attempt. `stashes` is the log of the stash, None where there is none.

    `standing` is where the checkout stood, `trace` what git writes down of refs.
    """

    watch: Watch
    stashes: Saved | None
    trace: Path
    standing: Standing | None


class UsersGit:
    """Looks after one repository for one run.

    `folder` is where the traces lie, `kept` where is kept what git may throw away; best on its file system.
    """

    def __init__(self, repository: Repository, folder: Path, kept: Path, run: str) -> None:
        self._repository = repository
        self._folder = folder
        self._aftercare = Aftercare(repository, folder, kept)
        self._kept = f"{KEPT}{run}/"
        self._stash_log = repository.common / "logs" / STASH
        self._judging = asyncio.Lock()

    def variables(self, name: str) -> dict[str, str]:
        """What the programs in the folder of this name get into their environment."""
        return self._aftercare.variables(name)

    async def look(self, name: str) -> Look:
        """Look at the repository before programs run in the folder of this name."""
        standing = await self._aftercare.look(name)
        watch = await watch_of(self._repository.common)
        stashes = await asyncio.to_thread(save, self._stash_log)
        return Look(watch, stashes, self._aftercare.trace(name), standing)

    async def put_back(self, look: Look, aside: Path) -> tuple[str, ...]:
        """Put right what was done since a look, and say what: a path each, with words where it is not put back."""
        async with self._judging:
            told = await self._put_back_files(look.watch, aside)
            traced = await asyncio.to_thread(read_trace, look.trace)
            others = await asyncio.to_thread(self._others, look.trace)
            name = look.trace.name
            first = await self._aftercare.first(name, look.standing)
            if first.left is not None:
                await self._keep(first.left, "HEAD")
            refs = await self._put_back_refs(look, traced, others)
            refs += await self._put_back_stashes(look, traced)
            moved = {ref.partition(" (")[0].removeprefix(".git/") for ref in refs}
            last = await self._aftercare.last(name, look.standing, first.head, aside, moved)
            return (*told, *first.said, *refs, *last)

    async def resume(self) -> tuple[str, ...]:
        """Put back what was thrown away while a process of the run had its programs going that was killed since."""
        async with self._judging:
            return await self._aftercare.resume()

    async def close(self) -> None:
        """Let go of what was kept; not before the last attempt was looked at."""
        await self._aftercare.close()

    def _others(self, own: Path) -> list[Traced]:
        """What the traces of the run's other folders hold."""
        paths = sorted(self._folder.iterdir())
        return [read_trace(path) for path in paths if path != own and path.suffix != ENDING]

    # -- configuration and hooks

    async def _put_back_files(self, watch: Watch, aside: Path) -> list[str]:
        changed = await files_changed_since(watch)
        back, left = await asyncio.to_thread(restore_files, watch, changed, aside)
        above = self._repository.common.parent
        told = {os.path.relpath(path, above): "" for path in back}
        told |= {os.path.relpath(path, above): f" ({_NOT_BACK})" for path in left}
        return [f"{path}{words}" for path, words in sorted(told.items())]

    # -- branches, tags and other refs

    async def _put_back_refs(self, look: Look, traced: Traced, others: Iterable[Traced]) -> list[str]:
        moves = [each for each in await refs_moved_since(look.watch) if not self._is_another_matter(each)]
        if not moves:
            return []
        followed, known = await checked_out(self._repository), look.watch.refs
        told = []
        # New names first: they may stand in the way of one that comes back.
        for moved in sorted(moves, key=lambda each: (each.before is not None, each.ref)):
            if not traced.has(moved, known):
                is_anothers = any(each.has(moved, known) for each in others)
                told += [] if is_anothers else [said(moved.ref, _BY_SOMEBODY)]
            elif moved.before is None and moved.ref in followed:
                told.append(said(moved.ref, _LEFT))
            else:
                is_back = await self._move_back(moved, known)
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

    # -- stashes: a ref on the last one, the others in its log

    async def _put_back_stashes(self, look: Look, traced: Traced) -> list[str]:
        """Put stashes back that were dropped; what was stashed is the user's, or came from the user's checkout."""
        after = await asyncio.to_thread(save, self._stash_log)
        before, now = _entries(look.stashes), _entries(after)
        if before == now or not _touches_stash(traced, before, now):
            return []
        if set(before) <= set(now):
            return [said(STASH, "one more; `git stash pop` in your checkout brings it back")]
        kept = [await self._keep(commit, STASH) for commit in now if commit not in before]
        is_back = all(kept) and await self._restore_stashes(look, before, now)
        return [said(STASH, "" if is_back else _NOT_BACK)]

    async def _restore_stashes(self, look: Look, before: list[str], now: list[str]) -> bool:
        top, stood = before[-1], now[-1] if now else "0" * len(before[-1])
        git = self._repository.git
        names = "".join(f"{commit}\n" for commit in before).encode()
        there = await git.attempt("cat-file", "--batch-check", stdin=names)
        if there.exit != 0 or b" missing" in there.stdout or look.stashes is None:
            return False  # collected as garbage meanwhile
        done = await git.attempt("update-ref", "-m", _WORDS, "--create-reflog", STASH, top, stood)
        return done.exit == 0 and await asyncio.to_thread(self._write_stash_log, look.stashes)

    def _write_stash_log(self, saved: Saved) -> bool:
        try:
            with locked(self._repository.common / STASH):
                put(self._stash_log, saved)
        except OSError:
            return False
        return True


def _touches_stash(traced: Traced, before: list[str], now: list[str]) -> bool:
    is_cut = STASH in traced.cleared or STASH in traced.gone
    return is_cut or any((STASH, commit) in traced.updates for commit in set(now) - set(before))


def _entries(log: Saved | None) -> list[str]:
    """The stashes in the log, the oldest first: `old new who time TAB words` a line."""
    lines = [] if log is None or log.data is None else log.data.decode("utf-8", "replace").splitlines()
    return [words[1] for words in (line.split(" ", 2) for line in lines) if len(words) == 3]
