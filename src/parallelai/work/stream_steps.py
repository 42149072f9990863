"""The steps of a workstream after its assistant's work: leave to land, and the landing; and gates of phases."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from parallelai.plan.graph import Instance
from parallelai.plan.model import PhaseGate, Workstream
from parallelai.run.approving import STEP, Approvals
from parallelai.run.steps import StepContext

if TYPE_CHECKING:  # a run without workstreams has no need of these, which take long to load
    from parallelai.work.changes_gate import ChangesGate
    from parallelai.work.room import Room


class ApproveStep:
    """Wait for a person's leave, where the plan says `approve: true`. It takes no slot."""

    kind = STEP
    stage = "queued"
    is_unslotted = True

    def __init__(self, room: Room | None, approvals: Approvals) -> None:
        """`room` has the workstreams; None where there are none."""
        self._room = room
        self._approvals = approvals

    def applies(self, instance: Instance) -> bool:
        return instance.task.approve and not isinstance(instance.task, PhaseGate)

    async def carry_out(self, instance: Instance, context: StepContext) -> None:
        if self._room is not None and self._room.has(instance.id):
            await self._room.approved(instance.id)
        else:
            await self._approvals.leave(instance.id)


class LandStep:
    """Land a workstream, together with whatever else is ready. It takes no slot: gates have room of their own."""

    kind = "land"
    stage = "queued"
    is_unslotted = True

    def __init__(self, room: Room) -> None:
        self._room = room

    def applies(self, instance: Instance) -> bool:
        return isinstance(instance.task, Workstream)

    async def carry_out(self, instance: Instance, context: StepContext) -> None:
        await self._room.land(instance.id)


class PhaseGateStep:
    """Run a phase's gate on what its tasks and workstreams left."""

    kind = "gate"
    stage = "gating"

    def __init__(
        self, room: Room, changes: ChangesGate | None, changed_before: Callable[[str], tuple[str, ...]]
    ) -> None:
        """`changed_before` gives the tasks whose changes a gate has to see; none where the target has them all."""
        self._room = room
        self._changes = changes
        self._changed_before = changed_before

    def applies(self, instance: Instance) -> bool:
        return isinstance(instance.task, PhaseGate)

    async def carry_out(self, instance: Instance, context: StepContext) -> None:
        if not isinstance(instance.task, PhaseGate):
            return
        changed = self._changed_before(instance.id)
        if changed and self._changes is not None:
            await self._changes.check(instance, instance.task, changed)
        else:
            await self._room.phase_gate(instance.task)
