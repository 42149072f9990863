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
    git(shop, *said.split("`git ")[1].split("`")[0].split())
    assert "<<<<<<< " in git(shop, "show", "one-left:one/a")
