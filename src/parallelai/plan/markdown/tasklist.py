"""The tasks of a Markdown task list, in the three ways that people write one.

A checkbox is a task, and the items nested in it are its parts:

    - [ ] Build the login form (depends on: schema) (files: src/login/**)
      - [ ] check the input

A heading is a task if details follow it, or if it begins like `Agent 1:` or `Task 3:`; lists below it are its parts:

    ## Agent 1: GUI
    **FILES**: src/gui/**
    **DEPENDENCIES**: None (can start at once)

Where there is neither, each row of a table with a column `Task` is one (`tables`).

Ids are made of what a task is called, also of those that are done, so that they stay the same while boxes are ticked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from msgspec import Struct, field

from parallelai.plan.markdown import tables
from parallelai.plan.markdown.details import Detail, first_text, key_of, of_line, single, slug, within
from parallelai.plan.markdown.outline import Block, Item, Outline, Piece, Section, Slip, cells
from parallelai.plan.markdown.slips import in_brackets, of_label
from parallelai.plan.values import ID, RESERVED

_HEADING = re.compile(
    r"(?P<word>agent|task|work[ -]?stream|stream|track|worker)[ \t]*"
    r"(?P<number>#?[ \t]?\d{1,4}(?:\.\d{1,4}){0,3}|(?:(?<=[ \t])|(?!s))[A-Z]\b)?[ \t]*"  # but no plural
    r"(?P<colon>[:.)–—-]|\Z)[ \t]*(?P<title>.*)\Z",
    re.IGNORECASE | re.DOTALL,
)
_NAMED = re.compile(
    r"(?P<mark>`|\*\*|)(?P<id>[A-Za-z0-9][A-Za-z0-9._-]{0,99})(?::(?P=mark)|(?P=mark)(?:[ \t]*:|[ \t]+[-–—]))[ \t]+"
)
_BOLD = re.compile(r"\*\*(?P<text>[^*]{1,200})\*\*")
_ORNAMENT = re.compile(r"\A[^\w`*(\[]+")
_WHOSE = frozenset({"id", "owns"})
_OF_TASKS = frozenset({"depends_on", "branch", "reads", "avoids", "contracts"})
"""Details that a heading which only groups others, or a whole list, does not have; a goal or an estimate it may."""
_TODO_HEADINGS = frozenset({"checklist", "task-list", "to-do", "work", "work-items", "implementation"})


_LONGEST_ID = 90
_LONGEST_HEADING = 500
"""A longer one does not say that it is a task."""


class Entry(Struct):
    """A task of the list, at `place`: line and column, from 1.

    `title` is what it is called, `name` its first line; `details` are its keys with their values, in their order.
    `number` is its own in a numbered list or heading; `others` are names under which tasks refer to it, as slugs;
    `boxes` the lines, from 0, of its checkboxes, of which a row of a table has none; `slips` what seems to be meant
    for a detail, but is none.
    """

    place: tuple[int, int]
    title: Piece
    id: str = ""
    id_at: Piece | None = None
    is_done: bool = False
    details: list[tuple[Detail, list[Piece]]] = field(default_factory=list)
    todo: list[Piece] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    number: str | None = None
    is_row: bool = False
    others: list[str] = field(default_factory=list)
    boxes: list[int] = field(default_factory=list)
    slips: list[Slip] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.title.text.partition("\n")[0]

    def value(self, key: str) -> Piece | None:
        """What the first detail of that key says."""
        return next((detail.value for detail, _ in self.details if detail.key == key), None)


class Found(Struct, frozen=True):
    """The tasks of a list, also those that are done, each with an id of its own; and what is written wrong in it.

    `skipped` are the tables that were not read: those of tasks beside other tasks, any where no task is. `lacking`
    is what a table lacks to have tasks, where there is none.
    """

    entries: Sequence[Entry]
    slips: Sequence[Slip]
    skipped: Sequence[Piece] = ()
    lacking: Slip | None = None


def entries(outline: Outline) -> Found:
    """Find the tasks of a list. What is wrong in one that is done matters no more."""
    finder = _Finder(outline)
    tasks = list(finder.entries())
    read = [(table, tables.columns(cells(table.rows[0]))) for table in finder.tables]
    of_tasks = [(table, found) for table, found in read if found is not None]
    skipped = [table for table, found in read if (found is not None) is bool(tasks)]
    if not tasks:  # else a table is an overview of them, or says the same again
        tasks = [entry for table, found in of_tasks for entry in finder.rows(table, found)]
        skipped = [] if tasks else skipped
    lacking = _lacking(finder, of_tasks) if not tasks else None
    _name(tasks)
    slips = [slip for entry in tasks if not entry.is_done for slip in entry.slips]
    slips = [*outline.slips, *finder.slips, *slips]
    return Found(tasks, slips, [table.rows[0] for table in skipped], lacking)


def _lacking(finder: _Finder, of_tasks: Sequence[tuple[Block, tables.Columns]]) -> Slip | None:
    """Say what a table lacks that has no tasks."""
    if of_tasks:
        header = of_tasks[0][0].rows[0]
        return Slip(header, "the table has no rows", "write one for each task below its line of dashes")
    found = (tables.lacking(text) for text in finder.texts)
    return next((slip for slip in found if slip is not None), None)


class _Finder:
    def __init__(self, found: Outline) -> None:
        self._outline = found
        self.slips: list[Slip] = []  # below headings that are no tasks
        self.tables: list[Block] = []  # in no task
        self.texts: list[Sequence[Piece]] = []  # the same

    def entries(self) -> Iterator[Entry]:
        sections = self._outline.sections
        is_task = _task_sections(sections)
        owned = [False] * len(sections)
        for number, section in enumerate(sections):
            if is_task[number]:
                below = _below(sections, is_task, number)
                for each in below:
                    owned[each] = True
                yield self._headed(section, [sections[each] for each in below])
            elif not owned[number]:
                self.slips += _stray(section)
                for block in section.blocks:
                    yield from self._boxes(block)

    def rows(self, table: Block, read: tables.Columns) -> Iterator[Entry]:
        """The tasks of a table of tasks."""
        self.slips += read.slips
        for line in table.rows[1:]:
            row = tables.row(read, cells(line))
            if row is not None:
                item = Item(table.first, table.last, box=row.is_done, pieces=[row.title])
                entry = self._box(item, row.number)
                entry.is_row = True
                entry.boxes.clear()
                entry.details += row.details
                entry.todo += row.todo
                entry.text += ["\n".join(row.text)] * bool(row.text)
                entry.slips += row.slips
                yield entry

    # -- checkboxes

    def _boxes(self, block: Block) -> Iterator[Entry]:
        if block.rows:
            self.tables.append(block)
        if block.pieces:
            self.texts.append(block.pieces)
        for item, number in zip(block.items, _numbers(block.items), strict=True):
            if item.box is not None:
                yield self._box(item, number)
            else:
                for inner in item.blocks:
                    yield from self._boxes(inner)

    def _box(self, item: Item, counted: str | None) -> Entry:
        kept: list[Piece] = []
        details: list[tuple[Detail, list[Piece]]] = []
        slips: list[Slip] = []
        for number, piece in enumerate(item.pieces):
            line = of_line(piece, is_item=True) if number else None
            if line is not None:
                details.append((line, []))
                continue
            label = of_label(piece) if number else None
            slips += [label] if label is not None else in_brackets(piece)
            piece, inside = within(piece)
            details += [(detail, []) for detail in inside]
            if piece.text:
                kept.append(piece)
        title = first_text(kept) if kept else Piece("", item.first + 1, 1)
        entry = Entry((title.line, title.column), title, is_done=bool(item.box), details=details, slips=slips)
        entry.number = counted
        entry.boxes.append(item.first)
        named = _NAMED.match(title.text)
        if named is not None:
            given = title.part(named.start("id"), named.end("id"))
            entry.id_at = given if named["mark"] else given._replace(text=given.text.lower())
            entry.title = title._replace(text=title.text[named.end() :], column=title.column + named.end())
        bold = _BOLD.match(title.text)
        if bold is not None:
            entry.others.append(slug(bold["text"]))
        self._blocks(entry, item.blocks, is_listed=True)
        return entry

    # -- headings

    def _headed(self, section: Section, below: Sequence[Section]) -> Entry:
        bare = _bare(section.title)
        found = _heading(bare)
        title = bare.part(found.start("title")) if found is not None and found["title"] else bare
        entry = Entry((bare.line, bare.column), title, others=[slug(bare.text)])
        if found is not None and found["number"]:
            number = found["number"].lstrip("# \t")
            entry.others.append(slug(f"{found['word']} {number}"))
            entry.number = slug(number)
        self._blocks(entry, section.blocks, is_listed=True)
        for inner in below:
            self._below(entry, inner)
        status = entry.value("status")
        is_ticked = bool(entry.boxes) and not entry.todo
        said = status is not None and slug(single(status).text) in tables.DONE
        entry.is_done = section.box is True or is_ticked or said
        return entry

    def _below(self, entry: Entry, section: Section) -> None:
        """Take what is below a heading inside of a task."""
        title = _bare(section.title)
        key = key_of(title.text)
        named = _heading(title)
        if key == "todo":
            self._blocks(entry, section.blocks, is_listed=True)
        elif key is not None:
            detail = Detail(key, title, title._replace(text=""))
            entry.details.append((detail, _texts(section.blocks)))
            entry.boxes += [line for block in section.blocks for line in _lines_in(block)]
        elif named is not None and (named["number"] or named["colon"] == ":"):
            body = [self._verbatim(block) for block in section.blocks]
            part = title.part(named.start("title")) if named["title"] else title
            entry.todo.append(part._replace(text="\n".join([part.text, *body])))
            entry.boxes += [line for block in section.blocks for line in _lines_in(block)]
        else:
            is_listed = slug(title.text) in _TODO_HEADINGS
            if section.blocks and not is_listed:
                entry.text.append(f"{'#' * section.level} {title.text}")
            self._blocks(entry, section.blocks, is_listed=is_listed)

    def _blocks(self, entry: Entry, blocks: Sequence[Block], *, is_listed: bool) -> None:
        """Take blocks; of a list that follows a label which is no detail, only checkboxes are parts of the task."""
        for before, block in pairwise([Block(0, 0), *blocks]):
            named = of_line(before.pieces[-1]) if before.pieces and block.items else None
            if named is not None and named.key != "todo" and not named.value.text:
                entry.details[-1][1].extend(_texts([block]))
                entry.boxes += _lines_in(block)
            else:
                is_asked = named is not None or (is_listed and not _is_label(before))
                self._part(entry, block, is_listed=is_asked)

    def _part(self, entry: Entry, block: Block, *, is_listed: bool) -> None:
        """Take one block of a task: details, parts of it, or text."""
        if block.items:
            rest = [item for item in block.items if not self._item(entry, item, is_listed=is_listed)]
            entry.text += [self._outline.verbatim(item.first, item.last) for item in rest]
        elif block.pieces:
            self._paragraph(entry, block)
        else:
            entry.text.append(self._verbatim(block))

    def _item(self, entry: Entry, item: Item, *, is_listed: bool) -> bool:
        """Take an item as a detail or as a part of the task; say whether it was one."""
        detail = of_line(item.pieces[0], is_item=True) if item.pieces and item.box is None else None
        if detail is not None and detail.key == "todo":
            entry.todo += [detail.value] * bool(detail.value.text)
            self._blocks(entry, item.blocks, is_listed=True)
            return True
        if detail is not None:
            entry.details.append((detail, [*item.pieces[1:], *_texts(item.blocks)]))
            return True
        if item.box is None and item.pieces:
            entry.slips += _labels(item.pieces[:1])
        entry.boxes += _lines_of_boxes(item)
        if item.box is None and not is_listed:
            return False
        if item.box is not True and item.pieces:
            body = [self._verbatim(block) for block in item.blocks]
            part = first_text(item.pieces)
            entry.todo.append(part._replace(text="\n".join([part.text, *body])))
        return True

    def _paragraph(self, entry: Entry, block: Block) -> None:
        kept: list[str] = []
        current: Detail | None = None
        for piece in block.pieces:
            detail = of_line(piece)
            if detail is not None and detail.key == "todo":
                entry.todo += [detail.value] * bool(detail.value.text)
                current = None
            elif detail is not None:
                entry.details.append((detail, []))
                current = detail
            elif current is not None and _goes_on(current, entry.details[-1][1]):
                entry.details[-1][1].append(piece)
            else:
                current = None
                kept.append(piece.text)
                entry.slips += _labels([piece])
        if kept:
            entry.text.append("\n".join(kept))

    def _verbatim(self, block: Block) -> str:
        return self._outline.verbatim(block.first, block.last)


def _numbers(items: Sequence[Item]) -> list[str | None]:
    """The numbers of a list's items; where they are all written as `1.`, as Markdown shows them."""
    written = [item.number for item in items]
    first = written[0] if written else None
    if first is None or len(set(written)) == len(written):
        return written
    return [str(int(first) + index) for index in range(len(written))]


def _labels(pieces: Sequence[Piece], *, is_sure: bool = False) -> list[Slip]:
    found = [of_label(piece, is_sure=is_sure) for piece in pieces]
    return [slip for slip in found if slip is not None]


def _stray(section: Section) -> list[Slip]:
    """Misspelt details right below a heading, which would make it a task."""
    if not section.level:
        return []
    items = [
        item.pieces[0] for block in section.blocks for item in block.items if item.pieces and item.box is None
    ]
    pieces = [piece for block in section.blocks for piece in block.pieces]
    return _labels([*pieces, *items], is_sure=True)


def _goes_on(detail: Detail, more: list[Piece]) -> bool:
    """Whether the line after a detail belongs to it: of a goal always, of a list after a comma."""
    last = more[-1] if more else detail.value
    return detail.key == "description" or last.text.endswith(",")


def _is_label(block: Block) -> bool:
    """Whether a paragraph says what the list after it is about: `Acceptance criteria:`, no detail."""
    last = block.pieces[-1] if block.pieces else None
    return last is not None and of_line(last) is None and last.text.rstrip("*_").endswith(":")


def _texts(blocks: Sequence[Block]) -> list[Piece]:
    """The lines of paragraphs and items, as what a detail says."""
    found: list[Piece] = []
    for block in blocks:
        found += block.pieces
        found += [first_text(item.pieces) for item in block.items if item.pieces]
    return found


def _lines_in(block: Block) -> list[int]:
    return [line for item in block.items for line in _lines_of_boxes(item)]


def _lines_of_boxes(item: Item) -> list[int]:
    """The lines of an item's checkbox, and of those in it; as deep as the outline, which is bounded."""
    own = [item.first] if item.box is not None else []
    return own + [line for block in item.blocks for line in _lines_in(block)]


# -- headings that are tasks


def _bare(title: Piece) -> Piece:
    """A title without an emoji or other ornament before it, and without marks of bold text."""
    found = _ORNAMENT.match(title.text)
    bare = title if found is None else title.part(found.end())
    return single(bare) if bare.text.startswith("**") and bare.text.endswith("**") else bare


def _heading(title: Piece) -> re.Match[str] | None:
    return _HEADING.match(title.text) if len(title.text) <= _LONGEST_HEADING else None


def _task_sections(sections: Sequence[Section]) -> list[bool]:
    """Say of each heading whether it is a task: it has details, or says so, and does not only group other tasks."""
    details = [_own_details(section) if section.level else frozenset() for section in sections]
    is_task = [False] * len(sections)
    for number in range(len(sections) - 1, -1, -1):
        inner = range(number + 1, _end(sections, number))
        if details[number] & _WHOSE:
            is_task[number] = True
        elif details[number] & _OF_TASKS:
            is_task[number] = not any(is_task[each] and details[each] for each in inner)
        elif details[number] or _says_task(sections[number]):
            has_boxes = not _says_task(sections[number]) and any(
                _has_boxes(sections[each]) for each in (number, *inner)
            )
            is_task[number] = not has_boxes and not any(is_task[each] for each in inner)
    for number in range(len(sections)):
        if is_task[number] and details[number]:  # a heading in it that only says `Task 2:` is a part of it
            for each in range(number + 1, _end(sections, number)):
                is_task[each] = is_task[each] and bool(details[each])
    return is_task


def _has_boxes(section: Section) -> bool:
    return any(_lines_in(block) for block in section.blocks)


def _says_task(section: Section) -> bool:
    title = _bare(section.title).text
    found = _heading(_bare(section.title))
    if found is None or not section.level:
        return False
    return bool(found["number"] or found["colon"] == ":") and key_of(title) is None


def _own_details(section: Section) -> frozenset[str]:
    """The keys of the details right below a heading."""
    found: set[str] = set()
    for block in section.blocks:
        details = [of_line(piece) for piece in block.pieces]
        details += [
            of_line(item.pieces[0], is_item=True) for item in block.items if item.pieces and item.box is None
        ]
        found |= {detail.key for detail in details if detail is not None}
    return frozenset(found - {"todo", "status", "priority", "model", "role", "engine"})


def _end(sections: Sequence[Section], number: int) -> int:
    """The index after the last heading below one."""
    level = sections[number].level
    following = range(number + 1, len(sections))
    return next((each for each in following if sections[each].level <= level), len(sections))


def _below(sections: Sequence[Section], is_task: Sequence[bool], number: int) -> list[int]:
    """The numbers of the headings that belong to a task: those below it that no other task below it has."""
    found = []
    at, end = number + 1, _end(sections, number)
    while at < end:
        if is_task[at]:
            at = _end(sections, at)
        else:
            found.append(at)
            at += 1
    return found


# -- ids


def _name(tasks: Sequence[Entry]) -> None:
    """Give each task an id: the one that it says, else its title's; a second of the same name gets a number."""
    taken = set(RESERVED)
    counts: dict[str, int] = {}
    for number, entry in enumerate(tasks, 1):
        entry.id = wanted = _wanted(entry) or f"task-{number}"
        while entry.id.casefold() in taken:
            counts[wanted] = counts.get(wanted, 1) + 1
            entry.id = f"{wanted}-{counts[wanted]}"
        taken.add(entry.id.casefold())


def _wanted(entry: Entry) -> str:
    """The id that a task says, else one made of its title; empty where that has no letter to make one of."""
    said = entry.value("id")
    if said is not None and single(said).text:
        entry.id_at = single(said)
    given = entry.id_at.text if entry.id_at is not None else ""
    if ID.match(given) and len(given) <= _LONGEST_ID:
        return given
    names = (slug(given), slug(entry.name), *entry.others, entry.number or "")
    return next((name for name in names if name), "")
