"""What `work clean` keeps, and what `work land` left out, is brought home by the commands that they name."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shops import commit, git, shop_with

PLAN = "version: 1\nworkstreams: {one: {description: One., owns: one/**}}\n"


@pytest.fixture
def worktree(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The worktree of a workstream in which a person made a file."""
    shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN})
    assert cli("work", "start", "plan.yaml").code == 0
    folder = tmp_path / "shop-worktrees" / "one"
    (folder / "one").mkdir()
    (folder / "one" / "a").write_text("a\n")
    return folder


@pytest.fixture
def shop(worktree: Path) -> Path:
    return worktree.parent.parent / "shop"


def follow(cli: Any, command: str) -> None:
    """Do what was advised."""
    for words in map(shlex.split, command.split(" && ")):
        if words[0] == "parallelai":
            called = cli(*words[1:])
            assert called.code == 0, called.err
        else:
            subprocess.run(words, check=True, capture_output=True)


def kept(cli: Any) -> list[dict[str, str]]:
    found: list[dict[str, str]] = cli("work", "clean", "--json").document["kept"]
    return found


# -- what `clean` keeps


def test_of_what_was_taken_back_and_has_no_worktree_it_is_said_where_it_is_and_what_lands_it(
    cli: Any, worktree: Path, shop: Path
) -> None:
    for words in (("done", "one"), ("land", "one"), ("clean",), ("undo", "one")):
        assert cli("work", *words).code == 0
    assert not worktree.exists()

    (row,) = kept(cli)

    assert row["why"] == (
        "its landing was taken back: what it did is on `parallelai/one`, without a worktree; "
        "`parallelai work drop one` gives it up, and keeps it as a patch"
    )
    assert (git(shop, "show", "parallelai/one:one/a"), row["command"]) == ("a", "parallelai work land one")
    follow(cli, row["command"])
    assert (shop / "one" / "a").read_text() == "a\n"

    assert cli("work", "undo", "one").code == 0
    patch = cli("work", "drop", "one", "--yes").out.split("`")[3]
    git(shop, "apply", patch)
    assert (shop / "one" / "a").read_text() == "a\n"


def committed(worktree: Path) -> None:
    commit(worktree, "mine")


def committed_and_gone(worktree: Path) -> None:
    commit(worktree, "mine")
    shutil.rmtree(worktree)


def cut_off(worktree: Path) -> None:
    (worktree / ".git").unlink()


def forgotten(worktree: Path) -> None:
    (worktree / ".git").unlink()
    git(worktree.parent.parent / "shop", "worktree", "prune")


@pytest.mark.parametrize(
    "happens", [lambda worktree: None, committed, committed_and_gone, cut_off, forgotten]
)
def test_what_is_kept_comes_home_by_the_commands_that_are_named_whatever_happened_to_it(
    cli: Any, worktree: Path, shop: Path, happens: Callable[[Path], None]
) -> None:
    happens(worktree)
    said = []
    for _ in range(4):
        rows = kept(cli)
        if not rows:
            break
        said.append(rows[0]["command"])
        follow(cli, said[-1])
    assert (shop / "one" / "a").read_text() == "a\n", said
    assert not worktree.exists()


def test_a_drop_of_a_folder_that_git_forgot_says_what_makes_it_a_worktree_again(
    cli: Any, worktree: Path
) -> None:
    forgotten(worktree)
    refused = cli("work", "drop", "one", "--yes", "--json")
    assert refused.code == 2
    follow(cli, refused.error["next"].split("`")[1])
    assert cli("work", "drop", "one", "--yes").code == 0


# -- what was edited after `done`


@pytest.mark.parametrize("is_committed", [False, True])
def test_what_came_after_done_is_told_before_and_after_the_landing_with_what_takes_it(
    cli: Any, worktree: Path, shop: Path, is_committed: bool
) -> None:
    assert cli("work", "done", "one").code == 0
    (worktree / "one" / "a").write_text("b\n")
    (worktree / "one" / "later").write_text("later\n")
    if is_committed:
        commit(worktree, "later")
    before = cli("work", "land", "one", "--dry-run").out
    assert "note: `one`: changed after `work done`, and left out: `one/a`, `one/later`; `parallelai" in before
    assert "`parallelai work done one` takes that in" in before

    said = cli("work", "land", "one").out

    assert "  changed after `work done`, and not landed: `one/a`, `one/later`; `" in said
    assert (shop / "one" / "a").read_text() == "a\n"
    found = re.search(r"`([^`]+)` lands that, too$", said, re.M)
    assert found is not None
    follow(cli, found[1])
    assert [(shop / "one" / name).read_text() for name in ("a", "later")] == ["b\n", "later\n"]
    assert cli("work", "clean").out == "one: removed\n"


def test_what_came_after_done_lands_too_where_it_is_called_done_again(
    cli: Any, worktree: Path, shop: Path
) -> None:
    assert cli("work", "done", "one").code == 0
    (worktree / "one" / "a").write_text("b\n")
    follow(cli, cli("work", "land", "one", "--dry-run").out.split("left out: ")[1].split("`")[3])

    said = cli("work", "land", "one").out

    assert "changed after" not in said
    assert (shop / "one" / "a").read_text() == "b\n"
