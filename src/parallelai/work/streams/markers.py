"""Conflict markers that a branch has brought itself: what it had before, or the target has, is not held against it.

git tells which files have such lines among what changed, whatever they are called by now; so a file keeps its markers
when somebody renames it, and what was moved or copied by a rename brings none.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from parallelai.git.plumbing import failure, in_parts
from parallelai.git.repository import Repository
from parallelai.results.printable import visible

_CHANGED = "-G^(<<<<<<<|>>>>>>>)( |\r?$)"
_LINE = "^(<<<<<<<|>>>>>>>)( .{0,200}|\r?$)"
LONGEST_LABEL = 120
"""Bytes of the name that a merge made here puts before the commit of a side."""
_OURS = re.compile(rb"[<>]{7} (?:[^ ]{1,%d} )?[0-9a-f]{40}" % LONGEST_LABEL)
_FILE = "100"
_MOST = 5
_MOST_OF_A_FILE = 5000

Line = tuple[int, bytes]
"""A line that is a marker, as far as it is told apart from others: its number, from 1, and its beginning."""


class Marker(Struct, frozen=True):
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
    lines = await _marked(repository, {blob for _, *blobs in rows for blob in blobs if blob.strip("0")})
    found = (first(path, lines.get(before, ()), lines.get(after, ())) for path, before, after in rows)
    return tuple(sorted((marker for marker in found if marker is not None), key=lambda each: each.path))


def first(path: str, before: Sequence[Line], after: Sequence[Line]) -> Marker | None:
    """The first marker in a file that was not in what the file was before; None where there is none. Pure."""
    known = Counter(text for _, text in before)
    new = []
    for line, text in after:
        known[text] -= 1
        if known[text] < 0:
            new.append((line, text))
    return Marker(path, new[0][0], any(_OURS.match(text) for _, text in new)) if new else None


def places(markers: Sequence[Marker]) -> str:
    """Name the files and lines, the first few of many."""
    named = ", ".join(f"`{visible(each.path)}:{each.line}`" for each in markers[:_MOST])
    return f"{named} and {len(markers) - _MOST} more" if len(markers) > _MOST else named


async def _marked(repository: Repository, blobs: Collection[str]) -> Mapping[str, Sequence[Line]]:
    """The markers in contents, by their hashes. git reads them: of a large one not even its lines are held here."""
    found: dict[str, list[Line]] = {}
    words = ("grep", "--text", "-n", "-o", "-E", f"--max-count={_MOST_OF_A_FILE}", "-e", _LINE)
    for part in in_parts(sorted(blobs)):
        done = await repository.git.attempt(*words, *part, "--")
        if done.exit not in (0, 1) or done.is_truncated:
            raise failure(words, done)
        for row in done.stdout.split(b"\n")[:-1]:
            blob, line, text = row.split(b":", 2)
            found.setdefault(blob.decode(), []).append((int(line), text.rstrip(b"\r")))
    return found


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
