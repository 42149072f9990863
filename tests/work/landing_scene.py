"""What the processes that are killed land: five branches, one bad, one in conflict, one that has to wait."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

from landing_support import Gate

from parallelai.git.repository import Repository, open_repository
from parallelai.work.landing.lander import Lander
from parallelai.work.landing.records import Arrival, Candidate, Plan

NAMES = ("one", "two", "worse", "clash", "last")
BAD = b"bad"


def passes(files: object) -> bool:
    """No file is bad."""
    assert isinstance(files, dict)
    return BAD not in files.values()


def land(root: Path, method: Literal["merge", "squash", "rebase"] | None = None) -> dict[str, Arrival]:
    """Land all branches of the scene on `main`; the method is in the file `method`."""
    return asyncio.run(_land(root, method or (root.parent / "method").read_text()))  # type: ignore[arg-type]


async def _land(root: Path, method: Literal["merge", "squash", "rebase"]) -> dict[str, Arrival]:
    repository = await open_repository(root)
    candidates = [await _candidate(repository, name) for name in NAMES]
    gate = Gate(repository, passes)
    lander = Lander(
        repository, Plan("main", method=method), gate, None, lambda name, data: None, ours=frozenset
    )
    return {one.name: one for one in await lander.land(candidates)}


async def _candidate(repository: Repository, name: str) -> Candidate:
    commit = await repository.commit(f"refs/heads/{name}")
    base = await repository.commit("refs/tags/start")
    assert commit is not None
    assert base is not None
    needs = ("one",) if name == "last" else ()
    return Candidate(name, commit, base, branch=name, depends_on=needs)
