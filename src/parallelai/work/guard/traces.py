"""What git wrote down of the refs that it changed, where its environment asked for that (`GIT_TRACE_REFS`).

Several people and programs work in one repository at once. The git of programs that nothing confines gets the
variable, so that what it did to the user's refs can be told from what the user did meanwhile. It is evidence, and no
fence: a program can take the variable out, and git before 2.30 does not know it.
(The lines: `refs/debug.c` of git. The older forms for deleting and renaming name no commit.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, field

from parallelai.engines.planted import read_plain
from parallelai.work.guard.watch import Moved

VARIABLE = "GIT_TRACE_REFS"
PUSHED = "update by push"
STASH = "refs/stash"
_MOST_BYTES = 32 * 1024 * 1024
_MOST_LINE = 16 * 1024
_MOST_RENAMES = 10_000
_PREFIX = re.compile(r"[\d:.]{1,32} [^\s:]{1,256}:\d{1,9}\s+")
"""When a line was written, and where in git. All else is matched from its end on: a search may take long."""
_UPDATE = re.compile(r'\d{1,9}: (refs/\S+) \S+ -> ([0-9a-f]{40,64}) .*"([^"]*)"$')
_DELETED = re.compile(r"(refs/\S+)$")
_RENAMED = re.compile(r"rename_ref: (refs/\S+) -> (refs/\S+) ")
_EXPIRED = re.compile(r"reflog_expire(?:_prepare)?: (refs/\S+?)(?:: 0)?$")
_BEGINS = "ref_store for "
"""In what a process of git writes first."""
_PRUNED = re.compile(r" \d{1,19}: 1$")
"""The end of a line about a line of a log that goes; its beginning are words, and a line of their own."""


class Traced(Struct, frozen=True):
    """What a trace holds: refs with what they were put on, and those that are gone.

    `renamed` are pairs: what a ref was called, and what it was called then. `dropped` says how many stashes were taken
    out of the list one by one; if `is_stash_cleared`, all of them were at once.
    """

    updates: frozenset[tuple[str, str]] = frozenset()
    pushes: frozenset[tuple[str, str]] = frozenset()
    gone: frozenset[str] = frozenset()
    renamed: frozenset[tuple[str, str]] = frozenset()
    dropped: int = 0
    is_stash_cleared: bool = False

    def has(self, moved: Moved, known: Mapping[str, str]) -> bool:
        """Whether it tells of a ref's move, to where that is now; `known` are the refs as they were before."""
        if moved.after is None:
            return moved.ref in self.gone
        if (moved.ref, moved.after) in self.updates:
            return True
        # A line of a renaming names no commit: it is one that the ref had under an older name.
        older = self._older(moved.ref)
        return any(known.get(ref) == moved.after or (ref, moved.after) in self.updates for ref in older)

    def put_on(self, ref: str) -> frozenset[str]:
        """The commits that it tells a ref was put on."""
        return frozenset(commit for name, commit in self.updates if name == ref)

    def _older(self, ref: str) -> set[str]:
        """What a ref was called before, through every renaming."""
        before: dict[str, set[str]] = {}
        for old, new in self.renamed:
            before.setdefault(new, set()).add(old)
        found = set[str]()
        waiting = [ref]
        while waiting:
            names = before.get(waiting.pop(), set()) - found
            found |= names
            waiting.extend(names)
        return found


NOTHING_TRACED = Traced()


def read_trace(path: Path) -> Traced:
    """Read a trace; one that is not there, or no plain file, holds nothing. Of a very large one the end counts."""
    try:
        if path.is_symlink():
            return Traced()
        return parse(read_plain(path, _MOST_BYTES, is_tail=True).decode("utf-8", "surrogateescape"))
    except OSError:
        return Traced()


def parse(text: str) -> Traced:
    """Read the lines of a trace; what is none of them is passed over. Pure."""
    found = _Found()
    for line in text.split("\n"):
        if len(line) <= _MOST_LINE:
            found.take(line)
    return Traced(
        frozenset(found.updates),
        frozenset(found.pushes),
        frozenset(found.gone),
        frozenset(found.renamed),
        found.dropped,
        found.is_stash_cleared,
    )


class _Found(Struct):
    """What was read so far. `expiring` is the ref whose log git is about to cut."""

    updates: set[tuple[str, str]] = field(default_factory=set)
    pushes: set[tuple[str, str]] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    renamed: set[tuple[str, str]] = field(default_factory=set)
    dropped: int = 0
    is_stash_cleared: bool = False
    expiring: str | None = None

    def take(self, line: str) -> None:
        """Take a line in."""
        if self.expiring == STASH and _PRUNED.match(line):
            self.dropped += 1
        if _BEGINS in line:
            self.expiring = None
        if "refs/" not in line:
            return
        prefix = _PREFIX.match(line)
        line = line[prefix.end() :] if prefix else line
        if update := _UPDATE.match(line):
            self._update(*update.groups())
        elif (rename := _RENAMED.match(line)) and len(self.renamed) < _MOST_RENAMES:
            self.gone.add(rename.group(1))
            self.renamed.add((rename.group(1), rename.group(2)))
        elif expired := _EXPIRED.match(line):
            self.expiring = expired.group(1)
        elif delete := _DELETED.match(line):
            self._delete(delete.group(1))

    def _update(self, ref: str, commit: str, words: str) -> None:
        if set(commit) == {"0"}:
            self._delete(ref)
        else:
            (self.pushes if words == PUSHED else self.updates).add((ref, commit))

    def _delete(self, ref: str) -> None:
        self.gone.add(ref)
        # Who drops the last stash cuts the log first, who clears the list only deletes the ref.
        self.is_stash_cleared |= ref == STASH and self.expiring != STASH
        self.expiring = None
