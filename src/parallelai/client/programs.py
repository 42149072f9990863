"""The programs of a plan's gates: which are not here, told before a run finds it out when the work is paid for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from parallelai.errors import Problem
from parallelai.plan.model import Plan

ENVIRONMENTS: Final = (".venv", "venv")
"""Where a project's own Python environment lies."""


def environment_with(root: Path, program: str) -> str | None:
    """The folder of the project's own environment that has a program; None where there is none.

    Whatever PATH has: another environment's program does not find what the project needs.
    """
    return next((each for each in ENVIRONMENTS if os.access(root / each / "bin" / program, os.X_OK)), None)


def absent_of_gates(plan: Plan, root: Path) -> Iterator[Problem]:
    """Say of each gate whose program is not on PATH that it cannot run, and what helps.

    What a plan's setup could install, or another PATH could have, is not judged; nor is a gate of a plan in which
    nothing lands.
    """
    if not plan.workstreams or plan.workspace.setup or "PATH" in plan.workspace.env:
        return
    landing = (gate for gate in plan.gates.landing if isinstance(gate, tuple))
    for argv in dict.fromkeys((*landing, *(argv for phase in plan.phases for argv in phase.gate))):
        program = argv[0]
        if "/" in program or shutil.which(program) is not None:
            continue
        said = f"gate `{' '.join(argv)}` could not be run: `{program}` was not found on PATH"
        own = environment_with(root, program)
        how = f"install `{program}`, or give its full path"
        if own is not None:
            how = f"`{own}/bin/{program}` is here: name that, and add `workspace: {{link: [{own}]}}` to the plan"
        yield Problem(said, next=how)
