"""What is to land, how, and what became of it: plain data between the parts of a landing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from msgspec import Struct

from parallelai.events import EventData
from parallelai.records import ErrorRecord
from parallelai.work.streams.record import GateRun, Landed, Stream

Tell = Callable[[str | None, EventData], None]
"""Write an event down, of a workstream (its name) or of the whole landing (None)."""
LAND_WITH = "`parallelai work land --engine NAME`"
"""What resolvers say helps, who do not know what is to land: `explaining.named` puts that in."""
MOST_REPLAYED = 500
"""Commits of one candidate that a rebase replays; a longer branch lands as one commit."""
REGENERATED = "regenerated"
"""Who settled what a program made anew: a lock file, or what the plan calls generated."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A branch that is to land.

    Attributes:
        name: the workstream's name, or the branch's.
        commit: its tip, a full hash.
        base: the commit that it was cut from, or synced to last.
        intent: what it is for, in words, for the merge's message and for whoever settles a conflict.
        depends_on: names of candidates that have to land before it.
        priority: smaller is more urgent.
        trailers: for the commit's message, such as `ParallelAI-Run: r-…`.
        owns: patterns of the files that are its own.
        worktree: of a workstream, where it is put right if it does not pass.
        notes: what a person should know of it, however it ends.
    """

    name: str
    commit: str
    base: str
    branch: str | None = None
    intent: str = ""
    depends_on: tuple[str, ...] = ()
    priority: float = 1.0
    trailers: Mapping[str, str] = field(default_factory=dict)
    owns: tuple[str, ...] = ()
    worktree: str | None = None
    notes: tuple[str, ...] = ()


def candidate_of(stream: Stream, *, among: Sequence[Stream] = (), engine: str | None = None) -> Candidate:
    """A workstream as it is to land, `among` others that land with it; `engine` worked on it last, if one did."""
    landing = {each.name for each in among}
    trailers = {"ParallelAI-Run": stream.run, "ParallelAI-Task": stream.name}
    if engine is not None:
        trailers["ParallelAI-Engine"] = engine
    return Candidate(
        name=stream.name,
        commit=stream.head,
        base=stream.base,
        branch=stream.branch,
        intent=stream.description,
        depends_on=tuple(name for name in stream.depends_on if name in landing),
        priority=stream.priority,
        trailers=trailers,
        owns=stream.rules.owns,
        worktree=stream.worktree,
    )


@dataclass(frozen=True, slots=True)
class Arrival:
    """What became of one candidate: it landed, or `error` says why not. `with_` are those it does not fit to.

    Attributes:
        flaky: tests that failed, and passed when they were run alone.
        notes: what a person should know of it: why it is pending, who settled which conflict.
        next: the one command that is left to a person, such as the one that takes a pending result over.
        pull_request: the address of the one that was opened for it instead of landing it (`via: pr`).
        waits_for: the candidate that it depends on and that did not land; that is all that is wrong with it.
        push_error: why a landed one did not reach the remote, where that was asked for.
    """

    name: str
    landed: Landed | None = None
    error: ErrorRecord | None = None
    with_: tuple[str, ...] = ()
    flaky: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    next: str | None = None
    pull_request: str | None = None
    push_error: ErrorRecord | None = None
    waits_for: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gates said of one tree. `hook` is the git hook that refused it, before any gate ran."""

    ok: bool
    gates: tuple[GateRun, ...] = ()
    new_failures: tuple[str, ...] = ()
    flaky: tuple[str, ...] = ()
    error: ErrorRecord | None = None
    notes: tuple[str, ...] = ()
    hook: str | None = None


class Gates(Protocol):
    """Runs all gates on the tree of a commit, and compares with the base, which it runs once and remembers."""

    async def judge(self, commit: str, base: str, names: tuple[str, ...]) -> Verdict:
        """Say whether a tree may land. `base` is the target before; only failures that it has not count."""

    async def ready(self, base: str) -> Verdict:
        """Look at the base before the first candidate: a red one without a report, the canary."""


@dataclass(frozen=True, slots=True)
class Coming:
    """A commit that is about to be made on the target, as git would make it.

    Attributes:
        parent: what it is made on, a commit with the tree of its first parent.
        hooks: the hooks by which git would have its files looked at.
        theirs: what is merged, where its conflicts were settled: git knows it as `MERGE_HEAD` then.
    """

    parent: str
    hooks: tuple[str, ...] = ()
    theirs: str | None = None


class Hooks(Protocol):
    """Runs the hooks by which the user's git looks at the files of a commit before it makes it."""

    async def judge(self, commit: str, coming: Coming, names: tuple[str, ...]) -> Verdict:
        """Say whether the hooks let a tree pass. Of the same tree on the same parent they are asked once."""

    async def foresee(self, commit: str, wanted: tuple[str, ...], method: str) -> tuple[str, ...]:
        """Say of each hook that a commit has whether it would be run; `wanted` are those that git runs."""


class Side(Struct, frozen=True):
    """One side of a conflict, in words: who changed it, and what for."""

    name: str
    intent: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A merge whose conflicts are settled: the tree, and who settled which path.

    `beside` are paths that were not in conflict, and which a command of the plan made anew with those that were.
    """

    tree: str
    by: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[str, ...] = ()


class Resolving(Protocol):
    """Settles the conflicts of one merge: by resolvers, by a decision made before, or by an engine."""

    async def settle(
        self, ours: str, theirs: str, merged: Any, sides: tuple[Side, Side], *, may_ask: bool
    ) -> Resolved | ErrorRecord:
        """Settle all conflicting files of a merge of two commits, or say why that was not possible.

        `merged` is a `git.merging.Merged`. `may_ask` False tries the resolvers and remembered decisions only,
        which take no time; an engine is asked outside the queue.
        """

    async def foresee(self, ours: str, theirs: str, merged: Any) -> Mapping[str, str] | ErrorRecord:
        """Say of each conflicting file of a merge who would settle it, or why nobody would; nothing is kept."""

    async def failed(self, name: str) -> None:
        """Take in that a candidate did not pass its gates: what an engine settled for it is asked anew."""


Method = Literal["merge", "squash", "rebase"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to land. `batch` is the most candidates that share a gate run; None leaves it to the lander."""

    target: str
    method: Method = "merge"
    via: Literal["ref", "pr"] = "ref"
    push: bool = False
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a landing would do, without a gate run.

    Attributes:
        order: names in the order in which they would land.
        conflicts: pairs that git cannot merge; of each the one that stands earlier in `order` lands first.
        with_target: names that conflict with the target as it is.
        landed: names that are part of the target already.
        runs: gate runs if all pass: one for a batch that is merged, one for each commit else.
        runs_for_each_bad: about how many runs each candidate that fails costs.
        refused: names that would not be landed at all, and why.
        settled: names that git cannot merge, and how each of their conflicts would be settled.
        notes: what else a person should know before.
    """

    order: tuple[str, ...]
    conflicts: tuple[tuple[str, str], ...] = ()
    with_target: tuple[str, ...] = ()
    landed: tuple[str, ...] = ()
    runs: int = 0
    runs_for_each_bad: int = 0
    refused: tuple[tuple[str, str], ...] = ()
    settled: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Breaking:
    """A smallest set of names that breaks together: without any one of them the others pass.

    One name alone fails on the target as it is; `kind` tells whether git or a gate says so, or only the code does.
    `where` is the gate's log.
    """

    names: tuple[str, ...]
    kind: Literal["conflict", "gate_failed", "logic"]
    said: str
    where: str | None = None


@dataclass(frozen=True, slots=True)
class Shadow:
    """What a landing of everything would come to: who fits together, and what breaks.

    `fits` is what git and the gates say; `logic` has what does not work together in spite of that, by the code.
    """

    target: str
    fits: tuple[str, ...]
    breaking: tuple[Breaking, ...] = ()
    runs: int = 0
    logic: tuple[Breaking, ...] = ()
