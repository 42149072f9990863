"""The folders of one run: shared ones to read, scratch ones to edit, and what becomes of their changes.

Tasks that do not edit share one folder for each state that they have to see; each attempt of a task that
edits has a scratch repository of its own. See `run.workspaces` for what the run asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path
from typing import Any, Literal, TypeVar

from msgspec import Struct, field

from parallelai.engines.protocol import Workspace
from parallelai.errors import EngineError, Unavailable, UsageError
from parallelai.git.plumbing import GitError
from parallelai.git.repository import Repository
from parallelai.git.submodules import said_of_missing
from parallelai.plan import model
from parallelai.plan.files import Matcher
from parallelai.records import Change
from parallelai.run.workspaces import Applied, Measured, Parked, Work, Written
from parallelai.work.checkout.applying import Changes
from parallelai.work.checkout.changes import contents
from parallelai.work.ledger import Held, Ledger
from parallelai.work.lending import TaskLoans, folders_of
from parallelai.work.scratch import folders
from parallelai.work.scratch.confined import Command, is_confined, run_in
from parallelai.work.scratch.home import home, set_apart
from parallelai.work.scratch.place import Laid, ScratchPlace, environment_of
from parallelai.work.scratch.secrets import refuse_secrets
from parallelai.work.scratch.snapshot import Snapshot, blobs, open_snapshot, take_snapshot
from parallelai.work.scratch.users_git import Look, UsersGit

MAKERS = 2
"""How many folders are made at once: a checkout is the disk's work."""
SPARE_BYTES = 64 * 1024 * 1024
"""What has to stay free on the disk when a folder is made."""
SETUP_SECONDS = 1800.0


Network = Literal["on", "loopback", "off"]
K = TypeVar("K")
T = TypeVar("T")


class Settings(Struct, frozen=True):
    """How the folders of a run are made. `state` is the project's state folder, `folder` the run's below it.

    `has_secret` says whether a text holds what looks like a secret. `memory_bytes` is the most that one attempt
    may take where its `workspace` says nothing; None is no limit.
    """

    run: str
    root: Path
    state: Path
    folder: Path
    permissions: Literal["auto", "ask", "deny"] = "auto"
    grace_seconds: float = 5.0
    workspace: model.Workspace = field(default_factory=model.Workspace)
    of_task: Callable[[str], model.Workspace] | None = None
    secrets_in: Callable[[str], frozenset[str]] = lambda text: frozenset()
    memory_bytes: int | None = None
    ledger: Ledger | None = None


_NETWORKS = ("off", "loopback", "on")


def tighter(a: Network | None, b: Network | None) -> Network | None:
    """Of two words about the network the stricter one; None says nothing."""
    known = [each for each in (a, b) if each is not None]
    return min(known, key=_NETWORKS.index, default=None)


class RunWorkspaces:
    """See `run.workspaces.Workspaces`. Make one with `open_workspaces`."""

    def __init__(
        self, settings: Settings, snapshot: Snapshot, hashes: dict[str, str], included: tuple[str, ...]
    ) -> None:
        self._settings = settings
        self._included = included
        self._snapshot = snapshot
        self._hashes = hashes
        self._home = home(settings.run)
        users = Repository(snapshot.root, snapshot.objects.parent)
        # What is kept lies beside the repository, on its file system, and outlasts a killed process.
        self._users_git = UsersGit(
            users, self._home / "traces", settings.folder / "thrown-away", settings.run
        )
        self._found: tuple[str, ...] = ()
        self._loans = TaskLoans(settings.ledger, settings.run)
        self._changes: dict[str, str] = {}
        self._bases: dict[tuple[str, ...], asyncio.Task[str]] = {}
        self._shared: dict[tuple[str, str], asyncio.Task[Laid]] = {}
        self._numbers: dict[tuple[str, str], int] = {}  # of all that were ever shared: sessions go on by path
        self._making = asyncio.Semaphore(MAKERS)
        self._made = 0
        self._left: set[Path] = set()

    @property
    def notes(self) -> list[str]:
        """What the user has to be told: of what assistants do not see, and of what a killed process left behind."""
        touched = [
            f"your repository was touched before this run was resumed: `{path}`" for path in self._found
        ]
        return [*said_of_missing(self._snapshot.submodules), *touched]

    async def look_again(self) -> None:
        """See to what a killed process of the run left undone in the user's repository."""
        try:
            self._found = await self._users_git.resume(self._settings.folder / "patches" / "git-resumed")
        except (GitError, OSError) as error:
            self._found = (f"it cannot be looked at: {error}",)

    def digest(self, path: str) -> str:
        return self._hashes.get(path, "absent")

    def ended(self, task: str, measured: Measured | None) -> None:
        if measured is not None:
            self._changes[task] = measured.commit

    # -- folders

    async def open(self, task: str, work: Work, seconds: float, parked: Parked) -> ScratchPlace:
        async with contextlib.AsyncExitStack() as stack:
            wanted = self._wanted(task)
            held = await stack.enter_async_context(self._loans.lent(task, wanted.needs, parked))
            try:
                return await self._open(work, _with(wanted, held), held, seconds, stack)
            except OSError as error:
                raise Unavailable(f"no folder to work in can be made: {error}") from None

    async def _open(
        self,
        work: Work,
        wanted: model.Workspace,
        held: Held | None,
        seconds: float,
        stack: contextlib.AsyncExitStack,
    ) -> ScratchPlace:
        """Make a folder; `stack` gives back what it `held`, when it is closed."""
        base = await self.base(work.after)
        if work.edits:
            laid = await self._scratch(work, base, wanted, seconds)
        else:
            laid = await self._share(work, base, wanted, seconds)
        self._made += 1
        temporary = self._home / f"tmp-{os.getpid()}-{self._made}"
        temporary.mkdir(mode=0o700)
        workspace = self._workspace(work, temporary, laid, wanted)
        workspace = dataclasses.replace(workspace, writable=folders_of(held))
        env = dict(held.env) if held is not None else {}
        look = None
        if not is_confined(workspace):  # it may write into the user's own repository, by its path
            name = laid.folder.path.name
            env = {**self._users_git.variables(name), **env}
            wanted = wanted.model_copy(update={"env": {**env, **wanted.env}})
            look = await self._users_git.look(name)
        return ScratchPlace(self, laid, workspace, wanted, work, look, env, stack.pop_all())

    def _wanted(self, task: str) -> model.Workspace:
        of_task = self._settings.of_task
        return of_task(task) if of_task is not None else self._settings.workspace

    def _workspace(self, work: Work, temporary: Path, laid: Laid, wanted: model.Workspace) -> Workspace:
        snapshot = self._snapshot
        readable = (*map(str, snapshot.alternates), str(snapshot.root / ".git"), *laid.links)
        return Workspace(
            edits=work.edits,
            temporary=str(temporary),
            sandbox=work.sandbox,
            network=tighter(work.network, wanted.network),
            readable=readable,
            hidden=(str(self._settings.state), str(self._home.parent)),
            permissions=self._settings.permissions,
            memory_bytes=wanted.needs.memory or self._settings.memory_bytes,
        )

    async def base(self, after: tuple[str, ...]) -> str:
        """The commit that holds the changes of these tasks. Raises `Conflict`."""
        known = tuple(task for task in after if task in self._changes)
        if not known:
            return self._snapshot.commit
        if known not in self._bases:
            commits = [(task, self._changes[task]) for task in known]
            merging = folders.merge(self._snapshot, self._snapshot.commit, commits)
            self._bases[known] = asyncio.create_task(merging)
        return await _made_once(self._bases, known)

    async def _share(self, work: Work, base: str, wanted: model.Workspace, seconds: float) -> Laid:
        like = wanted if wanted.setup else wanted.model_copy(update={"env": {}})
        key = (base, like.model_dump_json())
        if key not in self._shared:
            number = self._numbers.setdefault(key, len(self._numbers))
            path = self._home / f"base-{base[:16]}-{number}"
            self._shared[key] = asyncio.create_task(self._lay(path, base, work, wanted, seconds))
        return await _made_once(self._shared, key)

    async def _scratch(self, work: Work, base: str, wanted: model.Workspace, seconds: float) -> Laid:
        if work.folder is not None:
            left = await self._reopened(Path(work.folder), wanted)
            if left is not None:
                return left
        self._made += 1
        path = self._home / f"{work.number:05}-{os.getpid()}-{self._made}"
        return await self._lay(path, base, work, wanted, seconds)

    async def _reopened(self, path: Path, wanted: model.Workspace) -> Laid | None:
        """The folder of an interrupted attempt, as it was left; None where it is gone."""
        note = self._note(path)
        if path.parent != self._home or not path.is_dir() or not note.is_file():
            return None
        self._left.discard(path)
        noted = json.loads(note.read_text(encoding="utf-8"))
        brought = frozenset(folders.to_bring(self._snapshot, (*self._copied(wanted), *wanted.link)))
        links = tuple(str((self._snapshot.root / name).resolve()) for name in wanted.link)
        was_wanted = tuple(noted.get("sparse", ()))  # the plan may say something else by now
        skipped = await folders.skipped_in(self._snapshot, noted["base"], was_wanted)
        skipped -= frozenset(noted.get("seen", ()))
        folder = folders.Folder(path, noted["base"], self._index(path), brought, skipped)
        return Laid(folder, links, set(noted["left_out"]))

    async def _lay(self, path: Path, base: str, work: Work, wanted: model.Workspace, seconds: float) -> Laid:
        try:
            return await self._lay_whole(path, base, work, wanted, seconds)
        except Exception:  # half a folder takes the room that others need, and that may be what is missing
            await asyncio.to_thread(self._remove, path)
            raise

    async def _lay_whole(
        self, path: Path, base: str, work: Work, wanted: model.Workspace, seconds: float
    ) -> Laid:
        async with self._making:
            await asyncio.to_thread(self._check_room, 0 if wanted.sparse else self._snapshot.size)
            await asyncio.to_thread(folders.remove, path)
            index = self._index(path)
            folder = await folders.check_out(self._snapshot, base, path, index, wanted=wanted.sparse)
            bringing = functools.partial(self._bring, folder, wanted)
            brought, links = await asyncio.to_thread(bringing)
            folder = dataclasses.replace(folder, brought=brought)
            await folders.make_repository(self._snapshot, folder)
        laid = Laid(folder, links)
        await self._set_up(laid, work, wanted, seconds)
        note = {
            "base": laid.folder.base,
            "left_out": sorted(laid.left_out),
            "sparse": wanted.sparse,
            "seen": sorted(folder.skipped - laid.folder.skipped),
        }
        self._note(path).write_text(json.dumps(note), encoding="utf-8")
        return laid

    def _bring(
        self, folder: folders.Folder, wanted: model.Workspace
    ) -> tuple[frozenset[str], tuple[str, ...]]:
        return folders.bring(self._snapshot, folder.path, self._copied(wanted), wanted.link)

    def _copied(self, wanted: model.Workspace) -> tuple[str, ...]:
        """What is copied: what the plan says, and what the project's `.worktreeinclude` lists."""
        return (*wanted.copy_, *self._included)

    async def _set_up(self, laid: Laid, work: Work, wanted: model.Workspace, seconds: float) -> None:
        """Run the plan's `setup` in a new folder; what it makes is no part of a change."""
        if not wanted.setup:
            return
        temporary = self._home / f"{laid.folder.path.name}.setup"
        temporary.mkdir(mode=0o700, exist_ok=True)
        workspace = self._workspace(dataclasses.replace(work, edits=True), temporary, laid, wanted)
        for argv in wanted.setup:
            error = await self.run(laid, workspace, wanted, "setup", argv, min(seconds, SETUP_SECONDS))
            if error is not None:
                raise Unavailable(error.said, next=error.next)
        folders.remove(temporary)
        # New files are nobody's change; tracked ones that it wrote are what the assistant begins with, and sees.
        laid.folder = await folders.with_seen(laid.folder)
        laid.left_out |= await folders.untracked(self._snapshot, laid.folder)
        measure = await folders.measure(self._snapshot, laid.folder, frozenset(laid.left_out))
        if measure.files:
            laid.folder = dataclasses.replace(laid.folder, base=measure.commit)

    async def run(
        self,
        laid: Laid,
        workspace: Workspace,
        wanted: model.Workspace,
        what: str,
        argv: tuple[str, ...],
        seconds: float,
    ) -> EngineError | None:
        """Run a command in a folder; gives why it failed."""
        settings = self._settings
        log = settings.folder / "steps" / f"{laid.folder.path.name}-{what}.log"
        env = environment_of(wanted)
        command = Command(what, argv, seconds, settings.grace_seconds, settings.run, log, settings.root)
        return await run_in(str(laid.folder.path), workspace, env, command)

    def _check_room(self, size: int) -> None:
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        set_apart(self._home)
        free = shutil.disk_usage(self._home).free
        if free < size + SPARE_BYTES:
            raise Unavailable(
                f"only {free // 1_000_000} MB are free in `{self._home}`",
                next="make room, and resume the run",
            )

    def _index(self, path: Path) -> Path:
        return self._settings.folder / "indexes" / path.name

    def _note(self, path: Path) -> Path:
        return self._settings.folder / "indexes" / f"{path.name}.json"

    # -- what an attempt changed

    async def measure(
        self, laid: Laid, is_edit: bool, workspace: Workspace, avoids: Sequence[str] = ()
    ) -> Measured:
        if not is_edit and is_confined(workspace):
            return Measured(laid.folder.base, laid.folder.base, ())
        forbidden = Matcher(avoids) if avoids else None
        async with laid.measuring:
            found = await folders.measure(self._snapshot, laid.folder, frozenset(laid.left_out), forbidden)
            if not is_edit and (found.files or found.kept_out):
                await folders.restore(self._snapshot, laid.folder, (*found.files, *found.kept_out))
        files = tuple(file for file in found.files if file not in laid.left_out)
        unseen = tuple(map(as_text, found.unseen))
        return Measured(laid.folder.base, found.commit, files, found.kept_out, unseen=unseen)

    async def take_back(self, laid: Laid, before: Measured) -> None:
        """Undo what was done to a folder since it was measured; what is new there is no part of a change."""
        known = frozenset((*laid.left_out, *before.kept_out))
        laid.left_out |= await folders.take_back(self._snapshot, laid.folder, known)

    async def put_back(self, look: Look, number: int) -> tuple[str, ...]:
        """Put right what was done to the user's repository since a look; gives what that was."""
        aside = self._settings.folder / "patches" / f"git-{number + 1:04}"
        return await self._users_git.put_back(look, aside)

    async def forget(self, look: Look) -> None:
        """Take in that an attempt is over, and was looked at for the last time."""
        await self._users_git.forget(look)

    async def keep(self, measured: Measured, number: int) -> Change:
        changed = await contents(self._snapshot.git, measured.base, measured.commit)
        refuse_secrets(changed, self._settings.secrets_in)
        shown = await self._write_patch(measured, {path for path, _, _ in changed}, f"{number + 1:04}")
        return Change(shown, measured.files, kept_out=tuple(map(as_text, measured.kept_out)))

    async def keep_aside(self, measured: Measured, number: int) -> str:
        """Write down what an attempt changed that failed, whatever it holds; gives the patch's path from the root."""
        return await self._write_patch(measured, set(measured.files), f"failed-{number + 1:04}")

    async def _write_patch(self, measured: Measured, names: Set[str], name: str) -> str:
        patch = await folders.patch_of(self._snapshot, measured.base, measured.commit, names)
        path = free_patch(self._settings.folder, name)
        await asyncio.to_thread(write_patch, path, patch)
        return os.path.relpath(path, self._snapshot.root)

    def gave_up(self, task: str) -> None:
        """Nobody waits for a plain task but by the graph."""

    def workstream(self, task: str) -> dict[str, Any] | None:
        return None

    # -- the user's checkout

    async def apply(self, tasks: Sequence[str], written: Written) -> list[Applied]:
        changes = Changes(self._snapshot, self._settings.folder, written)
        done = []
        for task in tasks:
            if task in self._changes:
                commit = self._changes[task]
                base = await self._snapshot.git.line("rev-parse", f"{commit}^")
                done.append(await changes.apply(task, base, commit))
        return [applied for applied in done if applied is not None]

    # -- the end

    def drop(self, laid: Laid) -> None:
        """Remove a scratch folder."""
        self._remove(laid.folder.path)

    def _remove(self, path: Path) -> None:
        for folder in (path, path.with_name(f"{path.name}.setup")):
            folders.remove(folder)
        for file in (self._index(path), self._note(path)):
            file.unlink(missing_ok=True)

    def leave(self, laid: Laid) -> None:
        """Keep a folder for a later process of the run."""
        self._left.add(laid.folder.path)

    async def aclose(self) -> None:
        for task in (*self._bases.values(), *self._shared.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        await self._users_git.close()
        await asyncio.to_thread(self._clean_up)

    def _clean_up(self) -> None:
        """Remove all folders but those that a later process goes on with."""
        kept = {path.name for path in self._left}
        shared = {laid for laid in kept if laid.startswith("base-")}
        for path in _children(self._home):
            if path.name not in kept and not (shared and path.name.startswith("base-")):
                folders.remove(path)
        with contextlib.suppress(OSError):
            self._home.rmdir()


async def _made_once(making: dict[K, asyncio.Task[T]], key: K) -> T:
    """Wait for what several tasks share; what failed, perhaps for want of room, is made anew for the next one."""
    task = making[key]
    try:
        return await asyncio.shield(task)
    except Exception:  # whatever it was: it is raised to all who wait
        if making.get(key) is task:
            del making[key]
        raise


def _with(wanted: model.Workspace, held: Held | None) -> model.Workspace:
    """What a plan wants of a folder, and what the ledger gave it, as its commands see them."""
    return wanted if held is None else wanted.model_copy(update={"env": {**held.env, **wanted.env}})


def as_text(name: str) -> str:
    """A path that can be written down, also where its bytes are no text."""
    return name.encode("utf-8", "backslashreplace").decode()


async def open_workspaces(
    settings: Settings, keep: Iterable[str] = (), *, is_fresh: bool = False
) -> RunWorkspaces:
    """Open the folders of a run: take the snapshot, or go on with the one that it has.

    `keep` are folders of interrupted attempts; all else that an earlier process left is removed. `is_fresh`:
    what an earlier process saw does not bind this one, which sees what the user has now. Raises `UsageError`
    where no snapshot can be taken.
    """
    repository = settings.folder / "base.git"
    snapshot = None if is_fresh else await open_snapshot(settings.root, repository)
    if snapshot is None:
        await asyncio.to_thread(folders.remove, repository)  # one that a killed process did not finish
        try:
            snapshot = await take_snapshot(settings.root, repository)
        except GitError as error:
            raise UsageError(error.said, next=error.next) from None
    found = RunWorkspaces(settings, snapshot, await blobs(snapshot), await folders.included(snapshot))
    await found.look_again()  # by traces, which are among what is removed
    wanted = set(keep)
    for path in await asyncio.to_thread(_children, home(settings.run)):
        if str(path) not in wanted:
            await asyncio.to_thread(folders.remove, path)
    return found


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def free_patch(folder: Path, name: str) -> Path:
    """A path for a patch that no file of the run has yet."""
    again = (f"{name}-{count}.patch" for count in itertools.count(2))
    names = itertools.chain([f"{name}.patch"], again)
    patches = folder / "patches"
    return next(patches / name for name in names if not (patches / name).exists())


def write_patch(path: Path, patch: bytes) -> None:
    """Write a patch, down to the disk, for its owner's eyes: what is kept of a failed task may hold a secret."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb", opener=_as_ours) as file:
        file.write(patch)
        file.flush()
        os.fsync(file.fileno())


def _as_ours(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
