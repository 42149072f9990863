"""Commands in a workspace: setup and checks run code that assistants wrote, and are confined as they are."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from parallelai import processes
from parallelai.engines.confining import confinement
from parallelai.engines.own_folders import installation
from parallelai.engines.protocol import Request, Workspace
from parallelai.errors import CheckFailed, EngineError, Internal, ParallelAIError, TimedOut

LAST_LINES = 30
LAST_CHARS = 4000


class Command(Struct, frozen=True):
    """A command to run in a workspace. `what` is how errors call it: `check`, `setup`.

    `root` is the folder from which errors tell the path of its log; None: they tell the whole path.
    """

    what: str
    argv: tuple[str, ...]
    seconds: float
    grace_seconds: float
    run: str
    log: Path
    root: Path | None = None


def is_confined(workspace: Workspace) -> bool:
    """Whether programs in a workspace are confined on this machine."""
    return workspace.sandbox != "none" and bool(processes.confinements())


async def complete(
    root: str, workspace: Workspace, env: Mapping[str, str], command: Command
) -> processes.Completed:
    """Run a command in a workspace, confined as an assistant would be, until it ends or its time is over.

    Tools that cannot do without a cache (go) have one in its temporary folder: the user's cannot be written.
    Raises `EngineError` where it cannot be confined as asked, `ProgramError` where it cannot be started,
    and OSError where its log cannot be written.
    """
    request = Request(command.run, command.what, 0, root, "", workspace=workspace)
    command.log.parent.mkdir(parents=True, exist_ok=True)
    readable = tuple(installation(command.argv[0], env.get("PATH")))
    caches = {"XDG_CACHE_HOME": f"{workspace.temporary}/cache"} if is_confined(workspace) else {}
    return await processes.run(
        processes.Program(
            argv=command.argv,
            cwd=Path(root),
            env={**caches, **env, "TMPDIR": workspace.temporary},
            timeout_seconds=command.seconds,
            grace_seconds=command.grace_seconds,
            log=command.log,
            run=command.run,
            label=f"{command.what} `{shlex.join(command.argv)}`",
            confinement=confinement(request, readable=readable),
            memory_bytes=workspace.memory_bytes,
        )
    )


async def run_in(
    root: str, workspace: Workspace, env: dict[str, str], command: Command
) -> EngineError | None:
    """Run a command in a workspace, and give why it failed; None if it passed."""
    shown = shlex.join(command.argv)
    try:
        completed = await complete(root, workspace, env, command)
    except EngineError as error:
        return error
    except (ParallelAIError, OSError) as error:
        return Internal(f"{command.what} `{shown}` could not be run: {error}")
    if completed.ended_by is not None:
        return TimedOut(f"{command.what} `{shown}` was not done after {command.seconds:g} s")
    if completed.exit == 0:
        return None
    end = f"exit {completed.exit}" if completed.exit is not None else f"signal {completed.signal}"
    said = last_lines(completed.stdout, completed.stderr)
    log = command.log if command.root is None else os.path.relpath(command.log, command.root)
    return CheckFailed(
        ": ".join(filter(None, (f"{command.what} `{shown}` failed ({end})", said))), next=f"see `{log}`"
    )


def last_lines(*outputs: bytes) -> str:
    """The end of what a command printed: test runners print to stdout, compilers to stderr."""
    texts = [output.decode(errors="replace").strip() for output in outputs]
    lines = "\n".join(text for text in texts if text).splitlines()[-LAST_LINES:]
    return "\n".join(lines)[-LAST_CHARS:]
