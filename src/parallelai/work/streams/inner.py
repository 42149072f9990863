"""What is in the submodules of a worktree and nowhere else: git sees none of it from outside, and it would go with it.

That is what was changed in their files, and commits in git folders that somebody made for them there. Such a commit is
safe once a remote has it, or the user's own git folder of the submodule. A repository that somebody made in the
worktree and added is none of the user's submodules, and the same holds for it.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from msgspec import Struct

from parallelai.engines.planted import read_plain
from parallelai.git.plumbing import Git, objects_of
from parallelai.git.submodules import few, module_folders
from parallelai.work.guard import inside
from parallelai.work.guard.inside import Edited
from parallelai.work.guard.place import Settings
from parallelai.work.guard.published import PUBLISHED, refs_in
from parallelai.work.scratch.gathering import listing
from parallelai.work.sheltering import HASH
from parallelai.work.streams.indexes import copy_plain
from parallelai.work.streams.now import Now, paths
from parallelai.work.streams.places import Place, first_line
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import Streams

_OWN = ("refs/heads/", "refs/stash")
_SHOWN = 10
_MOST_BYTES = 1024 * 1024


class Unsafe(Struct, frozen=True):
    """What is nowhere else, of a submodule, or a repository inside, in words, and the command that helps."""

    said: str
    command: str


class Edits(Struct, frozen=True):
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
    """Give a submodule of which something would be lost with the worktree, if any. Raises `GitError`, OSError."""
    users = await module_folders(place.repository.git, now.commit)
    links = await _links(place.repository.git, now.commit)
    for path, folder in await asyncio.to_thread(lambda: list(_folders(place, links))):
        own = users.get(path)
        tips = await asyncio.to_thread(_tips, folder)
        tip = await _beyond(folder, own, tips) if tips else None
        if tip is None:
            continue
        said = f"`{path}` has commits there that no remote has"
        if own is None and folder == place.path / path / ".git" and not _has_origin(folder):
            return Unsafe(f"the repository {said}", _moves(place, stream, path))
        branch = f"{tip}:refs/heads/{stream.name}-{tip[:_SHOWN]}"
        return Unsafe(f"the submodule {said}", _saves(folder, own, branch))
    seen = set[str]()
    for path in links:  # which grows by those inside them
        top = place.path / path
        own_git = await asyncio.to_thread(_checked_out, top)
        if own_git is None or os.path.realpath(top) in seen:  # by links they may be inside each other
            continue
        seen.add(os.path.realpath(top))
        changed, within = await _changed(own_git, users.get(path), top)
        links += [f"{path}/{each}" for each in within]
        if changed:
            said = few([f"{path}/{name}" for name in changed])
            command = shlex.join(["git", "-C", str(top), "status"])
            return Unsafe(
                f"what was changed in the submodule `{path}` is not committed there: {said}", command
            )
    return None


def _tips(folder: Path) -> set[str]:
    """What the branches of a repository, its stash and its HEAD are at."""
    head = first_line(folder / "HEAD") or ""
    return set(refs_in(folder, _OWN).values()) | ({head} if head and not head.startswith("ref: ") else set())


def _checked_out(top: Path) -> Path | None:
    """The git folder of a repository whose files lie in a folder, if it is one."""
    pointer = top / ".git"
    if top.is_symlink():
        return None
    if pointer.is_symlink() or not pointer.is_file():
        return pointer if pointer.is_dir() and not pointer.is_symlink() else None
    line = first_line(pointer) or ""
    folder = top / line.removeprefix("gitdir: ")
    return folder if line.startswith("gitdir: ") and folder.is_dir() else None


async def _changed(folder: Path, own: Path | None, top: Path) -> tuple[list[str], list[str]]:
    """What lies in the files of a repository and is not what its HEAD has; without what it configures itself.

    Beside that the paths of the submodules in it.
    """
    head = (first_line(folder / "HEAD") or "").removeprefix("ref: ")
    commit = (await asyncio.to_thread(refs_in, folder, ("refs/heads/",))).get(head, head)
    if HASH.fullmatch(commit) is None:  # it has no commit yet
        return [], []
    async with objects_of(folder, commit) as git:
        alternates = git.alternates if own is None else (*git.alternates, own / "objects")
        git = replace(git, work_tree=top, index=git.git_dir / "index", alternates=alternates)
        if not await asyncio.to_thread(copy_plain, folder / "index", git.git_dir / "index"):
            await git.run("read-tree", commit)
        known = listing(paths(await git.run("ls-files", "-z")))
        for option in ("--no-assume-unchanged", "--no-skip-worktree"):
            await git.run("update-index", option, "-z", "--stdin", stdin=known)
        await git.attempt("update-index", "-q", "--refresh")
        looks = (
            ("diff-files", "--name-only", "-z", "--ignore-submodules=all"),
            ("diff-index", "--cached", "--name-only", "-z", "--ignore-submodules=all", commit),
            ("ls-files", "--others", "--exclude-standard", "-z"),
        )
        found = {name for words in looks for name in paths(await git.run(*words))}
        within = _links_in(await git.run("ls-files", "--stage", "-z"))
    return sorted(name for name in found if os.path.lexists(top / name)), within


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


async def _links(git: Git, commit: str) -> list[str]:
    """The paths at which a commit has another repository's."""
    return _links_in(await git.run("ls-tree", "-r", "-z", "--full-tree", commit))


def _links_in(listed: bytes) -> list[str]:
    """Those of git's rows of a tree or an index that name another repository's commit."""
    return [os.fsdecode(row.split(b"\t", 1)[1]) for row in listed.split(b"\0") if row.startswith(b"160000 ")]


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


def _has_origin(folder: Path) -> bool:
    """Whether a repository was told where to push to."""
    try:
        return b'[remote "origin"]' in read_plain(folder / "config", _MOST_BYTES)
    except OSError:
        return False


def _moves(place: Place, stream: Stream, path: str) -> str:
    """The command that moves a repository beside the user's checkout, where nothing lies yet."""
    beside = place.repository.root.parent
    names = (
        f"{stream.name}-{Path(path).name}{end}" for end in ("", *(f"-{each}" for each in range(2, 1000)))
    )
    target = next(
        (beside / name for name in names if not os.path.lexists(beside / name)), beside / stream.name
    )
    there = str(place.path / path)
    # To git a folder that is gone is a change.
    return f"{shlex.join(['mv', there, str(target)])} && {shlex.join(['mkdir', there])}"


def _saves(folder: Path, own: Path | None, what: str) -> str:
    if own is None:
        return f"git --git-dir={shlex.quote(str(folder))} push origin {what}"
    return f"git -C {shlex.quote(str(own))} fetch {shlex.quote(str(folder))} {what}"
