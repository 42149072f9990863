"""`work attach` opens the session of a real assistant: in its worktree, on a terminal, and it ends with that."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import field_repository as field
import psutil
import pytest
from field_support import KEY, clients
from repositories import Repository

from running import PROGRAM, environment, run_program
from scripted import ScriptedServer, block, serving

SECONDS = 60.0
SHOWN = {"codex": "OpenAI Codex", "claude-code": "hello there"}
"""What a client shows of a session that it opened."""
_ESCAPES = re.compile(rb"\x1b\[[0-9;?<>=]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[=>78(].?")
_ANSWERS = {b"\x1b[6n": b"\x1b[1;1R", b"\x1b[c": b"\x1b[?62;c"}
"""What a terminal says when it is asked where its cursor is, and what it is."""


@dataclass
class Terminal:
    """A program on a terminal of its own, which is led by the program."""

    pid: int
    master: int
    out: bytes = b""

    @classmethod
    def start(cls, root: Path, *arguments: str) -> Terminal:
        pid, master = pty.fork()
        if pid == 0:
            os.chdir(root)
            os.execvpe(PROGRAM[0], [*PROGRAM, *arguments], environment(TERM="xterm"))
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        return cls(pid, master)

    @property
    def screen(self) -> str:
        """All that was ever shown, without spaces: cursor moves stand for these."""
        return "".join(_ESCAPES.sub(b"", self.out).decode(errors="replace").split())

    def until(self, text: str) -> None:
        """Answer what the program asks a terminal, until it has shown something."""
        wanted, end = "".join(text.split()), time.monotonic() + SECONDS
        while wanted not in self.screen:
            assert time.monotonic() < end, self.screen[-3000:]
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    data = os.read(self.master, 65536)
                except OSError:  # its end is closed
                    raise AssertionError(f"it ended: {self.screen[-3000:]}") from None
                self.out += data
                for asked, answer in _ANSWERS.items():
                    if asked in data:
                        os.write(self.master, answer)

    def close(self) -> None:
        """Close the terminal, as a person closes a window, and wait for the program's end."""
        with contextlib.suppress(OSError):
            os.close(self.master)
        end = time.monotonic() + SECONDS
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            assert time.monotonic() < end, "it outlived its terminal"
            time.sleep(0.05)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    monkeypatch.setenv("TEST_CLIENT_KEY", KEY)
    with serving() as running:
        yield running


def below(home: Path) -> list[str]:
    """The processes that have this home."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("HOME") == str(home) and process.pid != os.getpid():
                found.append(" ".join(process.cmdline()))
    return found


def greeted(home: Path, worktree: Path) -> None:
    """What Claude Code asks a person at the first start is answered already."""
    path = home / ".claude.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known |= {"hasCompletedOnboarding": True, "theme": "dark"}
    known["projects"] = {
        str(worktree): {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
    }
    path.write_text(json.dumps(known))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("use", ["codex", "claude-code"])
def test_a_session_is_opened_in_its_worktree(
    tmp_path: Path, server: ScriptedServer, home: Path, use: str
) -> None:
    user = Repository.start(tmp_path / "project")
    user.git("config", "user.name", "Ana")
    user.git("config", "user.email", "ana@example.invalid")
    user.commit({"a.txt": "a\n"})
    steps = block(field.write("one.txt", "x\n"), {"say": "hello there"})
    stream = {"description": f"Write.\n\n{steps}", "owns": "one.txt", "engine": "it", "approve": True}
    plan = {"version": 1, "engines": {"it": clients(server, home)[use]}, "workstreams": {"one": stream}}
    (user.root / "plan.json").write_text(json.dumps(plan))
    ran = run_program(user.root, "work", "run", "plan.json")
    assert "it waits for a person's leave" in ran.stdout, ran.stdout + ran.stderr
    worktree = tmp_path / "project-worktrees" / "one"
    greeted(home, worktree)
    said = json.loads(run_program(user.root, "work", "attach", "one", "--json").stdout)
    assert said["folder"] == str(worktree)
    assert KEY not in json.dumps(said)
    refused = run_program(user.root, "work", "attach", "one", stdin=subprocess.DEVNULL)
    assert (refused.returncode, "an assistant's session needs a terminal" in refused.stderr) == (2, True)
    asked = len(server.requests)

    terminal = Terminal.start(user.root, "work", "attach", "one")
    try:
        terminal.until(SHOWN[use])
        terminal.until("project-worktrees/one")
        there = psutil.Process(terminal.pid)
        assert there.cwd() == str(worktree)
        assert said["command"][-1] in there.cmdline()
    finally:
        terminal.close()

    end = time.monotonic() + SECONDS
    while left := below(home):
        assert time.monotonic() < end, left
        time.sleep(0.05)
    assert len(server.requests) == asked, "opening it asks no model"
    assert (worktree / "one.txt").read_text() == "x\n"
