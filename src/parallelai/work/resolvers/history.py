"""What history says of conflicting files: what each side's own commits did to them. Bounded.

Three processes a side for some thousand files. Changes are those of all commits that the other side does not
have, merges excepted. Contents are those that the side itself had, one after the other (its first parents): what a
branch had that was merged into it may be older than where the two sides parted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping

from msgspec import Struct, field

from parallelai.git.plumbing import Git, in_parts
from parallelai.work.resolvers.lines import lines
from parallelai.work.resolvers.records import History, Past, Replaced

COMMITS = 300
"""Commits of a side that are looked at, the newest."""
VERSIONS = 30
"""Contents of one file that are read, the newest."""
CHANGES = 60
"""Commits of one file whose changes are kept, the newest."""
MAX_BYTES = 1024 * 1024
"""Contents that are larger are left out, and patches beyond 64 times this."""
_HUNK = re.compile(rb"^@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@")


async def gather(git: Git, ours: str, theirs: str, paths: Collection[str]) -> Mapping[str, History]:
    """Give what each side did since the other had it, for each path. Raises `GitError`."""
    wanted = sorted(set(paths))
    found: dict[str, History] = {}
    for some in in_parts(wanted):
        mine, other = await _side(git, ours, theirs, some), await _side(git, theirs, ours, some)
        found |= {path: History(mine.get(path, Past()), other.get(path, Past())) for path in some}
    return found


class _Found(Struct):
    """What is being put together of one file, newest first."""

    blobs: dict[str, None] = field(default_factory=dict)
    changes: list[tuple[Replaced, ...]] = field(default_factory=list)
    is_cut: bool = False

    def add(self, change: tuple[Replaced, ...]) -> None:
        """Take one more change in; one without lines (of a binary file) is not known."""
        if change and len(self.changes) < CHANGES:
            self.changes.append(change)
        else:
            self.is_cut = True


async def _side(git: Git, tip: str, without: str, paths: list[str]) -> dict[str, Past]:
    form = ("--full-history", "--date-order", f"--max-count={COMMITS}")
    kind = ("--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "--full-index", "--no-abbrev")
    asked = (*form, *kind, tip, f"^{without}", "--", *paths)
    found = {path: _Found() for path in paths}
    listed = await git.attempt("log", "-z", "--raw", "--first-parent", "-m", "--format=", *asked)
    for path, new in _raw(listed.stdout if listed.exit == 0 else b""):
        if path in found:
            found[path].blobs[new] = None
    patches = await git.attempt(
        "log", "--patch", "--unified=0", "--no-merges", "--format=tformat:commit", *asked
    )
    text = patches.stdout if patches.exit == 0 and len(patches.stdout) <= 64 * MAX_BYTES else b""
    is_cut = not text or lines(text).count(b"commit\n") >= COMMITS
    for path, replaced in _patches(text):
        if path in found:
            found[path].add(replaced)
    contents = await _contents(git, found)
    return {
        path: Past(
            tuple(contents[b] for b in _few(one) if b in contents), tuple(one.changes), is_cut or one.is_cut
        )
        for path, one in found.items()
    }


def _few(found: _Found) -> list[str]:
    return [blob for blob in found.blobs if blob.strip("0")][:VERSIONS]


async def _contents(git: Git, found: Mapping[str, _Found]) -> dict[str, bytes]:
    names = {blob for one in found.values() for blob in _few(one)}
    if not names:
        return {}
    stdin = "".join(f"{name}\n" for name in sorted(names)).encode()
    sizes = await git.run("cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)", stdin=stdin)
    rows = (row.split(b" ") for row in sizes.splitlines())
    small = [
        row[0].decode() for row in rows if len(row) == 3 and row[1] == b"blob" and int(row[2]) <= MAX_BYTES
    ]
    return await git.blobs(small)


def _raw(listed: bytes) -> Iterator[tuple[str, str]]:
    """The rows of `git log --raw -z`: path, and the blob that a commit put there."""
    fields = iter(listed.split(b"\0"))
    for meta in fields:
        row = meta.strip(b"\n").split(b" ")
        if len(row) == 5 and row[0].startswith(b":"):
            yield os.fsdecode(next(fields, b"")), row[3].decode()


def _patches(text: bytes) -> Iterator[tuple[str, tuple[Replaced, ...]]]:
    """The files of `git log --patch --unified=0`: path, and what was replaced in it, in order.

    A hunk's lines are counted by their signs; nothing in a content can be taken for a head, because all of
    its lines have one.
    """
    path: str | None = None
    hunks: list[tuple[list[bytes], list[bytes]]] = []
    for line in lines(text):
        if line.startswith(b"diff --git "):
            if path is not None:
                yield path, _replaced(hunks)
            path, hunks = _named(line), []
        elif _HUNK.match(line):
            hunks.append(([], []))
        elif hunks and line[:1] in (b"-", b"+"):
            hunks[-1][line[:1] == b"+"].append(line[1:])
    if path is not None:
        yield path, _replaced(hunks)


def _replaced(hunks: list[tuple[list[bytes], list[bytes]]]) -> tuple[Replaced, ...]:
    return tuple(Replaced(tuple(removed), tuple(added)) for removed, added in hunks)


def _named(head: bytes) -> str | None:
    """The path of `diff --git a/PATH b/PATH`, where both are the same; None for quoted ones."""
    both = head.rstrip(b"\n").removeprefix(b"diff --git ")
    middle = len(both) // 2
    old, new = both[:middle], both[middle + 1 :]
    if old.startswith(b"a/") and new.startswith(b"b/") and old[2:] == new[2:]:
        return os.fsdecode(new[2:])
    return None
