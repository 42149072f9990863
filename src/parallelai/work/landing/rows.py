"""The first-parent commits of a target, with what each landed or took back, as its trailers say."""

from __future__ import annotations

import os
from collections.abc import Sequence

from msgspec import Struct

from parallelai.git.repository import Repository
from parallelai.work.landing.messages import LANDS, UNDOES
from parallelai.work.landing.records import MOST_REPLAYED

_MOST = 20_000
_FORMAT = (
    f"--format=%H%x00%P%x00%(trailers:key={LANDS},valueonly)%x00%(trailers:key={UNDOES},valueonly)%x00%x01"
)


class Row(Struct, frozen=True):
    """A first-parent commit of the target, with the hashes of the tips that it landed or took back."""

    commit: str
    parents: tuple[str, ...]
    lands: tuple[str, ...] = ()
    undoes: tuple[str, ...] = ()


async def first_parents(repository: Repository, tip: str, others: Sequence[str]) -> list[Row]:
    """The first-parent commits of a tip, newest first, since where all the others left it."""
    common = await repository.git.attempt("merge-base", "--octopus", tip, *others)
    since = [f"^{os.fsdecode(common.stdout).strip()}"] if common.exit == 0 and common.stdout.strip() else []
    return _rows(
        await repository.git.run(
            *("log", "--first-parent", f"--max-count={_MOST}", _FORMAT, tip, *since, "--")
        )
    )


async def rows_of(repository: Repository, commits: Sequence[str]) -> list[Row]:
    """The same of any commits; of one that is gone nothing."""
    words = ("log", "--no-walk=unsorted", "--ignore-missing", _FORMAT)
    return _rows(await repository.git.run(*words, *commits, "--")) if commits else []


async def before_of(repository: Repository, row: Row) -> str:
    """The commit before a landing: before the first of those by which a rebase landed a branch.

    They have its run and task, and only the last one says what landed.
    """
    if len(row.parents) != 1 or len(row.lands) != 1:
        return row.parents[0] if row.parents else row.commit
    keys = ("ParallelAI-Run", "ParallelAI-Task", LANDS)
    form = "%P" + "".join(f"%x01%(trailers:key={key},valueonly,separator=%x00)" for key in keys)
    listed = await repository.git.run(
        *("log", "--first-parent", f"--max-count={MOST_REPLAYED}", f"--format={form}", row.commit, "--")
    )
    first, *others = (line.split("\x01") for line in listed.decode("utf-8", "replace").splitlines())
    before = row.parents[0]
    for parents, run, task, lands in others:
        if lands or not run or [run, task] != first[1:3] or not parents:
            break
        before = parents.split()[0]
    return before


def _rows(listed: bytes) -> list[Row]:
    rows = []
    for block in listed.decode("utf-8", "replace").split("\x01")[:-1]:
        commit, parents, lands, undoes, _ = block.lstrip("\n").split("\0")
        rows.append(Row(commit, tuple(parents.split()), tuple(lands.split()), tuple(undoes.split())))
    return rows
