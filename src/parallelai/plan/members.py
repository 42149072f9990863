"""What a text uses of tasks, findings and files, where that can be told without rendering it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Literal

from jinja2 import nodes

from parallelai.plan.reasons import did_you_mean
from parallelai.records import Finding

Kind = Literal["tasks", "task", "instances", "findings", "finding", "files", "file"]

_TASK: Mapping[str, Kind | None] = {
    "text": None,
    "findings": "findings",
    "items": "instances",
    "outcome": None,
}
_MEMBERS: Mapping[Kind, Mapping[str, Kind | None]] = {
    "task": _TASK,
    "finding": dict.fromkeys(name for name in dir(Finding) if not name.startswith("_")),
    "file": dict.fromkeys(("path", "text", "lines")),
}
_ELEMENTS: Mapping[Kind, Kind] = {
    "tasks": "task",
    "instances": "task",
    "findings": "finding",
    "files": "file",
}
_SAME = frozenset(
    {"list", "reject", "rejectattr", "reverse", "select", "selectattr", "sort", "unique", "default", "d"}
)
_ONE = frozenset({"first", "last", "max", "min"})
_BY_FIRST = frozenset({"rejectattr", "selectattr", "groupby"})
"""Filters whose first argument names what they look at; of others `attribute` does."""
_FROM_OUTSIDE: Mapping[str, Kind] = {"tasks": "tasks", "files": "files", "file": "file"}


def wrong_members(tree: nodes.Template) -> Iterator[str]:
    """Say what is used of a task, finding or file that none has."""
    yield from _walk(tree, _FROM_OUTSIDE, may_be_undefined(tree))


def may_be_undefined(tree: nodes.Template) -> list[nodes.Node]:
    """Give the expressions that may be undefined: `x|default(…)`, `x is defined`."""
    filters = [node.node for node in tree.find_all(nodes.Filter) if node.name in ("d", "default")]
    tests = [node.node for node in tree.find_all(nodes.Test) if node.name in ("defined", "undefined")]
    return [node for node in (*filters, *tests) if node is not None]


def member(node: nodes.Getattr | nodes.Getitem) -> str | None:
    """Give the name in `a.name` or `a['name']`."""
    if isinstance(node, nodes.Getattr):
        return node.attr
    return node.arg.value if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str) else None


def _walk(node: nodes.Node, names: Mapping[str, Kind], guarded: Collection[nodes.Node]) -> Iterator[str]:
    if isinstance(node, nodes.For):
        yield from _walk(node.iter, names, guarded)
        inner = _in_loop(node, names)
        for part in (*node.body, *node.else_, *([node.test] if node.test is not None else [])):
            yield from _walk(part, inner, guarded)
        return
    if isinstance(node, nodes.Getattr | nodes.Getitem) and node not in guarded:
        yield from _wrong(_kind(node.node, names), member(node))
    if isinstance(node, nodes.Filter) and node.node is not None:
        element = _element(_kind(node.node, names))
        for name in _looked_at(node):
            for each in name.split(",") if node.name == "sort" else (name,):
                yield from _wrong(element, each.strip().split(".")[0])
    for child in node.iter_child_nodes():
        yield from _walk(child, names, guarded)


def _in_loop(loop: nodes.For, names: Mapping[str, Kind]) -> dict[str, Kind]:
    """The names inside of a loop, whose own hide those of outside."""
    own = {
        name.name for name in (loop.target, *loop.target.find_all(nodes.Name)) if isinstance(name, nodes.Name)
    }
    inner = {name: kind for name, kind in names.items() if name not in own}
    whole = _kind(loop.iter, names)
    element = _element(whole) if whole != "tasks" else None
    if isinstance(loop.target, nodes.Name) and element is not None:
        inner[loop.target.name] = element
    return inner


def _element(whole: Kind | None) -> Kind | None:
    return _ELEMENTS.get(whole) if whole is not None else None


def _kind(node: nodes.Node, names: Mapping[str, Kind]) -> Kind | None:
    """What an expression gives; None for what cannot be told."""
    if isinstance(node, nodes.Name):
        return names.get(node.name)
    if isinstance(node, nodes.Filter) and node.node is not None:
        whole = _kind(node.node, names)
        if node.name in _ONE:
            return _element(whole)
        return whole if node.name in _SAME else None
    if not isinstance(node, nodes.Getattr | nodes.Getitem):
        return None
    owner = _kind(node.node, names)
    if owner is None:
        return None
    if owner in _MEMBERS:
        return _MEMBERS[owner].get(member(node) or "")
    is_element = owner == "tasks" or (
        isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Slice)
    )
    return _ELEMENTS[owner] if is_element else None


def _looked_at(node: nodes.Filter) -> Iterator[str]:
    """The members of elements that a filter looks at."""
    given = [pair.value for pair in node.kwargs if pair.key == "attribute"]
    given += node.args[:1] if node.name in _BY_FIRST else []
    for value in given:
        if isinstance(value, nodes.Const) and isinstance(value.value, str):
            yield value.value


def _wrong(kind: Kind | None, name: str | None) -> Iterator[str]:
    known = _MEMBERS.get(kind) if kind is not None else None
    if known is None or name is None or name in known:
        return
    there = ", ".join(f"`{each}`" for each in sorted(known))
    yield f"a {kind} has no `{name}`{did_you_mean(name, known) or f'; it has {there}'}"
