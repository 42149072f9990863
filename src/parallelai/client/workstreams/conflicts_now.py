"""Which workstreams that no run carries out do not fit now: what `work status` says of them. Moves nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from parallelai.errors import ParallelAIError
from parallelai.git.repository import Repository
from parallelai.work.landing.history import to_merge
from parallelai.work.streams.base import recorded_ref
from parallelai.work.streams.record import Stream


async def conflicts_now(
    repository: Repository, streams: Sequence[Stream], commits: Mapping[str, str], cache: Path | None
) -> dict[str, frozenset[str]]:
    """Name, for each workstream, those that it does not fit with, of the others and its target.

    Args:
        streams: those to compare, each with its target and those of the same target.
        commits: what is in the worktree of each now, by its name.
        cache: the folder in which what was found is kept.

    One of which git cannot tell has no entry: a status is shown all the same.
    """
    found: dict[str, frozenset[str]] = {}
    for target in dict.fromkeys(each.target for each in streams):
        with contextlib.suppress(ParallelAIError):
            those = [each for each in streams if each.target == target]
            found |= await _on_target(repository, target, those, commits, cache)
    return found


async def _on_target(
    repository: Repository,
    target: str,
    streams: Sequence[Stream],
    commits: Mapping[str, str],
    cache: Path | None,
) -> dict[str, frozenset[str]]:
    tip = await _tip(repository, target)
    if tip is None:
        return {}
    found: dict[str, set[str]] = {each.name: set() for each in streams}
    changed = [each for each in streams if commits[each.name] != each.base]
    if len(changed) > 1 or any(each.base != tip for each in changed):
        from parallelai.work.conflicts import Head, Matrix  # reads code: most looks need none of it

        tips = {each.name: await to_merge(repository, each, commits[each.name], tip) for each in changed}
        heads = [Head(each.name, tips[each.name], each.rules.owns) for each in changed]
        document = await Matrix(repository, cache).look(heads, Head(target, tip))
        for pair in document.pairs:
            for one, other in ((pair.a, pair.b), (pair.b, pair.a)):
                if pair.is_broken and one in found:
                    found[one].add(other)
    return {name: frozenset(others) for name, others in found.items()}


async def _tip(repository: Repository, target: str) -> str | None:
    """Where the next landing begins: at the target, or at what waits to be taken over by it."""
    tip = await repository.commit(f"refs/heads/{target}")
    pending = await repository.commit(recorded_ref(target))
    if tip is not None and pending is not None and await repository.ancestor(tip, pending):
        return pending
    return tip
