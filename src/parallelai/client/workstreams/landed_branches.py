"""What `work land --branches` has landed, read back from the journal of its runs, so that it can be taken back."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from parallelai.errors import UsageError
from parallelai.events import LandingUndone, RunCreated, TaskEnded
from parallelai.git.repository import Repository
from parallelai.store import Journal
from parallelai.work.streams.record import Landed, Rules, Stream, taken_back

KIND = "land"
"""The kind of a run that lands branches which no plan made."""
THERE = "there"
"""The stage of what the target held already, in the document of a landing: nothing of it was new."""


async def landed_branches(repository: Repository, journal: Journal) -> dict[str, Stream]:
    """Give the branches that landed without a plan, by name, each as its latest landing left it.

    They are told as workstreams without a plan and a worktree; one that was taken back since as ready to land. One
    that the target held already is not among them: no landing brought that. Nor is one whose run was deleted.
    """
    found: dict[str, tuple[Stream, bool]] = {}
    for row in journal.runs():  # the newest first
        if row.kind == KIND:
            for name, known in _of_run(journal, row.id).items():
                found.setdefault(name, known)
    there = [each.landed.commit for each, is_there in found.values() if each.landed and is_there]
    brought = await _brought(repository, there)
    return {
        name: each
        for name, (each, is_there) in found.items()
        if each.landed is None or not is_there or each.head in brought[each.landed.commit]
    }


def is_branch(stream: Stream) -> bool:
    """Whether it is a branch that landed without a plan, of which no record is kept but the journal."""
    return not stream.worktree


def gates_of(journal: Journal, run: str) -> tuple[str, ...]:
    """The gates that a landing of branches was asked to pass, as they were written."""
    for event in journal.events(run, types={RunCreated.type}):
        if isinstance(event.data, RunCreated):
            return tuple(map(str, event.data.options.get("gates", ())))
    return ()


def _of_run(journal: Journal, run: str) -> dict[str, tuple[Stream, bool]]:
    """The branches of a run by name, and of each whether the target held it already."""
    found: dict[str, tuple[Stream, bool]] = {}
    for event in journal.events(run, types={TaskEnded.type, LandingUndone.type}):
        match event.data:
            case TaskEnded(result) if event.task is not None and (result.workstream or {}).get("landed"):
                about = result.workstream or {}
                found[event.task] = _branch(event.task, run, about), about.get("stage") == THERE
            case LandingUndone() if event.task in found:
                found[event.task] = taken_back(found[event.task][0]), False
    return found


def _branch(name: str, run: str, about: Mapping[str, Any]) -> Stream:
    keys = ("target", "before", "commit", "tree", "pending")
    landed = Landed(**{key: about["landed"][key] for key in keys})
    # What a row of such a run calls its base is the tip that landed.
    tip = str(about["base"])
    return Stream(
        name, "", run, name, "", landed.before, tip, landed.target, Rules(()), state="landed", landed=landed
    )


def again(created: RunCreated) -> str:
    """The command that goes on with a landing of branches: the same as before."""
    options = created.options
    words = ["parallelai", "work", "land", "--branches", *map(str, options.get("branches", ()))]
    words += ["--target", str(options.get("target", ""))]
    words += [word for gate in options.get("gates", ()) for word in ("--gate", str(gate))]
    return shlex.join(words)


def land_again(created: RunCreated) -> UsageError:
    """The error of who goes on with a landing of branches as if it were a plan; it names the call that does."""
    return UsageError(
        "a landing of branches has no plan to go on with",
        next=f"call `{again(created)}` again; what had landed stays",
    )


async def _brought(repository: Repository, commits: Sequence[str]) -> dict[str, frozenset[str]]:
    """The tips that each of these commits landed, as its trailers say; nothing of one that is gone."""
    from parallelai.work.landing.messages import LANDS  # with all that lands: a list of runs needs none of it

    found: dict[str, frozenset[str]] = dict.fromkeys(commits, frozenset())
    if not found:
        return found
    tips = f"%H%x00%(trailers:key={LANDS},valueonly,separator=%x20)"
    listed = await repository.git.run(
        *("log", "--no-walk=unsorted", "--ignore-missing", f"--format={tips}", *found, "--")
    )
    for row in os.fsdecode(listed).splitlines():
        commit, _, landed = row.partition("\0")
        found[commit] = frozenset(landed.split())
    return found
