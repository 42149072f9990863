"""What comes along into a worktree from the user's checkout, and what `setup` leaves there: never committed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from parallelai.git.plumbing import Git
from parallelai.git.repository import Repository
from parallelai.git.submodules import Submodule, few, said_of_missing, submodules
from parallelai.work.scratch import bringing as shared
from parallelai.work.scratch.gathering import listing
from parallelai.work.scratch.snapshot import Snapshot
from parallelai.work.streams.now import differences, is_below, paths
from parallelai.work.streams.places import CHANGED, Place
from parallelai.work.streams.record import Stream


class Bring(Struct, frozen=True):
    """What to bring: paths to copy and to link; of these what is not in the worktree yet; where links lead to."""

    copied: tuple[str, ...] = ()
    linked: tuple[str, ...] = ()
    brought: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


async def listed(
    repository: Repository, stream: Stream, copy: tuple[str, ...], link: tuple[str, ...]
) -> Bring:
    """Say what patterns name in the main checkout, and of its `.worktreeinclude`. Raises `UsageError`."""
    if repository.is_bare:
        notes = ("a bare repository has no checkout to copy or link from",) if copy or link else ()
        return Bring(notes=notes)
    included = await _included(repository)
    source = _source(repository, stream)
    return await asyncio.to_thread(_listed, source, Path(stream.worktree), (*copy, *included), link)


def _listed(source: Snapshot, folder: Path, copy: tuple[str, ...], link: tuple[str, ...]) -> Bring:
    copied = [path for path in shared.to_bring(source, copy) if not _is_inside(source.root / path, folder)]
    linked = [path for path in shared.to_bring(source, link) if not _is_inside(source.root / path, folder)]
    brought = [top for path in (*copied, *linked) for top in _missing(source.root, folder, path)]
    targets = [str((source.root / path).resolve()) for path in linked]
    return Bring(tuple(copied), tuple(linked), tuple(dict.fromkeys(brought)), tuple(targets))


def _is_inside(source: Path, folder: Path) -> bool:
    """Whether the worktree lies in what would be copied: worktrees may lie in an ignored folder of the checkout."""
    return folder.is_relative_to(source.resolve())


def _missing(root: Path, folder: Path, path: str) -> list[str]:
    """Of a path that is to be brought what is not there yet: all of it, or parts of a folder that is."""
    there = folder / path
    if not os.path.lexists(there):
        return [path]
    source = root / path
    if there.is_symlink() or source.is_symlink() or not there.is_dir() or not source.is_dir():
        return []
    names = sorted(os.listdir(source))  # noqa: PTH208 -- names alone
    return [top for name in names for top in _missing(root, folder, f"{path}/{name}")]


def bring(repository: Repository, stream: Stream, what: Bring) -> None:
    """Copy and link. What is there already stays, but for files that a killed start did not copy to their end."""
    source, folder, ours = _source(repository, stream), Path(stream.worktree), frozenset(stream.brought)
    for path in what.copied:
        for each in shared.below(source.root / path):
            name = each.relative_to(source.root)
            if is_below(str(name), ours):
                _clear_half(each, folder / name)
    shared.copy_in(source, folder, what.copied)
    shared.link_in(source, folder, what.linked)


def _clear_half(source: Path, copy: Path) -> None:
    if copy.is_symlink() or not copy.is_file() or source.is_symlink() or not source.is_file():
        return
    if copy.stat().st_size < source.stat().st_size:
        size = copy.stat().st_size
        with source.open("rb") as one, copy.open("rb") as other:
            is_half = one.read(size) == other.read(size)
        if is_half:
            copy.unlink()


async def settle(place: Place, stream: Stream) -> tuple[list[str], list[str]]:
    """After `setup`: name what is new and not ignored, and put back what git tracks; gives both."""
    tip = stream.head
    index = place.index
    tracked, new, _ = await differences(place, stream, tip, index, is_whole=False)
    brought = frozenset(stream.brought)
    new = [name.rstrip("/") for name in new if not is_below(name, brought)]
    await place.inside("update-index", "-q", "--refresh")
    changed = paths(await place.must(*CHANGED))
    if changed:
        await place.must("checkout-index", "-f", "-u", "-z", "--stdin", stdin=listing(changed))
    return new, sorted({*changed} & {*tracked})


async def modules(repository: Repository, stream: Stream) -> tuple[Submodule, ...]:
    """The submodules of the commit that a workstream begins at."""
    return await submodules(repository, stream.base)


def said_of(found: Sequence[Submodule]) -> list[str]:
    """What a person should know of the submodules in a worktree, at any depth."""
    there = [each.path for each in found if each.folder is not None]
    notes = []
    if there:
        notes.append(
            f"submodules are there as plain files, to read; changes of them are not taken: {few(there)}"
        )
    return [*notes, *said_of_missing([each.path for each in found if each.folder is None])]


async def _included(repository: Repository) -> tuple[str, ...]:
    """The ignored files that the project's `.worktreeinclude` names, by the rules of a `.gitignore`."""
    patterns = repository.root / shared.INCLUDE_FILE
    if patterns.is_symlink() or not patterns.is_file():
        return ()
    git = Git(repository.common, work_tree=repository.root)
    words = ("ls-files", "-z", "--others", "--ignored", f"--exclude-from={patterns}")
    return tuple(name for name in paths(await git.run(*words)) if not name.endswith("/"))


def _source(repository: Repository, stream: Stream) -> Snapshot:
    """The main checkout, as those take it who bring files to scratch folders."""
    return Snapshot(repository.root, repository.common, repository.common / "objects", stream.base)
