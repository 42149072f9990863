"""CPU time of `parallelai --help` and of `import parallelai`, beside the least that could be."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.figures import Figure, Options, at_most, installed, program, table

ROUNDS = 21
HELP_BAR = 1.5
IMPORT_BAR = 2.0

ONE_COMMAND = '''\
import click


@click.command()
@click.argument("name")
@click.option("--count", default=1, help="How often.")
def hello(name, count):
    """Greet somebody."""
    for _ in range(count):
        click.echo(f"Hello, {name}!")


if __name__ == "__main__":
    hello()
'''


def run(options: Options) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "hello.py"
        script.write_text(ONE_COMMAND)
        programs = {
            "parallelai --help": [sys.executable, installed("parallelai"), "--help"],
            "a click program --help": [sys.executable, str(script), "--help"],
            "import parallelai": [sys.executable, "-c", "import parallelai"],
            "import asyncio": [sys.executable, "-c", "import asyncio"],
            "bare Python": [sys.executable, "-c", "pass"],
        }
        took = _medians(programs)
    rows = [(f"CPU, median of {ROUNDS}", "ms")]
    print(table([*rows, *((name, f"{seconds * 1000:.1f}") for name, seconds in took.items())]))
    return [
        at_most(
            "`parallelai --help` over a click program",
            took["parallelai --help"] / took["a click program --help"],
            HELP_BAR,
            "×",
        ),
        at_most(
            "`import parallelai` over `import asyncio`",
            took["import parallelai"] / took["import asyncio"],
            IMPORT_BAR,
            "×",
        ),
    ]


def _medians(programs: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Seconds of CPU of each, taken in turns; the first round only warms the files up."""
    found: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(ROUNDS + 1):
        for name, argv in programs.items():
            cpu = program(argv).cpu
            if number:
                found[name].append(cpu)
    return {name: statistics.median(times) for name, times in found.items()}
