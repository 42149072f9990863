"""`parallelai trust`."""

from __future__ import annotations

import click

from parallelai.cli.grammar import command
from parallelai.cli.shared import Shared
from parallelai.client import AsyncParallelAI, setup


@command()
@click.option("--revoke", "is_revoked", is_flag=True, help="Take trust back.")
def trust(shared: Shared, is_revoked: bool) -> int:
    """Let what this project's config names run, until the config changes."""

    async def work(ai: AsyncParallelAI) -> tuple[str, str]:
        if is_revoked:
            setup.untrust(ai.project)
            return str(ai.project.root), ""
        return str(ai.project.root), setup.trust(ai.project)

    root, digest = shared.call(work)
    said = f"trusted: {root}, as its config is now" if digest else f"not trusted any more: {root}"
    shared.result({"project": root, "digest": digest or None}, said)
    return 0
