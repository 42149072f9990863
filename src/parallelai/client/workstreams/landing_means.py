"""What every landing by hand stands on: its target, its gates, who may be asked, and what is known of conflicts."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import shlex
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from parallelai.client.arguments import choice_of
from parallelai.client.project import OpenProject
from parallelai.client.workstreams.asked import Asked
from parallelai.client.workstreams.askers import PortsOf
from parallelai.client.workstreams.branches_meant import beside_plans
from parallelai.client.workstreams.checked_out import parted
from parallelai.client.workstreams.gates_of_config import ignored_gate, over_config
from parallelai.client.workstreams.logic_notes import Logic, logic_conflicts
from parallelai.errors import NotFoundError
from parallelai.events import (
    EventData,
)
from parallelai.git.repository import Repository, open_repository
from parallelai.plan.model import Plan
from parallelai.store.place import prepare
from parallelai.work.conflicts import Head
from parallelai.work.gates.judge import GateJudge
from parallelai.work.gates.memory import KEPT_SECONDS
from parallelai.work.landing.lander import Lander
from parallelai.work.landing.records import Arrival, Candidate
from parallelai.work.ledger import Ledger
from parallelai.work.opening import Ground, make_gates, make_lander, open_gates
from parallelai.work.scratch import folders
from parallelai.work.streams.base import pending_of
from parallelai.work.streams.names import worktree_path
from parallelai.work.streams.registry import Streams


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """One landing by hand: on which ground, by whom, under which run; `ignored` says which gate would not run."""

    repository: Repository
    lander: Lander
    gates: GateJudge | None
    plan: Plan
    target: str
    ignored: str | None


class LandingMeans:
    """Opens landings of a project, also those that are only tried."""

    def __init__(self, project: OpenProject, ports: PortsOf) -> None:
        """`ports` gives what the landings of a plan may ask engines for."""
        self._project = project
        self._ports = ports

    @property
    def streams(self) -> Streams:
        """The registry of the project's workstreams."""
        return Streams(self._project.state)

    async def tip(self, repository: Repository, target: str) -> str:
        """The commit of a target: of the branch that stands for it while a checkout could not follow."""
        pending = await pending_of(repository, target)
        tip = await repository.commit(f"refs/heads/{target}")
        if tip is None:
            again = f"`git branch {shlex.quote(target)} COMMIT` makes it"
            raise NotFoundError(f"there is no branch `{target}`", next=again)
        return pending if pending is not None and await repository.ancestor(tip, pending) else tip

    async def logic(self, landing: Opened, candidates: Sequence[Candidate]) -> Sequence[Logic]:
        """What merges cleanly, and does not fit together all the same."""
        target = Head(landing.target, await self.tip(landing.repository, landing.target))
        found = await logic_conflicts(landing.repository, self.conflicts_cache, candidates, target)
        return found if landing.plan.works else (*found, *beside_plans(self.streams, candidates))

    @property
    def conflicts_cache(self) -> Path | None:
        """Where it is kept what was found of pairs: nowhere in a project that has no state, which a look makes none."""
        return self._project.state / "cache" / "conflicts" if self._project.has_store else None

    async def parted(
        self, landing: Opened, found: Sequence[tuple[str, str]], run: str, *, is_shadow: bool = False
    ) -> tuple[list[Candidate], list[Arrival]]:
        """Branches, by name and tip: those that may land, and why others may not."""
        tip = await self.tip(landing.repository, landing.target)
        if is_shadow and (landing.gates is not None or await landing.lander.hooks_foreseen(tip)):
            # its logs may be the first that a project has of us
            await asyncio.to_thread(prepare, self._project.state, create=True)
        means = (landing.repository, self.streams, found, tip, run)
        return await parted(*means, is_shadow=is_shadow)

    def standing_plan(self) -> Plan:
        """What config says, where there is no plan."""
        return over_config(Plan(), self._project.settings)

    @asynccontextmanager
    async def opened(
        self, run: str, plan: Plan, asked: Asked, append: Any, target: str
    ) -> AsyncIterator[Opened]:
        """Open a landing: folders for its gates are made, and go with it. Without `append` it is only tried."""
        repository = await open_repository(self._project.root)
        is_tried = append is None
        tried = self._project.state / "work" / "tried"
        await asyncio.to_thread(_clear, tried)
        folder = (tried if is_tried else self._project.state / "runs") / run
        settings = self._project.settings
        worktrees = worktree_path(
            repository, "x", Path(settings.worktrees.path) if settings.worktrees.path else None
        ).parent
        hidden = (str(self._project.state), str(worktrees))

        def tell(task: str | None, data: EventData) -> None:
            if not is_tried:  # what is only tried is no fact of a run
                append(data, task=task)

        state, grace = self._project.state, plan.limits.grace
        ledger = Ledger(self._project.machine, state)
        ground = Ground(repository, run, state, folder, hidden, tell, grace, ledger=ledger, is_tried=is_tried)
        ignored = ignored_gate(self._project, plan, asked.gates)
        plan = asked.over(plan)
        if asked.engine is not None:
            choice, _ = choice_of(asked.engine)
            plan = plan.model_copy(update={"landing": plan.landing.model_copy(update={"resolver": choice})})
        ports = self._ports(plan, folder, tell)
        async with open_gates(ground, plan.workspace) as trees:
            gates = make_gates(ground, trees, plan.gates, ports)
            means = (plan.landing, plan.workspace, target, ports, plan.gates.timeout)
            lander = make_lander(ground, trees, gates, *means)
            yield Opened(repository, lander, gates, plan, target, ignored)


def _clear(tried: Path) -> None:
    """Remove the logs of landings that were only tried, once what their gates said is believed no more."""
    with contextlib.suppress(OSError):
        for folder in list(tried.iterdir()):
            if time.time() - folder.stat().st_mtime > KEPT_SECONDS:
                folders.remove(folder)
