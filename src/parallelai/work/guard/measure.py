"""What differs in a worktree from a commit, seen on the file system, however it was written.

Every file is looked at by git's own rules for what changed, with an index of ours that no assistant wrote. What no
patch can hold (pipes, other repositories inside, huge files, names that git keeps for itself) is named apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from msgspec import Struct, field

from parallelai.errors import Trespass
from parallelai.git.paths import is_gits_own
from parallelai.git.plumbing import Git, GitError
from parallelai.work.guard.place import Place, listing, names_of
from parallelai.work.guard.rules import Changed, Status, Why
from parallelai.work.guard.steady import refuse_unsteady
from parallelai.work.scratch.measuring import MAX_FILE_BYTES, clear_pipes, leads_out

RULE_FILES = frozenset({".gitignore", ".gitattributes"})
"""Files by which git decides what else it sees, and how; they are judged before all others."""
_TRIES = 3
_NOTHING = "000000"
_LINK, _REPOSITORY = "120000", "160000"
_STATUS: Mapping[str, Status] = {"A": "added", "D": "deleted", "M": "changed", "T": "changed", "R": "renamed"}

Entry = tuple[str, str]
"""git's mode and the object's name."""
Mark = tuple[int, int, int]
"""By which a file is known again: inode, size, time of the last write in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Found:
    """One change, with what git has of each side."""

    change: Changed
    before: Entry | None
    after: Entry | None


class Measured(Struct, frozen=True):
    """How a worktree differs from `head`.

    Attributes:
        tree: all that lies there, as a tree; `special` is in it as `head` has it.
        special: paths of which no patch can hold what lies there, and why.
        marks: of the files that were read, as they were before that.
    """

    head: str
    tree: str
    found: tuple[Found, ...]
    special: Mapping[str, Why] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)


class Look(Struct):
    """What lies at paths that differ."""

    lying: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    special: dict[str, Why] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)


async def prepare(place: Place, head: str, skipped: Collection[str]) -> None:
    """Let our index say what `head` holds; `skipped` are paths that a sparse worktree has not checked out."""
    await asyncio.to_thread(make_readable, place.worktree)
    if (await place.attempt("read-tree", "-m", head)).exit != 0:
        place.settings.index.unlink(missing_ok=True)
        place.settings.index.with_name("index.lock").unlink(missing_ok=True)
        await place.run("read-tree", head)
    tagged = names_of(await place.run("ls-files", "-v", "-z"))
    assumed = {row[2:] for row in tagged if row[0].islower()}
    if assumed:  # somebody told git not to look at them
        await place.run("update-index", "-z", "--no-assume-unchanged", "--stdin", stdin=listing(assumed))
    absent, there = set[str](), set[str]()
    for path in {row[2:] for row in tagged}.intersection(skipped):
        (there if os.path.lexists(place.worktree / path) else absent).add(path)
    if absent:
        await place.run("update-index", "-z", "--skip-worktree", "--stdin", stdin=listing(absent))
    if there:
        await place.run("update-index", "-z", "--no-skip-worktree", "--stdin", stdin=listing(there))


async def changed_names(place: Place) -> frozenset[str]:
    """The paths that differ from our index, and those that are new and not ignored; after `prepare`."""
    await place.attempt("update-index", "-q", "--unmerged", "--ignore-submodules", "--refresh")
    names = set(names_of(await place.run("diff-files", "--name-only", "-z", "--ignore-submodules=dirty")))
    names.update(names_of(await place.run("ls-files", "--others", "--exclude-standard", "-z")))
    return frozenset(name for name in names if not is_below(name, place.settings.brought))


async def measure(
    place: Place, head: str, names: Collection[str], *, modules: Collection[str] = ()
) -> Measured:
    """Measure paths of a worktree against a commit.

    Args:
        names: those that `changed_names` gave; or some of them.
        modules: new submodules that somebody allowed; other repositories inside are special.

    Raises `GitError`, and `Unavailable` where a filter of git's makes something else of a file each time.
    """
    for left in reversed(range(_TRIES)):
        look = await _look_around(place, names, modules)
        try:
            await _take_up(place, look)
            await refuse_unsteady(place, look.marks)
            break
        except GitError:  # what lies there became something else meanwhile
            if not left:
                raise
    plumbing = place.plumbing(place.settings.index)
    tree = await plumbing.line("write-tree", "--missing-ok")
    listed = await plumbing.run(
        "diff-tree", "-r", "-z", "--raw", "--no-abbrev", "-M", f"{head}^{{tree}}", tree
    )
    found = await with_targets(plumbing, rows_of(listed), place.worktree)
    return Measured(head, tree, tuple(found), look.special, look.marks)


async def _look_around(place: Place, names: Collection[str], modules: Collection[str]) -> Look:
    entries = await place.run("ls-files", "--stage", "-z") if names else b""
    repositories = {
        os.fsdecode(row.split(b"\t", 1)[1]) for row in entries.split(b"\0") if row.startswith(b"160000 ")
    }
    return await asyncio.to_thread(look_at, place.worktree, names, repositories.union(modules))


async def _take_up(place: Place, look: Look) -> None:
    """Bring what lies there into our index."""
    if look.gone:
        await place.run("update-index", "-z", "--force-remove", "--stdin", stdin=listing(look.gone))
    if look.lying:
        stdin = listing(look.lying)
        await place.run("update-index", "-z", "--add", "--remove", "--replace", "--stdin", stdin=stdin)


def look_at(root: Path, names: Iterable[str], repositories: Collection[str] = ()) -> Look:
    """Sort names below a folder by what lies there; `repositories` are paths that may be one."""
    look = Look()
    for name in names:
        path = name.removesuffix("/")
        if any(map(is_gits_own, PurePosixPath(path).parts)):
            look.special[path] = "gits_own"
            continue
        kind = None if _is_behind_link(root, path) else _lstat(root / path)
        if kind is None:
            look.gone.add(path)
        else:
            _sort(look, root, path, kind, repositories)
    return look


def _sort(look: Look, root: Path, path: str, found: os.stat_result, repositories: Collection[str]) -> None:
    if stat.S_ISDIR(found.st_mode):
        if path in repositories:
            look.lying.add(path)
        elif os.path.lexists(root / path / ".git"):
            look.special[path] = "repository"
        else:
            look.gone.add(path)
        return
    look.marks[path] = mark_of(found)
    if not stat.S_ISLNK(found.st_mode) and not stat.S_ISREG(found.st_mode):
        look.special[path] = "no_file"
    elif found.st_size > MAX_FILE_BYTES:
        look.special[path] = "too_large"
    elif stat.S_ISREG(found.st_mode) and not _is_readable(root / path, found):
        look.special[path] = "unreadable"
    else:
        look.lying.add(path)


def _is_readable(path: Path, found: os.stat_result) -> bool:
    """Whether a file can be read, if need be after its owner got the right to."""
    if not os.access(path, os.R_OK):
        with contextlib.suppress(OSError):
            path.chmod(stat.S_IMODE(found.st_mode) | stat.S_IRUSR)
    return os.access(path, os.R_OK)


def mark_of(status: os.stat_result) -> Mark:
    """By what a file is known again, also after it was moved."""
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_behind_link(root: Path, path: str) -> bool:
    parents = list(PurePosixPath(path).parents)[:-1]
    return any((root / parent).is_symlink() for parent in parents)


def is_below(name: str, tops: Collection[str]) -> bool:
    """Whether a path is one of these, or lies below one."""
    name = name.removesuffix("/")
    return name in tops or (bool(tops) and any(str(parent) in tops for parent in PurePosixPath(name).parents))


def rows_of(listed: bytes) -> list[Found]:
    """Read `git diff-tree --raw -z`: a renamed file has two names."""
    fields = iter(listed.split(b"\0"))
    rows = []
    for meta in fields:
        if not meta.startswith(b":"):
            continue
        old_mode, new_mode, old, new, letter = meta[1:].decode().split(" ")
        first = os.fsdecode(next(fields))
        status = _STATUS[letter[0]]
        path = os.fsdecode(next(fields)) if status == "renamed" else first
        before = None if old_mode == _NOTHING else (old_mode, old)
        after = None if new_mode == _NOTHING else (new_mode, new)
        old_path = first if status == "renamed" else None
        change = Changed(path, status, old_path, before and before[0], after and after[0])
        rows.append(Found(change, before, after))
    return rows


async def with_targets(git: Git, rows: list[Found], root: Path) -> list[Found]:
    """Read where the links lead that are new or changed; None for one that leads out of the worktree at `root`."""
    links = {row.after[1] for row in rows if row.after is not None and row.after[0] == _LINK}
    targets = await git.blobs(links)
    return [_with_target(row, targets, root) for row in rows]


def _with_target(row: Found, targets: Mapping[str, bytes], root: Path) -> Found:
    if row.after is None or row.after[0] != _LINK:
        return row
    path = root / row.change.path
    # As it is written it may stay inside, and lead out through another link.
    is_bad = path.is_symlink() and leads_out(root, str(path))
    target = None if is_bad else targets.get(row.after[1])
    return replace(row, change=replace(row.change, target=target))


def make_readable(root: Path) -> None:
    """Give back the rights to look into folders, and remove what git would wait for (`clear_pipes`).

    Raises `Trespass` if the worktree's folder was replaced by a link.
    """
    if root.is_symlink():
        raise Trespass("the folder that it worked in was replaced by a link", next="look at what it did")

    def allow(error: OSError) -> None:
        if isinstance(error, PermissionError) and error.filename is not None:
            _allow(str(error.filename), again)

    again: list[str] = []
    waiting = [str(root)]
    while waiting:
        for _ in os.walk(waiting.pop(), onerror=allow):
            pass
        waiting, again[:] = [*waiting, *again], []
    clear_pipes(root)


def _allow(folder: str, again: list[str]) -> None:
    """Let the owner look into a folder; never through a link."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            if mode & 0o700 != 0o700:
                os.chmod(f"/proc/self/fd/{descriptor}", mode | 0o700)  # noqa: PTH101
                again.append(folder)
        finally:
            os.close(descriptor)
