"""12 real sessions at once, of three clients, under `execute`, beside `xargs -P` with the same commands.

Both sides do the same work with the same scripted model server on this machine: write a file, run a command, say
so. An answer takes three seconds, as one of a hundred tokens does from a model that begins after one second and
writes fifty tokens a second; the figure for answers of one second stands beside it, since what ParallelAI adds
takes as long, and weighs more there. `xargs` gets a work tree for each session as a gift, and confines nothing.
Codex and Claude Code are started with the same options by both; gemini speaks its protocol under `execute`, and
prints its stream under `xargs`.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import ROOT, Figure, Options, at_most, environment, installed, left_out, table

NAME = "12 sessions of 3 clients over xargs -P"
MEMORY = "  memory taken, of what was predicted"
BAR = 1.10
ROUNDS = 3
EACH = 4
PROGRAMS = {"claude-code": "claude", "codex": "codex", "gemini": "gemini"}
MIB = 1024 * 1024
KEY = "SESSIONS_BENCH_KEY"
ANSWER_SECONDS = 3.0
QUICK_SECONDS = 1.0


@dataclass
class Times:
    """Wall seconds of each round, and the most memory of all sessions together, in bytes.

    Looking at the memory takes time of the machine, so both sides are looked at.
    """

    xargs: list[float] = field(default_factory=list)
    xargs_peaks: list[int] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)


def run(options: Options) -> list[Figure]:
    try:
        clients = _clients()
    except RuntimeError as error:
        return [left_out(NAME, str(error).splitlines()[0])]
    figures: list[Figure] = []
    for seconds, bar in ((ANSWER_SECONDS, BAR), (QUICK_SECONDS, None)):
        times = Times()
        with tempfile.TemporaryDirectory(dir="/var/tmp") as name, _server() as url:
            for number in range(min(ROUNDS, options.rounds)):
                bench = _Bench(Path(name).resolve() / str(number), clients, url, seconds)
                bench.lay()
                times.xargs.append(bench.by_xargs(times.xargs_peaks))
                times.ours.append(bench.by_execute(times.peaks))
        figures += _figures(times, bench.predicted(), seconds, bar)
    return figures


def _clients() -> Path:
    """Give the folder of the clients' programs, installed as for the tests. Raises `RuntimeError`."""
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        from clients.installing import programs

        folder: Path = programs()
        return folder
    finally:
        sys.path.remove(str(ROOT / "tests"))


@contextmanager
def _server() -> Iterator[str]:
    env = {**environment(), "PYTHONPATH": str(ROOT / "tests")}
    server = subprocess.Popen([sys.executable, "-m", "scripted"], env=env, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


class _Bench:
    """The folders of one round."""

    def __init__(self, base: Path, clients: Path, url: str, answer_seconds: float) -> None:
        self.base = base
        self.answer_seconds = answer_seconds
        self.clients = clients
        self.url = url
        self.checkout = base / "checkout"
        self.side = ""
        self.sessions = [(f"{use}-{number}", use) for number in range(EACH) for use in PROGRAMS]

    def lay(self) -> None:
        for name in ("checkout", "trees", "home", "home/.gemini"):
            (self.base / name).mkdir(parents=True)
        for number in range(200):
            (self.checkout / f"module_{number}.py").write_text(f"value = {number}\n" * 20)
        git = ["git", "-c", "user.name=u", "-c", "user.email=u@localhost"]
        subprocess.run([*git, "init", "-q"], cwd=self.checkout, check=True)
        subprocess.run([*git, "add", "-A"], cwd=self.checkout, check=True)
        subprocess.run([*git, "commit", "-q", "-m", "first"], cwd=self.checkout, check=True)
        settings = {"security": {"auth": {"selectedType": "gemini-api-key"}}, "telemetry": {"enabled": False}}
        (self.base / "home/.gemini/settings.json").write_text(json.dumps(settings))

    def environment(self) -> Mapping[str, str]:
        return {**environment(), "HOME": str(self.base / "home"), KEY: "sk-of-a-benchmark", **_xdg(self.base)}

    def prompt(self, name: str) -> str:
        pause = {"delay": self.answer_seconds}
        steps = [
            pause,
            {"tool": "write", "path": f"{name}.txt", "text": "begun\n"},
            pause,
            {"tool": "shell", "command": f"wc -l *.py >> {name}.txt"},
            pause,
            {"say": "done"},
        ]
        script = f"{self.base.name}-{self.side}-{name}"  # the server makes each script wait but once
        return f"Do what is asked.\n```script\n{json.dumps({'id': script, 'steps': steps})}\n```\n"

    # One after the other: what is measured

    def by_xargs(self, peaks: list[int]) -> float:
        """Carry all sessions out with xargs, each in a work tree that is there."""
        self.side, names = "xargs", []
        for name, use in self.sessions:
            tree = self.base / "trees" / name
            subprocess.run(["git", "worktree", "add", "-q", "--detach", tree], cwd=self.checkout, check=True)
            (self.base / f"{name}.prompt").write_text(self.prompt(name))
            words = shlex.join([str(self.clients / PROGRAMS[use]), *_arguments(use, self.url)])
            script = f"cd {shlex.quote(str(tree))} && PWD=$(pwd) exec {words}"
            (self.base / f"{name}.sh").write_text(f"{script} < ../../{name}.prompt > ../../{name}.out 2>&1\n")
            names.append(f"{name}.sh")
        env = {**self.environment(), **_variables(self.url)}
        began = time.perf_counter()
        xargs = ["xargs", "-n", "1", "-P", str(len(names)), "sh"]
        child = subprocess.Popen(xargs, cwd=self.base, env=env, stdin=subprocess.PIPE, text=True)
        with _watched(child.pid, peaks):
            child.communicate("\n".join(names))
        took = time.perf_counter() - began
        for name, _ in self.sessions:
            if not self.is_whole(self.base / "trees" / name / f"{name}.txt"):
                said = (self.base / f"{name}.out").read_text()[-1000:]
                raise RuntimeError(f"xargs ended with {child.returncode}, and `{name}` is not done: {said}")
        return took

    def by_execute(self, peaks: list[int]) -> float:
        """Carry all sessions out with ParallelAI, which makes their folders, confines and measures them."""
        self.side = "execute"
        (self.checkout / "plan.json").write_text(json.dumps(self.plan()))
        argv = [installed("parallelai"), "execute", "plan.json", "--json"]
        with tempfile.TemporaryFile() as output:
            began = time.perf_counter()
            child = subprocess.Popen(
                argv, cwd=self.checkout, env=self.environment(), stdout=output, stderr=subprocess.PIPE
            )
            with _watched(child.pid, peaks):
                _, said = child.communicate()
            took = time.perf_counter() - began
            output.seek(0)
            document = json.loads(output.read())
        wrong = [task["error"] for task in document["tasks"] if task["status"] != "ok"]
        if wrong or len(document["tasks"]) != len(self.sessions):
            raise RuntimeError(f"not all sessions are done: {wrong[:2]} {said[-500:]!r}")
        for task in document["tasks"]:
            if task["change"]["files"] != [f"{task['id']}.txt"]:
                raise RuntimeError(f"`{task['id']}` changed {task['change']['files']}")
        return took

    def plan(self) -> dict[str, Any]:
        engines = {
            use: {
                "use": use,
                "model": "m1",
                "api_key_env": KEY,
                "base_url": self.url if use == "gemini" else f"{self.url}/v1",
                "command": [
                    str(self.clients / PROGRAMS[use]),
                    *(["--acp", "--skip-trust"] * (use == "gemini")),
                ],
            }
            for use in PROGRAMS
        }
        tasks = [
            {
                "id": name,
                "engine": use,
                "edits": True,
                "retries": 0,
                "description": self.prompt(name),
            }
            for name, use in self.sessions
        ]
        return {"version": 1, "engines": engines, "tasks": tasks, "limits": {"parallel": len(tasks)}}

    @staticmethod
    def is_whole(path: Path) -> bool:
        return path.exists() and "total" in path.read_text()

    def predicted(self) -> int:
        """Give what the sessions were expected to take together at first, in bytes."""
        from parallelai.engines.acp.presets import PRESETS
        from parallelai.engines.clients.claude_code import CLIENT as CLAUDE
        from parallelai.engines.clients.codex import CLIENT as CODEX

        return EACH * (CLAUDE.memory_bytes + CODEX.memory_bytes + PRESETS["gemini"].memory_bytes)


def _arguments(use: str, url: str) -> list[str]:
    """The options that ParallelAI starts a client with, as far as they change what it does."""
    if use == "claude-code":
        argv = ["-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages"]
        argv += ["--permission-mode", "acceptEdits", "--allowedTools", "Bash", "--setting-sources", "user"]
        return [*argv, "--strict-mcp-config", "--model", "m1"]
    if use == "gemini":
        return ["-o", "stream-json", "--approval-mode", "yolo", "--skip-trust", "-m", "m1"]
    provider = f'{{name="bench",base_url="{url}/v1",env_key="{KEY}",wire_api="responses"}}'
    argv = ["exec", "--json", "--skip-git-repo-check"]
    for feature in ("plugins", "remote_plugin", "apps"):
        argv += ["--disable", feature]
    for setting in ("check_for_update_on_startup=false", 'sandbox_mode="danger-full-access"'):
        argv += ["-c", setting]
    return [
        *argv,
        "-c",
        'model_provider="bench"',
        "-c",
        f"model_providers.bench={provider}",
        "--model",
        "m1",
        "-",
    ]


def _variables(url: str) -> dict[str, str]:
    key = "sk-of-a-benchmark"
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": key,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "GEMINI_API_KEY": key,
        "GOOGLE_GEMINI_BASE_URL": url,
        "GEMINI_CLI_NO_RELAUNCH": "true",
    }


def _xdg(base: Path) -> dict[str, str]:
    return {
        f"XDG_{name}_HOME": str(base / "home" / f".{name.lower()}")
        for name in ("STATE", "CONFIG", "CACHE", "DATA")
    }


@contextmanager
def _watched(pid: int, peaks: list[int]) -> Iterator[None]:
    """Look at what a program's children take together; the program itself is not counted."""
    ended = threading.Event()
    peak = [0]

    def watch() -> None:
        while not ended.wait(0.5):
            peak[0] = max(peak[0], _taken(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        peaks.append(peak[0])


def _taken(pid: int) -> int:
    import psutil

    total = 0
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return 0
    for child in children:
        try:
            total += child.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def _figures(times: Times, predicted: int, seconds: float, bar: float | None) -> list[Figure]:
    xargs, ours, peak = statistics.median(times.xargs), statistics.median(times.ours), max(times.peaks)
    rows = [(f"answers of {seconds:.0f} s, median of the rounds", "seconds", "memory MiB")]
    rows += [
        ("xargs -P 12", f"{xargs:.2f}", f"{max(times.xargs_peaks) / MIB:.0f}"),
        ("execute", f"{ours:.2f}", f"{peak / MIB:.0f}"),
    ]
    rows += [("  predicted", "", f"{predicted / MIB:.0f}")]
    print(table(rows))
    print(f"  rounds: xargs {_shown(times.xargs)}, execute {_shown(times.ours)}; {os.cpu_count()} cores")
    if bar is None:
        return [Figure(f"  with answers of {seconds:.0f} s", f"{ours / xargs:.2f}×")]
    return [at_most(NAME, ours / xargs, bar, "×"), at_most(MEMORY, peak / predicted, 1.0, "×")]


def _shown(seconds: list[float]) -> str:
    return " ".join(f"{each:.2f}" for each in seconds)
