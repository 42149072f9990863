"""`parallelai doctor`."""

from __future__ import annotations

import click

from parallelai.cli.grammar import command
from parallelai.cli.shared import Shared
from parallelai.client import AsyncParallelAI, setup


@command()
@click.option("--repair", "is_repair", is_flag=True, help="Rebuild what can be rebuilt from the journal.")
def doctor(shared: Shared, is_repair: bool) -> int:
    """Check this installation and this project; exit 4 if something is wrong."""

    async def work(ai: AsyncParallelAI) -> list[setup.Checkup]:
        if is_repair:
            for line in setup.repair(ai.project):
                shared.say(line)
        return await setup.check_up(ai.project)

    found: list[setup.Checkup] = shared.call(work)
    shared.result({"checks": found}, lambda: "\n".join(_line(check) for check in found))
    return 4 if any(check.state == "wrong" for check in found) else 0


def _line(check: setup.Checkup) -> str:
    advice = f"; {check.next}" if check.next else ""
    return f"{check.state:<6} {check.what:<18} {check.said}{advice}"
