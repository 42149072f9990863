"""What a plan may say, and nobody means: told by `plan check`, never refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from parallelai.errors import Problem
from parallelai.plan.files import Matcher
from parallelai.plan.model import Plan, Shared, Workspace, positions
from parallelai.plan.positions import Step
from parallelai.plan.values import shown


def unmatched_sparse(plan: Plan, paths: Sequence[str]) -> Iterator[Problem]:
    """Name the patterns of `sparse` that select no file of a project, each once for each place that says it.

    A task may mean to make what they name, but in a folder that holds part of the files a slip looks the same.
    """
    where = positions(plan)
    known: dict[str, bool] = {}
    for path, workspace in _workspaces(plan):
        for pattern in workspace.sparse:
            if pattern not in known:
                known[pattern] = pattern.startswith("!") or _selects_any(pattern, paths)
            if not known[pattern]:
                line, column = where.of(*path, "sparse") or (None, None)
                said = f"{shown(pattern)} of `sparse` matches no file of the project"
                yield Problem(said, where.file, line, column, "look whether it is written right")


def unmatched_generated(plan: Plan, paths: Sequence[str]) -> Iterator[Problem]:
    """Name the patterns of `generated` that select no file of a project: it may be made later, or be a slip."""
    where = positions(plan)
    for index, one in enumerate(plan.landing.generated):
        for pattern in one.files:
            if pattern.startswith("!") or _selects_any(pattern, paths):
                continue
            line, column = where.of("landing", "generated", index, "files") or (None, None)
            said = f"{shown(pattern)} of `generated` matches no file of the project"
            yield Problem(said, where.file, line, column, "look whether it is written right")


def _workspaces(plan: Plan) -> Iterator[tuple[tuple[Step, ...], Workspace]]:
    layers: tuple[tuple[tuple[Step, ...], Plan | Shared], ...] = (
        ((), plan),
        (("defaults",), plan.defaults),
        *((("tasks", index), task) for index, task in enumerate(plan.tasks)),
        *((("workstreams", index), work) for index, work in enumerate(plan.workstreams)),
    )
    for path, layer in layers:
        if layer.workspace is not None:
            yield (*path, "workspace"), layer.workspace


def _selects_any(pattern: str, paths: Sequence[str]) -> bool:
    matcher = Matcher((pattern,))
    return any(matcher.selects(path) for path in paths)
