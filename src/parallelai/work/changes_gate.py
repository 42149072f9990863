"""Gates of phases whose tasks edit: they run where the changes are, in scratch folders that hold all of them."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from parallelai.errors import GateFailed
from parallelai.events import EventData
from parallelai.plan.graph import Instance
from parallelai.plan.model import PhaseGate
from parallelai.run.workspaces import Work
from parallelai.work.gates.commands import Result, run_gate
from parallelai.work.gates.phase import phase_gate
from parallelai.work.gates.ran import Ran, ran_of
from parallelai.work.gates.running import Argv
from parallelai.work.landing.records import Tell
from parallelai.work.scratch.confined import Command, complete
from parallelai.work.scratch.place import ScratchPlace
from parallelai.work.setting import Setting
from parallelai.work.stream_places import StreamWorkspaces


class ChangesGate:
    """Runs a phase's gate on what the tasks before it changed. `places` makes the folders of the run."""

    def __init__(self, setting: Setting, places: StreamWorkspaces, tell: Tell) -> None:
        self._setting = setting
        self._places = places
        self._tell = tell
        self._logs = _names(setting.folder / "gates")

    async def check(self, instance: Instance, asked: PhaseGate, after: tuple[str, ...]) -> None:
        """Run the commands. `after` are the instances whose changes they have to see.

        Raises `GateFailed`, `Conflict` where the changes do not fit together, other `EngineError`s where no folder
        can be made.
        """
        commit = await self._places.with_changes(after)
        runs = _Runs(self, instance, after)
        verdict = await phase_gate(runs, asked.commands, commit, pass_rate=asked.pass_rate)
        error = verdict.error
        if error is not None:
            raise GateFailed(error.said, where=error.where, next=error.next)

    async def run(self, instance: Instance, after: tuple[str, ...], argv: Argv) -> Result:
        """Run one command in a folder of its own."""
        seconds = self._setting.plan.gates.timeout
        work = Work(edits=True, after=after, number=instance.index)
        place = await self._places.scratch(instance.id, work, seconds)
        log = next(self._logs)
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder = _Folder(place, self._setting)
            return await run_gate(folder, argv, seconds, log, name=os.path.relpath(log, self._setting.root))
        finally:
            await place.close()

    def tell(self, event: EventData) -> None:
        """Write an event down."""
        self._tell(None, event)


class _Runs:
    """What `phase_gate` asks to run its commands (`gates.phase.Runs`)."""

    def __init__(self, gate: ChangesGate, instance: Instance, after: tuple[str, ...]) -> None:
        self._gate = gate
        self._instance = instance
        self._after = after

    def told(self, event: EventData, names: tuple[str, ...] = ()) -> None:
        self._gate.tell(event)

    async def run(self, commit: str, argv: Argv) -> Result:
        return await self._gate.run(self._instance, self._after, argv)


class _Folder:
    """A scratch folder as gates see one (`gates.commands.Folder`)."""

    def __init__(self, place: ScratchPlace, setting: Setting) -> None:
        self.temporary = Path(place.workspace.temporary)
        self._place = place
        self._setting = setting

    async def run(self, argv: tuple[str, ...], seconds: float, log: Path) -> Ran:
        setting, place = self._setting, self._place
        command = Command("gate", argv, seconds, setting.plan.limits.grace, setting.run, log)
        return ran_of(await complete(place.root, place.workspace, place.environment(), command))


def _names(folder: Path) -> Iterator[Path]:
    """Give names of logs that no file has yet."""
    found = (folder / f"phase-{number}.log" for number in itertools.count(1))
    for path in found:
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600, exist_ok=False)
            yield path
