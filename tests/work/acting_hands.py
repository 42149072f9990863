"""An assistant in this process that does what a test says, one act a turn, and remembers its sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parallelai.engines.protocol import Availability, Capabilities, Estimate, Port, Request
from parallelai.records import LimitKey, Reply, Usage

Act = Callable[["Hands", Request], Any]
"""What is done in a turn; gives what is said, or None. It may be awaited."""


@dataclass
class Hands:
    """Does the next of its task's `acts` each time that it is asked; after the last one it says `done`."""

    acts: Mapping[str, Sequence[Act]]
    name: str = "hands"
    capabilities: Capabilities = field(
        default_factory=lambda: Capabilities(
            answers=frozenset({"text", "change"}), edits=True, resumes=True, works_in_folder=True
        )
    )
    told: dict[str, list[str]] = field(default_factory=dict)

    async def detect(self) -> Availability:
        return Availability(True, "here")

    def limit_key(self, request: Request) -> LimitKey:
        return LimitKey(self.name)

    def estimate(self, request: Request) -> Estimate:
        return Estimate(0, 0.0)

    async def perform(self, request: Request, port: Port) -> Reply:
        told = self.told.setdefault(request.task, [])
        told.append(request.prompt)
        acts = self.acts.get(request.task, [])
        await asyncio.sleep(0)
        said = acts[len(told) - 1](self, request) if len(told) <= len(acts) else None
        if asyncio.iscoroutine(said):
            said = await said
        return Reply(text=said or "done", usage=Usage(1, 0, 1, 0, 0.0, "free"), session=f"s-{request.task}")

    def attach(self, session: str) -> list[str] | None:
        return None

    async def aclose(self) -> None:
        return None


def writes(*pairs: tuple[str, str], says: str = "done") -> Act:
    """Write texts into files, by their paths."""

    def act(hands: Hands, request: Request) -> str:
        for path, text in pairs:
            target = Path(request.root) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return says

    return act
