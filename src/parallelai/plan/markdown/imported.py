"""From a Markdown task list to the data of a plan, with the places of its values.

What names files or a branch becomes a workstream, all else a task that edits. Text is taken literally: what looks
like a template is no template. Tasks that are done are left out, and said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from parallelai.errors import PlanError, Problem
from parallelai.plan.markdown.details import LISTS, OWNING, Detail, is_none, literal, parts, single, slug
from parallelai.plan.markdown.outline import Piece, outline
from parallelai.plan.markdown.referring import Names
from parallelai.plan.markdown.tasklist import Entry, Found, entries
from parallelai.plan.positions import Place
from parallelai.plan.source import MOST_VALUES, Source, refuse_unreadable

_MOST_SHOWN = 10
_FEW = 3
_LONGEST_SHOWN = 100


def parse(text: str, file: str) -> Source:
    """Read a task list as the data of a plan. Raises `PlanError` where it cannot be read, or has no task."""
    found = _found(text, file)
    problems = [Problem(slip.said, file, slip.at.line, slip.at.column, slip.next) for slip in found.slips]
    left = [entry for entry in found.entries if not entry.is_done]
    done = [entry for entry in found.entries if entry.is_done]
    if not found.entries:
        raise PlanError(problems or [_nothing(found, file)])
    writer = _Writer(file, Names(found.entries), frozenset(entry.id for entry in done))
    source = writer.source(left, done)
    source.problems[:0] = problems
    source.notes = (*source.notes, *_of_tables(found, file))
    return source


def boxes(text: str) -> Mapping[str, tuple[int, ...]]:
    """Say which lines, from 0, hold the checkboxes of each task of a list; empty for what is no task list."""
    try:
        return {entry.id: tuple(dict.fromkeys(entry.boxes)) for entry in _found(text, "").entries}
    except PlanError:
        return {}


def rows(text: str) -> frozenset[str]:
    """Name the tasks of a list that are not done and are rows of a table, which has no boxes to tick."""
    try:
        found = _found(text, "")
    except PlanError:
        return frozenset()
    return frozenset(entry.id for entry in found.entries if entry.is_row and not entry.is_done)


def _found(text: str, file: str) -> Found:
    text = text.removeprefix("\ufeff")
    refuse_unreadable(text, file)
    return entries(outline(text, file))


class _Writer(Struct):
    """Writes tasks as data and places, side by side."""

    file: str
    names: Names
    done: frozenset[str]
    values: int = 0

    def source(self, left: Sequence[Entry], done: Sequence[Entry]) -> Source:
        data: dict[str, Any] = {}
        root = Place(1, 1, children={})
        problems: list[Problem] = []
        for entry in left:
            is_stream = any(detail.key in OWNING and _says(detail, more) for detail, more in entry.details)
            name = "workstreams" if is_stream else "tasks"
            value, place = self._entry(entry, is_stream=is_stream, problems=problems)
            works = data.setdefault(name, [])
            assert root.children is not None  # noqa: S101  # made with them
            holder = root.children.setdefault(name, Place(place.line, place.column, 1, 1, {}))
            assert holder.children is not None  # noqa: S101  # made with them
            holder.children[len(works)] = place
            works.append(value)
        if not left:
            return Source(data, root, problems, finished=_finished(done))
        return Source(data, root, problems, _notes(done))

    def _entry(
        self, entry: Entry, *, is_stream: bool, problems: list[Problem]
    ) -> tuple[dict[str, Any], Place]:
        place = Place(*entry.place, children={})
        data: dict[str, Any] = {}
        assert place.children is not None  # noqa: S101  # made with them
        for key, value, where in self._values(entry, problems, is_stream=is_stream):
            self._count(value, where)
            if key not in data:
                data[key], place.children[key] = value, where
            elif isinstance(value, list):  # what one owns may be said in several places
                have, before = place.children[key].children or {}, len(data[key])
                have.update(
                    {before + number: each for number, each in enumerate((where.children or {}).values())}
                )
                data[key] += value
            else:
                said = f"`{entry.id}` has `{key}` twice"
                problems.append(Problem(said, self.file, where.line, where.column, "keep one of them"))
        return data, place

    def _count(self, value: Any, where: Place) -> None:
        self.values += 2 + (len(value) if isinstance(value, list) else 0)
        if self.values > MOST_VALUES:
            said = f"the task list has more than {MOST_VALUES:,} keys and values"
            raise PlanError([Problem(said, self.file, where.line, where.column, "split it")])

    def _values(
        self, entry: Entry, problems: list[Problem], *, is_stream: bool
    ) -> Iterator[tuple[str, Any, Place]]:
        yield "id", entry.id, _at(entry.id_at or entry.title)
        yield "description", literal(_description(entry)), _at(_goal(entry) or entry.title)
        if not is_stream:
            yield "edits", True, _at(entry.title)
        for detail, more in entry.details:
            if detail.key in ("id", "description", "status") or not _says(detail, more):
                continue
            if detail.key in LISTS:
                pieces = [piece for each in (detail.value, *more) for piece in parts(detail.key, each)]
                if detail.key == "depends_on":
                    pieces = self._named(entry, pieces, problems)
                if pieces:
                    yield self._list(detail, pieces)
            else:
                value = single(next((piece for piece in (detail.value, *more) if piece.text), detail.value))
                yield detail.key, value.text, _at(value, detail.name)
        if entry.todo:
            yield self._list(Detail("todo", entry.todo[0], entry.todo[0]), entry.todo)

    def _named(self, entry: Entry, pieces: list[Piece], problems: list[Problem]) -> list[Piece]:
        """Put ids in place of what tasks are called otherwise; what is done is waited for no more."""
        unique: dict[str, Piece] = {}
        for piece in pieces:
            ids = self.names.find(piece.text, entry.id)
            if len(ids) > 1:
                problems.append(self._unclear(entry, piece, ids))
                continue
            id = ids[0] if ids else piece.text
            if id not in self.done:
                unique.setdefault(id, piece._replace(text=id))
        return list(unique.values())

    def _unclear(self, entry: Entry, piece: Piece, ids: Sequence[str]) -> Problem:
        shown = ", ".join(f"`{id}`" for id in ids[:_FEW])
        said = f"`{entry.id}` depends on `{piece.text[:_LONGEST_SHOWN]}`, which may be any of {shown}"
        return Problem(said, self.file, piece.line, piece.column, "write the id of the one that is meant")

    def _list(self, detail: Detail, pieces: Sequence[Piece]) -> tuple[str, list[str], Place]:
        place = _at(detail.value, detail.name)
        place.children = {number: _at(piece) for number, piece in enumerate(pieces)}
        return detail.key, [piece.text for piece in pieces], place


def _says(detail: Detail, more: Sequence[Piece]) -> bool:
    """Whether a detail says anything: what is left empty, or is a list of `None`, does not."""
    if detail.key in LISTS and detail.value.text:
        return not is_none(detail.value.text)
    return any(piece.text for piece in (detail.value, *more))


def _at(value: Piece, name: Piece | None = None) -> Place:
    return Place(value.line, value.column, *(name[1:] if name is not None else (0, 0)))


def _goal(entry: Entry) -> Piece | None:
    return entry.value("description")


def _description(entry: Entry) -> str:
    """What is to be done: the goal, after the title where the id does not say it; then all that is no detail."""
    goals = [
        "\n".join(piece.text for piece in (detail.value, *more) if piece.text)
        for detail, more in entry.details
        if detail.key == "description"
    ]
    title = [] if goals and slug(entry.name) in (entry.id, "") else [entry.title.text]
    return "\n\n".join(part for part in (*title, *goals, *entry.text) if part.strip())


def _finished(done: Sequence[Entry]) -> str:
    return f"all {len(done)} tasks are done" if len(done) > 1 else "its only task is done"


def _nothing(found: Found, file: str) -> Problem:
    """What is wrong with a list that has no task."""
    if found.lacking is not None:
        at, said, advice = found.lacking
        return Problem(said, file, at.line, at.column, advice)
    if found.skipped:
        at, said = found.skipped[0], "the table: none of its columns says what a task is"
        return Problem(said, file, at.line, at.column, "call them such as `| Task | Files | Depends on |`")
    advice = (
        "write one as `- [ ] what is to be done`, as a heading with `**FILES**: …` below it,"
        " or as a row of a table with a column `Task`"
    )
    return Problem("the task list: there is no task in it", file, 1, 1, advice)


def _of_tables(found: Found, file: str) -> Iterator[str]:
    """What a reader may take for tasks, and is none."""
    for at in found.skipped[:_FEW]:
        yield f"{file}:{at.line}:{at.column}: the table is not read, because the list has tasks beside it"
    if len(found.skipped) > _FEW:
        yield f"{len(found.skipped) - _FEW} more tables are not read"


def _notes(done: Sequence[Entry]) -> tuple[str, ...]:
    if not done:
        return ()
    shown = ", ".join(f"`{entry.id}`" for entry in done[:_MOST_SHOWN])
    more = f" and {len(done) - _MOST_SHOWN} more" if len(done) > _MOST_SHOWN else ""
    word = "task is" if len(done) == 1 else "tasks are"
    return (f"{len(done)} {word} done, and left out: {shown}{more}",)
