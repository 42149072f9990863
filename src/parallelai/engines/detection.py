"""The servers that may be on this machine, and one small real question to an engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

from parallelai.engines.conformance import CollectingPort
from parallelai.engines.protocol import Engine, Request
from parallelai.errors import Internal, ParallelAIError, TimedOut
from parallelai.processes.temporary import temporary_folder
from parallelai.records import FilePart, Reply

PROBE_SECONDS = 120.0
"""How long `probe` waits for an answer."""


LOCAL_SERVERS = ("ollama", "vllm", "llamacpp", "lmstudio")
"""Engines of a model server on this machine, in the order in which `auto` would take them."""


async def probe(engine: Engine, root: Path) -> Reply:
    """Ask an engine one small real question, as `engines test NAME` does.

    An engine that gives findings only looks at one small file in a folder of its own; any other works in
    `root`, an absolute folder. Raises the engine's `EngineError`; anything else it raised becomes `Internal`.
    """
    with temporary_folder("probe") as folder:
        request = _small_request(engine, root, folder)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await engine.perform(request, CollectingPort())
        except TimeoutError:
            raise TimedOut(f"engine `{engine.name}` gave no answer in {PROBE_SECONDS:.0f} s") from None
        except ParallelAIError:
            raise
        except Exception as error:  # an engine of somebody else: whatever it raises is its fault, not ours
            raise Internal(f"engine `{engine.name}` failed: {type(error).__name__}: {error}") from error


def _small_request(engine: Engine, root: Path, folder: Path) -> Request:
    takes_text = "text" in engine.capabilities.answers
    if not takes_text:
        (folder / "sample.py").write_text("import os\n", encoding="utf-8")
    return Request(
        run="probe",
        task="probe",
        attempt=1,
        root=str(root if takes_text else folder),
        prompt="Answer with the one word: ok",
        files=() if takes_text else (FilePart("sample.py"),),
        output="text" if takes_text else "findings",
        timeout_seconds=PROBE_SECONDS,
        idle_timeout_seconds=PROBE_SECONDS,
    )
