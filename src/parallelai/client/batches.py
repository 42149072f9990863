"""Cut a review for engines that look at many files at a time (`Capabilities.batch`)."""

from __future__ import annotations

import dataclasses
import itertools

from parallelai.client.jobs import Builder
from parallelai.client.reviews import ReviewOptions, plan_of
from parallelai.plan.graph import Instance, TaskGraph
from parallelai.plan.model import Plan


def review_graph(builder: Builder, options: ReviewOptions) -> tuple[Plan, TaskGraph]:
    """Make a review's plan and graph: by batches of files where its engine looks at many at a time."""
    plan = plan_of(builder.project, options, is_each=False)
    graph = builder.graph(plan)
    if builder.batch_size(plan, graph) > 1:
        return plan, batched(builder, plan, graph)
    plan = plan_of(builder.project, options, is_each=True)
    return plan, builder.graph(plan)


def batched(builder: Builder, plan: Plan, graph: TaskGraph) -> TaskGraph:
    """Cut a review's graph by how many files its engine looks at in one request."""
    return split(graph, builder.batch_size(plan, graph))


def split(graph: TaskGraph, size: int) -> TaskGraph:
    """Split each instance that has more than `size` files into `id#1`, `id#2`, …, of about equal size.

    Neighbours stay together: whoever looks at files looks for settings in each of their folders, too.
    """
    instances: list[Instance] = []
    parts: dict[str, tuple[str, ...]] = {}
    for instance in graph.instances:
        if len(instance.files) <= size:
            cut = [instance]
        else:
            count = -(-len(instance.files) // size)
            ends = [len(instance.files) * number // count for number in range(count + 1)]
            cut = [
                dataclasses.replace(instance, id=f"{instance.id}#{number}", files=instance.files[first:last])
                for number, (first, last) in enumerate(itertools.pairwise(ends), start=1)
            ]
        parts[instance.id] = tuple(part.id for part in cut)
        instances.extend(cut)
    numbered = (
        dataclasses.replace(
            instance,
            index=number,
            depends_on=tuple(part for name in instance.depends_on for part in parts[name]),
        )
        for number, instance in enumerate(instances)
    )
    groups = {
        name: tuple(part for item in items for part in parts[item]) for name, items in graph.groups.items()
    }
    return TaskGraph(tuple(numbered), groups, graph.phases, graph.skipped, graph.seen)
