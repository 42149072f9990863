"""Both sides added entries to a changelog: both are kept, ours first.

Only in files that are changelogs by their names, and only where nothing that stood there was changed. Repeated
lines are kept. Where releases are named, their versions and dates must still stand in falling order, and entries
must not come below a heading of the other side.
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
_OPEN = re.compile(rb"\b(unreleased|upcoming|not (yet )?released)\b", re.I)
_UNDERLINE = re.compile(rb"([=\-~^\"'`*+#.:])\1{2,}\s*")
_LABEL = re.compile(rb"\.\. _[^:]*:\s*")
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
    if _UNDERLINE.fullmatch(next(iter(lines(conflict.after)), b"")):
        return None  # both renamed one heading
    if _headings(ours) and not _starts_with_heading(theirs):
        return None
    if (_releases(ours) or _releases(theirs)) and not _in_order(conflict, ours, theirs):
        return None
    if not is_blank(lines(ours)[0]):  # blank lines after a heading that only they have
        entries = theirs.lstrip(b"\r\n")
        ours, theirs = theirs[: len(theirs) - len(entries)] + ours, entries
    return ours + _between(conflict, ours, theirs) + theirs


def _between(conflict: Conflict, ours: bytes, theirs: bytes) -> bytes:
    """The blank lines that part sections or entries: git leaves them to the text after a hunk."""
    is_parted = is_blank(lines(ours)[-1]) or is_blank(lines(theirs)[0])
    if is_parted or not (_headings(theirs) or _releases(theirs) or _is_loose(conflict, ours, theirs)):
        return b""
    parting = list(itertools.takewhile(lambda line: is_blank(line), lines(conflict.after)))
    return b"".join(parting if _releases(theirs) else parting[:1])


def _is_loose(conflict: Conflict, ours: bytes, theirs: bytes) -> bool:
    """Whether blank lines stand between entries: within a side, or between the entry before and ours."""
    if any(is_blank(line) for side in (ours, theirs) for line in lines(side.strip())):
        return True
    before = lines(conflict.before)
    if not before or not is_blank(before[-1]):
        return False
    last = next((line for line in reversed(before) if not is_blank(line)), b"")
    return last.startswith((b" ", b"\t", b"- ", b"* ", b"+ ")) and not _UNDERLINE.fullmatch(last)


def _headings(text: bytes) -> list[bytes]:
    """The headings of a text, as Markdown and reStructuredText have them: `# …`, or underlined."""
    rows = lines(text)
    found = []
    for line, following in itertools.pairwise((*rows, b"")):
        is_underlined = _UNDERLINE.fullmatch(following) and not _UNDERLINE.fullmatch(line)
        if line.startswith(b"#") or (is_underlined and not is_blank(line)):
            found.append(line)
    return found


def _starts_with_heading(text: bytes) -> bool:
    first = next((line for line in lines(text) if not is_blank(line) and not _LABEL.fullmatch(line)), b"")
    return first in _headings(text)


def _releases(text: bytes) -> list[tuple[Order | None, bytes]]:
    """The releases that a text names: version (None for what is not released yet) and date (empty for none)."""
    headings = set(_headings(text))
    found: list[tuple[Order | None, bytes]] = []
    for line in lines(text):
        is_heading = line in headings
        named = VERSION.search(line) if is_heading else None
        starts = _HEADING.match(line)
        if (
            is_heading or not words(line.strip(b" -=*#[]()").lower().replace(b"unreleased", b""))
        ) and _OPEN.search(line):
            found.append((None, b""))
        elif starts or named:
            day = _DATE.search(line)
            version = starts[1] if starts else named[0] if named else b""
            found.append((order(version), day[0] if day else b""))
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
