"""`parallelai engines …`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from parallelai.cli import completing
from parallelai.cli.grammar import group
from parallelai.cli.shared import Shared

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.engines.registry import EngineRow
    from parallelai.records import Reply


@group(
    later={
        "add": "write it under `[engines.NAME]` in parallelai.toml",
        "conform": "`parallelai.engines.conformance.conform` checks an engine from a test",
    }
)
def engines() -> None:
    """List and test who can do tasks."""


@engines.command("list")
def list_(shared: Shared) -> int:
    """List the engines: what is here, what is missing, and how to get it. Starts none of them."""

    async def work(ai: AsyncParallelAI) -> list[EngineRow]:
        shared.say_ignored(ai.project.ignored)
        return await ai.engines.list()

    rows = shared.call(work)
    document = {
        "engines": [
            {
                "name": row.name,
                "use": row.use,
                "state": row.state,
                "said": row.availability.said,
                "version": row.availability.version,
                "how": row.availability.how,
                "is_default": row.is_default,
            }
            for row in rows
        ]
    }
    shared.result(document, lambda: "\n".join(_line(row) for row in rows))
    return 0


def _line(row: EngineRow) -> str:
    mark = "*" if row.is_default else " "
    how = f"; {row.availability.how}" if row.availability.how and row.state != "ready" else ""
    return f"{mark} {row.name:<16} {row.state:<8} {row.availability.said}{how}"


@engines.command()
@click.argument("name", shell_complete=completing.engines)
def test(shared: Shared, name: str) -> int:
    """Do one small real request with an engine."""

    async def work(ai: AsyncParallelAI) -> tuple[Reply, float]:
        return await ai.engines.test(name)

    reply, seconds = shared.call(work)
    count = len(reply.findings)
    said = reply.text or f"{count} finding{'s' * (count != 1)} in a small file made for the test"
    shared.result(
        {"engine": name, "ok": True, "seconds": seconds, "text": reply.text, "findings": count},
        f"`{name}` answered in {seconds:.2f} s: {said.strip()[:200]}",
    )
    return 0
