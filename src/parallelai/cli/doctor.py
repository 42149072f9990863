"""`parallelai doctor`."""

from __future__ import annotations

import click

from parallelai.cli.shared import Shared, command, complete
from parallelai.client import setup


@click.command()
@click.option("--repair", "is_repair", is_flag=True, help="Rebuild what can be rebuilt from the journal.")
@command
def doctor(shared: Shared, is_repair: bool) -> int:
    """Check this installation and this project; exit 4 if something is wrong."""

    async def work() -> list[setup.Checkup]:
        async with shared.open() as ai:
            if is_repair:
                for line in setup.repair(ai.project):
                    shared.say(line)
            return await setup.check_up(ai.project)

    found: list[setup.Checkup] = complete(work)
    shared.result({"checks": found}, lambda: "\n".join(_line(check) for check in found))
    return 4 if any(check.state == "wrong" for check in found) else 0


def _line(check: setup.Checkup) -> str:
    advice = f"; {check.next}" if check.next else ""
    return f"{check.state:<6} {check.what:<18} {check.said}{advice}"
