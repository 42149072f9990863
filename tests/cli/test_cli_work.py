"""`parallelai work …`, as a person uses it: worktrees by hand, landings, what is told, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from shops import commit, git, shop_with

from parallelai.client.runs import Runs
from parallelai.work.streams.registry import Streams

PLAN = """\
version: 1
workstreams:
  zed: {description: Zed., owns: src/zed.py}
  abe: {description: Abe., owns: src/abe.py}
  cat: {description: Cat., owns: src/cat.py}
gates: {landing: ["python3 -m compileall -q src"]}
"""
AGENT = """\
import pathlib, sys
sys.stdin.read()
pathlib.Path("src", sys.argv[1] + ".py").write_text("x = 1\\n")
pathlib.Path("README.md").write_text("not mine\\n")
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a plan of three workstreams."""
    return shop_with(tmp_path, monkeypatch, {"README.md": "base\n", "plan.yaml": PLAN})


def place(shop: Path, name: str) -> Path:
    return shop.parent / "shop-worktrees" / name


@pytest.fixture
def ready(cli: Any, shop: Path) -> Path:
    """The same, with all three ready to land."""
    assert cli("work", "start", "plan.yaml").code == 0
    for name in ("zed", "abe", "cat"):
        (place(shop, name) / "src" / f"{name}.py").write_text("x = 1\n")
        assert cli("work", "done", name).code == 0
    return shop


def made(shop: Path) -> set[str]:
    return {path.stem for path in (shop / "src").glob("*.py")} - {"app"}


def branch(shop: Path, name: str, path: str, text: str) -> None:
    git(shop, "checkout", "-qb", name, "main")
    (shop / path).write_text(text)
    commit(shop, name)
    git(shop, "checkout", "-q", "main")


# -- taking back


def test_undo_without_a_name_takes_the_latest_back_whatever_it_is_called(cli: Any, ready: Path) -> None:
    cli("work", "land", "zed")
    cli("work", "land", "abe")

    cli("work", "clean")
    assert not git(ready, "branch", "--list", "parallelai/abe")
    assert "\nabe: parallelai/abe has no worktree any more\n" in cli("work", "status", "abe").out
    assert cli("work", "undo").out.startswith("abe: taken back from main; what it did is on parallelai/abe: ")
    assert git(ready, "branch", "--list", "parallelai/abe")
    assert made(ready) == {"zed"}
    assert cli("work", "undo").out.startswith("zed: ")


def test_undo_of_one_leaves_the_others_of_its_batch(cli: Any, ready: Path) -> None:
    assert cli("work", "land", "--all").out.endswith("3 of 3 landed\n")

    called = cli("work", "undo", "abe", "--json")

    assert [row["name"] for row in called.document["undone"]] == ["abe"]
    assert made(ready) == {"zed", "cat"}
    states = {row["name"]: row["landed"] for row in streams(cli)}
    assert states["abe"] is None
    assert states["zed"]
    cli("work", "undo", "zed")
    assert cli("work", "undo").code == 0
    assert made(ready) == set()


def test_undo_takes_a_whole_batch_back_at_once(cli: Any, ready: Path) -> None:
    cli("work", "land", "--all")
    before = git(ready, "rev-list", "--count", "--first-parent", "main")

    called = cli("work", "undo")

    assert {line.split(":")[0] for line in called.out.splitlines()} == {"abe", "cat", "zed"}
    assert made(ready) == set()
    assert int(git(ready, "rev-list", "--count", "--first-parent", "main")) == int(before) + 1
    assert cli("work", "land", "abe", "cat", "zed").code == 0
    assert made(ready) == {"abe", "cat", "zed"}


@pytest.mark.parametrize("method", ["squash", "rebase"])
def test_undo_takes_one_of_several_back_however_they_landed(cli: Any, ready: Path, method: str) -> None:
    assert cli("work", "land", "--all", "--method", method).code == 0
    assert made(ready) == {"zed", "abe", "cat"}
    before = git(ready, "rev-parse", "main")

    called = cli("work", "undo", "abe", "--json")

    assert called.code == 0
    assert [row["name"] for row in called.document["undone"]] == ["abe"]
    assert made(ready) == {"zed", "cat"}
    assert git(ready, "rev-parse", "main^") == before
    assert git(ready, "status", "--short") == ""
    assert {row["name"] for row in streams(cli) if row["landed"]} == {"zed", "cat"}
    assert cli("work", "land", "abe", "--method", method).code == 0
    assert made(ready) == {"zed", "abe", "cat"}


@pytest.mark.parametrize("method", ["squash", "rebase"])
def test_undo_takes_the_latest_back_however_it_landed(cli: Any, ready: Path, method: str) -> None:
    (place(ready, "cat") / "src" / "cat.py").write_text("x = 1\ny = 2\n")
    assert cli("work", "done", "cat").code == 0  # a second commit: a rebase lands two
    assert cli("work", "land", "zed", "--method", method).code == 0
    assert cli("work", "land", "cat", "--method", method).code == 0

    assert cli("work", "undo").out.startswith("cat: taken back from main")
    assert made(ready) == {"zed"}
    assert cli("work", "undo").out.startswith("zed: taken back from main")
    assert made(ready) == set()
    assert "all that had landed was taken back already" in cli("work", "undo").err


@pytest.mark.parametrize("method", ["squash", "rebase"])
def test_undo_whose_gate_fails_changes_nothing(cli: Any, ready: Path, method: str) -> None:
    assert cli("work", "land", "zed", "--method", method).code == 0
    tip = git(ready, "rev-parse", "main")

    called = cli("work", "undo", "zed", "--gate", "test -e src/zed.py")

    assert called.code == 4
    assert called.err.startswith("error: `zed` stays, for the gate fails without it: gate `test -e ")
    assert (git(ready, "rev-parse", "main"), made(ready)) == (tip, {"zed"})


def test_undo_after_one_that_landed_nothing_takes_back_what_is_there(cli: Any, ready: Path) -> None:
    cli("work", "land", "zed")
    assert "note: `abe` has changed nothing" in emptied(cli, ready)
    assert "abe: is on main at" in cli("work", "land", "abe").out
    assert "nothing to take back" in cli("work", "undo", "abe").err

    assert cli("work", "undo").out.startswith("zed: ")
    assert made(ready) == set()


def emptied(cli: Any, shop: Path) -> str:
    """What is said of a workstream that has no commit of its own."""
    cli("work", "drop", "abe", "--yes")
    cli("work", "start", "plan.yaml", "abe")
    return str(cli("work", "done", "abe").out)


def test_undo_looks_at_all_names_before_it_touches_anything(cli: Any, ready: Path) -> None:
    cli("work", "land", "zed")
    tip = git(ready, "rev-parse", "main")

    called = cli("work", "undo", "zed", "abe")

    assert called.code == 2
    assert "`abe` has not landed" in called.err
    assert "next: `parallelai work status abe` says how it stands" in called.err
    assert git(ready, "rev-parse", "main") == tip


def test_undo_takes_back_one_of_several_branches_behind_the_gate_that_they_landed_with(
    cli: Any, shop: Path
) -> None:
    for name in ("idea", "more"):
        branch(shop, name, f"src/{name}.py", "x = 1\n")
    gate = "python3 -c 'import os; os.path.exists(\"broken\") and exit(1)'"
    landed = cli("work", "land", "--branches", "idea", "more", "--gate", gate)
    assert (landed.code, landed.out.count("stays green with a syntax error")) == (0, 1)
    assert "\nidea, more: gate `python3 -c" in landed.out  # what is about both is said once
    git(shop, "branch", "-D", "idea")
    (shop / "broken").write_text("x\n")
    git(shop, "add", "broken")
    git(shop, "commit", "-qm", "Broken meanwhile")
    before = git(shop, "rev-parse", "main")
    refused = cli("work", "undo", "idea")  # by the gate that nobody named again
    assert (refused.code, "the gate fails" in refused.err, git(shop, "rev-parse", "main")) == (
        4,
        True,
        before,
    )
    git(shop, "rm", "-q", "broken")
    git(shop, "commit", "-qm", "Whole again")
    before = git(shop, "rev-parse", "main")

    called = cli("work", "undo", "idea")

    assert called.out.startswith("idea: taken back from main; what it did is on idea:")
    assert "`parallelai work land --branches idea` lands it again" in called.out
    assert git(shop, "rev-parse", "main^") == before
    assert (made(shop), git(shop, "status", "--short")) == ({"more"}, "")
    again = "error: `idea` was taken back already\n  next: `parallelai work land --branches idea` lands it again\n"
    assert cli("work", "undo", "idea").err == again
    assert cli("work", "land", "--branches", "idea").code == 0  # git made its branch again
    assert made(shop) == {"idea", "more"}


def test_undo_gives_a_branch_whose_name_is_taken_another_one(cli: Any, shop: Path) -> None:
    branch(shop, "s/2", "src/two.py", "x = 1\n")
    tip = git(shop, "rev-parse", "s/2")
    assert cli("work", "land", "--branches", "s/2", "--method", "squash").code == 0
    git(shop, "branch", "-D", "s/2")
    branch(shop, "s/2", "src/other.py", "x = 1\n")

    called = cli("work", "undo", "s/2")

    again = "parallelai work land --branches s/2-undone"
    assert (
        called.out == f"s/2: taken back from main; what it did is on s/2-undone: `{again}` lands it again\n"
    )
    assert git(shop, "rev-parse", "s/2-undone") == tip
    for name in ("s/2", "s/2-undone"):
        error = cli("work", "undo", name).err
        assert error == f"error: `s/2` was taken back already\n  next: `{again}` lands it again\n"
    assert cli(*again.split()[1:]).code == 0
    assert made(shop) == {"two"}


def test_undo_without_a_name_takes_back_branches_and_workstreams_the_last_first(
    cli: Any, ready: Path
) -> None:
    branch(ready, "feature/1", "src/one.py", "x = 1\n")
    assert cli("work", "land", "zed").code == 0
    assert cli("work", "land", "--branches", "feature/1", "--method", "squash").code == 0

    rows = cli("work", "undo", "--json").document["undone"]

    assert [(row["name"], row["worktree"], row["state"]) for row in rows] == [("feature/1", None, "done")]
    assert made(ready) == {"zed"}
    assert "is on main" in cli("work", "land", "--branches", "parallelai/zed").out  # as a workstream's
    taken = cli("work", "undo").out
    assert (taken.startswith("zed: "), taken.count("\n")) == (True, 1)
    assert made(ready) == set()


def test_undo_says_what_to_do_with_what_no_landing_brought(cli: Any, shop: Path) -> None:
    branch(shop, "idea", "src/a.py", "x = 1\n")
    git(shop, "merge", "-q", "--no-ff", "-m", "By hand", "idea")
    assert "is on main" in cli("work", "land", "--branches", "idea").out

    called = cli("work", "undo", "idea")

    assert called.code == 2
    assert "`git revert -m 1 COMMIT`" in called.err
    assert "nothing has landed yet" in cli("work", "undo").err
    assert "no workstream or branch `feature/2` has landed here" in cli("work", "undo", "feature/2").err


def test_undo_advises_what_takes_back_one_branch_only_once_its_run_was_deleted(cli: Any, shop: Path) -> None:
    for name in ("idea", "more"):
        branch(shop, name, f"src/{name}.py", "x = 1\n")
    assert cli("work", "land", "--branches", "idea", "more").code == 0
    assert cli("runs", "prune", "--keep", "0", "--yes").code == 0

    called = cli("work", "undo", "idea", "--json")

    assert (called.code, called.error["said"]) == (2, "no run that is kept landed `idea`")
    commit = called.error["next"].partition("git revert -m 1 ")[2].partition("`")[0]
    git(shop, "revert", "--no-edit", "-m", "1", commit)
    assert not (shop / "src/idea.py").exists()
    assert (shop / "src/more.py").exists()


# -- leave


def test_leave_without_a_run_is_kept_and_holds_until_the_landing(cli: Any, ready: Path) -> None:
    called = cli("work", "lease", "zed", "./README.md")
    assert called.out == "`zed` may change `README.md` until it has landed\n"
    assert "may change that already" in cli("work", "lease", "zed", "README.md", "src/zed.py").out
    refused = cli("work", "lease", "abe", "README.md")
    assert (refused.code, "`zed` has them first" in refused.err) == (2, True)
    for name in ("zed", "abe"):
        (place(ready, name) / "README.md").write_text(f"{name}\n")
        cli("work", "done", name)

    assert cli("work", "land", "--all").code == 0
    assert (ready / "README.md").read_text() == "zed\n"
    ended = cli("work", "lease", "zed", "README.md")
    assert (ended.code, "is landed already" in ended.err) == (2, True)


def test_leave_for_what_another_owns_or_is_not_one_file_is_refused(cli: Any, ready: Path) -> None:
    owned = cli("work", "lease", "abe", "SRC/Zed.py")
    assert (owned.code, "`zed` has them first" in owned.err) == (2, True)
    (place(ready, "zed") / "etc").symlink_to("/etc")
    several = cli("work", "lease", "zed", "docs/*.md")
    assert (several.code, "`docs/*.md` is a pattern\n  next: name the files" in several.err) == (2, True)
    behind = cli("work", "lease", "zed", "etc/passwd")
    assert (behind.code, "`etc` is a link" in behind.err) == (2, True)


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "src/", "a\nb"])
def test_leave_for_what_is_no_file_of_the_project_is_refused(cli: Any, ready: Path, path: str) -> None:
    called = cli("work", "lease", "zed", path)

    assert called.code == 2
    assert "is no file of the project" in called.err


def test_who_changed_only_what_was_kept_out_is_not_ready_and_leave_puts_it_back(cli: Any, shop: Path) -> None:
    assert cli("work", "start", "plan.yaml", "zed").code == 0
    readme = place(shop, "zed") / "README.md"
    readme.write_text("zed\n")

    refused = cli("work", "done", "zed")

    assert refused.code == 4
    assert "kept out: README.md" in refused.err
    assert "`parallelai work lease zed README.md`" in refused.err
    assert "git apply" in refused.err
    assert cli("work", "land", "--all").code == 4
    assert readme.read_text() == "base\n"
    assert "is in the worktree again" in cli("work", "lease", "zed", "README.md").out
    assert cli("work", "done", "zed").out.startswith("`zed` is ready")
    assert cli("work", "land", "zed").code == 0
    assert (shop / "README.md").read_text() == "zed\n"


def test_leave_says_how_to_put_back_what_does_not_fit_any_more(cli: Any, ready: Path) -> None:
    readme = place(ready, "zed") / "README.md"
    readme.write_text("zed\n")
    assert "is ready" in cli("work", "done", "zed").out
    readme.write_text("another\n")

    told = cli("work", "lease", "zed", "README.md").out

    patch = told.split("`git apply ")[1].split("`")[0]
    assert "+zed" in Path(patch).read_text()
    assert readme.read_text() == "another\n"


# -- landing


def test_a_gate_that_needs_a_shell_is_refused_before_anything_is_begun(cli: Any, shop: Path) -> None:
    branch(shop, "idea", "src/idea.py", "x = 1\n")

    called = cli("work", "land", "--branches", "idea", "--gate", "true | cat")

    assert called.code == 2
    assert "needs a shell" in called.err
    assert "sh -c" in called.err
    assert cli("runs", "list", "--json").document["runs"] == []


def test_what_no_gate_has_seen_is_said_to_be_so(cli: Any, shop: Path) -> None:
    branch(shop, "idea", "src/idea.py", "x = 1\n")

    assert "no gate runs; nothing" in cli("work", "land", "--branches", "idea", "--dry-run").out
    assert "without a gate" in cli("work", "land", "--branches", "idea").out
    assert "nothing of it was new" in cli("work", "land", "--branches", "idea").out


def test_a_broken_gate_is_told_line_by_line(cli: Any, shop: Path) -> None:
    branch(shop, "idea", "src/idea.py", "def (:\n")

    called = cli("work", "land", "--branches", "idea", "--gate", "python3 -m compileall -q src")

    assert called.code == 4
    assert called.out.startswith("idea: not landed: the gate fails")
    assert any(line.startswith("    ") and "SyntaxError" in line for line in called.out.splitlines())


def test_a_checkout_that_cannot_follow_is_no_success(cli: Any, ready: Path) -> None:
    (ready / "src" / "zed.py").write_text("mine\n")

    called = cli("work", "land", "zed")

    waits = (
        "your checkout waits: `src/zed.py` is in the way: move it,"
        " then `git merge --ff-only parallelai/landing/main`\n"
    )
    assert called.code == 4
    assert called.out.startswith("zed: landed on parallelai/landing/main at ")
    assert called.err.count(waits) == 1
    assert (ready / "src" / "zed.py").read_text() == "mine\n"
    again = cli("work", "land", "--branches", "parallelai/zed")
    assert again.out.startswith("parallelai/zed: is on parallelai/landing/main at ")
    assert waits in again.err
    shown = cli("work", "status").out
    assert "landed on parallelai/landing/main as " in shown
    assert shown.endswith(waits)
    assert not_taken_over(cli, ready) == (False, False, waits)

    (ready / "src" / "zed.py").unlink()
    git(ready, "merge", "-q", "--ff-only", "parallelai/landing/main")
    assert "zed" not in cli("work", "status").out
    assert "landed on main as " in cli("work", "status", "zed").out
    assert not_taken_over(cli, ready) == (True, True, "")


def test_a_branch_of_no_plan_that_waits_is_told_wherever_one_looks(cli: Any, shop: Path) -> None:
    branch(shop, "idea", "src/idea.py", "x = 1\n")
    (shop / "src" / "idea.py").write_text("mine\n")
    assert cli("work", "land", "--branches", "idea").code == 4

    command = "git merge --ff-only parallelai/landing/main"
    said = f"your checkout waits: `{command}` takes it over"
    assert cli("work", "status").out == f"no workstream is worked on\nidea: {said}\n"
    assert cli("work", "status", "--json").document["waiting"] == [
        {
            "target": "main",
            "branch": "parallelai/landing/main",
            "names": ["idea"],
            "said": said,
            "next": command,
        }
    ]
    cli("work", "status", "--write", "STATUS.md")
    assert f"\nNot yet taken over: idea: {said}\n" in (shop / "STATUS.md").read_text()

    (shop / "src" / "idea.py").unlink()
    git(shop, *command.split()[1:])
    assert cli("work", "status", "--json").document["waiting"] == []
    cli("work", "status", "--write", "STATUS.md")
    assert "Not yet taken over" not in (shop / "STATUS.md").read_text()


def test_an_open_pull_request_is_left_to_a_person(
    cli: Any, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "https://host.example/pull/7"
    program = tmp_path / "bin" / "gh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$2" = list ] && echo "[]" || echo {address}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    config = tmp_path / "config" / "parallelai" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[landing]\nvia = "pr"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    git(tmp_path, "init", "-q", "--bare", "remote.git")
    git(shop, "remote", "add", "origin", str(tmp_path / "remote.git"))
    branch(shop, "idea", "src/idea.py", "x = 1\n")

    called = cli("work", "land", "--branches", "idea", "--json")

    (row,) = called.document["tasks"]
    assert (row["status"], row["error"]["said"]) == ("blocked", f"its pull request is open: {address}")
    assert (called.code, called.document["exit"]) == (4, 4)  # not 3: it was tried, and pushed


def test_what_was_taken_back_beside_the_target_is_no_success_either(cli: Any, ready: Path) -> None:
    branch(ready, "idea", "src/idea.py", "x = 1\n")
    cli("work", "land", "zed")
    cli("work", "land", "--branches", "idea")
    (ready / "src" / "idea.py").write_text("mine\n")

    called = cli("work", "undo")

    way = "what you changed in `src/idea.py` is in the way: put it aside, then "
    waits = "your checkout waits: {}`git merge{} parallelai/landing/main`{}\n"
    on = "idea: taken back on parallelai/landing/main, which main has still to take over; what it did is on idea: "
    assert (called.code, called.out.startswith(on)) == (4, True)
    assert called.err == waits.format(way, " --ff-only", "")
    assert cli("work", "status").out.endswith(waits.format("", " --ff-only", " takes it over"))
    assert cli("--quiet", "work", "undo", "zed").err == waits.format(way, " --ff-only", "")
    row = {each["name"]: each for each in streams(cli)}["zed"]
    assert (row["stage"], row["pending"]) == ("undone", "parallelai/landing/main")
    assert cli("work", "status").out.count("your checkout waits: ") == 1
    cli("work", "status", "--write", "STATUS.md")
    page = (ready / "STATUS.md").read_text()
    assert "0 of 3 landed, 1 not yet taken over, " in page
    assert f"\nNot yet taken over: {waits.format(way, ' --ff-only', '')}" in page

    git(ready, "commit", "-qam", "Mine after all")  # which is not what was advised
    assert cli("work", "status").out.endswith(waits.format("", "", " takes it over"))
    git(ready, "reset", "-q", "--hard", "HEAD~")
    git(ready, "merge", "-q", "--ff-only", "parallelai/landing/main")
    assert "your checkout waits" not in cli("work", "status").out
    assert made(ready) == set()


def not_taken_over(cli: Any, shop: Path) -> tuple[bool, bool, str]:
    """Whether a page counts `zed` as landed, whether a task list has it ticked, and what is said where not."""
    cli("work", "status", "--write", "STATUS.md")
    page = (shop / "STATUS.md").read_text()
    assert ("0 of 3 landed, 1 not yet taken over, " in page) is (
        "\nNot yet taken over: your checkout " in page
    )
    (shop / "TODO.md").write_text("- [ ] zed: do it\n")
    said = str(cli("work", "status", "--write", "TODO.md").err)
    is_ticked = (shop / "TODO.md").read_text() == "- [x] zed: do it\n"
    return "| [x] | zed |" in page, is_ticked, said.partition("`zed` is not ticked: not yet taken over: ")[2]


def test_what_is_not_there_is_not_asked_about(cli: Any, ready: Path) -> None:
    called = cli("work", "drop", "nonsuch")
    assert called.code == 2
    assert "there is no workstream `nonsuch`" in called.err


def test_what_has_landed_is_refused_unasked_with_what_takes_it_back(cli: Any, ready: Path) -> None:
    assert cli("work", "land", "zed").code == 0

    called = cli("work", "drop", "zed")

    assert called.code == 2
    assert "`zed` is landed already" in called.err
    assert "`parallelai work undo zed` takes back what landed" in called.err
    assert cli("work", "undo", "zed").code == 0


def test_what_is_kept_out_of_what_a_person_did_is_told_with_the_command_that_gives_leave(
    cli: Any, ready: Path
) -> None:
    (place(ready, "zed") / "README.md").write_text("zed\n")

    told = cli("work", "done", "zed").out

    assert "kept out: README.md" in told
    assert "\n`parallelai work lease zed README.md` gives leave, and puts it back where it fits\n" in told
    assert cli("work", "lease", "zed", "README.md").code == 0
    assert "work lease" not in cli("work", "done", "zed").out


def test_who_is_ready_after_another_is_told_the_command_that_lands_both(cli: Any, shop: Path) -> None:
    (shop / "plan.yaml").write_text(PLAN.replace("owns: src/abe.py", "owns: src/abe.py, depends_on: zed"))
    assert cli("work", "start", "plan.yaml", "zed", "abe").code == 0
    for name in ("zed", "abe"):
        (place(shop, name) / "src" / f"{name}.py").write_text("x = 1\n")

    told = cli("work", "done", "zed", "abe").out

    assert "`zed` is ready to land: `parallelai work land zed`\n" in told
    assert "`abe` is ready to land, after `zed`: `parallelai work land zed abe`\n" in told
    assert cli("work", "land", "zed", "abe").code == 0


def test_where_nothing_is_ready_to_land_that_is_no_wrong_usage(cli: Any, shop: Path) -> None:
    assert cli("work", "land", "--all").code == 0
    cli("work", "start", "plan.yaml", "zed")
    called = cli("work", "land", "--all")
    assert (called.code, called.out) == (4, "")
    assert "nothing is ready to land" in called.err


def test_a_gate_that_fails_says_where_to_put_it_right(cli: Any, ready: Path) -> None:
    called = cli("work", "land", "zed", "--gate", "test ! -e src/zed.py")
    assert f"put it right in `{place(ready, 'zed')}`, then `parallelai work done zed` and" in called.out


def test_a_push_that_fails_is_told(cli: Any, ready: Path) -> None:
    git(ready, "remote", "add", "origin", str(ready.parent / "nowhere.git"))

    called = cli("work", "land", "zed", "--push")

    assert called.code == 4
    assert "zed: landed on main" in called.out
    assert "zed: not pushed: " in called.out


def test_a_sync_goes_by_the_plan_file_as_it_is_now(cli: Any, ready: Path) -> None:
    plan = ready / "plan.yaml"
    plan.write_text(f"{PLAN}landing: {{sync: rebase}}\n")
    commit(ready, "landed since")

    assert cli("work", "sync", "zed").out == "zed: synced\n"

    assert git(place(ready, "zed"), "rev-list", "--count", "HEAD..main") == "0"
    assert git(place(ready, "zed"), "rev-list", "--merges", "main..HEAD") == ""


@pytest.fixture
def remote(ready: Path) -> Path:
    """A remote of it, which is empty."""
    git(ready.parent, "init", "-q", "--bare", "remote.git")
    git(ready, "remote", "add", "origin", str(ready.parent / "remote.git"))
    return ready.parent / "remote.git"


def test_a_push_is_told_of_what_had_landed_before_also_beside_what_lands(
    cli: Any, ready: Path, remote: Path
) -> None:
    assert cli("work", "land", "zed").code == 0
    called = cli("work", "land", "zed", "abe", "--push", "--json")
    pushed = {row["id"]: row["workstream"]["landed"]["pushed"] for row in called.document["tasks"]}
    assert (called.code, pushed) == (0, {"abe": "origin/main", "zed": "origin/main"})

    remote.rename(remote.with_name("gone.git"))
    failed = cli("work", "land", "abe", "cat", "--push")
    assert failed.code == 4
    assert ["cat: not pushed" in failed.out, "abe: not pushed" in failed.out] == [True, True]


def test_a_push_is_told_also_of_what_had_landed_before(cli: Any, ready: Path, remote: Path) -> None:
    both = cli("work", "land", "zed", "abe", "--push")
    assert (both.code, "zed, abe: pushed to `origin/main`\n" in both.out) == (0, True)
    assert cli("work", "land", "cat").code == 0
    assert git(ready.parent / "remote.git", "rev-parse", "main") != git(ready, "rev-parse", "main")

    called = cli("work", "land", "cat", "--push", "--json")

    (row,) = called.document["tasks"]
    assert (called.code, row["workstream"]["landed"]["pushed"]) == (0, "origin/main")
    assert git(ready.parent / "remote.git", "rev-parse", "main") == git(ready, "rev-parse", "main")
    assert "  pushed to `origin/main`\n" in cli("work", "land", "cat", "--push").out
    (status,) = cli("work", "status", "cat", "--json").document["workstreams"]
    assert status["pushed"] == "origin/main"
    assert ", pushed to origin/main\n" in cli("work", "status", "cat").out
    git(ready.parent / "remote.git", "update-ref", "refs/heads/main", "main~1")
    assert cli("work", "land", "--all", "--push").code == 0
    assert git(ready.parent / "remote.git", "rev-parse", "main") == git(ready, "rev-parse", "main")
    git(ready, "remote", "set-url", "origin", str(ready.parent / "nowhere.git"))
    failed = cli("work", "land", "cat", "--push")
    assert (failed.code, "cat: not pushed: " in failed.out) == (4, True)


@pytest.mark.parametrize("words", [["abe"], ["--branches", "one"]])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_push_takes_along_what_had_landed_before_and_nobody_names(
    cli: Any, ready: Path, remote: Path, words: list[str], is_there: bool
) -> None:
    branch(ready, "one", "one.txt", "1\n")
    assert cli("work", "land", "zed").code == 0
    if is_there:
        assert cli("work", "land", *words).code == 0
    assert cli("work", "land", "cat").code == 0

    assert cli("work", "land", *words, "--push").code == 0

    rows = cli("work", "status", "--all", "--json").document["workstreams"]
    pushed = {row["name"]: row["pushed"] for row in rows}
    assert pushed["zed"] == pushed["cat"] == "origin/main"
    assert git(remote, "rev-parse", "main") == git(ready, "rev-parse", "main")
    assert {row["name"] for row in rows if row["pushed"]} == {"zed", "cat", *words} & {"zed", "cat", "abe"}


def test_a_push_takes_nothing_along_that_is_not_in_it(cli: Any, ready: Path, remote: Path) -> None:
    before = git(ready, "rev-parse", "main")
    assert cli("work", "land", "zed").code == 0
    landed = git(ready, "rev-parse", "main")
    git(ready, "reset", "-q", "--hard", before)

    assert cli("work", "land", "abe", "--push").code == 0

    git(ready, "merge", "-q", "--no-edit", landed)  # it is there again, but not on the remote
    rows = cli("work", "status", "--all", "--json").document["workstreams"]
    pushed = {row["name"]: row["pushed"] for row in rows if row["stage"] == "landed"}
    assert pushed == {"abe": "origin/main", "zed": None}


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["land", "--all"]])
def test_without_a_repository_nothing_is_said_to_be_fine(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    called = cli("work", *words)

    assert called.code == 2
    assert "is in no git repository" in called.out + called.err


# -- conflicts


def test_a_shadow_landing_fails_only_where_that_is_asked_for(cli: Any, shop: Path) -> None:
    branch(shop, "bad", "src/bad.py", "def (:\n")
    branch(shop, "good", "src/good.py", "x = 1\n")
    shadow = ("work", "conflicts", "--branches", "bad", "--branches", "good", "--shadow")
    gate = ("--gate", "python3 -m compileall -q src")

    called = cli(*shadow, *gate)

    assert called.code == 0
    assert "breaks alone: bad (gate failed)" in called.out
    assert cli(*shadow, *gate, "--fail").code == 1
    assert cli(*shadow, "--watch").code == 2
    assert cli(*shadow, "--base", "main").code == 2


def test_conflicts_are_drawn_as_a_matrix(cli: Any, shop: Path) -> None:
    for name in ("one", "two", "three"):
        branch(shop, name, "src/same.py", f"x = '{name}'\\n")
    branch(shop, "alone", "src/alone.py", "x = 1\n")

    called = cli("work", "conflicts", "--branches", "*")

    drawn = called.out.splitlines()[:5]
    assert drawn == [
        "         1 2 3  main",
        "1 one    - F F  .",
        "2 three    - F  .",
        "3 two        -  .",
        "F same lines, f other definitions of a file, L logic, G another conflict of git, ? may come, . none",
    ]
    assert "3 pairs do not fit" in called.out
    assert cli("work", "conflicts", "--branches", "alone").out.startswith("1 compared")


def test_conflicts_are_watched_and_told_when_they_change(
    cli: Any, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, path in (("one", "same"), ("two", "other"), ("later", "same")):
        branch(shop, name, f"src/{path}.py", f"x = '{name}'\n")
    looks = []

    async def between_looks(_: float) -> None:
        looks.append(1)
        if len(looks) == 2:
            git(shop, "branch", "-f", "two", "later")
        if len(looks) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("parallelai.cli.streams.asyncio", SimpleNamespace(sleep=between_looks))
    called = cli("work", "conflicts", "--branches", "one", "two", "--watch")

    assert called.code == 130
    told = [line.rpartition(": ")[2] for line in called.out.splitlines() if "compared" in line]
    assert told == ["0 pairs do not fit", "1 pair does not fit"]


def test_several_branches_may_follow_the_flag(cli: Any, shop: Path) -> None:
    for name in ("one", "two"):
        branch(shop, name, f"src/{name}.py", "x = 1\n")

    assert cli("work", "conflicts", "--branches", "one", "two").out.startswith("2 compared")
    assert "`one` is no option" in cli("work", "conflicts", "one").err
    missing = cli("work", "land", "--branches", "one", "no-such", "t*")
    assert (missing.code, "no branch is named by `no-such`" in missing.err) == (2, True)
    assert "2 of 2 landed" in cli("work", "land", "--branches", "one", "two").out


def test_conflicts_knows_a_plan_from_any_folder(
    cli: Any, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ready / "src")

    document = cli("work", "conflicts", "--plan", "../plan.yaml", "--json").document

    assert next(iter(document)) == "schema"
    assert set(document["names"]) == {"abe", "cat", "zed"}
    assert cli("work", "conflicts", "--plan", "../plan.yaml", "--shadow").code == 0
    assert "work start other.yaml" in cli("work", "conflicts", "--plan", "other.yaml").err
    assert cli("work", "conflicts", "--plan", "../plan.yaml", "--branches", "main").code == 2


# -- looking


def streams(cli: Any) -> list[Any]:
    found = cli("work", "status", "--all", "--json").document["workstreams"]
    assert isinstance(found, list)
    return found


def test_a_list_of_tasks_is_never_written_over(cli: Any, ready: Path) -> None:
    tasks = ready / "TASKS.md"
    tasks.write_text("# Workstreams\n\n- [ ] zed: something\n")

    assert "nothing to tick" in cli("work", "status", "--write", "TASKS.md").err
    assert tasks.read_text() == "# Workstreams\n\n- [ ] zed: something\n"
    cli("work", "land", "zed")
    cli("work", "status", "--write", "TASKS.md")
    assert tasks.read_text() == "# Workstreams\n\n- [x] zed: something\n"
    assert cli("work", "status", "--write", "src/app.py").code == 2
    assert (ready / "src" / "app.py").read_text() == "x = 1\n"


def test_a_page_that_people_write_in_keeps_what_they_wrote(cli: Any, ready: Path) -> None:
    page = ready / "STATUS.rst"
    page.write_text("Ana's page\n<!-- parallelai:begin -->\n<!-- parallelai:end -->\nAsk Bo.\n")

    assert cli("work", "status", "--write", "STATUS.rst").code == 0

    text = page.read_text()
    assert text.startswith("Ana's page\n<!-- parallelai:begin -->\n# Workstreams\n")
    assert text.endswith("|\n<!-- parallelai:end -->\nAsk Bo.\n")


def test_the_page_counts_what_has_landed(cli: Any, ready: Path) -> None:
    cli("work", "status", "--write", "STATUS.md")
    cli("work", "land", "zed")

    called = cli("work", "status", "--write", "STATUS.md", "--json")

    assert "1 of 3 landed" in (ready / "STATUS.md").read_text()
    assert {row["name"] for row in called.document["workstreams"]} == {"abe", "cat", "zed"}


def test_status_of_a_name_says_where_it_is_and_what_was_kept_out(cli: Any, ready: Path) -> None:
    (place(ready, "cat") / "README.md").write_text("not mine\n")

    told = cli("work", "done", "cat").out

    assert told.startswith("kept out: README.md (not among the files that it owns); it is kept in `")
    assert "your answer" not in told  # which is for assistants
    shown = cli("work", "status", "cat").out
    assert f"cat: parallelai/cat in {place(ready, 'cat')}" in shown
    assert "kept out: README.md" in shown


def test_status_says_how_to_see_what_has_landed(cli: Any, ready: Path) -> None:
    cli("work", "land", "--all")

    called = cli("work", "status")

    assert called.out == "no workstream is worked on\n"
    assert "`--all`" in called.err


def test_a_worktree_that_somebody_removed_hides_no_other(cli: Any, ready: Path) -> None:
    shutil.rmtree(place(ready, "zed"))

    assert cli("work", "status").out.count("\n") == 4
    assert "`parallelai work start plan.yaml zed` makes it again" in cli("work", "diff", "zed").err
    assert "made again from the branch" in cli("work", "start", "plan.yaml", "zed").out
    assert "zed.py" in cli("work", "diff", "zed").out


# -- steering


def test_leave_names_the_command_that_goes_on(cli: Any, ready: Path) -> None:
    assert cli("work", "approve", "zed").out == "`zed` may land: `parallelai work land zed` lands it\n"
    assert "then `parallelai work done zed`" in cli("work", "reject", "zed").out, "no run did it"


def test_stop_where_nothing_runs_says_so(cli: Any, ready: Path) -> None:
    called = cli("work", "stop")

    assert called.code == 0
    assert called.out == "nothing runs: there is nothing to stop\n"


def test_what_is_left_of_another_run_is_in_nobodys_way(
    cli: Any, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = PLAN.replace("zed", "dan").replace("abe", "eve").replace("cat", "fay")
    (ready / "other.yaml").write_text(other)
    assert cli("work", "start", "other.yaml").code == 0
    asked: list[tuple[str, str]] = []
    live = Streams(ready / ".parallelai" / "state").find("dan").run

    async def ask(self: Runs, run: str, kind: str, args: Any) -> str:
        asked.append((run, kind))
        return "heard"

    monkeypatch.setattr(Runs, "ask", ask)
    monkeypatch.setattr(
        "parallelai.client.workstreams.steering.Steering.is_live", lambda self, run: run == live
    )

    assert cli("work", "pause").out == "heard\n"
    assert cli("work", "stop").code == 0
    assert asked == [(live, "pause"), (live, "cancel")]


def test_hooks_are_installed_and_taken_out(cli: Any, ready: Path) -> None:
    assert "pre-commit" in cli("work", "hooks", "install").out
    assert cli("work", "hooks", "uninstall", "--json").document["said"]
    assert cli("work", "hooks", "uninstall").code == 0


def test_what_several_turns_tried_is_named_once(cli: Any, shop: Path) -> None:
    (shop / "agent.py").write_text(AGENT)
    (shop / "plan.yaml").write_text(
        "version: 1\nengines: {sh: {use: command, command: [python3, agent.py, one]}}\n"
        "workstreams: {one: {description: One., owns: src/one.py, engine: sh}}\n"
    )
    commit(shop, "a plan")

    called = cli("work", "run", "plan.yaml")

    assert called.code == 0, called.err
    told = " ".join(called.out.split())
    assert "kept out: README.md (not among the files that it owns; it is kept in .parallelai/state/" in told
    assert json.loads(cli("work", "status", "one", "--json").out)["workstreams"][0]["kept_out"]


def test_who_builds_on_one_that_has_nothing_yet_begins_where_the_target_is(cli: Any, shop: Path) -> None:
    (shop / "plan.yaml").write_text(
        PLAN.replace("owns: src/cat.py", "owns: src/cat.py, depends_on: [zed, abe]")
    )
    assert cli("work", "start", "plan.yaml", "zed", "abe").code == 0
    (place(shop, "zed") / "src" / "zed.py").write_text("x = 1\n")
    assert cli("work", "done", "zed").code == 0
    assert cli("work", "start", "plan.yaml", "cat").code == 0
    assert (place(shop, "cat") / "src" / "zed.py").is_file()
    messages = git(shop, "log", "--format=%s", "main..parallelai/cat").splitlines()
    assert messages == ["With zed", "zed: Zed."], "of `abe` there is nothing to tell"


def test_a_start_says_once_what_its_worktrees_are_cut_from(cli: Any, shop: Path) -> None:
    first = cli("work", "start", "plan.yaml")
    assert first.out.count("there is no remote: the local branch is the base (`main` at ") == 1

    again = json.loads(cli("work", "start", "plan.yaml", "--json").out)  # nothing was cut
    assert [each["notes"] for each in again["workstreams"]] == [[], [], []]


def test_a_start_heeds_a_config_that_nobody_trusts_where_it_keeps_from_the_network(
    cli: Any, shop: Path
) -> None:
    git(shop, "remote", "add", "origin", str(shop.parent / "nowhere.git"))
    (shop / "parallelai.toml").write_text("fetch = 'never'\n[workspace]\ncopy = ['.env']\n")

    said = cli("work", "start", "plan.yaml", "zed").out

    assert "`origin` was not asked: the local branch is the base" in said
    assert "not trusted, so ignored: workspace.copy" in said


def test_who_attaches_gets_what_the_ledger_gave_the_worktree(
    cli: Any, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop / "plan.yaml").write_text(f"{PLAN}workspace: {{needs: {{ports: 2, database: true}}}}\n")
    cli("work", "start", "plan.yaml", "zed")
    (held,) = cli("work", "ledger", "--json").document["held"]
    assert held["project"] == str(shop)
    assert f"({shop}, {held['run']})" in cli("work", "ledger").out
    started: list[Any] = []
    monkeypatch.setattr("os.execvpe", lambda *given: started.extend(given))
    monkeypatch.setattr("os.chdir", started.append)

    assert cli("work", "attach", "zed").code == 0
    folder, _, _, environment = started
    assert folder == str(place(shop, "zed"))
    assert environment["PORT"] == str(held["ports"][0])
    assert environment["PARALLELAI_DATABASE"] == held["database"]
    assert f" PORT={held['ports'][0]} " in cli("work", "attach", "zed", "--print").out
