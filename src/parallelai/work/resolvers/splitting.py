"""A conflicting file taken apart: what git merged by itself, and the hunks that it did not.

git's own merge of the three texts decides (`git merge-file`), so that what is not in a hunk is exactly what
`git merge` would have written. Its markers are made longer than any run of the same character in the texts, and
are so never mistaken.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

from msgspec import Struct

from parallelai.git.plumbing import Git, failure
from parallelai.processes.temporary import temporary_folder
from parallelai.work.resolvers.lines import lines
from parallelai.work.resolvers.records import Conflict

MAX_BYTES = 4 * 1024 * 1024
"""Texts that are longer are not taken apart."""
_RUNS = re.compile(rb"^(<{7,}|>{7,}|={7,}|\|{7,})", re.MULTILINE)


class Split(Struct, frozen=True):
    """A file's text as `texts[0] hunks[0] texts[1] …`: one text more than there are hunks."""

    texts: tuple[bytes, ...]
    hunks: tuple[Conflict, ...]

    def joined(self, settled: tuple[bytes, ...]) -> bytes:
        """The whole text, with one text for each hunk."""
        found = [self.texts[0]]
        for text, after in zip(settled, self.texts[1:], strict=True):
            found += (text, after)
        return b"".join(found)

    def taken_apart(self, whole: bytes) -> tuple[bytes, ...] | None:
        """What a settled text has in place of each hunk; None where it changed something beside them.

        Raises nothing: where that can be read in two ways, that is None, too.
        """
        if not (whole.startswith(self.texts[0]) and whole.endswith(self.texts[-1])):
            return None
        at, end = len(self.texts[0]), len(whole) - len(self.texts[-1])
        found = []
        for text in self.texts[1:-1]:
            place = whole.find(text, at, end)
            if not text or place < 0 or whole.find(text, place + 1, end) >= 0:
                return None
            found.append(whole[at:place])
            at = place + len(text)
        return (*found, whole[at:end]) if at <= end else None


async def split(git: Git, conflict: Conflict) -> Split | None:
    """Take a file's conflict apart; None where it has no text on both sides, or too much."""
    sides = (conflict.ours, conflict.base if conflict.base is not None else b"", conflict.theirs)
    if any(side is None or len(side) > MAX_BYTES or b"\0" in side for side in sides):
        return None
    ours, base, theirs = (side for side in sides if side is not None)
    size = max((len(run) for side in (ours, base, theirs) for run in _RUNS.findall(side)), default=0) + 8
    merged = await merged_text(git, ours, base, theirs, "--zdiff3", f"--marker-size={size}")
    return None if merged is None else _parsed(conflict, merged, size)


async def merged_text(
    git: Git,
    ours: bytes,
    base: bytes,
    theirs: bytes,
    *options: str,
    labels: tuple[str, str, str] = ("ours", "base", "theirs"),
) -> bytes | None:
    """git's merge of three texts, with markers where it has conflicts; None where it takes them for binary."""
    with temporary_folder("merge") as folder:
        names = [str(folder / name) for name in ("ours", "base", "theirs")]
        await asyncio.to_thread(_written, names, (ours, base, theirs))
        words = [word for label in labels for word in ("-L", label)]
        done = await git.attempt("merge-file", "--stdout", *options, *words, *names)
    if done.exit == 255 and b"inary" in done.stderr:
        return None
    if done.exit is None or done.exit > 127 or done.is_truncated:
        raise failure(("merge-file",), done)
    return done.stdout


def _written(names: list[str], texts: tuple[bytes, ...]) -> None:
    for name, text in zip(names, texts, strict=True):
        Path(name).write_bytes(text)


def _parsed(conflict: Conflict, merged: bytes, size: int) -> Split:
    """Read a merge with markers of a known length."""
    starts = tuple(mark * size for mark in (b"<", b"|", b"=", b">"))
    parts: list[list[bytes]] = [[]]  # a text, then ours, base, theirs, then a text, …
    for line in lines(merged):
        if len(line) >= size and line[:size] == starts[(len(parts) - 1) % 4]:
            parts.append([])
        else:
            parts[-1].append(line)
    joined = [b"".join(part) for part in parts]
    texts = tuple(joined[::4])
    hunks = []
    for at, (ours, base, theirs) in enumerate(zip(joined[1::4], joined[2::4], joined[3::4], strict=True)):
        is_last = at == len(texts) - 2 and not texts[-1]
        ours, base, theirs = (
            _as_it_ends(part, side) if is_last else part
            for part, side in ((ours, conflict.ours), (base, conflict.base), (theirs, conflict.theirs))
        )
        hunk = replace(conflict, ours=ours, base=base, theirs=theirs, whole=conflict)
        hunks.append(replace(hunk, before=texts[at], after=texts[at + 1]))
    return Split(texts, tuple(hunks))


def _as_it_ends(part: bytes, side: bytes | None) -> bytes:
    """A hunk at the end of its file, without the line feed that git puts before a marker."""
    return part.removesuffix(b"\n") if side and not side.endswith(b"\n") else part
