"""Workstreams that could change nothing: all that they own takes a person's leave first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from parallelai.errors import Problem
from parallelai.plan.files import Matcher
from parallelai.plan.model import Plan, Workstream, positions
from parallelai.plan.ownership import overlap
from parallelai.plan.values import shown

if TYPE_CHECKING:
    from parallelai.work.guard.rules import Permits, Why


def only_by_leave(plan: Plan, name: str, root: Path, paths: Iterable[str]) -> Iterator[Problem]:
    """Name the workstreams of a plan, with its roles, whose every file is protected or avoided, also those to come."""
    if not plan.workstreams:
        return
    from parallelai.work.guard.facts import plan_below
    from parallelai.work.guard.rules import Permits
    from parallelai.work.guard.words import gives_leave
    from parallelai.work.streams.rules import rules_in

    where, plan_file = positions(plan), plan_below(root, name)
    for index, work in enumerate(plan.workstreams):
        permits = Permits(rules_in(plan, work.id), plan_file=plan_file)
        owns = Matcher(work.owns)
        found = _refused(permits, chain(filter(owns.selects, paths), _examples(work)))
        if found is not None:
            line, column = where.of("workstreams", index, "owns") or (None, None)
            path, why = found
            said = f"the workstream `{work.id}` may change nothing that it owns: {shown(path)} is {why}"
            lease = f"`{gives_leave(work.id, [path])}` gives leave once it is started"
            yield Problem(said, where.file, line, column, f"let it own something else; {lease}")


def _refused(permits: Permits, paths: Iterable[str]) -> tuple[str, Why] | None:
    """The first of some paths, and why only a person gives leave, where that holds for all of them."""
    first = None
    for path in paths:
        why = permits.by_person(path)
        if why is None:
            return None
        first = first or (path, why)
    return first


def _examples(work: Workstream) -> Iterator[str]:
    """A path that each of its patterns means, whether it is there or not."""
    for pattern in work.owns:
        example = None if pattern.startswith("!") else overlap([pattern], work.owns).possible
        if example is not None:
            yield example
