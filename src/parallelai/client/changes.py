"""`ai.changes`: what the tasks of a run changed; put into the user's checkout, and taken out again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from msgspec import Struct

from parallelai.client.in_checkout import change_of
from parallelai.client.project import OpenProject
from parallelai.client.runs import Runs
from parallelai.errors import NotFoundError, UsageError
from parallelai.records import Change
from parallelai.run.report import Report
from parallelai.run.workspaces import Applied, applied_event
from parallelai.work.checkout.applying import Changes
from parallelai.work.scratch.snapshot import Snapshot, open_snapshot


class TaskChange(Struct, frozen=True):
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
        change = Change(made.patch, made.files, is_applied, made.kept_out)
        return TaskChange(task, change_of(report, task, change, self._project.root), patch)

    def kept(self, run: str | None = None) -> dict[str, str]:
        """Where the work of tasks is kept that failed or are blocked, by task: patches that nobody applies."""
        return self._runs.report(run).kept()

    def held(self, run: str | None = None) -> tuple[str, ...]:
        """Name the tasks whose changes are not to be applied yet: they have not ended well, or wait for leave."""
        report = self._runs.report(run)
        good = report.changed()
        return tuple(
            task
            for task in report.made()
            if task not in good and task in report.results and report.results[task].result.workstream is None
        )

    async def apply(self, run: str | None = None, tasks: Sequence[str] = ()) -> tuple[Applied, ...]:
        """Put changes into the user's checkout, each all or nothing; those that lie there are passed over."""
        self._project.refuse_foreign_state()
        report = self._runs.report(run)
        return await self._each(report, chosen(report, tasks), is_undo=False)

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
        changes = Changes(snapshot, folder, report.written)
        done: list[Applied] = []
        async with self._project.store.journal.writer(report.run) as writer:
            for task in tasks:
                made = report.changes[task]
                one = await (changes.undo(task) if is_undo else changes.apply(task, made.base, made.commit))
                if one is None:
                    continue
                writer.append(applied_event(one, is_undone=is_undo), task=task)
                await writer.flush()
                left = await _dependents(snapshot, report, task, tasks) if is_undo and one.why is None else ()
                done.append(replace(one, kept_out=made.kept_out, dependents=left))
        return tuple(done)


async def _dependents(snapshot: Snapshot, report: Report, task: str, among: Sequence[str]) -> tuple[str, ...]:
    """Name the applied tasks, but `among` which others are taken back too, whose changes build on a task's."""
    commit = report.changes[task].commit
    found = []
    for other in report.changed():
        if other in among or not report.is_applied.get(other, False):
            continue
        base = report.changes[other].base
        if (await snapshot.git.attempt("merge-base", "--is-ancestor", commit, base)).exit == 0:
            found.append(other)
    return tuple(found)


def chosen(report: Report, tasks: Sequence[str], among: Sequence[str] | None = None) -> tuple[str, ...]:
    """Name the tasks that are meant: instances, or tasks of the plan with all their instances.

    `among` are those that may be meant; None are those that ended well and changed something.
    """
    changed = report.changed() if among is None else tuple(among)
    if not tasks:
        return changed
    for name in tasks:
        if not any(name in (task, task.split("@")[0]) for task in changed):
            if any(name in (task, task.split("@")[0]) for task in report.made()):
                said = f"task `{name}` of run `{report.run}` has not ended well, so its change is not taken"
                raise UsageError(said, next=f"`runs diff {report.run} {name}` shows it, `runs show` says why")
            raise _no_change(report, name)
    return tuple(task for task in changed if task in tasks or task.split("@")[0] in tasks)


def _no_change(report: Report, name: str) -> NotFoundError:
    """Say that a task has no change to take, and where its work is if it failed."""
    said = f"task `{name}` of run `{report.run}` has no change"
    kept = [patch for task, patch in report.kept().items() if name in (task, task.split("@")[0])]
    shown = ", ".join(f"`{patch}`" for patch in kept)
    return NotFoundError(
        f"{said} to take" if kept else said,
        next=f"it did not end well, and what it changed is kept in {shown}" if kept else "see `runs show`",
    )
