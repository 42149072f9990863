"""Prepared folders at commits of the user's repository, for gates: laid out as a workspace is, and used again.

A folder is a git repository of its own that reads the user's objects and knows the user's branches and tags, so
that tools which ask git find a checkout. What a gate leaves in it is taken away before the next use; where that
is not possible (a changed file that is not git's), the folder is made anew. Without a `setup` a folder moves to
the next commit as a checkout does; with one it is made anew for each commit, as nobody knows what the setup
made of the files.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from msgspec import Struct, field

from parallelai import processes
from parallelai.engines.protocol import Workspace
from parallelai.errors import EngineError, ParallelAIError, Unavailable
from parallelai.git.plumbing import Git, GitError
from parallelai.git.repository import Repository
from parallelai.git.submodules import Submodule, lay_out, submodules, with_inner
from parallelai.plan import model
from parallelai.work import filters, lfs_config
from parallelai.work.gates import manifest
from parallelai.work.gates.owned import take
from parallelai.work.gates.ran import Ran, ran_of
from parallelai.work.gates.written import Written, changed, written
from parallelai.work.scratch import folders
from parallelai.work.scratch.confined import Command, complete
from parallelai.work.scratch.snapshot import Snapshot, listing, open_objects
from parallelai.work.scratch.workspaces import SETUP_SECONDS, SPARE_BYTES, Network, tighter

Lend = Callable[[str], AbstractAsyncContextManager[Mapping[str, str]]]
"""Takes what a folder needs from the ledger, by the folder's name, while it exists: environment variables."""
PARALLEL = 2


class SetupFailed(EngineError):
    """A folder at that commit could not be prepared: its `setup` failed, or a submodule of it is not here."""

    kind = "gate_failed"


class Settings(Struct, frozen=True):
    """How folders are made, and what runs in them.

    `logs` is where the setups' logs go. `hidden` is not seen by what runs there (the state, other worktrees).
    `parallel` is how many folders are in use at once; times are in seconds.
    """

    run: str
    logs: Path
    workspace: model.Workspace = field(default_factory=model.Workspace)
    hidden: tuple[str, ...] = ()
    network: Literal["on", "loopback", "off"] | None = None
    memory_bytes: int | None = None
    grace_seconds: float = 5.0
    parallel: int = PARALLEL
    lend: Lend | None = None


class _Held(Struct, eq=False):
    """A folder of ours and what is known of it. `env` is the ledger's, `stack` gives that back."""

    folder: folders.Folder
    env: Mapping[str, str] = field(default_factory=dict)
    links: tuple[str, ...] = ()
    noted: manifest.Manifest = field(default_factory=dict)
    is_dirty: bool = False
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)


class Tree:
    """A folder at a commit, for one use. `temporary` is a folder of this use alone."""

    def __init__(self, owner: Trees, held: _Held, temporary: Path) -> None:
        self.path = held.folder.path
        self.commit = held.folder.base
        self.temporary = temporary
        self._owner = owner
        self._held = held

    async def run(
        self,
        argv: tuple[str, ...],
        seconds: float,
        log: Path,
        env: Mapping[str, str] | None = None,
        readable: tuple[str, ...] = (),
    ) -> Ran:
        """Run a command at the top of the folder, confined as an assistant is; it may read what is `readable`, too.

        Raises `EngineError` where it cannot be confined as asked, `ProgramError` where it cannot be started.
        """
        given = (self._held, self.temporary, "gate", argv, seconds, log, env)
        return await self._owner.run(*given, readable=readable)

    async def generate(self, argv: tuple[str, ...], seconds: float, log: Path) -> Ran:
        """Run a command that makes files, in the same way, and without the network where that can be taken away."""
        network: Network | None = "off" if processes.confinements() else None
        return await self._owner.run(
            self._held, self.temporary, "generator", argv, seconds, log, network=network
        )

    async def renew(self) -> Path:
        """Make the folder's repository anew, whatever a setup made of it; gives its git folder, all of it ours."""
        return await self._owner.renew(self._held)

    async def bring(self, path: str) -> None:
        """Copy what lies at a path of the user's checkout, where the folder has nothing of that name."""
        await self._owner.bring(self._held, path)

    async def changed(self) -> tuple[str, ...]:
        """The files that are no longer as they were laid out, on the disk or in the folder's own index."""
        git, index = await self._owner.git_of(self._held), self._held.folder.index
        return await changed(git, index, self.path / ".git" / "index", self.commit)

    async def written(self, also: Collection[str]) -> Written:
        """What is no longer as it was laid out; `also` are paths that were not laid out (see `written`)."""
        return await written(await self._owner.git_of(self._held), also)


class Trees:
    """See the module. Make one with `open_trees`, which removes all that it made, and `folder`, which holds it."""

    def __init__(self, repository: Repository, settings: Settings, objects: Snapshot, folder: Path) -> None:
        self._repository = repository
        self._settings = settings
        self._objects = objects
        self.folder = folder
        self._included: tuple[str, ...] = ()
        self._filters: Mapping[str, str] = {}
        self._submodules: dict[str, tuple[Submodule, ...]] = {}
        self._places = asyncio.Semaphore(max(settings.parallel, 1))
        self._idle: list[_Held] = []
        self._used: set[_Held] = set()
        self._numbers = itertools.count(1)
        self.made = 0

    @property
    def git(self) -> Git:
        """Plumbing in the private repository: it reads the user's objects, and keeps new ones to itself."""
        return self._objects.git

    @property
    def workspace(self) -> model.Workspace:
        """How folders are prepared: what a gate says depends on it."""
        return self._settings.workspace

    async def files(self, commit: str) -> dict[str, tuple[str, str]]:
        """The files of a commit by path: mode and hash. Links and submodules are none."""
        listed = await self.git.run("ls-tree", "-r", "-z", "--full-tree", commit)
        rows = (row.split(b"\t", 1) for row in listed.split(b"\0") if row)
        entries = ((meta.split(), os.fsdecode(path)) for meta, path in rows)
        return {
            path: (meta[0].decode(), meta[2].decode())
            for meta, path in entries
            if meta[0] in (b"100644", b"100755")
        }

    async def with_file(self, commit: str, path: str, mode: str, data: bytes) -> str:
        """A commit with one file's content replaced, in the private repository alone."""
        index = self.folder / f"index-{next(self._numbers)}"
        git = Git(self._objects.repository, index=index)
        try:
            blob = await git.line("hash-object", "-w", "--stdin", stdin=data)
            await git.run("read-tree", commit)
            stdin = f"{mode} {blob}\t".encode() + os.fsencode(path) + b"\0"
            await git.run("update-index", "-z", "--index-info", stdin=stdin)
            tree = await git.line("write-tree")
        finally:
            index.unlink(missing_ok=True)
        return await git.line("commit-tree", tree, "-p", commit, "-m", "A gate's canary")

    @asynccontextmanager
    async def at(self, commit: str) -> AsyncIterator[Tree]:
        """Give a folder at a commit, for one use.

        Raises `SetupFailed` where the plan's setup fails there, `Unavailable` where no folder can be made.
        """
        async with self._places:
            held = await self._take(commit)
            self._used.add(held)
            temporary = self.folder / f"tmp-{next(self._numbers)}"
            temporary.mkdir(mode=0o700)
            try:
                yield Tree(self, held, temporary)
            finally:
                self._used.discard(held)
                held.is_dirty = True
                self._idle.append(held)
                folders.remove(temporary)

    async def run(
        self,
        held: _Held,
        temporary: Path,
        what: str,
        argv: tuple[str, ...],
        seconds: float,
        log: Path,
        env: Mapping[str, str] | None = None,
        network: Network | None = None,
        readable: tuple[str, ...] = (),
    ) -> Ran:
        """Run a command in a folder of ours; `network` counts where it is narrower than the plan's."""
        settings = self._settings
        command = Command(what, argv, seconds, settings.grace_seconds, settings.run, log)
        given = processes.environment(env=settings.workspace.env, pass_env=settings.workspace.pass_env)
        full = {**given, **held.env, **(env or {})}
        workspace = self._workspace(held, temporary, network, readable)
        return ran_of(await complete(str(held.folder.path), workspace, full, command))

    async def git_of(self, held: _Held) -> Git:
        """git in a folder, with its index, and with the user's filters."""
        return await self._git(held.folder, held.folder.base)

    async def renew(self, held: _Held) -> Path:
        """Make a folder's repository anew; gives its git folder."""
        git_dir = held.folder.path / ".git"
        await asyncio.to_thread(folders.remove, git_dir)
        await self._make_repository(held.folder)
        return git_dir

    async def bring(self, held: _Held, path: str) -> None:
        """Copy a path from the user's checkout into a folder of ours."""
        await asyncio.to_thread(folders.copy_in, self._objects, held.folder.path, (path,))

    def _workspace(
        self, held: _Held, temporary: Path, network: Network | None, also: tuple[str, ...]
    ) -> Workspace:
        settings = self._settings
        readable = (*map(str, self._objects.alternates), str(self._repository.common), *held.links, *also)
        return Workspace(
            edits=True,
            temporary=str(temporary),
            network=tighter(network, tighter(settings.network, settings.workspace.network)),
            readable=readable,
            hidden=(*settings.hidden, str(self.folder.parent.parent)),
            memory_bytes=settings.workspace.needs.memory or settings.memory_bytes,
        )

    # -- folders

    async def _take(self, commit: str) -> _Held:
        """An idle folder at the commit, or one that moves there; else a new one."""
        for held in sorted(self._idle, key=lambda held: held.folder.base != commit):
            if held not in self._idle:  # another asker was faster
                continue
            if held.folder.base != commit and self._settings.workspace.setup:
                continue
            self._idle.remove(held)
            if await self._reuse(held, commit):
                return held
        while len(self._idle) >= max(self._settings.parallel, 1):
            await self._drop(self._idle.pop(0))
        return await self._make(commit)

    async def _reuse(self, held: _Held, commit: str) -> bool:
        """Make a folder what it was laid out as, and move it to a commit; where that fails it is removed."""
        try:
            is_ready = await self._tidy(held) and (
                held.folder.base == commit or await self._move(held, commit)
            )
        except (OSError, GitError):
            is_ready = False
        except BaseException:  # cancelled too: no folder is left behind
            await self._drop(held)
            raise
        if not is_ready:
            await self._drop(held)
        return is_ready

    async def _tidy(self, held: _Held) -> bool:
        """Take away what a use left in a folder; False where it changed what git cannot give back."""
        if not held.is_dirty:
            return True
        path = held.folder.path
        now = await asyncio.to_thread(manifest.take, path)
        difference = manifest.compare(held.noted, now)
        if difference.changed and self._settings.workspace.setup:
            return False
        await asyncio.to_thread(manifest.clear, path, difference.new)
        if difference.changed and not await self._restore(held, difference.changed):
            return False
        await self.renew(held)
        held.is_dirty = False
        return True

    async def _restore(self, held: _Held, changed: tuple[str, ...]) -> bool:
        git = await self._git(held.folder, held.folder.base)
        known = {os.fsdecode(name) for name in (await git.run("ls-files", "-z")).split(b"\0") if name}
        files = [path for path in changed if path in known]
        await asyncio.to_thread(manifest.clear, held.folder.path, files)
        await git.run("checkout-index", "--force", "--index", "-z", "--stdin", stdin=listing(files))
        noted = await asyncio.to_thread(manifest.take, held.folder.path)
        left = manifest.compare(held.noted, noted)
        held.noted = noted
        return not left.new and set(left.changed) <= known

    async def _move(self, held: _Held, commit: str) -> bool:
        """Let a tidy folder go to another commit, as a checkout does; False where something is in the way."""
        if await self._modules(held.folder.base) != await self._modules(commit):
            return False
        git = await self._git(held.folder, held.folder.base, commit)
        await git.attempt("update-index", "-q", "--refresh")
        done = await git.attempt("read-tree", "-m", "-u", held.folder.base, commit)
        if done.exit != 0:
            return False
        held.folder = folders.Folder(held.folder.path, commit, held.folder.index)
        await self._finish(held)
        return True

    async def _make(self, commit: str) -> _Held:
        path = self.folder / f"tree-{next(self._numbers)}"
        held = _Held(folders.Folder(path, commit, self.folder / "indexes" / path.name))
        changed: dict[str, str] = {}
        try:
            await self._check_room(commit)
            modules = await self._modules(commit)
            if self._settings.lend is not None:
                held.env = await held.stack.enter_async_context(self._settings.lend(path.name))
            changed = await self._confined_filters(path, commit)
            env = filters.as_environment({**self._filters, **changed})
            held.folder = await folders.check_out(self._objects, commit, path, held.folder.index, env)
            for each in modules:
                await lay_out(each, path)
            await self._finish(held)
            await self._set_up(held)
        except OSError as error:
            await self._drop(held)
            raise Unavailable(f"no folder for a gate can be made: {error}") from None
        except GitError as error:
            await self._drop(held)
            raise filters.explained(error, self._filters, changed) from None
        except BaseException:  # cancelled too: no folder is left behind
            await self._drop(held)
            raise
        self.made += 1
        return held

    async def _modules(self, commit: str) -> tuple[Submodule, ...]:
        """The submodules of a commit; the user's own checkout says of which a gate can do without.

        Raises `SetupFailed` where one of the others is not here: the gate would test something else.
        """
        if commit not in self._submodules:
            self._submodules[commit] = await submodules(self._repository, commit)
        found = self._submodules[commit]
        missing = [each for each in await with_inner(found) if each.folder is None]
        head = self._objects.head
        if missing and head is not None:
            users = await with_inner(await submodules(self._repository, head))
            left_out = {each.path for each in users if not each.is_begun}
            missing = [each for each in missing if each.is_begun or each.path not in left_out]
        if missing:
            one = missing[0]
            said = f"the submodule `{one.path}` is at {one.commit[:10]}, which is not here, and a gate would miss it"
            advice = (
                "`git submodule update --init --recursive` in your checkout, or `git fetch` in the submodule"
            )
            raise SetupFailed(said, next=advice)
        return found

    async def _finish(self, held: _Held) -> None:
        """Bring what a checkout lacks into a folder, make it a repository, and note what lies in it."""
        folder, wanted = held.folder, self._settings.workspace
        brought: frozenset[str] = frozenset()
        if not self._repository.is_bare:
            copied = (*wanted.copy_, *self._included)
            brought, links = await asyncio.to_thread(
                folders.bring, self._objects, folder.path, copied, wanted.link
            )
            # Of a moved folder some are there already.
            held.links = tuple(dict.fromkeys((*held.links, *links)))
        held.folder = folders.Folder(folder.path, folder.base, folder.index, brought)
        await self.renew(held)
        held.noted = await asyncio.to_thread(manifest.take, folder.path)

    async def _make_repository(self, folder: folders.Folder) -> None:
        await folders.make_repository(self._objects, folder)
        form = "--format=%(objectname) %(refname)%(symref)"
        listed = await self._repository.git.run(
            "for-each-ref", form, "refs/heads", "refs/remotes", "refs/tags"
        )
        names = b"".join(line + b"\n" for line in listed.splitlines() if _is_plain(line))
        (folder.path / ".git" / "packed-refs").write_bytes(names)

    async def _set_up(self, held: _Held) -> None:
        wanted = self._settings.workspace
        for number, argv in enumerate(wanted.setup, 1):
            temporary = self.folder / f"tmp-{next(self._numbers)}"
            temporary.mkdir(mode=0o700)
            log = self._settings.logs / f"{held.folder.base[:12]}-{held.folder.path.name}-setup-{number}.log"
            try:
                ran = await self.run(held, temporary, "setup", argv, SETUP_SECONDS, log)
            except EngineError:
                raise
            except ParallelAIError as error:
                raise Unavailable(error.said, next=error.next) from None
            finally:
                folders.remove(temporary)
            if ran.exit != 0:
                end = f"exit {ran.exit}" if ran.exit is not None else f"ended by {ran.ended_by}"
                raise SetupFailed(f"setup `{' '.join(argv)}` failed ({end}): {ran.said}", next=f"see `{log}`")
        if wanted.setup:
            held.noted = await asyncio.to_thread(manifest.take, held.folder.path)

    async def _check_room(self, commit: str) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < SPARE_BYTES + await self._size(commit):
            said = f"only {free // 1_000_000} MB are free in `{self.folder}`"
            raise Unavailable(said, next="make room, and call again")

    async def _size(self, commit: str) -> int:
        if self._objects.size == 0:
            listed = await self.git.run("ls-tree", "-r", "-l", "-z", "--full-tree", commit)
            sizes = [row.split(None, 4)[3] for row in listed.split(b"\0") if row]
            size = sum(int(each) for each in sizes if each.isdigit())
            self._objects = replace(self._objects, size=max(size, 1))
        return self._objects.size

    async def _git(self, folder: folders.Folder, *commits: str) -> Git:
        """git in a folder of ours whose files are those of some commits, with the user's filters."""
        env = filters.as_environment({**self._filters, **await self._confined_filters(folder.path, *commits)})
        return Git(self._objects.repository, work_tree=folder.path, index=folder.index, env=env)

    async def _confined_filters(self, path: Path, *commits: str) -> dict[str, str]:
        """Settings over the user's filters, which run confined: what an assistant wrote lies there."""
        temporary = self.folder / "filters"
        temporary.mkdir(mode=0o700, exist_ok=True)
        # The folder appears later: what is above it has to be seen.
        readable = (str(self.folder), str(self._repository.common))
        hidden = (*self._settings.hidden, str(self.folder.parent.parent))
        folder = filters.Folder(path, temporary, self._repository.root, readable, hidden)
        found = await asyncio.to_thread(filters.confined, self._filters, folder)
        return found | await lfs_config.overriding(
            self._repository, self._filters, self._read, revisions=commits
        )

    async def _read(self, stdin: bytes) -> processes.Completed:
        return await self.git.attempt("cat-file", "--batch", stdin=stdin)

    async def open(self) -> None:
        """Read what has to be known before the first folder is made."""
        self._filters = await filters.of_user(self._repository)
        if not self._repository.is_bare:
            self._included = await folders.included(self._objects)

    async def _drop(self, held: _Held) -> None:
        await asyncio.to_thread(folders.remove, held.folder.path)
        held.folder.index.unlink(missing_ok=True)
        await held.stack.aclose()

    async def aclose(self) -> None:
        """Remove all trees, and give back what the ledger lent."""
        for held in (*self._idle, *self._used):
            with contextlib.suppress(Exception):  # the others have to go, too
                await self._drop(held)
        self._idle.clear()


def _is_plain(line: bytes) -> bool:
    """Whether a listed ref points to an object, and is none that ours would collide with."""
    fields = line.split(b" ")
    return len(fields) == 2 and not fields[1].startswith(b"refs/heads/parallelai/scratch")


@asynccontextmanager
async def open_trees(repository: Repository, settings: Settings) -> AsyncIterator[Trees]:
    """Open the folders of a run's gates, and remove those that a killed process left; all are gone at the end.

    Raises `UsageError` for a repository that git cannot work with, `Unavailable` where no folder can be made.
    """
    try:
        owned = await asyncio.to_thread(take, settings.run)
    except OSError as error:
        raise Unavailable(f"no folder for gates can be made: {error}") from None
    try:  # cancelled too: no folder is left behind
        objects = await open_objects(repository, owned.path / "base.git")
        trees = Trees(repository, settings, objects, owned.path)
        await trees.open()
        try:
            yield trees
        finally:
            await trees.aclose()
    finally:
        await asyncio.to_thread(owned.remove)
