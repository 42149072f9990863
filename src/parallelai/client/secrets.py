"""What is masked: what engines and commands are given, and nobody else should see."""

from __future__ import annotations

import os
from collections.abc import Callable

from parallelai.engines.models.servers import SERVERS
from parallelai.run.job import Job
from parallelai.run.masking import Masker


def secrets_finder() -> Callable[[str], frozenset[str]]:
    """Finds secrets in texts where no run is carried out: the usual patterns, and the usual variables' values."""
    usual = {name for server in SERVERS.values() for name in server.key_variables}
    return Masker.of_environment(dict(os.environ), usual, usual).secrets_in


def masker_of(job: Job) -> Masker:
    """Mask what the engines and commands of a job are given and nobody else should see.

    Also of engines that nobody uses yet: a task that is added may.
    """
    plan, entries = job.plan, [*job.plan.engines.values(), *job.entries.values()]
    layers = (*(work.workspace for work in plan.works), plan.defaults.workspace, plan.workspace)
    workspaces = [layer for layer in layers if layer is not None]
    given = {name: value for workspace in workspaces for name, value in workspace.env.items()}
    named = {entry.api_key_env for entry in entries if entry.api_key_env is not None}
    usual = {name for server in SERVERS.values() for name in server.key_variables}
    for entry in entries:
        given |= entry.env
    names = {*(name for each in workspaces for name in each.pass_env), *given, *named}
    return Masker.of_environment({**os.environ, **given}, names, named | usual)
