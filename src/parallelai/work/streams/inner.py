"""What is in the submodules of a worktree and nowhere else: git sees none of it from outside, and it would go with it.

That is what was changed in their files, and commits in git folders that somebody made for them there. Such a commit is
safe once a remote has it, or the user's own git folder of the submodule.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from parallelai.git.plumbing import objects_of
from parallelai.git.submodules import few, module_folders
from parallelai.work.guard import inside
from parallelai.work.guard.inside import Edited
from parallelai.work.guard.place import Settings
from parallelai.work.guard.published import PUBLISHED, refs_in
from parallelai.work.streams.now import Now
from parallelai.work.streams.places import Place, first_line
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import Streams

_OWN = ("refs/heads/", "refs/stash")
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Unsafe:
    """Commits of a submodule that are nowhere else: in which of them, and the command that brings one to safety."""

    path: str
    command: str

    @property
    def said(self) -> str:
        return f"the submodule `{self.path}` has commits there that no remote has"


@dataclass(frozen=True, slots=True)
class Edits:
    """What was changed in files of submodules since the guard looked last."""

    settings: Settings
    found: tuple[Edited, ...]

    @property
    def said(self) -> str:
        paths = [change.path for each in self.found for change in each.changes if change.status != "deleted"]
        return f"what was changed in submodules ({few(paths)})"

    async def keep(self) -> str:
        """Write it down as a patch, and say where."""
        written = await inside.keep(self.settings, self.found)
        return f"{self.said} is kept in `{written.patch or written.aside}`"


async def unsafe(place: Place, stream: Stream, now: Now) -> Unsafe | None:
    """Give a submodule whose commits would be lost with the worktree, if there is one. Raises `GitError`, OSError."""
    users = await module_folders(place.repository.git, now.commit)
    for path, folder in await asyncio.to_thread(lambda: list(_folders(place, list(users)))):
        own = users.get(path)
        refs = await asyncio.to_thread(refs_in, folder, _OWN)
        head = first_line(folder / "HEAD") or ""
        tips = set(refs.values()) | ({head} if head and not head.startswith("ref: ") else set())
        tip = await _beyond(folder, own, tips) if tips else None
        if tip is not None:
            return Unsafe(path, _saves(folder, own, f"{tip}:refs/heads/{stream.name}-{tip[:_SHOWN]}"))
    return None


async def edits(place: Place, streams: Streams, stream: Stream, now: Now) -> Edits | None:
    """Give what lies changed in the files of submodules, if anything does. Raises `GitError`, OSError."""
    run = streams.state / "runs" / stream.run
    settings = Settings(
        repository=place.repository,
        name=stream.name,
        worktree=place.path,
        branch=stream.branch,
        rules=stream.rules,
        folder=run / "guard" / stream.name,
        patches=run / "patches",
    )
    if not (settings.folder / "inside").is_dir():  # the guard never looked at one
        return None
    found = [
        each
        for each in await inside.edited(settings, now.tip, ())
        if not os.path.lexists(place.path / each.path / ".git")
        and any(change.status != "deleted" for change in each.changes)
    ]
    return Edits(settings, tuple(found)) if found else None


def _folders(place: Place, paths: list[str]) -> Iterator[tuple[str, Path]]:
    """The git folders that go with a worktree, by what their submodules are called there."""
    modules = place.entry.admin / "modules"
    for above, _, names in os.walk(modules):
        if "HEAD" in names:
            yield Path(above).relative_to(modules).as_posix().replace("/modules/", "/"), Path(above)
    for path in paths:
        folder = place.path / path / ".git"
        if folder.is_dir() and not folder.is_symlink():
            yield path, folder


async def _beyond(folder: Path, own: Path | None, tips: set[str]) -> str | None:
    """One of the tips that nobody else has."""
    safe = set((await asyncio.to_thread(refs_in, folder, PUBLISHED)).values())
    if own is not None:
        safe |= set((await asyncio.to_thread(refs_in, own, ("refs/",))).values())
    async with objects_of(folder, next(iter(tips))) as git:
        if own is not None:
            git = replace(git, alternates=(*git.alternates, own / "objects"))
        for tip in sorted(tips):
            asked = "".join(f"{line}\n" for line in (tip, *(f"^{each}" for each in safe)))
            words = ("rev-list", "--max-count=1", "--ignore-missing", "--stdin")
            beyond = await git.attempt(*words, stdin=asked.encode())
            if beyond.exit != 0 or beyond.stdout.strip():
                return tip
    return None


def _saves(folder: Path, own: Path | None, what: str) -> str:
    if own is None:
        return f"git --git-dir={shlex.quote(str(folder))} push origin {what}"
    return f"git -C {shlex.quote(str(own))} fetch {shlex.quote(str(folder))} {what}"
