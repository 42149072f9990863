"""The submodules of a commit, and their files as they lie in the user's repository; nothing is fetched.

What `.gitmodules` says is anybody's: a name is only looked up below the user's own folder of modules, through no
link, and git folders that lie in a checkout are not looked at. Of a git folder that is found only the objects are
read, from an empty repository of ours: what it configures itself (filters, hooks, attributes) does not count.
(Where all that is: gitrepository-layout(5).)
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from parallelai.git.paths import is_gits_own
from parallelai.git.plumbing import Git, objects_of
from parallelai.git.repository import Repository

_LINK = b"160000"
_PATHS = r"^submodule\..*\.path$"


@dataclass(frozen=True, slots=True)
class Submodule:
    """A submodule at `path`, which is to be at `commit`.

    `folder` is the user's git folder of it, which has the commit; None where it has not, `is_begun` or not.
    """

    path: str
    commit: str
    folder: Path | None
    is_begun: bool = False


async def submodules(repository: Repository, commit: str) -> tuple[Submodule, ...]:
    """List the submodules of a commit. Raises `GitError`."""
    if not await repository.has_modules(commit):
        return ()
    return await _listed(repository.git, commit, repository.common)


def said_of_missing(paths: Sequence[str]) -> list[str]:
    """What a person should know of submodules that are not checked out."""
    if not paths:
        return []
    advice = "`git submodule update --init --recursive` in your checkout brings them"
    return [f"submodules that are not in your checkout are not in worktrees: {few(paths)} ({advice})"]


def few(paths: Sequence[str]) -> str:
    """Name some paths, and say how many more there are."""
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    return ", ".join(f"`{path}`" for path in paths[:5]) + more


async def module_folders(git: Git, commit: str) -> dict[str, Path]:
    """The user's git folders of the submodules that a commit names, by their paths; of those that are here."""
    names = await _names(git, commit)
    found = {path: _folder(git.git_dir, name) for path, name in names.items()}
    return {path: folder for path, folder in found.items() if folder is not None}


async def names_in(found: Submodule) -> tuple[str, ...]:
    """The paths, from the top of the whole, of what lies directly in a submodule."""
    if found.folder is None:
        return ()
    async with objects_of(found.folder, found.commit) as git:
        listed = await git.run("ls-tree", "-z", "--name-only", found.commit)
    return tuple(f"{found.path}/{os.fsdecode(name)}" for name in listed.split(b"\0") if name)


async def lay_out(found: Submodule, top: Path) -> None:
    """Write the files of a submodule, and of those in it, below a folder; they are plain files, no repository.

    Does nothing where they are not here, where git made no folder for them (a sparse checkout), or where that
    is a repository by now. Raises `GitError`, `OSError`.
    """
    target = top / found.path
    if found.folder is None or not target.is_dir() or os.path.lexists(target / ".git"):
        return
    if target.resolve() != top.resolve() / found.path:  # somebody put a link in its way
        return
    async with objects_of(found.folder, found.commit) as git:
        laying = replace(git, work_tree=target, index=git.git_dir / "index")
        await laying.run("read-tree", found.commit)
        await laying.run("checkout-index", "--all", "--force", "--quiet")
        inside = await _listed(git, found.commit, found.folder)
    for inner in inside:
        await lay_out(inner, target)


async def with_inner(found: Sequence[Submodule]) -> tuple[Submodule, ...]:
    """These submodules and those in them, at any depth, by their paths from the top of the whole. Raises `GitError`."""
    every: list[Submodule] = []
    for each in found:
        every.append(each)
        if each.folder is None:
            continue
        async with objects_of(each.folder, each.commit) as git:
            inside = await _listed(git, each.commit, each.folder)
        below = [replace(one, path=f"{each.path}/{one.path}") for one in inside]
        every += await with_inner(below)
    return tuple(every)


async def _listed(git: Git, commit: str, common: Path) -> tuple[Submodule, ...]:
    """The submodules of a commit; `common` is the git folder that has theirs below it."""
    if (await git.attempt("cat-file", "-e", f"{commit}:.gitmodules")).exit != 0:
        return ()
    listed = await git.run("ls-tree", "-r", "-z", "--full-tree", commit)
    rows = (row.split(b"\t", 1) for row in listed.split(b"\0") if row.startswith(_LINK))
    links = {os.fsdecode(path): meta.split()[2].decode() for meta, path in rows}
    names = await _names(git, commit)
    return tuple([await _found(common, path, names.get(path), links[path]) for path in sorted(links)])


async def _names(git: Git, commit: str) -> dict[str, str]:
    """What `.gitmodules` calls the submodules, by their paths; it may take in no other file."""
    words = ("config", "--blob", f"{commit}:.gitmodules", "--no-includes", "--null", "--get-regexp", _PATHS)
    asked = (await git.attempt(*words)).stdout
    pairs = (os.fsdecode(row).partition("\n") for row in asked.split(b"\0") if row)
    return {path: key.removeprefix("submodule.").removesuffix(".path") for key, _, path in pairs}


async def _found(common: Path, path: str, name: str | None, commit: str) -> Submodule:
    folder = _folder(common, name) if name is not None and _leads_down(path) else None
    if folder is None:
        return Submodule(path, commit, None)
    async with objects_of(folder, commit) as git:
        has_it = (await git.attempt("cat-file", "-e", f"{commit}^{{tree}}")).exit == 0
    return Submodule(path, commit, folder if has_it else None, True)


def _folder(common: Path, name: str) -> Path | None:
    """Where the user's git folder of a submodule is, if it was ever checked out; it is reached through no link."""
    if not _leads_down(name):
        return None
    place = common
    try:
        for part in ("modules", *name.split("/")):
            place /= part
            if not stat.S_ISDIR(place.lstat().st_mode):
                return None
        head, objects = (place / "HEAD").lstat().st_mode, (place / "objects").lstat().st_mode
    except OSError:  # it is not there, or nothing can have such a name
        return None
    return place if stat.S_ISREG(head) and stat.S_ISDIR(objects) else None


def _leads_down(path: str) -> bool:
    """Whether each part of a path is the name of something in the part before, and none is git's own."""
    return all(part not in ("", ".", "..") and not is_gits_own(part) for part in path.split("/"))
