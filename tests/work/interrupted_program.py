"""Carries a task out whose engine begins an edit in a session, says so, and never ends; run by a test."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from work_support import Hands

from parallelai import AsyncParallelAI, Task
from parallelai.engines.protocol import Request


async def forever(request: Request, root: Path) -> str:
    (root / "half.txt").write_text("half\n")
    print("begun", flush=True)
    await asyncio.Event().wait()
    return ""


async def main(project: str) -> None:
    async with AsyncParallelAI(project, engines=[Hands(forever)]) as ai:
        await ai.execute(tasks=[Task(id="t", description="Write it.", engine="hands", edits=True)])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
