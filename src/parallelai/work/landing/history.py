"""What has landed already, read from the target itself: a landing that was cut short is found again so.

A branch's tip that the target contains has landed. After squash and rebase the target does not contain it: there
the trailer of the landing's commit says so, and is believed only where that commit holds what the branch brought.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from msgspec import Struct, field

from parallelai.git import merging as git_merging
from parallelai.git.repository import Repository
from parallelai.work.landing.records import Candidate, candidate_of
from parallelai.work.landing.reverts import ByHand, latest, reverts
from parallelai.work.landing.rows import Row, before_of, first_parents
from parallelai.work.streams.record import Landed, Stream


class History(Struct, frozen=True):
    """What is known of candidates on a target.

    Attributes:
        landed: by name, how it became part of the target.
        stand_ins: for a tip that holds work which was taken back, a commit to merge in its stead.
        squashed: tips that landed without becoming ancestors of the target.
    """

    landed: dict[str, Landed] = field(default_factory=dict)
    stand_ins: dict[str, str] = field(default_factory=dict)
    squashed: tuple[str, ...] = ()


async def look_up(
    repository: Repository, target: str, tip: str, candidates: Sequence[Candidate], pending: str | None = None
) -> History:
    """Find which candidates the target's tip holds already. `pending` is the branch that the tip is of."""
    found = History()
    rows = await first_parents(repository, tip, [one.commit for one in candidates])
    # Branches that no plan made are left to people: patterns name many, and nothing says which of them were taken back,
    # but of what `work undo` took back.
    is_planned = any(one.worktree is not None for one in candidates)
    undone = {commit for row in rows for commit in row.undoes}
    works = [(one.base, one.commit) for one in candidates]
    by_hand = await reverts(repository, tip, rows, works) if is_planned or undone else {}
    if not is_planned:
        by_hand = {
            row: {tip: is_back for tip, is_back in tips.items() if tip in undone}
            for row, tips in by_hand.items()
        }
    newest = latest(rows, by_hand)
    for candidate in candidates:
        by = await _landing(repository, tip, candidate, newest)
        if by is not None:
            before = await before_of(repository, by)
            tree = await repository.tree(by.commit)
            found.landed[candidate.name] = Landed(target, before, by.commit, tree, pending)
        else:
            await _stand_in(repository, candidate, newest, by_hand, found.stand_ins)
    squashed = await _squashed(repository, tip, candidates, newest)
    return History(found.landed, found.stand_ins, squashed)


async def to_merge(repository: Repository, stream: Stream, commit: str, tip: str) -> str:
    """The commit to merge with a tip of the target for a commit of a workstream: another, where it was taken back."""
    if stream.undone is None and stream.undone_by is None:
        return commit
    candidate = replace(candidate_of(stream), commit=commit)
    return (await look_up(repository, stream.target, tip, [candidate])).stand_ins.get(commit, commit)


async def _squashed(
    repository: Repository,
    tip: str,
    candidates: Sequence[Candidate],
    newest: dict[str, tuple[Row, bool]],
) -> tuple[str, ...]:
    """Tips that the target holds by content, and that branches which are still to land were built on."""
    found = []
    for commit, (row, is_landed) in newest.items():
        if not is_landed or commit in row.parents or await repository.commit(commit) is None:
            continue
        if await repository.ancestor(commit, tip) or not await _holds(repository, row, commit):
            continue
        if any([await repository.ancestor(commit, one.commit) for one in candidates]):
            found.append(commit)
    return tuple(found)


async def _landing(
    repository: Repository, tip: str, candidate: Candidate, newest: dict[str, tuple[Row, bool]]
) -> Row | None:
    row, is_landed = newest.get(candidate.commit, (None, True))
    if not is_landed:
        return None
    if await repository.ancestor(candidate.commit, tip):
        return row or await _came_along(repository, tip, candidate.commit, newest)
    if row is not None and await _holds(repository, row, candidate.commit):
        return row
    return None


async def _came_along(
    repository: Repository, tip: str, commit: str, newest: dict[str, tuple[Row, bool]]
) -> Row | None:
    """The row by which a target that contains a commit has its work; None where all that brought it was taken back."""
    by = await introduced(repository, tip, commit)
    if not any(each in newest and not newest[each][1] for each in by.lands):
        return by
    held = [newest[each] for each in newest if await repository.ancestor(commit, each)]
    return next((row for row, is_landed in held if is_landed), None) if held else by


async def introduced(repository: Repository, tip: str, commit: str) -> Row:
    """The first-parent commit of a tip by which it came to contain a commit; that one itself, if it is one."""
    rows = await first_parents(repository, tip, [commit])
    low, high = 0, len(rows)  # rows[:low] contain it; the oldest one that does is looked for
    while low < high:
        middle = (low + high) // 2
        if await repository.ancestor(commit, rows[middle].commit):
            low = middle + 1
        else:
            high = middle
    if low and rows[low - 1].parents[0] != commit:  # else the target was moved along to it
        return rows[low - 1]
    parents = await repository.git.line("rev-list", "--parents", "--max-count=1", commit)
    return Row(commit, tuple(parents.split()[1:]))


async def _holds(repository: Repository, row: Row, commit: str) -> bool:
    """Whether a squashed or replayed landing holds what a tip brought: merging it again changes nothing.

    Where people or resolvers settled a conflict, that is so for everything but the conflicting files.
    """
    if await repository.commit(commit) is None:
        return False
    merged = await git_merging.merge(repository.git, row.commit, commit)
    if not merged.is_clean and not merged.conflicts:
        return False
    changed = await repository.git.run(
        "diff-tree", "-r", "-z", "--name-only", "--no-renames", merged.tree, row.commit
    )
    conflicting = {os.fsencode(conflict.path) for conflict in merged.conflicts}
    return all(path.partition(b"~")[0] in conflicting or not path for path in changed.split(b"\0"))


async def _stand_in(
    repository: Repository,
    candidate: Candidate,
    newest: dict[str, tuple[Row, bool]],
    by_hand: ByHand,
    found: dict[str, str],
) -> None:
    """Where work of a candidate was landed and taken back, git's merge base would leave it out for good.

    So it is merged as if it had been cut where it first left the target. What was cut from the target meanwhile
    holds that work, too, but it is not its own: there it stays taken back.
    """
    for commit, (row, is_landed) in newest.items():
        ends = (commit, candidate.commit), (candidate.commit, commit)
        if is_landed or not any([await repository.ancestor(*pair) for pair in ends]):
            continue
        is_own = commit == candidate.commit or not await repository.ancestor(commit, candidate.base)
        if row.commit in by_hand and not is_own:  # a merge of anything, such as of what was pulled
            continue
        landed = await introduced(repository, row.commit, commit)
        if landed.commit != commit and await repository.ancestor(landed.commit, candidate.commit):
            continue
        is_whole = bool(landed.parents) and landed.commit != commit
        before = landed.parents[0] if is_whole else candidate.base
        fork = await repository.git.attempt("merge-base", before, candidate.commit)
        if fork.exit == 0:
            base = os.fsdecode(fork.stdout).split("\n")[0]
            found[candidate.commit] = await git_merging.with_base(repository.git, candidate.commit, base)
        return
