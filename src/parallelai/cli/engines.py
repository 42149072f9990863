"""`parallelai engines …`."""

from __future__ import annotations

from collections.abc import Callable

import click

from parallelai.cli.shared import Shared, command, complete
from parallelai.engines.registry import EngineRow
from parallelai.errors import UsageError
from parallelai.records import Reply


@click.group()
def engines() -> None:
    """List and test who can do tasks."""


@engines.command("list")
@command
def list_(shared: Shared) -> int:
    """List the engines: what is here, what is missing, and how to get it. Starts none of them."""

    async def work() -> list[EngineRow]:
        async with shared.open() as ai:
            return await ai.engines.list()

    rows: list[EngineRow] = complete(work)
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
@click.argument("name")
@command
def test(shared: Shared, name: str) -> int:
    """Do one small real request with an engine."""

    async def work() -> tuple[Reply, float]:
        async with shared.open() as ai:
            return await ai.engines.test(name)

    reply, seconds = complete(work)
    said = reply.text or f"{len(reply.findings)} findings"
    shared.result(
        {"engine": name, "ok": True, "seconds": seconds, "text": reply.text, "findings": len(reply.findings)},
        f"`{name}` answered in {seconds:.2f} s: {said.strip()[:200]}",
    )
    return 0


def _later(name: str, instead: str) -> Callable[..., int]:
    def refuse(words: tuple[str, ...]) -> int:
        raise UsageError(f"`engines {name}` is not built yet in this version", next=instead)

    refuse.__doc__ = "A later version has it."
    return refuse


for _name, _instead in (
    ("add", "write it under `[engines.NAME]` in parallelai.toml"),
    ("conform", "`parallelai.engines.conformance.conform` checks an engine from a test"),
):
    engines.command(_name, hidden=True)(click.argument("words", nargs=-1)(_later(_name, _instead)))
