"""What guards of worktrees need to be told, and the guard of one that a person worked in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from parallelai.git.repository import Repository
from parallelai.work.guard.guarding import Guard
from parallelai.work.guard.place import Settings as GuardSettings
from parallelai.work.setting import Setting
from parallelai.work.sheltering import Shelter, folder_of
from parallelai.work.streams import taking_over
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import Streams


async def by_hand(
    repository: Repository,
    streams: Streams,
    stream: Stream,
    folder: Path,
    secrets_in: Callable[[str], frozenset[str]],
) -> str:
    """Guard and commit what a person has in a worktree, as after a turn; gives what was kept out, in words.

    Raises `Trespass` for a secret.
    """
    guard = Guard(
        GuardSettings(
            repository=repository,
            name=stream.name,
            worktree=Path(stream.worktree),
            branch=stream.branch,
            rules=stream.rules,
            folder=folder / "guard" / stream.name,
            patches=folder / "patches",
            brought=frozenset(stream.brought),
            secrets_in=secrets_in,
            is_confined=True,  # what changed in git meanwhile was a person's doing
            shelter=shelter_of(repository, streams, stream),
        ),
        stream.head,
    )
    guarded = await guard.check(stream.leases, taking_over.settling(stream))
    head = await guard.commit(*message_of(stream, stream.run, None))
    streams.update(
        stream.name,
        lambda it: dataclasses.replace(
            it,
            head=head,
            kept_out=tuple(dict.fromkeys((*it.kept_out, *guarded.kept_out))),
            in_attempt=False,  # what was left is a person's now
        ),
    )
    return guarded.said


def plan_file(setting: Setting) -> str | None:
    """The plan's file below the root, which no workstream may change; None where it is none."""
    name = setting.plan_name
    return name if not Path(name).is_absolute() and (setting.root / name).is_file() else None


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
