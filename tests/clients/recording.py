"""Record what the installed clients print, for the fast tests of their readers.

    PYTHONPATH=tests:tests/engines python -m clients.recording

writes `tests/engines/streams/CLIENT-VERSION/NAME.jsonl`, with the machine's own paths taken out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from client_support import KEY, Bench

from parallelai.engines.conformance import CollectingPort
from parallelai.errors import EngineError
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


async def record(use: str, name: str, steps: tuple[dict[str, Any], ...]) -> None:
    """Record one turn of one client."""
    with tempfile.TemporaryDirectory(prefix="recording-") as folder:
        os.environ.update(HOME=f"{folder}/home", TEST_CLIENT_KEY=KEY)
        (Path(folder) / "home").mkdir()
        async with ScriptedServer() as server:
            bench = Bench(Path(folder), server, use)
            is_structured = name == "structured"
            request = bench.request(*steps, edits=not is_structured, log=f"{folder}/log")
            if is_structured:
                request = replace(request, output="schema", schema=SCHEMA)
            engine = bench.engine()
            with contextlib.suppress(EngineError):
                await engine.perform(request, CollectingPort(answer="allow_once"))
            found = await engine.detect()
            text = (
                (Path(folder) / "log")
                .read_text()
                .replace(f"{folder}/work", "/bench/repo")
                .replace(folder, "/bench")
            )
            text = text.replace(folder.replace("/", "-"), "-bench").replace(server.url, "http://127.0.0.1:1")
            text = text.replace(f"127.0.0.1:{server.port}", "127.0.0.1:1")
    target = FOLDER / f"{use}-{found.version}" / f"{name}.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(f"{line}\n" for line in text.splitlines() if _is_event(line)))


def _is_event(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


async def main() -> None:
    for use in ("claude-code", "codex"):
        for name, steps in SCRIPTS.items():
            await record(use, name, steps)


if __name__ == "__main__":
    asyncio.run(main())
