"""`python -m benchmarks.peers`: the work of `benchmarks http`, beside inspect_ai, promptfoo and pydantic-ai.

They are installed into `build/peers`, a folder of their own, by pip and npm, the first time; what cannot be
installed is left out and named. It has no bars, and is no part of CI: other people's programs change.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.figures import HERE, ROOT, Ended, child, program, table
from benchmarks.http import AT_ONCE, LATENCY_SECONDS, Server
from benchmarks.peer_programs import prompt

PLACE = ROOT / "build" / "peers"
PYTHON = PLACE / "python" / "bin" / "python"
NODE = PLACE / "node"
PROMPTFOO = NODE / "node_modules" / ".bin" / "promptfoo"
COUNT = 1000
IN_PYTHON: Mapping[str, str] = {"inspect_ai": "inspect_ai", "pydantic_ai": "pydantic-ai-slim[openai]"}


def main() -> int:
    installed = [name for name, package in IN_PYTHON.items() if _has_python(name, package)]
    if _has_promptfoo():
        installed.append("promptfoo")
    server = Server()
    try:
        rows = [row for name in ("bare", "openai", *installed) if (row := _row(name, server)) is not None]
    finally:
        server.close()
    ours = next(row for row in rows if row[0] == "openai")
    head = (f"{COUNT:,} calls of 200 ms, 100 at once", "seconds", "of the ideal", "CPU ms", "connections")
    shown = [("parallelai" if row[0] == "openai" else row[0], *row[1:]) for row in rows]
    print(table([head, *shown]))
    for name, seconds, *_ in rows:
        if name not in ("bare", "openai"):
            print(f"  {name} took {float(seconds) / float(ours[1]):.1f}× the time of parallelai")
    return 0


def _row(name: str, server: Server) -> tuple[str, str, str, str, str] | None:
    print(f"  {name} …", flush=True)
    try:
        cpu = _measured(name, server.port)
    except RuntimeError as failure:
        print(f"  {name} is left out: {failure}")
        server.seen()
        return None
    seen = server.seen()
    ideal = COUNT / AT_ONCE * LATENCY_SECONDS
    ratio = seen["seconds"] / ideal
    note = "" if seen["requests"] == COUNT else f" ({seen['requests']} requests)"
    shown = f"{cpu * 1000 / COUNT:.2f}"
    return name, f"{seen['seconds']:.3f}", f"{ratio:.3f}", shown, f"{seen['connections']}{note}"


def _measured(name: str, port: int) -> float:
    """Do the work; seconds of CPU, its start included where that is a part of the program."""
    if name in ("bare", "openai"):
        found: dict[str, float] = child("http", name, str(COUNT), str(port))
        return found["cpu"]
    with tempfile.TemporaryDirectory() as folder:
        if name == "promptfoo":
            return _promptfoo(Path(folder), port).cpu
        given = [name, str(port), str(COUNT), str(AT_ONCE), folder]
        ended = program([str(PYTHON), "-P", str(HERE / "peer_programs.py"), *given], cwd=Path(folder))
        used: dict[str, float] = json.loads(ended.output.decode().splitlines()[-1])
        return used["cpu"]


def _promptfoo(folder: Path, port: int) -> Ended:
    provider = {
        "id": "openai:chat:small",
        "config": {"apiBaseUrl": f"http://127.0.0.1:{port}/v1", "apiKey": "none"},
    }
    tests = [{"vars": {"prompt": prompt(number)}} for number in range(COUNT)]
    config = folder / "promptfooconfig.json"
    config.write_text(json.dumps({"prompts": ["{{prompt}}"], "providers": [provider], "tests": tests}))
    settings = {
        "PROMPTFOO_CONFIG_DIR": str(folder / "state"),
        "PROMPTFOO_DISABLE_TELEMETRY": "1",
        "PROMPTFOO_DISABLE_UPDATE": "1",
        "PROMPTFOO_DISABLE_REMOTE_GENERATION": "1",
    }
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        argv = [str(PROMPTFOO), "eval", "-c", str(config), "-j", str(AT_ONCE), "--no-cache", "--no-table"]
        return program([*argv, "--no-progress-bar", "-o", str(folder / "out.json")], cwd=folder)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _has_python(module: str, package: str) -> bool:
    if not PYTHON.exists() and not _installs(module, [sys.executable, "-m", "venv", str(PYTHON.parents[1])]):
        return False
    asked = subprocess.run([str(PYTHON), "-c", f"import {module}"], capture_output=True, check=False)
    if asked.returncode == 0:
        return True
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
    return _installs(module, pip)


def _has_promptfoo() -> bool:
    if PROMPTFOO.exists():
        return True
    npm = shutil.which("npm")
    if npm is None:
        print("  promptfoo is left out: there is no npm")
        return False
    NODE.mkdir(parents=True, exist_ok=True)
    return _installs(
        "promptfoo", [npm, "install", "--prefix", str(NODE), "--no-audit", "--no-fund", "promptfoo"]
    )


def _installs(name: str, argv: Sequence[str]) -> bool:
    print(f"  installing {name} …", flush=True)
    try:
        subprocess.run(argv, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        print(f"  {name} is left out: {said[-1] if said else 'it cannot be installed'}")
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
