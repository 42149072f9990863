"""`parallelai trust`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from parallelai.cli.grammar import command
from parallelai.cli.shared import Shared

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI


@command()
@click.option("--revoke", "is_revoked", is_flag=True, help="Take trust back.")
def trust(shared: Shared, is_revoked: bool) -> int:
    """Let what this project's config names run, until the config changes."""
    from parallelai.client import setup

    async def work(ai: AsyncParallelAI) -> tuple[str, str | None, tuple[str, ...]]:
        root = str(ai.project.root)
        if is_revoked:
            setup.untrust(ai.project)
            return root, None, ()
        gained = ai.project.ignored  # what does not hold yet
        return root, setup.trust(ai.project), gained

    root, digest, gained = shared.call(work)
    said = f"trusted: {root}, as its config is now" if digest else f"not trusted any more: {root}"
    lines = [said, *(f"  now holds: {key}" for key in gained)]
    shared.result({"project": root, "digest": digest, "now_holds": list(gained)}, "\n".join(lines))
    return 0
