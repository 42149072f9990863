"""`work run` after somebody took work out of the target: what is not there is not done, what was given up stays so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shops import git, shop_with

PLAN = """\
version: 1
engines: {sh: {use: command, command: [python3, agent.py]}}
defaults: {engine: sh}
workstreams:
  a: {description: A., owns: src/a.txt}
gates: {landing: ["true"], canary: "off"}
"""
AGENT = "import pathlib, sys\nsys.stdin.read()\npathlib.Path('src/a.txt').write_text('a')\n"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Any) -> Path:
    """A repository in which the one workstream of a plan has landed."""
    root = shop_with(tmp_path, monkeypatch, {"src/x.txt": "x\n", "agent.py": AGENT, "plan.yaml": PLAN})
    git(root, "tag", "first")
    assert cli("work", "run", "plan.yaml").code == 0
    assert (root / "src" / "a.txt").exists()
    return root


def status(cli: Any, *more: str) -> dict[str, Any]:
    (row,) = cli("work", "status", *more, "--json").document["workstreams"]
    assert isinstance(row, dict)
    return row


def main(shop: Path) -> str:
    return git(shop, "rev-parse", "main")


# -- what the target does not hold any more


def test_what_went_from_the_target_is_not_told_as_landed(cli: Any, shop: Path) -> None:
    landed = main(shop)
    git(shop, "reset", "-q", "--hard", "first")

    row = status(cli)  # also without `--all`: it is not done

    assert (row["stage"], row["landed"], row["is_ready"]) == ("lost", None, False)
    assert row["why"] == f"landed as {landed[:10]}, which is not on `main` any more"
    assert "0 of 1 landed" in page(cli, shop)


def page(cli: Any, shop: Path) -> str:
    cli("work", "status", "--write", "STATUS.md")
    return (shop / "STATUS.md").read_text()


@pytest.mark.parametrize("how", [(), ("--new",)])
def test_what_went_from_the_target_is_done_again(cli: Any, shop: Path, how: tuple[str, ...]) -> None:
    landed = main(shop)
    git(shop, "reset", "-q", "--hard", "first")

    called = cli("work", "run", "plan.yaml", *how)

    assert called.code == 0
    assert main(shop) != git(shop, "rev-parse", "first")
    assert f"landed on main at {main(shop)[:10]}" in called.out
    assert f"`a` landed as {landed[:10]}, which is not on `main` any more; it is begun anew" in called.err
    assert (shop / "src" / "a.txt").read_text() == "a"
    assert status(cli, "--all")["landed"] == main(shop)


def test_what_went_from_the_target_lands_again_from_its_branch_if_that_is_there(cli: Any, shop: Path) -> None:
    tip = git(shop, "rev-parse", "main^2")
    git(shop, "reset", "-q", "--hard", "first")
    git(shop, "branch", "parallelai/a", tip)
    (shop / "agent.py").write_text("raise SystemExit('nobody is asked again')\n")

    called = cli("work", "run", "plan.yaml")

    assert called.code == 0
    assert "its landing is taken up again" in called.err
    assert git(shop, "rev-parse", "main^2") == tip
    assert f"landed on main at {main(shop)[:10]}" in called.out


def test_what_went_from_the_target_lands_again_by_hand_from_its_branch(cli: Any, shop: Path) -> None:
    landed, tip = main(shop), git(shop, "rev-parse", "main^2")
    git(shop, "reset", "-q", "--hard", "first")

    gone = cli("work", "land", "a")
    git(shop, "branch", "parallelai/a", tip)
    again = cli("work", "land", "a")

    said = f"`a` landed as {landed[:10]}, which is not on `main` any more, and its branch is gone"
    assert (gone.code, said in gone.err) == (2, True)
    assert (again.code, git(shop, "rev-parse", "main^2")) == (0, tip)
    assert status(cli, "--all")["landed"] == main(shop)


def test_what_builds_on_a_landing_that_is_gone_does_not_land_by_hand(cli: Any, shop: Path) -> None:
    more = "  b: {description: B., owns: src/b.txt, depends_on: [a]}\ngates:"
    (shop / "plan.yaml").write_text(PLAN.replace("gates:", more))
    git(shop, "commit", "-qam", "more")
    assert cli("work", "start", "plan.yaml", "b").code == 0
    (shop.parent / "shop-worktrees" / "b" / "src" / "b.txt").write_text("b")
    cli("work", "done", "b")
    git(shop, "reset", "-q", "--hard", "first")

    called = cli("work", "land", "b", "--json")

    (row,) = called.document["tasks"]
    assert called.code == 4
    assert "it depends on `a`: `a` landed as" in row["error"]["said"]
    assert row["error"]["next"] == "land `a` first"


def test_what_somebody_amended_is_there_still(cli: Any, shop: Path) -> None:
    git(shop, "commit", "-q", "--amend", "-m", "another message")
    before = main(shop)

    assert status(cli, "--all")["stage"] == "landed"
    assert cli("work", "run", "plan.yaml", "--new").code == 0
    assert main(shop) == before


def test_what_waits_to_be_taken_over_is_not_gone(cli: Any, shop: Path) -> None:
    git(shop, "reset", "-q", "--hard", "first")
    (shop / "src" / "a.txt").write_text("mine\n")
    assert cli("work", "run", "plan.yaml").code == 4  # the checkout could not follow

    assert status(cli, "--all")["stage"] == "pending"
    called = cli("work", "run", "plan.yaml")

    assert "is begun anew" not in called.err
    assert main(shop) == git(shop, "rev-parse", "first")


@pytest.fixture
def beside(cli: Any, shop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in which the workstream has landed beside its target: another git held the checkout's index."""
    monkeypatch.setattr("parallelai.work.landing.target._LOCKED_SECONDS", 0.0)
    git(shop, "reset", "-q", "--hard", "first")
    (shop / ".git" / "index.lock").touch()
    called = cli("work", "run", "plan.yaml")
    assert called.code == 4
    assert f"another git works there, or was killed and left `{shop}/.git/index.lock`" in called.err
    assert main(shop) == git(shop, "rev-parse", "first")
    return shop


@pytest.mark.parametrize("how", [("run", "plan.yaml"), ("land", "--all"), ("land", "a")])
def test_the_same_command_again_moves_a_checkout_that_could_not_follow(
    cli: Any, beside: Path, how: tuple[str, ...]
) -> None:
    locked = cli("work", *how)
    assert (locked.code, locked.err.count("your checkout waits: another git works there")) == (4, 1)
    (beside / ".git" / "index.lock").unlink()

    called = cli("work", *how)

    assert (called.code, "your checkout waits" in called.err) == (0, False)
    assert (beside / "src" / "a.txt").read_text() == "a"
    assert git(beside, "status", "--porcelain") == ""
    assert git(beside, "for-each-ref", "--format=%(refname)", "refs/heads/parallelai/landing") == ""
    again = cli("work", "run", "plan.yaml")
    assert (again.code, f"landed on main at {main(beside)[:10]}" in again.out) == (0, True)
    assert (status(cli, "--all")["stage"], git(beside, "worktree", "list").count("\n")) == ("landed", 0)


@pytest.mark.parametrize("is_cleaned", [False, True])
def test_a_run_after_a_person_took_over_what_had_landed_has_nothing_to_complain_of(
    cli: Any, beside: Path, is_cleaned: bool
) -> None:
    (beside / ".git" / "index.lock").unlink()
    git(beside, "merge", "-q", "--ff-only", "parallelai/landing/main")
    if is_cleaned:
        cli("work", "clean")

    called = cli("work", "run", "plan.yaml", "--json")

    assert (called.code, "your checkout waits" in called.err) == (0, False)
    (row,) = called.document["tasks"]
    landed = row["workstream"]["landed"]
    assert (landed["commit"], landed["pending"], landed["notes"]) == (main(beside), None, [])
    assert [gate["exit"] for gate in landed["gates"]] == [0]


def test_what_went_two_ways_is_left_to_a_person_with_the_command_for_it(cli: Any, beside: Path) -> None:
    (beside / ".git" / "index.lock").unlink()
    git(beside, "commit", "-q", "--allow-empty", "-m", "meanwhile")
    mine = main(beside)

    called = cli("work", "run", "plan.yaml")

    assert (called.code, main(beside)) == (2, mine)
    assert "`main` has commits that it has not" in called.err
    assert f"git -C {beside} merge parallelai/landing/main" in called.err


def test_undo_without_a_name_leaves_out_what_is_gone(cli: Any, shop: Path) -> None:
    git(shop, "reset", "-q", "--hard", "first")

    assert "nothing has landed yet" in cli("work", "undo").err
    assert "is not on `main`" in cli("work", "undo", "a").err


# -- what a person took back


def test_what_was_taken_back_does_not_land_again_by_itself(cli: Any, shop: Path) -> None:
    cli("work", "undo", "a")
    before = main(shop)
    assert (status(cli)["stage"], status(cli)["landed"]) == ("undone", None)

    called = cli("work", "run", "plan.yaml")

    assert (called.code, main(shop)) == (0, before)
    assert "`a` was taken back by `work undo`; `work land a`, `--new` or `--only a` lands it" in called.out
    assert "landed on" not in called.out
    assert status(cli)["stage"] == "undone"


@pytest.mark.parametrize("how", [("--only", "a"), ("--new",)])
def test_what_was_taken_back_lands_again_where_somebody_asks(
    cli: Any, shop: Path, how: tuple[str, ...]
) -> None:
    landed = main(shop)
    cli("work", "undo", "a")
    cli("work", "run", "plan.yaml")

    called = cli("work", "run", "plan.yaml", *how)

    assert main(shop) != landed
    assert f"landed on main at {main(shop)[:10]}" in called.out
    again = f"was taken back by `work undo` ({landed[:10]}); landed again as {main(shop)[:10]}"
    assert again in " ".join(called.err.split())
    assert cli("work", "run", "plan.yaml", "--resume").code == 0  # it is done, and stays so
    assert status(cli, "--all")["landed"] == main(shop)


def test_the_commit_that_is_told_is_that_of_the_last_landing(cli: Any, shop: Path) -> None:
    cli("work", "undo", "a")
    called = cli("work", "run", "plan.yaml", "--only", "a")  # in the run that had told the other one
    assert f"landed on main at {main(shop)[:10]}" in called.out

    (first,) = cli("runs", "list", "--json").document["runs"]
    git(shop, "reset", "-q", "--hard", "first")
    cli("work", "run", "plan.yaml", "--new")
    called = cli("runs", "resume", first["id"])
    assert f"landed on main at {main(shop)[:10]}" in called.out


def test_only_of_an_earlier_call_is_not_asked_for_again(cli: Any, shop: Path) -> None:
    cli("work", "run", "plan.yaml", "--new", "--only", "a")
    cli("work", "undo", "a")
    before = main(shop)

    assert "was taken back" in cli("work", "run", "plan.yaml").out
    assert main(shop) == before


def test_who_did_the_work_is_named_also_where_it_lands_by_hand(cli: Any, shop: Path) -> None:
    more = "  b: {description: B., owns: src/b.txt, approve: true}\ngates:"
    (shop / "plan.yaml").write_text(PLAN.replace("gates:", more))
    (shop / "agent.py").write_text(AGENT.replace("a.txt", "b.txt"))
    git(shop, "commit", "-qam", "more")
    assert cli("work", "run", "plan.yaml").code == 4  # nobody gave leave
    assert "b: left out: it waits for a person's leave to land" in cli("work", "land", "--all").out

    landed = cli("work", "land", "b")

    assert landed.code == 0, landed.err
    assert "ParallelAI-Engine: sh" in git(shop, "log", "-1", "--format=%B")


def test_what_was_landed_again_by_hand_is_told_as_it_is_now(cli: Any, shop: Path) -> None:
    cli("work", "undo", "a")
    cli("work", "land", "a")

    called = cli("work", "run", "plan.yaml")

    assert f"landed on main at {main(shop)[:10]}" in called.out
    assert status(cli, "--all")["landed"] == main(shop)


# -- what a person gave up


def test_what_was_given_up_is_done_again_only_where_somebody_asks(cli: Any, shop: Path) -> None:
    cli("work", "undo", "a")
    cli("work", "drop", "a", "--yes")
    before = main(shop)

    called = cli("work", "run", "plan.yaml")

    assert (called.code, main(shop)) == (0, before)
    assert "`a` was given up; `--new` or `--only a` does it again" in called.out
    assert status(cli, "--all")["stage"] == "dropped"

    again = cli("work", "run", "plan.yaml", "--only", "a", "--json").document

    (row,) = again["tasks"]
    assert (row["status"], row["attempts"], row["reused"]) == ("ok", 1, False)
    assert row["workstream"]["landed"]["commit"] == main(shop)
    assert (shop / "src" / "a.txt").exists()


def test_a_new_run_does_what_was_given_up_and_what_builds_on_it_waits_for_that(cli: Any, shop: Path) -> None:
    cli("work", "undo", "a")
    cli("work", "drop", "a", "--yes")
    more = PLAN.replace("gates:", "  b: {description: B., owns: src/b.txt, depends_on: [a]}\ngates:")
    (shop / "plan.yaml").write_text(more)
    (shop / "agent.py").write_text(AGENT.replace("src/a.txt", "src/b.txt"))
    git(shop, "commit", "-qam", "more")

    rows = {row["id"]: row for row in cli("work", "run", "plan.yaml", "--json").document["tasks"]}

    assert {name: row["status"] for name, row in rows.items()} == {"a": "skipped", "b": "skipped"}
    assert rows["b"]["because"] == "`a` was skipped"
    assert not (shop / "src" / "b.txt").exists()
    (shop / "agent.py").write_text(AGENT)
    git(shop, "commit", "-qam", "as it was")
    assert cli("work", "run", "plan.yaml", "--new", "--only", "a").code == 0
    assert (shop / "src" / "a.txt").exists()


# -- what landed, and was not pushed


def test_what_the_plan_pushes_and_the_remote_refused_is_pushed_by_the_same_command(
    cli: Any, shop: Path, tmp_path: Path
) -> None:
    refusal = _refusing_remote(tmp_path, shop)

    first, second = cli("work", "run", "plan.yaml"), cli("work", "run", "plan.yaml")
    refusal.unlink()
    third, fourth = cli("work", "run", "plan.yaml"), cli("work", "run", "plan.yaml")

    assert "it has landed here, and was not pushed" in first.out
    assert "it has landed here, and was not pushed" in second.out
    assert (first.code, second.code) == (4, 4)
    assert (third.code, fourth.code) == (0, 0)
    assert f"`b` landed as {main(shop)[:10]}, and was not pushed; its landing is taken up again" in third.err
    assert "pushed; its" not in fourth.err
    assert git(tmp_path / "remote.git", "rev-parse", "main") == main(shop)
    row = next(row for row in _rows(cli) if row["name"] == "b")
    assert (row["stage"], row["landed"]) == ("landed", main(shop))


def test_what_the_plan_pushes_and_the_remote_refused_is_pushed_also_by_hand(
    cli: Any, shop: Path, tmp_path: Path
) -> None:
    refusal = _refusing_remote(tmp_path, shop)
    cli("work", "run", "plan.yaml")

    refused = cli("work", "land", "b")
    refusal.unlink()
    pushed, again = cli("work", "land", "b"), cli("work", "land", "b")

    assert (refused.code, "not pushed" in refused.out + refused.err) == (4, True)
    assert (pushed.code, "pushed to `origin/main`" in pushed.out) == (0, True)
    assert (again.code, "pushed to" in again.out) == (0, False)
    assert git(tmp_path / "remote.git", "rev-parse", "main") == main(shop)


def test_what_the_plan_pushes_and_the_remote_refused_is_told_with_what_pushes_it(
    cli: Any, shop: Path, tmp_path: Path
) -> None:
    refusal = _refusing_remote(tmp_path, shop)
    cli("work", "run", "plan.yaml")

    row = next(row for row in _rows(cli, "status") if row["name"] == "b")  # not only with `--all`

    pushes = "not pushed: `parallelai work land b` pushes it"
    assert (row["stage"], row["is_push_left"], row["why"]) == ("landed", True, pushes)
    assert f"landed on main as {main(shop)[:10]}, {pushes}" in " ".join(
        cli("work", "status", "b").out.split()
    )
    assert pushes in page(cli, shop)
    refusal.unlink()
    git(shop, "push", "-q", "origin", "main")  # by hand, which no record says
    assert _rows(cli, "status") == []
    assert [row["is_push_left"] for row in _rows(cli)] == [False, False]


def _refusing_remote(folder: Path, shop: Path) -> Path:
    """A remote that takes no push as long as the file is there that is given; the plan has one more, and pushes."""
    git(folder, "init", "-q", "--bare", "-b", "main", "remote.git")
    git(shop, "remote", "add", "origin", str(folder / "remote.git"))
    git(shop, "push", "-q", "-u", "origin", "main")
    more = "  b: {description: B., owns: src/b.txt, engine: more}\nlanding: {push: true}\ngates:"
    engines = "engines: {more: {use: command, command: [sh, -c, 'echo b > src/b.txt']}, sh:"
    (shop / "plan.yaml").write_text(PLAN.replace("gates:", more).replace("engines: {sh:", engines))
    hook = folder / "remote.git" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho no entry >&2\nexit 1\n")
    hook.chmod(0o755)
    return hook


def _rows(cli: Any, *words: str) -> list[dict[str, Any]]:
    rows = cli("work", *(words or ("status", "--all")), "--json").document["workstreams"]
    assert isinstance(rows, list)
    return rows
