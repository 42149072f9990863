"""What git cannot put into one file: the other version lies beside it, as `PATH~COMMIT`, until somebody decides.

git itself names what it has no place for so (a file where the other side has a folder). The same name is given here to
what it would keep in its index alone: the other side of a binary file or a link, and what only one side still has.
Whoever settles it removes that file, so that no version is taken by silence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from parallelai.git.merging import Conflicted, Entry
from parallelai.git.plumbing import Git, in_parts
from parallelai.git.repository import Repository
from parallelai.processes.temporary import temporary_folder
from parallelai.results.printable import visible

_BESIDE = re.compile(r"(?P<path>.+)~(?:[0-9a-f]{40}|[0-9a-f]{64})", re.DOTALL)
_LONGEST_NAME = 255
"""Bytes of a file's name, on the file systems that people have."""


def belongs_to(path: str) -> str | None:
    """The path that a file lies beside; None where it lies beside none."""
    found = _BESIDE.fullmatch(path)
    return found["path"] if found is not None else None


def lying_beside(worktree: Path, paths: Iterable[str]) -> list[str]:
    """Say, of those of some files in a worktree that lie beside another one, what each is, and what to do with it."""
    said = []
    for path in paths:
        own = belongs_to(path)
        if own is None:
            continue
        name, other = f"`{visible(own)}`", f"`{visible(path)}`"
        what = f"the other version of {name} lies beside it as {other}: make of {name} what it should be, or remove it"
        if (worktree / own).is_dir() and not (worktree / own).is_symlink():
            what = f"{name} is a folder on one side and a file on the other, which lies beside it as {other}: take over"
            what += " what is right"
        said.append(f"{what}, and remove {other}")
    return said


def files_and_folders(conflicts: Sequence[Conflicted], ours: str, theirs: str) -> tuple[str, ...]:
    """Say, of names that are a file to one side and a folder to the other, which is whose; pure.

    Args:
        conflicts: what git could not merge.
        ours: what the first side of that merge is called, and `theirs` the other.
    """
    found = []
    for each in conflicts:
        if each.kind == "file/directory" and (2 in each.stages) != (3 in each.stages):
            file, folder = (ours, theirs) if 2 in each.stages else (theirs, ours)
            found.append(f"`{visible(named(each))}` is a file in {file}, and a folder in {folder}")
    return tuple(found)


def named(conflict: Conflicted) -> str:
    """The path that a conflict is about, where git has put a file aside because the other side has a folder there."""
    return (belongs_to(conflict.path) if conflict.kind == "file/directory" else None) or conflict.path


def beside(
    conflicts: Sequence[Conflicted], held: Mapping[str, Entry], ours: str, theirs: str
) -> dict[str, Entry] | None:
    """Say what has to lie beside files that git could not merge, and has written no markers into; pure.

    Args:
        conflicts: these files.
        held: what the merged tree has at their paths, as far as it has something there.
        ours: the commit of the workstream, `theirs` that of the target.

    Returns:
        Entries by path, as git names them too; None where something cannot lie in a worktree so: a submodule,
        or a name that would be too long.
    """
    found: dict[str, Entry] = {}
    there = {belongs_to(each.path) for each in conflicts}
    for each in conflicts:
        entry = held.get(each.path)
        if each.kind == "submodule":
            return None
        if entry is None or each.path in there or belongs_to(each.path) is not None:
            continue  # git has put the other one beside it, or the file under the name that it had before is gone
        stage = 3 if each.stages.get(3, entry) != entry or 2 not in each.stages else 2
        name = f"{each.path}~{theirs if stage == 3 else ours}"
        if len(os.fsencode(name.rpartition("/")[2])) > _LONGEST_NAME:
            return None
        found[name] = each.stages.get(stage, entry)
    return found


async def held_at(repository: Repository, tree: str, paths: Collection[str]) -> dict[str, Entry]:
    """What a tree or commit has at some paths, as far as it has a file there. Raises `GitError`."""
    found = {}
    for some in in_parts(paths):
        listed = await repository.git.run("ls-tree", "-z", "--full-tree", tree, "--", *some)
        for row in listed.split(b"\0")[:-1]:
            meta, _, path = row.partition(b"\t")
            mode, kind, blob = meta.decode().split()
            if kind != "tree":
                found[os.fsdecode(path)] = Entry(mode, blob)
    return found


async def with_entries(repository: Repository, tree: str, entries: Mapping[str, Entry]) -> str:
    """Write a tree that has these files, too, and none where the mode is 0. Raises `GitError`."""
    rows = [f"{each.mode} {each.blob}\t".encode() + os.fsencode(path) for path, each in entries.items()]
    with temporary_folder("beside") as folder:
        git = Git(repository.common, index=folder / "index")
        await git.run("read-tree", tree)
        await git.run("update-index", "-z", "--index-info", stdin=b"".join(row + b"\0" for row in rows))
        return await git.line("write-tree")
