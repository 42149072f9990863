"""Strategies: which of the ready tasks starts first, and whether tasks start together.

Dependencies and limits hold under each; they are the scheduler's. A strategy of one's own is a class with
these three members, and a factory in the entry point group `parallelai.strategies` that takes what follows
the colon in its name (`batch:4` → `"4"`), or None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from parallelai import extensions
from parallelai.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from parallelai.run.scheduling.nodes import Node

GROUP = "parallelai.strategies"


class Place(NamedTuple):
    """Where a node stands in the graph.

    `seconds_to_end` is the longest path of estimated durations from its start to the end, `urgency` the same
    weighted by the priorities on the way, `depth` the number of nodes on the longest way that leads to it.
    """

    seconds_to_end: float
    urgency: float
    depth: int


class Strategy(Protocol):
    """`name` as in a plan; `batch` tasks start together, the next when all have ended (None: no batches)."""

    @property
    def name(self) -> str: ...

    @property
    def batch(self) -> int | None: ...

    def key(self, node: Node, place: Place) -> float:
        """Give the node's rank: of the ready nodes the smallest starts first, and plan order breaks ties."""


@dataclass(frozen=True, slots=True)
class DAGStrategy:
    """The longest remaining path first."""

    name: str = "dag"
    batch: int | None = None

    def key(self, node: Node, place: Place) -> float:
        return -place.urgency


@dataclass(frozen=True, slots=True)
class ParallelStrategy:
    """Plan order."""

    name: str = "parallel"
    batch: int | None = None

    def key(self, node: Node, place: Place) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class BatchStrategy:
    """`size` tasks together in plan order, the next when all of them have ended."""

    size: int = 10

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"a batch holds at least 1 task, not {self.size}", next="write `batch:4`, say")

    @property
    def name(self) -> str:
        return f"batch:{self.size}"

    @property
    def batch(self) -> int | None:
        return self.size

    def key(self, node: Node, place: Place) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class PipelineStrategy:
    """Tasks are stages, item by item; what has come furthest goes first, so that items leave early."""

    name: str = "pipeline"
    batch: int | None = None

    def key(self, node: Node, place: Place) -> float:
        return -float(place.depth)


def dag(argument: str | None = None) -> Strategy:
    """Make the strategy `dag`."""
    return _plain(DAGStrategy(), argument)


def parallel(argument: str | None = None) -> Strategy:
    """Make the strategy `parallel`."""
    return _plain(ParallelStrategy(), argument)


def pipeline(argument: str | None = None) -> Strategy:
    """Make the strategy `pipeline`."""
    return _plain(PipelineStrategy(), argument)


def batch(argument: str | None = None) -> Strategy:
    """Make the strategy `batch:N`. Raises `UsageError` if N is no positive whole number."""
    text = "" if argument is None else argument.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) > 0):
        raise UsageError(
            f"strategy `batch` needs the number of tasks that start together, not `{text}`",
            next="write `batch:4`, say",
        )
    return BatchStrategy(int(text))


def _plain(strategy: Strategy, argument: str | None) -> Strategy:
    if argument is not None:
        raise UsageError(
            f"strategy `{strategy.name}` takes nothing after a colon", next=f"write `{strategy.name}`"
        )
    return strategy


_BUILT_IN: dict[str, Callable[[str | None], Strategy]] = {
    "dag": dag,
    "parallel": parallel,
    "batch": batch,
    "pipeline": pipeline,
}


def find(text: str) -> Strategy:
    """Find a strategy by the name that plans and `--strategy` use, such as `dag` or `batch:4`.

    Raises `UsageError` if there is none of that name, or it cannot be loaded or made.
    """
    name, colon, argument = text.partition(":")
    make = _BUILT_IN.get(name) or _installed(name)
    return make(argument if colon else None)


def _installed(name: str) -> Callable[[str | None], Strategy]:
    found = {point.name: point for point in extensions.of_group(GROUP)}
    if name not in found:
        known = ", ".join(f"`{other}`" for other in sorted({*_BUILT_IN, *found}))
        raise UsageError(f"there is no strategy `{name}`", next=f"known are {known}; a batch is `batch:N`")
    try:
        return cast("Callable[[str | None], Strategy]", found[name].load())
    except Exception as error:  # a plugin may fail in any way, and its user must learn which one did
        raise UsageError(
            f"strategy `{name}` cannot be loaded: {error}",
            next=f"repair or uninstall the package that provides `{found[name].value}`",
        ) from error
