"""Turns of real clients, led by the scripted model server."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from clients.installing import programs
from parallelai.engines.clients.claude_code import ClaudeCodeEngine
from parallelai.engines.clients.codex import CodexEngine
from parallelai.engines.clients.engine import ClientEngine
from parallelai.engines.conformance import CollectingPort
from parallelai.engines.context import EngineContext
from parallelai.engines.protocol import Request, UsageEvent, Workspace
from parallelai.plan.model import EngineEntry
from parallelai.records import Reply
from scripted import ScriptedServer, block

ENGINES: dict[str, type[ClientEngine]] = {"claude-code": ClaudeCodeEngine, "codex": CodexEngine}
PROGRAMS = {"claude-code": "claude", "codex": "codex"}
BOTH = tuple(ENGINES)
KEY = "sk-of-a-test"


@dataclass
class Bench:
    """A folder of its own for the turns of one test: project, workspace, temporary folder."""

    base: Path
    server: ScriptedServer
    use: str
    sandbox: str = "none"
    permissions: str = "auto"
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("work", "temporary"):
            (self.base / name).mkdir(exist_ok=True)
        if not (self.work / ".git").exists():
            subprocess.run(["git", "init", "-q", str(self.work)], check=True)

    @property
    def work(self) -> Path:
        return self.base / "work"

    def engine(self, **settings: Any) -> ClientEngine:
        """Make the engine, with its real client and the scripted server."""
        plain = {
            "use": self.use,
            "model": "m1",
            "base_url": f"{self.server.url}/v1",
            "api_key_env": "TEST_CLIENT_KEY",
            "command": [str(programs() / PROGRAMS[self.use])],
        }
        given = {
            key: value for key, value in {**plain, **self.settings, **settings}.items() if value is not None
        }
        return ENGINES[self.use](self.use, EngineEntry(**given), EngineContext(root=self.base))

    def request(
        self, *steps: dict[str, Any], edits: bool = True, say: str = "Do what is asked.", **more: Any
    ) -> Request:
        """A request whose prompt holds a script."""
        workspace = Workspace(
            edits=edits,
            temporary=str(self.base / "temporary"),
            sandbox=self.sandbox,  # type: ignore[arg-type]
            permissions=self.permissions,  # type: ignore[arg-type]
        )
        usage = more.pop("script_usage", None)
        script = block(*steps, **({"usage": usage} if usage else {}))
        plain: dict[str, Any] = {
            "run": "r-test",
            "task": "t",
            "attempt": 1,
            "root": str(self.work),
            "prompt": f"{say}\n{script}",
            "output": "change" if edits else "text",
            "workspace": workspace,
            "timeout_seconds": 60.0,
            "grace_seconds": 2.0,
        }
        return Request(**{**plain, **more})

    async def turn(self, *steps: dict[str, Any], port: CollectingPort | None = None, **more: Any) -> Reply:
        """Do one turn."""
        settings = more.pop("settings", {})
        return await self.engine(**settings).perform(self.request(*steps, **more), port or CollectingPort())


def again(request: Request, reply: Reply, prompt: str) -> Request:
    """The next turn of the same session."""
    return replace(request, session=reply.session, prompt=prompt, turn=request.turn + 1)


def used(port: CollectingPort) -> int:
    """The tokens read that a turn reported."""
    return sum(event.usage.input or 0 for event in port.events if isinstance(event, UsageEvent))


def left_behind(folder: Path) -> list[str]:
    """Processes that work in a folder, or were started with it in their arguments."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd", "status"]):
        info = process.info
        words = " ".join(info["cmdline"] or ())
        if info["status"] != psutil.STATUS_ZOMBIE and (
            str(folder) in words or (info["cwd"] or "").startswith(str(folder))
        ):
            found.append(words)
    return found
