"""`ai.changes`: what the tasks of a run changed; put into the user's checkout, and taken out again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parallelai.client.project import OpenProject
from parallelai.client.runs import Runs
from parallelai.errors import NotFoundError, UsageError
from parallelai.events import ChangeMade
from parallelai.records import Change
from parallelai.run.report import Report
from parallelai.run.workspaces import Applied, applied_event
from parallelai.work.checkout.applying import Changes
from parallelai.work.scratch.snapshot import Snapshot, open_snapshot


@dataclass(frozen=True, slots=True)
class TaskChange:
    """What one task changed: the patch as text, and whether it is in the user's checkout."""

    task: str
    change: Change
    patch: str


class RunChanges:
    """The changes of runs. Without a run the latest is meant, without tasks all of them, in plan order."""

    def __init__(self, project: OpenProject, runs: Runs) -> None:
        self._project = project
        self._runs = runs

    def diff(self, run: str | None = None, tasks: Sequence[str] = ()) -> tuple[TaskChange, ...]:
        """Give the changes. Raises `NotFoundError` for a task that has none."""
        self._project.refuse_foreign_state()
        report = self._runs.report(run)
        named = report.made() if tasks else None  # what a person is to give leave for has not ended well yet
        return tuple(self._change(report, task) for task in chosen(report, tasks, named))

    def _change(self, report: Report, task: str) -> TaskChange:
        made = report.changes[task]
        path = self._project.root / made.patch
        folder = self._project.state / "runs" / report.run / "patches"
        try:
            if path.is_symlink() or path.resolve().parent != folder.resolve():
                raise NotFoundError(f"the patch of `{task}` is not where this run keeps its patches")
            patch = path.read_bytes().decode("utf-8", "replace")
        except OSError as error:
            raise NotFoundError(f"the patch of `{task}` cannot be read: {error.strerror}") from None
        is_applied = report.is_applied.get(task, False)
        return TaskChange(task, Change(made.patch, made.files, is_applied, made.kept_out), patch)

    async def apply(self, run: str | None = None, tasks: Sequence[str] = ()) -> tuple[Applied, ...]:
        """Put changes into the user's checkout, each all or nothing; those that are in it are passed over."""
        self._project.refuse_foreign_state()
        report = self._runs.report(run)
        wanted = [task for task in chosen(report, tasks) if not report.is_applied.get(task, False)]
        return await self._each(report, wanted, is_undo=False)

    async def unapply(self, run: str | None = None, tasks: Sequence[str] = ()) -> tuple[Applied, ...]:
        """Take changes out of the user's checkout again, the last one first, byte by byte."""
        self._project.refuse_foreign_state()
        report = self._runs.report(run)
        names = chosen(report, tasks)
        wanted = [task for task in reversed(names) if report.is_applied.get(task, False)]
        if not wanted:
            raise UsageError(f"no change of run `{report.run}` is applied", next="`runs diff` shows them")
        return await self._each(report, wanted, is_undo=True)

    async def _each(self, report: Report, tasks: Sequence[str], *, is_undo: bool) -> tuple[Applied, ...]:
        """Do one after another, each written down before the next."""
        folder = self._project.state / "runs" / report.run
        snapshot = await open_snapshot(self._project.root, folder / "base.git")
        if snapshot is None:
            raise NotFoundError(f"what run `{report.run}` changed is not kept any more")
        done: list[Applied] = []
        async with self._project.store.journal.writer(report.run) as writer:
            for task in tasks:
                applied = await _one(snapshot, folder, task, report.changes[task], is_undo=is_undo)
                writer.append(applied_event(applied, is_undone=is_undo), task=task)
                await writer.flush()
                done.append(applied)
        return tuple(done)


async def _one(snapshot: Snapshot, folder: Path, task: str, made: ChangeMade, *, is_undo: bool) -> Applied:
    changes = Changes(snapshot, folder)
    return await (changes.undo(task) if is_undo else changes.apply(task, made.base, made.commit))


def chosen(report: Report, tasks: Sequence[str], among: Sequence[str] | None = None) -> tuple[str, ...]:
    """Name the tasks that are meant: instances, or tasks of the plan with all their instances.

    `among` are those that may be meant; None are those that ended well and changed something.
    """
    changed = report.changed() if among is None else tuple(among)
    if not tasks:
        return changed
    for name in tasks:
        if not any(name in (task, task.split("@")[0]) for task in changed):
            raise NotFoundError(f"task `{name}` of run `{report.run}` has no change", next="see `runs show`")
    return tuple(task for task in changed if task in tasks or task.split("@")[0] in tasks)
