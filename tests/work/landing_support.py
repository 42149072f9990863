"""Branches to land in real repositories, and gates that are functions of the files of a tree."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from repositories import Repository as Checkout

from parallelai.events import EventData
from parallelai.git.repository import Repository, open_repository
from parallelai.records import ErrorRecord
from parallelai.work.landing.lander import Lander
from parallelai.work.landing.records import Arrival, Candidate, Gates, Plan, Resolving, Verdict
from parallelai.work.streams.record import GateRun

Files = Mapping[str, bytes]
Passes = Callable[[Files], bool]


class Gate:
    """A gate that looks at the files of a tree. `judged` are the trees that it ran on, in order."""

    def __init__(self, repository: Repository, passes: Passes) -> None:
        self.repository = repository
        self.passes = passes
        self.judged: list[str] = []
        self.base_is_green = True

    async def files(self, commit: str) -> dict[str, bytes]:
        listed = await self.repository.git.run("ls-tree", "-r", "-z", commit)
        rows = [row.split(b"\t", 1) for row in listed.split(b"\0") if row]
        blobs = await self.repository.git.blobs({meta.split()[2].decode() for meta, _ in rows})
        return {path.decode(): blobs[meta.split()[2].decode()] for meta, path in rows}

    async def judge(self, commit: str, base: str, names: tuple[str, ...]) -> Verdict:
        assert await self.repository.commit(base) == base
        self.judged.append(await self.repository.tree(commit))
        ok = self.passes(await self.files(commit))
        return Verdict(ok, (GateRun("gate", 0 if ok else 1, 0.1, "gate.log"),))

    async def ready(self, base: str) -> Verdict:
        if self.base_is_green:
            return Verdict(True)
        return Verdict(False, error=ErrorRecord("gate_failed", "the base is red"))

    async def green_history(self, ref: str, since: str) -> bool:
        """Whether every first-parent commit of a branch passes."""
        listed = await self.repository.git.line("rev-list", "--first-parent", ref, f"^{since}")
        return all([self.passes(await self.files(commit)) for commit in listed.split()])


class Field:
    """A checkout on `main` with branches cut from its first commit."""

    def __init__(self, root: Path, files: Mapping[str, str | bytes]) -> None:
        self.checkout = Checkout.start(root)
        self.checkout.git("config", "user.name", "Uma User")
        self.checkout.git("config", "user.email", "uma@example.invalid")
        self.base = self.checkout.commit(dict(files))
        self.root = root
        self.events: list[tuple[str | None, EventData]] = []
        self.repository: Repository = asyncio.run(open_repository(root))

    def move_to(self, root: Path) -> None:
        """Take a copy of the whole at another place."""
        self.checkout = Checkout(root)
        self.root = root
        self.repository = asyncio.run(open_repository(root))

    def branch(
        self, name: str, files: Mapping[str, str | None], *, base: str | None = None, **more: Any
    ) -> Candidate:
        """Make a branch with one commit, without touching the checkout; None deletes a file."""
        base = base or self.base
        lines = [
            f"commit refs/heads/{name}",
            "committer t <t@example.invalid> 1700000000 +0000",
            f"data {len(name)}",
            name,
            f"from {base}",
        ]
        for path, text in files.items():
            if text is None:
                lines.append(f"D {path}")
            else:
                lines += [f"M 100644 inline {path}", f"data {len(text.encode())}", text]
        script = "\n".join([*lines, ""]).encode()
        self.run(self.repository.git.run("fast-import", "--quiet", "--force", stdin=script))
        commit = self.tip(name)
        return Candidate(name, commit, base, branch=name, **more)

    def gate(self, passes: Passes) -> Gate:
        return Gate(self.repository, passes)

    def lander(
        self,
        gates: Gates | None = None,
        resolving: Resolving | None = None,
        *,
        plan: Plan | None = None,
        **more: Any,
    ) -> Lander:
        return Lander(
            self.repository, plan or Plan("main"), gates, resolving, self.tell, ours=frozenset, **more
        )

    def land(
        self,
        candidates: Sequence[Candidate],
        gates: Gates | None = None,
        resolving: Resolving | None = None,
        **more: Any,
    ) -> dict[str, Arrival]:
        """Land, and give the arrivals by name."""
        arrivals = self.run(self.lander(gates, resolving, **more).land(candidates))
        assert [one.name for one in arrivals] == [one.name for one in candidates]
        return {one.name: one for one in arrivals}

    def tell(self, name: str | None, data: EventData) -> None:
        self.events.append((name, data))

    def tip(self, name: str = "main") -> str:
        return self.checkout.git("rev-parse", f"refs/heads/{name}").strip()

    def has(self, name: str) -> bool:
        return bool(self.checkout.git("for-each-ref", f"refs/heads/{name}").strip())

    def files(self, ref: str = "main") -> dict[str, str]:
        found = self.run(self.gate(lambda _: True).files(self.tip(ref)))
        return {path: data.decode() for path, data in found.items()}

    def first_parents(self, ref: str = "main") -> list[str]:
        return self.checkout.git("rev-list", "--first-parent", ref, f"^{self.base}").split()

    def message(self, commit: str) -> str:
        return self.checkout.git("log", "-1", "--format=%B", commit)

    def status(self) -> str:
        return self.checkout.git("status", "--porcelain")

    @staticmethod
    def run(work: Any) -> Any:
        return asyncio.run(work)


def landed(arrivals: Mapping[str, Arrival]) -> set[str]:
    return {name for name, one in arrivals.items() if one.landed is not None}


def blocked(arrivals: Mapping[str, Arrival]) -> dict[str, tuple[str, ...]]:
    return {name: one.with_ for name, one in arrivals.items() if one.error is not None}
