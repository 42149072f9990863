"""Which of `vars` a plan's texts use: what somebody sets and nothing uses is a slip of the hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from jinja2 import nodes

from parallelai.plan.members import member
from parallelai.plan.sandbox import ENVIRONMENT, FAILURES, has_markup


def used(texts: Iterable[str]) -> frozenset[str] | None:
    """Name the variables that descriptions, templates and such use; None where that cannot be told beforehand."""
    names = {name for text in texts if has_markup(text) for name in _used(text)}
    return None if None in names else frozenset(name for name in names if name is not None)


def of_condition(condition: str) -> str:
    """A condition as a text that uses the same variables."""
    return f"{{{{ {condition} }}}}"


def _used(text: str) -> Iterator[str | None]:
    """The variables of one text; None for `vars` as a whole, or by a name that is computed."""
    try:
        tree = ENVIRONMENT.parse(text)
    except FAILURES:  # what is wrong with it is said elsewhere
        yield None
        return
    # `vars` itself is a node of its own each time: what is asked of it is found by that.
    asked: list[nodes.Getattr | nodes.Getitem] = [
        *tree.find_all(nodes.Getattr),
        *tree.find_all(nodes.Getitem),
    ]
    members = {id(node.node): member(node) for node in asked}
    yield from (members.get(id(name)) for name in tree.find_all(nodes.Name) if name.name == "vars")
