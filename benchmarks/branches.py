"""Groups of branches that were open at the same time, rebuilt from a checkout of their repository.

Nothing is written to that repository: new objects go to a bare repository in a temporary folder, which reads
the others as alternates.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from parallelai.git import merging
from parallelai.git.plumbing import Git
from parallelai.git.repository import Repository

SUFFIX = ".groups.jsonl.gz"


@dataclass(frozen=True)
class Branch:
    """One branch, as it would be had it been cut from its group's base: `commit` is its only one.

    `head` and `fork` are the commits as they were.
    """

    name: str
    commit: str
    head: str
    fork: str
    subject: str


@dataclass(frozen=True)
class Group:
    """Branches with the same base. `conflicts` are the indices of those pairs that git could not merge.

    `missing` counts branches whose commits the checkout does not have.
    """

    id: str
    base: str
    branches: tuple[Branch, ...]
    conflicts: frozenset[tuple[int, int]]
    missing: int
    row: Mapping[str, Any]


def private(repository: Path, folder: Path) -> Repository:
    """Make a bare repository that reads a checkout's objects, and writes its own."""
    found = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "--path-format=absolute", "--git-path", "objects"],
        capture_output=True,
        check=True,
    )
    bare = folder / "store.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    objects = os.fsdecode(found.stdout).strip()
    (bare / "objects" / "info" / "alternates").write_text(f"{objects}\n")
    return Repository(bare, bare, is_bare=True)


def rows(data: Path, repository: Path) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """Give the data files that tell of a repository: those whose bases it has."""
    for path in sorted(data.glob(f"*{SUFFIX}")):
        with gzip.open(path, "rt") as file:
            found = [json.loads(line) for line in file]
        if any(_has(repository, row["base"]) for row in found[:3]):
            yield path, found


def _has(repository: Path, commit: str) -> bool:
    argv = ["git", "-C", str(repository), "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


async def rebuild(store: Repository, row: Mapping[str, Any]) -> Group:
    """Merge each branch's head onto the group's base, with its fork as the merge base, as the data was made.

    Raises `RuntimeError` where a tree is not the one that the data names.
    """
    branches = row["branches"]
    git = store.git
    there = await present(git, [row["base"]])
    if not there:
        return Group(row["id"], row["base"], (), frozenset(), len(branches), row)
    # A commit older than its parent makes git look through all of history for a merge base.
    date = await git.line("log", "-1", "--format=%cI", row["base"])
    git = replace(git, env={"GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date})
    wanted = [commit for each in branches for commit in (each["head"], each["fork"])]
    there = await present(git, wanted)
    kept = [at for at, each in enumerate(branches) if {each["head"], each["fork"]} <= there]
    found = []
    for at in kept:
        each = branches[at]
        found.append(await _branch(git, row["base"], each))
    places = {at: place for place, at in enumerate(kept)}
    conflicts = {(places[i], places[j]) for i, j, *_ in row["conflicts"] if i in places and j in places}
    return Group(row["id"], row["base"], tuple(found), frozenset(conflicts), len(branches) - len(kept), row)


async def _branch(git: Git, base: str, row: Mapping[str, Any]) -> Branch:
    ours = await merging.with_base(git, base, row["fork"])
    theirs = await merging.with_base(git, row["head"], row["fork"])
    merged = await merging.merge(git, ours, theirs)
    if merged.tree != row["tree"]:
        raise RuntimeError(f"`{row['head']}` became tree {merged.tree}, and the data has {row['tree']}")
    commit = await git.line("commit-tree", merged.tree, "-p", base, "-m", row["subject"] or "change")
    return Branch(row["name"], commit, row["head"], row["fork"], row["subject"])


async def present(git: Git, commits: Sequence[str]) -> set[str]:
    """Say which commits are there."""
    stdin = "".join(f"{commit}^{{commit}}\n" for commit in commits).encode()
    listed = (await git.run("cat-file", "--batch-check", stdin=stdin)).decode().splitlines()
    return {line.split(" ")[0] for line in listed if " commit " in line}
