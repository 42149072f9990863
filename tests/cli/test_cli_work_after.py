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
gates: {landing: ["true"], canary: "off"}
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


@pytest.mark.parametrize("has_landed", [True, False])
def test_clean_names_the_commit_that_a_lost_target_had(cli: Any, place: Path, has_landed: bool) -> None:
    root = place.parent.parent / "shop"
    name, folder, last = "abe", place, git(root, "rev-parse", "main")
    if not has_landed:
        (root / "more.yaml").write_text(PLAN.replace("abe", "eve"))
        assert cli("work", "start", "more.yaml").code == 0
        name, folder = "eve", place.parent / "eve"
        (folder / "src" / "eve.py").write_text("x = 1\n")
        assert cli("work", "done", "eve").code == 0
    git(root, "checkout", "-q", "--orphan", "elsewhere")
    git(root, "commit", "-qm", "other")
    git(root, "branch", "-qD", "main")

    (kept,) = [each for each in cli("work", "clean", "--json").document["kept"] if each["name"] == name]

    assert kept["why"] == "its target `main` is gone"
    git(root, *kept["command"].split()[1:])
    assert git(root, "rev-parse", "main") == last


def test_a_dry_run_foresees_what_is_left_alone_or_refused(cli: Any, place: Path) -> None:
    dry = cli("work", "run", "plan.yaml", "--dry-run")
    assert (dry.code, "note: landed already, and left alone: `abe`\n" in dry.err) == (0, True)
    assert "\n0 to carry out, " in dry.out
    one_more = "workstreams:\n  bo: {description: B., owns: bo/**}"
    Path("plan.yaml").write_text(PLAN.replace("workstreams:", one_more))
    assert "\n1 to carry out, " in cli("work", "run", "plan.yaml", "--dry-run", "--only", "bo").out
    Path("plan.yaml").write_text(PLAN)
    assert cli("work", "undo", "abe").code == 0
    assert cli("work", "run", "plan.yaml", "--dry-run", "--json").document["landed"] == []
    again = cli("work", "run", "plan.yaml", "--dry-run")
    assert "note: left alone: `abe` was taken back by `work undo`; `work land abe`" in again.err
    assert "\n0 to carry out, " in again.out
    assert "\n1 to carry out, " in cli("work", "run", "plan.yaml", "--dry-run", "--new").out

    Path("tasks.yaml").write_text("tasks: [{id: a, description: x, engine: mock}]\n")
    refused = cli("work", "run", "tasks.yaml", "--dry-run")
    assert (refused.code, "`tasks.yaml` has no workstreams" in refused.err) == (2, True)


def test_a_dry_run_says_what_was_given_up_unless_it_is_asked_for(cli: Any, place: Path) -> None:
    more = "  two: {description: x, owns: two.py}\ngates:"
    Path("plan.yaml").write_text(PLAN.replace("gates:", more))
    assert cli("work", "start", "plan.yaml", "two").code == 0
    assert cli("work", "drop", "two", "--yes").code == 0
    run = ("work", "run", "plan.yaml", "--dry-run", "--json")

    assert cli(*run).document["left"] == {"two": "`two` was given up; `--new` or `--only two` does it again"}
    for asked in (("--new",), ("--only", "two")):
        assert cli(*run, *asked).document["left"] == {}


def test_who_takes_a_branch_for_a_workstream_is_told_how_branches_are_named(cli: Any, place: Path) -> None:
    called = cli("work", "land", "feature/b", "--json")
    assert called.error["said"] == "`feature/b` is no name of a workstream"
    assert "`--branches`" in called.error["next"]


def test_without_a_terminal_nothing_is_given_up_and_what_does_it_is_said(cli: Any, place: Path) -> None:
    assert cli("work", "start", "plan.yaml", "abe").code == 0

    asked = cli("work", "drop", "abe", "--json")

    assert asked.code == 2
    assert asked.error["said"].startswith(
        "nothing was done, because nobody is here to be asked: Give up `abe`?"
    )
    assert asked.error["next"] == "the same command with `--yes` does it without asking"


def test_who_removed_a_worktree_is_told_how_it_comes_back(cli: Any, place: Path) -> None:
    assert cli("work", "start", "plan.yaml", "abe").code == 0
    shutil.rmtree(place)
    for words in (("done",), ("sync",), ("attach",), ("attach", "--print"), ("diff",)):
        called = cli("work", *words, "abe")
        assert (called.code, called.out) == (2, "")
        assert f"the worktree of `abe` is gone: `{place}`" in called.err
        assert "`parallelai work start plan.yaml abe` makes it again" in called.err
    all_of_them = cli("work", "sync")
    assert (all_of_them.code, "abe: not synced: the worktree of `abe` is gone" in all_of_them.out) == (
        4,
        True,
    )
    assert cli("work", "start", "plan.yaml", "abe").code == 0
    assert cli("work", "done", "abe").code == 0


def test_what_was_brought_into_a_worktree_is_no_matter_of_leave(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = PLAN.replace("workstreams:", "workspace: {link: .venv}\nworkstreams:")
    root = shop_with(tmp_path, monkeypatch, {"plan.yaml": plan, ".gitignore": ".venv/\n"})
    (root / ".venv").mkdir()
    (root / ".venv" / "x").write_text("x\n")
    assert cli("work", "start", "plan.yaml").code == 0
    place = root.parent / "shop-worktrees" / "abe"
    (place / "src" / "abe.py").write_text("x = 1\n")
    git(place, "add", "-A")  # a pattern with a slash at its end means no links
    monkeypatch.chdir(place)
    refused = cli("work", "guard-check", "--staged")
    assert (refused.code, "`git restore --staged .venv` takes it out" in refused.err) == (1, True)
    assert "lease" not in refused.err
    git(place, "restore", "--staged", ".venv")
    assert cli("work", "guard-check", "--staged").code == 0


def test_workstreams_outside_git_are_refused_before_anything_is_written(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.yaml").write_text(PLAN)
    for words in (("start", "plan.yaml"), ("run", "plan.yaml", "--engine", "command")):
        refused = cli("work", *words)
        assert (refused.code, "need a checkout of a git repository" in refused.err) == (2, True)
        assert not (tmp_path / ".parallelai").exists()


def test_in_a_folder_of_a_repository_nobody_is_sent_to_make_another_one(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "shop")
    (tmp_path / "shop" / "part").mkdir()
    (tmp_path / "shop" / "part" / "plan.yaml").write_text(PLAN)
    monkeypatch.chdir(tmp_path / "shop" / "part")
    refused = cli("--project", ".", "work", "run", "plan.yaml", "--engine", "command")
    assert (refused.code, "git init" in refused.err) == (2, False)
    assert f"it is a folder of one: name the top (`--project {tmp_path / 'shop'}`)" in refused.err


def test_in_a_bare_repository_they_are_told_where_they_can_be(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "--bare", "shop.git")
    monkeypatch.chdir(tmp_path / "shop.git")
    (tmp_path / "plan.yaml").write_text(PLAN)
    refused = cli("work", "run", "../plan.yaml", "--engine", "command")
    assert (refused.code, "`git worktree add` makes one" in refused.err) == (2, True)
