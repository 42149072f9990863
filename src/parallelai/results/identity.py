"""What makes a finding the same one in another run: rule, path and the code that it is about, not its line.

The id of a finding is a hash of its rule (its category where it has none), its path, the lines that it is
about with their white space normalised, and its place among findings that are equal in all of this. Lines
may be added above it, and the code may be indented anew, without the id changing.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence

QUOTED_LINES = 10
"""Of a finding that spans more lines, only these many first ones are quoted and identify it."""
QUOTED_COLUMNS = 400
"""Of a longer line only these many first code points are quoted. They all identify it."""

_ID_DIGITS = 12
_LINE_END = re.compile(r"\r\n|\r|\n")
_QUOTES = str.maketrans("", "", "`'\"‘’“”")


def split_lines(text: str) -> list[str]:
    """Split a file's text where editors and analysers do: at LF, CR and CRLF only, and without a BOM."""
    text = text.removeprefix("\ufeff")
    return _LINE_END.split(text) if "\r" in text else text.split("\n")


def lines_of(lines: Sequence[str], place: tuple[int, int]) -> Sequence[str]:
    """Give the lines that a finding is about, at most `QUOTED_LINES`; none if they are beyond the end."""
    first, last = place
    return lines[first - 1 : min(last, first + QUOTED_LINES - 1)]


def quote(lines: Sequence[str]) -> str | None:
    """Quote lines as they stand in the file, cut where very long; None if there is nothing to see."""
    if len(lines) == 1:  # most findings, by far
        return lines[0][:QUOTED_COLUMNS].rstrip() or None
    text = "\n".join(line[:QUOTED_COLUMNS].rstrip() for line in lines)
    return text if text.strip() else None


def squeeze(text: str) -> str:
    """Normalise white space: every run of it is one space, none at the ends."""
    return " ".join(text.split())


@functools.lru_cache(maxsize=2048)  # rules say the same thing again and again
def normalise_message(message: str) -> str:
    """Reduce a message to its words, so that case, quotes and a final stop make no difference."""
    return squeeze(message.translate(_QUOTES)).rstrip(" .!").casefold()


def finding_id(rule: str, path: str, snippet: str, ordinal: int) -> str:
    """Make the id of a finding.

    Args:
        rule: the rule, or the category of a finding without one.
        path: the file, relative to the project's root.
        snippet: the code that it is about, normalised by `squeeze`.
        ordinal: how many findings of the file that are equal in all of this come before it.
    """
    parts = "\0".join((rule, path, snippet, str(ordinal)))
    digest = hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()
    return f"f-{digest[:_ID_DIGITS]}"
