"""Text from repositories and engines, made fit for a terminal: nothing in it is obeyed, everything is seen.

Widths are in terminal cells: a wide character takes two, a combining one none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

TAB = "    "
_FIRST = 2  # lines that are kept of the beginning of what is cut
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def cell_width(text: str) -> int:
    """Count the cells that printable text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # only for text that needs its tables

    return cell_len(text)


def visible(text: str, *, ascii_only: bool = False) -> str:
    """Show text on one line: control, escape and invisible characters as `\\x1b`, line ends as spaces."""
    if text.isprintable() and (not ascii_only or text.isascii()):
        return text
    one_line = text.replace("\r\n", " ").replace("\n", " ")
    return "".join(_shown(character, ascii_only) for character in one_line)


def harmless(text: str) -> str:
    """Show text of several lines with what a terminal would obey as `\\x1b`; all else stays as it is."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _shown(character: str, ascii_only: bool) -> str:
    if character == "\t":
        return TAB
    if not ascii_only and unicodedata.category(character) == "Zs":
        return character if character == "\u3000" else " "  # the ideographic space is a wide one
    if character.isprintable() and (not ascii_only or character.isascii()):
        return character
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def wrap(text: str, width: int) -> list[str]:
    """Break printable text at spaces into lines of at most `width` cells; longer words are broken too."""
    if width < 2:  # a wide character would never fit
        width = 2
    if cell_width(text) <= width:
        return [text]
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if cell_width(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        *full, line = _chop(word, width)
        lines += full
    return [*lines, line] if line else lines


def _chop(word: str, width: int) -> list[str]:
    """Break a word into pieces of at most `width` cells."""
    if cell_width(word) <= width:
        return [word]
    pieces, start, used = [], 0, 0
    for index, character in enumerate(word):
        cells = _cells(character)
        if used + cells > width:
            pieces.append(word[start:index])
            start, used = index, 0
        used += cells
    return [*pieces, word[start:]]


def _cells(character: str) -> int:
    """The most cells that a character adds: one, if it asks for the wide form of the one before it."""
    return 1 if character == "\ufe0f" else cell_width(character)


def crop(text: str, width: int, *, ascii_only: bool = False) -> str:
    """Cut printable text to at most `width` cells, with a mark where something was cut."""
    if cell_width(text) <= width:
        return text
    mark = "..." if ascii_only else "…"
    room = width - cell_width(mark)
    if room <= 0:
        return mark[:width]
    return _chop(text, max(room, 2))[0] + mark


def ends(lines: list[str], most: int, mark: str) -> list[str]:
    """Cut lines to `most`, the mark among them: the first say what it is about, the last of an output what failed."""
    return lines if len(lines) <= most else [*lines[:_FIRST], mark, *lines[_FIRST + 1 - most :]]


class Excerpt(NamedTuple):
    """A source line as it is shown, and the cells under which its mark goes; `length` 0 is no mark."""

    text: str
    start: int
    length: int


def excerpt(line: str, column: tuple[int, int] | None, width: int, *, ascii_only: bool = False) -> Excerpt:
    """Show a source line within `width` cells so that the columns in question are among them.

    Args:
        line: the line as it stands in the file.
        column: the first column and the one after the last, in code points from 1; None for no mark.
        width: how many cells there are, at least 8.
        ascii_only: show everything else as escapes.
    """
    width = max(width, 8)
    column = column if column is not None and column[0] <= len(line) + 1 else None
    ellipsis = "..." if ascii_only else "…"
    first = _first_shown(line, column, width, ascii_only)
    # No more code points than cells can be shown, but for combining ones: a bound for very long lines.
    shown = [_shown(character, ascii_only) for character in line[first : first + 2 * width]]
    prefix = ellipsis if first else ""
    room = width - len(prefix)
    end = _fitting(shown, room)
    suffix = ""
    if end < len(shown) or first + len(shown) < len(line):
        suffix = ellipsis
        end = _fitting(shown, room - len(suffix))
    text = prefix + "".join(shown[:end]) + suffix
    if column is None:
        return Excerpt(text.rstrip(), 0, 0)
    start = min(max(column[0] - 1 - first, 0), end)
    stop = max(column[1] - 1 - first, start)
    before = min(cell_width(prefix + "".join(shown[:start])), width - 1)
    length = cell_width("".join(shown[start : min(stop, end)])) + (len(suffix) if stop > end else 0)
    return Excerpt(text.rstrip(), before, max(1, min(length, width - before)))


def _first_shown(line: str, column: tuple[int, int] | None, width: int, ascii_only: bool) -> int:
    """The first code point to show: 0, unless the columns would then be too far right to be seen."""
    if column is None:
        return 0
    start, stop = column[0] - 1, max(column[1] - 1, column[0])
    if cell_width(visible(line[: min(stop, start + width)], ascii_only=ascii_only)) <= width - 3:
        return 0
    room = width // 3
    index = start
    while index > 0 and room > 0:
        index -= 1
        room -= len(_shown(line[index], ascii_only)) if line[index].isascii() else 2
    return index


def _fitting(shown: Sequence[str], room: int) -> int:
    """How many of the pieces fit into the room."""
    used = 0
    for index, piece in enumerate(shown):
        used += sum(map(_cells, piece))
        if used > room:
            return index
    return len(shown)
