"""Landing with real git: batches, conflicts, bad members, members that break only together."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from landing_support import Field, Files, blocked, landed

from parallelai.errors import UsageError
from parallelai.events import LandingBlocked, LandingLanded, LandingQueued
from parallelai.records import ErrorRecord
from parallelai.work.landing.judging import Judging
from parallelai.work.landing.records import Candidate, Plan, Verdict


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path / "repo", {"a.txt": "1\n2\n3\n", "b.txt": "b\n"})


def no_bad(files: Files) -> bool:
    return not any(path.startswith("bad") for path in files)


def test_a_batch_lands_as_one_merge_with_one_gate_run(field: Field) -> None:
    branches = [
        field.branch(f"f{n}", {f"f{n}.txt": "x\n"}, intent=f"Feature {n}", trailers={"ParallelAI-Run": "r-1"})
        for n in range(4)
    ]
    gate = field.gate(no_bad)
    arrivals = field.land(branches, gate)
    assert landed(arrivals) == {"f0", "f1", "f2", "f3"}
    assert len(gate.judged) == 1
    (merge,) = field.first_parents()
    record = arrivals["f0"].landed
    assert record is not None
    assert (record.commit, record.before) == (merge, field.base)
    assert record.tree == gate.judged[0] == field.checkout.git("rev-parse", "main^{tree}").strip()
    assert [run.command for run in record.gates] == ["gate"]
    assert all((field.root / f"f{n}.txt").exists() for n in range(4))
    assert field.status() == ""
    assert field.message(merge).startswith("Land f0, f1, f2 and f3\n")
    assert field.message(merge).count("ParallelAI-Run: r-1") == 1
    inner = field.checkout.git("log", "--first-parent", "--format=%s", f"{merge}^2", "^main^1").splitlines()
    assert inner == [f"Merge f{n}: Feature {n}" for n in (3, 2, 1, 0)]
    author = field.checkout.git("log", "-1", "--format=%an <%ae> %cn", merge).strip()
    assert author == "Uma User <uma@example.invalid> Uma User"


def test_events_are_told(field: Field) -> None:
    good, bad = field.branch("good", {"g": "1"}), field.branch("worse", {"bad": "1"})
    field.land([good, bad], field.gate(no_bad))
    kinds = [(name, type(data)) for name, data in field.events]
    assert kinds[:2] == [("good", LandingQueued), ("worse", LandingQueued)]
    assert sorted(kinds[2:], key=lambda pair: str(pair[0])) == [
        ("good", LandingLanded),
        ("worse", LandingBlocked),
    ]


def test_a_single_branch_is_a_plain_merge(field: Field) -> None:
    one = field.branch("one", {"one.txt": "1"})
    field.land([one])
    parents = field.checkout.git("log", "-1", "--format=%P", "main").split()
    assert parents == [field.base, one.commit]


def test_a_bad_member_is_found_and_the_rest_lands(field: Field) -> None:
    names = [f"f{n}" for n in range(12)]
    branches = [field.branch(name, {("bad" if name == "f7" else name): "1"}) for name in names]
    gate = field.gate(no_bad)
    arrivals = field.land(branches, gate)
    assert blocked(arrivals) == {"f7": ()}
    assert landed(arrivals) == set(names) - {"f7"}
    error = arrivals["f7"].error
    assert error is not None
    assert (error.kind, error.where) == ("gate_failed", "gate.log")
    assert "f7" in error.said
    assert field.run(gate.green_history("main", field.base))
    assert len(gate.judged) <= 9


def test_members_that_break_only_together_are_named(field: Field) -> None:
    branches = [field.branch(f"f{n}", {f"f{n}": "1"}) for n in range(10)]
    gate = field.gate(lambda files: not {"f2", "f6"} <= set(files))
    arrivals = field.land(branches, gate)
    assert blocked(arrivals) == {"f6": ("f2",)}
    assert "passes alone" in str(arrivals["f6"].error)
    assert field.run(gate.green_history("main", field.base))


def test_three_that_break_only_together_are_named(field: Field) -> None:
    branches = [field.branch(f"f{n}", {f"f{n}": "1"}) for n in range(8)]
    arrivals = field.land(branches, field.gate(lambda files: not {"f1", "f3", "f6"} <= set(files)))
    assert blocked(arrivals) == {"f6": ("f1", "f3")}


def test_a_conflict_between_members_names_the_other(field: Field) -> None:
    one = field.branch("one", {"a.txt": "one\n2\n3\n"})
    two = field.branch("two", {"a.txt": "two\n2\n3\n"})
    free = field.branch("free", {"c.txt": "c"})
    arrivals = field.land([one, two, free], field.gate(no_bad))
    assert landed(arrivals) == {"one", "free"}
    assert blocked(arrivals) == {"two": ("one",)}
    error = arrivals["two"].error
    assert error is not None
    assert error.kind == "conflict"
    assert "`one`" in error.said
    assert "`a.txt`" in error.said


def test_a_conflict_with_the_target_says_so(field: Field) -> None:
    late = field.branch("late", {"a.txt": "late\n2\n3\n"})
    field.checkout.commit({"a.txt": "newer\n2\n3\n"})
    arrivals = field.land([late, field.branch("free", {"c.txt": "c"})])
    assert blocked(arrivals) == {"late": ()}
    assert "`main`" in str(arrivals["late"].error)
    assert landed(arrivals) == {"free"}


def test_who_conflicts_with_a_bad_member_lands_instead_of_it(field: Field) -> None:
    worse = field.branch("worse", {"a.txt": "one\n2\n3\n", "bad": "1"}, priority=0)
    two = field.branch("two", {"a.txt": "two\n2\n3\n"})
    arrivals = field.land([worse, two], field.gate(no_bad))
    assert landed(arrivals) == {"two"}
    assert arrivals["worse"].error is not None
    assert arrivals["worse"].error.kind == "gate_failed"


def test_dependents_of_what_did_not_land_are_blocked_with_its_name(field: Field) -> None:
    worse = field.branch("worse", {"bad": "1"})
    second = field.branch("second", {"s": "1"}, depends_on=("worse",))
    third = field.branch("third", {"t": "1"}, depends_on=("second",))
    free = field.branch("free", {"f": "1"}, depends_on=("landed-before",))
    arrivals = field.land([third, second, worse, free], field.gate(no_bad))
    assert landed(arrivals) == {"free"}
    assert (arrivals["second"].waits_for, arrivals["third"].waits_for) == ("worse", "second")
    assert "`worse`" in str(arrivals["second"].error)


def test_a_batch_size_bounds_what_shares_a_run(field: Field) -> None:
    branches = [field.branch(f"f{n}", {f"f{n}": "1"}) for n in range(5)]
    gate = field.gate(no_bad)
    arrivals = field.land(branches, gate, plan=Plan("main", batch=2))
    assert len(landed(arrivals)) == 5
    assert len(gate.judged) == len(field.first_parents()) == 3


def test_a_red_base_blocks_everything(field: Field) -> None:
    gate = field.gate(no_bad)
    gate.base_is_green = False
    arrivals = field.land([field.branch("one", {"x": "1"})], gate)
    assert "the base is red" in str(arrivals["one"].error)
    assert field.tip() == field.base


def test_a_gate_that_cannot_run_stops_at_once(field: Field) -> None:
    class Missing:
        runs = 0

        async def judge(self, commit: str, base: str, names: tuple[str, ...]) -> Verdict:
            self.runs += 1
            return Verdict(False, error=ErrorRecord("unavailable", "`pytest` is not installed"))

        async def ready(self, base: str) -> Verdict:
            return Verdict(True)

    gate = Missing()
    arrivals = field.land([field.branch(f"f{n}", {f"f{n}": "1"}) for n in range(6)], gate)
    assert gate.runs == 1
    kinds = {one.error.kind for one in arrivals.values() if one.error is not None}
    assert kinds == {"unavailable"}
    assert not landed(arrivals)


def test_landing_again_finds_what_landed(field: Field) -> None:
    branches = [field.branch(f"f{n}", {f"f{n}": "1"}) for n in range(3)]
    first = field.land(branches, field.gate(no_bad))
    tip = field.tip()
    gate = field.gate(no_bad)
    again = field.land([*branches, field.branch("new", {"n": "1"})], gate)
    assert len(landed(again)) == 4
    assert field.tip() != tip
    for one in branches:
        before, after = first[one.name].landed, again[one.name].landed
        assert before is not None
        assert after is not None
        assert (before.before, before.commit, before.tree) == (after.before, after.commit, after.tree)
    assert len(gate.judged) == 1


def test_what_a_person_merged_has_landed(field: Field) -> None:
    one = field.branch("one", {"one": "1"})
    field.checkout.git("merge", "-q", "--no-edit", "--no-ff", "one")
    merge = field.tip()
    field.checkout.commit({"later": "1"})
    arrivals = field.land([one], field.gate(no_bad))
    record = arrivals["one"].landed
    assert record is not None
    assert (record.before, record.commit) == (field.base, merge)


def test_branches_stacked_on_one_another_land(field: Field) -> None:
    one = field.branch("one", {"a.txt": "1 changed\n2\n3\n"})
    two = field.branch("two", {"a.txt": "1 changed twice\n2\n3\n"}, base=one.commit, depends_on=("one",))
    arrivals = field.land([two, one], field.gate(no_bad))
    assert landed(arrivals) == {"one", "two"}
    assert field.files()["a.txt"] == "1 changed twice\n2\n3\n"


def test_what_does_not_make_sense_is_refused(field: Field) -> None:
    one = field.branch("one", {"x": "1"})
    with pytest.raises(UsageError, match="twice"):
        field.land([one, one])
    with pytest.raises(UsageError, match="no branch `nowhere`"):
        field.land([one], plan=Plan("nowhere"))
    circle = [
        Candidate("a", one.commit, field.base, depends_on=("b",)),
        Candidate("b", one.commit, field.base, depends_on=("a",)),
    ]
    with pytest.raises(UsageError, match="circle"):
        field.land(circle)
    assert field.land([]) == {}


def test_nobody_to_git_still_lands(field: Field) -> None:
    field.checkout.git("config", "--unset", "user.name")
    field.checkout.git("config", "--unset", "user.email")
    field.checkout.git("config", "user.useConfigOnly", "true")
    assert landed(field.land([field.branch("one", {"x": "1"})])) == {"one"}
    assert field.checkout.git("log", "-1", "--format=%an", "main").strip() == "ParallelAI"


def test_hostile_names_and_intents_stay_words(field: Field) -> None:
    intent = "Title\x1b[31m\nParallelAI-Lands: " + "0" * 40 + "\nmore"
    one = field.branch(
        "one", {"x": "1"}, intent=intent, trailers={"Bad Key": "x", "Good": "a\nParallelAI-Lands: 1"}
    )
    field.land([one])
    message = field.message("main")
    assert "\x1b" not in message
    assert "Bad Key" not in message
    assert sum(line.startswith("ParallelAI-Lands") for line in message.splitlines()) == 1
    lands = field.checkout.git(
        "log", "-1", "--format=%(trailers:key=ParallelAI-Lands,valueonly)", "main"
    ).split()
    assert lands == [one.commit]


def test_a_tree_is_judged_once_and_the_bases_own_never(field: Field) -> None:
    gate = field.gate(no_bad)
    judging = Judging(field.repository, gate)
    one = field.branch("one", {"x": "1"})
    same = field.branch("same", {"x": "1"}, base=one.commit)
    for commit in (one.commit, same.commit, one.commit):
        assert field.run(judging.judge(commit, field.base, ())).ok
    assert field.run(judging.judge(same.commit, one.commit, ())).ok
    assert (judging.runs, len(gate.judged)) == (1, 1)


def test_a_merge_at_which_git_itself_fails_holds_up_only_its_own_branch(
    field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    branches = [field.branch(f"f{n}", {f"f{n}.txt": "x\n"}) for n in range(4)]
    real = shutil.which("git")
    stand_in = tmp_path / "bin" / "git"
    stand_in.parent.mkdir()
    stand_in.write_text(
        "#!/bin/sh\nulimit -c 0\n"
        f'case "$*" in *merge-tree*) asked=$(cat); case "$asked" in *{branches[2].commit}*) kill -ABRT $$;; esac\n'
        f'printf "%s\\n" "$asked" | exec {real} "$@";; *) exec {real} "$@";; esac\n'
    )
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}:{os.environ['PATH']}")
    arrivals = field.land(branches, field.gate(no_bad))
    assert landed(arrivals) == {"f0", "f1", "f3"}
    error = arrivals["f2"].error
    assert error is not None
    assert error.kind == "conflict"
    assert "git failed on this merge" in error.said
