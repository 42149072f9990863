"""`parallelai init`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from parallelai.cli.grammar import command
from parallelai.cli.shared import Shared

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.client.setup import Made


@command()
@click.option("--force", "is_forced", is_flag=True, help="Overwrite what is there.")
def init(shared: Shared, is_forced: bool) -> int:
    """Write a commented config and a first plan for this project."""
    from parallelai.client import setup

    async def work(ai: AsyncParallelAI) -> tuple[Made, Path]:
        return await setup.init(ai.project, is_forced=is_forced), ai.project.root

    made, root = shared.call(work)
    shared.result(made, lambda: "\n".join(_lines(made, root)))
    return 0


def _lines(made: Made, root: Path) -> list[str]:
    def here(name: str) -> str:
        return os.path.relpath(root / name)

    found = [f"{name} ({count} file{'s' * (count != 1)})" for name, count in made.languages]
    return [
        f"found: {', '.join(found) or 'no language that it knows'}",
        f"engines ready: {', '.join(made.engines)}",
        *(f"written: {here(name)}" for name in made.files),
        f"next: `parallelai review`, then `parallelai execute {here(made.plan)}`",
    ]
