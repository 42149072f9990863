"""What the journal's tables say about runs and tasks: a pure fold over events, and its rows.

The tables are only a faster way to ask what the events say; `repair.rebuild` makes them again.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct, field

from parallelai.events import (
    AttemptEnded,
    AttemptStarted,
    Event,
    RunCreated,
    RunEnded,
    RunStarted,
    TaskEnded,
    TaskExpanded,
    TaskStep,
)
from parallelai.records import Outcome
from parallelai.store.rows import put

UNFINISHED = "unfinished"
_COUNTED = (*(outcome.value for outcome in Outcome), UNFINISHED)


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run, as lists show it.

    `outcome`, `exit` and `ended_at` are None until it ended, and again while it is resumed. `seconds` is the
    wall time. `tasks` counts by outcome, and under `unfinished` what has none yet. `events` is the last
    `seq`.
    """

    id: str
    plan: str | None
    kind: str
    created_at: str
    started_at: str | None
    ended_at: str | None
    outcome: Outcome | None
    exit: int | None
    seconds: float | None
    tasks: Mapping[str, int]
    events: int


class TaskRow(Struct, frozen=True):
    """One task's state in a run: `status` is None until it ended, `stage` as in CONTRACTS §2."""

    id: str
    kind: str
    status: Outcome | None
    stage: str
    engine: str | None
    attempts: int
    seconds: float | None
    ended_at: str | None


class TaskState(Struct):
    """A row of `tasks` while it is folded. `measured`: seconds of a real ok attempt."""

    position: int
    kind: str
    status: str | None = None
    stage: str = "waiting"
    engine: str | None = None
    attempts: int = 0
    seconds: float | None = None
    ended_at: str | None = None
    measured: float | None = None
    is_cached: bool = False


class RunState(Struct):
    """A row of `runs` with its tasks while they are folded; `dirty` are the tasks to be stored."""

    id: str
    number: int
    events: int = 0
    plan: str | None = None
    kind: str = ""
    created_at: str = ""
    started_at: str | None = None
    ended_at: str | None = None
    outcome: str | None = None
    exit: int | None = None
    seconds: float | None = None
    tasks: dict[str, TaskState] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    kinds: Mapping[str, str] = field(default_factory=dict)
    dirty: set[str] = field(default_factory=set)

    def apply(self, event: Event) -> None:
        """Fold the next event in."""
        self.events = event.seq
        if not self.created_at:
            self.created_at = event.at
        fold = _FOLDS.get(event.type)
        # The data of a newer version's events is a mapping: their facts are kept, and not counted here.
        if fold is not None and type(event.data) is not dict:
            fold(self, event, event.data)

    def task(self, name: str) -> TaskState:
        """Find a task's state, made at its first mention."""
        state = self.tasks.get(name)
        if state is None:
            state = TaskState(len(self.tasks), self.kinds.get(name.partition("@")[0], ""))
            self.tasks[name] = state
            self.counts[UNFINISHED] += 1
        self.dirty.add(name)
        return state

    def counts_json(self) -> str:
        """Encode how many tasks there are of each outcome, as the row holds it."""
        return json.dumps({name: self.counts[name] for name in _COUNTED})

    def set_status(self, state: TaskState, status: str | None) -> None:
        """Change a task's outcome, and the counts with it."""
        if status == state.status:
            return
        self.counts[state.status or UNFINISHED] -= 1
        self.counts[status or UNFINISHED] += 1
        state.status = status


def _run_created(run: RunState, event: Event, data: RunCreated) -> None:
    run.plan, run.kind, run.created_at = data.plan, data.kind, event.at
    run.kinds = kinds_of(data.document)


def _run_started(run: RunState, event: Event, data: RunStarted) -> None:
    run.started_at = run.started_at or event.at
    run.ended_at = run.outcome = run.exit = None


def _run_ended(run: RunState, event: Event, data: RunEnded) -> None:
    run.ended_at, run.outcome, run.exit, run.seconds = event.at, str(data.outcome), data.exit, data.seconds


def _task_expanded(run: RunState, event: Event, data: TaskExpanded) -> None:
    for name in data.items:
        run.task(name)


def _task_step(run: RunState, event: Event, data: TaskStep) -> None:
    if event.task is not None:
        run.task(event.task).stage = data.stage


def _attempt_started(run: RunState, event: Event, data: AttemptStarted) -> None:
    if event.task is not None:
        task = run.task(event.task)
        run.set_status(task, None)
        task.stage, task.engine, task.is_cached = "working", data.engine, False
        task.attempts = max(task.attempts + 1, event.attempt or 0)


def _attempt_ended(run: RunState, event: Event, data: AttemptEnded) -> None:
    if event.task is not None:
        task = run.tasks.get(event.task) or run.task(event.task)
        task.is_cached = data.is_cached  # in no row by itself, so that none need be stored again


def _task_ended(run: RunState, event: Event, data: TaskEnded) -> None:
    if event.task is None:
        return
    task, result = run.task(event.task), data.result
    run.set_status(task, str(result.status))
    task.engine, task.attempts = result.engine or task.engine, max(task.attempts, result.attempts)
    if not data.is_kept or task.ended_at is None:
        task.seconds, task.ended_at = result.seconds, event.at
    if not data.is_kept:
        is_measured = result.status == Outcome.OK and not task.is_cached
        task.measured = result.seconds if is_measured else None


_FOLDS: dict[str, Callable[[RunState, Event, Any], None]] = {
    RunCreated.type: _run_created,
    RunStarted.type: _run_started,
    RunEnded.type: _run_ended,
    TaskExpanded.type: _task_expanded,
    TaskStep.type: _task_step,
    AttemptStarted.type: _attempt_started,
    AttemptEnded.type: _attempt_ended,
    TaskEnded.type: _task_ended,
}


def kinds_of(document: Mapping[str, Any]) -> dict[str, str]:
    """Map each task and workstream of a plan's canonical document to its kind, where it names one."""
    entries: list[tuple[Any, Any]] = []
    for key in ("tasks", "workstreams"):
        part = document.get(key)
        if isinstance(part, Mapping):
            entries += part.items()
        elif isinstance(part, Sequence) and not isinstance(part, str):
            entries += [(entry.get("id"), entry) for entry in part if isinstance(entry, Mapping)]
    return {
        name: entry["kind"]
        for name, entry in entries
        if isinstance(name, str) and isinstance(entry, Mapping) and isinstance(entry.get("kind"), str)
    }


# Rows in and out.

_RUN_COLUMNS = (
    "id, number, events, plan, kind, created_at, started_at, ended_at, outcome, exit, seconds, counts"
)
_TASK_COLUMNS = "number, id, position, kind, status, stage, engine, attempts, seconds, ended_at, measured"


def save(connection: sqlite3.Connection, run: RunState) -> None:
    """Store the run's row and those of its dirty tasks, within the caller's transaction."""
    row = (
        run.id,
        run.number,
        run.events,
        run.plan,
        run.kind,
        run.created_at,
        run.started_at,
        run.ended_at,
        run.outcome,
        run.exit,
        run.seconds,
        run.counts_json(),
    )
    put(connection, "runs", _RUN_COLUMNS, [row], is_replacing=True)
    tasks = [_task_row(run.number, name, run.tasks[name]) for name in run.dirty]
    put(connection, "tasks", _TASK_COLUMNS, tasks, is_replacing=True)
    run.dirty.clear()


def _task_row(number: int, name: str, task: TaskState) -> tuple[Any, ...]:
    return (
        number,
        name,
        task.position,
        task.kind,
        task.status,
        task.stage,
        task.engine,
        task.attempts,
        task.seconds,
        task.ended_at,
        task.measured,
    )


def load(connection: sqlite3.Connection, run: str) -> RunState | None:
    """Read a run's state back from the tables, to fold on; `kinds` are left to the caller."""
    row = connection.execute(f"SELECT {_RUN_COLUMNS} FROM runs WHERE id = ?", (run,)).fetchone()  # noqa: S608 - constants
    if row is None:
        return None
    state = RunState(*row[:11])
    for _, name, *rest in connection.execute(
        f"SELECT {_TASK_COLUMNS} FROM tasks WHERE number = ? ORDER BY position",  # noqa: S608 - constants
        (state.number,),
    ):
        state.tasks[name] = TaskState(*rest)
        state.counts[state.tasks[name].status or UNFINISHED] += 1
    return state


RUN_QUERY = f"SELECT {_RUN_COLUMNS} FROM runs"  # noqa: S608 - constants


def run_row(row: Sequence[Any]) -> RunRow:
    """Turn what `RUN_QUERY` selects into a row. Raises ValueError for what no version wrote."""
    id_, _number, events, plan, kind, created, started, ended, outcome, exit_, seconds, counts = row
    return RunRow(
        id=id_,
        plan=plan,
        kind=kind,
        created_at=created,
        started_at=started,
        ended_at=ended,
        outcome=None if outcome is None else Outcome(outcome),
        exit=exit_,
        seconds=seconds,
        tasks=json.loads(counts),
        events=events,
    )
