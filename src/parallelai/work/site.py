"""The worktrees of one run, and all that is done to them: made, briefed, guarded, synced, measured, cleared."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from parallelai import processes
from parallelai.engines.protocol import Request, Workspace
from parallelai.errors import EngineError, ParallelAIError, Trespass
from parallelai.events import GuardKeptOut, WorkspaceCreated, WorkspaceRemoved, WorkspaceRepaired
from parallelai.git.merging import merge
from parallelai.git.repository import Repository
from parallelai.plan import model
from parallelai.plan.fields import Sandbox
from parallelai.plan.files import Matcher
from parallelai.plan.resolve import workspace_of
from parallelai.processes.removing import remove
from parallelai.records import FilePart, changed
from parallelai.run.workspaces import Measured, Work
from parallelai.store.lock import FileLock
from parallelai.work.context.notes import not_in
from parallelai.work.context.pack import Note, context
from parallelai.work.guard.aftercare import Aftercare
from parallelai.work.guard.guarding import Guard, Guarded
from parallelai.work.guard.inside import refresh
from parallelai.work.guard.interfaces import broken
from parallelai.work.guard.place import Settings as GuardSettings
from parallelai.work.guard.place import git_dir_of
from parallelai.work.guard.righting import clear_specials
from parallelai.work.guards import message_of, plan_file, shelter_of
from parallelai.work.landing.records import Tell
from parallelai.work.ledger import Ledger
from parallelai.work.leftovers import is_a_persons, shown, take_out
from parallelai.work.lending import StreamLoans
from parallelai.work.scratch.confined import Command, is_confined, run_in
from parallelai.work.scratch.home import home
from parallelai.work.scratch.workspaces import SETUP_SECONDS, tighter
from parallelai.work.setting import Setting
from parallelai.work.sheltering import is_possible
from parallelai.work.streams import clean, syncing, taking_over, worktrees
from parallelai.work.streams.base import Base, pending_of
from parallelai.work.streams.locks import in_use
from parallelai.work.streams.markers import Marker, brought
from parallelai.work.streams.record import KeptOut, Stream
from parallelai.work.streams.registry import Streams

MOST_FILES = 50
"""How many files an engine without hands is given the text of."""
_TEMPORARY = "stream-"


class Site:
    """See the module. Each of its methods is about one worktree; who calls them sees to it that only one does."""

    def __init__(
        self, setting: Setting, repository: Repository, streams: Streams, ledger: Ledger, tell: Tell
    ) -> None:
        self._setting = setting
        self._repository = repository
        self._streams = streams
        self._tell = tell
        self.loans = StreamLoans(ledger, setting.run, streams, self._needs, tell)
        self._care = Aftercare(repository, setting.folder / "events", setting.folder / "thrown-away-by-works")
        self._guards: dict[str, Guard] = {}
        self._unconfined: set[str] = set()
        self._begun: set[str] = set()
        self._locks: dict[str, FileLock] = {}

    # -- made

    async def prepare(self, name: str, sandbox: Sandbox = "auto") -> worktrees.Started:
        """Make a workstream's worktree, or what is missing of it. Raises `ParallelAIError`.

        `sandbox` is what the engine's entry says of confinement.
        """
        if sandbox == "none":
            self._unconfined.add(name)
            self._guards.pop(name, None)
        await asyncio.to_thread(self._lock, name)
        asked = self._asked(name, await self._base_for(name))
        started = await worktrees.start(
            self._repository, self._streams, asked, lambda folder, argv: self._set_up(name, folder, argv)
        )
        stream = started.stream
        await self.loans.take(name)
        for what in started.repaired:
            self._tell(name, WorkspaceRepaired(stream.worktree, what))
        if started.is_new:
            self._tell(name, WorkspaceCreated(stream.worktree, stream.base, True))
        await self._guard_of(stream).before()
        return started

    async def start(self, name: str) -> worktrees.Started:
        """As `prepare`, for a person: where nothing was made in it yet, what comes into it is theirs."""
        started = await self.prepare(name)
        if not started.is_new or started.stream.head != started.stream.base:
            return started
        stream = self._streams.update(name, lambda it: dataclasses.replace(it, is_by_hand=True))
        return dataclasses.replace(started, stream=stream)

    def _asked(self, name: str, base: Base) -> worktrees.Wanted:
        """What a workstream's worktree is to be."""
        setting, work, wanted = self._setting, self._setting.works[name], self.wanted(name)
        return worktrees.Wanted(
            name=name,
            plan=setting.plan_name,
            run=setting.run,
            base=base,
            rules=setting.rules[name],
            branch=work.branch,
            folder=setting.worktrees,
            sparse=wanted.sparse,
            copy=wanted.copy_,
            link=wanted.link,
            setup=wanted.setup,
            description=work.description,
            depends_on=work.depends_on,
            priority=work.priority,
        )

    def _lock(self, name: str) -> None:
        """Be the only process that works in a workstream's worktree. Raises `Unavailable`."""
        if name in self._locks:
            return
        self._locks[name] = in_use(self._setting.state, name)

    async def _base_for(self, name: str) -> Base:
        """The target as it stands, with the work of those that have not landed and are needed all the same."""
        tip = await self._start()
        for other in self._setting.works[name].depends_on:
            stream = self._streams.get(other) if other in self._setting.works else None
            if stream is None or stream.landed is not None:
                continue
            if await self._repository.ancestor(stream.head, tip):
                continue  # it has nothing yet
            merged = await merge(self._repository.git, tip, stream.head)
            if not merged.is_clean:
                continue  # it will have to be settled when that one lands
            dated = await self._repository.git.dated(tip)
            tip = await dated.line(
                "commit-tree", merged.tree, "-p", tip, "-p", stream.head, "-m", f"With {other}"
            )
        return Base(tip, self._setting.target)

    async def _start(self) -> str:
        """Where new worktrees are cut: the target, or its remote's branch where that is ahead of it."""
        tip, remote = await self.tip(), self._setting.base.commit
        return remote if await self._repository.ancestor(tip, remote) else tip

    async def _set_up(self, name: str, folder: Path, argv: tuple[str, ...]) -> EngineError | None:
        """Run a command of `setup` in a new worktree, confined as assistants are."""
        await self.loans.take(name)
        stream = self._streams.find(name)
        shelter = shelter_of(self._repository, self._streams, stream)
        if is_possible() and not shelter.is_laid:
            await asyncio.to_thread(shelter.lay, git_dir_of(self._repository, folder), stream.head)
        workspace = self.workspace(stream, Work(edits=True))
        env = self.environment(name)
        log = self._setting.folder / "steps" / f"{name}-setup.log"
        grace = self._setting.plan.limits.grace
        command = Command("setup", argv, SETUP_SECONDS, grace, self._setting.run, log, self._setting.root)
        return await run_in(str(folder), workspace, env, command)

    # -- how a program may work in it

    def wanted(self, name: str) -> model.Workspace:
        """What the plan says of a workstream's folder."""
        return workspace_of(self._setting.plan, self._setting.works[name])

    def _needs(self, name: str) -> model.Needs:
        return self.wanted(name).needs

    def environment(self, name: str) -> dict[str, str]:
        """The environment of a workstream's commands: what the ledger gives, and what the plan says."""
        wanted = self.wanted(name)
        return processes.environment(
            env={**self._traced(name), **self.loans.variables(name), **wanted.env}, pass_env=wanted.pass_env
        )

    def _traced(self, name: str) -> dict[str, str]:
        """By which git tells what programs do that nothing confines."""
        variables = self._guards[name].variables() if name in self._guards else {}
        if variables:
            self._begun.add(name)
        return variables

    def workspace(self, stream: Stream, work: Work) -> Workspace:
        """How a program may work in a worktree: what its git writes it has for itself, where that can be."""
        wanted = self.wanted(stream.name)
        common, admin = self._repository.common, git_dir_of(self._repository, Path(stream.worktree))
        setting = self._setting
        is_sheltered = work.sandbox != "none" and is_possible()
        shelter = shelter_of(self._repository, self._streams, stream)
        return Workspace(
            edits=True,
            temporary=str(self._temporary(stream.name)),
            sandbox=work.sandbox,
            network=tighter(work.network, wanted.network),
            readable=(str(common), *stream.links),
            hidden=(str(setting.state), str(Path(stream.worktree).parent), str(home(setting.run).parent)),
            permissions=setting.plan.permissions,
            memory_bytes=wanted.needs.memory or setting.memory_bytes,
            writable=self.loans.folders(stream.name),  # where nothing shelters, git's folders are read-only
            mounts=shelter.mounts(admin) if is_sheltered else (),
        )

    def _temporary(self, name: str) -> Path:
        folder = home(self._setting.run) / f"{_TEMPORARY}{name}-{os.getpid()}"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    async def brief(
        self, stream: Stream, request: Request, notes: Sequence[Note], *, has_hands: bool
    ) -> Request:
        """Put what an assistant is asked into its workstream's context, and the ledger's variables beside it."""
        plan = self._setting.plan
        made = await context(
            self._repository,
            plan,
            stream.name,
            commit=stream.head,
            target=stream.target,
            landed=[each.name for each in self._streams.all() if each.landed is not None],
            notes=not_in(request.prompt, notes),
            task=request.prompt,
            has_hands=has_hands,
            with_todo=False,
            cache=self._setting.state / "cache" / "symbols",
        )
        env = {**self._traced(stream.name), **self.loans.variables(stream.name), **request.env}
        request = changed(request, prompt=made.text, shared=made.shared, env=env)
        if has_hands:
            return request
        files = tuple(FilePart(path) for path in await self._owned(stream))
        return changed(request, files=files, files_at=len(request.prompt))

    async def _owned(self, stream: Stream) -> list[str]:
        """The files that a workstream owns and that are there, for those who cannot look themselves."""
        listed = await self._repository.git.run("ls-tree", "-r", "-z", "--name-only", stream.head)
        owned = Matcher(stream.rules.owns)
        paths = (os.fsdecode(path) for path in listed.split(b"\0") if path)
        return [path for path in paths if owned.selects(path)][:MOST_FILES]

    # -- between turns

    def _guard_of(self, stream: Stream) -> Guard:
        if stream.name not in self._guards:
            setting = self._setting
            work = Work(edits=True, sandbox="none" if stream.name in self._unconfined else "auto")
            holds = is_confined(self.workspace(stream, work))
            self._guards[stream.name] = Guard(
                GuardSettings(
                    repository=self._repository,
                    name=stream.name,
                    worktree=Path(stream.worktree),
                    branch=stream.branch,
                    rules=stream.rules,
                    folder=setting.folder / "guard" / stream.name,
                    patches=self._patches,
                    plan_file=plan_file(setting),
                    brought=frozenset(stream.brought),
                    secrets_in=setting.secrets_in,
                    is_confined=holds,
                    shelter=shelter_of(self._repository, self._streams, stream),
                    aftercare=None if holds else self._care,
                ),
                stream.head,
            )
        self._guards[stream.name].head = stream.head
        return self._guards[stream.name]

    async def guard(self, name: str, leases: Collection[str]) -> str:
        """Keep out what a workstream may not change, and commit the rest; gives what to tell its assistant."""
        stream = self._streams.find(name)
        guarded = await self._judged(stream, leases)
        guard = self._guards[name]  # which may have gone on from a commit that a killed process made last
        head = await guard.commit(*message_of(stream, self._setting.run, self._setting.engine_of(name)))
        self._streams.update(name, lambda it: dataclasses.replace(it, head=head))
        await guard.before()
        return guarded.said

    async def _judged(self, stream: Stream, leases: Collection[str]) -> Guarded:
        """Keep out what a workstream may not change, and write that down."""
        guarded: Guarded = await self._guard_of(stream).check(leases, taking_over.settling(stream))
        self._begun.discard(stream.name)
        self._keep_out(stream.name, [kept for kept in guarded.kept_out if kept not in stream.kept_out])
        self._tell_touched(stream.name, guarded.touched)
        return guarded

    def _tell_touched(self, name: str | None, touched: Sequence[str]) -> None:
        for each in touched:
            said = f"your repository was touched: {each}"
            self._tell(name, WorkspaceRepaired(str(self._repository.root), said))

    def _keep_out(self, name: str, new: Sequence[KeptOut]) -> None:
        for kept in new:
            self._tell(name, GuardKeptOut(kept.paths, kept.why, kept.patch))
        self._streams.update(name, lambda it: dataclasses.replace(it, kept_out=(*it.kept_out, *new)))

    async def broken(self, name: str) -> list[str]:
        """Say which interfaces that the plan promises are not as they were when a workstream was cut."""
        stream = self._streams.find(name)
        contracts = self._setting.rules[name].contracts  # its record may be of an older plan
        found = await broken(self._repository.git, stream.base, stream.head, contracts)
        return [each.said for each in found]

    async def sync(self, name: str) -> str:
        """Bring what has landed since into a worktree; gives what its assistant should know of it."""
        stream = self._streams.find(name)
        how = self._setting.plan.landing.sync
        tip = await self.tip()
        if how == "none" or await self._repository.ancestor(tip, stream.head):
            return ""
        synced = await syncing.sync(self._repository, self._streams, stream, tip, how)
        await self._refresh_modules(stream)
        await self._guard_of(self._streams.find(name)).before()
        if not synced.ok:
            return ""  # it is settled when this lands
        return await self._landed_since(stream, tip)

    async def _refresh_modules(self, before: Stream) -> None:
        """Lay out anew the submodules that went to another commit with what a worktree was synced to."""
        now = self._streams.find(before.name)
        names = await refresh(self._repository, Path(now.worktree), before.head, now.head)
        if names:
            brought = tuple(dict.fromkeys((*now.brought, *names)))
            self._streams.update(now.name, lambda it: dataclasses.replace(it, brought=brought))

    async def _landed_since(self, stream: Stream, tip: str) -> str:
        listed = await self._repository.git.run("diff-tree", "-r", "-z", "--name-only", stream.base, tip)
        paths = shown([os.fsdecode(path) for path in listed.split(b"\0") if path])
        return f"What others did has landed, and is in your worktree now: {paths}."

    async def take_over(self, name: str) -> str:
        """Bring what has landed into a worktree also where it conflicts; gives what its assistant is to do.

        Files that git cannot merge are there to be settled, where the plan has worktrees merged.
        """
        stream = self._streams.find(name)
        tip, target = await self.tip(), stream.target
        if self._setting.plan.landing.sync == "merge":
            synced = await taking_over.take_over(self._repository, self._streams, stream, tip)
            await self._refresh_modules(stream)
            await self._guard_of(self._streams.find(name)).before()
            if synced.ok and synced.has_moved:
                return await self._landed_since(stream, tip)
        said = await self.sync(name)
        return said or (
            f"What landed on `{target}` is not in your worktree, because it conflicts with what you did. Look at"
            f" it with `git diff HEAD...{target}`, and change your work so that it fits."
        )

    async def unsettled(self, name: str) -> tuple[str, ...]:
        """The files of a workstream whose conflicts are not settled, as committed."""
        stream = self._streams.find(name)
        left = await taking_over.unsettled(self._repository, stream.base, stream.head, stream.unsettled)
        if left != stream.unsettled:
            self._streams.update(name, lambda it: dataclasses.replace(it, unsettled=left))
        return left

    async def marked(self, name: str) -> tuple[Marker, ...]:
        """The files into which a workstream has brought conflict markers, as committed."""
        stream = self._streams.find(name)
        return await brought(self._repository, stream.base, stream.head)

    async def measure(self, name: str) -> Measured:
        """Say what a workstream has changed since it was cut, as it stands on its branch."""
        stream = self._streams.find(name)
        listed = await self._repository.git.run(
            "diff-tree", "-r", "-z", "--name-only", "--no-renames", stream.base, stream.head
        )
        files = tuple(sorted(os.fsdecode(path) for path in listed.split(b"\0") if path))
        kept_out = tuple(dict.fromkeys(path for kept in stream.kept_out for path in kept.paths))
        return Measured(stream.base, stream.head, files, kept_out, is_guarded=True)

    async def write_patch(self, name: str, path: Path) -> None:
        """Write a patch of all that a workstream committed since it was cut; git writes it, however long it is."""
        stream = self._streams.find(name)
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        options = ("-r", "-p", "--binary", "--full-index", "--find-renames")
        await self._repository.git.write(path, "diff-tree", *options, stream.base, stream.head)

    async def take_back(self, name: str) -> None:
        """Undo what a command left in a worktree whose work is committed: it is nobody's change."""
        stream = self._streams.find(name)
        guard = self._guard_of(stream)
        git_dir = git_dir_of(self._repository, Path(stream.worktree))
        await asyncio.to_thread(clear_specials, git_dir, self._repository.common)
        taken = await take_out(self._repository, stream, "check", self._patches)
        if taken is not None:
            said = f"what a check left in {taken.why} was taken back, and is kept in `{taken.patch}`"
            self._tell(name, WorkspaceRepaired(stream.worktree, said))
        # HEAD, `.git` and refs are its to write, too.
        self._tell_touched(name, (await guard.check(stream.leases, taking_over.settling(stream))).touched)
        self._begun.discard(name)
        await guard.before()

    @property
    def _patches(self) -> Path:
        return self._setting.folder / "patches"

    async def is_a_persons(self, name: str) -> bool:
        """Whether a person has worked in a worktree since the attempt there was stopped."""
        return await is_a_persons(self._repository, self._streams.find(name))

    async def start_over(self, name: str, leases: Collection[str]) -> None:
        """Take back what an attempt left that was cut off and is not gone on with; a patch of all of it is kept.

        Of one that was killed, what a person edited meanwhile cannot be told apart from it, and is in the patch too.
        """
        await asyncio.to_thread(processes.sweep)  # its programs may be at it still
        stream = self._streams.find(name)
        await self._judged(stream, leases)  # the branch and git are put right first
        left = await take_out(self._repository, stream, "attempt", self._patches, is_whole=True)
        if left is not None:
            why = f"what an attempt that was cut off left in {left.why}"
            self._keep_out(name, [dataclasses.replace(left, why=why)])
        await self._guard_of(stream).before()

    # -- the end

    async def tip(self) -> str:
        """The target's commit: of the branch that stands for it while the user's checkout could not follow."""
        name = self._setting.target
        pending = await pending_of(self._repository, name)
        tip = await self._repository.commit(f"refs/heads/{name}")
        if tip is None:
            raise Trespass(f"the branch `{name}`, on which this lands, is gone", next="make it again")
        return pending if pending is not None and await self._repository.ancestor(tip, pending) else tip

    async def finished(self, stream: Stream) -> None:
        """Remove the worktree of what has landed, where nothing in it could be lost."""
        if not await clean.is_there(self._repository, stream):
            return
        try:
            done = await clean.remove(self._repository, self._streams, stream)
        except (ParallelAIError, OSError):  # it is there, and `work clean` says why
            done = None
        if isinstance(done, clean.Removed):
            self._tell(stream.name, WorkspaceRemoved(stream.worktree))
        await self.loans.release(stream.name)

    async def see_to(self, name: str) -> None:
        """Put right what an attempt did to the user's repository that ended before it was judged."""
        if name not in self._begun:
            return
        self._begun.discard(name)
        try:
            touched = await self._guards[name].see_to_repository()
        except (ParallelAIError, OSError) as error:
            touched = (f"it cannot be looked at: {error}",)
        self._tell_touched(name, touched)

    async def aclose(self) -> None:
        """Let go of what only this process needed."""
        await self.loans.rest_all()
        self._tell_touched(None, await self._care.close())
        for lock in self._locks.values():
            lock.release()
        self._locks.clear()
        await asyncio.to_thread(_clear_temporary, home(self._setting.run))


def _clear_temporary(folder: Path) -> None:
    """Remove the temporary folders of a run that this process carries out, also those that a killed one left."""
    for left in folder.glob(f"{_TEMPORARY}*"):
        remove(left)
    with contextlib.suppress(OSError):  # what else is there is somebody's
        folder.rmdir()
