"""What completion offers for an argument: this project's runs, its engines. A failure offers nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI


def runs(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The ids of this project's runs, the newest first."""
    return _offer(ctx, incomplete, lambda ai: [state.row.id for state in ai.runs.list()])


def streams(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The workstreams that are worked on."""
    return _offer(ctx, incomplete, lambda ai: [stream.name for stream in ai.work.all()])


def engines(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The engines that code here can drive, and those that are configured."""

    def names(ai: AsyncParallelAI) -> Iterable[str]:
        registry = ai.project.registry()
        return sorted(registry.driven | registry.configured)

    return _offer(ctx, incomplete, names)


def formats(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The output formats that are installed."""
    from parallelai.results.formats import names

    return [name for name in names() if name.startswith(incomplete)]


def _offer(
    ctx: click.Context, incomplete: str, names: Callable[[AsyncParallelAI], Iterable[str]]
) -> list[str]:
    from parallelai.cli.shared import Shared

    contexts = (ctx, *_parents(ctx))
    project = next((c.params["project"] for c in contexts if c.params.get("project")), None)
    try:
        found = list(Shared(project=project, is_quiet=True).read(names))
    except Exception:  # whatever is wrong here, the shell's line must stay as it is
        return []
    return [name for name in found if name.startswith(incomplete)]


def _parents(ctx: click.Context) -> Iterable[click.Context]:
    while ctx.parent is not None:
        ctx = ctx.parent
        yield ctx
