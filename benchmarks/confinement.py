"""What a launch costs: bare, with Landlock, with bubblewrap, and with its bridge to one loopback port."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure, Options, at_most, child, left_out, table

LAUNCHES = 20
BRIDGE_BAR_MS = 140.0  # what an earlier bridge, two helpers a program, took more than a bare launch


def run(options: Options) -> list[Figure]:
    found: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for kind, seconds in child("confinement").items():
            found.setdefault(kind, []).extend(seconds)
    medians = {kind: statistics.median(times) * 1000 for kind, times in found.items()}
    bare = medians["bare"]
    rows = [(f"a launch of `true`, median of {LAUNCHES * options.rounds}", "ms", "of a bare one")]
    rows += [(kind, f"{ms:.1f}", f"{ms / bare:.2f}×") for kind, ms in medians.items()]
    print(table(rows))
    figures = [Figure(f"a launch with {kind}", f"+{ms - bare:.1f} ms") for kind, ms in medians.items()][1:]
    if "bridge" not in medians:
        return [*figures, left_out("a launch with the bridge", "bubblewrap does not work here")]
    return [
        *figures[:-1],
        at_most("a launch with the bridge", medians["bridge"] - bare, BRIDGE_BAR_MS, " ms", 1),
    ]


async def launches(base: Path) -> dict[str, list[float]]:
    """Launch the kinds in turns, so that a load of the machine meets them all."""
    from parallelai.processes import DEFAULT_HIDDEN, Confinement, Program, confinements, environment, run

    work, temporary = base / "work", base / "temporary"
    for folder in (work, temporary):
        folder.mkdir()
    hidden = DEFAULT_HIDDEN(Path.home())
    asked: dict[str, Confinement | None] = {"bare": None}
    for by in reversed(confinements()):
        asked[by] = Confinement((str(work),), str(temporary), hidden=hidden, network="off", by=by)
    if "bubblewrap" in asked:
        asked["bridge"] = Confinement(
            (str(work),), str(temporary), hidden=hidden, network="loopback", ports=(8765,), by="bubblewrap"
        )
    took: dict[str, list[float]] = {kind: [] for kind in asked}
    for number in range(LAUNCHES + 2):
        for kind, confinement in asked.items():
            program = Program(("true",), cwd=work, env=environment(), confinement=confinement)
            began = time.perf_counter()
            done = await run(program)
            if done.exit != 0:
                raise RuntimeError(f"{kind}: {done.stderr.decode(errors='replace')}")
            if number >= 2:  # the first ones warm up
                took[kind].append(time.perf_counter() - began)
    return took


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(launches(Path(folder)))))
