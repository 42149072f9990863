"""Who newly uses what the other side took away: candidates by names first, then by definitions.

Only files that could matter are parsed. First those from which one side removed lines with a name that could
have been defined there, and that another side's added lines have; then, for what really is gone, the files that
newly name it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath

from msgspec import Struct, field

from parallelai.work.conflicts.changes import Changes, Patch, Row
from parallelai.work.conflicts.imports import Imported, is_about
from parallelai.work.conflicts.logic import (
    RISKS,
    Broken,
    Clash,
    User,
    added_names,
    broken,
    clashes,
    defined_names,
    is_telling,
    removed_names,
    told,
)
from parallelai.work.conflicts.naming import STAR, known_as
from parallelai.work.conflicts.texts import Texts
from parallelai.work.symbols import family_of, language_of

MOST_USERS = 10
"""Files of a side that are looked into for one pair."""
_PACKAGES = {"go", "java"}


class Side(Struct, frozen=True):
    """What one side changed, and the names on its changed lines, by file.

    `defined` are names that its added lines define; `gone` are broken definitions, by bare name, once they have
    been looked for.
    """

    changes: Changes
    patch: Patch
    removed: Mapping[str, set[str]]
    added: Mapping[str, set[str]]
    defined: set[str]
    all_removed: frozenset[str]
    all_added: frozenset[str]
    size: int
    gone: dict[str, list[Broken]] = field(default_factory=dict)


class Finding(Struct, frozen=True):
    """A clash, and which side (0 or 1) broke what the other uses."""

    breaker: int
    clash: Clash


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
        *(changes, patch, removed, added, defined_names(known)),
        frozenset[str]().union(*removed.values()),
        frozenset[str]().union(*added.values()),
        size,
    )


def suspicious(one: Side, others: Sequence[Side]) -> list[str]:
    """Name the files in which a side may have broken what one of the others newly names."""
    named = frozenset[str]().union(*(one.all_removed & other.all_added for other in others))
    return [path for path, names in one.removed.items() if not names.isdisjoint(named)]


def find_gone(one: Side, paths: Sequence[str], texts: Texts) -> None:
    """Note the broken definitions of a side's files, whose definitions have been read."""
    for path in paths:
        row = one.changes.rows.get(path)
        if row is None:
            continue
        after = texts.definitions(path, row.new)
        if not after and row.new.strip("0"):
            continue  # it cannot be parsed any more: that says nothing of what it defines
        for each in broken(path, texts.definitions(path, row.old), after):
            if is_telling(each.bare):
                one.gone.setdefault(each.bare, []).append(each)


def users(one: Side, other: Side) -> list[str]:
    """Name the files of the other side that newly name what is gone from this one."""
    names = one.gone.keys() & other.all_added
    if not names:
        return []
    families = {family_of(each.path) for name in names for each in one.gone[name]}
    found = [
        path for path, new in other.added.items() if not new.isdisjoint(names) and family_of(path) in families
    ]
    return found[:MOST_USERS]


def meant(one: Side, other: Side, path: str, texts: Texts) -> list[Broken]:
    """What is gone from one side that a file of the other, whose words have been read, can newly mean."""
    row = other.changes.rows[path]
    now, before = texts.words(path, row.new), texts.words(path, row.old)
    names = [name for name in one.gone.keys() & other.added[path] if name.encode() not in before]
    imports = texts.imports(path, row.new)
    return [each for name in sorted(names) for each in one.gone[name] if _is_meant(each, row, now, imports)]


def findings(a: Side, b: Side, texts: Texts) -> list[Finding]:
    """Give the clashes of a pair, as far as its own files tell, the gravest first."""
    found = [Finding(0, clash) for clash in _clashes(a, b, texts)]
    found += [Finding(1, clash) for clash in _clashes(b, a, texts)]
    return sorted(found, key=lambda each: -RISKS[each.clash.broken.what])


def _clashes(one: Side, other: Side, texts: Texts) -> Iterator[Clash]:
    for path in users(one, other):
        gone = meant(one, other, path, texts)
        if not gone:
            continue
        row, hunks = other.changes.rows[path], other.patch.get(path, ())
        lines = {hunk.new[0] + at: text for hunk in hunks for at, text in enumerate(hunk.added, 1)}
        own, words = defined_names({path: hunks}), texts.words(path, row.new)
        user = User(path, lines, own, words, texts.imports(path, row.new))
        is_passed_on = partial(_is_passed_on, one, texts)
        yield from clashes(gone, one.defined | other.defined, user, texts.uses(path, row.new), is_passed_on)


def places(one: Side, other: Side) -> Iterator[Row]:
    """The files, as they are now, from which is gone what the other side newly names."""
    for name in one.gone.keys() & other.all_added:
        yield from (one.changes.rows[each.path] for each in one.gone[name])


def _is_passed_on(one: Side, texts: Texts, gone: Broken) -> bool:
    """Whether the file that something is gone from still has its name, or all names of another one."""
    words = texts.words(gone.path, one.changes.rows[gone.path].new)
    return gone.bare.encode() in words or STAR in words


def why(finding: Finding, names: tuple[str, str], is_target: bool) -> str:
    """Say it in words; the second name may be the target's."""
    said = (f"`{names[0]}`", "the target" if is_target else f"`{names[1]}`")
    return told(finding.clash, said[1 - finding.breaker], said[finding.breaker])


def _is_meant(gone: Broken, user: Row, words: frozenset[bytes], imports: Sequence[Imported]) -> bool:
    """Whether a file that mentions a name can mean this definition: it names the module or class that it is of."""
    if user.path == gone.path:
        return True
    if not gone.is_public or family_of(user.path) != family_of(gone.path):
        return False
    place, other = PurePosixPath(gone.path), PurePosixPath(user.path)
    language = language_of(gone.path)
    owner = gone.name.rpartition(".")[0].rpartition(".")[2]
    if owner:
        return owner.encode() in words
    if language in _PACKAGES and place.parent == other.parent:
        return True
    if language == "python":
        return is_about(imports, gone.bare, user.path, gone.path)
    name = known_as(gone.path, is_folder=language == "go")
    return name.encode() in words or not name.isidentifier()
