"""Groups of branches that people had open at the same time, through the conflict matrix.

    make bench-history REPO=path [DATA=folder]
    python -m benchmarks.history REPO [--data FOLDER] [--most N]

`REPO` is a checkout of a public repository that the data tells of; nothing is written to it. The data is the
folder `merges` (`*.groups.jsonl.gz`), given by `--data` or the environment variable `PARALLELAI_DATA`, which may
also name the folder above. Printed are: agreement with git, precision and recall of `risk`, and time; then how the
same branches land (`benchmarks/history_landing.py`), and what the resolvers make of the repository's conflicting
merges (`benchmarks/history_resolvers.py`).

`risk` is asked when half of each branch was there (`benchmarks/halves.py`), and held against what git says of the
finished ones.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

from benchmarks import history_resolvers
from benchmarks.branches import SUFFIX, Group, private, rebuild, rows
from benchmarks.figures import Figure, left_out, summary, table
from benchmarks.halves import halved
from benchmarks.history_landing import LandingFigures, landing_figures
from parallelai.git.merging import merge_all
from parallelai.git.repository import Repository
from parallelai.records import ConflictPair
from parallelai.work.conflicts import Head, Matrix
from parallelai.work.conflicts.risk import LIKELY, NOTEWORTHY

TARGET = "(target)"


@dataclass
class Forecast:
    """One pair at half of its work: what was said of it, and what became of it."""

    risk: float
    shares: bool
    collided: bool
    came: bool


@dataclass
class Tally:
    """What all groups came to. `differs` counts pairs on which we and git, or git and the data, do not agree."""

    pairs: int = 0
    merges: int = 0
    conflicts: int = 0
    differs: int = 0
    unlike_data: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    one_by_one: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    forecasts: list[Forecast] = field(default_factory=list)
    landings: list[LandingFigures] = field(default_factory=list)


async def measure(store: Repository, group: Group, tally: Tally) -> tuple[str, ...]:
    """Run one group; gives its row of the table."""
    heads = [Head(each.name, each.commit) for each in group.branches]
    target = Head(TARGET, group.base)
    matrix = Matrix(store)
    began = time.perf_counter()
    await matrix.look(heads, target)
    seconds = time.perf_counter() - began
    count = matrix.count
    ours = {frozenset((one.a, one.b)) for one in matrix.known if one.conflict}
    began = time.perf_counter()
    plain = await merge_all(store.git, [(a.commit, b.commit) for a, b in combinations(heads, 2)])
    one_by_one = time.perf_counter() - began
    gits = {
        frozenset((a.name, b.name))
        for (a, b), one in zip(combinations(heads, 2), plain, strict=True)
        if not one.is_clean
    }
    told = {frozenset((heads[i].name, heads[j].name)) for i, j in group.conflicts}
    again = await _again(matrix, heads, target, store)
    tally.pairs += count.pairs
    tally.merges += count.merges
    tally.conflicts += len(ours)
    tally.differs += len({pair for pair in ours if TARGET not in pair} ^ gits)
    tally.unlike_data += len(gits ^ told)
    for one in matrix.known:
        if one.class_ is not None:
            word = f"{one.class_}, {'conflict' if one.conflict else 'clean'}"
            tally.classes[word] = tally.classes.get(word, 0) + 1
    tally.seconds.append(seconds)
    tally.one_by_one.append(one_by_one)
    tally.again.append(again)
    tally.forecasts += await forecasts(store, group, gits)
    cells = (count.pairs, count.merges, len(ours), f"{seconds:.2f}", f"{again:.2f}", f"{one_by_one:.2f}")
    return (group.id.partition("@")[2], str(len(heads)), str(group.missing), *(str(cell) for cell in cells))


async def _again(matrix: Matrix, heads: Sequence[Head], target: Head, store: Repository) -> float:
    """How long it takes when one branch has moved: to a commit of the same tree, which no cache knows."""
    if not heads:
        return 0.0
    first = heads[0]
    date = await store.git.line("log", "-1", "--format=%cI", first.commit)
    git = replace(store.git, env={"GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date})
    commit = await git.line("commit-tree", f"{first.commit}^{{tree}}", "-p", first.commit, "-m", "again")
    began = time.perf_counter()
    await matrix.look([Head(first.name, commit), *heads[1:]], target)
    return time.perf_counter() - began


async def forecasts(store: Repository, group: Group, gits: set[frozenset[str]]) -> list[Forecast]:
    """Ask when half of the work was there; target pairs have no later."""
    half = await halved(store, group)
    matrix = Matrix(store)
    await matrix.look([Head(each.name, each.commit) for each in half.branches], Head(TARGET, group.base))
    return [
        Forecast(one.risk, _shares(one), one.conflict, frozenset((one.a, one.b)) in gits)
        for one in matrix.known
        if TARGET not in (one.a, one.b)
    ]


def _shares(pair: ConflictPair) -> bool:
    return bool(pair.files)


@dataclass(frozen=True)
class Score:
    """How a rule did: `said` pairs, of them `right`; `came` is how many there were to find."""

    said: int
    right: int
    came: int

    def __str__(self) -> str:
        precision = f"{self.right / self.said:.2f}" if self.said else "-"
        recall = f"{self.right / self.came:.2f}" if self.came else "-"
        return f"precision {precision}, recall {recall} ({self.right} of {self.said} said, {self.came} came)"


def score(forecasts: Sequence[Forecast], said: Sequence[bool]) -> Score:
    """Count what was said, what was right, and what came."""
    right = sum(one.came for one, each in zip(forecasts, said, strict=True) if each)
    return Score(sum(said), right, sum(one.came for one in forecasts))


def report(tally: Tally) -> list[Figure]:
    """Sum up."""
    every = tally.forecasts
    open_ = [one for one in every if not one.collided]
    agreement = 1 - tally.differs / tally.pairs if tally.pairs else 1.0
    risk_all = score(every, [one.risk >= LIKELY for one in every])
    listed = score(open_, [one.risk >= NOTEWORTHY for one in open_])
    shares = score(open_, [one.shares for one in open_])
    figures = [
        Figure("agreement with git", f"{agreement:.2%} of {tally.pairs} pairs", "100 %", tally.differs == 0),
        Figure(
            "  pairs on which git and the data differ", str(tally.unlike_data), "0", tally.unlike_data == 0
        ),
        Figure("merges that the filter left", f"{tally.merges} of {tally.pairs}"),
        Figure(f"at half of the work, risk >= {LIKELY}", str(risk_all)),
        Figure(f"  not collided yet, risk >= {NOTEWORTHY}", str(listed)),
        Figure("  not collided yet, any common file", str(shares)),
        Figure("  not collided yet, ranked by risk (AUC)", _auc(open_)),
        Figure(
            "matrix over merging every pair", f"{sum(tally.seconds) / max(sum(tally.one_by_one), 1e-9):.2f}×"
        ),
        Figure("slowest group, cold", f"{max(tally.seconds, default=0):.2f} s"),
        Figure("slowest group, one branch moved", f"{max(tally.again, default=0):.2f} s"),
    ]
    figures += [Figure(f"class {word}", str(count)) for word, count in sorted(tally.classes.items())]
    return figures


def _auc(forecasts: Sequence[Forecast]) -> str:
    """The share of pairs of (came, did not come) that the forecast puts in the right order."""
    came = [one.risk for one in forecasts if one.came]
    rest = [one.risk for one in forecasts if not one.came]
    if not came or not rest:
        return "-"
    right = sum((a > b) + 0.5 * (a == b) for a in came for b in rest)
    return f"{right / (len(came) * len(rest)):.2f}"


async def replay(repository: Path, data: Path, most: int) -> tuple[str | None, list[Figure]]:
    """Measure all groups that the data has of a repository; gives the data's name of it, and the figures."""
    tally, landed = Tally(), [_landing_head()]
    shown: list[tuple[str, ...]] = [_HEAD]
    name = None
    with tempfile.TemporaryDirectory(prefix="parallelai-history-") as folder:
        store = private(repository, Path(folder))
        for path, found in rows(data, repository):
            name = path.name.removesuffix(SUFFIX)
            print(f"{name}: {len(found)} groups", flush=True)
            for row in found[:most]:
                group = await rebuild(store, row)
                if len(group.branches) < 2:
                    print(f"  {group.id}: left out, {group.missing} branches are not in this checkout")
                    continue
                shown.append(await measure(store, group, tally))
                tally.landings.append(await landing_figures(store, group))
    if len(shown) == 1:
        return None, [left_out("history", f"the data in `{data}` has no group of `{repository}`")]
    print(table(shown), end="\n\n")
    landed += [_landed(one) for one in tally.landings]
    print(table(landed), end="\n\n")
    return name, [*report(tally), *landing_report(tally.landings)]


def _landing_head() -> tuple[str, ...]:
    return (
        "group",
        "branches",
        "first come",
        "landed",
        "best by pairs",
        "bad",
        "good landed",
        "gate runs",
        "one by one",
        "seconds",
    )


def _landed(one: LandingFigures) -> tuple[str, ...]:
    cells = (one.branches, one.first_come, one.landed, one.best_by_pairs, one.bad)
    more = (one.landed_of_good, one.runs, one.runs_one_by_one, f"{one.seconds:.2f}")
    return (one.group.partition("@")[2], *(str(cell) for cell in (*cells, *more)))


def landing_report(landings: Sequence[LandingFigures]) -> list[Figure]:
    """Sum up how branches land."""
    total = max(sum(one.branches for one in landings), 1)
    first, landed, best = (
        sum(counts)
        for counts in zip(*((one.first_come, one.landed, one.best_by_pairs) for one in landings), strict=True)
    )
    bad = sum(one.landed_bad for one in landings)
    runs, single = sum(one.runs for one in landings), sum(one.runs_one_by_one for one in landings)
    return [
        Figure("branches that land", f"{landed / total:.1%}", f">= {first / total:.1%}", landed >= first),
        Figure("  first come, first served", f"{first / total:.1%}"),
        Figure("  best possible by pairs", f"{best / total:.1%}"),
        Figure("bad branches that land", str(bad), "0", bad == 0),
        Figure("gate runs, one branch in ten bad", f"{runs} ({single} one by one)"),
        Figure("slowest landing of a group, without gates", f"{max(one.seconds for one in landings):.2f} s"),
    ]


_HEAD = ("group", "branches", "missing", "pairs", "merges", "conflicts", "cold s", "moved s", "every pair s")


def folder_of(given: str | None) -> Path | None:
    """The folder with the groups: what was given, or `merges` in it; None where it has none."""
    if not given:
        return None
    for folder in (Path(given), Path(given) / "merges"):
        if any(folder.glob(f"*{SUFFIX}")):
            return folder
    return None


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.history", description="Replay branches of real history."
    )
    parser.add_argument("repository", type=Path, help="a checkout, or a git folder")
    parser.add_argument("--data", help="the folder of the groups (or PARALLELAI_DATA)")
    parser.add_argument("--most", type=int, default=1000, help="how many groups at most")
    asked = parser.parse_args()
    data = folder_of(asked.data or os.environ.get("PARALLELAI_DATA"))
    if data is None:
        print(f"left out: no `*{SUFFIX}` in the folder given by `--data` or PARALLELAI_DATA", file=sys.stderr)
        return 2
    if not asked.repository.is_dir():
        parser.error(f"there is no `{asked.repository}`")
    name, figures = asyncio.run(replay(asked.repository.resolve(), data, asked.most))
    if name is not None and data.name == "merges":
        figures += history_resolvers.run(asked.repository, data.parent, name)
    print(summary(figures))
    return 0 if name is not None and all(figure.is_met is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
