"""What is on this machine: the names that are registered, and how to get what is missing.

Everything here looks at files and the PATH only. No client is started and no server is asked.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from parallelai.engines.conformance import CollectingPort
from parallelai.engines.protocol import Availability, Engine, Request
from parallelai.errors import Internal, ParallelAIError, TimedOut
from parallelai.processes import find
from parallelai.records import FilePart, Reply

PROBE_SECONDS = 120.0
"""How long `probe` waits for an answer."""


@dataclass(frozen=True, slots=True)
class Known:
    """A registered engine that this version cannot drive yet.

    `programs` are the names that it may have on the PATH; `variables` name an environment variable that holds
    its key; `how` is the exact way to install it, as far as one is known to work.
    """

    programs: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    how: str | None = None


# Packages and versions are those that were seen to work. A name that nobody checked is not written here:
# look-alikes exist (the `goose-ai` of PyPI is not goose).
KNOWN: Mapping[str, Known] = {
    "openai": Known(variables=("OPENAI_API_KEY",), how="set OPENAI_API_KEY"),
    "anthropic": Known(variables=("ANTHROPIC_API_KEY",), how="set ANTHROPIC_API_KEY"),
    "ollama": Known(("ollama",)),
    "vllm": Known(("vllm",)),
    "llamacpp": Known(("llama-server",)),
    "lmstudio": Known(("lms",)),
    "perplexity": Known(),
    "openrouter": Known(),
    "azure": Known(),
    "claude-code": Known(("claude",), how="npm install -g @anthropic-ai/claude-code@2.1.329"),
    "codex": Known(("codex",), how="npm install -g @openai/codex@0.169.0"),
}
"""What CONTRACTS §7 registers beside the embedded engines."""

LOCAL_SERVERS = ("ollama", "vllm", "llamacpp", "lmstudio")
"""Engines of a model server on this machine, in the order in which `auto` would take them."""

ELSEWHERE = "install it as its own documentation says"

INSTEAD = "use `analyzers`, `mock`, or a `command` engine that runs it"
"""What to do where a registered engine is not driven yet."""


def look_for(name: str, env: Mapping[str, str] | None = None) -> Availability:
    """Say what of the registered engine `name` is here. Never available: this version cannot drive it.

    Raises `KeyError` for a name that is not in `KNOWN`. Values of variables are not looked at or shown.
    """
    known, env = KNOWN[name], os.environ if env is None else env
    for program in known.programs:
        if path := find(program, env.get("PATH")):
            return Availability(
                False, f"`{program}` found; this version cannot drive it yet", path=path, how=INSTEAD
            )
    for variable in known.variables:
        if env.get(variable):
            said = f"`{variable}` is set; this version cannot use it yet"
            return Availability(False, said, how=INSTEAD)
    missing = " or ".join(f"`{item}`" for item in known.programs)
    said = (
        f"{missing} not found; not built yet in this version" if missing else "not built yet in this version"
    )
    return Availability(False, said, how=(known.how or ELSEWHERE) if known.programs else known.how)


def is_found(name: str, availability: Availability, env: Mapping[str, str] | None = None) -> bool:
    """Say whether something of `name` is on this machine, although it cannot be used yet."""
    env = os.environ if env is None else env
    known = KNOWN.get(name, Known())
    return availability.path is not None or any(env.get(variable) for variable in known.variables)


async def probe(engine: Engine, root: Path) -> Reply:
    """Ask an engine one small real question, as `engines test NAME` does.

    An engine that gives findings only looks at one small file in a folder of its own; any other works in
    `root`, an absolute folder. Raises the engine's `EngineError`; anything else it raised becomes `Internal`.
    """
    with tempfile.TemporaryDirectory(prefix="parallelai-probe-") as folder:
        request = _small_request(engine, root, Path(folder))
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
