"""Loads plans: from a file, from text, from plain data. All that is wrong is said at once."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from parallelai.errors import PlanError, Problem
from parallelai.plan import source
from parallelai.plan.check import UNREAD, Names, check
from parallelai.plan.files import Tree
from parallelai.plan.model import Plan, positions
from parallelai.plan.positions import Positions, Step
from parallelai.plan.problems import alias_table, all_models, in_order, nearest, problems_of
from parallelai.plan.values import ID, kind_of

__all__ = ["Names", "from_mapping", "load", "loads", "positions"]

_LISTS = ("tasks", "workstreams", "phases")
_ID_KEYS = ("id", "name", "agent_id", "AGENT")
_MOST_PROBLEMS = 500


def load(
    path: Path,
    *,
    root: Path,
    names: Names | None = None,
    tree: Tree | None = None,
    allow_overlaps: bool = False,
) -> Plan:
    """Load a plan file of the project at `root`: YAML, or a task list in Markdown by its name's end (`.md`).

    `names` are the engines, templates and tiers that there are; what it leaves out is not checked. With a
    `tree` file patterns that match nothing are errors too. `allow_overlaps`: workstreams may own the same
    files without an order, for whoever proposes one. Raises `PlanError` with all problems.
    """
    file = _shown_path(path, root)
    text = source.decode(source.read(path, root=root, file=file), file)
    found = _parse_list(text, file) if source.is_task_list(path) else source.parse(text, file)
    place = Positions(file, found.place, _aliases(), notes=found.notes, finished=found.finished)
    return _build(found.data, place, found.problems, names, tree, allow_overlaps=allow_overlaps)


def _parse_list(text: str, file: str) -> source.Source:
    from parallelai.plan.markdown import imported  # few plans are task lists

    return imported.parse(text, file)


def loads(text: str, *, file: str = "plan", names: Names | None = None, tree: Tree | None = None) -> Plan:
    """Load a plan from YAML (or JSON) text; `file` is what errors call it. Raises `PlanError`."""
    found = source.parse(text, file)
    place = Positions(file, found.place, _aliases())
    return _build(found.data, place, found.problems, names, tree)


def from_mapping(data: Mapping[str, Any], *, names: Names | None = None, tree: Tree | None = None) -> Plan:
    """Load a plan from plain data or from models. Raises `PlanError` with all problems, without places."""
    return _build(dict(data), Positions(aliases=_aliases()), [], names, tree)


@functools.cache
def _aliases() -> Mapping[str, tuple[str, ...]]:
    table = dict(alias_table(all_models(Plan)))
    # A workstream's `files` are what it owns; where `files` itself is meant, it is found under its own name.
    table["owns"] = (*table["owns"], "files")
    return table


def _shown_path(path: Path, root: Path) -> str:
    """How errors name a plan: by its path below the root, or as it was given."""
    written = Path(os.path.abspath(path))  # noqa: PTH100  # links are not followed: it is only a name
    for base in (Path(os.path.abspath(root)), root.resolve()):  # noqa: PTH100
        if written.is_relative_to(base):
            return written.relative_to(base).as_posix()
    return str(path)


def _build(
    data: Any,
    place: Positions,
    problems: list[Problem],
    names: Names | None,
    tree: Tree | None,
    *,
    allow_overlaps: bool = False,
) -> Plan:
    if not isinstance(data, Mapping):
        said = "the plan is empty" if data is None else f"the plan is {kind_of(data)}, not a mapping"
        line, column = place.of() or (None, None)
        advice = "begin with `tasks:` or `workstreams:`"
        raise PlanError([*problems, Problem(said, place.file, line, column, advice)])
    data = dict(data)
    plan: Plan | None = None
    unread: frozenset[str] = frozenset()
    for _ in range(4):  # each round takes out what cannot be read, so that the rest is checked all the same
        try:
            plan = Plan.model_validate(data)
            break
        except ValidationError as error:
            problems += problems_of(error, Plan, place)
            data, taken = _without(data, [tuple(e["loc"]) for e in error.errors(include_url=False)], place)
            unread |= taken
    if plan is not None:
        plan._positions = place
        place.ids = _places_of_ids(plan)
        problems += check(plan, names=names, tree=tree, unread=unread, allow_overlaps=allow_overlaps)
    if problems or plan is None:
        raise PlanError(_bounded(in_order(problems)))
    place.checked = _mark(plan, names, tree)
    return plan


def is_checked(plan: Plan, *, names: Names, tree: Tree) -> bool:
    """Say whether a plan is still as it was loaded, and was checked then for these names and files."""
    mark, known = _mark(plan, names, tree), positions(plan).checked
    return len(mark) == len(known) and all(
        ours is theirs or (isinstance(ours, Names) and ours == theirs)
        for ours, theirs in zip(mark, known, strict=True)
    )


def _mark(plan: Plan, names: Names | None, tree: Tree | None) -> tuple[Any, ...]:
    return (names, tree, *plan.__dict__.values())


def _bounded(problems: list[Problem]) -> list[Problem]:
    more = len(problems) - _MOST_PROBLEMS
    if more <= 0:
        return problems
    return [*problems[:_MOST_PROBLEMS], Problem(f"and {more} more problems", problems[0].file)]


def _places_of_ids(plan: Plan) -> dict[str, tuple[Step, ...]]:
    ids: dict[str, tuple[Step, ...]] = {}
    for name, works in (("tasks", plan.tasks), ("workstreams", plan.workstreams)):
        for index, work in enumerate(works):
            ids.setdefault(work.id, (name, index))
    return ids


def _without(
    data: dict[str, Any], paths: list[tuple[Step, ...]], place: Positions
) -> tuple[dict[str, Any], frozenset[str]]:
    """Take what is wrong out of the data, leaving stand-ins, so that no index or id moves.

    Also returns the names of what was taken out, about which nothing more can be said.
    """
    data = {key: _items(value) if key in _LISTS else value for key, value in data.items()}
    taken: set[str] = set()
    for path in paths:
        key = str(path[0]) if path else ""
        if key in _LISTS and len(path) > 1 and isinstance(data.get(key), list):
            taken.add(key)
            _repair(data[key], key, path, taken, place)
        elif len(path) > 1 and isinstance(data.get(key), Mapping):
            taken.add(str(path[1]))
            data[key] = {name: inner for name, inner in data[key].items() if name != path[1]}
        else:
            data.pop(key, None)
            taken.add(key)
    return data, frozenset(taken)


def _items(value: Any) -> Any:
    if isinstance(value, Mapping):
        return [_named(name, entry) for name, entry in value.items()]
    return list(value) if isinstance(value, (list, tuple)) else value


def _repair(items: list[Any], key: str, path: tuple[Step, ...], taken: set[str], place: Positions) -> None:
    """Take what the path names out of one item, and complete what is left."""
    index = path[1]
    if not isinstance(index, int) or index >= len(items):
        return
    is_mapping = len(path) > 2 and isinstance(items[index], Mapping)
    item = dict(items[index]) if is_mapping else {}
    field = str(path[2]) if is_mapping else ""
    for name in (field, *place.aliases.get(field, ()), *(_ID_KEYS if field == "id" else ())):
        item.pop(name, None)
    items[index] = _stand_in(item, key, index, field)
    taken.add(_id_of(items[index]))


def _named(name: str, entry: Any) -> Any:
    return (
        {**({"id": name} if ID.match(name) else {}), **entry} if isinstance(entry, Mapping) else {"id": name}
    )


def _id_of(item: Mapping[str, Any]) -> str:
    return next((str(item[name]) for name in _ID_KEYS if name in item), "")


def _stand_in(item: dict[str, Any], key: str, index: int, field: str) -> dict[str, Any]:
    """Complete what is left of an item, so that it can be read; `field` was taken out, or all if empty."""
    if key == "phases":
        kept = {name: value for name, value in item.items() if name in {"name", "tasks"}}
        return {"name": f"{UNREAD}{index}", "tasks": [], **kept}
    if not any(name in item for name in _ID_KEYS):
        item["id"] = f"{UNREAD}{key}-{index}"
    if not field or nearest(field, ("description", "template")):  # also a misspelt one is one
        item["description"] = "-"
    if key == "workstreams" and field in {"", "owns"}:
        item["owns"] = [f"{UNREAD}{index}"]
    return item
