"""Takes a landing back: a new commit on the target, which passes the gates before the target moves.

It is a three-way merge, as `git revert` makes one: what the landing changed is taken from what the target is now.
Where later work changed the same lines it is refused; nothing is ever settled by force.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Sequence

from parallelai.errors import CheckFailed, EngineError, UsageError
from parallelai.events import LandingUndone
from parallelai.git.merging import Merged
from parallelai.git.plumbing import in_parts
from parallelai.git.repository import Repository
from parallelai.work.landing import messages
from parallelai.work.landing.commits import Committing
from parallelai.work.landing.explaining import broken_gate, fails_without
from parallelai.work.landing.judging import Judging
from parallelai.work.landing.records import Gates, Plan, Tell, Verdict
from parallelai.work.landing.refusing import waits
from parallelai.work.landing.reverts import takes_back, without
from parallelai.work.landing.rows import first_parents
from parallelai.work.landing.session import MOVES
from parallelai.work.landing.target import Target, Tip, Worktrees
from parallelai.work.streams.landed import landed_by_content
from parallelai.work.streams.record import Landed

_LATER = 5


class UndoConflict(EngineError):
    """Later work builds on what is to be taken back."""

    kind = "conflict"


async def undo(
    repository: Repository,
    plan: Plan,
    landed: Landed,
    gates: Gates | None,
    tell: Tell,
    *,
    ours: Worktrees,
    name: str | None = None,
    commit: str | None = None,
) -> Landed:
    """Take back what landed, by a new commit that passes the gates; gives where the target is then.

    `commit`: the tip of one branch (`Candidate.commit`), where it landed together with others and only its own
    part is to be taken back. `name` is the workstream that the event is told of. Taking back what has been
    taken back gives the commit that did it. Where the user's checkout could not follow, `pending` and a note say so.
    Raises `UsageError` for what is not on the target, `UndoConflict` where later work conflicts, `CheckFailed` where
    the gates fail.
    """
    target = Target(repository, landed.target, ours)
    committing = Committing(repository)
    judging = Judging(repository, gates)
    for _ in range(MOVES):
        standing = await target.take_over()
        tip = await target.tip()
        if not await landed_by_content(repository, landed.commit, tip.commit):  # also if somebody amended it
            raise UsageError(
                f"`{landed.commit[:12]}` is not on `{landed.target}`, so it cannot be taken back",
                next=f"`git log {shlex.quote(landed.target)}` lists what is; `git revert COMMIT` takes that back",
            )
        before, after = await _range(repository, landed, commit)
        hashes = (commit,) if commit is not None else await _brought(repository, before, after)
        done = await _done(repository, landed, (before, after), tip, hashes)
        if done is not None:
            notes = (waits(standing.why, standing.next),) if standing.pending else ()
            return dataclasses.replace(done, notes=notes)
        merged = await _reverted(repository, before, after, tip.commit)
        tried = await _tried(repository, merged.tree, tip.commit)
        verdict = await judging.judge(tried, tip.commit, (name,) if name else ())
        _passing(verdict, name or landed.commit[:12], landed.target)
        title = await repository.git.line("log", "--max-count=1", "--format=%s", after, "--")
        message = messages.undoing(title, after, hashes)
        made = await committing.commit(merged.tree, (tip.commit,), message)
        moved = await target.move(made, tip)
        if moved.how != "lost":
            tell(name, LandingUndone(landed.target, made))
            notes = (waits(moved.why, moved.next),) if moved.how == "pending" else ()
            return Landed(landed.target, tip.commit, made, merged.tree, moved.pending, verdict.gates, notes)
    raise UndoConflict(
        f"`{landed.target}` was moved by somebody else {MOVES} times meanwhile", next="try again"
    )


def _passing(verdict: Verdict, name: str, target: str) -> None:
    """Raise `CheckFailed`, or the error of a gate that could not be run, where what is left does not pass."""
    broken_gate(verdict)
    if not verdict.ok:
        said, advice = fails_without(name, verdict, target)
        raise CheckFailed(said, next=advice)


async def _tried(repository: Repository, tree: str, parent: str) -> str:
    """A commit of plumbing for the gates."""
    return await repository.git.line("commit-tree", tree, "-p", parent, "-m", "Tried")


async def _range(repository: Repository, landed: Landed, commit: str | None) -> tuple[str, str]:
    """The commits between which the landing's changes lie; of one branch in a batch, those of its own merge."""
    if commit is None:
        return landed.before, landed.commit
    rows = await repository.git.line(
        "rev-list", "--merges", "--parents", f"^{landed.before}", landed.commit, "--"
    )
    for row in rows.splitlines():
        merge, *parents = row.split()
        if len(parents) == 2 and parents[1] == commit and merge != landed.commit:
            return parents[0], merge
    return landed.before, landed.commit


async def _brought(repository: Repository, before: str, after: str) -> tuple[str, ...]:
    """The tips that a landing brought: by its trailers, else its second parent."""
    rows = [row for row in await first_parents(repository, after, [before]) if row.commit != before]
    lands = tuple(commit for row in rows for commit in row.lands)
    return lands or tuple(parent for row in rows for parent in row.parents[1:])


async def _done(
    repository: Repository, landed: Landed, brought: tuple[str, str], tip: Tip, hashes: Sequence[str]
) -> Landed | None:
    """The commit that has taken it back already, as its words and its change say, unless it landed again since then."""
    for row in await first_parents(repository, tip.commit, [landed.commit]):
        if set(row.lands) & set(hashes):
            return None
        if set(hashes) & set(row.undoes) and await takes_back(repository, row, *brought):
            tree = await repository.tree(row.commit)
            return Landed(landed.target, row.parents[0], row.commit, tree, tip.pending)
    return None


async def _reverted(repository: Repository, before: str, after: str, tip: str) -> Merged:
    """The target without what lies between two commits. Raises `UndoConflict` and `UsageError`."""
    merged = await without(repository.git, before, after, tip)
    if merged.is_clean:
        if merged.tree == await repository.tree(tip):
            raise UsageError(
                f"`{after[:12]}` changed nothing that is still there: there is nothing to take back"
            )
        return merged
    paths = [conflict.path for conflict in merged.conflicts]
    some = next(in_parts(paths), [])
    log = await repository.git.attempt(
        "log", "--no-merges", f"--max-count={_LATER}", "--format=%h %s", tip, f"^{after}", "--", *some
    )
    later = "; ".join(os.fsdecode(log.stdout).splitlines())
    listed = ", ".join(f"`{path}`" for path in paths[:_LATER])
    said = f"it cannot be taken back: later work changed the same lines of {listed}"
    command = await _by_hand(repository, before, after)
    raise UndoConflict(f"{said} ({later})" if later else said, next=f"`{command}`, by hand")


async def _by_hand(repository: Repository, before: str, after: str) -> str:
    """What takes back what lies between two commits, and lets a person settle it."""
    parents = (await repository.git.line("rev-list", "--parents", "--max-count=1", after, "--")).split()[1:]
    if len(parents) > 1:
        return f"git revert -m 1 {after[:12]}"
    return f"git revert {after[:12] if before in parents else f'{before[:12]}..{after[:12]}'}"
