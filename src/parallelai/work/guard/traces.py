"""What git wrote down of the refs that it changed, where its environment asked for that (`GIT_TRACE_REFS`).

Several people and programs work in one repository at once. The git of programs that nothing confines gets the
variable, so that what it did to the user's refs can be told from what the user did meanwhile. It is evidence, and no
fence: a program can take the variable out, and git before 2.30 does not know it.
(The lines: `refs/debug.c` of git. The older forms for deleting and renaming name no commit.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from parallelai.work.guard.watch import Moved

VARIABLE = "GIT_TRACE_REFS"
PUSHED = "update by push"
_MOST_BYTES = 32 * 1024 * 1024
_UPDATE = re.compile(r'(?:^|\s)\d+: (refs/\S+) \S+ -> ([0-9a-f]{40,64}) .*"([^"]*)"$')
_DELETED = re.compile(r"(?:^|\s{2,})(refs/\S+)$")
_RENAMED = re.compile(r"(?:^|\s)rename_ref: (refs/\S+) -> (refs/\S+) ")
_CLEARED = re.compile(r"(?:^|\s)reflog_expire: (refs/\S+): 0$")


@dataclass(frozen=True, slots=True)
class Traced:
    """What a trace holds: refs with what they were put on, those that are gone, or whose log was cut.

    `renamed` are pairs: what a ref was called, and what it was called then.
    """

    updates: frozenset[tuple[str, str]] = frozenset()
    pushes: frozenset[tuple[str, str]] = frozenset()
    gone: frozenset[str] = frozenset()
    renamed: frozenset[tuple[str, str]] = frozenset()
    cleared: frozenset[str] = frozenset()

    def has(self, moved: Moved, known: Mapping[str, str]) -> bool:
        """Whether it tells of a ref's move, to where that is now; `known` are the refs as they were before."""
        if moved.after is None:
            return moved.ref in self.gone
        if (moved.ref, moved.after) in self.updates:
            return True
        # A line of a renaming names no commit: it is one that the ref had under an older name.
        older = self._older(moved.ref)
        return any(known.get(ref) == moved.after or (ref, moved.after) in self.updates for ref in older)

    def _older(self, ref: str) -> set[str]:
        """What a ref was called before, through every renaming."""
        found = set[str]()
        waiting = [ref]
        while waiting:
            name = waiting.pop()
            names = {old for old, new in self.renamed if new == name} - found
            found |= names
            waiting.extend(names)
        return found


NOTHING_TRACED = Traced()


def read_trace(path: Path) -> Traced:
    """Read a trace; one that is not there, or no plain file, holds nothing. Of a very large one the end counts."""
    try:
        if path.is_symlink() or not path.is_file():
            return Traced()
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _MOST_BYTES))
            return parse(file.read(_MOST_BYTES).decode("utf-8", "surrogateescape"))
    except OSError:
        return Traced()


def parse(text: str) -> Traced:
    """Read the lines of a trace; what is none of them is passed over."""
    updates, pushes = set[tuple[str, str]](), set[tuple[str, str]]()
    gone, renamed, cleared = set[str](), set[tuple[str, str]](), set[str]()
    for line in text.split("\n"):
        if "refs/" not in line:
            continue
        if update := _UPDATE.search(line):
            ref, commit, words = update.groups()
            if set(commit) == {"0"}:
                gone.add(ref)
            else:
                (pushes if words == PUSHED else updates).add((ref, commit))
        elif rename := _RENAMED.search(line):
            gone.add(rename.group(1))
            renamed.add((rename.group(1), rename.group(2)))
        elif clear := _CLEARED.search(line):
            cleared.add(clear.group(1))
        elif delete := _DELETED.search(line):
            gone.add(delete.group(1))
    return Traced(
        frozenset(updates), frozenset(pushes), frozenset(gone), frozenset(renamed), frozenset(cleared)
    )
