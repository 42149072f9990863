"""Conflict markers that a branch has brought itself: what it had before, or the target has, is not held against it.

git tells which files have such lines among what changed, whatever they are called by now; so a file keeps its markers
when somebody renames it, and what was moved or copied by a rename brings none.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from parallelai.git.repository import Repository
from parallelai.results.printable import visible

_CHANGED = "-G^(<<<<<<<|>>>>>>>)( |\r?$)"
_LINE = re.compile(rb"^(?:<{7}|>{7})(?: [^\n]*|\r?)$", re.MULTILINE)
_OURS = re.compile(rb"[<>]{7} [0-9a-f]{40}")
_FILE = "100"
_MOST = 5


@dataclass(frozen=True, slots=True)
class Marker:
    """The first conflict marker that was brought into a file: its path, and its line, from 1.

    `is_ours`: one of them is of a merge that was made here, of commits by their hashes: no text has that by chance.
    """

    path: str
    line: int
    is_ours: bool = False


async def brought(repository: Repository, base: str, tip: str) -> tuple[Marker, ...]:
    """The files into which a branch brought conflict markers since `base`, by path. Raises `GitError`."""
    kind = ("--raw", "--no-abbrev", "--find-renames", "--text", "--no-ext-diff", "--no-textconv")
    listed = await repository.git.run("diff-tree", "-r", "-z", *kind, _CHANGED, base, tip)
    rows = _rows(listed)
    texts = await repository.git.blobs({blob for _, *blobs in rows for blob in blobs})
    found = (first(path, texts.get(before, b""), texts.get(after, b"")) for path, before, after in rows)
    return tuple(sorted((marker for marker in found if marker is not None), key=lambda each: each.path))


def first(path: str, before: bytes, after: bytes) -> Marker | None:
    """The first marker in a text that was not in what the text was before; None where there is none. Pure."""
    known = Counter(line.rstrip(b"\r") for line in _LINE.findall(before))
    new = []
    for each in _LINE.finditer(after):
        text = each[0].rstrip(b"\r")
        known[text] -= 1
        if known[text] < 0:
            new.append(each)
    if not new:
        return None
    line = after.count(b"\n", 0, new[0].start()) + 1
    return Marker(path, line, any(_OURS.match(each[0]) for each in new))


def places(markers: Sequence[Marker]) -> str:
    """Name the files and lines, the first few of many."""
    named = ", ".join(f"`{visible(each.path)}:{each.line}`" for each in markers[:_MOST])
    return f"{named} and {len(markers) - _MOST} more" if len(markers) > _MOST else named


def _rows(listed: bytes) -> list[tuple[str, str, str]]:
    """The files of `diff-tree --raw -z`: the path now, the blob before (zeroes for none), and the blob now."""
    fields = iter(listed.split(b"\0"))
    found = []
    for meta in fields:
        if not meta:
            break
        _, mode, before, after, status = meta.decode().split(" ")
        path = next(fields)
        if status[0] in "RC":
            path = next(fields)
        if mode.startswith(_FILE):
            found.append((os.fsdecode(path), before, after))
    return found
