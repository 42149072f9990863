"""Where each node stands in the graph: its longest paths, weighted and not. Linear in nodes and edges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from parallelai.run.scheduling.nodes import Node
from parallelai.run.scheduling.strategies import Place

_LEAST_WEIGHT = 1e-6


class Shape:
    """The graph as numbers: nodes come first, then groups, which cost nothing and are awaited as a whole.

    `order` is a topological one. Raises `ValueError` on a duplicate id, a name that nobody has, or a cycle:
    plans are checked before they come here.
    """

    __slots__ = ("followers", "nodes", "order", "preceding")

    def __init__(self, nodes: Sequence[Node], groups: Mapping[str, Sequence[str]]) -> None:
        self.nodes = nodes
        number = {node.id: at for at, node in enumerate(nodes)}
        if len(number) != len(nodes):
            raise ValueError("two nodes have the same id")
        group_number = {name: len(nodes) + at for at, name in enumerate(groups)}
        self.followers: list[list[int]] = [[] for _ in range(len(nodes) + len(groups))]
        self.preceding = [0] * len(self.followers)
        for at, node in enumerate(nodes):
            for name in node.depends_on:
                self._edge(number, name, at, node.id)
            for name in node.awaits:
                self._edge(group_number, name, at, node.id)
        for name, members in groups.items():
            for member in members:
                self._edge(number, member, group_number[name], name)
        self.order = self._topological()

    def _edge(self, numbers: Mapping[str, int], name: str, to: int, whose: str) -> None:
        if name not in numbers:
            raise ValueError(f"`{whose}` awaits `{name}`, which is not there")
        self.followers[numbers[name]].append(to)
        self.preceding[to] += 1

    def _topological(self) -> list[int]:
        missing = list(self.preceding)
        order = [at for at, count in enumerate(missing) if count == 0]
        for at in order:
            for follower in self.followers[at]:
                missing[follower] -= 1
                if missing[follower] == 0:
                    order.append(follower)
        if len(order) != len(missing):
            raise ValueError("the nodes depend on each other in a circle")
        return order


def places(nodes: Sequence[Node], groups: Mapping[str, Sequence[str]]) -> list[Place]:
    """Give each node's place, in the order of `nodes`. Raises `ValueError` as `Shape` does.

    A node is at least as urgent as what waits for it: an urgent task's dependencies hurry too.
    """
    shape = Shape(nodes, groups)
    count, size = len(nodes), len(shape.followers)
    depth = [0] * size
    for at in shape.order:
        below = depth[at] + (at < count)
        for follower in shape.followers[at]:
            if depth[follower] < below:
                depth[follower] = below
    seconds = [0.0] * size
    urgency = [0.0] * size
    for at in reversed(shape.order):
        followers = shape.followers[at]
        after = max(map(seconds.__getitem__, followers), default=0.0)
        awaited = max(map(urgency.__getitem__, followers), default=0.0)
        if at >= count:
            seconds[at], urgency[at] = after, awaited
            continue
        own = duration(nodes[at])
        weight = factor(nodes[at].weight)
        seconds[at] = own + after
        urgency[at] = max(seconds[at] / weight, own / weight + awaited)
    return [Place(seconds[at], urgency[at], depth[at]) for at in range(count)]


def duration(node: Node) -> float:
    """Give the node's estimated seconds; what is no length of time counts as none."""
    seconds = node.estimate_seconds
    return seconds if 0.0 < seconds < math.inf else 0.0


def factor(weight: float) -> float:
    """Make a priority a divisor: any number is one, and a smaller one is more urgent."""
    if weight > 0:
        return max(min(weight, 1e9), _LEAST_WEIGHT)
    return _LEAST_WEIGHT / (1.0 - max(weight, -1e9))
