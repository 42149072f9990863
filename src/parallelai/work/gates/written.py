"""What a command wrote into a prepared folder, as git would store it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from parallelai.git.plumbing import Git
from parallelai.work.scratch.snapshot import listing

_FILES = ("100644", "100755")
Written = dict[str, bytes | None]


async def written(git: Git, temporary: Path, also: Collection[str]) -> Written:
    """Give the content of each file that is no longer as it was laid out; None is no file, or no plain one.

    `git` has the folder's index, which stays as it is; `also` are paths that were not laid out and are looked at,
    too. Raises `GitError` where one cannot be read, OSError where the index cannot be copied to `temporary`.
    """
    index = temporary / "index"
    if git.index is not None:
        await asyncio.to_thread(shutil.copy2, git.index, index)
    git = replace(git, index=index)
    await git.attempt("update-index", "-q", "--refresh")
    names = {os.fsdecode(name) for name in _rows(await git.run("diff-files", "-z", "--name-only"))}
    names.update(also)
    await git.run("update-index", "-z", "--add", "--remove", "--replace", "--stdin", stdin=listing(names))
    blobs: dict[str, str] = {}
    for row in _rows(await git.run("ls-files", "-z", "--stage")):
        meta, name = row.split(b"\t", 1)
        mode, blob, _ = meta.decode().split(" ")
        if mode in _FILES and (path := os.fsdecode(name)) in names:
            blobs[path] = blob
    contents = await git.blobs(set(blobs.values()))
    return {path: contents[blobs[path]] if path in blobs else None for path in names}


def _rows(listed: bytes) -> list[bytes]:
    return listed.split(b"\0")[:-1]
