"""Whole runs of real clients whose model tells them to attack; nothing of the user's lies in `/tmp`."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from work_support import git

from clients.installing import programs
from parallelai import AsyncParallelAI
from parallelai.events import Event
from parallelai.records import RunDocument, TaskResult
from running import PROGRAM, environment
from scripted import ScriptedServer, block

KEY = "sk-of-a-test"
PROGRAMS = {"claude-code": "claude", "codex": "codex"}
FOLDERS = {"claude-code": ".claude", "codex": ".codex"}
SETTINGS = {"claude-code": "settings.json", "codex": "config.toml"}
FREE = {
    "claude-code": ["--allowedTools", "Bash,Write,Edit"],
    "codex": ["-c", 'sandbox_mode="danger-full-access"'],
}
"""How a user takes the last reins off a client; without a sandbox of ours nothing else then holds it."""
SHELL = {"tool": "shell", "command": "bash attack.sh"}


@dataclass
class Field:
    """Where a client attacks: the user's home and checkout, and the model's server.

    `by` is `bubblewrap`, `landlock` or `none`. `events` are those of the last run.
    """

    base: Path
    server: ScriptedServer
    use: str = "codex"
    by: str = "bubblewrap"
    events: list[Event] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.base / "home"

    @property
    def checkout(self) -> Path:
        return self.base / "checkout"

    @property
    def loot(self) -> Path:
        """Where an attack leaves what it must not have written; outside of all that is a client's."""
        return self.base / "loot"

    def engine(self, **settings: Any) -> dict[str, Any]:
        """The entry of the client, with the scripted server."""
        given = {
            "use": self.use,
            "model": "m1",
            "base_url": f"{self.server.url}/v1",
            "api_key_env": "TEST_CLIENT_KEY",
            "command": [str(programs() / PROGRAMS[self.use])],
            "sandbox": "none" if self.by == "none" else "required",
        }
        if self.by == "none":
            given["args"] = FREE[self.use]
        return {**given, **settings}

    def plan(self, *steps: dict[str, Any], settings: dict[str, Any], **task: Any) -> dict[str, Any]:
        """A plan with one task that edits, whose model follows a script."""
        plain: dict[str, Any] = {
            "id": "t",
            "engine": "it",
            "edits": True,
            "retries": 0,
            "timeout": 90,
            "description": f"Do what is asked.\n{block(*steps)}",
        }
        more = {name: task.pop(name) for name in ("limits", "workspace") if name in task}
        return {
            "version": 1,
            "engines": {"it": self.engine(**settings)},
            "tasks": [{**plain, **task}],
            **more,
        }

    async def carry_out(
        self, *steps: dict[str, Any], settings: dict[str, Any] | None = None, **task: Any
    ) -> RunDocument:
        """Carry a task out in the user's checkout, with the whole of ParallelAI."""
        plan = self.plan(*steps, settings=settings or {}, **task)
        async with AsyncParallelAI(self.checkout) as ai:
            document = await ai.execute(plan)
            self.events = list(ai.runs.events())
        assert not self.server.problems
        return document

    async def attack(self, *commands: str, **more: Any) -> TaskResult:
        """Have the client write a script of these commands and run it; each whatever became of the others.

        A client's own rules look at what it is told to run, not into files. `tried.txt` is the proof that the
        script came to its end.
        """
        text = "\n".join((*commands, "echo tried > tried.txt\n"))
        steps = ({"tool": "write", "path": "attack.sh", "text": text}, SHELL, {"say": "done"})
        document = await self.carry_out(*steps, **more)
        (task,) = document.tasks
        return task


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All files below a folder, with their times; ParallelAI's own aside."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = (0, str(path.readlink()).encode())
        elif path.is_file() and not name.startswith(".parallelai/"):
            found[name] = (path.stat().st_mtime_ns, path.read_bytes())
    return found


def running(match: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """The processes of the machine that match and are alive."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and match(process):
                found.append(process)
        except psutil.Error:
            continue
    return found


def with_word(word: str) -> list[psutil.Process]:
    """The processes with a word in their command line."""
    return running(lambda process: any(word in part for part in process.cmdline()))


def refs(root: Path) -> str:
    """All that git knows of branches, stashes and settings."""
    stash = subprocess.run(["git", "stash", "list"], cwd=root, capture_output=True, text=True).stdout
    return "\n".join((git(root, "for-each-ref"), stash, git(root, "config", "--local", "--list")))


def on_terminal(root: Path, *arguments: str) -> str:
    """Run ParallelAI on a terminal, and give all that it shows there."""
    ours, its = pty.openpty()
    env = {**environment(), "NO_COLOR": "1", "TERM": "xterm", "PAGER": "cat"}
    program = subprocess.Popen(
        [*PROGRAM, *arguments], cwd=root, env=env, stdin=its, stdout=its, stderr=its, start_new_session=True
    )
    os.close(its)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # the other side was closed
        pass
    finally:
        os.close(ours)
        program.wait()
    return shown.decode(errors="replace")
