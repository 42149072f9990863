"""What is decided before the room of a run's workstreams opens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from parallelai.plan.model import Plan, Workstream
from parallelai.work.streams.base import Base
from parallelai.work.streams.record import Rules


class Setting(Struct, frozen=True):
    """One run's.

    Attributes:
        run: the run's id.
        plan_name: what its plan is known by.
        plan: the whole plan: config, roles and variables taken in.
        works: the workstreams that this run carries out, with their defaults taken in.
        root: the project's root; `state` its state folder, `folder` the run's below that.
        worktrees: the folder in which worktrees are made.
        target: the branch that is landed on; `base` is what it was when the run was begun, or its remote's tip.
        is_attended: somebody is there to approve.
        engine_of: who does a workstream, for its commits.
        memory_bytes: the most that one attempt may take; None is no limit.
        secrets_in: the secrets of a text.
    """

    run: str
    plan_name: str
    plan: Plan
    works: Mapping[str, Workstream]
    rules: Mapping[str, Rules]
    root: Path
    state: Path
    folder: Path
    worktrees: Path
    target: str
    base: Base
    is_attended: bool = False
    engine_of: Callable[[str], str | None] = lambda name: None
    memory_bytes: int | None = None
    secrets_in: Callable[[str], frozenset[str]] = lambda text: frozenset()
