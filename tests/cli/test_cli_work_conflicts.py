"""A conflict with the target that a person settles in a worktree: by `work sync`, by a merge, or by a rebase."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from shops import shop_with

from parallelai.work.streams import now
from parallelai.work.streams.locks import in_use

PLAN = """\
version: 1
workstreams: {one: {description: One., owns: one/**}, two: {description: Two., owns: two/**}}
gates: {landing: ["test -d one"], canary: "off"}
"""


def git(folder: Path, *arguments: str, ok: bool = True) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not ok, done.stderr
    return done.stdout.strip()


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Any) -> Path:
    """The worktree of a workstream that is done, and conflicts with what the target has had since."""
    root = tmp_path / "shop"
    (root / "one").mkdir(parents=True)
    (root / "one" / "c.txt").write_text("1\n2\n3\n4\n")
    (root / "plan.yaml").write_text(PLAN)
    git(tmp_path, "init", "-qb", "main", str(root))
    git(root, "config", "user.email", "a@example.org")
    git(root, "config", "user.name", "A")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    monkeypatch.chdir(root)
    assert cli("work", "start", "plan.yaml").code == 0
    worktree = tmp_path / "shop-worktrees" / "one"
    (worktree / "one" / "c.txt").write_text("1\n2\nthree\n4\n")
    assert cli("work", "done", "one").code == 0
    (root / "one" / "c.txt").write_text("1\n2\ndrei\n4\n")
    (root / "other.txt").write_text("of main\n")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "main moves")
    return worktree


def said(called: Any) -> str:
    return str(called.out + called.err)


def by_sync(there: Path, cli: Any) -> None:
    refused = cli("work", "land", "one")
    assert (refused.code, "`parallelai work sync one`" in said(refused)) == (4, True), said(refused)
    synced = cli("work", "sync", "one")
    assert "`one/c.txt` has to be settled in" in said(synced), said(synced)
    text = (there / "one/c.txt").read_text()
    assert ("<<<<<<< one " in text, ">>>>>>> main " in text) == (True, True), text


def by_merge(there: Path, cli: Any) -> None:
    git(there, "merge", "main", ok=False)


def by_rebase(there: Path, cli: Any) -> None:
    git(there, "rebase", "main", ok=False)


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (by_sync, ()),
        (by_merge, ()),
        (by_merge, ("add", "-A")),
        (by_merge, ("commit", "-qam", "settled")),
        (by_rebase, ("-c", "core.editor=true", "rebase", "--continue")),
    ],
    ids=["sync", "merge", "merge-added", "merge-committed", "rebase"],
)
def test_what_a_person_settles_lands(cli: Any, there: Path, begin: Any, end: tuple[str, ...]) -> None:
    begin(there, cli)
    left = cli("work", "done", "one")
    if begin is by_sync:
        assert (left.code, "are not settled in `one/c.txt`" in said(left)) == (2, True), said(left)
    else:
        assert (
            left.code,
            "is not finished" in said(left) or "are not settled in `one/c.txt`" in said(left),
        ) == (2, True)
    assert cli("work", "land", "one").code != 0  # with markers nothing lands
    assert "<<<<<<<" not in git(there, "show", "main:one/c.txt")
    (there / "one" / "c.txt").write_text("1\n2\ndrei and three\n4\n")
    if end:
        git(there, "add", "-A")
        git(there, *end)

    done = cli("work", "done", "one")
    assert done.code == 0, said(done)
    landed = cli("work", "land", "one")

    assert landed.code == 0, said(landed)
    assert git(there, "show", "main:one/c.txt") == "1\n2\ndrei and three\n4"
    assert git(there, "show", "main:other.txt") == "of main"
    assert "kept out" not in said(done)


def test_what_is_not_settled_yet_is_not_called_up_to_date(cli: Any, there: Path) -> None:
    by_sync(there, cli)
    for names in ((), ("one",)):
        again = cli("work", "sync", *names)
        assert (again.code, "`one/c.txt` has to be settled in" in said(again)) == (4, True), said(again)

    (there / "one" / "c.txt").write_text("1\n2\ndrei and three\n4\n")
    assert cli("work", "done", "one").code == 0
    assert said(cli("work", "sync", "one")) == "one: up to date\n"


def test_what_was_never_ours_is_settled_too(cli: Any, there: Path) -> None:
    """The person's own commits, which conflict with the target, are not known to anybody but git."""
    git(there, "reset", "-q", "--hard", "HEAD~1")
    cli("work", "done", "one")  # the branch is as it was at the start
    (there / "one" / "c.txt").write_text("1\n2\ntrois\n4\n")
    git(there, "commit", "-qam", "mine")
    git(there, "merge", "main", ok=False)
    git(there, "commit", "-qam", "with its markers")

    refused = cli("work", "done", "one")

    assert (refused.code, "are not settled in `one/c.txt`" in said(refused)) == (2, True), said(refused)
    assert cli("work", "land", "one").code != 0
    (there / "one" / "c.txt").write_text("1\n2\ntrois, drei\n4\n")
    assert cli("work", "done", "one").code == 0
    assert cli("work", "land", "one").code == 0
    assert git(there, "show", "main:one/c.txt") == "1\n2\ntrois, drei\n4"


def test_a_merge_without_markers_is_not_settled_by_silence(cli: Any, there: Path) -> None:
    root = there.parent.parent / "shop"
    git(root, "rm", "-q", "one/c.txt")
    git(root, "commit", "-qm", "it goes")
    git(there, "merge", "main", ok=False)
    refused = cli("work", "done", "one")
    assert (refused.code, "are not settled in `one/c.txt`" in said(refused)) == (2, True), said(refused)
    git(there, "rm", "-q", "one/c.txt")
    (there / "one").mkdir()
    (there / "one" / "d.txt").write_text("instead\n")
    assert cli("work", "done", "one").code == 0
    assert cli("work", "land", "one", "--allow-red-base").code == 0
    assert git(root, "ls-tree", "-r", "--name-only", "main", "one") == "one/d.txt"


def test_a_file_of_one_side_that_is_a_folder_of_the_other_is_told_as_that(cli: Any, there: Path) -> None:
    (there / "one" / "c.txt").unlink()
    (there / "one" / "c.txt").mkdir()
    (there / "one" / "c.txt" / "part").write_text("1\n")
    assert cli("work", "done", "one").code == 0

    synced, left = said(cli("work", "sync", "one")), said(cli("work", "done", "one"))

    (other,) = (there / "one").glob("c.txt~*")
    what = f"folder on one side and a file on the other, which lies beside it as `one/{other.name}`: take over what"
    assert "`one/c.txt` has to be settled in" in synced, synced
    for each in (synced, left):
        assert f"`one/c.txt` is a {what} is right, and remove `one/{other.name}`" in each, each
    assert "markers" not in left
    other.unlink()
    assert cli("work", "done", "one").code == 0
    assert cli("work", "land", "one").code == 0


def test_commits_that_nobody_judged_are_not_synced(cli: Any, there: Path) -> None:
    (there / "other.txt").write_text("not its own\n")
    git(there, "add", "-A")
    git(there, "commit", "-qm", "mine")
    refused = cli("work", "sync", "one")
    assert "`parallelai work done one` judges them first" in said(refused), said(refused)
    assert "kept out" in said(cli("work", "done", "one"))


def test_a_conflict_of_what_is_not_committed_is_told_with_the_way_to_settle_it(cli: Any, there: Path) -> None:
    (there.parent.parent / "shop" / "two").mkdir()
    (there.parent.parent / "shop" / "two" / "c.txt").write_text("of main\n")
    git(there.parent.parent / "shop", "add", "-A")
    git(there.parent.parent / "shop", "commit", "-qm", "more of main")
    place = there.parent / "two"
    (place / "two").mkdir()
    (place / "two" / "c.txt").write_text("of two\n")

    for called in (cli("work", "sync"), cli("work", "sync", "two")):
        assert "two: not synced: what is not committed there and the target changed" in called.out
        assert (
            "`two/c.txt` (`parallelai work done two` commits it, then `parallelai work sync two`)"
            in called.out
        )
    assert cli("work", "done", "two").code == 0
    assert "`two/c.txt` has to be settled in" in cli("work", "sync", "two").out


def test_a_conflict_of_both_says_what_is_in_the_way_of_settling(cli: Any, there: Path) -> None:
    (there / "one" / "c.txt").write_text("1\n2\nthree\nfour\n")

    refused = cli("work", "sync", "one")

    assert refused.out.startswith("one: not synced: what is not committed there and the target changed")
    assert cli("work", "done", "one").code == 0
    assert "`one/c.txt` has to be settled in" in cli("work", "sync", "one").out


def test_status_says_what_is_to_be_settled_and_not_what_kept_it_from_landing_before(
    cli: Any, there: Path
) -> None:
    assert cli("work", "run", "plan.yaml", "--only", "one").code == 4
    assert "`parallelai work sync one`" in said(cli("work", "status", "one"))

    assert "`one/c.txt` has to be settled in" in said(cli("work", "sync", "one"))

    shown = said(cli("work", "status", "one"))
    assert "conflict markers are left in `one/c.txt`; settle that, then `parallelai work done one`" in shown
    assert "`parallelai work sync one`" not in shown
    (there / "one" / "c.txt").write_text("1\n2\nthree\n4\n")
    assert cli("work", "done", "one").code == 0
    assert "settle" not in said(cli("work", "status", "one"))
    assert cli("work", "land", "one").code == 0


def test_the_target_alone_is_no_work(cli: Any, there: Path) -> None:
    git(there.with_name("two"), "merge", "-q", "main")
    assert "`two` has changed nothing" in said(cli("work", "done", "two"))


BLOCK = "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> main\n"


def test_markers_that_are_meant_take_a_persons_leave(cli: Any, there: Path) -> None:
    git(there, "reset", "-q", "--hard", "HEAD~1")
    (there / "one" / "git.md").write_text("How a conflict looks:\n" + BLOCK)
    done = cli("work", "done", "one")
    assert (done.code, "note: there are conflict markers in `one/git.md:2`" in said(done)) == (0, True)

    refused = cli("work", "land", "one")

    assert refused.code == 4, said(refused)
    assert "`one` has conflict markers in `one/git.md:2`" in said(refused), said(refused)
    assert "`parallelai work approve one` gives leave" in said(refused)
    assert git(there, "ls-tree", "--name-only", "main", "one/") == "one/c.txt"
    assert cli("work", "approve", "one").code == 0
    assert cli("work", "land", "one").code == 0
    assert "one/git.md" in git(there, "ls-tree", "--name-only", "main", "one/")


def test_a_file_that_was_in_conflict_and_is_about_markers_is_merged_by_hand(cli: Any, there: Path) -> None:
    by_sync(there, cli)
    (there / "one" / "c.txt").write_text(f"How a conflict looks:\n{BLOCK}")

    refused = cli("work", "done", "one")

    how = "see that it is committed there, and `git merge parallelai/one` where `main` is checked out"
    assert (refused.code, how in said(refused)) == (2, True), said(refused)
    root = there.parent.parent / "shop"
    assert git(there, "status", "--short") == ""
    git(root, "merge", "-q", "--no-edit", "parallelai/one")
    assert BLOCK.strip() in git(root, "show", "main:one/c.txt")
    assert "one: removed" in said(cli("work", "clean"))
    assert "conflicts with" not in said(cli("work", "status", "one"))


def test_branches_land_without_those_that_bring_markers(cli: Any, there: Path) -> None:
    root = there.parent.parent / "shop"
    (root / "git.md").write_text(BLOCK)
    git(root, "add", "-A")
    git(root, "commit", "-qm", "how a conflict looks")
    for name, path, text in (
        ("bad", "new.txt", f"x\n{BLOCK}"),
        ("documents", "git.md", f"How it looks:\n{BLOCK}"),
    ):
        git(root, "switch", "-qc", name, "main")
        (root / path).write_text(text)
        git(root, "add", "-A")
        git(root, "commit", "-qm", name)
    git(root, "switch", "-q", "main")

    dry = cli("work", "land", "--branches", "bad", "documents", "--dry-run")
    landed = cli("work", "land", "--branches", "bad", "documents", "--gate", "test -d one")

    assert "bad would not land: it brings conflict markers in `new.txt:2`" in said(dry), said(dry)
    assert landed.code == 4
    assert "bad: not landed: it brings conflict markers in `new.txt:2`" in said(landed), said(landed)
    assert "settle and commit them on `bad`, then land it again" in said(landed)
    assert "1 of 2 landed" in said(landed)
    assert git(root, "show", "main:git.md").startswith("How it looks")
    assert git(root, "ls-tree", "--name-only", "main", "new.txt") == ""


def test_the_status_names_what_does_not_fit_now_where_no_run_looked(cli: Any, there: Path) -> None:
    def conflicts() -> dict[str, list[str]]:
        rows = cli("work", "status", "--json").document["workstreams"]
        return {row["name"]: row["conflicts"] for row in rows}

    assert conflicts() == {"one": ["main"], "two": []}

    other = there.parent / "two" / "one" / "c.txt"
    before = other.read_text()
    other.write_text("1\n2\ntrois\n4\n")  # not committed

    assert conflicts() == {"one": ["main", "two"], "two": ["main", "one"]}
    assert "conflicts with main, two" in said(cli("work", "status", "one"))
    other.write_text(before)
    assert conflicts() == {"one": ["main"], "two": []}


def test_a_shadow_of_nothing_says_that_nobody_is_worked_on_as_the_plain_form_does(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop_with(tmp_path, monkeypatch, {})

    plain, shadow = cli("work", "conflicts"), cli("work", "conflicts", "--shadow")

    assert (shadow.code, shadow.out) == (plain.code, plain.out) == (0, "no workstream is worked on\n")
    assert cli("work", "conflicts", "--shadow", "--json").document["fits"] == []
    assert cli("work", "conflicts", "--shadow", "--plan", "plan.yaml").code == 2


def test_a_worktree_that_goes_while_the_status_looks_at_it_is_no_error(
    there: Path, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_index = now.copy_index

    async def goes(*given: Any) -> None:
        await copy_index(*given)
        shutil.rmtree(there, ignore_errors=True)  # as a landing in another process does

    monkeypatch.setattr(now, "copy_index", goes)
    called = cli("work", "status")
    assert called.code == 0, said(called)
    assert "two" in called.out


def test_what_somebody_else_works_on_now_is_not_synced_and_the_others_are(there: Path, cli: Any) -> None:
    lock = in_use(there.parents[1] / "shop" / ".parallelai" / "state", "two")
    before = git(there.parent / "two", "rev-parse", "HEAD")

    alone, all_ = cli("work", "sync", "two"), cli("work", "sync")

    busy = f"two: not synced: another command works on `two` now (process {os.getpid()} on "
    assert (alone.code, alone.out.startswith(busy)) == (4, True), said(alone)
    assert "(wait for its end, or stop it; then try again)\n" in alone.out
    assert (all_.code, busy in all_.out, "one: not synced: " in all_.out) == (4, True, True), said(all_)
    assert git(there.parent / "two", "rev-parse", "HEAD") == before
    lock.release()
    assert cli("work", "sync", "two").out == "two: synced\n"
