"""Fifty branches that no plan made: all good ones land, nothing bad does, and few gates run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from field_support import Before, Called, call, check_checkout, check_green, events, first_parents
from repositories import Repository

CHECK = '''\
"""The gate: every module can be loaded, and says of itself that it is well."""
import importlib, pathlib, sys
sys.dont_write_bytecode = True
sys.path.insert(0, "src")
for path in sorted(pathlib.Path("src").glob("*.py")):
    assert importlib.import_module(path.stem).is_well(), path
'''
GATE = "python3 check.py"
GOOD, BAD, CONFLICTING, RED_TOGETHER = 37, 5, 3, 1
MOST_GATES = 40


def module(number: int, more: str = "") -> str:
    return f"NUMBER = {number}\n\n\ndef is_well():\n    return NUMBER >= 0\n{more}"


class Fifty:
    """The branches, by what is wrong with them."""

    def __init__(self, root: Path, squash: bool = False) -> None:
        self.repository = Repository.start(root)
        self.repository.git("config", "user.name", "Ana")
        self.repository.git("config", "user.email", "ana@example.invalid")
        base: dict[str, str | bytes] = {f"src/m{number:02}.py": module(number) for number in range(50)}
        base["src/tools.py"] = "def helped(x):\n    return x\n\n\ndef is_well():\n    return helped(True)\n"
        base["check.py"] = CHECK
        base[".gitignore"] = "__pycache__/\n"
        self.base = self.repository.commit(base)
        self._script: list[str] = []
        self.good = [self._branch(number, more=f"\n\nEXTRA = {number}\n") for number in range(GOOD)]
        self.bad = [self._branch(number, new="NUMBER = -1") for number in range(GOOD, GOOD + BAD)]
        first = GOOD + BAD
        self.conflicting = [
            (
                self._branch(number, "a", new=f"NUMBER = {number} + int('1' * 3)"),
                self._branch(number, "b", new=f"NUMBER = sum(range({number}))"),
            )
            for number in range(first, first + CONFLICTING)
        ]
        self.together = self._apart_green()
        script = "".join(self._script).encode()
        subprocess.run(["git", "fast-import", "--quiet"], cwd=root, input=script, check=True)

    @property
    def names(self) -> list[str]:
        pairs = [name for pair in (*self.conflicting, self.together) for name in pair]
        return [*self.good, *self.bad, *pairs]

    def _branch(self, number: int, side: str = "", new: str = "", more: str = "") -> str:
        text = module(number, more).replace(
            f"NUMBER = {number}\n", f"{new}\n" if new else f"NUMBER = {number}\n"
        )
        return self._commit(f"feature/{number:02}{side}", {f"src/m{number:02}.py": text})

    def _apart_green(self) -> tuple[str, str]:
        """One renames a function, the other calls it by its old name in a file of its own."""
        renamed = "def aided(x):\n    return x\n\n\ndef is_well():\n    return aided(True)\n"
        one = self._commit("feature/98-rename", {"src/tools.py": renamed})
        calls = "from tools import helped\n\n\ndef is_well():\n    return helped(True)\n"
        return one, self._commit("feature/99-call", {"src/caller.py": calls})

    def _commit(self, name: str, files: dict[str, str]) -> str:
        """A branch with one commit, which git makes with all others at the end."""
        who = "committer Ana <ana@example.invalid> 1700000000 +0000"
        self._script.append(f"commit refs/heads/{name}\n{who}\ndata 2\nc\nfrom {self.base}\n")
        for path, text in files.items():
            self._script.append(f"M 100644 inline {path}\ndata {len(text)}\n{text}\n")
        return name

    def has(self, name: str) -> bool:
        """Whether a branch is in the target, by its content."""
        (path,) = self.repository.git("diff", "--name-only", self.base, name).split()
        target = self.repository.git("ls-tree", "main", "--", path)
        return target == self.repository.git("ls-tree", name, "--", path)


@pytest.fixture
def fifty(tmp_path: Path) -> Fifty:
    made = Fifty(tmp_path / "repo")
    assert len(made.names) == len(set(made.names)) == 50
    return made


def check_fifty(fifty: Fifty, called: Called, before: Before, folder: Path) -> list[str]:
    """All good work is in, of each pair exactly one, of the bad nothing; every state was green."""
    assert called.code == 4, called.told
    landed = {name for name in fifty.names if fifty.has(name)}
    assert set(fifty.good) <= landed
    assert landed.isdisjoint(fifty.bad)
    for pair in (*fifty.conflicting, fifty.together):
        assert len(landed.intersection(pair)) == 1, pair
    assert {name for name, task in called.tasks.items() if task["status"] == "ok"} == landed
    assert {called.error(name) for name in fifty.bad} == {"gate_failed"}
    for pair in fifty.conflicting:
        (left,) = set(pair) - landed
        assert called.error(left) == "conflict"
        assert (set(pair) & landed).pop() in called.tasks[left]["error"]["said"]  # both sides are named
    (left,) = set(fifty.together) - landed
    assert called.error(left) == "gate_failed"
    commits = first_parents(fifty.repository, before.commit)
    check_green(fifty.repository, commits, [sys.executable, "check.py"], folder)
    check_checkout(fifty.repository, before)
    return commits


def gate_runs(root: Path) -> int:
    """How often the gate ran on something that would land; not the canary, nor the base."""
    return sum(1 for event in events(root, "gate.started") if event["data"]["names"])


def land(fifty: Fifty, *more: str) -> Called:
    words = ("work", "land", "--branches", "feature/*", "--target", "main", "--gate", GATE, *more)
    return call(fifty.repository.root, *words)


@pytest.mark.timeout(600)
def test_fifty_branches_land_behind_few_gates(fifty: Fifty, tmp_path: Path) -> None:
    before = Before.of(fifty.repository)
    called = land(fifty)
    check_fifty(fifty, called, before, tmp_path / "commits")
    assert gate_runs(fifty.repository.root) <= MOST_GATES
    landed = {name for name in fifty.names if fifty.has(name)}
    for name in fifty.names:  # their commits are in the target as they were, and the branches are still there
        merged = fifty.repository.git("branch", "--merged", "main", "--list", name).strip()
        assert bool(merged) == (name in landed)

    tip = fifty.repository.git("rev-parse", "main")
    again = land(fifty)  # what landed stays, and nothing more comes
    assert again.code == 4
    assert fifty.repository.git("rev-parse", "main") == tip
    check_checkout(fifty.repository, before)


def test_a_preview_moves_nothing(fifty: Fifty) -> None:
    before = Before.of(fifty.repository)
    done = land(fifty, "--dry-run")
    assert done.code == 0
    assert fifty.repository.git("rev-parse", "main").strip() == before.commit
    check_checkout(fifty.repository, before)
