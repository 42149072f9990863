"""A gate that only the config of an untrusted project names: nothing lands as if it had passed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shops import commit, git, shop_with

PLAN = "version: 1\nworkstreams: {one: {description: One., owns: one/**}}\n"
SAID = "the gate of `parallelai.toml` is not trusted, so it would not run"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that was just fetched: its config has a gate, which fails, and a branch is there."""
    config = '[gates]\nlanding = ["false"]\n[landing]\nmethod = "squash"\n'
    files = {"README.md": "base\n", "plan.yaml": PLAN, "parallelai.toml": config}
    root = shop_with(tmp_path, monkeypatch, files)
    git(root, "checkout", "-qb", "new")
    (root / "new.txt").write_text("new\n")
    commit(root, "new")
    git(root, "checkout", "-q", "main")
    return root


def test_branches_do_not_land_without_the_gate_that_nobody_trusts(cli: Any, shop: Path) -> None:
    refused = cli("work", "land", "--branches", "new")
    assert (refused.code, SAID in refused.err, "parallelai trust" in refused.err) == (2, True, True)
    assert not (shop / "new.txt").exists()

    dry = cli("work", "land", "--branches", "new", "--dry-run", "--allow-red-base")
    assert f"note: nothing would land: {SAID}" in dry.out
    ignored = "note: not trusted, so ignored: gates.landing, landing.method"
    for shown in ((), ("--shadow",)):
        assert ignored in cli("work", "conflicts", "--branches", "new", *shown).err

    landed = cli("work", "land", "--branches", "new", "--gate", "test -f README.md")
    assert (landed.code, landed.err.count(ignored)) == (0, 1)
    assert (shop / "new.txt").exists()
    assert cli("work", "undo", "new").code == 0  # behind the gate that it came in by


def test_workstreams_neither_land_nor_run_without_it(cli: Any, shop: Path) -> None:
    run = cli("work", "run", "plan.yaml", "--engine", "mock")
    assert (run.code, SAID in run.err, "--trust" in run.err) == (2, True, True), run
    assert cli("work", "start", "plan.yaml").code == 0
    place = shop.parent / "shop-worktrees" / "one"
    (place / "one").mkdir()
    (place / "one" / "a.txt").write_text("a\n")
    assert cli("work", "done", "one").code == 0

    refused = cli("work", "land", "one")
    assert (refused.code, SAID in refused.err) == (2, True)
    assert "behind true" in cli("work", "land", "one", "--gate", "true").out
    assert cli("work", "undo", "one").code == 2
    assert cli("trust").code == 0
    assert "stays, for the gate fails" in cli("work", "undo", "one").err


def test_what_the_plan_says_of_gates_needs_no_trust(cli: Any, shop: Path) -> None:
    (shop / "plan.yaml").write_text(f'{PLAN}gates: {{landing: ["true"], canary: "off"}}\n')
    assert SAID not in cli("work", "run", "plan.yaml", "--engine", "no-such").err
    (shop / "parallelai.toml").write_text("[gates]\nlanding = []\n")
    assert "without a gate" in cli("work", "land", "--branches", "new").out
