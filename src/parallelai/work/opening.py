"""Opens what workstreams need while a run lives, or while somebody lands branches: gates, resolvers, the lander."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from parallelai.errors import GateFailed, ParallelAIError
from parallelai.git.repository import Repository
from parallelai.plan import model
from parallelai.plan.generators import Generators
from parallelai.plan.model import PhaseGate
from parallelai.work.colleagues import Colleagues
from parallelai.work.conflicts import Head, conflicting_pairs
from parallelai.work.gates.judge import GateJudge, ReviewRunner
from parallelai.work.gates.memory import Memory
from parallelai.work.gates.phase import phase_gate
from parallelai.work.gates.running import Runs as GateRuns
from parallelai.work.gates.running import Setting as GateSetting
from parallelai.work.gates.trees import Settings as TreeSettings
from parallelai.work.gates.trees import Trees, open_trees
from parallelai.work.holding import Ask
from parallelai.work.landing.hooks import CommitHooks
from parallelai.work.landing.lander import Lander
from parallelai.work.landing.queue import LandingQueue
from parallelai.work.landing.records import Candidate, Plan, Tell
from parallelai.work.ledger import Ledger
from parallelai.work.resolvers.asking import Asker
from parallelai.work.resolvers.decisions import Decisions
from parallelai.work.resolvers.generating import Generation
from parallelai.work.resolvers.regenerating import Regeneration
from parallelai.work.resolvers.settling import Settling
from parallelai.work.room import Room
from parallelai.work.setting import Setting
from parallelai.work.site import Site
from parallelai.work.streams.registry import Streams

_FOLDERS = ("TMPDIR", "XDG_CACHE_HOME")
"""What a gate's folder has of its own, where it may write."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What only the facade can do: have a difference reviewed, have a conflict settled by an engine, ask a person."""

    review: ReviewRunner | None = None
    asker: Asker | None = None
    choose: Ask | None = None


class Ground(Struct, frozen=True):
    """Where landings happen. `folder` is the run's, `hidden` what no gate may see; `is_tried`: nothing is to last."""

    repository: Repository
    run: str
    state: Path
    folder: Path
    hidden: tuple[str, ...]
    tell: Tell
    grace_seconds: float = 5.0
    memory_bytes: int | None = None
    ledger: Ledger | None = None
    is_tried: bool = False

    @property
    def decisions(self) -> Path:
        """Where it is remembered how conflicts were settled."""
        return self.state / "work" / "decisions"

    def regeneration(self, workspace: model.Workspace, folder: Path) -> Regeneration:
        """What makes lock files anew, in scratch folders in this one."""
        return Regeneration(
            self.repository.git,
            folder,
            self.folder / "gates",
            self.run,
            network=workspace.network,
            env=workspace.env,
            pass_env=workspace.pass_env,
            hidden=self.hidden,
        )


@asynccontextmanager
async def _lent(ground: Ground, needs: model.Needs, name: str) -> AsyncIterator[Mapping[str, str]]:
    """Take ports and names for a folder of the gates: servers that tests start must not meet those of others."""
    if ground.ledger is None:
        yield {}
        return
    held = await ground.ledger.take(ground.run, name, needs, is_working=False)
    try:
        yield {name: value for name, value in held.env.items() if name not in _FOLDERS}
    finally:
        await ground.ledger.release(held)


@asynccontextmanager
async def open_gates(ground: Ground, workspace: model.Workspace) -> AsyncIterator[Trees]:
    """Open the folders in which gates run."""
    settings = TreeSettings(
        run=ground.run,
        logs=ground.folder / "gates",
        workspace=workspace,
        hidden=ground.hidden,
        network=workspace.network,
        memory_bytes=ground.memory_bytes,
        grace_seconds=ground.grace_seconds,
        lend=functools.partial(_lent, ground, workspace.needs) if ground.ledger is not None else None,
    )
    async with open_trees(ground.repository, settings) as trees:
        yield trees


def make_gates(ground: Ground, trees: Trees, gates: model.Gates, ports: Ports) -> GateJudge | None:
    """Make what judges trees by a plan's gates; None where it has none."""
    if not gates.landing:
        return None
    return GateJudge(
        ground.repository,
        gates,
        trees,
        tell=ground.tell,
        logs=ground.folder / "gates",
        state=ground.state / "work",
        review=ports.review,
    )


def make_lander(
    ground: Ground,
    trees: Trees,
    gates: GateJudge | None,
    landing: model.Landing,
    workspace: model.Workspace,
    target: str,
    ports: Ports,
    seconds: float,
) -> Lander:
    """Make what lands candidates on a target, behind hooks and gates.

    `trees` are the gates' folders, `seconds` is how long a hook may take.
    """
    repository = ground.repository
    logs = GateSetting(repository, trees, ground.tell, ground.folder / "gates", seconds, Memory(None))
    hooks = CommitHooks(repository, trees, GateRuns(logs), target, seconds)
    engine = ", ".join(landing.resolver.members) if landing.resolver is not None else "engine"
    settling = Settling(
        repository,
        decisions=Decisions(
            ground.decisions, commits=landing.decisions == "commit", is_kept=not ground.is_tried
        ),
        asker=ports.asker,
        engine=engine,
        regenerate=ground.regeneration(workspace, trees.folder / "locks"),
        generate=Generation(Generators(landing.generated), trees, ground.folder / "gates")
        if landing.generated
        else None,
        tell=ground.tell,
    )
    plan = Plan(target, landing.method, landing.via, landing.push, landing.batch)

    async def conflicts(candidates: Sequence[Candidate]) -> frozenset[frozenset[str]]:
        heads = [Head(one.name, one.commit, one.owns) for one in candidates]
        return await conflicting_pairs(repository, heads, cache=ground.state / "cache" / "conflicts")

    ours = Streams(ground.state).worktrees
    return Lander(repository, plan, gates, settling, ground.tell, ours=ours, conflicts=conflicts, hooks=hooks)


@asynccontextmanager
async def open_room(
    setting: Setting, repository: Repository, ledger: Ledger, tell: Tell, ports: Ports
) -> AsyncIterator[Room]:
    """Open the room of a run's workstreams."""
    streams = Streams(setting.state)
    hidden = (str(setting.state), str(setting.worktrees))
    grace = setting.plan.limits.grace
    memory = setting.memory_bytes
    ground = Ground(
        repository, setting.run, setting.state, setting.folder, hidden, tell, grace, memory, ledger
    )
    async with open_gates(ground, setting.plan.workspace) as trees:
        plan = setting.plan
        gates = make_gates(ground, trees, plan.gates, ports)
        means = (plan.landing, plan.workspace, setting.target, ports, plan.gates.timeout)
        lander = make_lander(ground, trees, gates, *means)

        async def gate(asked: PhaseGate, commit: str) -> None:
            memory = Memory(setting.state / "work" / "gates")
            seconds = plan.gates.timeout
            logs = setting.folder / "gates"
            verdict = await phase_gate(
                GateRuns(GateSetting(repository, trees, tell, logs, seconds, memory)),
                asked.commands,
                commit,
                pass_rate=asked.pass_rate,
            )
            if not verdict.ok:
                error = verdict.error
                if error is None:
                    raise GateFailed("the gate of the phase does not pass")
                raise GateFailed(error.said, where=error.where, next=error.next)

        async def warm() -> None:
            """Have the base gated, and the canaries put out, while the assistants work: it takes as long as a gate."""
            if gates is not None:
                await room.begun.wait()
                with contextlib.suppress(ParallelAIError):  # whoever lands is told of it
                    await gates.ready(await site.tip())

        site = Site(setting, repository, streams, ledger, tell)
        colleagues = Colleagues(setting, repository, streams, tell, ports.choose)
        room = Room(setting, repository, streams, site, colleagues, LandingQueue(lander.land), gate, tell)
        await room.tidy()
        warming = asyncio.create_task(warm()) if setting.works else None
        try:
            yield room
        finally:
            if warming is not None:
                warming.cancel()
                await asyncio.wait([warming])
            await room.aclose()
