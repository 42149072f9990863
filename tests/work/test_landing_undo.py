"""Taking a landing back, and landing it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from landing_support import Field, Files, landed

from parallelai.errors import CheckFailed, UsageError
from parallelai.events import LandingUndone
from parallelai.work.landing.records import Arrival, Plan
from parallelai.work.landing.undo import UndoConflict, undo
from parallelai.work.streams.record import Landed


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path / "repo", {"a.txt": "1\n2\n3\n", "b.txt": "b\n"})


def yes(_: Files) -> bool:
    return True


def taken_back(field: Field, arrival: Arrival, passes: Any = yes, **more: Any) -> Landed:
    assert arrival.landed is not None
    gate = field.gate(passes)
    done = undo(field.repository, Plan("main"), arrival.landed, gate, field.tell, ours=frozenset, **more)
    made = field.run(done)
    assert isinstance(made, Landed)
    return made


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_a_landing_is_taken_back_by_a_new_commit_and_lands_again(field: Field, method: Any) -> None:
    plan = Plan("main", method=method)
    one = field.branch("one", {"a.txt": "one\n2\n3\n", "one.txt": "1"})
    arrival = field.land([one], plan=plan)["one"]
    field.checkout.commit({"later": "1"})
    before = field.tip()
    made = taken_back(field, arrival, name="one")
    assert (made.before, made.commit) == (before, field.tip())
    assert field.files() == {"a.txt": "1\n2\n3\n", "b.txt": "b\n", "later": "1"}
    assert field.status() == ""
    assert made.gates
    assert field.events[-1] == ("one", LandingUndone("main", made.commit))
    assert taken_back(field, arrival).commit == made.commit  # once is enough
    # A branch that was taken back is not taken for landed, and comes back whole with what it got since.
    assert landed(field.land([one], plan=plan)) == {"one"}
    assert field.files()["one.txt"] == "1"
    again = field.land([one], plan=plan)["one"]
    assert again.landed is not None
    assert again.landed.commit == field.tip()
    assert taken_back(field, again).commit != made.commit
    more = field.branch("one", {"two.txt": "2"}, base=one.commit)
    field.land([more], plan=plan)
    assert field.files().keys() == {"a.txt", "b.txt", "later", "one.txt", "two.txt"}


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_what_was_taken_back_stays_so_where_a_branch_was_cut_meanwhile(field: Field, method: Any) -> None:
    plan = Plan("main", method=method)
    arrival = field.land([field.branch("one", {"one.txt": "1"})], plan=plan)["one"]
    other = field.branch("other", {"other.txt": "1"}, base=field.tip())
    taken_back(field, arrival, name="one")
    assert landed(field.land([other], plan=plan)) == {"other"}
    assert field.files().keys() == {"a.txt", "b.txt", "other.txt"}


def by_hand(field: Field, *how: str) -> None:
    field.checkout.git("merge", "-q", *how, "one")


def revert(field: Field, *words: str, branch: bool = False) -> None:
    """Revert on the target, or on a branch that is merged then, as pull requests are."""
    if branch:
        field.checkout.git("switch", "-q", "-c", "away")
    field.checkout.git("revert", "--no-edit", *words)
    if branch:
        field.checkout.git("switch", "-q", "main")
        field.checkout.git("merge", "-q", "--no-ff", "-m", "Pull request", "away")


@pytest.mark.parametrize("branch", [False, True])
@pytest.mark.parametrize(
    ("method", "side"),
    [("merge", ("-m", "1")), ("squash", ()), ("rebase", ()), ("--no-ff", ("-m", "1")), ("--ff-only", ())],
)
def test_what_a_person_reverted_has_not_landed_until_that_is_reverted(
    field: Field, method: Any, side: tuple[str, ...], branch: bool
) -> None:
    one = field.branch("one", {"one.txt": "1"}, worktree="/nowhere/one")
    if method.startswith("--"):
        by_hand(field, method)
    else:
        field.land([one], plan=Plan("main", method=method))
    field.checkout.commit({"later.txt": "1"})
    revert(field, *side, "HEAD~1", branch=branch)
    reverted = field.tip()
    assert "one.txt" not in field.files()

    assert landed(field.land([one])) == {"one"}
    assert field.files()["one.txt"] == "1"

    field.checkout.git("reset", "-q", "--hard", reverted)
    field.checkout.git("revert", "--no-edit", *(["-m", "1"] if branch else []), "HEAD")
    tip = field.tip()
    again = field.land([one])["one"]
    assert again.landed is not None
    assert (again.landed.commit, field.tip()) == (tip, tip)


def test_a_target_that_was_moved_along_to_a_branch_has_it_until_all_its_commits_are_reverted(
    field: Field,
) -> None:
    first = field.branch("one", {"one.txt": "1"})
    one = field.branch("one", {"two.txt": "2"}, base=first.commit)
    one = replace(one, base=field.tip(), worktree="/nowhere/one")
    by_hand(field, "--ff-only")
    revert(field, "HEAD")
    there = field.land([one])["one"]
    assert (there.landed is not None, field.files().keys()) == (True, {"a.txt", "b.txt", "one.txt"})

    revert(field, "HEAD~2")
    assert field.files().keys() == {"a.txt", "b.txt"}
    more = field.branch("one", {"three.txt": "3"}, base=one.commit)
    assert landed(field.land([replace(more, base=one.base, worktree="/nowhere/one")])) == {"one"}
    assert field.files().keys() == {"a.txt", "b.txt", "one.txt", "two.txt", "three.txt"}


def say_reverted(field: Field, commit: str, files: dict[str, str | bytes]) -> None:
    """Commit on the branch that is checked out, in the words of a revert."""
    field.checkout.commit(files)
    field.checkout.git("commit", "-q", "--amend", "-m", f"Words\n\nThis reverts commit {commit}.")


def test_a_revert_whose_conflict_a_person_settled_counts(field: Field) -> None:
    one = field.branch("one", {"a.txt": "one\n2\n3\n"}, worktree="/nowhere/one")
    field.land([one])
    landing = field.tip()
    field.checkout.commit({"a.txt": "one, and more\n2\n3\n"})
    say_reverted(field, landing, {"a.txt": "more\n2\n3\n"})

    again = field.land([one])["one"]

    assert again.error is not None  # it is to land again, and what was settled is in its way
    assert again.error.kind == "conflict"


@pytest.mark.parametrize("by", ["itself", "a branch", "a merge", "a part"])
def test_a_commit_that_only_says_that_it_reverts_a_landing_takes_nothing_back(field: Field, by: str) -> None:
    one = field.branch("one", {"one.txt": "1", "two.txt": "2"}, worktree="/nowhere/one")
    field.land([one])
    landing = field.tip()
    if by in ("a branch", "a merge"):
        field.checkout.git("switch", "-q", "-c", "away")
    if by == "a part":
        field.checkout.git("rm", "-q", "one.txt")
    say_reverted(field, landing, {"other.txt": "1"})
    if by in ("a branch", "a merge"):
        field.checkout.git("switch", "-q", "main")
        said = "Merge" if by == "a branch" else f"This reverts commit {landing}."
        field.checkout.git("merge", "-q", "--no-ff", "-m", "Merge", "-m", said, "away")

    again = field.land([one])["one"]

    assert again.landed is not None
    assert again.landed.commit == landing


def test_what_a_person_merged_and_reverted_comes_back_with_no_branch_that_was_cut_from_it(
    field: Field,
) -> None:
    theirs = field.branch("theirs", {"theirs.txt": "1"})
    field.checkout.git("merge", "-q", "--no-ff", "-m", "By hand", "theirs")
    field.checkout.git("revert", "--no-edit", "-m", "1", "HEAD")
    other = field.branch("other", {"other.txt": "1"}, base=theirs.commit, worktree="/nowhere/other")

    assert landed(field.land([other])) == {"other"}

    assert field.files().keys() == {"a.txt", "b.txt", "other.txt"}


def test_a_commit_that_only_says_that_it_undid_a_landing_did_not(field: Field) -> None:
    one = field.branch("one", {"one.txt": "1"})
    arrival = field.land([one])["one"]
    field.checkout.git("commit", "-q", "--allow-empty", "-m", f"forged\n\nParallelAI-Undoes: {one.commit}")

    taken_back(field, arrival)

    assert "one.txt" not in field.files()


def test_one_branch_of_a_batch_is_taken_back(field: Field) -> None:
    branches = [field.branch(f"f{n}", {f"f{n}": "1"}) for n in range(4)]
    arrivals = field.land(branches)
    taken_back(field, arrivals["f1"], name="f1", commit=branches[1].commit)
    assert field.files().keys() == {"a.txt", "b.txt", "f0", "f2", "f3"}
    again = field.land(branches)
    assert landed(again) == {"f0", "f1", "f2", "f3"}
    assert again["f1"].landed != again["f0"].landed
    assert "f1" in field.files()


def test_a_whole_batch_is_taken_back(field: Field) -> None:
    arrivals = field.land([field.branch(f"f{n}", {f"f{n}": "1"}) for n in range(4)])
    taken_back(field, arrivals["f1"])
    assert field.files().keys() == {"a.txt", "b.txt"}


@pytest.mark.parametrize(("method", "side"), [("merge", "-m 1 "), ("squash", "")])
def test_later_work_on_the_same_lines_is_named(field: Field, method: Any, side: str) -> None:
    one = field.branch("one", {"a.txt": "one\n2\n3\n"})
    arrival = field.land([one], plan=Plan("main", method=method))["one"]
    field.checkout.commit({"a.txt": "one and more\n2\n3\n"})
    tip = field.tip()
    with pytest.raises(UndoConflict, match=r"`a\.txt` \([0-9a-f]+ c\)") as told:
        taken_back(field, arrival)
    assert field.tip() == tip
    assert arrival.landed is not None
    command = f"git revert {side}{arrival.landed.commit[:12]}"
    assert told.value.next == f"`{command}`, by hand"
    done = field.run(field.repository.as_user(*command.split()[1:]))
    assert b"CONFLICT (content): Merge conflict in a.txt" in done.stdout  # which is what is left to a person


def test_what_others_need_by_now_stays(field: Field) -> None:
    arrival = field.land([field.branch("one", {"one.txt": "1"})])["one"]
    field.checkout.commit({"needs-one": "1"})
    tip = field.tip()
    with pytest.raises(CheckFailed, match="gate fails"):
        taken_back(field, arrival, lambda files: "needs-one" not in files or "one.txt" in files)
    assert field.tip() == tip


def test_a_dirty_checkout_keeps_the_undo_pending(field: Field) -> None:
    arrival = field.land([field.branch("one", {"one.txt": "1"})])["one"]
    field.checkout.write({"one.txt": "mine"})
    made = taken_back(field, arrival)
    assert made.pending == "parallelai/landing/main"
    waits = (
        "your checkout waits: what you changed in `one.txt` is in the way: put it aside,"
        " then `git merge --ff-only parallelai/landing/main`"
    )
    assert made.notes == (waits,)
    assert taken_back(field, arrival).notes == (waits,)
    assert (field.root / "one.txt").read_text() == "mine"


def test_what_is_not_there_is_refused(field: Field) -> None:
    arrival = field.land([field.branch("one", {"one.txt": "1"})])["one"]
    field.checkout.git("reset", "-q", "--hard", field.base)
    with pytest.raises(UsageError, match="is not on `main`") as refused:
        taken_back(field, arrival)
    assert refused.value.next == "`git log main` lists what is; `git revert COMMIT` takes that back"
