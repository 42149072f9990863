"""What is said of work that the target has already: all of it, and nothing that was taken back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from landing_support import Field, Gate

from parallelai.work.landing.history import look_up
from parallelai.work.landing.records import Candidate, Plan, Verdict
from parallelai.work.landing.undo import undo
from parallelai.work.streams.record import GateRun, Landed


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path / "repo", {"a.txt": "1\n"})


def land(field: Field, candidate: Candidate, method: Any = "merge") -> Landed:
    landed = field.land([candidate], plan=Plan("main", method=method))[candidate.name].landed
    assert landed is not None
    return landed


def take_back(field: Field, landed: Landed) -> None:
    field.run(undo(field.repository, Plan("main"), landed, None, field.tell, ours=frozenset))


def branch(field: Field, name: str, *files: str) -> Candidate:
    """A branch with a commit for each file."""
    base = field.base
    for file in files:
        made = field.branch(
            name,
            {file: "new\n"},
            base=base,
            trailers={"ParallelAI-Run": "r-1", "ParallelAI-Task": name},
        )
        base = made.commit
    return made


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_what_is_found_again_is_the_whole_of_what_landed(field: Field, method: str) -> None:
    land(field, branch(field, "other", "o1", "o2"), method)
    one = branch(field, "one", "x", "y", "z")
    landed = land(field, one, method)

    again = land(field, one, method)

    assert (again.before, again.commit) == (landed.before, landed.commit)
    take_back(field, again)
    assert set(field.files()) == {"a.txt", "o1", "o2"}


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_what_went_with_what_was_taken_back_is_not_there(field: Field, method: str) -> None:
    one = branch(field, "one", "x")
    two = field.branch("two", {"y": "new\n"}, base=one.commit)
    take_back(field, land(field, two, method))
    assert set(field.files()) == {"a.txt"}

    land(field, one, method)
    assert set(field.files()) == {"a.txt", "x"}
    land(field, two, method)
    assert set(field.files()) == {"a.txt", "x", "y"}
    tip = field.tip()
    land(field, one, method)
    assert field.tip() == tip


def test_a_merge_that_changes_nothing_landed_behind_what_looked_at_the_target(field: Field) -> None:
    class Looking(Gate):
        async def ready(self, base: str) -> Verdict:
            return Verdict(True, (GateRun("gate", 0, 0.1, "base.log"),))

    one = branch(field, "one", "x")
    field.checkout.git("merge", "-q", "--squash", "one")
    field.checkout.git("commit", "-q", "-m", "What a person squashed")
    gate = Looking(field.repository, lambda _: True)

    landed = field.land([one], gate)["one"].landed

    assert landed is not None
    assert [run.log for run in landed.gates] == ["base.log"]
    assert gate.judged == []


def test_what_was_rebased_is_out_once_all_of_its_commits_were_reverted(field: Field) -> None:
    one = dataclasses.replace(branch(field, "one", "x", "y", "z"), worktree="elsewhere")
    land(field, one, "rebase")
    *_, last = commits = field.checkout.git("rev-list", "--reverse", f"{field.base}..main").split()
    field.checkout.git("revert", "--no-edit", last)
    tip = field.tip()
    land(field, one, "rebase")
    assert field.tip() == tip, "a part of it is there"

    field.checkout.git("revert", "--no-edit", *commits[:2])

    land(field, one, "rebase")
    assert set(field.files()) == {"a.txt", "x", "y", "z"}


@pytest.mark.parametrize(
    "said",
    [
        "Squashed commit of the following:\n\n    Revert it\n\n    This reverts commit {commit}, reversing\n",
        'Revert "Merge one"\n\nIt was too slow.\n',
        'Bring it back later (#12)\n\n* Revert "Merge one" (#11)\n',
    ],
)
def test_a_revert_of_other_words_is_one_if_it_takes_that_back(field: Field, said: str) -> None:
    one = dataclasses.replace(branch(field, "one", "x"), worktree="elsewhere")
    words = said.format(commit=land(field, one).commit)
    field.checkout.git("commit", "-q", "--allow-empty", "-m", words)
    tip = field.tip()
    land(field, one)
    assert field.tip() == tip, "it takes nothing back"

    field.checkout.git("rm", "-q", "x")
    field.checkout.git("commit", "-q", "-m", words)

    land(field, one)
    assert set(field.files()) == {"a.txt", "x"}


def titled(field: Field, name: str, title: str, text: str) -> Candidate:
    """A branch from the target's tip with one commit of that title, that writes `a.txt`."""
    made = field.branch(name, {"a.txt": text}, base=field.tip(), trailers={"ParallelAI-Run": "r-1"})
    words = ("commit-tree", f"{made.commit}^{{tree}}", "-p", made.base, "-m", title)
    commit = field.checkout.git(*words).strip()
    field.checkout.git("branch", "--force", name, commit)
    return dataclasses.replace(made, commit=commit, worktree="elsewhere")


def there(field: Field, *candidates: Candidate) -> set[str]:
    return set(field.run(look_up(field.repository, "main", field.tip(), candidates)).landed)


def test_of_two_commits_of_one_title_that_is_out_which_a_revert_took_back(field: Field) -> None:
    one = titled(field, "one", "Fix", "2\n")
    land(field, one, "rebase")
    two = titled(field, "two", "Fix", "3\n")  # the same line: without it `one` would conflict
    land(field, two, "rebase")

    field.checkout.git("revert", "--no-commit", "HEAD")
    field.checkout.git("commit", "-q", "-m", 'Revert "Fix"\n\nIt was too slow.')

    assert there(field, one, two) == {"one"}


def test_what_a_revert_of_two_of_one_title_took_back_is_out(field: Field) -> None:
    work = [branch(field, name, name) for name in ("one", "two", "three")]
    work = [dataclasses.replace(each, worktree="elsewhere") for each in work]
    for each in work:
        words = ("commit-tree", f"{each.commit}^{{tree}}", "-p", each.base, "-m", "Fix")
        field.checkout.git("branch", "--force", each.name, commit := field.checkout.git(*words).strip())
        work[work.index(each)] = each = dataclasses.replace(each, commit=commit)
        land(field, each, "rebase")

    field.checkout.git("rm", "-q", "one", "two")
    field.checkout.git("commit", "-q", "-m", 'Less\n\n* Revert "Fix"\n* Revert "Fix"\n')

    assert there(field, *work) == {"three"}


def test_a_revert_is_one_however_many_of_that_title_come_later(field: Field) -> None:
    one = titled(field, "one", "Fix", "2\n")
    land(field, one, "rebase")
    field.checkout.git("revert", "--no-commit", "HEAD")
    field.checkout.git("commit", "-q", "-m", 'Revert "Fix"')
    for _ in range(6):
        field.checkout.git("commit", "-q", "--allow-empty", "-m", "Fix")

    assert there(field, one) == set()


def test_a_branch_whose_undo_was_reverted_is_there(field: Field) -> None:
    one = branch(field, "one", "x")
    take_back(field, land(field, one))
    field.checkout.git("revert", "--no-edit", "HEAD")
    tip = field.tip()

    land(field, one)
    assert field.tip() == tip

    field.checkout.git("revert", "--no-edit", "HEAD")
    land(field, one)
    assert set(field.files()) == {"a.txt", "x"}
