"""The limiter in the simulator of a model provider, beside other clients' policies.

    python -m benchmarks ratelimit --data DIR

loads `ratelimit/sim.py` of the data and drives `parallelai.run.limits` behind the simulator's five methods,
through its three scenarios, with the provider's limit headers and without. Printed: makespan over the bound,
and refusals (429) for 1,000 calls, beside the figures that `reference.json` holds of fixed limits, AIMD and
header pacing. Then the same over a grid of other limits, burst sizes and latencies, for nothing may hold in
three scenarios only.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from benchmarks.figures import Figure, Options, left_out, table
from parallelai.engines.protocol import LimitsEvent, LimitWindow
from parallelai.run.limits.key import KeyLimit, Reservation

CEILING = 200
SEEDS = 5
GRID_SEEDS = 3
GRID_CALLS = 1000
REFUSAL_SECONDS = 0.3  # the simulator's time from a call to its 429
GAP_SECONDS = 0.001  # between two calls: the simulator does not say whose answer it gives
SCENARIOS: dict[str, dict[str, Any]] = {
    "TPM-bound 4M": {"tpm": 4_000_000, "rpm": 4000},
    "RPM-bound 120": {"tpm": 40_000_000, "rpm": 120},
    "limit halves 60-300s": {"tpm": 4_000_000, "rpm": 4000, "drop": (60, 300, 0.5)},
}
OTHERS = ("static-10", "static-50", "inspect AIMD", "header-paced")
BARS = {True: (1.03, 1.0), False: (1.06, 60.0)}


class Policy:
    """`KeyLimit` behind the simulator's five methods; sees headers, and Retry-After, only if told to."""

    def __init__(self, has_headers: bool, has_retry_after: bool = True) -> None:
        self.key = KeyLimit(CEILING)
        self._has_headers = has_headers
        self._has_retry_after = has_retry_after
        self._flying: deque[tuple[float, Reservation]] = deque()
        self._last = -1.0

    def limit(self, now: float) -> int:
        return self.key.limit

    def ready(self, now: float, tokens: float) -> float:
        opens = self.key.opens(now, tokens)
        if not math.isfinite(opens):
            opens = now + 0.05  # an answer will make room, and the simulator asks again
        return max(opens, self._last + GAP_SECONDS)

    def sent(self, now: float, tokens: float) -> None:
        self._last = now
        self._flying.append((now, self.key.take(now, tokens)))

    def ok(self, now: float, header: tuple[float, float, float, float], retried: bool) -> None:
        call = self._oldest(now)
        limits = self._limits(*header) if self._has_headers else None
        self.key.settle(call, now, call.tokens, limits)
        self.key.answered(call, not retried)

    def rl(self, now: float, wait: float, attempt: int, random: Random) -> float:
        sent_at = now - REFUSAL_SECONDS
        found = min(self._flying, key=lambda one: abs(one[0] - sent_at))
        self._flying.remove(found)
        self.key.settle(found[1], now, None, None)
        self.key.refused(now, found[1], wait if self._has_retry_after else None)
        return max(now, self.key.not_before)

    def _oldest(self, now: float) -> Reservation:
        """Take the oldest call that is no refused one: the simulator does not say whose answer it gives."""
        known = [one for one in self._flying if one[0] + REFUSAL_SECONDS < now - 1e-9]
        found = known[0] if known else self._flying[0]
        self._flying.remove(found)
        return found[1]

    @staticmethod
    def _limits(requests: float, tokens: float, rpm: float, tpm: float) -> LimitsEvent:
        """What the headers say: whole numbers, and no time of reset, because the simulator knows none."""
        return LimitsEvent(
            LimitWindow(int(rpm), int(requests), None), LimitWindow(int(tpm), int(tokens), None)
        )


@dataclass(frozen=True)
class Result:
    """Makespan over the bound, and refusals for 1,000 calls."""

    ratio: float
    refused: float

    @classmethod
    def mean(cls, results: list[Result]) -> Result:
        return cls(fmean(one.ratio for one in results), fmean(one.refused for one in results))


def load(path: Path) -> Any:
    """Import the simulator from the data."""
    spec = importlib.util.spec_from_file_location("ratelimit_simulator", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"`{path}` is no module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def simulate(simulator: Any, policy: Any, calls: int, seed: int, scenario: Mapping[str, Any]) -> Result:
    seconds, bound, refused = simulator.sim(policy, n=calls, seed=seed, **scenario)
    return Result(seconds / bound, refused / calls * 1000)


def scenario(simulator: Any, has_headers: bool, has_retry_after: bool, given: Mapping[str, Any]) -> Result:
    return Result.mean(
        [
            simulate(simulator, Policy(has_headers, has_retry_after), 1500, seed, given)
            for seed in range(SEEDS)
        ]
    )


def grid() -> Iterator[tuple[int, float, str, dict[str, Any]]]:
    """Other providers: seconds of burst, a factor on latencies, a name, the scenario."""
    for burst in (3, 10, 40):
        for latency in (1.0, 0.1):
            for tpm in (400_000, 1_000_000, 8_000_000):
                yield burst, latency, f"{tpm:,} tokens", {"tpm": tpm, "rpm": 4000}
            for rpm in (60, 300):
                yield burst, latency, f"{rpm} requests", {"tpm": 400_000_000, "rpm": rpm}
            yield burst, latency, "both", {"tpm": 4_000_000, "rpm": 115}
            yield burst, latency, "a fifth 100-250s", {"tpm": 4_000_000, "rpm": 4000, "drop": (100, 250, 0.2)}


def measure_grid(simulator: Any) -> list[tuple[str, ...]]:
    """The grid: our ratio over that of the simulator's own header pacing, which knows the size of the burst."""
    rows: list[tuple[str, ...]] = [
        ("grid", "headers", "429/1k", "none", "429/1k", "header-paced", "AIMD", "429/1k")
    ]
    plain_work, plain_burst = simulator.work, simulator.BURST_S
    try:
        for burst, latency, name, given in grid():
            simulator.BURST_S = burst
            simulator.work = lambda calls, seed, by=latency: [(t, s * by) for t, s in plain_work(calls, seed)]
            sides = (
                lambda: Policy(True),
                lambda: Policy(False),
                lambda: simulator.Header(CEILING),
                simulator.Inspect,
            )
            found = [
                Result.mean(
                    [simulate(simulator, side(), GRID_CALLS, seed, given) for seed in range(GRID_SEEDS)]
                )
                for side in sides
            ]
            ours, blind, paced, aimd = found
            rows.append(
                (
                    f"{name}, burst {burst} s, latency {latency:g}×",
                    f"{ours.ratio:.3f}",
                    f"{ours.refused:.1f}",
                    f"{blind.ratio:.3f}",
                    f"{blind.refused:.1f}",
                    f"{paced.ratio:.3f}",
                    f"{aimd.ratio:.3f}",
                    f"{aimd.refused:.1f}",
                )
            )
    finally:
        simulator.work, simulator.BURST_S = plain_work, plain_burst
    return rows


def run(options: Options) -> list[Figure]:
    name = "limiter: time over the bound"
    if options.data is None:
        return [left_out(name, "no data; give `--data DIR`")]
    folder = options.data / "ratelimit"
    if not (folder / "sim.py").exists():
        return [left_out(name, f"`{folder}` holds no simulator")]
    simulator = load(folder / "sim.py")
    reference = json.loads((folder / "reference.json").read_text())
    figures: list[Figure] = []
    rows: list[tuple[str, ...]] = [("scenario", "policy", "over the bound", "429 per 1,000")]
    for which, given in SCENARIOS.items():
        for has_headers in (True, False):
            found = scenario(simulator, has_headers, True, given)
            figures += bars(which, has_headers, found)
            rows.append(row(which, "headers" if has_headers else "no headers", found))
        rows.append(row(which, "neither headers nor Retry-After", scenario(simulator, False, False, given)))
        for other in OTHERS:
            known = reference[f"{which} | {other}"]
            rows.append(row(which, f"({other})", Result(known["ratio_to_bound"], known["r429_per_1000"])))
    print(table(rows))
    print(table(measure_grid(simulator)))
    return figures


def bars(which: str, has_headers: bool, found: Result) -> list[Figure]:
    ratio, refused = BARS[has_headers]
    kind = "headers" if has_headers else "no headers"
    return [
        Figure(f"{which}, {kind}", f"{found.ratio:.3f}×", f"≤ {ratio}×", found.ratio <= ratio),
        Figure(
            f"429 per 1,000, {which}, {kind}",
            f"{found.refused:.1f}",
            f"< {refused:g}",
            found.refused < refused,
        ),
    ]


def row(which: str, policy: str, found: Result) -> tuple[str, ...]:
    return which, policy, f"{found.ratio:.3f}", f"{found.refused:.1f}"
