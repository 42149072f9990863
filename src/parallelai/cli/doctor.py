"""`parallelai doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from parallelai.cli.grammar import command
from parallelai.cli.shared import Shared
from parallelai.errors import ConfigError

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.client.setup import Checkup


@command()
@click.option("--repair", "is_repair", is_flag=True, help="Rebuild what can be rebuilt from the journal.")
def doctor(shared: Shared, is_repair: bool) -> int:
    """Check this installation and this project; exit 4 if something is wrong."""
    from parallelai.client import setup

    async def work(ai: AsyncParallelAI) -> list[Checkup]:
        if is_repair:
            for line in setup.repair(ai.project):
                shared.say(line)
        return await setup.check_up(ai.project)

    try:
        found = shared.call(work)
    except ConfigError as error:
        if error.where is None:  # not what a file says, but which folder was named
            raise
        found = setup.check_up_without(error)
    shared.result({"checks": found}, lambda: "\n".join(_line(check) for check in found))
    return 4 if any(check.state == "wrong" for check in found) else 0


def _line(check: Checkup) -> str:
    advice = f"; {check.next}" if check.next else ""
    return f"{check.state:<6} {check.what:<18} {check.said}{advice}"
