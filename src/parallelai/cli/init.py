"""`parallelai init`."""

from __future__ import annotations

import click

from parallelai.cli.grammar import command
from parallelai.cli.shared import Shared
from parallelai.client import AsyncParallelAI, setup


@command()
@click.option("--force", "is_forced", is_flag=True, help="Overwrite what is there.")
def init(shared: Shared, is_forced: bool) -> int:
    """Write a commented config and a first plan for this project."""

    async def work(ai: AsyncParallelAI) -> setup.Made:
        return await setup.init(ai.project, is_forced=is_forced)

    made: setup.Made = shared.call(work)
    languages = ", ".join(f"{name} ({count} files)" for name, count in made.languages) or "no known language"
    lines = [
        f"found: {languages}",
        f"engines ready: {', '.join(made.engines)}",
        *(f"written: {file}" for file in made.files),
        "next: `parallelai review`, then `parallelai execute parallelai.yaml`",
    ]
    shared.result(made, "\n".join(lines))
    return 0
