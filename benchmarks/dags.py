"""Makespan of real workflows over the lower bound max(critical path, work / m), beside simpler dispatch.

    python -m benchmarks dags --data DIR

reads the WfCommons DAGs in the data's folder `dags` (JSON files with `tasks`: `id`, `runtime` in seconds,
`parents`) and prints the mean ratio over the files: the project's scheduler driven through virtual time, then
waves (all that is ready, then a barrier), first in first out, and a critical-path list written here, apart
from the project's.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean

from benchmarks.figures import Figure, Options, left_out, table
from parallelai.engines.protocol import Estimate
from parallelai.records import LimitKey
from parallelai.run.scheduling.decisions import Start, Wait
from parallelai.run.scheduling.nodes import AttemptResult, Member, Node, Prepared
from parallelai.run.scheduling.scheduler import Scheduler
from parallelai.run.scheduling.settings import Settings

SLOTS = (4, 8)
SIGMA = 0.5
EPSILON = 1e-9


@dataclass(frozen=True)
class Workflow:
    """One real execution: what each task took, and what it waited for; in the file's order."""

    name: str
    seconds: Mapping[str, float]
    parents: Mapping[str, tuple[str, ...]]


def read(folder: Path) -> list[Workflow]:
    """Read all DAGs of a folder; what is missing is said, never made up."""
    found = []
    for path in sorted(folder.glob("*.json")):
        tasks = json.loads(path.read_text())["tasks"]
        found.append(
            Workflow(
                path.stem,
                {task["id"]: float(task["runtime"]) for task in tasks},
                {task["id"]: tuple(dict.fromkeys(task["parents"])) for task in tasks},
            )
        )
    return found


def children(workflow: Workflow) -> dict[str, list[str]]:
    below: dict[str, list[str]] = {name: [] for name in workflow.seconds}
    for name, parents in workflow.parents.items():
        for parent in parents:
            below[parent].append(name)
    return below


def topological(workflow: Workflow) -> list[str]:
    missing = {name: len(parents) for name, parents in workflow.parents.items()}
    below = children(workflow)
    order = [name for name, count in missing.items() if not count]
    for name in order:
        for child in below[name]:
            missing[child] -= 1
            if not missing[child]:
                order.append(child)
    return order


def remaining(workflow: Workflow, estimates: Mapping[str, float]) -> dict[str, float]:
    """Give the longest path from each task's start to the end."""
    below = children(workflow)
    found: dict[str, float] = {}
    for name in reversed(topological(workflow)):
        found[name] = estimates[name] + max((found[child] for child in below[name]), default=0.0)
    return found


def lower_bound(workflow: Workflow, slots: int) -> float:
    path = max(remaining(workflow, workflow.seconds).values())
    return max(path, sum(workflow.seconds.values()) / slots)


def scheduler(workflow: Workflow, slots: int, estimates: Mapping[str, float]) -> float:
    """Drive the project's scheduler through virtual time; gives the makespan."""
    members = (Member("mock", LimitKey("mock")),)
    nodes = [
        Node(name, at, depends_on=workflow.parents[name], members=members, estimate_seconds=estimates[name])
        for at, name in enumerate(workflow.seconds)
    ]
    prepared = Prepared((Estimate(),))
    run = Scheduler(
        nodes, {}, Settings(parallel=slots), prepare=lambda _: prepared, random=Random(0), now=0.0
    )
    flying: list[tuple[float, str, int]] = []
    now = 0.0
    while not run.is_done:
        decided = run.decide(now)
        for decision in decided:
            if isinstance(decision, Start):
                end = now + workflow.seconds[decision.task]
                heapq.heappush(flying, (end, decision.task, decision.attempt))
        if isinstance(decided[-1], Wait) and decided[-1].why == "ready":
            continue  # what has just ended made others ready
        if not flying:
            continue
        now = flying[0][0]
        while flying and flying[0][0] == now:  # all that ends now is known before the next decision
            _, task, attempt = heapq.heappop(flying)
            run.attempt_ended(task, attempt, AttemptResult(True, workflow.seconds[task]), now)
    return now


def listed(workflow: Workflow, slots: int, key: Callable[[str, int], tuple[float, int]]) -> float:
    """List scheduling: of what is ready the smallest key starts as soon as a slot is free."""
    missing = {name: len(parents) for name, parents in workflow.parents.items()}
    below = children(workflow)
    arrivals = iter(range(len(missing)))
    ready = [(key(name, next(arrivals)), name) for name, count in missing.items() if not count]
    heapq.heapify(ready)
    flying: list[tuple[float, str]] = []
    now = 0.0
    while ready or flying:
        while ready and len(flying) < slots:
            _, name = heapq.heappop(ready)
            heapq.heappush(flying, (now + workflow.seconds[name], name))
        now = flying[0][0]
        while flying and flying[0][0] == now:
            _, ended = heapq.heappop(flying)
            for child in below[ended]:
                missing[child] -= 1
                if not missing[child]:
                    heapq.heappush(ready, (key(child, next(arrivals)), child))
    return now


def critical_path_list(workflow: Workflow, slots: int, estimates: Mapping[str, float]) -> float:
    to_end = remaining(workflow, estimates)
    order = {name: at for at, name in enumerate(workflow.seconds)}
    return listed(workflow, slots, lambda name, _: (-to_end[name], order[name]))


def first_in_first_out(workflow: Workflow, slots: int, estimates: Mapping[str, float]) -> float:
    return listed(workflow, slots, lambda _, arrival: (0.0, arrival))


def waves(workflow: Workflow, slots: int, estimates: Mapping[str, float]) -> float:
    """All that is ready together, as many at once as there are slots; the next wave when all have ended."""
    done: set[str] = set()
    now = 0.0
    while len(done) < len(workflow.seconds):
        wave = [
            name
            for name, parents in workflow.parents.items()
            if name not in done and all(parent in done for parent in parents)
        ]
        free = [now] * slots
        for name in wave:
            heapq.heapreplace(free, free[0] + workflow.seconds[name])
        now = max(free)
        done.update(wave)
    return now


Way = Callable[[Workflow, int, Mapping[str, float]], float]
WAYS: dict[str, Way] = {
    "parallelai": scheduler,
    "critical-path list": critical_path_list,
    "first in, first out": first_in_first_out,
    "waves": waves,
}


def misestimated(workflow: Workflow, random: Random) -> dict[str, float]:
    return {name: took * random.lognormvariate(0.0, SIGMA) for name, took in workflow.seconds.items()}


def ratio(workflows: Sequence[Workflow], way: Way, slots: int, is_exact: bool) -> float:
    """Give the mean of makespan over lower bound; inexact estimates are the same for every way."""
    ratios = []
    for workflow in workflows:
        estimates = workflow.seconds if is_exact else misestimated(workflow, Random(workflow.name))
        ratios.append(way(workflow, slots, estimates) / lower_bound(workflow, slots))
    return fmean(ratios)


def run(options: Options) -> list[Figure]:
    name = "makespan over the lower bound"
    if options.data is None:
        return [left_out(name, "no data; give `--data DIR`")]
    folder = options.data / "dags"
    workflows = [one for one in read(folder) if sum(one.seconds.values()) > 0]
    if not workflows:
        return [left_out(name, f"`{folder}` holds no DAGs")]
    means = {
        (way, m, is_exact): ratio(workflows, WAYS[way], m, is_exact)
        for way in WAYS
        for m in SLOTS
        for is_exact in (True, False)
    }
    print(table(_rows(len(workflows), means)))
    print(f"  worst single workflow beside the critical-path list: {worst(workflows):.3f}")
    return [figure(name, m, is_exact, means) for m in SLOTS for is_exact in (True, False)]


Means = Mapping[tuple[str, int, bool], float]


def figure(name: str, slots: int, is_exact: bool, means: Means) -> Figure:
    """Never worse than the critical-path list, which is given the same estimates."""
    ours, listed = (means[way, slots, is_exact] for way in ("parallelai", "critical-path list"))
    said = f"{name}, m={slots}" + ("" if is_exact else f", σ={SIGMA}")
    return Figure(said, f"{ours:.3f}×", f"≤ {listed:.3f}×", ours <= listed + EPSILON)


def worst(workflows: Sequence[Workflow]) -> float:
    """The project's makespan over the list's, of the workflow where that is largest."""
    return max(
        scheduler(one, m, one.seconds) / critical_path_list(one, m, one.seconds)
        for one in workflows
        for m in SLOTS
    )


def _rows(count: int, means: Means) -> list[tuple[str, ...]]:
    columns = [(m, is_exact) for m in SLOTS for is_exact in (True, False)]
    heads = [f"m={m}" if is_exact else f"m={m}, σ={SIGMA}" for m, is_exact in columns]
    rows: list[tuple[str, ...]] = [(f"{count} workflows, mean", *heads)]
    rows += [(way, *(f"{means[way, *column]:.3f}" for column in columns)) for way in WAYS]
    return rows
