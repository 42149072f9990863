"""Both sides added entries to a changelog: both are kept, ours first.

Only in files that are changelogs by their names, and only where nothing that stood there was changed. Repeated
lines are kept. Where releases are named, their versions and dates must still stand in falling order.
"""

from __future__ import annotations

import itertools
import re
from pathlib import PurePosixPath

from parallelai.work.resolvers.lines import is_blank, lines, words
from parallelai.work.resolvers.records import Conflict, rung
from parallelai.work.resolvers.versions import VERSION, Order, order

_NAME = re.compile(
    r"(changes|change[-_]?log|history|news|releases?([-_ ]?notes)?|what'?s[-_]?new)([-_.].*)?", re.I
)
_TEXT = frozenset({"", ".md", ".markdown", ".rst", ".txt", ".adoc"})
_HEADING = re.compile(rb"^\W{0,8}v?(" + VERSION.pattern + rb")(?!\w)")
_OPEN = re.compile(rb"^\W{0,8}(unreleased|upcoming|next)\b", re.I)
_DATE = re.compile(rb"\b\d{4}-\d\d-\d\d\b")


def is_changelog(path: str) -> bool:
    """Whether a file is a changelog, by its name: `CHANGES.md`, `docs/releases.rst`, `History.md`, `NEWS`."""
    name = PurePosixPath(path)
    return bool(_NAME.fullmatch(name.name)) and (name.suffix.lower() in _TEXT or name.suffix[1:2].isdigit())


@rung("changelog", rank=70, scope="hunk")
def resolve(conflict: Conflict) -> bytes | None:
    """Put our entries before theirs."""
    if not is_changelog(conflict.path) or words(conflict.base or b""):
        return None
    ours, theirs = conflict.ours or b"", conflict.theirs or b""
    if not words(ours) or not words(theirs) or not ours.endswith(b"\n"):
        return None
    has_releases = bool(_releases(ours) or _releases(theirs))
    if has_releases and not _in_order(conflict, ours, theirs):
        return None
    if not is_blank(lines(ours)[0]):  # blank lines after a heading that only they have
        entries = theirs.lstrip(b"\r\n")
        ours, theirs = theirs[: len(theirs) - len(entries)] + ours, entries
    return ours + _between(conflict, ours, theirs, has_releases) + theirs


def _between(conflict: Conflict, ours: bytes, theirs: bytes, has_releases: bool) -> bytes:
    """The blank lines that part sections: git leaves them to the text after a hunk."""
    if not has_releases or is_blank(lines(ours)[-1]) or is_blank(lines(theirs)[0]):
        return b""
    found = []
    for line in lines(conflict.after):
        if not is_blank(line):
            break
        found.append(line)
    return b"".join(found)


def _releases(text: bytes) -> list[tuple[Order | None, bytes]]:
    """The headings of a text: version (None for what is not released yet) and date (empty for none)."""
    found: list[tuple[Order | None, bytes]] = []
    for line in lines(text):
        if named := _HEADING.match(line):
            day = _DATE.search(line)
            found.append((order(named[1]), day[0] if day else b""))
        elif _OPEN.match(line):
            found.append((None, b""))
    return found


def _in_order(conflict: Conflict, ours: bytes, theirs: bytes) -> bool:
    """Whether the releases around and in a hunk, put together, fall in version and in date."""
    mine, other = _releases(ours), _releases(theirs)
    around = (_releases(conflict.before)[-1:], mine, other, _releases(conflict.after)[:1])
    rows = [row for part in around for row in part]
    if any(version is None for version, _ in rows[1:]):
        return False  # what is not released yet comes first, and once
    versions = [version for version, _ in rows if version is not None]
    days = [day for _, day in rows if day]
    return _falls(versions) and all(one >= two for one, two in itertools.pairwise(days))


def _falls(versions: list[Order]) -> bool:
    return all(one > two for one, two in itertools.pairwise(versions))
