"""What `runs diff`, `apply` and `unapply` print."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from parallelai.cli.shared import Shared
from parallelai.errors import NotFoundError
from parallelai.results.document import standing
from parallelai.results.printable import visible

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.client.changes import TaskChange
    from parallelai.run.workspaces import Applied

INCOMPLETE = 4


def print_diff(shared: Shared, run: str | None, tasks: tuple[str, ...]) -> int:
    """Print patches, each after a line that names its task."""
    run, tasks = shared.read(lambda ai: _named(ai, run, tasks))
    found, kept = shared.read(lambda ai: (ai.changes.diff(run, tasks), {} if tasks else ai.changes.kept(run)))
    rows = [{"task": one.task, **dataclasses.asdict(one.change), "text": one.patch} for one in found]
    asides = [{"task": task, "patch": patch} for task, patch in kept.items()]
    document = {"run": run, "changes": rows, "kept": asides}
    shared.result(document, lambda: "\n".join(_lines(found)) or _nothing(kept))
    if found and kept:
        shared.say(_aside(kept))
    return 0


def _nothing(kept: Mapping[str, str]) -> str:
    return f"no change to take; {_aside(kept)}" if kept else "no task of this run changed anything"


def _aside(kept: Mapping[str, str]) -> str:
    return visible(f"kept of failed tasks: {', '.join(kept.values())}")


def _lines(found: tuple[TaskChange, ...]) -> list[str]:
    lines = []
    for one in found:
        said = f"{_files(len(one.change.files))}, {standing(one.change)} ({one.change.patch})"
        lines.append(visible(f"# {one.task}: {said}"))
        lines += [visible(line) for line in one.patch.splitlines()]
        lines += [visible(f"# kept out: {path}") for path in one.change.kept_out]
    return lines


def put(shared: Shared, run: str | None, tasks: tuple[str, ...], *, is_undo: bool) -> int:
    """Apply changes or take them back, and say what became of each; 4 where one was refused."""
    run, tasks = shared.read(lambda ai: _named(ai, run, tasks))

    async def work(ai: AsyncParallelAI) -> tuple[Applied, ...]:
        return await (ai.changes.unapply(run, tasks) if is_undo else ai.changes.apply(run, tasks))

    done = shared.call(work)
    verb = "taken back" if is_undo else "applied"
    rows = [
        {
            "task": one.task,
            "done": one.why is None,
            "files": sorted(one.written),
            "refused": list(one.refused),
            "why": one.why,
            "kept_out": list(one.kept_out),
            "dependents": list(one.dependents),
        }
        for one in done
    ]
    shared.result(
        {"run": run, "changes": rows},
        lambda: "\n".join(_told(one, verb) for one in done) or f"nothing to be {verb}",
    )
    held = shared.read(lambda ai: ai.changes.held(run)) if not is_undo else ()
    kept = shared.read(lambda ai: ai.changes.kept(run)) if not (is_undo or done) else {}
    if kept:
        shared.say(_aside(kept))
    if held:
        shared.say(visible(f"not ended well, so not applied: {', '.join(held)}; `runs show` says why"))
    return INCOMPLETE if any(one.why is not None for one in done) else 0


def _told(one: Applied, verb: str) -> str:
    if one.why is not None:
        paths = ", ".join(one.refused)
        return visible(f"{one.task}: not {verb}: {one.why}{f': {paths}' if paths else ''}")
    said = f"{one.task}: {_files(len(one.written))} {verb}"
    if one.kept_out and verb == "applied":
        said += f"; kept out: {', '.join(one.kept_out)}"
    if one.dependents:
        said += f"; what builds on it is still applied: {', '.join(one.dependents)}"
    return visible(said)


def _files(count: int) -> str:
    return f"{count} file{'s' * (count != 1)}"


def _named(ai: AsyncParallelAI, run: str | None, tasks: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """A single name that is no run is a task of the latest run."""
    try:
        return ai.runs.find(run).id, tasks
    except NotFoundError:
        if run is None:
            raise
        latest = ai.runs.find().id
        if not any(run in (name, name.split("@")[0]) for name in ai.runs.report(latest).order):
            raise
        return latest, (run, *tasks)
