"""Fifty branches: five bad, three pairs in conflict, one pair green apart and red together."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from landing_support import Field, Files, blocked, landed

from parallelai.work.landing.records import Candidate

MOST_RUNS = 40


def scenario(field: Field, seed: int) -> tuple[list[Candidate], dict[str, set[str]]]:
    """The branches, and what is wrong with which. The pair breaks as real ones do: a name changes its meaning."""
    chance = random.Random(seed)
    numbers = list(range(50))
    chance.shuffle(numbers)
    bad = set(numbers[:5])
    pairs = [tuple(numbers[5 + 2 * n : 7 + 2 * n]) for n in range(3)]
    renames, calls = numbers[11:13]
    branches = []
    for n in range(50):
        files: dict[str, str | None] = {f"src/part{n}.py": f"def part{n}():\n    return {n}\n"}
        if n in bad:
            files[f"src/part{n}.py"] = f"def part{n}(:\n"
        for number, pair in enumerate(pairs):
            if n in pair:
                files[f"shared{number}.txt"] = f"changed by {n}\n"
        if n == renames:
            files["src/core.py"] = "def total_of(items):\n    return sum(items)\n"
        if n == calls:
            files[f"src/part{n}.py"] = f"from core import total\n\ndef part{n}():\n    return total([{n}])\n"
        branches.append(field.branch(f"w{n:02}", files))
    wrong = {
        "bad": {f"w{n:02}" for n in bad},
        "pairs": {f"w{n:02}" for pair in pairs for n in pair},
        "together": {f"w{renames:02}", f"w{calls:02}"},
    }
    return branches, wrong


def passes(files: Files) -> bool:
    """Whether all parses, and every name that is imported from the core is there."""
    core = files["src/core.py"].decode()
    for path, data in files.items():
        text = data.decode()
        if path.endswith(".py"):
            try:
                compile(text, path, "exec")
            except SyntaxError:
                return False
            if "import total\n" in text and "def total(" not in core:
                return False
    return True


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_good_work_lands_and_nothing_bad_does(tmp_path: Path, seed: int) -> None:
    start = {f"shared{n}.txt": "as it was\n" for n in range(3)}
    core = "def total(items):\n    return sum(items)\n"
    field = Field(tmp_path / "repo", {**start, "src/core.py": core})
    branches, wrong = scenario(field, seed)
    gate = field.gate(passes)
    arrivals = field.land(branches, gate)

    assert len(gate.judged) <= MOST_RUNS
    out = blocked(arrivals)
    assert {name for name, with_ in out.items() if not with_} == wrong["bad"]
    (apart,) = set(out) & wrong["together"]
    assert set(out[apart]) == wrong["together"] - {apart}
    in_conflict = set(out) & wrong["pairs"]
    assert len(in_conflict) == 3
    assert all(set(out[name]) | {name} <= wrong["pairs"] and len(out[name]) == 1 for name in in_conflict)
    assert len(landed(arrivals)) == 50 - 5 - 3 - 1

    assert field.run(gate.green_history("main", field.base))
    for name in landed(arrivals):
        commit = next(one.commit for one in branches if one.name == name)
        assert field.run(field.repository.ancestor(commit, field.tip()))
    assert field.status() == ""
