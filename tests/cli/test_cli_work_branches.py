"""Branches that no plan made, and what lies in their worktrees without a commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shops import commit, git, shop_with


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a branch `idea` that brings a commit, and a worktree of it beside."""
    root = shop_with(tmp_path, monkeypatch, {".gitignore": "*.log\n"})
    add(root, "idea")
    (root.parent / "idea" / "idea.py").write_text("x = 1\n")
    commit(root.parent / "idea", "idea")
    return root


def add(root: Path, name: str) -> Path:
    """A worktree beside the repository, on a new branch."""
    folder = root.parent / name
    git(root, "worktree", "add", "-qb", name, str(folder))
    return folder


def test_what_is_not_committed_in_a_branchs_worktree_keeps_it_from_landing(cli: Any, shop: Path) -> None:
    edited, staged, new = (add(shop, name) for name in ("edited", "staged", "new"))
    (edited / "src" / "app.py").write_text("x = 2\n")
    (staged / "added.py").write_text("y = 1\n")
    git(staged, "add", "added.py")
    (new / "new.py").write_text("z = 1\n")

    foreseen = cli("work", "land", "--branches", "*", "--dry-run")
    called = cli("work", "land", "--branches", "*", "--gate", "python3 -c 'pass'")

    assert called.code == 4
    assert "1 of 4 landed" in called.out
    for folder, path in ((edited, "src/app.py"), (staged, "added.py"), (new, "new.py")):
        said = f"not committed in its worktree `{folder}`: `{path}`"
        assert f"{folder.name} would not land: {said}" in foreseen.out
        assert f"{folder.name}: not landed: {said}\n  commit it there (`git -C {folder} add -A`" in called.out
    assert [path.name for path in sorted(shop.glob("*.py"))] == ["idea.py"]


def test_a_deletion_that_is_only_staged_keeps_a_branch_from_landing(cli: Any, shop: Path) -> None:
    folder = shop.parent / "idea"
    git(folder, "rm", "-q", "--cached", "src/app.py")
    called = cli("work", "land", "--branches", "idea")
    assert called.code == 4
    assert f"not committed in its worktree `{folder}`: `src/app.py`\n" in called.out
    assert f"commit it there (`git -C {folder} commit`), or" in called.out
    git(folder, "commit", "-qm", "It is nobody's")
    assert cli("work", "land", "--branches", "idea").code == 0
    assert not (shop / "src" / "app.py").exists()


def test_new_files_beside_a_branchs_commits_are_told_and_what_is_ignored_is_not(cli: Any, shop: Path) -> None:
    folder = shop.parent / "idea"
    (folder / "notes.txt").write_text("later\n")
    (folder / "run.log").write_text("ran\n")
    called = cli("work", "land", "--branches", "idea")
    assert called.code == 0
    assert f"  not committed in `{folder}`, and left there: `notes.txt`\n" in called.out
    (folder / "notes.txt").unlink()
    assert (
        cli("work", "land", "--branches", "idea").code == 0
    )  # nothing of it is new, and nothing is left there


def test_a_branch_in_the_main_checkout_lands_elsewhere_once_it_is_committed(cli: Any, shop: Path) -> None:
    git(shop, "checkout", "-qb", "here")
    (shop / "src" / "app.py").write_text("x = 3\n")
    land = ("work", "land", "--branches", "here", "--target", "main")
    assert cli(*land).code == 4
    commit(shop, "here")
    assert cli(*land).code == 0


def test_conflicts_sees_what_is_not_committed_in_the_worktrees_of_branches(cli: Any, shop: Path) -> None:
    for name, text in (("one", "x = 2\n"), ("two", "x = 3\n")):
        (add(shop, name) / "src" / "app.py").write_text(text)
    called = cli("work", "conflicts", "--branches", "one", "two", "--fail")
    assert called.code == 1
    assert "one × two: file conflict" in called.out
    shadow = cli("work", "conflicts", "--branches", "one", "two", "--shadow")
    assert "break together: one, two (conflict)" in shadow.out


def test_where_no_branch_is_checked_out_they_are_compared_with_the_base_that_is_named(
    cli: Any, shop: Path
) -> None:
    git(shop, "checkout", "-q", "--detach")  # as where a service checks a pull request
    called = cli("work", "conflicts", "--branches", "idea", "--base", "main", "--json")
    assert (called.code, called.document["names"], called.document["target"]) == (0, ["idea"], "main")
    refused = cli("work", "conflicts", "--branches", "idea")
    assert (refused.code, "HEAD is detached" in refused.err) == (2, True)


def test_the_gate_of_a_shadow_leaves_the_status_of_the_checkout_alone(cli: Any, shop: Path) -> None:
    before = git(shop, "status", "--porcelain")
    assert cli("work", "conflicts", "--branches", "idea", "--shadow", "--gate", "true").code == 0
    assert git(shop, "status", "--porcelain") == before


def test_a_gate_whose_program_git_does_not_hold_is_told_once_what_brings_it(cli: Any, shop: Path) -> None:
    tool = shop / "tools.log" / "check"  # which git ignores, as it does an environment
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    git(shop, "branch", "-q", "other", "idea")
    land = ("work", "land", "--branches", "idea", "other", "--gate", "tools.log/check {report}")
    called = cli(*land)
    assert called.code == 4
    assert called.out.startswith(
        "idea, other: not landed: gate `tools.log/check {report}` fails: it could not be run"
    )
    assert "its program `tools.log/check` is not in the tree that is tested\n" in called.out
    assert (
        '`[workspace] link = ["tools.log"]` in `parallelai.toml`, and then `parallelai trust`' in called.out
    )
    assert "0 of 2 landed" in called.out

    (shop / "parallelai.toml").write_text('[workspace]\nlink = ["tools.log"]\n[gates]\ncanary = "off"\n')
    assert cli("trust").code == 0
    assert cli(*land[:-1], "tools.log/check").code == 0


@pytest.mark.parametrize(
    ("gate", "what_helps"),
    [
        ("/none/check", "correct the command's path"),
        ("sh -c 'kill -9 $$'", "let the base pass"),
        ("sh -c no-such-check", "install `no-such-check`, or correct the command"),
        ("python3 -m no_such_check", "install `no_such_check`, or correct the command"),
        ("sh -c tools/no-such-check", "correct the command's path, or commit the program"),
    ],
)
def test_what_would_not_help_a_gate_that_came_to_no_end_is_not_advised(
    cli: Any, shop: Path, gate: str, what_helps: str
) -> None:
    refused = cli("work", "land", "--branches", "idea", "--gate", gate, "--json")
    (row,) = refused.document["tasks"]
    assert (refused.code, row["error"]["next"]) == (4, what_helps)


def test_what_landed_by_a_message_that_a_hook_made_short_is_taken_back(cli: Any, shop: Path) -> None:
    hook = shop / ".git" / "hooks" / "commit-msg"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\nhead -n 1 "$1" > short && mv short "$1"\n')
    hook.chmod(0o755)
    assert cli("work", "land", "--branches", "idea").code == 0
    assert "ParallelAI" not in git(shop, "log", "-1", "--format=%B")

    assert cli("work", "undo", "idea").code == 0

    assert not (shop / "idea.py").exists()
