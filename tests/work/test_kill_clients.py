"""ParallelAI is killed, interrupted or out of time while real clients work; then the run goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from attack_support import KEY, Field, running, with_word
from work_support import git, make_repository

from clients.installing import programs
from running import run_program, start_program
from scripted import ScriptedServer, serving
from scripted.script import place

BOTH = ("codex", "claude-code")
SECONDS = 60.0


@pytest.fixture(scope="session", autouse=True)
def installed() -> Path:
    return programs()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serving() as running:
        yield running


@pytest.fixture
def field(
    request: pytest.FixtureRequest, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Field]:
    base = Path(tempfile.mkdtemp(prefix="killed-", dir="/var/tmp"))
    (base / "home").mkdir()
    monkeypatch.setenv("HOME", str(base / "home"))
    for name in ("STATE", "CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(base / "home" / f".{name.lower()}"))
    monkeypatch.setenv("TEST_CLIENT_KEY", KEY)
    make_repository(base / "checkout", {"a.py": "a = 1\n"})
    try:
        yield Field(base, server, by=getattr(request, "param", "bubblewrap"))
    finally:
        shutil.rmtree(base)


def write_plan(field: Field, seconds: int = 80) -> str:
    """A plan with one task that ends at once, and then one for each client, whose tool sleeps at its first run.

    A tool that was interrupted may be run again when the session goes on: its client forgets it.
    """
    word = f"sleeper-of-{field.base.name}"
    engines: dict[str, object] = {"quick": {"use": "command", "command": ["sh", "-c", "echo x >> once.txt"]}}
    quick = {"id": "quick", "engine": "quick", "edits": True, "description": "Be quick."}
    tasks: list[dict[str, object]] = [quick]
    # Codex goes on beside a tool that lasts longer than 10 s, unless its model says otherwise.
    waiting = {"codex": {"args": {"yield_time_ms": 30_000}}, "claude-code": {}}
    for use in BOTH:
        field.use = use
        sleep = f"bash -c 'exec -a {word} sleep 300'"
        script = f"echo begun >> {use}.txt; [ $(wc -l < {use}.txt) -gt 1 ] || {sleep}\n"
        done = {"tool": "write", "path": f"{use}-done.txt", "text": "done\n"}
        steps = (
            {"tool": "write", "path": f"{use}.sh", "text": script},
            {"tool": "shell", "command": f"bash {use}.sh", **waiting[use]},
            done,
            done,  # on a busy machine a client still hears of its tool's end, and begins this when it is ended
            {"say": "all done"},
        )
        plan = field.plan(*steps, settings={}, id=use, engine=use, timeout=seconds, depends_on=["quick"])
        engines[use] = plan["engines"]["it"]
        tasks += plan["tasks"]
    whole = {"version": 1, "engines": engines, "tasks": tasks, "limits": {"grace": 1, "parallel": 2}}
    (field.checkout / "plan.yaml").write_text(yaml.safe_dump(whole))
    git(field.checkout, "add", "-A")
    git(field.checkout, "commit", "-q", "-m", "plan")
    return word


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def asleep(word: str) -> list[psutil.Process]:
    """The tools that have come to their sleep: nothing else is called by the word."""
    return running(lambda process: process.cmdline()[:1] == [word])


def begun(field: Field) -> set[str]:
    """The clients whose tools have begun, by the first line of their script; its file lies in the folder left."""
    left = (field.home / ".cache/parallelai/workspaces").glob("*/*/*.txt")
    return {path.stem for path in left} & set(BOTH)


def interrupt(field: Field, word: str, number: int) -> int:
    """Carry the plan out, and send a signal when the tools of both clients run."""
    program = start_program(field.checkout, "execute", "plan.yaml")
    try:
        # Codex writes its script by a shell, whose command line holds the word, too, before its tool has begun.
        wait_until(lambda: len(asleep(word)) >= len(BOTH) or program.poll() is not None)
        assert program.poll() is None, program.communicate()
        program.send_signal(number)
        program.communicate(timeout=SECONDS)
        assert begun(field) == set(BOTH), "a tool that had not begun would sleep when its session goes on"
        return program.returncode
    finally:
        if program.poll() is None:
            program.kill()
            program.communicate()


def check_resumed(field: Field, word: str) -> None:
    """Go on with the run: the sessions continue, and what was done is not done again."""
    before = len(field.server.requests)
    done = run_program(field.checkout, "runs", "resume")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = json.loads(run_program(field.checkout, "runs", "show", "--json").stdout)
    changes = {task["id"]: task["change"] for task in shown["tasks"]}
    patch = (field.checkout / changes.pop("quick")["patch"]).read_text()
    assert patch.count("\n+x") == 1
    assert len(changes) == len(BOTH)
    again = field.server.requests[before:]
    for use, change in changes.items():
        assert set(change["files"]) == {f"{use}.sh", f"{use}.txt", f"{use}-done.txt"}
        # A client that was being ended may have asked as late as this: it was not told so.
        told = [request.call for request in again if "You were interrupted" in request.user_text]
        own = [place(call) for call in told if f"{use}.sh" in call.user_text]
        assert own, "its session goes on"
        assert all(results > 0 for _, results in own), "the first step is not done again"
    assert with_word(word) == []
    assert not any((field.home / ".cache/parallelai/workspaces").glob("*"))


@pytest.mark.parametrize("field", ["bubblewrap", "none"], indirect=True)
def test_killed_sessions_leave_nothing_and_go_on(field: Field) -> None:
    word = write_plan(field)
    assert interrupt(field, word, signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: with_word(word) == [])
    check_resumed(field, word)


@pytest.mark.parametrize("field", ["none"], indirect=True)
def test_interrupted_sessions_leave_nothing_and_go_on(field: Field) -> None:
    word = write_plan(field)
    assert interrupt(field, word, signal.SIGINT) in (4, 130)
    assert with_word(word) == []
    check_resumed(field, word)


def test_sessions_out_of_time_leave_nothing_and_go_on(field: Field) -> None:
    word = write_plan(field, 9)
    done = run_program(field.checkout, "execute", "plan.yaml")
    assert done.returncode == 4, done.stdout + done.stderr
    assert done.stdout.count("was not done after 9 s") == len(BOTH)
    assert with_word(word) == []
    check_resumed(field, word)


def test_nobody_else_is_ended(field: Field) -> None:
    """A later ParallelAI sweeps up what a killed one left, and nothing of another."""
    word = write_plan(field)
    other = subprocess.Popen(["bash", "-c", f"exec -a other-{word} sleep 300"], env=dict(os.environ))
    try:
        interrupt(field, word, signal.SIGKILL)
        wait_until(lambda: [p.pid for p in with_word(word)] == [other.pid])
        run_program(field.checkout, "runs", "list")
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
