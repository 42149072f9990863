"""Where a cell's line stands in a notebook's file.

Analysers count a notebook's lines by cell; a finding is about the file. In the file (nbformat 4) a cell's
source is a list of strings, one for each line, or one string.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json.decoder import scanstring  # type: ignore[attr-defined]  # public, but not in the stubs
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any

CellLines = tuple[tuple[int, ...], ...]
"""For each cell, for each of its lines, the line of the file, from 1."""


class _Positioned(json.JSONDecoder):
    """Reads strings (not keys) as the offset at which they begin and their value."""

    scan_once: Callable[[str, int], tuple[Any, int]]

    def __init__(self) -> None:
        super().__init__()
        self.parse_string = _string_with_offset
        # The C scanner would not ask `parse_string`.
        self.scan_once = py_make_scanner(self)


def _string_with_offset(text: str, end: int, strict: bool = True) -> tuple[tuple[int, str], int]:
    value, after = scanstring(text, end, strict)
    return (end, value), after


def cell_lines(text: str) -> CellLines:
    """Map a notebook's cells to lines of its file; empty if the text is no notebook."""
    try:
        data = _Positioned().decode(text)
    except (ValueError, RecursionError):
        return ()
    cells = data.get("cells") if isinstance(data, dict) else None
    if not isinstance(cells, list):
        return ()
    line_of = _line_counter(text)
    return tuple(_lines_of(cell, line_of) for cell in cells)


def _line_counter(text: str) -> Callable[[int], int]:
    """Offsets come in rising order, so each stretch of the text is counted once."""
    seen = [0, 1]

    def line_of(offset: int) -> int:
        seen[1] += text.count("\n", seen[0], offset)
        seen[0] = offset
        return seen[1]

    return line_of


def _lines_of(cell: Any, line_of: Callable[[int], int]) -> tuple[int, ...]:
    source = cell.get("source") if isinstance(cell, dict) else None
    pieces = source if isinstance(source, list) else [source]
    lines: list[int] = []
    is_new_line = True
    for piece in pieces:
        if not isinstance(piece, tuple):
            continue
        offset, value = piece
        line = line_of(offset)
        # A piece usually is one line; one that holds several has them all on one line of the file.
        rows = value.count("\n") + (0 if value.endswith("\n") else 1)
        lines.extend([line] * (rows if is_new_line else rows - 1))
        is_new_line = value.endswith("\n")
    return tuple(lines)


def place(cells: CellLines, cell: int, row: int) -> int:
    """Give the file's line of a row of a cell (both from 1): the nearest one that is known, else 1."""
    if not 1 <= cell <= len(cells) or not cells[cell - 1]:
        return 1
    lines = cells[cell - 1]
    return lines[min(max(row, 1), len(lines)) - 1]
