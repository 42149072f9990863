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
from parallelai.work.guard.published import refs_in
from parallelai.work.scratch.gathering import listing
from parallelai.work.sheltering import HASH
from parallelai.work.streams import nested
from parallelai.work.streams.indexes import copy_plain
from parallelai.work.streams.now import Now, is_below, paths
from parallelai.work.streams.places import Place, entries, first_line, is_linked
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import Streams

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


async def unsafe(place: Place, stream: Stream, commit: str, shelter: Path | None = None) -> Unsafe | None:
    """Give a repository in a worktree of which something would be lost with it, if any. Raises `GitError`, OSError.

    `commit` holds what is there; in `shelter` may lie what the sandbox of a killed attempt had of submodules. Files
    that git ignores are nobody's loss, commits are: also of a repository in an ignored folder.
    """
    if (other := _worktree_in(place)) is not None:
        said = f"another worktree of yours lies in it: `{other.relative_to(place.path)}`"
        return Unsafe(said, shlex.join(["git", "worktree", "move", str(other), _free(place, stream, other)]))
    users = await module_folders(place.repository.git, commit)
    links, heads = await _links(place.repository.git, commit)
    try:
        found = await asyncio.to_thread(lambda: list(nested.repositories(place.path)))
    except PermissionError as error:
        said = (
            f"nobody can say what is in `{os.path.relpath(error.filename, place.path)}`, which cannot be read"
        )
        return Unsafe(said, shlex.join(["chmod", "u+rwx", str(error.filename)]))
    for path, folder in await asyncio.to_thread(lambda: list(_folders(place, found, shelter))):
        if f"{path}/HEAD" in heads:  # a bare one, as plain files
            continue
        is_module = is_below(path, links)
        users_own = users.get(path) if is_module else nested.at(place.repository.root / path)
        has = await asyncio.to_thread(nested.own, folder)
        if has.is_unread:
            said = f"how the repository `{path}` keeps its branches is not read here (reftable)"
            return Unsafe(said, _moves(place, stream, path, folder))
        tip = await nested.beyond(folder, users_own, has)
        if tip is not None:
            said = f"`{path}` has commits there that no remote has"
            return _told(place, stream, said, _Case(path, folder, users_own, tip, is_module))
    for path, folder in found:
        if not is_below(path, links) or folder == place.path / path:
            continue
        if changed := await _changed(folder, users.get(path), place.path / path):
            said = few([f"{path}/{name}" for name in changed])
            command = shlex.join(["git", "-C", str(place.path / path), "status"])
            return Unsafe(
                f"what was changed in the submodule `{path}` is not committed there: {said}", command
            )
    return None


class _Case(Struct, frozen=True):
    """A commit that is nowhere else: where its repository lies, its git folder, and the user's of the same."""

    path: str
    folder: Path
    users: Path | None
    tip: str
    is_module: bool


def _told(place: Place, stream: Stream, said: str, case: _Case) -> Unsafe:
    lies_there = _is_in(case.folder, place.path)
    is_inner = case.is_module or "modules" in case.folder.parts[len(place.path.parts) :]
    if case.users is None and lies_there and not (is_inner and _has_origin(case.folder)):
        return Unsafe(f"the repository {said}", _moves(place, stream, case.path, case.folder))
    branch = f"{case.tip}:refs/heads/{stream.name}-{case.tip[:_SHOWN]}"
    kind = "submodule" if case.is_module else "repository"
    return Unsafe(f"the {kind} {said}", _saves(place, case, branch))


def _worktree_in(place: Place) -> Path | None:
    """Another worktree of the user's repository that lies in a worktree."""
    root = os.path.realpath(place.path)
    for each in entries(place.repository):
        path = Path(os.path.realpath(each.path))
        if is_linked(each) and path != Path(root) and path.is_relative_to(root):
            return place.path / path.relative_to(root)
    return None


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


async def _links(git: Git, commit: str) -> tuple[frozenset[str], frozenset[str]]:
    """The paths at which a commit has another repository's, and those of its files that are called HEAD."""
    rows = (await git.run("ls-tree", "-r", "-z", "--full-tree", commit)).split(b"\0")
    links = frozenset(os.fsdecode(row.split(b"\t", 1)[1]) for row in rows if row.startswith(b"160000 "))
    return links, frozenset(os.fsdecode(row.split(b"\t", 1)[1]) for row in rows if row.endswith(b"/HEAD"))


def _folders(
    place: Place, found: Iterable[tuple[str, Path]], shelter: Path | None
) -> Iterator[tuple[str, Path]]:
    """The git folders that go with a worktree, by what their submodules are called there."""
    yield from _modules(place.entry.admin / "modules", "")
    if shelter is not None:
        yield from _modules(shelter / "admin" / "modules", "")
    for path, folder in found:
        if _is_in(folder, place.path) and not nested.is_linked(folder):
            yield path, folder
            yield from _modules(folder / "modules", f"{path}/")


def _is_in(folder: Path, root: Path) -> bool:
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(root))


def _modules(modules: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    """The git folders of submodules that git put into a folder for them."""
    for above, _, names in os.walk(modules):
        if "HEAD" in names:
            path = Path(above).relative_to(modules).as_posix().replace("/modules/", "/")
            yield f"{prefix}{path}", Path(above)


def _has_origin(folder: Path) -> bool:
    """Whether a repository was told where to push to."""
    try:
        return b'[remote "origin"]' in read_plain(folder / "config", _MOST_BYTES)
    except OSError:
        return False


def _moves(place: Place, stream: Stream, path: str, folder: Path) -> str:
    """The command that moves a repository beside the user's checkout; its git folder alone, if that is elsewhere."""
    there = place.path / path
    if folder not in (there, there / ".git"):
        there = folder
    # To git a submodule's folder that is gone is a change.
    moves = ["mv", str(there), _free(place, stream, there)]
    return f"{shlex.join(moves)} && {shlex.join(['mkdir', str(there)])}"


def _free(place: Place, stream: Stream, there: Path) -> str:
    """A path beside the user's checkout where nothing lies yet."""
    beside = place.repository.root.parent
    ends = ("", *(f"-{each}" for each in range(2, 1000)))
    names = (f"{stream.name}-{there.name}{end}" for end in ends)
    found = next((name for name in names if not os.path.lexists(beside / name)), stream.name)
    return str(beside / found)


def _saves(place: Place, case: _Case, what: str) -> str:
    """The command that brings a commit to the user's git folder of the repository, or to where that came from."""
    words = [
        "git",
        f"--git-dir={case.folder}",
        "push",
        "origin" if case.users is None else str(case.users),
        what,
    ]
    is_in_place = place.entry.admin in case.folder.parents or place.path in case.folder.parents
    if (
        not place.path.is_dir() or not is_in_place
    ):  # the git folder names another, and git would look for that
        words.insert(2, "--work-tree=.")
    elif case.users is not None:
        words = ["git", "-C", str(case.users), "fetch", str(case.folder), what]
    return shlex.join(words)
