r"""Markdown tables of tasks: a row is a task, and the header says what its cells are.

    | # | Task                | Files         | Depends on | Notes |
    |---|---------------------|---------------|------------|-------|
    | 1 | Write orders as CSV | src/export.py |            |       |

Only plain cells: what is in a column that no detail is called like becomes words of the description.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct, field

from parallelai.plan.markdown.checkboxes import BOX
from parallelai.plan.markdown.details import KEYS, Detail, is_none, key_of, single, slug
from parallelai.plan.markdown.outline import Piece, Slip, cells
from parallelai.plan.markdown.slips import of_header

_KEYS = {
    **KEYS,
    "name": "id",
    "file": "owns",
    **dict.fromkeys(("depends", "dependency", "deps", "prerequisites"), "depends_on"),
    **dict.fromkeys(("state", "done"), "status"),
    **dict.fromkeys(("#", "no", "no.", "nr", "nr.", "number"), "number"),
    **dict.fromkeys(("task", "tasks", "todo", "to do", "work item", "workstream"), "title"),
    **dict.fromkeys(("title", "feature", "what"), "heading"),
}
_BESIDE = {**_KEYS, **dict.fromkeys(("needs", "requires", "after", "waits for"), "depends_on")}
"""The same beside a column that only tables of tasks have: tables of other things have these words, too."""
_TITLES = ("title", "heading", "description", "id")
"""The columns that may hold what a task is called; the first that is there does."""
_BREAK = re.compile(r"<br[ \t]{0,4}/?>", re.IGNORECASE)
_NUMBER = re.compile(r"#?[ \t]?(?P<number>\d{1,4}(?:\.\d{1,4}){0,3})")
DONE = frozenset({"done", "complete", "completed", "finished", "landed", "merged"})
_TICKED = re.compile(
    r"(?:\[x\]|[x✓✔✅☑]|:white_check_mark:|:heavy_check_mark:|yes|y|true)\ufe0f?", re.IGNORECASE
)


class Row(Struct):
    """A task of a table: `title` as it is written, `details` with their further lines, other cells as `text`."""

    title: Piece
    number: str | None = None
    is_done: bool = False
    details: list[tuple[Detail, list[Piece]]] = field(default_factory=list)
    todo: list[Piece] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    slips: list[Slip] = field(default_factory=list)


class Columns(Struct, frozen=True):
    """What the columns of a table are: keys, or the header's own words where that is no detail; `title` is one."""

    names: Sequence[Piece]
    keys: Sequence[str | None]
    title: int
    slips: Sequence[Slip]


def columns(header: Sequence[Piece]) -> Columns | None:
    """Read the header of a table; None for a table of other things than tasks."""
    keys = [key_of(name.text, _KEYS) for name in header]
    if not {"title", "owns"}.isdisjoint(keys):
        keys = [key_of(name.text, _BESIDE) for name in header]
    title = next((keys.index(key) for key in _TITLES if key in keys), None)
    if title is None or not {"title", "owns", "depends_on"} & set(keys):
        return None
    slips = [of_header(name) for name, key in zip(header, keys, strict=True) if key is None]
    return Columns(header, keys, title, [slip for slip in slips if slip is not None])


def lacking(text: Sequence[Piece]) -> Slip | None:
    """Find the header of a table of tasks in a paragraph, which it is for want of a line of dashes below it."""
    for line in text:
        header = cells(line)
        if len(header) > 1 and columns(header) is not None:
            dashes = "|---" * len(header) + "|"
            said = f"the table: below its header is no line of dashes for its {len(header)} columns"
            return Slip(line, said, f"write `{dashes}` there")
    return None


def row(found: Columns, given: Sequence[Piece]) -> Row | None:
    """Read a row; None for one in which all cells are empty."""
    if not any(cell.text for cell in given):
        return None
    title = given[found.title] if found.title < len(given) else given[0]._replace(text="")
    read = Row(title._replace(text=_BREAK.sub("\n", title.text)))
    box = BOX.match(read.title.text)
    if box is not None:
        read.is_done = box["mark"] != " "
        read.title = read.title.part(box.end())
    if not read.title.text:
        said, advice = "the row does not say what its task is", f"fill in `{found.names[found.title].text}`"
        read.title = next(cell for cell in given if cell.text)  # so that nothing else is said about it
        read.slips.append(Slip(read.title, said, advice))
    if len(given) > len(found.names):
        said = "the row has more cells than the table has columns"
        read.slips.append(Slip(given[len(found.names)], said, r"write `\|` for a bar inside of a cell"))
    for number, (key, name, cell) in enumerate(zip(found.keys, found.names, given, strict=False)):
        if cell.text and number != found.title:
            _cell(read, key, name, cell)
    return read


def _cell(read: Row, key: str | None, name: Piece, cell: Piece) -> None:
    """Take a cell other than the title's."""
    number = _NUMBER.fullmatch(cell.text)
    if key == "number" or (key == "id" and number is not None):
        read.number = slug(number["number"] if number is not None else cell.text) or None
    elif key == "status":
        read.is_done |= slug(single(cell).text) in DONE or _TICKED.fullmatch(cell.text) is not None
    elif is_none(cell.text) and key not in (None, "description"):
        return
    elif key == "todo":
        read.todo += _lines(cell)
    elif key in (None, *_TITLES[:2]):
        label = f"{name.text}: " if name.text else ""
        read.text.append(label + _BREAK.sub("\n", cell.text))
    else:
        first, *more = _lines(cell)
        read.details.append((Detail(str(key), name, first), more))


def _lines(cell: Piece) -> list[Piece]:
    """The lines of a cell, which are parted by `<br>`; one at least."""
    starts = [0, *(found.end() for found in _BREAK.finditer(cell.text))]
    ends = [*(found.start() for found in _BREAK.finditer(cell.text)), len(cell.text)]
    lines = [cell.part(start, end) for start, end in zip(starts, ends, strict=True)]
    return [line for line in lines if line.text] or [cell._replace(text="")]
