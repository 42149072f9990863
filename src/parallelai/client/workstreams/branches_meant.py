"""Branches that no plan made: which of them patterns name, and what is to land of each."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence

from parallelai.client.workstreams.logic_notes import Logic
from parallelai.errors import NotFoundError, UsageError
from parallelai.git.repository import Repository
from parallelai.work.landing.records import Candidate
from parallelai.work.streams.base import LANDING
from parallelai.work.streams.registry import Streams


async def branches_meant(
    repository: Repository, patterns: Sequence[str], target: str
) -> list[tuple[str, str]]:
    """Names and tips of the local branches that patterns name, but the target.

    Raises `NotFoundError` where there is none, or none of a name without a `*`, and `UsageError` where
    one is the target.
    """
    listed = await repository.git.line("for-each-ref", "--format=%(refname)%00%(objectname)", "refs/heads/")
    rows = [line.removeprefix("refs/heads/").split("\0") for line in listed.split("\n") if line]
    known = {name: commit for name, commit in rows if not name.startswith(LANDING)}
    if target in patterns:
        other = "name other branches, or say `--target` where they are to land on another one"
        raise UsageError(f"`{target}` is the target itself", next=other)
    unknown = [one for one in patterns if one not in known and not any(sign in one for sign in "*?[")]
    found = [
        (name, commit)
        for name, commit in known.items()
        if name != target
        and any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]
    if unknown or not found:
        shown = ", ".join(f"`{pattern}`" for pattern in unknown or patterns)
        raise NotFoundError(f"no branch is named by {shown}", next="`git branch` lists them")
    return found


async def candidates_of(
    repository: Repository, tip: str, found: Sequence[tuple[str, str]], run: str
) -> list[Candidate]:
    """Branches, by name and tip, as they are to land in a run on a target at a commit."""
    candidates = []
    for name, commit in found:
        base = await repository.git.attempt("merge-base", tip, commit)
        intent = await repository.git.line("log", "-1", "--format=%s", commit)
        parted = os.fsdecode(base.stdout).strip() or tip
        trailers = {"ParallelAI-Run": run, "ParallelAI-Task": name}
        candidates.append(Candidate(name, commit, parted, name, intent, trailers=trailers))
    return candidates


def beside_plans(streams: Streams, candidates: Sequence[Candidate]) -> list[Logic]:
    """Tell what is known of branches, and which are a workstream's in work.

    Its plan's gates, and the leave that it asks for, are not asked.
    """
    of = {each.branch: each for each in streams.open()}
    noted = [Logic((each.name, each.name), note) for each in candidates for note in each.notes]
    return noted + [
        Logic(
            (each.name, each.name),
            f"`{each.name}` is workstream `{of[each.branch].name}` of {of[each.branch].plan}, whose gates, and leave,"
            f" do not count here: `parallelai work land {of[each.branch].name}` lands it by them",
        )
        for each in candidates
        if each.branch in of
    ]
