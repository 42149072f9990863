"""What the user's repository is spared while nothing holds programs back, beside its settings and refs; and in words.

That is: what git threw away for good (`keepsake`), and where the user's checkout stands (`standing`). Both are looked
at before programs run. Afterwards `first` is what refs need to be put back, and `last` what needs the refs.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Collection
from pathlib import Path

from msgspec import Struct

from parallelai.git.plumbing import GitError
from parallelai.git.repository import Repository
from parallelai.processes.removing import remove
from parallelai.results.printable import visible
from parallelai.results.summary import number
from parallelai.work.guard import deeds, stashes, traces
from parallelai.work.guard.deeds import ENDING, THROWS_AWAY, Evidence, has_thrown_away
from parallelai.work.guard.keepsake import Keepsake, Returned
from parallelai.work.guard.standing import Checkout, Found, Standing
from parallelai.work.guard.traces import Traced
from parallelai.work.guard.watch import Moved, Saved
from parallelai.work.sheltering import HASH
from parallelai.work.streams.places import entries

_MOST_SHOWN = 200
_STATUS = "`git status` says what else was done there"
_YOU = "that may have been you"


class First(Struct, frozen=True):
    """What was seen to first: `said` in words, `head` what became of HEAD, `left` commits that HEAD alone was on."""

    said: tuple[str, ...]
    head: Found | None = None
    left: tuple[str, ...] = ()


class Aftercare:
    """Of one repository, for one run.

    `events` is the folder of the traces that git writes, of each place where programs run; `kept` where is kept what
    git may throw away, best on the repository's file system.
    """

    def __init__(self, repository: Repository, events: Path, kept: Path) -> None:
        self._repository = repository
        self._events = events
        self._checkouts = kept / "checkouts"
        self._keepsake = Keepsake(repository, kept)
        self._checkout = Checkout(repository)
        self._busy = asyncio.Lock()  # two at once would stand in each other's way, at git's locks

    def variables(self, name: str) -> dict[str, str]:
        """What programs in the place of this name get into their environment: git then writes down what they do."""
        self._events.mkdir(parents=True, exist_ok=True, mode=0o700)
        named = {traces.VARIABLE: str(self.trace(name)), deeds.VARIABLE: str(self._deeds(name))}
        return {**named, **deeds.VARIABLES}

    def trace(self, name: str) -> Path:
        """Where git writes down which refs the programs in the place of this name move."""
        return self._events / name

    def _deeds(self, name: str) -> Path:
        return self._events / f"{name}{ENDING}"

    def begin(self, name: str) -> None:
        """Forget what programs did in a place before: once that was seen to, and while none runs."""
        for path in (self.trace(name), self._deeds(name)):
            if path.is_dir() and not path.is_symlink():
                remove(path)
            path.unlink(missing_ok=True)

    def others(self, name: str) -> list[Traced]:
        """What the traces of refs of all other places hold; of an empty name these are all places."""
        paths = sorted(self._events.glob("*"))
        own = self.trace(name)
        return [traces.read_trace(path) for path in paths if path != own and path.suffix != ENDING]

    async def look(self) -> Standing | None:
        """Keep what there is, and look where the checkout stands, before programs run. Raises `OSError`."""
        await self._keepsake.keep()
        return await self._checkout.stand(self._checkouts)

    async def has_pruned(self) -> bool:
        """Whether a program of any place throws away, or threw away, what nothing refers to."""
        found = await self._evidence("").others()
        return any(not THROWS_AWAY.isdisjoint(deed.commands) for deed in found)

    async def hold(self) -> None:
        """Keep what was written meanwhile, too. Raises `OSError`."""
        await self._keepsake.keep()

    async def clear_way(self, before: Standing | None, aside: Path) -> list[str]:
        """Take away what bars the user's git since; before all else. Raises `OSError`."""
        if before is None:
            return []
        async with self._busy:
            barred = await self._checkout.clear_way(before, self._evidence(""), aside)
        return [f".git/{each}" for each in barred]

    async def first(self, name: str, before: Standing | None, *, is_late: bool = False) -> First:
        """Put back what was thrown away, and HEAD. Raises `GitError`, `OSError`.

        `is_late`: somebody had the repository to themselves since, and need not be told what they did.
        """
        evidence = self._evidence(name)
        objects = await self._of_objects(evidence)
        if before is None:
            return First(tuple(objects))
        async with self._busy:
            head = await self._checkout.put_head_back(before, evidence, is_late=is_late)
            behind = await self._checkout.left_behind(before, evidence)
        is_left = head is not None and head.is_back and HASH.fullmatch(head.now)
        left = (head.now,) if head is not None and is_left else ()
        told = [] if is_late and _is_unknown(head) else _said_of_head(before, head)
        told += [_said_of_left(commit) for commit in behind]
        return First((*objects, *told), head, tuple(dict.fromkeys((*left, *behind))))

    async def stashes(self, name: str, before: Saved | None) -> stashes.Outcome:
        """Put stashes back that programs dropped; `before` is their log as it was. Raises `GitError`."""
        own = await asyncio.to_thread(traces.read_trace, self.trace(name))
        others, has_stashed = lambda: self.others(name), lambda: self.has_stashed(name)
        async with self._busy:
            return await stashes.see_to(self._repository, before, own, others, has_stashed)

    async def has_stashed(self, name: str) -> bool:
        """Whether programs put aside what lay in the user's checkout."""
        return deeds.has_stashed(await self._evidence(name).own(), self._repository.root)

    async def last(
        self,
        name: str,
        before: Standing | None,
        head: Found | None,
        aside: Path,
        refs: Collection[str] = (),
        *,
        moves: Collection[Moved] = (),
        is_late: bool = False,
    ) -> list[str]:
        """Put back the index, and lines of logs, and say what was pushed.

        `refs` are those that moved, and need no word about their logs, and `moves` those that were put back;
        `is_late` is as for `first`.

        Raises `GitError`, `OSError`.
        """
        evidence = self._evidence(name)
        told = []
        if before is not None:
            is_back = head is not None and head.is_back
            async with self._busy:
                at = head.at if head is not None and head.is_back else None
                along = await self._checkout.bring_along(before, evidence, moves, at)
                is_moved = is_back or (along is not None and along[1])
                found = await self._checkout.put_index_back(before, evidence, aside, is_moved=is_moved)
            told += [_said_of_checkout(*along)] if along and found is None else []
            told += [] if is_late and _is_unknown(found) else _said_of_index(before, found)
        return told + await self._of_logs(evidence, refs) + await self._pushed(name)

    async def resume(self) -> tuple[str, ...]:
        """Put back what was thrown away while a process of the run had its programs going that was killed since."""
        if not self._keepsake.is_open:
            return ()
        return (*await self._of_objects(None), *await self._of_logs(None))

    async def close(self) -> tuple[str, ...]:
        """Put back what is not yet, and let go of what was kept; once no programs run. Gives what was put back."""
        try:
            told = await self.resume()
        except (GitError, OSError) as error:  # what is kept stays with the run
            return (said("objects", f"cannot be looked at: {error}"),)
        await self._keepsake.forget()
        await asyncio.to_thread(remove, self._events)
        return told

    async def _pushed(self, name: str) -> list[str]:
        """Say what was pushed: a remote's branch, as this repository knows it, stands where the trace put it."""
        told = []
        traced = await asyncio.to_thread(traces.read_trace, self.trace(name))
        for ref, commit in sorted(traced.pushes):
            words = ("rev-parse", "--verify", "--quiet", "--end-of-options", ref)
            done = await self._repository.git.attempt(*words)
            if done.exit == 0 and done.stdout.decode().strip() == commit:
                told.append(said(ref, "pushed"))
        return told

    def _evidence(self, name: str) -> Evidence:
        return Evidence(self._deeds(name), self._events)

    async def _of_objects(self, evidence: Evidence | None) -> list[str]:
        found = await self._keepsake.put_back_objects()
        return _said_of_objects(found, await self._who(evidence)) if found.objects or found.lost else []

    async def _of_logs(self, evidence: Evidence | None, refs: Collection[str] = ()) -> list[str]:
        found = await self._keepsake.put_back_logs(self._deleted)
        return _said_of_logs(found, await self._who(evidence), refs) if found.logs or found.lost_logs else []

    def _deleted(self) -> frozenset[str]:
        return frozenset(ref for each in self.others("") for ref in each.gone)

    async def _who(self, evidence: Evidence | None) -> str:
        """Words about who it was, where that is not known to be a program of the place."""
        own = () if evidence is None else await evidence.own()
        linked = await asyncio.to_thread(entries, self._repository)
        checkouts = (self._repository.root, *(entry.path for entry in linked))
        return "" if has_thrown_away(own, checkouts) else f"; by whom is not known: {_YOU}"


def _is_unknown(found: Found | None) -> bool:
    return found is not None and not found.is_ours


def said(path: str, words: str) -> str:
    """A path in git's folder with what became of it."""
    return f".git/{visible(path)}" + (f" ({words})" if words else "")


def _said_of_objects(found: Returned, who: str) -> list[str]:
    told = {f"thrown away, and back{who}": found.objects, "thrown away, could not be put back": found.lost}
    return [said("objects", f"{number(count, 'object')} {words}") for words, count in told.items() if count]


def _said_of_logs(found: Returned, who: str, refs: Collection[str]) -> list[str]:
    told = {
        f"lines thrown away, and back{who}": found.logs,
        "lines thrown away, not put back": found.lost_logs,
    }
    return [
        said(f"logs/{ref}", words) for words, logs in told.items() for ref in logs if visible(ref) not in refs
    ]


def _said_of_head(before: Standing, found: Found | None) -> list[str]:
    if found is None:
        return []
    way_back = f"`{visible(before.way_back)}` goes back"
    was, now = (visible(each)[:_MOST_SHOWN] for each in (found.was, found.now))
    moved = f"was on `{was}`, is on `{now}`"
    if not found.is_ours:
        return [said("HEAD", f"{moved}: {_YOU}; {way_back}")]
    if not found.is_back:
        return [said("HEAD", f"{moved}, could not be put back: {way_back}")]
    return [said("HEAD", f"was put on `{now}`, and is back; {_STATUS}")]


def _said_of_left(commit: str) -> str:
    return said("HEAD", f"a commit was made there, and left on no branch: `git show {commit[:12]}`")


def _said_of_checkout(moved: Moved, is_along: bool) -> str:
    before, after = (f"`{str(each)[:10]}`" for each in (moved.before, moved.after))
    if is_along:
        return said("index", f"left at {after}, and at {before} again, with its files")
    return said("index", f"left at {after}, and its branch is at {before}; {_STATUS}")


def _said_of_index(before: Standing, found: Found | None) -> list[str]:
    if found is None:
        return []
    index = before.git_dir / "index"
    names = (shlex.quote(str(path)) for path in (found.kept, index))
    way_back = f"`cp {' '.join(names)}` goes back" if found.kept else "`git reset` makes it anew"
    if not found.is_ours:
        return [said("index", f"{'changed' if index.exists() else 'gone'}: {_YOU}; {way_back}")]
    if not found.is_back:
        return [said("index", f"changed, could not be put back: {way_back}")]
    return [said("index", f"back as it was; what lay there is in `{found.kept}`; {_STATUS}")]
