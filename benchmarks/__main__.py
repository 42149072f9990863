"""`python -m benchmarks [names…] [--data DIR]`: measure, print a table each, and one that sums up."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

from benchmarks.figures import Figure, Options, summary

NAMES = {
    "overhead": "what a journaled task costs",
    "memory": "memory for 10,000 tasks",
    "calls": "1,000 calls of 200 ms, 100 at once",
    "http": "1,000 and 5,000 calls of a model server, 100 at once",
    "startup": "starting, and importing",
    "dags": "makespan of real workflows",
    "ratelimit": "the limiter in the simulator of a provider",
    "review": "a review of a large public project",
    "confinement": "what a confined launch costs",
    "scratch": "20 scratch folders of 2,000 files",
    "resume": "going on after `kill -9`",
    "sessions": "12 real assistants at once, beside `xargs -P`",
    "landing": "12 workstreams by real Codex landed, beside `xargs -P4` and `git merge`",
    "matrix": "conflicts between 50 branches",
    "reviews": "what several reviewers say of the same matter",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure what DESIGN promises.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--data", type=Path, help="the folder of real data (or PARALLELAI_BENCH_DATA)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each side is measured")
    parser.add_argument("--points", type=int, default=100, help="how often a run is killed")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark `{unknown[0]}`; there are {', '.join(NAMES)}")
    given = os.environ.get("PARALLELAI_BENCH_DATA")
    data = asked.data or (Path(given) if given else None)
    options = Options(data, max(asked.rounds, 1), max(asked.points, 1))
    figures = [figure for name in asked.names or NAMES for figure in measure(name, options)]
    print("Summary")
    print(summary(figures))
    return 0 if all(figure.is_met is not False for figure in figures) else 1


def measure(name: str, options: Options) -> list[Figure]:
    """Run one benchmark; one that cannot be run is told of, and does not end the others."""
    print(f"{name}: {NAMES[name]}", flush=True)
    began = time.perf_counter()
    try:
        found: list[Figure] = importlib.import_module(f"benchmarks.{name}").run(options)
    except Exception as failure:
        print(f"  failed: {failure}")
        found = [Figure(name, f"failed: {type(failure).__name__}", "", False)]
    for figure in found:
        if figure.is_met is None and figure.measured.startswith("left out"):
            print(f"  {figure.measured}")
    print(f"  ({time.perf_counter() - began:.0f} s)\n", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
