"""What is in the repositories in a worktree and nowhere else: git sees none of it from outside, and it would go.

That is what was changed in files of submodules, and commits in git folders that somebody made for them there. Such a
commit is safe once a remote has it, or the user's own git folder of the submodule. A repository that somebody made in
the worktree, be it in a submodule or where git ignores it, is none of the user's submodules, and its commits stay, too.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Iterable, Iterator
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
from parallelai.work.streams.now import Now, is_below, paths
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
    """Give a repository in a worktree of which something would be lost with it, if any. Raises `GitError`, OSError.

    Files that git ignores are nobody's loss, commits are: also of a repository in an ignored folder.
    """
    users = await module_folders(place.repository.git, now.commit)
    links = await _links(place.repository.git, now.commit)
    found = await asyncio.to_thread(lambda: list(_repositories(place.path)))
    for path, folder in await asyncio.to_thread(lambda: list(_folders(place, found))):
        is_module = is_below(path, links)
        own = users.get(path) if is_module else _checked_out(place.repository.root / path)
        tips = await asyncio.to_thread(_tips, folder)
        tip = await _beyond(folder, own, tips) if tips else None
        if tip is None:
            continue
        said = f"`{path}` has commits there that no remote has"
        if own is None and folder == place.path / path / ".git" and not (is_module and _has_origin(folder)):
            return Unsafe(f"the repository {said}", _moves(place, stream, path))
        branch = f"{tip}:refs/heads/{stream.name}-{tip[:_SHOWN]}"
        kind = "submodule" if is_module else "repository"
        return Unsafe(f"the {kind} {said}", _saves(folder, own, branch))
    for path, folder in found:
        if is_below(path, links) and (changed := await _changed(folder, users.get(path), place.path / path)):
            said = few([f"{path}/{name}" for name in changed])
            command = shlex.join(["git", "-C", str(place.path / path), "status"])
            return Unsafe(
                f"what was changed in the submodule `{path}` is not committed there: {said}", command
            )
    return None


def _repositories(root: Path) -> Iterator[tuple[str, Path]]:
    """The repositories that lie in a worktree, with their git folders; none behind a link."""
    for above, folders, names in os.walk(root):
        has_git = ".git" in folders or ".git" in names
        folders[:] = [name for name in folders if name != ".git"]
        if has_git and Path(above) != root and (folder := _checked_out(Path(above))) is not None:
            yield Path(above).relative_to(root).as_posix(), folder


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


async def _changed(folder: Path, own: Path | None, top: Path) -> list[str]:
    """What lies in the files of a repository and is not what its HEAD has; without what it configures itself."""
    head = (first_line(folder / "HEAD") or "").removeprefix("ref: ")
    commit = (await asyncio.to_thread(refs_in, folder, ("refs/heads/",))).get(head, head)
    if HASH.fullmatch(commit) is None:  # it has no commit yet
        return []
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
    return sorted(name for name in found if os.path.lexists(top / name))


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


async def _links(git: Git, commit: str) -> frozenset[str]:
    """The paths at which a commit has another repository's."""
    rows = (await git.run("ls-tree", "-r", "-z", "--full-tree", commit)).split(b"\0")
    return frozenset(os.fsdecode(row.split(b"\t", 1)[1]) for row in rows if row.startswith(b"160000 "))


def _folders(place: Place, found: Iterable[tuple[str, Path]]) -> Iterator[tuple[str, Path]]:
    """The git folders that go with a worktree, by what their submodules are called there."""
    yield from _modules(place.entry.admin / "modules", "")
    for path, folder in found:
        if folder == place.path / path / ".git":
            yield path, folder
            yield from _modules(folder / "modules", f"{path}/")


def _modules(modules: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    """The git folders of submodules that git put into a folder for them."""
    for above, _, names in os.walk(modules):
        if "HEAD" in names:
            path = Path(above).relative_to(modules).as_posix().replace("/modules/", "/")
            yield f"{prefix}{path}", Path(above)


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
    # To git a submodule's folder that is gone is a change.
    return f"{shlex.join(['mv', there, str(target)])} && {shlex.join(['mkdir', there])}"


def _saves(folder: Path, own: Path | None, what: str) -> str:
    if own is None:
        return f"git --git-dir={shlex.quote(str(folder))} push origin {what}"
    return f"git -C {shlex.quote(str(own))} fetch {shlex.quote(str(folder))} {what}"
