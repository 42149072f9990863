"""A review as a gate: the reviewer sees all that a merge would change, also what it takes away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from shops import commit, git, shop_with

REVIEWER = """\
import json, pathlib, re, sys
told = sys.stdin.read()
found = re.search(r"(removed-\\d[.]diff)", told)
assert not found or "-    check(user)" in pathlib.Path(found[1]).read_text()
row = {"file": found and found[1], "line": [1, 1], "severity": "high", "category": "security", "rule": "gone"}
row |= {"message": "The check is gone.", "quote": "-    check(user)", "confidence": 1.0, "tier": "must"}
print(json.dumps({"findings": [row] if found else []}))
"""
PLAN = """\
version: 1
engines: {eyes: {use: command, command: [python3, -c, SCRIPT]}}
workstreams:
  one: {description: One., owns: "src/**", engine: eyes}
gates: {landing: [{review: code-review, engine: eyes, fail_on: high}]}
"""
GUARDED = "def enter(user):\n    check(user)\n    return 1\n"


@pytest.fixture
def place(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The worktree of a workstream, of a repository that ignores nearly all, and wants to see no difference of it."""
    own = {".gitignore": "*\n!*.py\n!src\n", ".gitattributes": "*.py -diff\n"}
    files = {"plan.yaml": PLAN, **own, "src/door.py": GUARDED}
    shop = shop_with(tmp_path, monkeypatch, files)
    (shop / "plan.yaml").write_text(PLAN.replace("SCRIPT", json.dumps(REVIEWER)))
    git(shop, "add", "-f", "plan.yaml", *own)
    commit(shop, "plan")
    assert cli("work", "start", "plan.yaml").code == 0
    return shop.parent / "shop-worktrees" / "one"


@pytest.mark.parametrize("text", [None, "def enter(user):\n    return 1\n"], ids=["file", "line"])
def test_a_review_sees_what_is_only_taken_away(cli: Any, place: Path, text: str | None) -> None:
    door = place / "src" / "door.py"
    door.unlink() if text is None else door.write_text(text)
    assert cli("work", "done", "one").code == 0

    called = cli("work", "land", "one")

    assert called.code == 4
    assert "has 1 finding of severity `high` or higher" in called.out


def test_a_review_passes_what_adds_and_takes_nothing_away(cli: Any, place: Path) -> None:
    (place / "src" / "door.py").write_text(GUARDED + "# more\n")
    assert cli("work", "done", "one").code == 0
    assert cli("work", "land", "one").code == 0
