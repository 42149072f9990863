"""What is kept out of a workstream: as a patch on the disk first, and only then out of the worktree.

What no patch can hold (other repositories, huge files) is moved beside the patch. A file is taken out of its place
before it is dropped, and dropped only if it still is what the patch was made of, so that no byte is lost even to
somebody who writes meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from msgspec import Struct

from parallelai.git.plumbing import GitError
from parallelai.processes.removing import remove
from parallelai.work.checkout.placing import NotWritten, opened
from parallelai.work.guard.measure import Entry, Found, Mark, Measured, mark_of
from parallelai.work.guard.place import Place, listing

_MOST_PATCHES = 10_000
_REPOSITORY = "160000"


class Written(Struct, frozen=True):
    """A patch on the disk (absolute), None where there was nothing to put in it; `aside` lies beside it."""

    patch: Path | None
    aside: Path


class Left(Struct, frozen=True):
    """What could not be taken out of the worktree, and what lies in `aside` because no patch has it."""

    stuck: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()


# -- the patch


async def write_patch(place: Place, head: str, tree: str, name: str) -> Written:
    """Write the patch from a commit to a tree, down to the disk.

    Names that swap with folders are told without renames, which `git apply` would not take.
    """
    git = place.plumbing()
    sides = (f"{head}^{{tree}}", tree)
    listed = await git.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", *sides)
    names = set(listed.split(b"\0"))
    is_swapped = any(parent in names for path in names if path for parent in _parents(path))
    renames = "--no-renames" if is_swapped else "-M"
    try:
        patch = await git.run("diff-tree", "-r", "-p", "--binary", "--full-index", renames, *sides)
    except GitError:  # larger than what is held in memory: the files themselves are kept
        patch = b""
    return await asyncio.to_thread(keep_patch, place.settings.patches, name, patch)


def _parents(path: bytes) -> list[bytes]:
    parts = path.split(b"/")
    return [b"/".join(parts[:end]) for end in range(1, len(parts))]


def keep_patch(folder: Path, name: str, patch: bytes) -> Written:
    """Write a patch under the first free number; it is whole from the moment that it has its name."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for number in range(1, _MOST_PATCHES):
        path = folder / f"{name}-{number:04}.patch"
        aside = path.with_suffix(".files")
        if path.exists() or aside.exists():
            continue
        if not patch:
            aside.mkdir(mode=0o700)
            return Written(None, aside)
        part = folder / f".{path.name}.{os.getpid()}"
        try:
            with part.open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(patch)
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)
        sync(folder)
        return Written(path, aside)
    raise FileExistsError(errno.EEXIST, "too many patches", str(folder))


def sync(folder: Path) -> None:
    """Let what was named in a folder last, also if the machine stops."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def tree_of(place: Place, head: str, found: Iterable[Found]) -> str:
    """Make the tree that a commit and some changes give."""
    index = place.settings.index.with_name("other-index")
    index.unlink(missing_ok=True)
    git = place.plumbing(index)
    await git.run("read-tree", head)
    await git.run("update-index", "-z", "--replace", "--index-info", stdin=_index_info(after(found), head))
    return await git.line("write-tree", "--missing-ok")


def before(found: Iterable[Found]) -> dict[str, Entry | None]:
    """What the base has at the paths of changes."""
    sides: dict[str, Entry | None] = {}
    for each in found:
        change = each.change
        if change.old_path is not None:
            sides[change.old_path] = each.before
            sides.setdefault(change.path, None)
        else:
            sides[change.path] = each.before
    return sides


def after(found: Iterable[Found]) -> dict[str, Entry | None]:
    """What changes put at their paths."""
    sides: dict[str, Entry | None] = {}
    for each in found:
        change = each.change
        if change.old_path is not None:
            sides.setdefault(change.old_path, None)
        sides[change.path] = each.after
    return sides


def _index_info(sides: Mapping[str, Entry | None], head: str) -> bytes:
    """Lines for `git update-index --index-info -z`: what goes first, so that it makes room."""
    nothing = "0" * len(head)
    rows = sorted(sides.items(), key=lambda item: (item[1] is not None, item[0]))
    lines = []
    for path, entry in rows:
        mode, blob = entry if entry is not None else ("0", nothing)
        lines.append(f"{mode} {blob}\t".encode() + os.fsencode(path) + b"\0")
    return b"".join(lines)


# -- out of the worktree


async def take_out(
    place: Place,
    measured: Measured,
    found: Sequence[Found],
    special: Mapping[str, Entry | None],
    written: Written,
) -> Left:
    """Make paths of the worktree, and of our index, what the base has; the patch is on the disk by now.

    `special` are paths of which no patch holds anything, with what the base has there.
    """
    wanted = {**before(found), **special}
    in_patch = set(before(found)) if written.patch is not None else set()
    marks = {path: mark for path, mark in measured.marks.items() if path in in_patch}
    stuck = await asyncio.to_thread(take_away, place.worktree, wanted, marks, written.aside)
    free = {path: entry for path, entry in wanted.items() if path not in stuck}
    await place.run(
        "update-index", "-z", "--replace", "--index-info", stdin=_index_info(wanted, measured.head)
    )
    back = {path for path, entry in free.items() if entry is not None and entry[0] != _REPOSITORY}
    if back:
        await place.run("checkout-index", "--force", "--index", "-z", "--stdin", stdin=listing(back))
    return Left(tuple(sorted(stuck)), await asyncio.to_thread(_kept_files, written.aside))


def take_away(
    root: Path, wanted: Mapping[str, Entry | None], marks: Mapping[str, Mark], aside: Path
) -> set[str]:
    """Move away what lies at paths, and what is in the way of what the base has there; gives what would not go."""
    stuck: set[str] = set()
    for path, entry in wanted.items():
        is_repository = entry is not None and entry[0] == _REPOSITORY
        try:
            if not (is_repository and _is_folder(root / path)):
                _move(root, path, aside, marks.get(path))
            if entry is not None:
                _clear_way(root, path, aside)
            if is_repository:  # one that is not checked out is an empty folder
                (root / path).mkdir(parents=True, exist_ok=True)
        except (OSError, NotWritten):
            stuck.add(path)
    for path, entry in wanted.items():
        if entry is None:
            _prune(root, path)
    _prune_all(aside)
    return stuck


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _clear_way(root: Path, path: str, aside: Path) -> None:
    """Move away what is no folder where one has to be: links, and files that git ignores."""
    for parent in reversed(list(PurePosixPath(path).parents)[:-1]):
        place = root / parent
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            _move(root, str(parent), aside, None)


def _move(root: Path, path: str, aside: Path, mark: Mark | None) -> None:
    """Take away what lies at a path; it is dropped where `mark` proves that a patch holds it."""
    clean = PurePosixPath(path)
    try:
        with opened(root, str(clean.parent)) as folder:
            found = os.stat(clean.name, dir_fd=folder, follow_symlinks=False)
            if (
                not stat.S_ISREG(found.st_mode)
                and not stat.S_ISLNK(found.st_mode)
                and not stat.S_ISDIR(found.st_mode)
            ):
                os.unlink(clean.name, dir_fd=folder)  # a pipe or socket holds nothing
                return
            target = _free(aside / clean)
            _rename(folder, clean.name, root / clean, target)
    except (FileNotFoundError, NotADirectoryError, NotWritten):
        return  # nothing lies there, for git
    if mark is not None and mark_of(target.lstat()) == mark:
        target.unlink()


def _rename(folder: int, name: str, source: Path, target: Path) -> None:
    try:
        os.rename(name, target, src_dir_fd=folder)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    """Move to another file system: the copy is on the disk before the original goes."""
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True)
        os.sync()
        remove(source)
        return
    shutil.copy2(source, target, follow_symlinks=False)
    if not target.is_symlink():
        with target.open("rb") as file:
            os.fsync(file.fileno())
    source.unlink()


def _free(target: Path) -> Path:
    """A name beside the patch that nothing has yet; its folder is made."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    number = 0
    found = target
    while os.path.lexists(found):
        number += 1
        found = target.with_name(f"{target.name}.{number}")
    return found


def _prune(root: Path, path: str) -> None:
    """Remove the folders that were emptied."""
    for parent in list(PurePosixPath(path).parents)[:-1]:
        try:
            with opened(root, str(parent.parent)) as folder:
                os.rmdir(parent.name, dir_fd=folder)
        except (OSError, NotWritten):
            return


def _prune_all(folder: Path) -> None:
    """Remove the empty folders of a folder, and itself if nothing is left."""
    if not folder.is_dir() or folder.is_symlink():
        return
    for top, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(top).rmdir()


def _kept_files(aside: Path) -> tuple[str, ...]:
    if not aside.is_dir():
        return ()
    return tuple(sorted(path.name for path in aside.iterdir()))
