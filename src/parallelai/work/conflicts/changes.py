"""What commits changed: their paths, and the lines, each by one git process for many commits."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from parallelai.git.plumbing import Git

MOST_LINES = 20_000
"""Changed lines of one commit that are looked at: one that changes more is vendored or generated."""
MOST_WIDE = 2_000
"""Characters of a line that are looked at."""
LARGE = "2m"
"""Files from this size on are compared as a whole."""
FOLDER = "040000"
NOTHING = "000000"
_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_HEAD = re.compile(rb"[0-9a-f]{40,64} [0-9a-f]{40,64}")


class Row(Struct, frozen=True):
    """One changed file: modes (`000000` where there is none) and hashes of content before and after."""

    path: str
    old_mode: str
    new_mode: str
    old: str
    new: str


@dataclass(frozen=True)
class Changes:
    """The files that changed between two trees, and the folders that are gone; renames are not looked for."""

    rows: Mapping[str, Row] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()

    @functools.cached_property
    def folders(self) -> frozenset[str]:
        """All folders around a changed file, without the top."""
        return frozenset(above for path in self.rows for above in parents(path))

    @functools.cached_property
    def grown(self) -> frozenset[str]:
        """All folders around a new file."""
        new = (row.path for row in self.rows.values() if row.old_mode == NOTHING)
        return frozenset(above for path in new for above in parents(path))


class Hunk(Struct, frozen=True):
    """Lines that were replaced: half-open ranges of lines from 0, before and after; either may be empty."""

    old: tuple[int, int]
    new: tuple[int, int]
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


Patch = Mapping[str, tuple[Hunk, ...]]


def parents(path: str) -> Iterator[str]:
    """The folders around a path, the nearest first, without the top."""
    end = path.rfind("/")
    while end > 0:
        yield path[:end]
        end = path.rfind("/", 0, end)


def may_conflict(a: Changes, b: Changes) -> bool:
    """Say whether a merge of two sides could be anything but both changes beside each other.

    False is a proof, for one merge base: no path was changed by both (renamed files count as deleted and
    added), no file of one is a folder of the other, and no folder that one side removed, and may have renamed, got
    new files by the other (git looks for renamed folders only among those that one side has removed).
    """
    return (
        not a.rows.keys().isdisjoint(b.rows.keys())
        or not a.folders.isdisjoint(b.rows.keys())
        or not b.folders.isdisjoint(a.rows.keys())
        or not a.gone.isdisjoint(b.grown)
        or not b.gone.isdisjoint(a.grown)
    )


async def changes(git: Git, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Changes]:
    """Compare each two trees, the old one first. Raises `GitError`."""
    if not pairs:
        return {}
    stdin = "".join(f"{old} {new}\n" for old, new in pairs).encode()
    output = await git.run("diff-tree", "--stdin", "-r", "-t", "-z", "--raw", "--no-renames", stdin=stdin)
    return dict(_listed(output))


def _listed(output: bytes) -> Iterator[tuple[tuple[str, str], Changes]]:
    fields = iter(output.split(b"\0"))
    trees: tuple[str, str] | None = None
    rows: dict[str, Row] = {}
    gone: set[str] = set()
    for meta in fields:
        *heads, row = meta.split(b"\n")
        for head in heads:
            if trees is not None:
                yield trees, Changes(rows, frozenset(gone))
            old_tree, new_tree = head.decode().split(" ")
            trees, rows, gone = (old_tree, new_tree), {}, set()
        if not row:
            continue
        path = os.fsdecode(next(fields))
        old_mode, new_mode, old, new, _ = row.decode().removeprefix(":").split(" ")
        if old_mode == FOLDER and new_mode != FOLDER:
            gone.add(path)
        if FOLDER not in (old_mode, new_mode):
            rows[path] = Row(path, old_mode, new_mode, old, new)
    if trees is not None:
        yield trees, Changes(rows, frozenset(gone))


async def patches(git: Git, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Patch]:
    """Give the changed lines of each two trees by path, as git's merge sees them (its histogram algorithm)."""
    if not pairs:
        return {}
    stdin = "".join(f"{old} {new}\n" for old, new in pairs).encode()
    output = await git.run(
        *("-c", f"core.bigFileThreshold={LARGE}", "-c", "core.quotePath=false"),
        *("diff-tree", "--stdin", "-r", "-p", "--unified=0", "--no-renames", "--no-color", "--no-ext-diff"),
        *("--no-textconv", "--diff-algorithm=histogram", "--no-prefix", "--indent-heuristic"),
        stdin=stdin,
    )
    return dict(_patched(output))


def _patched(output: bytes) -> Iterator[tuple[tuple[str, str], Patch]]:
    trees: tuple[str, str] | None = None
    found: dict[str, list[Hunk]] = {}
    path, budget = "", MOST_LINES
    lines = iter(output.split(b"\n"))
    for line in lines:
        if line.startswith(b"@@"):
            hunk, left = _hunk(line, lines, budget)
            found[path].append(hunk)
            budget = left
        elif line.startswith(b"diff --git "):
            path = _path(line.removeprefix(b"diff --git "))
            found[path] = []
        elif _HEAD.fullmatch(line):
            if trees is not None:
                yield trees, {name: tuple(hunks) for name, hunks in found.items()}
            old, new = line.decode().split(" ")
            trees, found, budget = (old, new), {}, MOST_LINES
    if trees is not None:
        yield trees, {name: tuple(hunks) for name, hunks in found.items()}


def _hunk(head: bytes, lines: Iterator[bytes], budget: int) -> tuple[Hunk, int]:
    found = _HUNK.match(head)
    if found is None:
        return Hunk((0, 0), (0, 0)), budget
    old_at, old_count, new_at, new_count = (1 if text is None else int(text) for text in found.groups())
    texts = []
    for count in (old_count, new_count):
        kept = []
        left = count
        while left:
            line = next(lines, b"")
            if line.startswith(b"\\"):
                continue
            left -= 1
            if budget > 0:
                budget -= 1
                kept.append(line[1 : MOST_WIDE + 1].decode("utf-8", "replace"))
            if not line:
                break
        texts.append(tuple(kept))
    return Hunk(_range(old_at, old_count), _range(new_at, new_count), *texts), budget


def _range(first: int, count: int) -> tuple[int, int]:
    """git counts lines from 1, and names the line before where there are none."""
    return (first, first) if count == 0 else (first - 1, first - 1 + count)


def _path(names: bytes) -> str:
    """The path of a file's head: the same twice, apart by a space, quoted as C does where it has to be."""
    if not names.startswith(b'"'):
        return os.fsdecode(names[: len(names) // 2])
    return os.fsdecode(unquoted(names[1 : len(names) // 2 - 1]))


_ESCAPES = {b"a": 7, b"b": 8, b"t": 9, b"n": 10, b"v": 11, b"f": 12, b"r": 13, b'"': 34, b"\\": 92}
_ESCAPE = re.compile(rb'\\(?:([0-7]{3})|([abtnvfr"\\]))')


def unquoted(text: bytes) -> bytes:
    """Undo git's quoting of a path, without the quotes around it."""
    return _ESCAPE.sub(
        lambda found: bytes([int(found[1], 8) & 255 if found[1] else _ESCAPES[found[2]]]), text
    )
