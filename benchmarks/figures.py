"""What every benchmark gives back, how it is printed, and how it measures programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line. `data` is the folder of real data, None where there is none."""

    data: Path | None = None
    rounds: int = 5
    points: int = 100


@dataclass(frozen=True)
class Figure:
    """One line of the summary. `is_met` is None for what was left out, or has no bar."""

    name: str
    measured: str
    bar: str = ""
    is_met: bool | None = None

    @property
    def verdict(self) -> str:
        return {True: "yes", False: "NO", None: "-"}[self.is_met]


def at_most(name: str, value: float, bar: float, unit: str = "", digits: int = 2) -> Figure:
    """A figure that must not be above its bar."""
    shown = f"{value:.{digits}f}{unit}"
    return Figure(name, shown, f"≤ {bar:g}{unit}", value <= bar)


def left_out(name: str, why: str) -> Figure:
    return Figure(name, f"left out: {why}")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows under a head, in columns; the first column is text, the others are numbers."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join([lines[0], "  " + "-" * (len(lines[0]) - 2), *lines[1:]])


def summary(figures: Sequence[Figure]) -> str:
    rows = [("figure", "measured", "bar", "met")]
    rows += [(one.name, one.measured, one.bar, one.verdict) for one in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  " + "-+-".join("-" * width for width in widths), *lines[1:]])


@dataclass(frozen=True)
class Ended:
    """A program that ended well. `wall` and `cpu` (user and system, of it and its children) are seconds."""

    wall: float
    cpu: float
    output: bytes


def program(argv: Sequence[str], *, cwd: Path | None = None, exits: Sequence[int] = (0,)) -> Ended:
    """Run a program, and measure it alone. Raises `RuntimeError` with its complaint on any other exit."""
    import tempfile
    import time

    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        child = subprocess.Popen(
            argv, cwd=cwd, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=errors
        )
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if child.returncode not in exits:
            complaint = errors.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"`{' '.join(argv)}` ended with {child.returncode}: {complaint}")
        return Ended(wall, usage.ru_utime + usage.ru_stime, output.read())


def child(module: str, *arguments: str) -> Any:
    """Run a benchmark's own part in a fresh process; it prints one JSON value as its last line."""
    ended = program([sys.executable, "-m", f"benchmarks.{module}", *arguments], cwd=ROOT)
    return json.loads(ended.output.decode().splitlines()[-1])


def environment() -> Mapping[str, str]:
    """Of a user's settings nothing may change what is measured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PARALLELAI_")}
    return kept | {"PYTHONPATH": str(ROOT / "src")}


def installed(name: str) -> str:
    """A program beside this interpreter."""
    return str(Path(sys.executable).parent / name)


def peak_bytes() -> int:
    """The most memory that this process had so far; not that of the one that started it."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # macOS: bytes there
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
