"""What is known of a workstream while it lives: where it works, what it may change, how far it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from parallelai.errors import Unavailable, UsageError
from parallelai.run.approving import UNMET

State = Literal["open", "done", "landed", "dropped"]
"""`open`: being worked on; `done`: ready to land; the others are the end."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a workstream may change, as git's patterns from the root; what a plan and a role say of it together."""

    owns: tuple[str, ...]
    reads: tuple[str, ...] = ()
    avoids: tuple[str, ...] = ()
    contracts: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GateRun:
    """One gate that ran on exactly the tree that landed (CONTRACTS §5)."""

    command: str
    exit: int | None
    seconds: float
    log: str


@dataclass(frozen=True, slots=True)
class Landed:
    """How a workstream became part of the target: `before` is what the target was, `commit` what it became.

    `pending` names the branch that holds the result while the user's checkout could not be moved along. `notes` are
    what a person should know of it: who settled which conflict, which tests passed only alone, what a gate missed.
    `pushed` is the remote and its branch that have it, where it was pushed: `origin/main`.
    """

    target: str
    before: str
    commit: str
    tree: str
    pending: str | None = None
    gates: tuple[GateRun, ...] = ()
    notes: tuple[str, ...] = ()
    pushed: str | None = None


@dataclass(frozen=True, slots=True)
class KeptOut:
    """What the guard kept out of a workstream: the paths, why, and the patch that holds it (below the root)."""

    paths: tuple[str, ...]
    why: str
    patch: str | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """One workstream. Paths are absolute; `branch` and `target` are without `refs/heads/`.

    Attributes:
        name: the workstream's id in its plan.
        plan: what the plan is known by (`client.jobs.plan_name`).
        run: the run that the workstream belongs to.
        base: the commit that the worktree was cut from, or was synced to last.
        head: the last commit of ours on the branch; the base where there is none yet.
        target: the branch that it lands on.
        depends_on: workstreams that have to land before it.
        priority: smaller is more urgent.
        kept_out: what the guard kept out so far.
        patch: of a dropped one, where its work is kept.
        approved_by: who gave leave that it lands, where its plan asks for that; `approved_head`: for which head.
        sparse: patterns of what is checked out; all where there is none.
        brought: paths in the worktree that were copied, linked or made by `setup`: they are never committed.
            A folder stands for all below it.
        links: what links of the worktree lead to, absolute: it has to stay readable there.
        leases: paths that it may change beside its own; `mail`: what it is to be told with its next turn.
        unsettled: files that git could not merge with the target: with conflict markers in them, or the other
            version of one, which lies beside it (`streams.beside`).
        undone: the landing's commit that `work undo` took back, or a person's `git revert`, until the workstream is
            taken up again; `undone_by`: the commit that did, and whether it waits for the user's checkout, too.
        is_ready: whether the worktree was made to its end; a start that was interrupted goes on where not.
        is_by_hand: a person started it, and no assistant has worked in it.
        in_attempt: an attempt works in it; where none does, one was cut off there.
        left_at: when that was, in seconds since 1970, where it was stopped; None where it was killed.
        refused: by whom it was refused that it lands, and why; `refused_head`: for which head.
        said: the end of what its assistant said when it had finished.
        admin: git's folder of its worktree, absolute, as it was when that was made; empty where nobody looked.
    """

    name: str
    plan: str
    run: str
    branch: str
    worktree: str
    base: str
    head: str
    target: str
    rules: Rules
    description: str = ""
    depends_on: tuple[str, ...] = ()
    priority: float = 1.0
    state: State = "open"
    started_at: str = ""
    is_sparse: bool = False
    kept_out: tuple[KeptOut, ...] = ()
    landed: Landed | None = None
    patch: str | None = None
    approved_by: str | None = None
    sparse: tuple[str, ...] = ()
    brought: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    is_ready: bool = False
    is_by_hand: bool = False
    leases: tuple[str, ...] = ()
    mail: tuple[str, ...] = ()
    unsettled: tuple[str, ...] = ()
    undone: str | None = None
    in_attempt: bool = False
    admin: str = ""
    left_at: float | None = None
    approved_head: str | None = None
    undone_by: Landed | None = None
    refused: str | None = None
    refused_head: str | None = None
    said: str = ""

    @property
    def is_approved(self) -> bool:
        """Whether a person gave leave for what it is now: leave for what it was before is none."""
        return self.approved_by is not None and self.approved_head == self.head


REVERTED = "reverted by hand"
"""What is noted of what took a landing back (`Stream.undone_by`), where that was a person's `git revert`."""


def taken_back(stream: Stream, by: Landed | None = None) -> Stream:
    """A workstream or a branch whose landing was taken back, `by` a commit: it is ready to land again."""
    last = stream.landed.commit if stream.landed is not None else stream.undone or stream.head
    return replace(
        stream,
        state="done",
        landed=None,
        undone=last,
        undone_by=by,
        approved_by=None,
        approved_head=None,  # leave was for the landing that is no more
    )


def is_reverted(stream: Stream) -> bool:
    """Whether a person's `git revert` took its landing back last."""
    return stream.undone_by is not None and REVERTED in stream.undone_by.notes


def how_taken_back(stream: Stream) -> str:
    """How its landing was taken back, to be told after its name."""
    if stream.undone_by is None or not is_reverted(stream):
        return "was taken back"
    return f"was reverted on `{stream.target}` by {stream.undone_by.commit[:10]}"


def is_undone(stream: Stream) -> bool:
    """Whether its landing was taken back, and nobody has taken it up since."""
    return stream.undone is not None and stream.state == "done"


def refused(stream: Stream, by: str, reason: str) -> Stream:
    """Write down that a person refused to let it land as it is: it is worked on again, and its assistant is told."""
    said = f"rejected by {by}: {reason}" if reason else f"rejected by {by}"
    told = f"Its landing was {said}"
    return replace(
        stream,
        state="open",
        approved_by=None,
        refused=said,
        refused_head=stream.head,
        mail=(*stream.mail, told),
    )


def is_refused(stream: Stream) -> bool:
    """Whether a person refused to let it land as it is now, and nobody has called it ready since."""
    return stream.refused is not None and stream.refused_head == stream.head and stream.state == "open"


def pending_part(stream: Stream) -> Landed | None:
    """What of a workstream did not reach its target at once: its landing, or what took that back; None for neither."""
    last = stream.undone_by if is_undone(stream) else stream.landed
    return last if last is not None and last.pending else None


def with_leave(stream: Stream, head: str, by: str) -> Stream:
    """Give a person's leave to land for a head. Raises `UsageError` where nothing waits, or it is another by now."""
    again = f"look at what it came to, `parallelai work diff {stream.name}`, and then approve that"
    if stream.state != "done":
        raise UsageError(
            f"`{stream.name}` waits for no leave: it is worked on", next=f"once it waits, {again}"
        )
    if stream.head != head:
        raise UsageError(f"`{stream.name}` has changed since you looked", next=again)
    return replace(stream, approved_by=by, approved_head=head)


def waits_for_leave(stream: Stream) -> Unavailable:
    """The error of a workstream that nobody is there to give leave to land; it names the commit to look at."""
    lapsed = "; the leave that it had was for another commit, and has lapsed" if stream.approved_by else ""
    return Unavailable(
        f"{UNMET} to land{lapsed}",
        next=f"`parallelai work approve {stream.name} --result {stream.head[:10]}`, then go on with the run",
    )


def described(stream: Stream) -> dict[str, Any]:
    """A workstream in a run's document (CONTRACTS §5). One whose landing was taken back may have no worktree."""
    has_worktree = not is_undone(stream) or Path(stream.worktree).is_dir()
    return {
        "branch": stream.branch,
        "worktree": stream.worktree if has_worktree else None,
        "base": stream.base,
        "stage": "undone" if is_undone(stream) else stream.state,
        "kept_out": [path for kept in stream.kept_out for path in kept.paths],
        "landed": asdict(stream.landed) if stream.landed is not None else None,
    }
