"""What the resolvers make of real conflicts, and how often people had done the same.

    python -m benchmarks.history_resolvers REPO DATA

REPO is a checkout or a bare copy of a repository; it is only read. Its merges are those of DATA's folder `merges`
(`NAME.merges.jsonl.gz`; `--name` says which, where the folder's name does not); of a repository that is not there,
all that its refs reach, the newest 5,000. For every merge that conflicted, the conflicting files are taken apart.
What each resolver makes of each hunk, alone, is compared with what stands at that place in the merge as people made
it, and what the ladder makes of whole files with their file. Lines around a hunk have to be the same as well, which
counts against the resolver where people changed these. "In any order": the order of the lines, and blank ones, aside.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.figures import Figure, left_out, table
from parallelai.git.merging import Conflicted, merge_all
from parallelai.git.plumbing import Git
from parallelai.work.resolvers.history import gather
from parallelai.work.resolvers.ladder import ask, climb, is_written_by_program, rungs
from parallelai.work.resolvers.lines import is_blank, lines
from parallelai.work.resolvers.records import Conflict, Rung
from parallelai.work.resolvers.splitting import Split, split

SUFFIX = ".merges.jsonl.gz"
AROUND = 2
"""Lines on each side of a hunk that have to be as git merged them."""
MOST = 5000
BAR = 0.85
ENOUGH = 20
"""Decisions that a share is worth judging by."""


@dataclass(frozen=True)
class Case:
    """A conflicting file, and what people made of it: None where their merge has no such file."""

    conflict: Conflict
    split: Split
    people: bytes | None


@dataclass
class Count:
    """How often something was decided, and how often people had done the same, or the same in another order."""

    decided: int = 0
    agreed: int = 0
    same_lines: int = 0

    def add(self, is_agreed: bool, has_same_lines: bool) -> None:
        self.decided += 1
        self.agreed += is_agreed
        self.same_lines += is_agreed or has_same_lines

    @property
    def share(self) -> float:
        return self.agreed / self.decided if self.decided else 0.0


@dataclass
class Counts:
    """What came of one repository."""

    merges: int = 0
    settled_merges: int = 0
    missing: int = 0
    files: int = 0
    hunks: int = 0
    seconds: float = 0.0
    alone: dict[str, Count] = field(default_factory=dict)
    whole: Count = field(default_factory=Count)
    first: Count = field(default_factory=Count)
    by_file: Counter[str] = field(default_factory=Counter)


def rows_of(data: Path, name: str) -> list[Mapping[str, object]]:
    """The merges of a repository that conflicted."""
    with gzip.open(data / "merges" / f"{name}{SUFFIX}", "rt") as file:
        rows = [json.loads(line) for line in file]
    return [row for row in rows if not row["clean"]]


async def rows_in(git: Git) -> list[Mapping[str, object]]:
    """The merges of two commits that a repository has."""
    listed = await git.run(
        "rev-list", "--all", "--parents", "--min-parents=2", "--max-parents=2", f"--max-count={MOST}"
    )
    rows = [line.decode().split() for line in listed.splitlines()]
    return [dict(zip(("merge", "p1", "p2"), row, strict=True)) for row in rows]


def name_of(repository: Path, data: Path) -> str | None:
    """Which of the data's repositories a folder is: one of its last parts has that name."""
    known = [path.name.removesuffix(SUFFIX) for path in (data / "merges").glob(f"*{SUFFIX}")]
    parts = [part.removesuffix(".git") for part in reversed(repository.resolve().parts)]
    for part in parts[:3]:
        found = [name for name in known if part in (name, name.partition("+")[2])]
        if len(found) == 1:
            return found[0]
    return None


def git_of(repository: Path) -> Git:
    folder = repository / ".git"
    return Git((folder if folder.is_dir() else repository).resolve())


async def cases(git: Git, rows: Sequence[Mapping[str, object]], counts: Counts) -> AsyncIterator[list[Case]]:
    """The conflicting files of each merge, as far as they have a text on both sides."""
    there = await _there(git, {str(row[key]) for row in rows for key in ("merge", "p1", "p2")})
    held = [row for row in rows if {row["merge"], row["p1"], row["p2"]} <= there]
    counts.missing = len(rows) - len(held)
    merged = await merge_all(git, [(str(row["p1"]), str(row["p2"])) for row in held])
    for row, one in zip(held, merged, strict=True):
        if one.is_clean:
            continue
        fit = [each for each in one.conflicts if each.kind in ("content", "add/add")]
        fit = [each for each in fit if {2, 3} <= set(each.stages)]
        counts.merges += 1
        counts.files += len(one.conflicts)
        if fit:
            yield await _of_merge(git, str(row["merge"]), (str(row["p1"]), str(row["p2"])), fit)


async def _there(git: Git, names: set[str]) -> set[str]:
    listed = await git.run("cat-file", "--batch-check", stdin="".join(f"{n}\n" for n in names).encode())
    return {line.split()[0].decode() for line in listed.splitlines() if line.split()[1] == b"commit"}


async def _of_merge(
    git: Git, merge: str, parents: tuple[str, str], conflicts: Sequence[Conflicted]
) -> list[Case]:
    paths = [one.path for one in conflicts]
    histories = await gather(git, *parents, paths)
    listed = await git.run("ls-tree", "-z", "--full-tree", merge, "--", *paths)
    made = {os.fsdecode(row.split(b"\t", 1)[1]): row.split()[2].decode() for row in listed.split(b"\0")[:-1]}
    wanted = {side.blob for one in conflicts for side in one.stages.values()} | set(made.values())
    blobs = await git.blobs(wanted)
    found = []
    for one in conflicts:
        base, ours, theirs = (
            blobs.get(one.stages[stage].blob) if stage in one.stages else None for stage in (1, 2, 3)
        )
        conflict = Conflict(one.path, base, ours, theirs, one.kind, histories[one.path])
        parts = await split(git, conflict)
        if parts is not None:
            found.append(Case(conflict, parts, blobs.get(made.get(one.path, ""))))
    return found


def did(hunk: Conflict, text: bytes, people: bytes | None) -> bool:
    """Whether people's file has a text in place of a hunk, with the lines around it."""
    if people is None or hunk.whole is None:
        return False
    before, after = lines(hunk.before), lines(hunk.after)
    wanted = b"".join(before[-AROUND:]) + text + b"".join(after[:AROUND])
    whole = hunk.whole.ours or b""
    mine = hunk.ours or b""
    if len(before) < AROUND and whole.startswith(hunk.before + mine) and not people.startswith(wanted):
        return False
    if len(after) < AROUND and whole.endswith(mine + hunk.after) and not people.endswith(wanted):
        return False
    at = people.find(wanted)
    while at > 0 and people[at - 1 : at] != b"\n":
        at = people.find(wanted, at + 1)
    return at >= 0


def has_lines(text: bytes, people: bytes | None) -> bool:
    """Whether two whole texts have the same lines, in whatever order; blank ones do not count."""
    if people is None:
        return False
    one, other = (
        Counter(line.strip() for line in lines(each) if not is_blank(line)) for each in (text, people)
    )
    return one == other


def holds(people: bytes | None, text: bytes) -> bool:
    """Whether people's file has all lines of a text, in whatever order."""
    there = {line.strip() for line in lines(people)}
    return all(line.strip() in there for line in lines(text) if not is_blank(line))


def judge(case: Case, ladder: Sequence[Rung], counts: Counts) -> bool:
    """Count what each resolver, and the whole ladder, makes of a file; whether it was settled."""
    is_written = is_written_by_program(case.conflict)
    for hunk in case.split.hunks:
        counts.hunks += 1
        is_open = True
        for rung in () if is_written else ladder:
            text = ask(rung, hunk)
            if text is None:
                continue
            agreed = did(hunk, text, case.people)
            same = agreed or (text not in (hunk.ours, hunk.theirs) and holds(case.people, text))
            counts.alone.setdefault(rung.name, Count()).add(agreed, same)
            if is_open:
                counts.first.add(agreed, same)
                is_open = False
    answer = climb(case.conflict, case.split, ladder)
    if answer is None:
        return False
    counts.whole.add(answer.text == case.people, has_lines(answer.text, case.people))
    counts.by_file[answer.name] += 1
    return True


async def measure(repository: Path, data: Path, name: str | None) -> Counts:
    """Count over all conflicting merges of a repository; without a name over those that it has itself."""
    counts, ladder, git = Counts(), rungs(), git_of(repository)
    began = time.perf_counter()
    rows = rows_of(data, name) if name is not None else await rows_in(git)
    async for merge in cases(git, rows, counts):
        settled = [judge(case, ladder, counts) for case in merge]
        counts.settled_merges += all(settled)
    counts.seconds = time.perf_counter() - began
    return counts


def run(repository: Path, data: Path, name: str | None = None) -> list[Figure]:
    """Measure one repository, print the tables, and give the figures. Nothing is written."""
    name = name or name_of(repository, data)
    if name is not None and not (data / "merges" / f"{name}{SUFFIX}").is_file():
        return [left_out("resolvers", f"`{data}` has no merges of `{name}`")]
    counts = asyncio.run(measure(repository, data, name))
    print(_shown(name or repository.resolve().name, counts))
    return figures(counts)


def figures(counts: Counts) -> list[Figure]:
    """The figures: of each resolver alone, of the ladder, which has a bar, and of whole files."""
    found = [
        Figure(f"resolver `{rung}` did as people", f"{count.same_lines} of {count.decided}")
        for rung, count in counts.alone.items()
    ]
    first, whole = counts.first, counts.whole
    share = first.same_lines / first.decided if first.decided else 0.0
    met = share >= BAR if first.decided >= ENOUGH else None
    shown = f"{share:.0%} of {first.decided}"
    found.append(Figure("hunks settled by resolvers as people did", shown, f"≥ {BAR:.0%}", met))
    return [
        *found,
        Figure("files settled by resolvers as people did", f"{whole.same_lines} of {whole.decided}"),
    ]


def _shown(name: str, counts: Counts) -> str:
    head = (f"{name}, hunk by hunk", "decided", "as people", "share", "in any order")
    rows: list[tuple[str, ...]] = [head]
    for rung, count in (*counts.alone.items(), ("the first that knows", counts.first)):
        rows.append(_row(rung, count))
    rows.append(_row("whole files", counts.whole))
    said = (
        f"  {counts.merges} merges with conflicts, {counts.files} files, {counts.hunks} hunks; settled"
        f" {counts.whole.decided} files, {counts.settled_merges} merges whole; {counts.seconds:.1f} s"
    )
    if counts.missing:
        said += f"; the repository lacks the commits of {counts.missing} more"
    return f"{table(rows)}\n{said}"


def _row(name: str, count: Count) -> tuple[str, ...]:
    return (name, str(count.decided), str(count.agreed), f"{count.share:.0%}", str(count.same_lines))


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.history_resolvers", description=__doc__)
    parser.add_argument("repository", type=Path, help="a checkout or bare copy; only read")
    parser.add_argument("data", type=Path, help="the folder of real data")
    parser.add_argument("--name", help="which of the data's repositories it is: `OWNER+NAME`")
    asked = parser.parse_args()
    for figure in run(asked.repository, asked.data, asked.name):
        print(f"  {figure.name}: {figure.measured} {figure.bar} {figure.verdict}")


if __name__ == "__main__":
    main()
