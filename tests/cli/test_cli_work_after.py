"""What comes after a landing: work in a worktree whose workstream has landed, or was taken back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from shops import commit, git, shop_with

PLAN = """\
version: 1
workstreams:
  abe: {description: A., owns: src/abe.py}
gates: {landing: ["python3 -c 'pass'"], canary: "off"}
"""


@pytest.fixture
def place(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The worktree of a workstream that has landed."""
    root = shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN})
    assert cli("work", "start", "plan.yaml").code == 0
    place = root.parent / "shop-worktrees" / "abe"
    (place / "src" / "abe.py").write_text("x = 1\n")
    assert cli("work", "done", "abe").code == 0
    landed = cli("work", "land", "abe", "--json")
    assert (landed.code, landed.document["outcome"]) == (0, "ok")
    return place


def test_what_comes_to_a_worktree_after_the_landing_is_shown_and_can_land(cli: Any, place: Path) -> None:
    (place / "src" / "abe.py").write_text("x = 2\n")
    assert "+x = 2" in cli("work", "diff", "abe").out
    assert f"cd {place} && " in cli("work", "attach", "abe", "--print").out
    refused = cli("work", "done", "abe", "--json")
    assert refused.error["said"] == "`abe` is landed already"
    assert "`parallelai work land --branches parallelai/abe`" in refused.error["next"]

    commit(place, "more")
    (kept,) = cli("work", "clean", "--json").document["kept"]
    assert kept["command"] == "parallelai work land --branches parallelai/abe"
    assert cli("work", "land", "--branches", "parallelai/abe").code == 0
    assert cli("work", "clean").out == "abe: removed\n"
    assert "`parallelai work start plan.yaml abe` begins it anew" in cli("work", "done", "abe").err


def test_sync_leaves_out_what_was_taken_back_and_has_no_worktree(cli: Any, place: Path) -> None:
    root = place.parent.parent / "shop"
    shutil.rmtree(place)
    git(root, "worktree", "prune")
    assert cli("work", "undo", "abe").code == 0
    assert cli("work", "sync").code == 0
    named = cli("work", "sync", "abe")
    assert (named.code, "`parallelai work start plan.yaml abe` makes it again" in named.err) == (2, True)


def test_a_dry_run_foresees_what_is_left_alone_or_refused(cli: Any, place: Path) -> None:
    dry = cli("work", "run", "plan.yaml", "--dry-run")
    assert (dry.code, "note: landed already, and left alone: `abe`\n" in dry.err) == (0, True)
    assert cli("work", "undo", "abe").code == 0
    assert cli("work", "run", "plan.yaml", "--dry-run", "--json").document["landed"] == []

    Path("tasks.yaml").write_text("tasks: [{id: a, description: x, engine: mock}]\n")
    refused = cli("work", "run", "tasks.yaml", "--dry-run")
    assert (refused.code, "`tasks.yaml` has no workstreams" in refused.err) == (2, True)


def test_who_takes_a_branch_for_a_workstream_is_told_how_branches_are_named(cli: Any, place: Path) -> None:
    called = cli("work", "land", "feature/b", "--json")
    assert called.error["said"] == "`feature/b` is no name of a workstream"
    assert "`--branches`" in called.error["next"]
