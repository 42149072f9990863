"""Starts workstreams: a branch and a worktree for each, with what it needs; and puts them right again.

The order is what makes it safe to kill: first the workstream is written down, with the commit that it begins
at; then git makes branch and worktree; then files are brought and `setup` runs; last it is noted as ready. A
start that is run again does what is missing (`repairing`), and nothing where all is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import Struct

from parallelai.errors import EngineError, Unavailable
from parallelai.git.repository import Repository
from parallelai.git.submodules import lay_out, names_in, with_inner
from parallelai.records import utc_now
from parallelai.work.streams import bringing, making, names
from parallelai.work.streams.base import Base
from parallelai.work.streams.clean import clear_for_next
from parallelai.work.streams.locks import making as making_lock
from parallelai.work.streams.now import find_place
from parallelai.work.streams.record import Rules, Stream
from parallelai.work.streams.registry import Streams, is_finished
from parallelai.work.streams.syncing import recover

SetUp = Callable[[Path, tuple[str, ...]], Awaitable[EngineError | None]]
"""Runs one command of `setup` in a worktree, confined; gives why it failed."""


class Wanted(Struct, frozen=True):
    """A workstream that is to be started.

    Attributes:
        name: its id in the plan.
        plan: what the plan is known by.
        base: see `choose_base`.
        branch: None is `parallelai/<name>`.
        folder: the setting `worktrees.path`; None is `../<repository>-worktrees`.
        sparse: patterns of what is checked out; all where there is none.
        copy, link: patterns of what comes along from the main checkout, ignored files too.
        setup: commands that prepare the worktree.
    """

    name: str
    plan: str
    run: str
    base: Base
    rules: Rules
    branch: str | None = None
    folder: Path | None = None
    sparse: tuple[str, ...] = ()
    copy: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    setup: tuple[tuple[str, ...], ...] = ()
    description: str = ""
    depends_on: tuple[str, ...] = ()
    priority: float = 1.0


@dataclass(frozen=True, slots=True)
class Started:
    """A workstream whose worktree is ready.

    Attributes:
        is_new: the worktree was made, or made to its end, by this call.
        repaired: what was put right, in words.
        notes: what a person should know.
    """

    stream: Stream
    is_new: bool
    repaired: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


async def start(
    repository: Repository, streams: Streams, wanted: Wanted, set_up: SetUp | None = None
) -> Started:
    """Make branch and worktree of a workstream, or what is missing of them; run again it changes nothing.

    The user's checkout is not touched, clean or not. What was begun stays where an error is raised, and a
    later call goes on from there.

    Raises:
        UsageError: the name, branch or folder cannot be taken, or a person has to put something right.
        Unavailable: a command of `setup` failed.
        StoreFullError: the disk is full.
        GitError: git refused.
    """
    async with making_lock(streams.state):
        stream, notes = await _claimed(repository, streams, wanted)
        if stream.is_ready and not Path(stream.worktree).exists():
            # All of it is made again, also what was brought.
            stream = streams.update(stream.name, lambda known: replace(known, is_ready=False))
            made = await making.ensure(repository, replace(stream, is_ready=True))
        else:
            made = await making.ensure(repository, stream)
        stream = await asyncio.to_thread(_known_by_git, repository, streams, stream)
        made.repaired += await recover(repository, streams, stream)
    notes += made.notes
    if not stream.is_ready:
        stream, said = await _prepared(repository, streams, stream, wanted, set_up)
        notes += said
    return Started(stream, made.is_new, tuple(made.repaired), tuple(notes))


async def repair(repository: Repository, streams: Streams, name: str) -> tuple[str, ...]:
    """Put a started workstream right after a crash, or what people did; gives what was done. As `start` raises."""
    async with making_lock(streams.state):
        stream = streams.find(name)
        if is_finished(stream) or not stream.is_ready:
            return ()
        made = await making.ensure(repository, stream)
        stream = await asyncio.to_thread(_known_by_git, repository, streams, stream)
        return (*made.repaired, *(await recover(repository, streams, stream)))


def _known_by_git(repository: Repository, streams: Streams, stream: Stream) -> Stream:
    """Write down which folder of git's belongs to the worktree, before an assistant could lead it elsewhere."""
    admin = str(find_place(repository, stream).entry.admin)
    if admin == stream.admin:
        return stream
    return streams.update(stream.name, lambda known: replace(known, admin=admin))


async def _claimed(repository: Repository, streams: Streams, wanted: Wanted) -> tuple[Stream, list[str]]:
    """Take the name, the branch and the folder; only what is free, or was this workstream's before."""
    names.check_name(wanted.name)
    branch = wanted.branch or f"{names.PREFIX}{wanted.name}"
    await names.check_branch(repository, branch, wanted.base.target)
    path = names.worktree_path(repository, wanted.name, wanted.folder)
    stream = _stream(wanted, branch, path)
    known = streams.get(wanted.name)
    notes = [wanted.base.note] if wanted.base.note else []
    if known is not None and not is_finished(known):
        claim = streams.claim(stream)
        if claim.stream.branch != branch:
            notes.append(f"`{wanted.name}` was started on `{claim.stream.branch}`, and stays there")
        return claim.stream, notes
    if known is not None:
        await clear_for_next(repository, streams, known)
    streams.refuse_held(stream)
    await names.refuse_taken_branch(repository, branch)
    await names.refuse_taken_path(repository, path)
    return streams.claim(stream).stream, notes


def _stream(wanted: Wanted, branch: str, path: Path) -> Stream:
    return Stream(
        name=wanted.name,
        plan=wanted.plan,
        run=wanted.run,
        branch=branch,
        worktree=str(path),
        base=wanted.base.commit,
        head=wanted.base.commit,
        target=wanted.base.target,
        rules=wanted.rules,
        description=wanted.description,
        depends_on=wanted.depends_on,
        priority=wanted.priority,
        started_at=utc_now(),
        is_sparse=bool(wanted.sparse),
        sparse=wanted.sparse,
    )


async def _prepared(
    repository: Repository, streams: Streams, stream: Stream, wanted: Wanted, set_up: SetUp | None
) -> tuple[Stream, list[str]]:
    """Bring what the worktree needs, run `setup` in it, and note it as ready."""
    place = find_place(repository, stream)
    bring = await bringing.listed(repository, stream, wanted.copy, wanted.link)
    modules = await bringing.modules(repository, stream)
    inside = [name for each in modules for name in await names_in(each)]
    # Written down before it is there: what a killed start brought must not pass for somebody's work.
    noted = replace(
        stream,
        brought=_joined(stream.brought, (*bring.brought, *inside)),
        links=bring.targets,
        is_sparse=bool(stream.sparse) or await asyncio.to_thread(_is_sparse, place.entry.admin),
    )
    stream = streams.update(stream.name, lambda known: _with_brought(known, noted))
    notes = list(bring.notes)
    if noted.is_sparse and not stream.sparse:
        notes.append(
            "your checkout is sparse, and so is the worktree: `workspace: {sparse: …}` names other files"
        )
    await asyncio.to_thread(bringing.bring, repository, stream, bring)
    for each in modules:
        await lay_out(each, place.path)
    if wanted.setup and set_up is not None:
        await _run_setup(wanted.setup, Path(stream.worktree), set_up)
        new, restored = await bringing.settle(place, stream)
        if restored:
            shown = ", ".join(f"`{name}`" for name in restored[:5])
            notes.append(f"`setup` changed what git tracks, and that was put back: {shown}")
        after = replace(stream, brought=_joined(stream.brought, new))
        stream = streams.update(stream.name, lambda known: _with_brought(known, after))
    ready = streams.update(stream.name, lambda known: replace(known, is_ready=True))
    return ready, [*notes, *bringing.said_of(await with_inner(modules))]


async def _run_setup(commands: Sequence[tuple[str, ...]], path: Path, set_up: SetUp) -> None:
    for argv in commands:
        error = await set_up(path, argv)
        if error is not None:
            raise Unavailable(error.said, next=error.next)


def _with_brought(known: Stream, noted: Stream) -> Stream:
    return replace(known, brought=noted.brought, links=noted.links, is_sparse=noted.is_sparse)


def _joined(one: tuple[str, ...], other: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))


def _is_sparse(admin: Path) -> bool:
    """Whether the user's checkout is sparse: git gives a new worktree the same patterns."""
    return (admin / "info" / "sparse-checkout").exists()
