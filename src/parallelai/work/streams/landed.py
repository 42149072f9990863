"""Whether a branch's work is in the target, proven by content: ancestry says nothing after a squash or a rebase."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from parallelai.git.merging import merge_all
from parallelai.git.repository import Repository, open_repository
from parallelai.work.landing.reverts import reverted
from parallelai.work.streams.base import LANDING, recorded_ref
from parallelai.work.streams.now import paths
from parallelai.work.streams.record import Landed, Stream, pending_part

STATES = 500
"""So many states of the target are looked at: those since it parted from the branch that touched its files."""
_BATCH = 25
_MOST_PATHS = 500


async def landed_by_content(repository: Repository, commit: str, target: str) -> bool:
    """Whether the target holds all that a commit brings, or has held it.

    It does if the commit is an ancestor of it, or if git's own merge of the two changes nothing in the target,
    as it is or as it was after one of its first-parent commits. (Later changes of the same lines, or a landing
    that was taken back, do not make work unlanded: it is in the target's history.)
    """
    if await repository.ancestor(commit, target):
        return True
    bases = await repository.git.attempt("merge-base", commit, target)
    base = bases.stdout.decode().split("\n")[0] if bases.exit == 0 else ""
    if not base:
        return False
    listed = await repository.git.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", base, commit)
    touched = paths(listed)
    words = ("rev-list", "--first-parent", f"--max-count={STATES}", target, f"^{base}", "--")
    below = touched if len(touched) <= _MOST_PATHS else []
    found = (await repository.git.line(*words, *below)).split("\n")
    states = list(dict.fromkeys([target, *filter(None, found)]))
    for start in range(0, len(states), _BATCH):
        batch = states[start : start + _BATCH]
        for state, merged in zip(
            batch, await merge_all(repository.git, [(each, commit) for each in batch]), strict=True
        ):
            if merged.is_clean and merged.tree == await repository.tree(state):
                return True
    return False


async def held_since(repository: Repository, stream: Stream, commit: str) -> str:
    """What of a workstream's work, which is `commit` now, its target has by now, as somebody merged it by hand.

    That is `commit` itself where the target has all of it, and what it was cut from where it has nothing more.
    """
    target = await repository.commit(f"refs/heads/{stream.target}")
    if (
        target is None or stream.undone is not None or stream.undone_by is not None
    ):  # it has more than it holds
        return stream.base
    if await reverted(repository, [replace(stream, head=commit)]):
        return stream.base
    if await landed_by_content(repository, commit, target):
        return commit
    shared = (await repository.git.attempt("merge-base", commit, target)).stdout.decode().strip()
    return shared if shared and await repository.ancestor(stream.base, shared) else stream.base


async def is_taken_over(repository: Repository, landed: Landed) -> bool:
    """Whether the target has what landed, also where a checkout could not follow at first."""
    target = await repository.commit(f"refs/heads/{landed.target}")
    return target is not None and await repository.ancestor(landed.commit, target)


async def strayed(root: Path, streams: Sequence[Stream]) -> tuple[frozenset[str], frozenset[str]]:
    """Give the names of those whose landing is on its target no more, and of those where it is not there yet.

    The latter landed beside their target, because a checkout could not follow, or were taken back so.
    """
    landed = [each for each in streams if each.landed is not None]
    beside = {each.name: part for each in streams if (part := pending_part(each)) is not None}
    if not landed and not beside:
        return frozenset(), frozenset()
    repository = await open_repository(root)
    lost = await gone(repository, landed)
    waiting = [
        name
        for name, part in beside.items()
        if name not in lost and not await is_taken_over(repository, part)
    ]
    return lost, frozenset(waiting)


async def gone(repository: Repository, streams: Iterable[Stream]) -> frozenset[str]:
    """Give the names of those whose landing the target holds no more, and no landing that is to be taken over.

    What somebody has squashed, rebased or amended since is there by content. Nothing is said where the target
    itself is gone.
    """
    by_target: dict[str, list[Stream]] = defaultdict(list)
    for stream in streams:
        if stream.state == "landed" and stream.landed is not None:
            by_target[stream.landed.target].append(stream)
    found: set[str] = set()
    for target, landed in by_target.items():
        if await repository.commit(f"refs/heads/{target}") is None:
            continue
        refs = (f"refs/heads/{target}", f"refs/heads/{LANDING}{target}", recorded_ref(target))
        tips = [tip for ref in refs if (tip := await repository.commit(ref)) is not None]
        off = await _off(repository, {each.landed.commit for each in landed if each.landed}, tips)
        for stream in landed:
            is_off = stream.landed is not None and stream.landed.commit in off
            if is_off and not any([await landed_by_content(repository, stream.head, tip) for tip in tips]):
                found.add(stream.name)
    return frozenset(found)


async def _off(repository: Repository, commits: set[str], tips: Sequence[str]) -> set[str]:
    """Those commits that no tip holds; also those that git has no more. Two calls of git, however many they are."""
    words = ("rev-list", "--ignore-missing")
    there = (await repository.git.line(*words, "--no-walk", *commits, "--")).split("\n")
    off = (await repository.git.line(*words, *commits, *(f"^{tip}" for tip in tips), "--")).split("\n")
    return (commits - set(there)) | (commits & set(off))
