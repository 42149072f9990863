"""`ai.work`: workstreams from their start to their landing; looked at, steered, landed, also by hand."""

from __future__ import annotations

import dataclasses
import functools
import os
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from parallelai.client.project import OpenProject
from parallelai.client.runs import Runs
from parallelai.errors import BusyError, NotFoundError, ParallelAIError, UsageError
from parallelai.events import AttemptReserved, SessionOpened
from parallelai.git.repository import open_repository
from parallelai.plan import load
from parallelai.plan.model import Plan
from parallelai.work.landing.reverts import note_reverts
from parallelai.work.ledger import Held, Ledger
from parallelai.work.streams import clean, left
from parallelai.work.streams.kept import Kept
from parallelai.work.streams.moved import refuse_moved
from parallelai.work.streams.record import Stream, is_undone
from parallelai.work.streams.registry import Streams, is_finished

if TYPE_CHECKING:  # each is loaded when it is first used: to look at workstreams starts and lands none
    from parallelai.client.options import CarryOut
    from parallelai.client.workstreams.differing import Difference
    from parallelai.client.workstreams.landings import Landings
    from parallelai.client.workstreams.looking import Looking
    from parallelai.client.workstreams.steering import Steering
    from parallelai.client.workstreams.syncs import Synced
    from parallelai.records import RunDocument
    from parallelai.work.context.pack import Context
    from parallelai.work.guard import hooks
    from parallelai.work.landing.waiting import Waiting
    from parallelai.work.status.folding import StreamStatus
    from parallelai.work.streams.carrying import How
    from parallelai.work.streams.worktrees import Started


class CarryOutPlan(Protocol):
    """How a plan is carried out."""

    def __call__(self, plan: Plan, name: str | None, carry: CarryOut) -> Awaitable[RunDocument]: ...


class StartPlan(Protocol):
    """How the workstreams of a plan are started without their assistants."""

    def __call__(self, plan: Plan, name: str, names: Sequence[str]) -> Awaitable[list[Started]]: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Attach:
    """How a person opens a workstream: the command, the folder that it is for, and what the ledger gave that.

    `is_at_work`: an assistant works there now.
    """

    command: tuple[str, ...]
    folder: str
    is_session: bool
    environment: Mapping[str, str]
    is_at_work: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Cleaned:
    """The workstreams whose worktrees were removed, or would be, and why others are kept."""

    removed: tuple[str, ...]
    kept: tuple[Kept, ...]


class Work:
    """The workstreams of a project. A name is a workstream's id in its plan."""

    def __init__(
        self,
        project: OpenProject,
        runs: Runs,
        carry_out: CarryOutPlan,
        start: StartPlan,
        landings: Callable[[], Landings],
    ) -> None:
        self._project = project
        self._runs = runs
        self._carry_out = carry_out
        self._start = start
        self._make_landings = landings

    @functools.cached_property
    def landings(self) -> Landings:
        """Landings by hand."""
        return self._make_landings()

    @functools.cached_property
    def _looking(self) -> Looking:
        from parallelai.client.workstreams.looking import Looking

        return Looking(self._project, self._runs)

    @functools.cached_property
    def _steering(self) -> Steering:
        from parallelai.client.workstreams.steering import Steering

        return Steering(self._project, self._runs)

    @property
    def streams(self) -> Streams:
        """The registry of this project's workstreams."""
        return Streams(self._project.state)

    def all(self, *, is_all: bool = False) -> list[Stream]:
        """Give the workstreams that are worked on; with `is_all` also those that have landed or were dropped."""
        found = self.streams.all()
        return found if is_all else [each for each in found if not is_finished(each)]

    def find(self, name: str) -> Stream:
        """Give a workstream. Raises `NotFoundError`."""
        return self.streams.find(name)

    # -- carrying out

    async def start(self, plan: str | Path, names: Sequence[str] = ()) -> list[Started]:
        """Make branch and worktree of each workstream of a plan, or of those named. Raises `PlanError`."""
        loaded, name = self._load(plan)
        known = {work.id for work in loaded.workstreams}
        for each in names:
            if each not in known:
                shown = ", ".join(f"`{work}`" for work in sorted(known))
                raise NotFoundError(f"`{plan}` has no workstream `{each}`", next=f"it has {shown}")
        return await self._start(loaded, name, names or tuple(work.id for work in loaded.workstreams))

    async def run(self, plan: Plan, name: str | None, carry: CarryOut) -> RunDocument:
        """Carry a plan out; goes on with its latest run where there is one that has something left."""
        return await self._carry_out(plan, name, dataclasses.replace(carry, is_resume=not carry.is_new))

    def _load(self, path: str | Path) -> tuple[Plan, str]:
        from parallelai.client.naming import plan_name

        project = self._project
        loaded = load.load(Path(path), root=project.root, names=project.names(), tree=project.tree)
        return loaded, plan_name(Path(path), project.root)

    # -- looking

    def run_of(self, name: str) -> str:
        """Give the run whose logs tell of a workstream. Raises `NotFoundError`, also where it was deleted."""
        stream = self.find(name)
        if not self._runs.is_kept(stream.run):
            said = f"run `{stream.run}` of `{name}` was deleted, and its logs with it"
            raise NotFoundError(said, next=f"`parallelai work status {name}` says how it stands")
        return stream.run

    async def status(self, names: Sequence[str] = (), *, is_all: bool = False) -> list[StreamStatus]:
        """Say of each workstream how far it is; those of the plan that are not started yet come last."""
        return await self._looking.status(names, is_all=is_all)

    async def landed(self) -> frozenset[str]:
        """Name those whose landing their target has: not what was lost since, nor what is not yet taken over."""
        return await self._looking.landed()

    def left_out(self, plan: str) -> dict[str, str]:
        """Say of a plan's workstreams that a person took out why a run leaves them alone, unless asked for them."""
        from parallelai.work.streams.revisiting import is_out, why_left

        return {
            each.name: why_left(each) for each in self.streams.all() if each.plan == plan and is_out(each)
        }

    def killed(self) -> tuple[str, ...]:
        """Say of which plans a run was killed that had something left, and what goes on with it."""
        return self._looking.killed()

    async def waiting(self) -> tuple[Waiting, ...]:
        """Say for which targets a result waits that landed or was taken back, and what takes it over."""
        return await self._looking.waiting()

    async def follow(self) -> tuple[str, ...]:
        """Move checkouts that could not follow a landing, if git would by now; says what waits still, and why."""
        from parallelai.work.landing.following import follow
        from parallelai.work.landing.waiting import said_of

        if not await self.waiting():
            return ()
        repository = await open_repository(self._project.root)
        return tuple(said_of(standing) for standing in await follow(repository, self.streams))

    def _plan_of(self, run: str) -> Plan:
        from parallelai.client.recorded import plan_of

        created = self._runs.report(run).created if self._runs.is_kept(run) else None
        if created is None:
            return Plan()
        return plan_of(created, self._project.settings.vars)

    def tasks(self) -> frozenset[str]:
        """Give the ids of all tasks and workstreams of the plans that workstreams were started of."""
        streams = self.streams.all()
        plans = [self._plan_of(run) for run in {each.run for each in streams}]
        return frozenset(
            (*(each.name for each in streams), *(work.id for plan in plans for work in plan.works))
        )

    async def _gone(self, stream: Stream) -> UsageError:
        """The error of who needs a worktree that is not there."""
        from parallelai.client.workstreams.landable import worktree_gone

        return worktree_gone(await open_repository(self._project.root), stream)

    async def diff(self, name: str) -> str:
        """Give all that a workstream changed since it was cut, committed or not, as a patch.

        What somebody merged by hand since is left out. Of one that is finished: what it brought, and where its worktree
        is still there, what came to that since. Of one that was given up: the patch that it is kept in.
        """
        return (await self.difference(name)).patch

    async def difference(self, name: str) -> Difference:
        """As `diff`, and whether there is nothing because the target has it all."""
        from parallelai.client.workstreams.differing import difference

        return await difference(await open_repository(self._project.root), self.find(name))

    async def context(self, name: str, plan: str | Path | None = None) -> Context:
        """Give what the assistant of a workstream would be told now if it began; takes nothing of that away.

        The task is told as the plan has it: what a run renders of it (variables, templates, results of plain tasks)
        comes only there. Raises `NotFoundError`.
        """
        from parallelai.plan.roles import with_roles
        from parallelai.work.context.notes import notes_of
        from parallelai.work.context.pack import context

        repository = await open_repository(self._project.root)
        stream = self.streams.get(name)
        if plan is None and stream is None:
            raise NotFoundError(f"no workstream `{name}` is started", next="name its plan: `--plan FILE`")
        if plan is None and stream is not None and not self._runs.is_kept(stream.run):
            plan = self._project.root / stream.plan
        if plan is not None:
            whole, plan_name = self._load(plan)
        else:
            whole, plan_name = self._plan_of(stream.run if stream else ""), stream.plan if stream else ""
        work = next((work for work in whole.workstreams if work.id == name), None)
        if work is None:
            raise NotFoundError(f"the plan has no workstream `{name}`", next="`plan show` lists them")
        whole = with_roles(whole, self._project.roles, self._project.settings.defaults.role)
        target = stream.target if stream is not None else (await repository.branch() or "HEAD")
        commit = await repository.commit(stream.head if stream is not None else "HEAD")
        if commit is None:
            raise UsageError("there is no commit yet", next="make a first commit")
        known = self.streams.all()
        is_its = stream is not None and stream.plan == plan_name and not is_finished(stream)
        mail = stream.mail if stream is not None and is_its else ()
        return await context(
            repository,
            whole,
            name,
            commit=commit,
            target=target,
            landed=[each.name for each in known if each.landed is not None],
            notes=notes_of([each for each in known if each.plan == plan_name], work.depends_on, mail),
            cache=self._project.state / "cache" / "symbols",
        )

    async def attach(self, name: str) -> Attach:
        """Say how a person opens the session of a workstream's assistant; a shell where there is none."""
        stream = self.find(name)
        if not Path(stream.worktree).is_dir():
            if not is_finished(stream):
                raise await self._gone(stream)
            again = f"`parallelai work start {shlex.quote(stream.plan)} {shlex.quote(name)}` begins it anew"
            raise UsageError(f"`{name}` is {stream.state}: its worktree is gone", next=again)
        opened, given = self._session(stream), await self._given(stream)
        is_at_work = stream.in_attempt and self._steering.is_live(stream.run)
        if opened is not None:
            registry = self._project.registry(self._plan_of(stream.run).engines)
            try:
                command = registry.get(opened[0]).attach(opened[1])
            except ParallelAIError:  # the engine is there no more
                command = None
            finally:
                await registry.aclose()
            if command:
                return Attach(tuple(command), stream.worktree, True, given, is_at_work)
        shell = os.environ.get("SHELL") or "/bin/sh"
        return Attach((shell,), stream.worktree, False, given, is_at_work)

    def _session(self, stream: Stream) -> tuple[str, str] | None:
        """The engine and the id of the last session of a workstream's assistant."""
        engine = session = None
        if not self._runs.is_kept(stream.run):
            return None
        for event in self._runs.events(stream.run):
            if event.task != stream.name:
                continue
            if isinstance(event.data, AttemptReserved):
                engine = event.data.engine
            elif isinstance(event.data, SessionOpened):
                session = event.data.session
        return (engine, session) if engine and session else None

    async def ledger(self) -> tuple[Held, ...]:
        """Say who holds what on this machine."""
        return tuple(await self._ledger.holders())

    async def _given(self, stream: Stream) -> Mapping[str, str]:
        """What the ledger gave to a workstream, as environment variables."""
        key = self._ledger.key(stream.run, stream.name, is_stream=True)
        return next((held.env for held in await self._ledger.holders() if held.key == key), {})

    async def _release(self, stream: Stream) -> None:
        """Give back what the ledger gave to a workstream."""
        await self._ledger.release(stream.name, stream.run)

    @property
    def _ledger(self) -> Ledger:
        return Ledger(self._project.machine, self._project.state)

    # -- steering

    async def ask(self, kind: str, names: Sequence[str] = ()) -> str:
        """Pause, resume or stop: the whole run of these workstreams, or their assistants; also who waits to begin."""
        return await self._steering.ask(kind, names)

    async def send(self, name: str, text: str) -> str:
        """Tell the assistant of a workstream something: with its next turn, if it can take nothing before."""
        return await self._steering.send(name, text)

    async def approve(self, name: str, result: str | None = None) -> str:
        """Give leave that a workstream lands as it is now, or that what a task came to counts.

        A task is that of the latest run in which it waits. `result` is what the person looked at: the mark of what a
        task came to (`runs show`), or a workstream's commit.

        Raises:
            UsageError: a workstream waits for no leave, or it is not what the person looked at any more.
        """
        return await self._steering.approve(name, result)

    async def reject(self, name: str, reason: str = "") -> str:
        """Refuse that a workstream lands, or what a task came to, in the latest run in which it waits."""
        return await self._steering.reject(name, reason)

    async def lease(self, name: str, paths: Sequence[str]) -> str:
        """Give a workstream leave to change files beside its own, by their paths from the root.

        It is told with its next turn. Where no run is carried out, what was kept out of these files is put back.
        """
        return await self._steering.lease(name, paths)

    async def done(self, *names: str) -> str:
        """Say that worktrees are ready to land as they are: their content is guarded and committed, then they may land.

        Where one is not, those after it are not looked at, and the error says which are ready.
        """
        repository = await open_repository(self._project.root)
        await note_reverts(repository, self.streams)
        those = [self._steering.at_rest(name) for name in dict.fromkeys(names)]
        for stream in those:
            if not Path(stream.worktree).is_dir():
                raise await self._gone(stream)
            refuse_moved(repository, stream)  # the guard takes nothing from behind a link
        said: list[str] = []
        for stream in those:
            try:
                with self._steering.resting(stream.name) as now:
                    said.append(await self.landings.done(now))
            except ParallelAIError as error:
                error.said = "; ".join([error.said, *said])
                raise
        return "\n".join(said)

    async def drop(self, name: str) -> str:
        """Give a workstream up: its work is kept as a patch, its worktree and branch go.

        Of one that was given up, what could not go then, or a killed process left, goes now.
        """
        from parallelai.client.workstreams.arrivals import told

        stream = self.streams.find(name)
        repository = await open_repository(self._project.root)
        is_over = stream.state == "dropped" and await clean.is_there(repository, stream)
        with self._steering.resting(name, is_over=is_over) as stream:
            folder = self._project.state / "runs" / stream.run / "patches"
            dropped = await clean.drop(repository, self.streams, stream, folder, release=self._release)
        if dropped.stream.patch is None:
            nothing = "none of it is in a patch" if dropped.notes else "there was no work in it"
            said = f"`{name}` is given up; {nothing}"
            return "\n".join([said, *map(told, stream.kept_out), *dropped.notes])
        shown = os.path.relpath(dropped.stream.patch, self._project.root)
        takes = f"`git apply --3way {shlex.quote(shown)}` takes it"
        return "\n".join([f"`{name}` is given up; its work is kept in `{shown}`: {takes}", *dropped.notes])

    # -- bringing it home

    async def sync(self, names: Sequence[str] = ()) -> tuple[Synced, ...]:
        """Bring what has landed since into worktrees that are at rest; see `syncs.bring`."""
        from parallelai.client.workstreams.syncs import Synced, bring

        repository = await open_repository(self._project.root)
        await note_reverts(repository, self.streams)
        done = []
        those = [self._steering.at_rest(name) for name in names] if names else self.all()
        for stream in those:
            if not names and is_undone(stream) and not Path(stream.worktree).is_dir():
                continue  # `work clean` took its worktree, which had landed
            if self._steering.is_live(stream.run) and not self._steering.has_ended(stream):
                said = "its assistant works on it, and is synced between turns"
                done.append(Synced(stream.name, False, said))
                continue
            tip, asked = await self.landings.tip(repository, stream.target), self.landings.plan_of(stream)
            how: How = "merge" if asked.landing.sync == "none" else asked.landing.sync
            try:  # what `work done` looks at, and a run begins with, does not change under its hands
                with self._steering.resting(stream.name) as now:
                    done.append(await bring(repository, self.streams, now, tip, how, is_named=bool(names)))
            except BusyError as error:
                done.append(Synced(stream.name, False, f"not synced: {error.said} ({error.next})"))
        return tuple(done)

    async def clean(self, *, is_dry: bool = False) -> Cleaned:
        """Remove the worktrees and branches of what has landed and is clean; list the rest, with how to rescue it."""
        repository = await open_repository(self._project.root)
        await note_reverts(repository, self.streams)
        in_use = {
            each.name
            for each in self.streams.all()
            if self._steering.is_live(each.run) and not self._steering.has_ended(each)
        }
        found = await clean.removable(repository, self.streams, in_use=in_use)
        if is_dry:
            return Cleaned(tuple(each.name for each in found.removable), found.kept)
        removed, kept = [], list(found.kept)
        for stream in found.removable:
            done = await clean.remove(repository, self.streams, stream, in_use=in_use, release=self._release)
            removed += [stream.name] if isinstance(done, clean.Removed) else []
            kept += clean.what_stays(done)
        return Cleaned(tuple(removed), tuple(kept))

    async def left(self, patterns: Sequence[str]) -> tuple[str, ...]:
        """Name what is kept in git of what was taken out of worktrees: of workstreams, or by its own name.

        Raises `NotFoundError` for a pattern that means none.
        """
        found = await left.listed(await open_repository(self._project.root))
        return tuple(each.id for each in left.chosen(found, patterns))

    async def let_go(self, names: Sequence[str]) -> tuple[str, ...]:
        """Remove what is kept in git under these names, which `left` gave; gives those that it removed."""
        repository = await open_repository(self._project.root)
        those = [each for each in await left.listed(repository) if each.id in names]
        return tuple(each.id for each in await left.let_go(repository, those))

    # -- git

    async def install_hooks(self) -> str:
        """Install the hooks that give people the guard's check."""
        from parallelai.work.guard import hooks

        repository = await open_repository(self._project.root)
        return "\n".join(await hooks.install(repository)) or "the hooks are installed already"

    async def guard_check(
        self, folder: Path, *, pushed: str | None = None, index_file: Path | None = None
    ) -> hooks.Checked:
        """Make the check of a hook that git called in a folder; `pushed` is what git told the pre-push hook."""
        from parallelai.client.secrets import secrets_finder
        from parallelai.work.guard import hooks

        repository = await open_repository(self._project.root)
        streams = self.streams.open()
        return await hooks.check(
            repository, streams, folder, pushed=pushed, index_file=index_file, secrets_in=secrets_finder()
        )

    async def uninstall_hooks(self) -> str:
        """Take the hooks out again."""
        from parallelai.work.guard import hooks

        repository = await open_repository(self._project.root)
        return "\n".join(await hooks.uninstall(repository)) or "no hook of ours is installed"
