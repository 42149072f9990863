"""`parallelai engines …`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from parallelai.cli import completing
from parallelai.cli.grammar import group
from parallelai.cli.shared import Shared

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.client.adding import Added
    from parallelai.engines.conformance import Verdict
    from parallelai.engines.registry import EngineRow
    from parallelai.records import Reply


@group()
def engines() -> None:
    """List, add and test who can do tasks."""


@engines.command("list")
def list_(shared: Shared) -> int:
    """List the engines: what is here, what is missing, and how to get it. Starts none of them.

    The one with a * is taken where nobody named another, and none may be taken without asking you.
    """

    async def work(ai: AsyncParallelAI) -> list[EngineRow]:
        shared.say_ignored(ai.project)
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
    told = ": " if row.availability.needs_entry else "; "
    how = f"{told}{row.availability.how}" if row.availability.how and row.state != "ready" else ""
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


@engines.command()
@click.argument("name")
@click.argument("command", nargs=-1, required=True)
def add(shared: Shared, name: str, command: tuple[str, ...]) -> int:
    """Add an agent that speaks the Agent Client Protocol: `engines add NAME -- COMMAND…`."""

    async def work(ai: AsyncParallelAI) -> Added:
        return await ai.engines.add(name, command)

    added = shared.call(work)
    shared.result(
        {"engine": added.name, "file": str(added.file), "use": "acp", "command": list(command)},
        f"wrote to {added.file}:\n\n{added.text}\ntry it with `parallelai engines test {added.name}`",
    )
    return 0


@engines.command()
@click.argument("name", shell_complete=completing.engines)
def conform(shared: Shared, name: str) -> int:
    """Prove that an engine does all that engines must, by some twenty small real requests."""

    async def work(ai: AsyncParallelAI) -> tuple[Verdict, ...]:
        return await ai.engines.conform(name)

    verdicts = shared.call(work)
    failed = sum(not verdict.ok for verdict in verdicts)
    document = {
        "engine": name,
        "ok": not failed,
        "checks": [{"check": one.check, "ok": one.ok, "said": one.said or None} for one in verdicts],
    }
    shared.result(document, lambda: "\n".join([*map(_verdict, verdicts), "", _summary(name, verdicts)]))
    return 4 if failed else 0


def _verdict(verdict: Verdict) -> str:
    said = f": {' '.join(verdict.said.split())}" if verdict.said else ""
    return f"{'ok    ' if verdict.ok else 'FAILED'} {verdict.check}{said}"


def _summary(name: str, verdicts: tuple[Verdict, ...]) -> str:
    failed = sum(not verdict.ok for verdict in verdicts)
    return f"`{name}` conforms" if not failed else f"`{name}` fails {failed} of {len(verdicts)} checks"
