"""Real git repositories, and engines that work in folders."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

from parallelai.engines.protocol import (
    Availability,
    Capabilities,
    Estimate,
    FinalEvent,
    Port,
    Request,
    SessionEvent,
)
from parallelai.records import FREE, LimitKey, Reply

Act = Callable[[Request, Path], str | Awaitable[str]]
WHO = (
    *("-c", "user.name=User", "-c", "user.email=user@localhost"),
    *("-c", "maintenance.auto=false"),  # or each commit starts a second git
)


def git(root: Path, *arguments: str) -> str:
    """Run git as a user would, with a name of its own."""
    done = subprocess.run(
        ["git", *WHO, *arguments],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def make_repository(root: Path, files: dict[str, str]) -> Path:
    """Make a repository with one commit."""
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


class Hands:
    """An engine that works in its folder by a function, and remembers what it was asked."""

    def __init__(self, act: Act, *, resumes: bool = True, streams: bool = False) -> None:
        self.name = "hands"
        self.capabilities = Capabilities(
            answers=frozenset({"text", "change", "findings", "schema"}),
            edits=True,
            resumes=resumes,
            streams=streams,
            works_in_folder=True,
        )
        self.requests: list[Request] = []
        self._act = act

    async def detect(self) -> Availability:
        return Availability(True, "a function")

    def limit_key(self, request: Request) -> LimitKey:
        return LimitKey(self.name)

    def estimate(self, request: Request) -> Estimate:
        return Estimate()

    async def perform(self, request: Request, port: Port) -> Reply:
        self.requests.append(request)
        session = request.session or f"session of {request.task}"
        await port.emit(SessionEvent(session))
        said = self._act(request, Path(request.root))
        text = await said if asyncio.iscoroutine(said) else said
        await port.emit(FinalEvent(True))
        return Reply(text=str(text), usage=FREE, session=session)

    def attach(self, session: str) -> list[str] | None:
        return None

    async def aclose(self) -> None:
        """Holds nothing."""
