"""The steps of a workstream after its assistant's work: leave to land, and the landing; and gates of phases."""

from __future__ import annotations

from parallelai.plan.graph import Instance
from parallelai.plan.model import PhaseGate, Workstream
from parallelai.run.steps import StepContext
from parallelai.work.room import Room


class ApproveStep:
    """Wait for a person's leave, where the plan says `approve: true`. It takes no slot."""

    kind = "approve"
    stage = "queued"
    is_unslotted = True

    def __init__(self, room: Room) -> None:
        self._room = room

    def applies(self, instance: Instance) -> bool:
        return isinstance(instance.task, Workstream) and instance.task.approve

    async def carry_out(self, instance: Instance, context: StepContext) -> None:
        await self._room.approved(instance.id)


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

    def __init__(self, room: Room) -> None:
        self._room = room

    def applies(self, instance: Instance) -> bool:
        return isinstance(instance.task, PhaseGate)

    async def carry_out(self, instance: Instance, context: StepContext) -> None:
        if isinstance(instance.task, PhaseGate):
            await self._room.phase_gate(instance.task)
