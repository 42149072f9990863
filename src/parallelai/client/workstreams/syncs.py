"""Brings what has landed into worktrees that are at rest, for the person who holds the wheel there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from parallelai.client.workstreams.landable import worktree_gone
from parallelai.git.repository import Repository
from parallelai.work.conflicts.advice import MOST, listed
from parallelai.work.landing.history import to_merge
from parallelai.work.streams import syncing, taking_over
from parallelai.work.streams.beside import belongs_to, lying_beside
from parallelai.work.streams.carrying import How
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import Streams


@dataclasses.dataclass(frozen=True, slots=True)
class Synced:
    """What became of bringing the target into a worktree."""

    name: str
    is_done: bool
    said: str


async def bring(
    repository: Repository, streams: Streams, stream: Stream, onto: str, how: How, *, is_named: bool
) -> Synced:
    """Bring a commit of the target into a worktree.

    Where git cannot merge both sides, and the person named this workstream, they are put into its files to be settled.
    Raises `UsageError` where they named one whose worktree is gone.
    """
    if not Path(stream.worktree).is_dir():
        error = worktree_gone(repository, stream)
        if is_named:
            raise error
        return Synced(stream.name, False, f"not synced: {error.said} ({error.next})")
    await syncing.recover(repository, streams, stream)
    stream = streams.find(stream.name)
    tip = await repository.commit(f"refs/heads/{stream.branch}")
    if tip is not None and tip != stream.head:
        advice = f"`parallelai work done {stream.name}` judges them first"
        return Synced(stream.name, False, f"not synced: it has commits that nobody has judged; {advice}")
    synced = await syncing.sync(repository, streams, stream, onto, how)
    if synced.ok:
        stream = streams.find(stream.name)
        left = await taking_over.unsettled(repository, stream.base, stream.head, stream.unsettled)
        if left:
            return Synced(stream.name, False, _to_settle(stream))
        return Synced(stream.name, True, "synced" if synced.has_moved else "up to date")
    is_met = is_named and synced.meets == "commits"
    if is_met and (how == "merge" or await _is_taken_back(repository, stream, onto)):
        synced = await taking_over.take_over(repository, streams, stream, onto)
        if synced.ok:
            return Synced(stream.name, False, _to_settle(streams.find(stream.name)))
    named = f": {listed(synced.files)}" if synced.files else ""
    return Synced(stream.name, False, f"not synced: {synced.why}{named}{_advice(synced, how, is_named)}")


async def _is_taken_back(repository: Repository, stream: Stream, onto: str) -> bool:
    """Whether the target took back what it did: git's own rebase onto that would leave all of it out."""
    return await to_merge(repository, stream, stream.head, onto) != stream.head


def _advice(synced: syncing.Synced, how: How, is_named: bool) -> str:
    name, target = synced.stream.name, synced.stream.target
    match synced.meets:
        case "uncommitted":
            return f" (`parallelai work done {name}` commits it, then `parallelai work sync {name}`)"
        case "commits" if how == "rebase":
            return f" (`git rebase {target}` there, settle it, then `parallelai work done {name}`)"
        case "commits" if not is_named:
            return f" (`parallelai work sync {name}` puts both sides into its files)"
        case _:
            return ""


def _to_settle(stream: Stream) -> str:
    files = list(dict.fromkeys(belongs_to(path) or path for path in stream.unsettled))
    beside = lying_beside(Path(stream.worktree), stream.unsettled)
    more = "".join(f"; {each}" for each in beside[:MOST])
    verb = "has" if len(files) == 1 else "have"
    return (
        f"`{stream.target}` is brought in, and {listed(files)} {verb} to be settled in `{stream.worktree}`{more}; then"
        f" `parallelai work done {stream.name}`"
    )
