"""What a difference takes away, laid beside the files that it leaves: no file that is left shows that to a reviewer."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from parallelai.git.plumbing import Git

MOST_BYTES = 200_000
"""How much of a difference one file holds, unless that of a single file is more."""
_STARTS = re.compile(rb"^(?=diff --git )", re.MULTILINE)


async def lay_removed(folder: Path, base: str, commit: str) -> None:
    """Add the differences of all files that lose lines, or are gone, to a repository's files and its index.

    They are called `removed-1.diff` and so on; a file of the project is never written over. The repository is one of
    ours, made for the review alone.
    """
    git = Git(folder / ".git", work_tree=folder, index=folder / ".git" / "index")
    await asyncio.to_thread(_show_all, folder / ".git" / "info" / "attributes")
    patch = await git.run("diff-tree", "-r", "-p", "--find-renames", base, commit)
    names = []
    for number, text in enumerate(_packed(taking_away(patch)), 1):
        name = f"removed-{number}.diff"
        while os.path.lexists(folder / name):
            name = f"merge-{name}"
        await asyncio.to_thread((folder / name).write_bytes, text)
        names.append(name)
    if names:  # known to git, so that no pattern of the project's makes it ignore them
        await git.run("update-index", "--add", "--", *names)


def _show_all(attributes: Path) -> None:
    """Let git show the differences of all text: a `.gitattributes` may say `-diff`, also one that is to land."""
    with attributes.open("ab") as file:
        file.write(b"\n* !diff\n")


def taking_away(patch: bytes) -> list[bytes]:
    """Give the parts of a patch, one for each file, that take something away. Pure."""
    return [part for part in _STARTS.split(patch) if _takes(part)]


def _takes(part: bytes) -> bool:
    header, _, body = part.partition(b"\n@@ ")
    return b"\ndeleted file mode" in header or b"\n-" in body


def _packed(parts: list[bytes]) -> list[bytes]:
    packed: list[bytes] = []
    for part in parts:
        if packed and len(packed[-1]) + len(part) <= MOST_BYTES:
            packed[-1] += part
        else:
            packed.append(part)
    return packed
