"""What is ready, by what it needs: one lane for each choice of members, phase and role, and the timers.

A lane is a heap; the best of all lanes that have room starts next. Entries are dropped lazily: one whose
ticket its task no longer holds is stale.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping

from parallelai.records import LimitKey
from parallelai.run.scheduling.channels import Channel, Count, KeyState, RoleCount
from parallelai.run.scheduling.nodes import Member, Node
from parallelai.run.scheduling.tasks import TaskState

FIRST = -math.inf
"""The rank of a begun task's next step: what has begun ends before something new begins."""

Entry = tuple[float, int, int, TaskState, tuple[int, ...]]
"""Rank, plan order, ticket (unique: comparing ends here), the task, and its members that may start."""


class Lane:
    """The entries that need the same: one of these channels (none for a step), room in the phase and the role."""

    __slots__ = ("channels", "heap", "is_listed", "phase", "role")

    def __init__(self, channels: tuple[Channel, ...], phase: Count | None, role: RoleCount | None) -> None:
        self.is_listed = False  # among the lanes that hold something
        self.channels = channels
        self.phase = phase
        self.role = role
        self.heap: list[Entry] = []

    def head(self) -> Entry | None:
        """Give the best live entry, and drop stale ones before it."""
        heap = self.heap
        while heap:
            entry = heap[0]
            if entry[2] in entry[3].queued:
                return entry
            heapq.heappop(heap)
        return None

    def bound(self, now: float) -> str | None:
        """Say why nothing can start here now, by one word of `Wait.why`."""
        if self.phase is not None and self.phase.is_full:
            return "phase"
        if self.role is not None and self.role.is_full:
            return "role"
        channels = self.channels
        if not channels:
            return None
        if len(channels) == 1:
            return channels[0].bound(now)
        whys = [channel.bound(now) for channel in channels]
        return None if None in whys else whys[0]

    def opens_at(self, now: float) -> float:
        """Give the next time at which a rate limit of its channels ends."""
        keys = [channel.key for channel in self.channels]
        times = [key.until if key.is_open else key.not_before for key in keys]
        return min((time for time in times if time is not None and time > now), default=math.inf)

    def choose(self, entry: Entry, now: float) -> int:
        """Choose which of the entry's members starts: the one with the most left."""
        members = entry[4]
        if len(members) == 1:
            return members[0]
        channels = entry[3].channels
        free = [member for member in members if channels[member].bound(now) is None]
        return min(free, key=lambda member: (channels[member].load, member))


class Queues:
    """All lanes and timers of one run."""

    def __init__(
        self,
        concurrency: Mapping[str, int],
        phase_parallel: Mapping[int, int],
        crowding: Callable[[LimitKey, int], bool] | None = None,
    ) -> None:
        self._concurrency = concurrency
        self._crowding = crowding
        self._phases = {phase: Count(ceiling) for phase, ceiling in phase_parallel.items()}
        self._engines: dict[str, Count] = {}
        self._keys: dict[LimitKey, KeyState] = {}
        self._channels: dict[Member, Channel] = {}
        self._roles: dict[str, RoleCount] = {}
        self._lanes: dict[tuple[int | str, ...], Lane] = {}
        self._filled: list[Lane] = []
        self._timers: list[Entry] = []
        self._deadlines: list[Entry] = []
        self._ticket = 0

    def channel(self, member: Member) -> Channel:
        found = self._channels.get(member)
        if found is None:
            engine = self._engines.get(member.engine)
            if engine is None:
                engine = self._engines[member.engine] = Count(self._concurrency.get(member.engine))
            key = self._keys.get(member.key)
            if key is None:
                key = self._keys[member.key] = KeyState(member.key, self._crowding)
            found = self._channels[member] = Channel(len(self._channels), engine, key)
        return found

    def key(self, key: LimitKey) -> KeyState | None:
        """Give the state of a key, None if no task may use it."""
        return self._keys.get(key)

    def phase(self, number: int) -> Count | None:
        return self._phases.get(number)

    def role(self, node: Node) -> RoleCount | None:
        """Give the count that a node's attempts take their places of, None if its role has no limit."""
        limit = node.role
        if limit is None:
            return None
        found = self._roles.get(limit.role)
        if found is None:
            found = self._roles[limit.role] = RoleCount(limit.role, limit.parallel)
        return found

    def push(self, task: TaskState, members: tuple[int, ...], rank: float) -> None:
        """Queue a task to start one of its members (none: its next step)."""
        phase = task.node.phase
        channels = task.channels
        role = self.role(task.node) if members else None  # a step takes no place of a role
        numbers = [channels[member].number for member in members]
        name: tuple[int | str, ...] = (phase, "" if role is None else role.role, *numbers)
        lane = self._lanes.get(name)
        if lane is None:
            chosen = tuple(channels[member] for member in members)
            lane = self._lanes[name] = Lane(chosen, self._phases.get(phase), role)
        if not lane.is_listed:
            lane.is_listed = True
            self._filled.append(lane)
        heapq.heappush(lane.heap, (rank, task.node.index, self._take(task), task, members))

    def push_later(self, task: TaskState, members: tuple[int, ...], at: float) -> None:
        """Queue a task for a time."""
        heapq.heappush(self._timers, (at, task.node.index, self._take(task), task, members))

    def push_deadline(self, task: TaskState, at: float) -> None:
        """Set the time at which a task's own time budget is used up."""
        self._ticket += 1
        task.deadline = self._ticket
        heapq.heappush(self._deadlines, (at, task.node.index, self._ticket, task, ()))

    def _take(self, task: TaskState) -> int:
        self._ticket += 1
        task.queued.add(self._ticket)
        return self._ticket

    def due(self, now: float) -> Iterator[Entry]:
        """Take out the live timers whose time has come, in order."""
        timers = self._timers
        while timers and timers[0][0] <= now:
            entry = heapq.heappop(timers)
            if entry[2] in entry[3].queued:
                entry[3].queued.discard(entry[2])
                yield entry

    def next_timer(self) -> float | None:
        timers = self._timers
        while timers and timers[0][2] not in timers[0][3].queued:
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def late(self, now: float) -> Iterator[TaskState]:
        """Take out the tasks whose own time is used up."""
        while (at := self.next_deadline()) is not None and at <= now:
            task = heapq.heappop(self._deadlines)[3]
            task.deadline = 0
            yield task

    def next_deadline(self) -> float | None:
        deadlines = self._deadlines
        while deadlines and deadlines[0][2] != deadlines[0][3].deadline:
            heapq.heappop(deadlines)
        return deadlines[0][0] if deadlines else None

    def pop(self, lane: Lane) -> Entry:
        """Take a lane's head out."""
        entry = heapq.heappop(lane.heap)
        entry[3].queued.discard(entry[2])
        return entry

    def filled(self) -> list[Lane]:
        """Give the lanes that have live entries; each has a head."""
        lanes = self._filled
        for lane in lanes:
            if lane.head() is None:
                break
        else:
            return lanes
        for lane in lanes:
            lane.is_listed = lane.head() is not None
        self._filled = [lane for lane in lanes if lane.is_listed]
        return self._filled

    def take_key(self, key: KeyState) -> list[Entry]:
        """Take out all live entries that may use a key, in their order."""
        taken: list[Entry] = []
        for lane in self.filled():
            if any(channel.key is key for channel in lane.channels):
                taken += [entry for entry in lane.heap if entry[2] in entry[3].queued]
                lane.heap.clear()
        for entry in taken:
            entry[3].queued.discard(entry[2])
        return sorted(taken)

    def rerank(self) -> None:
        """Give every entry its task's present rank, but for steps, which stay first."""
        for lane in self.filled():
            lane.heap = [
                (rank if rank == FIRST else task.key, index, ticket, task, members)
                for rank, index, ticket, task, members in lane.heap
                if ticket in task.queued
            ]
            heapq.heapify(lane.heap)
