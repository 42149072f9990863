"""All tasks of a run: who awaits whom, what has ended, and what that means for those that waited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from parallelai.records import Outcome
from parallelai.run.scheduling.decisions import Cancel, Decision, Finish
from parallelai.run.scheduling.nodes import Node
from parallelai.run.scheduling.ranks import places
from parallelai.run.scheduling.strategies import Strategy
from parallelai.run.scheduling.tasks import Ending, Group, State, TaskState

_HOW = {
    Outcome.FAILED: "failed",
    Outcome.SKIPPED: "was skipped",
    Outcome.BLOCKED: "is blocked",
    Outcome.CANCELLED: "was cancelled",
    Outcome.OVER_BUDGET: "was over budget",
}
_STOPS = frozenset({Outcome.FAILED, Outcome.BLOCKED})


class Roster:
    """Tasks and groups by name. `decisions` and `ready` collect what came of the last calls."""

    def __init__(self, strategy: Strategy, make: Callable[[Node], TaskState]) -> None:
        self.tasks: dict[str, TaskState] = {}
        self.groups: dict[str, Group] = {}
        self.decisions: list[Decision] = []
        self.ready: list[TaskState] = []
        self.has_untold = False  # whether `decisions` holds an end
        self.outcomes: Counter[Outcome] = Counter()
        self.remaining = 0
        self.batch_open = 0  # tasks of batches that have not ended, and do not wait for others
        self.stopped_by: TaskState | None = None
        self._settled: list[TaskState] = []
        self._strategy = strategy
        self._make = make

    def add(self, nodes: Sequence[Node], groups: Mapping[str, Sequence[str]]) -> list[TaskState]:
        """Take in more tasks; a group that is known gets more members. Raises `ValueError` as `Shape` does.

        Every rank is computed again, because those before the new tasks have longer ways to the end now.
        """
        self.tell_settled()
        merged = {name: [task.node.id for task in group.members] for name, group in self.groups.items()}
        for name, members in groups.items():
            merged[name] = list(dict.fromkeys([*merged.get(name, ()), *members]))
        all_nodes = [*(task.node for task in self.tasks.values()), *nodes]
        found = places(all_nodes, merged)  # refuses, before anything is changed
        fresh = [self._make(node) for node in nodes]
        self.tasks.update((task.node.id, task) for task in fresh)
        for task, place in zip(self.tasks.values(), found, strict=True):
            task.key = self._strategy.key(task.node, place)
        self._fill_groups(merged)
        for task in fresh:
            self._link(task)
        self.remaining += len(fresh)
        for task in fresh:
            if task.state is State.WAITING:  # else one before it has decided it
                self._await(task)
        return fresh

    def _fill_groups(self, merged: Mapping[str, Sequence[str]]) -> None:
        for name, members in merged.items():
            group = self.groups.setdefault(name, Group(name))
            for member in members[len(group.members) :]:
                task = self.tasks[member]
                group.members.append(task)
                task.join(group)
                group.remaining += task.state is not State.DONE

    def _link(self, task: TaskState) -> None:
        for name in dict.fromkeys(task.node.depends_on):
            self.tasks[name].add_waiter(task)
        for name in dict.fromkeys(task.node.awaits):
            self.groups[name].awaited_by.append(task)

    def _await(self, task: TaskState) -> None:
        """Count what a task waits for; it may be ready, or decided already."""
        task.missing = 0
        if not task.node.depends_on and not task.node.awaits:
            self._open(task)
            return
        for name in dict.fromkeys(task.node.depends_on):
            self._await_one(task, self.tasks[name])
        for name in dict.fromkeys(task.node.awaits):
            group = self.groups[name]
            task.missing += group.remaining > 0
            if not group.is_phase:
                for member in group.members:
                    self._blame(task, member)
        if task.cause is not None:
            self.finish(task, _skipped(task.cause))
        elif task.missing == 0:
            self._open(task)

    def _await_one(self, task: TaskState, other: TaskState) -> None:
        task.missing += other.state is not State.DONE and not task.is_met_by(other)
        self._blame(task, other)

    def _blame(self, task: TaskState, other: TaskState) -> None:
        if task.cause is None and other.state is State.DONE and not other.lets_dependents_run():
            task.cause = other

    def _open(self, task: TaskState) -> None:
        task.state = State.OPEN
        self.ready.append(task)

    def finish(self, task: TaskState, ending: Ending) -> None:
        """End a task, and with it those that it decides: what waited is ready, or skipped in its turn."""
        ended = [(task, ending)]
        for one, how in ended:  # grows while it is read
            if one.state is State.DONE:
                continue
            self.close(one, how)
            self._decide(one, how)
            self._tell(one, ended)
            if one.node.on_failure == "stop" and how.outcome in _STOPS and self.stopped_by is None:
                self.stopped_by = one

    def _decide(self, task: TaskState, ending: Ending) -> None:
        self.decisions.append(Finish(task.node.id, ending.outcome, ending.error, ending.why))
        self.has_untold = True

    def take_back(self, task: TaskState, attempt: int) -> None:
        """Forget a `Cancel` that nobody was told of yet, because the attempt has ended by itself."""
        self.decisions = [
            one
            for one in self.decisions
            if not (isinstance(one, Cancel) and one.task == task.node.id and one.attempt == attempt)
        ]

    def told(self) -> list[Decision]:
        """Take out what was decided."""
        decided, self.decisions, self.has_untold = self.decisions, [], False
        return decided

    def close(self, task: TaskState, ending: Ending) -> None:
        """Mark a task as ended, without a word to those that await it."""
        task.state = State.DONE
        task.outcome = ending.outcome
        task.queued.clear()
        task.deadline = 0
        self.outcomes[ending.outcome] += 1
        self.remaining -= 1
        if task.is_batched:
            task.is_batched = False
            self.batch_open -= 1

    def count_in_batch(self, task: TaskState) -> None:
        """Leave a task out of its batch while it waits for others, which may be in the next one."""
        is_away = task.is_batched and task.is_parked
        if task.is_away != is_away:
            task.is_away = is_away
            self.batch_open += -1 if is_away else 1

    def _tell(self, task: TaskState, ended: list[tuple[TaskState, Ending]]) -> None:
        """Let those that awaited a task know; what is skipped for it is added to `ended`."""
        goes_on = task.lets_dependents_run()
        for waiter in task.awaited_by:
            self._tell_one(waiter, task, goes_on, ended)
        for group in task.member_of:
            group.remaining -= 1
            if not goes_on and not group.is_phase:
                for waiter in group.awaited_by:
                    self._tell_one(waiter, task, False, ended)
            elif group.remaining == 0:
                for waiter in group.awaited_by:
                    self._tell_one(waiter, task, True, ended)

    def _tell_one(
        self, waiter: TaskState, task: TaskState, goes_on: bool, ended: list[tuple[TaskState, Ending]]
    ) -> None:
        if waiter.state is not State.WAITING or waiter.cause is not None:
            return
        if not goes_on:
            waiter.cause = task
            ended.append((waiter, _skipped(task)))
            return
        if waiter.is_met_by(task):
            return  # counted when it was finished
        waiter.missing -= 1
        if waiter.missing == 0:
            self._open(waiter)

    def finished(self, task: TaskState) -> None:
        """Let those go on that need a task's work only, and not its end (`after: finished`)."""
        if task.is_finished:
            return
        task.is_finished = True
        for waiter in task.awaited_by:
            if waiter.is_met_by(task) and waiter.state is State.WAITING and waiter.cause is None:
                waiter.missing -= 1
                if waiter.missing == 0:
                    self._open(waiter)

    def settle(self, task: TaskState, outcome: Outcome) -> None:
        """Take a task as ended before this run began; `tell_settled` lets its dependents know."""
        if task.state is State.DONE or task.attempts or task.flights:
            raise ValueError(f"`{task.node.id}` has begun already")
        self.close(task, Ending(outcome, None, "settled"))
        self._settled.append(task)

    def tell_settled(self) -> None:
        """Let those go on that awaited settled tasks; later than `settle`, whose order so does not matter."""
        settled, self._settled = self._settled, []
        ended: list[tuple[TaskState, Ending]] = []
        for task in settled:
            self._tell(task, ended)
        for waiter, ending in ended:
            self.finish(waiter, ending)

    def withhold(self, ending: Ending) -> None:
        """End, in plan order, everything that is not under way."""
        for task in self.tasks.values():
            if task.state is State.DONE:
                continue
            if not task.is_under_way:
                self.close(task, ending)
                self._decide(task, ending)
                for group in task.member_of:
                    group.remaining -= 1
            elif task.is_performing and task.queued:
                task.queued.clear()
                task.withheld = ending

    def reopen(self, task: TaskState) -> list[TaskState]:
        """Open a task again that did not end well, with all that were skipped for it."""
        opened = {task.node.id: task}
        queue = [task]
        others: dict[str, TaskState] = {}  # that still wait, and have counted these as ended
        for one in queue:  # grows while it is read
            for waiter in [*one.awaited_by, *(w for group in one.member_of for w in group.awaited_by)]:
                name = waiter.node.id
                if waiter.state is State.WAITING:
                    others[name] = waiter
                elif waiter.cause is not None and waiter.cause.node.id in opened and name not in opened:
                    opened[name] = waiter
                    queue.append(waiter)
        for one in queue:
            self._reset(one)
        for one in [*queue, *others.values()]:
            if one.state is State.WAITING:  # else one before it has decided it
                self._await(one)
        return queue

    def _reset(self, task: TaskState) -> None:
        if task.outcome is not None:
            self.outcomes[task.outcome] -= 1
        task.clear()
        self.remaining += 1
        for group in task.member_of:
            group.remaining += 1


def _skipped(cause: TaskState) -> Ending:
    how = _HOW.get(cause.outcome, f"ended {cause.outcome}") if cause.outcome is not None else "has not ended"
    return Ending(Outcome.SKIPPED, None, f"`{cause.node.id}` {how}")
