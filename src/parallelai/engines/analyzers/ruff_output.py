"""Read what `ruff check --output-format json-lines` prints.

Standard output has one JSON object a finding. Which files were looked at only the verbose log says, on
standard error: those that the project's settings exclude are passed over in silence otherwise.
"""

from __future__ import annotations

import functools
import io
import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

import msgspec

from parallelai.engines.analyzers import notebooks
from parallelai.engines.analyzers.ruff_rules import weigh_at
from parallelai.engines.untrusted import MAX_FIELD_CHARS, clean, shorten
from parallelai.errors import Internal
from parallelai.records import Finding

# A record of the log, which a newline in a file's name may split over several lines.
_RECORD = re.compile(r"^\[\d{4}-\d\d-\d\d\]\[[\d:.]+\]\[[\w:]+\]\[\w+\] ", re.MULTILINE)
_CHECKING = "Checking: "
_CHECKED = re.compile(r"Checked (\d+) files? in")
_UNREAD = re.compile(r"^warning: Failed to lint (.+): (.+)$", re.MULTILINE)
_CAUSE = re.compile(r"^\s*Cause: (.*)$", re.MULTILINE)

IO_ERROR = "E902"
"""Ruff's rule for a file that it could not read."""
SYNTAX_ERROR = "invalid-syntax"


class _Place(msgspec.Struct):
    row: int
    column: int


class _Fix(msgspec.Struct):
    message: str | None = None


class _Item(msgspec.Struct):
    """What is read of one line. Older versions gave syntax errors no `code`, newer ones some rules only a name."""

    filename: str
    location: _Place
    end_location: _Place
    message: str
    code: str | None = None
    name: str | None = None
    cell: int | None = None
    fix: _Fix | None = None


_ITEM = msgspec.json.Decoder(_Item)


class Located(NamedTuple):  # quicker to make than a data class, and there are thousands
    """A finding with the absolute path that Ruff printed; `is_unread`: it says that the file was not read."""

    path: str
    finding: Finding
    is_unread: bool = False


def read_findings(
    output: bytes, *, relative: Callable[[str], str | None], read: Callable[[str], str | None]
) -> list[Located]:
    """Read the findings of one call.

    `relative` turns a printed path into the request's (None: it was not asked about, and is passed over);
    `read` gives the text of a file, for notebooks. Lines that are cut off in the middle are passed over.
    Raises `Internal` if what was printed is of another form.
    """
    found: list[Located] = []
    cells = functools.cache(lambda path: notebooks.cell_lines(read(path) or ""))
    try:
        for item in _items(output):
            name = relative(item.filename)
            if name is not None:
                found.append(_located(item, name, cells))
    except msgspec.ValidationError as error:
        raise Internal(
            f"Ruff printed findings of an unknown form: {error}",
            next="install another version of `ruff`",
        ) from None
    return found


def _items(output: bytes) -> Iterator[_Item]:
    """Read the lines that are JSON objects, one after another: at once they would take more time, and memory."""
    for line in io.BytesIO(output):
        if line.startswith(b"{") and (item := _item(line)) is not None:
            yield item


def _item(line: bytes) -> _Item | None:
    """Read one object; None for one that is cut off, because the middle of a long output is not kept."""
    try:
        return _ITEM.decode(line)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError):  # a name that is no UTF-8, or half of a surrogate pair?
        return _mended(line)


def _mended(line: bytes) -> _Item | None:
    try:
        plain = json.loads(line.decode("utf-8", "replace"))
    except ValueError:
        return None
    return msgspec.convert(plain, _Item)


def _located(item: _Item, name: str, cells: Callable[[str], notebooks.CellLines]) -> Located:
    start, end = item.location, item.end_location
    rule = item.code or item.name or SYNTAX_ERROR
    line = (start.row, max(start.row, end.row))
    column: tuple[int, int] | None = (start.column, end.column)
    message = _field(item.message) or rule
    if item.cell is not None:
        place = functools.partial(notebooks.place, cells(item.filename), item.cell)
        message = f"{message} (cell {item.cell}, line {line[0]})"
        line, column = (place(line[0]), max(place(line[0]), place(line[1]))), None
    severity, category = weigh_at(rule, name)
    fix = item.fix.message if item.fix is not None else None
    finding = Finding(
        file=name,
        line=line,
        column=column,
        severity=severity,
        category=category,
        rule=rule,
        message=message,
        suggestion=_field(fix or "") or None,
    )
    return Located(item.filename, finding, is_unread=rule == IO_ERROR)


@functools.lru_cache(maxsize=2048)  # rules say the same thing again and again
def _field(text: str) -> str:
    return shorten(clean(text), MAX_FIELD_CHARS)


def read_checked(log: str, files: Collection[str], unread: Collection[str]) -> frozenset[str] | None:
    """Give those of the files (absolute) that were looked at; None if the log does not tell all of them.

    `unread` are those that Ruff reported as unreadable: it counts them, and may not name them.
    """
    # Warnings without a record's head may follow on the lines after it; so may the rest of an odd name.
    odd = [path for path in files if "\n" in path]
    plain = frozenset(files)
    checked: set[str] = set()
    total = -1
    for record in _RECORD.split(log):
        if record.startswith(_CHECKING):
            named = record.removeprefix(_CHECKING)
            checked.update(path for path in odd if named.startswith(f"{path}\n"))
            checked.update(plain.intersection((named.partition("\n")[0],)))
        elif found := _CHECKED.match(record):
            total = int(found.group(1))
    return frozenset(checked) if total == len(checked.union(unread)) else None


def read_unread(log: str, cwd: str) -> dict[str, str]:
    """Give the files (absolute) that Ruff could not read, and why: it warns of them where `E902` is not selected."""
    return {os.path.join(cwd, name): clean(why) for name, why in _UNREAD.findall(log)}  # noqa: PTH118  # texts


def read_failure(log: str) -> str:
    """Say in one line why Ruff refused to work: the causes that it prints, without what a file holds."""
    causes = [" ".join(clean(cause).split()) for cause in _CAUSE.findall(log)]
    # A TOML error is told in five lines; the last says what is wrong, and may quote the file only by a word.
    tail = [line for line in clean(log).split("\n") if line.strip()]
    if causes and "parse error" in causes[-1] and tail:
        causes.append(tail[-1].strip())
    return shorten("; ".join(causes) or (tail[-1].strip() if tail else "it gave no reason"), 400)
