"""Where the values of a plan were written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

Step = str | int


class Place(Struct):
    """Where a value begins, where its key does, and the places of what is in it. From 1, in code points."""

    line: int
    column: int
    key_line: int = 0
    key_column: int = 0
    children: dict[Step, Place] | None = None

    @property
    def key(self) -> tuple[int, int]:
        """Where the key begins; of what has no key, such as an item of a list, the value itself."""
        return (self.key_line, self.key_column) if self.key_line else (self.line, self.column)

    @property
    def value(self) -> tuple[int, int]:
        return (self.line, self.column)


class Positions(Struct, eq=False):
    """Where each value of a plan was written; empty for a plan that was not read from text.

    A path goes by canonical keys and indices, `("tasks", 3, "files")`; import aliases are found by the key
    that they stand for, items of a mapping also by their number.
    """

    file: str | None = None
    root: Place | None = None
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ids: dict[str, tuple[Step, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what was left out as it was read
    finished: str = ""  # of a task list in which all is done, which has no task: how many these are
    checked: tuple[Any, ...] = ()  # what was checked as it was read, and found right (`load.is_checked`)

    def of(self, *path: Step) -> tuple[int, int] | None:
        """Give line and column of the value, of the nearest thing around it if it was not written."""
        place = self.place(path)
        return None if place is None else place.value

    def key(self, *path: Step) -> tuple[int, int] | None:
        """Give line and column of the value's key; of an item without one, of the item."""
        place = self.place(path)
        return None if place is None else place.key

    def task(self, id: str) -> tuple[int, int] | None:
        """Give line and column of a task or workstream."""
        path = self.ids.get(id)
        return None if path is None else self.key(*path)

    def where(self, *path: Step) -> str | None:
        """Write a place as `file:line:column`; None for a plan that was not read from text."""
        return self._written(self.of(*path))

    def where_task(self, id: str) -> str | None:
        """Write the place of a task or workstream as `file:line:column`."""
        return self._written(self.task(id))

    def has(self, *path: Step) -> bool:
        """Say whether something was written at exactly that path."""
        place = self.root
        for step in path:
            place = None if place is None else self.child(place, step)
        return place is not None

    def place(self, path: tuple[Step, ...]) -> Place | None:
        """Walk down a path; steps that were not written are passed over."""
        place = self.root
        for step in path:
            if place is None:
                return None
            place = self.child(place, step) or place
        return place

    def child(self, place: Place, step: Step) -> Place | None:
        """Find one thing in another."""
        children = place.children
        if not children:
            return None
        for name in (step, *self.aliases.get(str(step), ())):
            if name in children:
                return children[name]
        if isinstance(step, int) and 0 <= step < len(children) and isinstance(next(iter(children)), str):
            return list(children.values())[step]
        return None

    def _written(self, at: tuple[int, int] | None) -> str | None:
        return None if at is None else f"{self.file or 'plan'}:{at[0]}:{at[1]}"

    def __eq__(self, other: object) -> bool:
        # Where a plan was written is no part of what it says: two plans that differ only here are equal.
        return isinstance(other, Positions)

    __hash__ = None  # type: ignore[assignment]  # mutable while it is built
