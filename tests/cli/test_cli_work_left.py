"""What was taken out of worktrees, in git or as patches: it goes by its name, and with its run once it is taken."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from shops import commit, git, shop_with

PLAN = "version: 1\nworkstreams: {one: {description: One., owns: one/**}}\n"


AGENTS = """\
version: 1
engines:
  sh: {use: command, command: [sh, -c, "cat > /dev/null; mkdir -p one; echo 1 > one/a; echo no > README.md"]}
workstreams:
  one: {description: One., owns: one/**, engine: sh}
"""


def test_what_is_kept_in_git_goes_by_name_and_with_its_run(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN})
    assert cli("work", "start", "plan.yaml").code == 0
    run = cli("runs", "list", "--json").document["runs"][0]["id"]
    for name in ("other-000000000000", f"{run}/one-000000000000", f"{run}/two-000000000000"):
        git(shop, "update-ref", f"refs/parallelai/left/{name}", "HEAD")

    listed = cli("work", "clean").out
    assert "`parallelai work clean --left one-000000000000` lets it go" in listed, listed
    assert "--yes" in cli("work", "clean", "--left", "one").err
    assert cli("work", "clean", "--left", "one", "--dry-run").out == "one-000000000000: would be let go\n"
    assert cli("work", "clean", "--left", "one", "--yes").out == "one-000000000000: let go\n"
    assert cli("work", "clean", "--left", "one", "--yes").code == 2
    assert cli("runs", "delete", run, "--yes").code == 0
    assert git(shop, "for-each-ref", "--format=%(refname:lstrip=3)", "refs/parallelai/left/") == (
        "other-000000000000"
    )


def test_no_run_goes_that_keeps_what_was_given_up_or_kept_out_and_nobody_took(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN, "README.md": "base\n"})
    assert cli("work", "start", "plan.yaml").code == 0
    worktree = tmp_path / "shop-worktrees" / "one"
    (worktree / "one").mkdir()
    (worktree / "one" / "a.txt").write_text("mine\n")
    (worktree / "README.md").write_text("not mine\n")
    assert cli("work", "done", "one").code == 0
    run = cli("runs", "list", "--json").document["runs"][0]["id"]
    (kept_out,) = (shop / ".parallelai" / "state" / "runs" / run / "patches").iterdir()
    assert cli("work", "drop", "one", "--yes").code == 0
    given_up = next(path for path in kept_out.parent.iterdir() if path != kept_out)

    refused = cli("runs", "delete", run, "--yes", "--json")

    assert refused.code == 2
    for patch in (kept_out, given_up):
        assert str(patch.relative_to(shop)) in refused.error["said"]
        assert patch.is_file()
    for patch in (kept_out, given_up):
        git(shop, "apply", str(patch))
    assert cli("runs", "delete", run, "--yes").code == 2  # it is on no branch yet
    commit(shop, "taken")
    assert cli("runs", "delete", run, "--yes").out == f"deleted {run}\n"
    assert not given_up.exists()


def test_no_run_goes_that_keeps_what_was_given_up_before_it_was_begun_anew(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN})
    assert cli("work", "start", "plan.yaml").code == 0
    (tmp_path / "shop-worktrees" / "one" / "one").mkdir()
    (tmp_path / "shop-worktrees" / "one" / "one" / "a.txt").write_text("mine\n")
    run = cli("runs", "list", "--json").document["runs"][0]["id"]
    assert cli("work", "drop", "one", "--yes").code == 0
    assert cli("work", "start", "plan.yaml").code == 0

    refused = cli("runs", "delete", run, "--yes")

    (given_up,) = (shop / ".parallelai" / "state" / "runs" / run / "patches").iterdir()
    assert (refused.code, f"`git apply {given_up.relative_to(shop)}` takes it" in refused.err) == (2, True)


def test_prune_leaves_runs_that_keep_work_and_says_what_takes_it(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = shop_with(tmp_path, monkeypatch, {"plan.yaml": AGENTS, "README.md": "base\n"})
    assert cli("work", "run", "plan.yaml").code == 0
    run = cli("runs", "list", "--json").document["runs"][0]["id"]
    named = re.findall(r"kept in `(.+?[.]patch)`", cli("work", "status", "one").out)

    pruned = cli("runs", "prune", "--keep", "0", "--yes")

    assert pruned.code == 0
    assert pruned.out.startswith(f"deleted no runs\n{run}: kept: ")
    assert f"`git apply {named[0]}` takes it" in pruned.out
    assert all((shop / patch).is_file() for patch in named)
    (kept,) = cli("runs", "prune", "--keep", "0", "--yes", "--json").document["kept"]
    assert kept["run"] == run
    for patch in named:
        (shop / patch).unlink()
    assert cli("runs", "prune", "--keep", "0", "--yes").out == f"deleted {run}\n"


@pytest.mark.parametrize("how", ["merge", "rebase"])
def test_what_is_given_up_amid_a_merge_is_the_workstreams_own_side_and_all_is_kept(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    shop = shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN, "one/a": "base\n" + "-\n" * 8})
    assert cli("work", "start", "plan.yaml").code == 0
    worktree = tmp_path / "shop-worktrees" / "one"
    (worktree / "one" / "a").write_text("mine\n" + "-\n" * 8)
    commit(worktree, "mine")
    (worktree / "one" / "later").write_text("later\n")
    commit(worktree, "later")
    (shop / "one" / "a").write_text("theirs\n" + "-\n" * 8 + "theirs\n")
    commit(shop, "theirs")
    with pytest.raises(subprocess.CalledProcessError):
        git(worktree, how, "main")

    said = cli("work", "drop", "one", "--yes").out

    if how == "rebase":  # its patch is of what it was cut from
        git(shop, "checkout", "-q", "HEAD~1")
    git(shop, "apply", said.split("`")[3])
    end = "theirs\n" if how == "merge" else ""
    assert (shop / "one" / "a").read_text() == "mine\n" + "-\n" * 8 + end
    assert (shop / "one" / "later").read_text() == "later\n"
    assert "all as it lay there is kept in git" in said
    words = said.split("`git branch ")[1].split("`")[0].split()
    git(shop, "branch", *words)
    assert "<<<<<<< " in git(shop, "show", f"{words[0]}:one/a")


def test_nothing_is_lost_of_a_rebase_that_is_given_up_amid_its_conflicts(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"plan.yaml": PLAN, "one/a": "base\n", "one/b": "base\n"}
    shop = shop_with(tmp_path, monkeypatch, files)
    assert cli("work", "start", "plan.yaml").code == 0
    worktree = tmp_path / "shop-worktrees" / "one"
    for name in ("a", "b"):
        (worktree / "one" / name).write_text("mine\n")
        commit(worktree, f"mine of {name}")
        (shop / "one" / name).write_text("theirs\n")
    commit(shop, "theirs")
    (worktree / "plan.yaml").write_text("not committed\n")
    with pytest.raises(subprocess.CalledProcessError):
        git(worktree, "rebase", "--autostash", "main")
    (worktree / "one" / "a").write_text("settled\n")
    git(worktree, "commit", "-qam", "settled by hand")
    with pytest.raises(subprocess.CalledProcessError):
        git(worktree, "rebase", "--continue")
    (worktree / "one" / "b").write_text("half settled\n")
    (worktree / "one" / "new").write_text("new\n")

    (row,) = cli("work", "clean", "--json").document["kept"]
    assert row["command"] == f"git -C {worktree} status"
    said = cli("work", "drop", "one", "--yes").out

    assert not worktree.exists()
    taken = [words.split() for words in re.findall(r"`git (branch [^`]+)`", said)]
    whole, put_by, made = (words[1] for words in taken)
    listed = [each["command"] for each in cli("work", "clean", "--json").document["kept"]]
    assert sorted(listed) == sorted(" ".join(("git", *words)) for words in taken)
    for words in taken:
        git(shop, *words)
    there = {name: git(shop, "show", f"{whole}:one/{name}") for name in ("a", "b", "new")}
    assert there == {"a": "settled", "b": "half settled", "new": "new"}
    assert git(shop, "show", f"{put_by}:plan.yaml") == "not committed"
    assert git(shop, "log", "-1", "--format=%s", made) == "settled by hand"
    with pytest.raises(subprocess.CalledProcessError):  # both changed the same lines: git marks them
        git(shop, *said.split("`git ")[1].split("`")[0].split())
    assert "=======\nmine\n>>>>>>>" in (shop / "one" / "b").read_text()


def test_what_was_given_up_says_where_it_is_as_often_as_one_asks(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN})
    assert cli("work", "start", "plan.yaml").code == 0
    (tmp_path / "shop-worktrees" / "one" / "one").mkdir()
    (tmp_path / "shop-worktrees" / "one" / "one" / "a.txt").write_text("not committed\n")
    patch = Path(cli("work", "drop", "one", "--yes").out.split("`")[3]).resolve()

    assert (
        f"`one` is dropped already; its work is kept in `{patch}`" in cli("work", "drop", "one", "--yes").err
    )
    assert f"it was dropped; its work is kept in `{patch}`" in cli("work", "status", "one").out
    assert cli("work", "diff", "one").out == patch.read_text()
    patch.unlink()  # somebody took it elsewhere
    assert cli("work", "diff", "one").out == "`one` has changed nothing\n"


def test_no_patch_is_said_to_hold_what_lay_in_a_worktree_that_is_gone(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN})
    assert cli("work", "start", "plan.yaml").code == 0
    worktree = tmp_path / "shop-worktrees" / "one"
    (worktree / "one").mkdir()
    (worktree / "one" / "a.txt").write_text("not committed\n")
    worktree.rename(tmp_path / "elsewhere")

    assert cli("work", "drop", "one", "--yes").out.splitlines() == [
        "`one` is given up; none of it is in a patch",
        f"`{worktree}` was gone: what was not committed in it is in no patch",
    ]


def test_nothing_is_given_up_called_done_or_cleaned_behind_a_link_and_what_brings_it_back_is_said(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN})
    assert cli("work", "start", "plan.yaml").code == 0
    worktree, elsewhere = tmp_path / "shop-worktrees" / "one", tmp_path / "else where"
    (worktree / "one").mkdir()
    (worktree / "one" / "a.txt").write_text("mine\n")
    worktree.rename(elsewhere)
    worktree.symlink_to(elsewhere)

    refused = cli("work", "drop", "one", "--yes", "--json")

    back = f"rm {worktree} && mv '{elsewhere}' {worktree}"
    assert (refused.code, refused.error["next"]) == (2, f"`{back}` brings it back")
    monkeypatch.chdir(worktree)
    refused = cli("work", "done", "one", "--json")
    assert (refused.code, refused.error["next"]) == (2, f"`{back}` brings it back")
    monkeypatch.chdir(shop)
    assert f"its worktree was moved to `{elsewhere}`\n  {back}\n" in cli("work", "clean").out
    subprocess.run(["sh", "-c", back], check=True)
    assert "its work is kept in" in cli("work", "drop", "one", "--yes").out
    assert (worktree.exists(), git(shop, "branch", "--list", "parallelai/*")) == (False, "")


def test_a_link_to_another_folder_stays_and_is_told(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN})
    assert cli("work", "start", "plan.yaml").code == 0
    worktree, other = tmp_path / "shop-worktrees" / "one", tmp_path / "other"
    worktree.rename(tmp_path / "elsewhere")
    other.mkdir()
    worktree.symlink_to(other)

    assert f"`{worktree}` stays: it is a link" in cli("work", "drop", "one", "--yes").out
    worktree.unlink()
    assert cli("work", "drop", "one", "--yes").code == 0
    assert git(shop, "branch", "--list", "parallelai/*") == ""


def test_what_a_workstream_removed_is_removed_by_the_patch_though_the_target_changed_it(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN, "one/a": "a\n", "one/b": "b\n"})
    assert cli("work", "start", "plan.yaml").code == 0
    worktree = tmp_path / "shop-worktrees" / "one"
    git(worktree, "rm", "-q", "one/a", "one/b")
    commit(worktree, "removed")
    for name in ("a", "b"):
        (shop / "one" / name).write_text("theirs\n")
    commit(shop, "theirs")
    with pytest.raises(subprocess.CalledProcessError):
        git(worktree, "merge", "main")
    (worktree / "one" / "b").write_text("made of both\n")  # somebody has begun to settle it

    said = cli("work", "drop", "one", "--yes").out

    git(shop, "apply", said.split("`")[3])
    assert [path.name for path in (shop / "one").iterdir()] == ["b"]
    assert (shop / "one" / "b").read_text() == "made of both\n"
    assert "the patch has the workstream's own side" in said
