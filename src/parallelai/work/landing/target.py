"""The branch that work lands on: moved by compare-and-swap, and with it the checkout that holds it.

A checkout moves along only as `git merge --ff-only` would move it. Where git refuses that, the result stays
complete on `parallelai/landing/<target>`, which is the target from then on, until a person has taken it over.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal

from msgspec import Struct

from parallelai.errors import UsageError
from parallelai.git.repository import Repository
from parallelai.processes import Completed
from parallelai.work.landing.refusing import is_locked, reason
from parallelai.work.landing.room import closed, has_room
from parallelai.work.streams.base import RECORDED, PendingError, pending_of, recorded_ref
from parallelai.work.streams.places import entries, first_line, is_linked

_LOCKED_TRIES = 8
_LOCKED_SECONDS = 0.25
_WHY = "parallelai: landing"
Worktrees = Callable[[], Collection[str]]
"""Where assistants work (`Streams.worktrees`), as resolved paths: nothing that git says of these is believed."""
_AMID = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply")
"""What git keeps of a checkout in the middle of something that ends in a commit."""
_REBASING = ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START")


class Tip(Struct, frozen=True):
    """Where the target is: `pending` names the branch that stands in for it while a checkout is behind."""

    commit: str
    pending: str | None = None


class Moved(Struct, frozen=True):
    """What became of a move: done, done on the pending branch (`why` and `next` say the rest), or too late.

    `lost`: somebody else moved the target first; nothing was changed.
    """

    how: Literal["moved", "pending", "lost"]
    pending: str | None = None
    why: str | None = None
    next: str | None = None


class Standing(Struct, frozen=True):
    """What there is to take over: the pending branch and where it is, and the command that takes it over."""

    target: str
    pending: str | None
    commit: str | None
    is_diverged: bool = False
    why: str | None = None
    next: str | None = None


class Target:
    """A branch of the user's, by its name without `refs/heads/`."""

    def __init__(self, repository: Repository, name: str, ours: Worktrees) -> None:
        self.name = name
        self._ours = ours
        self.ref = f"refs/heads/{name}"
        self.pending = f"parallelai/landing/{name}"
        self._pending_ref = f"refs/heads/{self.pending}"
        self._recorded_ref = recorded_ref(name)
        self._repository = repository

    async def tip(self) -> Tip:
        """Where work lands next. A pending branch that the target contains by now is removed.

        Raises `UsageError` where there is no such branch, and `PendingError` where the pending branch and the
        target went different ways (`diverged` tells both).
        """
        commit, pending = await self.both()
        if pending is None:
            return Tip(commit)
        if await self._repository.ancestor(pending, commit):
            await self._remove(pending)
            return Tip(commit)
        if await self._repository.ancestor(commit, pending):
            return Tip(pending, self.pending)
        raise PendingError(
            f"`{self.name}` and `{self.pending}`, which holds landed work, went different ways",
            next=await self._command(is_diverged=True),
        )

    async def both(self) -> tuple[str, str | None]:
        """Where the branch is, and where the pending one is, if there is one. Raises `UsageError`."""
        commit = await self._repository.commit(self.ref)
        if commit is None:
            raise UsageError(
                f"there is no branch `{self.name}` to land on", next="name the target, or make the branch"
            )
        return commit, await pending_of(self._repository, self.name)

    async def move(self, to: str, expected: Tip) -> Moved:
        """Move the target from `expected` to a commit that contains it. Raises `GitError` and `PendingError`."""
        commit, pending = await self.both()
        if expected.commit != (pending if expected.pending else commit):
            return Moved("lost")
        moved = await self.advance(self.ref, to, commit)
        if moved.how == "lost":
            return moved
        if moved.how == "moved":
            if pending is not None and await self._repository.ancestor(pending, to):
                await self._remove(pending)
            return moved
        return await self._keep(to, expected, moved)

    async def advance(self, ref: str, to: str, expected: str) -> Moved:
        """Move a branch forward, with the checkout that holds it; `pending` where git refuses that one."""
        holders = await self._checkouts(ref)
        if not holders:
            return Moved("moved" if await self._move(ref, to, expected) else "lost")
        place = holders[0]
        if len(holders) > 1:
            return self._refused(f"it is checked out in {len(holders)} worktrees", place)
        busy = await asyncio.to_thread(_busy, place, ref)
        if busy is not None:
            return self._refused(busy, place)
        return await self._with_checkout(ref, to, expected, place)

    async def look(self) -> Standing:
        """Say what there is to take over; the target stays where it is. Raises `UsageError` and `PendingError`."""
        commit, pending = await self.both()
        if pending is None or await self._repository.ancestor(pending, commit):
            return Standing(self.name, None, commit)
        is_diverged = not await self._repository.ancestor(commit, pending)
        command = await self._command(is_diverged=is_diverged)
        return Standing(self.name, self.pending, pending, is_diverged, next=command)

    async def take_over(self) -> Standing:
        """Move the target to what is pending, if git would do it now, and say what is left to do."""
        commit, pending = await self.both()
        if pending is None:
            return Standing(self.name, None, commit)
        if await self._repository.ancestor(pending, commit):
            await self._remove(pending)
            return Standing(self.name, None, commit)
        if not await self._repository.ancestor(commit, pending):
            command = await self._command(is_diverged=True)
            return Standing(self.name, self.pending, pending, True, next=command)
        moved = await self.advance(self.ref, pending, commit)
        if moved.how == "moved":
            await self._remove(pending)
            return Standing(self.name, None, pending)
        return Standing(self.name, self.pending, pending, why=moved.why, next=moved.next)

    async def _with_checkout(self, ref: str, to: str, expected: str, holder: Checkout) -> Moved:
        """Have git move a checkout and its branch. What counts is where the branch is afterwards."""
        place = holder.path
        if not await has_room(self._repository, place, expected, to):
            return self._refused("its disk has no room for the files that come with it", holder)
        if (why := await closed(self._repository, place, expected, to)) is not None:
            return self._refused(why, holder)
        said = ""
        for attempt in range(_LOCKED_TRIES):
            if await self._repository.commit(ref) != expected:
                return Moved("lost")
            done = await self._forward(ref, to, expected, place)
            now = await self._repository.commit(ref)
            if now == to:
                return Moved("moved")
            if now != expected:
                return Moved("lost")
            if place not in [each.path for each in await self._checkouts(ref)]:  # the user switched meanwhile
                return Moved("moved" if await self._move(ref, to, expected) else "lost")
            said = reason(done)
            if not is_locked(done):
                break
            if attempt + 1 < _LOCKED_TRIES:  # some command of the user's runs: it is soon over
                await asyncio.sleep(_LOCKED_SECONDS)
        return self._refused(said, holder)

    async def _forward(self, ref: str, to: str, expected: str, place: Path) -> Completed:
        """Have git move a checkout and its branch. It may fail, and has written nothing then."""
        # A merge writes the files before it finds that it cannot move the branch: so that is tried first.
        steps = f"start\nupdate HEAD {to} {expected}\nprepare\nabort\n".encode()
        tried = await self._repository.as_user("update-ref", "--stdin", at=place, stdin=steps)
        if tried.exit != 0:
            return tried
        # Options of the user's for merges of the branch, such as a strategy, would make another merge of it.
        own = f"branch.{ref.removeprefix('refs/heads/')}.mergeOptions=--ff-only"
        return await self._repository.as_user(
            *("-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", own),
            # What git ignores there is nowhere else: a merge would write over it, and never say so.
            *("merge", "--ff-only", "--no-overwrite-ignore", "--no-squash"),
            *("--no-autostash", "--quiet", "--no-stat", to),
            at=place,
            env={"GIT_REFLOG_ACTION": _WHY},
        )

    async def _keep(self, to: str, expected: Tip, refused: Moved) -> Moved:
        """Keep a result on the pending branch."""
        old = (await self.both())[1]
        if expected.pending and old != expected.commit:
            return Moved("lost")
        if old is not None and not await self._repository.ancestor(old, to):
            return Moved("lost")
        if old is None and await self._repository.commit(self._pending_ref) is not None:
            said = f"`{self.pending}` is there, and no landing made it"
            raise PendingError(said, next=f"git branch -m {self.pending} NEW")
        # What is written down first is what counts, also if we are killed in between.
        if not await self._repository.move(self._recorded_ref, to, old, _WHY):
            return Moved("lost")
        if old is None:
            made = await self._repository.move(self._pending_ref, to, None, _WHY)
            return refused if made else Moved("lost")
        moved = await self.advance(self._pending_ref, to, old)
        if moved.how == "pending":
            await self._repository.move(self._recorded_ref, old, to, _WHY)
            raise PendingError(
                f"`{self.pending}` is checked out, and git refuses to move it: {moved.why}",
                next=f"check out something else there, then `{refused.next}`",
            )
        return moved if moved.how == "lost" else refused

    def _refused(self, why: str, holder: Checkout) -> Moved:
        return Moved("pending", self.pending, why, self._at(holder.path, self._merge(holder)))

    async def by_hand(self, words: str) -> str:
        """The command by which a person calls git where the target is checked out, else once it is."""
        holders = await self._checkouts(self.ref)
        place = holders[0].path if holders else self._repository.root
        switch = "" if holders else f"git switch {shlex.quote(self.name)} && "
        return f"{switch}{self._at(place, words)}"

    async def _command(self, *, is_diverged: bool) -> str:
        """What takes over what is pending."""
        holders = await self._checkouts(self.ref)
        return await self.by_hand(self._merge(*holders[:1], is_diverged=is_diverged))

    def _merge(self, holder: Checkout | None = None, *, is_diverged: bool = False) -> str:
        # Who finishes a merge has a commit of their own by then, to which nothing goes forward.
        may_part = is_diverged or (holder is not None and _is_amid(holder))
        return f"merge {'' if may_part else '--ff-only '}{shlex.quote(self.pending)}"

    def _at(self, place: Path, words: str) -> str:
        at = "" if place == self._repository.root else f"-C {shlex.quote(str(place))} "
        return f"git {at}{words}"

    async def _remove(self, commit: str) -> None:
        """Remove the pending branch, unless somebody moved it or looks at it."""
        if await self._checkouts(self._pending_ref):
            return
        for ref in (self._pending_ref, self._recorded_ref):
            await self._repository.delete(ref, commit)

    async def _checkouts(self, ref: str) -> list[Checkout]:
        return await checkouts(self._repository, ref, self._ours())

    async def _move(self, ref: str, to: str, expected: str) -> bool:
        """Move a branch that nobody looks at. The target may be another name of a branch: that one is moved."""
        return await self._repository.move(ref, to, expected, _WHY, is_followed=ref == self.ref)


class Checkout(Struct, frozen=True):
    """A worktree of the user's: its folder, and what git keeps of it."""

    path: Path
    git_dir: Path


async def checkouts(repository: Repository, ref: str, ours: Collection[str]) -> list[Checkout]:
    """The user's worktrees, main and linked, that have a branch checked out, or are in the middle of rebasing it.

    Those that ParallelAI made are left out: what their HEAD says is the word of an assistant, and git must never
    be started in them as the user, nor anywhere below: an assistant can lead git's folder of its worktree to a
    repository of its own there. `ours` are the resolved paths of both (`Worktrees`).
    """
    found = []
    if not repository.is_bare:
        main = Checkout(repository.root, repository.common)
        head = await repository.as_user("symbolic-ref", "--quiet", "HEAD")
        held = os.fsdecode(head.stdout).rstrip("\n") if head.exit == 0 else None
        if held == ref or (held is None and _busy(main, ref) is not None):
            found.append(main)
    linked = await asyncio.to_thread(_linked, repository, ref, frozenset(ours))
    return [*found, *linked]


def _linked(repository: Repository, ref: str, ours: frozenset[str]) -> list[Checkout]:
    found = []
    for entry in entries(repository):
        if _is_below(entry.path, ours) or _is_below(entry.admin, ours):
            continue
        if not entry.path.is_dir() or not is_linked(entry):
            continue
        place = Checkout(entry.path, entry.admin)
        if entry.branch == ref.removeprefix("refs/heads/") or (entry.branch is None and _busy(place, ref)):
            found.append(place)
    return found


def _is_below(path: Path, folders: frozenset[str]) -> bool:
    real = Path(os.path.realpath(path))
    return any(str(each) in folders for each in (real, *real.parents))


def _busy(place: Checkout, ref: str) -> str | None:
    """Why a worktree must not be moved now: a rebase or bisection of the branch goes on in it."""
    for name in _REBASING:
        held = (first_line(place.git_dir / name) or "").strip()
        if held in (ref, ref.removeprefix("refs/heads/")):
            what = "bisection" if name.startswith("BISECT") else "rebase"
            return f"a {what} of it is not finished in `{place.path}`: finish it"
    return None


def _is_amid(place: Checkout) -> bool:
    return any((place.git_dir / name).exists() for name in _AMID)


async def pending_targets(repository: Repository) -> list[str]:
    """Name the branches for which landings were left pending, also those that have it by now."""
    listed = await repository.git.line("for-each-ref", "--format=%(refname)", RECORDED)
    return [ref.removeprefix(RECORDED) for ref in listed.split("\n") if ref]


async def take_over(repository: Repository, target: str, ours: Worktrees) -> Standing:
    """Take over what is pending for a target, if git would move its checkout now, and say what is left.

    The pending branch is removed once the target contains it. Raises `UsageError` where there is no such target.
    """
    return await Target(repository, target, ours).take_over()
