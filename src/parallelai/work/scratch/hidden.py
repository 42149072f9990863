"""What git took out of a folder's files for a sparse checkout: it is in no file, and need not be, says git's index.

What was added or committed there is work all the same, and what was there before is no deletion. So it is laid out
again. The index and the objects are the assistant's: paths are looked at, and objects taken that are what they say.
(Marks of an index, and its versions: gitformat-index(5).)
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from parallelai.git.paths import is_gits_own
from parallelai.git.plumbing import Git, is_full, objects_of
from parallelai.processes import Completed
from parallelai.processes.removing import remove
from parallelai.store import faults
from parallelai.work.guard.links import link_above
from parallelai.work.guard.taking_in import take_in
from parallelai.work.scratch.snapshot import Snapshot, listing
from parallelai.work.streams.indexes import copy_whole

FILES = (b"100644", b"100755", b"120000")
_INDEX = "index"
_WITHOUT_MARKS = b"DIRC\0\0\0\2"
_MARKED = b"S "
_FOLDERS = b"sdir"
_ASIDE = ".parallelai-laid-"
_UNWRITTEN = b"unable to write"


def absent(root: Path, names: Iterable[bytes]) -> list[bytes]:
    """Those of some paths at which nothing lies, but for paths that git would not take."""
    return [name for name in names if _is_plain(name) and not _lies(root, os.fsdecode(name))]


def _is_plain(name: bytes) -> bool:
    return not any(part in ("", ".", "..") or is_gits_own(part) for part in os.fsdecode(name).split("/"))


def _lies(root: Path, name: str) -> bool:
    """Whether something lies at a path; nothing does behind a link."""
    return os.path.lexists(root / name) and link_above((root,), name) is None


def _has_place(root: Path, name: str) -> bool:
    """Whether all that lies on the way to a path are folders."""
    above = (root / parent for parent in PurePosixPath(name).parents)
    return not any(path.is_symlink() or (os.path.lexists(path) and not path.is_dir()) for path in above)


async def lay_out(
    git: Git, root: Path, rows: Mapping[bytes, bytes], check_out: Callable[..., Awaitable[Completed]]
) -> list[bytes]:
    """Lay files out, each where there is a place for it and nothing lies; gives the others.

    Each is whole from the moment that it lies there: half a file would count as what somebody wrote.

    Args:
        git: with an index of ours that does not exist yet.
        rows: the files' modes and objects, by name.
        check_out: calls git in the folder with this index, with words and what it reads.

    Raises:
        StoreFullError: they do not fit on the disk.
        GitError, OSError: something else failed.
    """
    await put_in(git, rows)
    aside = await asyncio.to_thread(_made_aside, root)
    words = ("checkout-index", "--quiet", "-z", f"--prefix={aside.name}/", "--stdin")
    try:
        done = await check_out(*words, stdin=listing(map(os.fsdecode, rows)))
        if is_full(done) or _UNWRITTEN in done.stderr:  # its exit does not tell
            raise faults.full(root)
        return await asyncio.to_thread(_put_in_place, root, aside, rows)
    finally:
        await asyncio.to_thread(remove, aside)


def _made_aside(root: Path) -> Path:
    """A new folder, by a name that nobody can have put a link under: git would write to where that leads."""
    for left in root.glob(f"{_ASIDE}*"):  # by a process that was killed
        remove(left)
    aside = root / f"{_ASIDE}{secrets.token_hex(16)}"
    aside.mkdir(mode=0o700)
    return aside


def _put_in_place(root: Path, aside: Path, names: Iterable[bytes]) -> list[bytes]:
    left = []
    for name in names:
        path = os.fsdecode(name)
        try:
            if not _has_place(root, path) or os.path.lexists(root / path):
                raise FileExistsError
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (aside / path).rename(root / path)
        except OSError as error:
            if faults.is_full(error):
                raise
            left.append(name)
    return left


async def put_in(git: Git, rows: Mapping[bytes, bytes]) -> None:
    """Put files into an index, in the place of what is in their way there."""
    stdin = b"".join(b"%b\t%b\0" % (what, name) for name, what in rows.items())
    await git.run("update-index", "-z", "--replace", "--index-info", stdin=stdin)


def has_folders(index: Path) -> bool:
    """Whether an index may name whole folders (`--sparse-index`): without their trees git says nothing of these."""
    return _FOLDERS in index.read_bytes()


async def bring_back(
    snapshot: Snapshot, root: Path, base: str, skipped: frozenset[str], objects: Path
) -> frozenset[str]:
    """Lay out what the git of a scratch folder took out of its files; gives the paths that have no place there.

    `skipped` are the files of `base` that the folder has not; `objects` is where new objects go.
    Raises `GitError`, `StoreError`.
    """
    own = root / ".git"
    if own.is_symlink() or not own.is_dir():
        return frozenset()
    with faults.told(objects):
        return await _bring_back(snapshot, root, base, skipped, objects)


async def _bring_back(
    snapshot: Snapshot, root: Path, base: str, skipped: frozenset[str], objects: Path
) -> frozenset[str]:
    own = root / ".git"
    async with objects_of(snapshot.repository, base) as apart:
        if not await asyncio.to_thread(has_marks, own, apart.git_dir):
            return frozenset()
        git = replace(apart, index=apart.git_dir / _INDEX)
        wanted = await _hidden(git, root, base, skipped, objects)
        if not wanted:
            return frozenset()
        await asyncio.to_thread(_take_in, own, objects)
        git = Git(snapshot.repository, work_tree=root, index=apart.git_dir / "laid")
        left = await lay_out(git, root, wanted, git.attempt)
    return frozenset(map(os.fsdecode, left))


def has_marks(own: Path, copy: Path) -> bool:
    """Copy an index, and say whether it may have marks: to look at its version takes no time."""
    if not copy_whole(own, copy):
        return False
    parts = [copy / _INDEX, *copy.glob("sharedindex.*")]
    return any(not _begins(part, _WITHOUT_MARKS) for part in parts)


def _begins(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start


async def _hidden(
    git: Git, root: Path, base: str, skipped: frozenset[str], objects: Path
) -> dict[bytes, bytes]:
    """The files that an index hides and that are not there, but those that the folder never had."""
    if git.index is not None and await asyncio.to_thread(has_folders, git.index):
        await asyncio.to_thread(_take_in, root / ".git", objects)
    rows = await _marked(git)
    found = await asyncio.to_thread(absent, root, rows)
    if not found:
        return {}
    listed = (await git.run("ls-tree", "-r", "-z", "--full-tree", base)).split(b"\0")
    known = {name: _what(meta) for meta, _, name in (row.partition(b"\t") for row in listed if row)}
    named = {name.encode("utf-8", "surrogateescape") for name in skipped}
    made = (name for name in found if not (name in named and known.get(name) == rows[name]))
    return {name: rows[name] for name in made if rows[name].partition(b" ")[0] in FILES}


async def _marked(git: Git) -> dict[bytes, bytes]:
    """The marked entries of an index: mode and object by name; none where it cannot be read."""
    listed = await git.attempt("ls-files", "-t", "--stage", "-z")
    rows = listed.stdout.split(b"\0") if listed.exit == 0 else []
    parts = (row[2:].partition(b"\t") for row in rows if row.startswith(_MARKED))
    return {name: b" ".join(meta.split(b" ")[:2]) for meta, _, name in parts}


def _what(meta: bytes) -> bytes:
    """Mode and object of a row of a tree."""
    mode, _, blob = meta.split(b" ")[:3]
    return mode + b" " + blob


def _take_in(own: Path, objects: Path) -> None:
    source = own / "objects"
    if not source.is_symlink():
        take_in(source, objects)
