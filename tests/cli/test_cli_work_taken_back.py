"""What was taken back, and is not given up: it is synced, put right, and lands again with all that it has."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from shops import commit, git, shop_with

PLAN = """\
version: 1
workstreams:
  abe: {description: A., owns: [src/abe.py, src/more.py]}
  bob: {description: B., owns: src/bob.py}
landing: {method: METHOD, sync: SYNC}
gates: {landing: ["true"], canary: "off"}
"""


@pytest.fixture
def place(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The worktree of a workstream with two files, which landed and was taken back."""
    method, how = getattr(request, "param", ("merge", "merge"))
    plan = PLAN.replace("METHOD", method).replace("SYNC", how)
    root = shop_with(tmp_path, monkeypatch, {"plan.yaml": plan})
    assert cli("work", "start", "plan.yaml", "abe").code == 0
    folder = root.parent / "shop-worktrees" / "abe"
    for name in ("abe", "more"):
        (folder / "src" / f"{name}.py").write_text("x = 1\n")
    assert cli("work", "done", "abe").code == 0
    assert cli("work", "land", "abe").code == 0
    assert cli("work", "undo", "abe").code == 0
    assert not (root / "src" / "abe.py").exists()
    return folder


@pytest.fixture
def shop(place: Path) -> Path:
    return place.parent.parent / "shop"


def there(folder: Path) -> dict[str, str]:
    """What is there of the workstream's files."""
    paths = [folder / "src" / f"{name}.py" for name in ("abe", "more")]
    return {path.stem: path.read_text() for path in paths if path.exists()}


BOTH = {"abe": "x = 1\n", "more": "x = 1\n"}
WAYS = [("merge", "merge"), ("merge", "rebase"), ("squash", "rebase")]


@pytest.mark.parametrize("place", WAYS, indirect=True)
def test_a_sync_takes_nothing_away(cli: Any, place: Path, shop: Path) -> None:
    (shop / "other.txt").write_text("landed since\n")
    commit(shop, "other")

    assert cli("work", "sync").out == "abe: synced\n"

    assert (there(place), (place / "other.txt").exists()) == (BOTH, True)
    assert cli("work", "sync").out == "abe: up to date\n"
    assert cli("work", "land", "abe").out.endswith("1 of 1 landed\n")
    assert there(shop) == BOTH


def test_the_run_says_that_it_was_taken_back_until_it_lands_again(cli: Any, place: Path) -> None:
    def shown() -> tuple[str, bool]:
        (row,) = cli("runs", "show", "--json").document["tasks"]
        return row["workstream"]["stage"], row["workstream"]["landed"] is not None

    assert shown() == ("undone", False)
    said = cli("runs", "show").out
    assert ("landed on" in said, "taken back, and kept on parallelai/abe" in said) == (False, True)
    assert cli("work", "land", "abe").code == 0
    assert shown() == ("landed", True)


def test_the_run_of_branches_says_which_was_taken_back(cli: Any, shop: Path) -> None:
    for name in ("one", "two"):
        git(shop, "switch", "-qc", name)
        (shop / f"{name}.txt").write_text("x\n")
        commit(shop, name)
        git(shop, "switch", "-q", "main")
    assert cli("work", "land", "--branches", "one", "two").code == 0
    assert cli("work", "undo", "two").code == 0

    rows = cli("runs", "show", "--json").document["tasks"]

    assert {row["id"]: row["workstream"]["stage"] for row in rows} == {"one": "landed", "two": "undone"}


def test_what_is_put_right_lands_with_all_the_rest_as_often_as_it_takes(
    cli: Any, place: Path, shop: Path
) -> None:
    for text in ("x = 2\n", "x = 3\n"):
        (place / "src" / "abe.py").write_text(text)
        assert cli("work", "done", "abe").code == 0
        (row,) = cli("work", "status", "abe", "--json").document["workstreams"]
        assert (row["stage"], row["is_ready"], row["why"], row["conflicts"]) == ("queued", True, None, [])
        assert cli("work", "conflicts", "--json").document["pairs"] == []

        assert cli("work", "sync", "abe").out == "abe: synced\n"
        assert there(place) == {**BOTH, "abe": text}
        assert cli("work", "land", "abe").out.endswith("1 of 1 landed\n")
        assert there(shop) == {**BOTH, "abe": text}
        assert cli("work", "undo", "abe").code == 0
        assert there(shop) == {}


def test_what_conflicts_by_now_is_settled_in_its_worktree(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Path, shop: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    config = tmp_path / "config" / "parallelai" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[engines.idle]\nuse = "command"\ncommand = ["true"]\n')
    (shop / "src" / "abe.py").write_text("def target():\n    return 2\n")
    commit(shop, "other")
    refused = cli("work", "land", "abe")
    assert (refused.code, "`parallelai work sync abe` brings both sides" in refused.out) == (4, True)
    again = "`parallelai work done abe` and then `parallelai work land abe --engine NAME`, or"
    assert again in refused.out
    cli("work", "reject", "abe")  # it is worked on then, as after a run that could not land it
    assert cli("work", "done", "abe").code == 0
    assert "`idle` was asked, and changed nothing" in cli("work", "land", "abe", "--engine", "idle").out

    assert "`src/abe.py` has to be settled" in cli("work", "sync", "abe").out
    assert there(place)["more"] == "x = 1\n"
    assert "<<<<<<< abe " in there(place)["abe"]
    (place / "src" / "abe.py").write_text("x = 4\n")

    assert cli("work", "done", "abe").code == 0
    assert cli("work", "land", "abe").code == 0
    assert there(shop) == {"abe": "x = 4\n", "more": "x = 1\n"}


@pytest.mark.parametrize("place", WAYS[1:], indirect=True)
def test_what_conflicts_by_now_is_settled_also_where_a_sync_rebases(
    cli: Any, place: Path, shop: Path
) -> None:
    (shop / "src" / "abe.py").write_text("x = 3\n")
    commit(shop, "other")

    assert "`src/abe.py` has to be settled" in cli("work", "sync", "abe").out
    (place / "src" / "abe.py").write_text("x = 4\n")

    assert cli("work", "done", "abe").code == 0
    assert cli("work", "land", "abe").code == 0
    assert there(shop) == {"abe": "x = 4\n", "more": "x = 1\n"}


@pytest.mark.parametrize(
    ("place", "deed"),
    [
        (WAYS[0], "merge"),
        (WAYS[1], "rebase"),
        (WAYS[2], "rebase"),
    ],  # a merge takes away nothing of what was squashed
    indirect=["place"],
)
def test_what_git_took_out_of_its_worktree_is_not_called_ready(
    cli: Any, place: Path, shop: Path, deed: str
) -> None:
    git(place, deed, "-q", "main")
    assert there(place) == {}
    refused = cli("work", "done", "abe")
    assert (refused.code, "nothing of `abe` is in its worktree" in refused.err) == (2, True)
    command = refused.err.split("`git ")[1].split("`")[0]
    git(place, *command.split())

    assert cli("work", "sync", "abe").out == "abe: synced\n"
    assert cli("work", "done", "abe").code == 0
    assert cli("work", "land", "abe").code == 0
    assert there(shop) == BOTH


def test_what_is_done_in_another_way_after_it_was_taken_back_is_ready(
    cli: Any, place: Path, shop: Path
) -> None:
    git(place, "merge", "-q", "main")
    (place / "src" / "abe.py").write_text("x = 5\n")
    assert cli("work", "done", "abe").code == 0
    assert cli("work", "land", "abe").code == 0
    assert there(shop) == {"abe": "x = 5\n"}


@pytest.mark.parametrize("deed", ["merge", "rebase"])
def test_what_git_took_out_is_named_where_something_else_is_there(
    cli: Any, place: Path, shop: Path, deed: str
) -> None:
    git(place, deed, "-q", "main")
    (place / "src" / "abe.py").write_text("x = 1\n")
    said = cli("work", "done", "abe").out
    assert "what was taken back is not in `src/more.py` any more" in said
    command = said.split("`git ")[1].split("`")[0]
    git(place, *command.split())

    assert cli("work", "done", "abe").out == "`abe` is ready to land: `parallelai work land abe`\n"
    assert cli("work", "land", "abe").code == 0
    assert there(shop) == BOTH


def test_what_is_given_up_after_a_sync_is_kept(cli: Any, place: Path, shop: Path) -> None:
    cli("work", "sync")
    said = cli("work", "drop", "abe", "--yes").out
    assert "its work is kept in `" in said
    assert "+x = 1" in (shop / said.split("`")[3]).read_text()


def test_what_is_given_up_after_git_took_it_out_is_kept(cli: Any, place: Path, shop: Path) -> None:
    (shop / "other.txt").write_text("landed since\n")
    commit(shop, "other")
    git(place, "merge", "-q", "main")
    assert there(place) == {}
    said = cli("work", "drop", "abe", "--yes").out
    git(shop, "apply", said.split("`")[3])
    assert there(shop) == BOTH


def test_what_took_it_back_and_waits_is_taken_over_by_the_same_call(
    cli: Any, place: Path, shop: Path
) -> None:
    assert cli("work", "land", "abe").code == 0
    lock = shop / ".git" / "index.lock"
    lock.touch()
    for _ in range(2):
        waits = cli("work", "undo", "abe")
        assert (waits.code, "your checkout waits: another git works there" in waits.out + waits.err) == (
            4,
            True,
        )
    assert there(shop) == BOTH
    lock.unlink()
    again = cli("work", "undo", "abe")
    assert (again.code, again.out.startswith("abe: taken back from main;")) == (0, True)
    assert there(shop) == {}
    assert cli("work", "undo", "abe").code == 2


# -- what stays on the target


def test_what_the_target_has_keeps_nothing_else_from_landing(cli: Any, place: Path, shop: Path) -> None:
    assert cli("work", "land", "abe").code == 0
    at = git(shop, "rev-parse", "--short=10", "main")
    again = cli("work", "land", "abe")
    said = f"abe: is on main at {at} already: nothing of it was new"
    assert (again.code, again.out.splitlines()) == (0, [said, "1 was there already"])
    assert cli("work", "land", "abe", "--dry-run").out.splitlines()[0] == "abe has landed already"
    assert git(shop, "rev-parse", "--short=10", "main") == at

    assert cli("work", "start", "plan.yaml", "bob").code == 0
    (place.parent / "bob" / "src" / "bob.py").write_text("x = 1\n")
    assert cli("work", "done", "bob").code == 0
    both = ("work", "land", "abe", "bob")
    assert cli(*both, "--dry-run").out.splitlines()[:2] == ["1. bob", "abe has landed already"]
    called = cli(*both, "--json")
    assert called.code == 0
    assert {row["id"]: row["workstream"]["stage"] for row in called.document["tasks"]} == {
        "abe": "there",
        "bob": "landed",
    }
    assert (shop / "src" / "bob.py").exists()


def test_of_what_has_more_by_now_it_is_said_how_that_lands(cli: Any, place: Path) -> None:
    assert cli("work", "land", "abe").code == 0
    (place / "src" / "abe.py").write_text("x = 2\n")
    called = cli("work", "land", "abe")
    assert called.code == 4
    assert "abe: not landed: `abe` is landed already, and has more by now" in called.out
    assert "`parallelai work land --branches parallelai/abe`" in called.out


def test_what_would_be_removed_is_told_so(cli: Any, place: Path) -> None:
    assert cli("work", "land", "abe").code == 0
    assert cli("work", "clean", "--dry-run").out == "abe: would be removed\n"
    assert place.exists()
    assert cli("work", "clean").out == "abe: removed\n"


def test_what_was_given_up_since_is_begun_anew_and_lands_no_more(cli: Any, place: Path) -> None:
    assert cli("work", "drop", "abe", "--yes").code == 0

    refused = cli("work", "undo", "abe")

    assert (refused.code, "`parallelai work land abe`" in refused.err) == (2, False)
    assert (
        "`abe` was taken back already\n  next: `parallelai work start plan.yaml abe` begins it anew"
        in refused.err
    )
    assert cli("work", "start", "plan.yaml", "abe").code == 0


def test_what_could_not_go_with_what_was_given_up_goes_by_the_same_command(
    cli: Any, place: Path, shop: Path
) -> None:
    git(place.parent, "init", "-q", str(place / "inner"))
    said = cli("work", "drop", "abe", "--yes").out
    assert "stays: no patch can hold `inner/`: move that away, then `parallelai work drop abe` again" in said
    (kept,) = cli("work", "clean", "--json").document["kept"]
    assert kept["command"] == "parallelai work drop abe"

    shutil.rmtree(place / "inner")
    again = cli("work", "drop", "abe", "--yes")

    assert (again.code, again.out.endswith("/patches/abe.patch` takes it\n")) == (0, True)
    assert (place.exists(), git(shop, "branch", "--list", "parallelai/abe")) == (False, "")
    assert cli("work", "drop", "abe", "--yes").code == 2


def test_the_branch_that_a_killed_drop_left_goes_and_what_came_to_it_since_is_kept(
    cli: Any, place: Path, shop: Path
) -> None:
    tip = git(place, "rev-parse", "HEAD")
    assert cli("work", "drop", "abe", "--yes").code == 0
    git(shop, "branch", "parallelai/abe", tip)
    again = cli("work", "drop", "abe", "--yes")
    assert (again.code, again.out.endswith("/patches/abe.patch` takes it\n")) == (0, True)

    git(shop, "worktree", "add", "-q", "-b", "parallelai/abe", str(shop.parent / "mine"), tip)
    (shop.parent / "mine" / "since.txt").write_text("since\n")
    commit(shop.parent / "mine", "since")
    git(shop, "worktree", "remove", str(shop.parent / "mine"))
    again = cli("work", "drop", "abe", "--yes")

    patch = shop / again.out.split("`")[3]
    assert (patch.name, "+since" in patch.read_text()) == ("abe-2.patch", True)
    assert git(shop, "branch", "--list", "parallelai/abe") == ""
    assert cli("work", "start", "plan.yaml", "abe").code == 0


@pytest.mark.parametrize("place", WAYS[::2], indirect=True)
def test_what_was_amended_after_it_landed_is_taken_back_and_lands_again(
    cli: Any, place: Path, shop: Path
) -> None:
    assert cli("work", "land", "abe").code == 0
    git(shop, "commit", "-q", "--amend", "-m", "In words of my own")
    (shop / "later.txt").write_text("later\n")
    commit(shop, "later")

    undone = cli("work", "undo", "abe")

    assert (undone.code, there(shop), (shop / "later.txt").exists()) == (0, {}, True)
    assert cli("work", "land", "abe").out.endswith("1 of 1 landed\n")
    assert there(shop) == BOTH
