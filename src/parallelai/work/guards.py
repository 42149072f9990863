"""What guards of worktrees need to be told, and the guard of one that a person worked in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

from parallelai.git.repository import Repository
from parallelai.work.guard import facts, own_commits
from parallelai.work.guard.committing import Trailers
from parallelai.work.guard.guarding import Guard
from parallelai.work.guard.place import Settings as GuardSettings
from parallelai.work.setting import Setting
from parallelai.work.sheltering import Shelter, folder_of
from parallelai.work.streams import taking_over
from parallelai.work.streams.record import KeptOut, Stream
from parallelai.work.streams.registry import Streams


async def by_hand(
    repository: Repository,
    streams: Streams,
    stream: Stream,
    folder: Path,
    secrets_in: Callable[[str], frozenset[str]],
) -> str:
    """Guard and commit what a person has in a worktree, as after a turn; gives what was kept out, in words.

    Commits of theirs stay as they are where nothing of them is kept out; else ours tells of them. Raises `Trespass`
    for a secret.
    """
    settings = GuardSettings(
        repository=repository,
        name=stream.name,
        worktree=Path(stream.worktree),
        branch=stream.branch,
        rules=stream.rules,
        folder=folder / "guard" / stream.name,
        patches=folder / "patches",
        plan_file=facts.plan_below(repository.root, stream.plan),
        brought=frozenset(stream.brought),
        secrets_in=secrets_in,
        is_confined=True,  # what changed in git meanwhile was a person's doing
        shelter=shelter_of(repository, streams, stream),
    )
    settling = taking_over.settling(stream)
    guard = Guard(settings, await own_commits.last_to_stay(settings, stream, settling))
    guarded = await guard.check(stream.leases, settling)
    undone = await own_commits.told_of(repository, guarded.undone)
    told = await own_commits.keep(repository, stream, undone)
    streams.update(stream.name, lambda it: _with_kept(it, told))  # also where nothing may be committed
    head = await guard.commit(*_message(stream, undone))
    streams.update(
        stream.name,  # what an attempt left is a person's now
        lambda it: dataclasses.replace(_with_kept(it, guarded.kept_out), head=head, in_attempt=False),
    )
    return guarded.said


def _message(stream: Stream, undone: own_commits.Undone) -> tuple[str, Trailers]:
    """As `message_of`, with the commits that it stands for, and who made them."""
    message, trailers = message_of(stream, stream.run, None)
    authors = {"Co-authored-by": undone.authors} if undone.authors else {}
    return own_commits.worded(message, undone), {**trailers, **authors}


def _with_kept(stream: Stream, kept: Iterable[KeptOut]) -> Stream:
    return dataclasses.replace(stream, kept_out=tuple(dict.fromkeys((*stream.kept_out, *kept))))


def plan_file(setting: Setting) -> str | None:
    """The plan's file below the root, which no workstream may change; None where it is none."""
    return facts.plan_below(setting.root, setting.plan_name)


def shelter_of(repository: Repository, streams: Streams, stream: Stream) -> Shelter:
    """What the sandbox of a workstream may have of git for itself."""
    return Shelter(folder_of(streams.state, stream.name), repository.common, stream.branch)


def message_of(stream: Stream, run: str, engine: str | None) -> tuple[str, dict[str, str]]:
    """The message of a commit of ours, and its trailers."""
    lines = stream.description.strip().splitlines()
    trailers = {"ParallelAI-Run": run, "ParallelAI-Task": stream.name}
    if engine is not None:
        trailers["ParallelAI-Engine"] = engine
    return f"{stream.name}: {lines[0][:72] if lines else 'work'}\n", trailers
