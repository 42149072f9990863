"""The resolvers in their order, and how a file's conflict climbs them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from msgspec import Struct

from parallelai import extensions
from parallelai.errors import UsageError
from parallelai.work.resolvers.checking import objection
from parallelai.work.resolvers.records import Conflict, Rung
from parallelai.work.resolvers.regenerating import is_lock
from parallelai.work.resolvers.splitting import Split

GROUP = "parallelai.resolvers"
MAX_HUNKS = 500
"""Files with more hunks are left to others."""
_WRITTEN = re.compile(
    r".*(\.jsonl|\.min\.(js|css)|\.map|\.snap|\.pb\.go|_pb2\.pyi?|\.svg|\.ipynb"
    r"|\.lockb?|[.-]lock\.(json|ya?ml|hcl)|packages\.lock\.json|package\.resolved)$",
    re.IGNORECASE,
)
_SAYS_SO = re.compile(rb"@generated\b|\bcode generated .{0,80}do not edit\b", re.IGNORECASE)
_HEAD = 2000
"""Where a file says that it is generated: in its first bytes."""


class Answer(Struct, frozen=True):
    """How a file's conflict was settled: its text, what stands in place of each hunk, and the resolvers' names.

    `is_symmetric`: the same comes out when the sides are swapped.
    """

    text: bytes
    hunks: tuple[bytes, ...] | None
    by: tuple[str, ...]
    is_symmetric: bool

    @property
    def name(self) -> str:
        """The resolvers that settled it, each once."""
        return ", ".join(dict.fromkeys(self.by))


def rungs() -> tuple[Rung, ...]:
    """All registered resolvers, in the order in which they are tried.

    Raises `UsageError` where one cannot be loaded.
    """
    found = []
    for point in extensions.of_group(GROUP):
        try:
            loaded = point.load()
        except (
            Exception,
            SystemExit,
        ) as error:  # a plugin's module: whatever it does at import is told in a line
            said = f"the resolver `{point.name}` cannot be loaded: {error}"
            raise UsageError(
                said, where=point.value, next="update or uninstall the package it is from"
            ) from error
        found.append(loaded if isinstance(loaded, Rung) else Rung(point.name, loaded))
    return tuple(sorted(found, key=lambda one: (one.rank, one.name)))


def is_written_by_program(conflict: Conflict) -> bool:
    """Whether a file is not written by hand: locks, data, generated code. Settling its lines would break it."""
    if is_lock(conflict.path) or _WRITTEN.fullmatch(PurePosixPath(conflict.path).name):
        return True
    return any(_SAYS_SO.search(side[:_HEAD]) for side in (conflict.ours, conflict.theirs) if side)


def climb(conflict: Conflict, split: Split | None, ladder: Sequence[Rung]) -> Answer | None:
    """Settle a file: every hunk by the first rung that knows it, else the whole by one; None: nobody knows.

    What comes out is sound (`checking.objection`).
    """
    if is_written_by_program(conflict):
        ladder = [one for one in ladder if one.name == "identical"]
    found = _by_hunks(split, ladder) if split is not None and split.hunks else None
    if found is not None and objection(conflict, found.text) is None:
        return found
    for rung in ladder:
        # Where there are no hunks (a binary file), only what needs no lines is asked of the whole.
        is_whole = rung.scope == "file" or (split is None and rung.name == "identical")
        text = ask(rung, conflict) if is_whole else None
        if text is not None and objection(conflict, text) is None:
            is_symmetric = ask(rung, conflict.swapped()) == text
            return Answer(text, split.taken_apart(text) if split else None, (rung.name,), is_symmetric)
    return None


def ask(rung: Rung, conflict: Conflict) -> bytes | None:
    """Ask one resolver. One that fails does not know."""
    try:
        text = rung(conflict)
    except (Exception, SystemExit):  # a plugin may fail in any way, and the next rung may still know
        return None
    return text if isinstance(text, bytes) else None


def first(ladder: Sequence[Rung], hunk: Conflict) -> tuple[bytes, str] | None:
    """Give what the first rung that knows makes of a hunk, and the rung's name."""
    for rung in ladder:
        if rung.scope == "hunk" and (text := ask(rung, hunk)) is not None:
            return text, rung.name
    return None


def _by_hunks(split: Split, ladder: Sequence[Rung]) -> Answer | None:
    if len(split.hunks) > MAX_HUNKS:
        return None
    settled, by, is_symmetric = [], [], True
    for hunk in split.hunks:
        found = first(ladder, hunk)
        if found is None:
            return None
        settled.append(found[0])
        by.append(found[1])
        is_symmetric = is_symmetric and first(ladder, hunk.swapped()) == found
    hunks = tuple(settled)
    return Answer(split.joined(hunks), hunks, tuple(by), is_symmetric)
