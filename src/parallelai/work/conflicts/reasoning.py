"""Who newly uses what the other side took away: candidates by names first, then by definitions.

Only files that could matter are parsed: one side removed lines with a name that could have been defined there,
the other added lines with that name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from parallelai.work.conflicts.changes import Changes, Patch, Row
from parallelai.work.conflicts.logic import (
    RISKS,
    Broken,
    Clash,
    added_names,
    broken,
    clashes,
    is_telling,
    removed_names,
    told,
)
from parallelai.work.conflicts.texts import Texts
from parallelai.work.symbols import language_of

MOST_SUSPECTS = 10
_FAMILIES = {"tsx": "typescript", "javascript": "typescript"}
_AROUND = {"__init__", "index", "mod", "main", "lib"}
_PACKAGES = {"go", "java"}


@dataclass(frozen=True, slots=True)
class Side:
    """What one side changed, and the names on its changed lines, by file."""

    changes: Changes
    patch: Patch
    removed: dict[str, set[str]]
    added: dict[str, set[str]]
    all_removed: frozenset[str]
    all_added: frozenset[str]
    size: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """Files in which one side (`breaker`, 0 or 1) may have broken what the other's file newly uses."""

    breaker: int
    path: str
    user_path: str


def side(changes: Changes, patch: Patch) -> Side:
    """Prepare one side's changes."""
    known = {path: hunks for path, hunks in patch.items() if language_of(path) is not None}
    removed, added = removed_names(known), added_names(known)
    size = sum(
        (hunk.old[1] - hunk.old[0]) + (hunk.new[1] - hunk.new[0])
        for hunks in patch.values()
        for hunk in hunks
    )
    return Side(
        *(changes, patch, removed, added),
        frozenset[str]().union(*removed.values()),
        frozenset[str]().union(*added.values()),
        size,
    )


def suspects(a: Side, b: Side) -> tuple[Suspect, ...]:
    """Name the files to look into, of both directions."""
    found = []
    for breaker, (one, other) in enumerate(((a, b), (b, a))):
        names = one.all_removed & other.all_added
        if not names:
            continue
        for path, gone in one.removed.items():
            if gone.isdisjoint(names):
                continue
            for user_path, new in other.added.items():
                if _family(path) == _family(user_path) and not gone.isdisjoint(new):
                    found.append(Suspect(breaker, path, user_path))
    return tuple(found[:MOST_SUSPECTS])


def _family(path: str) -> str | None:
    language = language_of(path)
    return _FAMILIES.get(language, language) if language else None


def contents(suspect: Suspect, a: Side, b: Side) -> list[tuple[str, str]]:
    """The contents to parse for a suspect: both files before and after."""
    one, other = (a, b) if suspect.breaker == 0 else (b, a)
    rows = [one.changes.rows.get(suspect.path), other.changes.rows.get(suspect.user_path)]
    return [(row.path, blob) for row in rows if row is not None for blob in (row.old, row.new)]


@dataclass(frozen=True, slots=True)
class Finding:
    """A clash, and which side (0 or 1) broke what the other uses."""

    breaker: int
    clash: Clash


def findings(suspected: Sequence[Suspect], a: Side, b: Side, texts: Texts) -> list[Finding]:
    """Give the clashes of a pair, as far as its own files tell, the gravest first."""
    found = []
    for suspect in suspected:
        one, other = (a, b) if suspect.breaker == 0 else (b, a)
        found += [Finding(suspect.breaker, clash) for clash in _clashes(suspect, one, other, texts)]
    return sorted(found, key=lambda each: -RISKS[each.clash.broken.what])


def why(finding: Finding, names: tuple[str, str], is_target: bool) -> str:
    """Say it in words; the second name may be the target's."""
    said = (f"`{names[0]}`", "the target" if is_target else f"`{names[1]}`")
    return told(finding.clash, said[1 - finding.breaker], said[finding.breaker])


def _clashes(suspect: Suspect, one: Side, other: Side, texts: Texts) -> list[Clash]:
    row, user = one.changes.rows[suspect.path], other.changes.rows[suspect.user_path]
    before, after = texts.of(row.path, row.old), texts.of(row.path, row.new)
    was, now = texts.of(user.path, user.old), texts.of(user.path, user.new)
    if not before.is_known or not now.is_known:
        return []
    gone = [
        each
        for each in broken(row.path, before.definitions, after.definitions)
        if is_telling(each.bare) and _is_meant(each, row, user, now.words)
    ]
    lines = {line + 1 for hunk in other.patch.get(user.path, ()) for line in range(hunk.new[0], hunk.new[1])}
    defined = {one.bare for one in (*now.definitions, *after.definitions)}
    defined |= _defined_anew(one) | _defined_anew(other)
    return clashes(gone, defined, {user.path: (now.uses, lines, {use.name for use in was.uses})})


_DEFINES = re.compile(
    r"\b(?:def|class|func|function|fn|interface|type|struct|enum|trait|const|let|var)\s+(\w+)"
)


def _defined_anew(side: Side) -> set[str]:
    """Names that a side's added lines define somewhere: moved, not gone."""
    lines = (line for hunks in side.patch.values() for hunk in hunks for line in hunk.added)
    return {name for line in lines for name in _DEFINES.findall(line)}


def _is_meant(gone: Broken, row: Row, user: Row, words: frozenset[bytes]) -> bool:
    """Whether a file that mentions a name can mean this definition: it names the module or class that it is of."""
    if user.path == row.path:
        return True
    if not gone.is_public:
        return False
    place, other = PurePosixPath(row.path), PurePosixPath(user.path)
    owner = gone.name.rpartition(".")[0].rpartition(".")[2]
    if owner:
        return owner.encode() in words
    if language_of(row.path) in _PACKAGES and place.parent == other.parent:
        return True
    names = [place.stem, *place.parent.parts[-2:]] if gone.kind != "constant" else [place.stem]
    return any(name.encode() in words or not name.isidentifier() for name in names if name not in _AROUND)
