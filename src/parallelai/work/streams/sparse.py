"""Worktrees that hold a part of the files: for repositories where all of them would take too long.

Git keeps the patterns with the worktree, and for that sets `extensions.worktreeConfig` in the repository's
configuration: the one setting that ParallelAI has written there, and only for a plan that says `sparse`.
(git-sparse-checkout(1), "INTERNALS—CONE MODE"; order as under "git worktree add --no-checkout".)
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace

from parallelai.errors import UsageError
from parallelai.processes.temporary import temporary_folder
from parallelai.work.streams.places import Place

_SPECIAL = re.compile(r"[*?\[\]!\\\"\n]")


def cone(patterns: Sequence[str]) -> tuple[str, ...] | None:
    """The folders that the patterns mean, if they mean whole folders only; else None."""
    folders = []
    for pattern in patterns:
        name = re.sub(r"/(\*\*?)?$", "", pattern).lstrip("/")
        if pattern == name or not name or _SPECIAL.search(name) or name.startswith("#"):
            return None
        folders.append(name)
    return tuple(folders)


async def check_out(place: Place, patterns: Sequence[str]) -> list[str]:
    """Check out the files that patterns select; gives what a person should know. Raises `GitError`, `UsageError`."""
    if any("\n" in pattern for pattern in patterns):
        raise UsageError("a pattern of `sparse` holds a line's end")
    key = "extensions.worktreeconfig"
    before = (await place.repository.git.configured(r"^extensions\.")).get(key)
    folders = cone(patterns)
    mode, chosen = ("--no-cone", tuple(patterns)) if folders is None else ("--cone", folders)
    stdin = "".join(f"{each}\n" for each in chosen).encode("utf-8", "surrogateescape")
    await place.must("sparse-checkout", "set", mode, "--no-sparse-index", "--stdin", stdin=stdin)
    await place.must("read-tree", "-m", "-u", "HEAD")
    if before == "true":
        return []
    return ["the plan says `sparse`: git set `extensions.worktreeConfig` in the repository's configuration"]


async def left_out(place: Place, names: Sequence[str]) -> tuple[str, ...]:
    """Those of some paths that a sparse worktree would not hold, as git says: it lays them out, empty, elsewhere.

    Raises `GitError`, `Trespass`.
    """
    with temporary_folder("sparse") as folder:
        index, top = folder / "index", folder / "top"
        top.mkdir()
        there = Place(place.repository, replace(place.entry, path=top))
        blob = os.fsdecode(await there.must("hash-object", "-w", "--stdin")).strip()
        rows = b"".join(f"100644 {blob}\t".encode() + os.fsencode(name) + b"\0" for name in names)
        await there.must("update-index", "-z", "--index-info", index=index, stdin=rows)
        tree = os.fsdecode(await there.must("write-tree", index=index)).strip()
        index.unlink()
        await there.must("read-tree", "-m", "-u", tree, index=index)
        listed = await there.must("ls-files", "-t", "-z", index=index)
    skipped = {os.fsdecode(row[2:]) for row in listed.split(b"\0") if row.startswith(b"S ")}
    return tuple(name for name in names if name in skipped)
