"""Squash and rebase, settled conflicts, shadow landings, previews."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from landing_support import Field, Files, blocked, landed

from parallelai.git.merging import Merged
from parallelai.git.repository import Repository
from parallelai.records import ErrorRecord
from parallelai.work.landing.records import Breaking, Candidate, Plan, Resolved, Side


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path / "repo", {"a.txt": "1\n2\n3\n4\n5\n6\n7\n8\n", "b.txt": "b\n"})


def no_bad(files: Files) -> bool:
    return not any(path.startswith("bad") for path in files)


def lines(**changed: str) -> str:
    return "".join(f"{changed.get(f'l{n}', str(n))}\n" for n in range(1, 9))


# -- squash


def test_squash_makes_one_gated_commit_for_each(field: Field) -> None:
    branches = [
        field.branch(f"f{n}", {("bad" if n == 2 else f"f{n}"): "1"}, intent=f"Feature {n}\n\nIn words")
        for n in range(5)
    ]
    gate = field.gate(no_bad)
    arrivals = field.land(branches, gate, plan=Plan("main", method="squash"))
    assert blocked(arrivals) == {"f2": ()}
    commits = field.first_parents()
    assert [field.message(commit).splitlines()[0] for commit in reversed(commits)] == [
        f"Feature {n}" for n in (0, 1, 3, 4)
    ]
    assert all(len(field.checkout.git("log", "-1", "--format=%P", one).split()) == 1 for one in commits)
    trees = {field.checkout.git("rev-parse", f"{one}^{{tree}}").strip() for one in commits}
    assert trees <= set(gate.judged)
    record = arrivals["f3"].landed
    assert record is not None
    assert (record.before, record.commit) == (commits[2], commits[1])


@pytest.mark.parametrize("method", ["squash", "rebase"])
def test_what_the_target_has_in_other_words_makes_no_empty_commit(field: Field, method: str) -> None:
    one = field.branch("one", {"x": "1"})
    two = field.branch("two", {"y": "2"})
    field.checkout.git("merge", "-q", "--squash", "one")
    field.checkout.git("commit", "-q", "-m", "What a person squashed")
    before = field.tip()
    for _ in range(2):
        arrivals = field.land([one, two], field.gate(no_bad), plan=Plan("main", method=method))
        there = arrivals["one"].landed
        assert there is not None
        assert there.before == there.commit
        assert landed(arrivals) == {"one", "two"}
    assert field.checkout.git("log", "--format=%s", f"{before}..main").splitlines() == ["two"]


def test_squash_names_who_breaks_together(field: Field) -> None:
    branches = [field.branch(f"f{n}", {f"f{n}": "1"}) for n in range(6)]
    gate = field.gate(lambda files: not {"f1", "f4"} <= set(files))
    arrivals = field.land(branches, gate, plan=Plan("main", method="squash"))
    assert blocked(arrivals) == {"f4": ("f1",)}
    assert field.run(gate.green_history("main", field.base))


def test_what_was_squashed_is_found_again_and_does_not_conflict_later(field: Field) -> None:
    plan = Plan("main", method="squash")
    one = field.branch("one", {"a.txt": lines(l1="one")})
    two = field.branch("two", {"a.txt": lines(l1="one, then two")}, base=one.commit, depends_on=("one",))
    field.land([one], plan=plan)
    field.checkout.commit({"by-hand": "1"})
    tip = field.tip()
    assert landed(field.land([one], plan=plan)) == {"one"}
    assert field.tip() == tip
    assert landed(field.land([two], plan=plan)) == {"two"}  # its history holds what was squashed
    assert field.files()["a.txt"] == lines(l1="one, then two")


def test_a_trailer_that_lies_is_not_believed(field: Field) -> None:
    one = field.branch("one", {"one.txt": "1"})
    field.checkout.git("commit", "-q", "--allow-empty", "-m", f"x\n\nParallelAI-Lands: {one.commit}")
    field.land([one])
    assert "one.txt" in field.files()


# -- rebase


def three_commits(field: Field, bad: int | None = None) -> Candidate:
    commit = field.base
    for n in range(3):
        one = field.branch(
            "steps", {f"s{n}": "1", **({"bad": "1"} if n == bad else {"bad": None})}, base=commit
        )
        commit = one.commit
    return Candidate("steps", commit, field.base, branch="steps", trailers={"ParallelAI-Task": "steps"})


def test_rebase_replays_the_commits_each_gated(field: Field) -> None:
    candidate = three_commits(field)
    field.checkout.commit({"by-hand": "1"})
    gate = field.gate(no_bad)
    arrivals = field.land([candidate], gate, plan=Plan("main", method="rebase"))
    commits = field.first_parents()[:3]
    record = arrivals["steps"].landed
    assert record is not None
    assert record.commit == commits[0]
    assert record.before == field.first_parents()[3]
    assert {field.checkout.git("rev-parse", f"{one}^{{tree}}").strip() for one in commits} == set(gate.judged)
    shown = [field.checkout.git("log", "-1", "--format=%an %cn %at", one).strip() for one in commits]
    assert shown == ["t Uma User 1700000000"] * 3
    assert all("ParallelAI-Task: steps" in field.message(one) for one in commits)
    assert [candidate.commit in field.message(one) for one in commits] == [True, False, False]
    assert landed(field.land([candidate], plan=Plan("main", method="rebase"))) == {"steps"}
    assert len(field.first_parents()) == 4


def test_rebase_refuses_a_commit_that_is_red_between_green_ones(field: Field) -> None:
    gate = field.gate(no_bad)
    arrivals = field.land([three_commits(field, bad=1)], gate, plan=Plan("main", method="rebase"))
    assert not landed(arrivals)
    assert field.tip() == field.base


def test_what_cannot_be_replayed_lands_as_one_commit(field: Field) -> None:
    first = field.branch("knot", {"a.txt": lines(l1="theirs")})
    field.checkout.git("checkout", "-q", "-b", "side", field.base)
    field.checkout.commit({"side": "1"})
    field.checkout.git("merge", "-q", "--no-edit", "knot")
    commit = field.tip("side")
    field.checkout.git("checkout", "-q", "main")
    assert first.commit in field.checkout.git("rev-list", commit)
    arrivals = field.land([Candidate("side", commit, field.base)], plan=Plan("main", method="rebase"))
    assert landed(arrivals) == {"side"}
    assert len(field.first_parents()) == 1
    assert field.files()["a.txt"] == lines(l1="theirs")


def test_a_replay_that_comes_to_another_tree_than_the_merge_is_not_taken(field: Field) -> None:
    there = field.branch("back", {"b.txt": "changed\n"})
    back = field.branch("back", {"b.txt": "b\n", "new": "1"}, base=there.commit)
    field.checkout.commit({"b.txt": "changed\n"})  # replayed, the branch would take that back
    candidate = Candidate("back", back.commit, field.base)
    assert landed(field.land([candidate], plan=Plan("main", method="rebase"))) == {"back"}
    assert (field.files()["b.txt"], field.files()["new"]) == ("changed\n", "1")


# -- conflicts that are settled


class Settles:
    """Takes both sides' texts, one after the other; an engine that may be asked, or a resolver that need not."""

    def __init__(self, repository: Repository, *, asks: bool, strays: bool = False) -> None:
        self.repository = repository
        self.asks = asks
        self.strays = strays
        self.sides: list[tuple[Side, Side]] = []

    async def failed(self, name: str) -> None:
        """What was settled is not remembered here."""

    async def settle(
        self, ours: str, theirs: str, merged: Any, sides: tuple[Side, Side], *, may_ask: bool
    ) -> Resolved | ErrorRecord:
        assert isinstance(merged, Merged)
        if self.asks and not may_ask:
            return ErrorRecord("conflict", "no resolver knows")
        self.sides.append(sides)
        git = self.repository.git
        tree = merged.tree
        for conflict in merged.conflicts:
            blobs = [conflict.stages[stage].blob for stage in (2, 3)]
            texts = await git.blobs(blobs)
            data = b"".join(texts[blob] for blob in blobs)
            blob = await git.line("hash-object", "-w", "--stdin", stdin=data)
            listed = await git.run("ls-tree", tree)
            rows = [
                row for row in listed.split(b"\n") if row and not row.endswith(b"\t" + conflict.path.encode())
            ]
            rows.append(f"100644 blob {blob}\t{conflict.path}".encode())
            if self.strays:
                rows.append(f"100644 blob {blob}\tstray".encode())
            tree = await git.line("mktree", stdin=b"\n".join(sorted(rows, key=lambda row: row[53:])) + b"\n")
        return Resolved(tree, {conflict.path: "both" for conflict in merged.conflicts})


def test_a_resolver_settles_within_the_batch(field: Field) -> None:
    settles = Settles(field.repository, asks=False)
    one, two = field.branch("one", {"b.txt": "one\n"}), field.branch("two", {"b.txt": "two\n"})
    gate = field.gate(no_bad)
    arrivals = field.land([one, two], gate, settles)
    assert landed(arrivals) == {"one", "two"}
    assert field.files()["b.txt"] == "one\ntwo\n"
    assert len(gate.judged) == 1
    assert "`b.txt` was settled by both" in arrivals["two"].notes
    assert "Conflict in b.txt settled by both." in field.checkout.git("log", "--format=%B", "main")


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_an_engine_settles_when_the_others_have_landed(field: Field, method: Any) -> None:
    settles = Settles(field.repository, asks=True)
    names = ["one", "two", "three"]
    branches = [field.branch(name, {"b.txt": f"{name}\n"}, intent=f"Does {name}") for name in names]
    gate = field.gate(no_bad)
    arrivals = field.land(branches, gate, settles, plan=Plan("main", method=method))
    assert landed(arrivals) == set(names)
    assert sorted(field.files()["b.txt"].split()) == sorted(names)
    assert settles.sides[0][0] == Side("one", "Does one")
    assert settles.sides[0][1] in (Side("two", "Does two"), Side("three", "Does three"))
    assert field.run(gate.green_history("main", field.base))
    assert field.checkout.git("rev-parse", "main^{tree}").strip() == gate.judged[-1]


def test_what_settles_may_touch_only_the_conflicting_files(field: Field) -> None:
    settles = Settles(field.repository, asks=True, strays=True)
    one, two = field.branch("one", {"b.txt": "one\n"}), field.branch("two", {"b.txt": "two\n"})
    arrivals = field.land([one, two], None, settles)
    assert blocked(arrivals) == {"two": ("one",)}
    assert "`stray`" in str(arrivals["two"].error)


def test_a_settled_conflict_that_fails_the_gate_does_not_land(field: Field) -> None:
    settles = Settles(field.repository, asks=True)
    one, two = field.branch("one", {"b.txt": "one\n"}), field.branch("two", {"b.txt": "two\n"})
    gate = field.gate(lambda files: files["b.txt"] != b"one\ntwo\n")
    arrivals = field.land([one, two], gate, settles)
    assert (landed(arrivals), set(blocked(arrivals))) == ({"one"}, {"two"})


# -- before anything lands


def test_a_shadow_landing_moves_nothing_and_names_the_smallest_sets(field: Field) -> None:
    branches = [
        field.branch("one", {"b.txt": "one\n"}),
        field.branch("two", {"b.txt": "two\n"}),
        field.branch("worse", {"bad": "1"}),
        field.branch("x", {"x": "1"}),
        field.branch("y", {"y": "1"}),
        field.branch("after", {"z": "1"}, depends_on=("worse",)),
    ]
    gate = field.gate(lambda files: no_bad(files) and not {"x", "y"} <= set(files))
    refs = field.checkout.git("for-each-ref")
    shadow = field.run(field.lander(gate).shadow(branches))
    assert field.checkout.git("for-each-ref") == refs
    assert not field.events
    assert set(shadow.fits) == {"one", "x"}
    assert {(one.kind, one.names) for one in shadow.breaking} == {
        ("conflict", ("one", "two")),
        ("gate_failed", ("worse",)),
        ("gate_failed", ("x", "y")),
    }
    assert all(isinstance(one, Breaking) and one.said for one in shadow.breaking)
    assert shadow.runs == len(gate.judged)


def test_a_preview_tells_order_conflicts_and_runs(field: Field) -> None:
    field.land([done := field.branch("done", {"d": "1"})])
    late = field.branch("late", {"b.txt": "late\n"})
    field.checkout.commit({"b.txt": "newer\n"})
    branches = [
        done,
        late,
        field.branch("hub", {"a.txt": lines(l1="h", l8="h")}),
        field.branch("top", {"a.txt": lines(l1="t")}),
        field.branch("end", {"a.txt": lines(l8="e")}, depends_on=("top",)),
        field.branch("free", {"f": "1"}, priority=0),
    ]
    refs = field.checkout.git("for-each-ref")
    preview = field.run(field.lander(field.gate(no_bad)).preview(branches))
    assert preview.order == ("free", "top", "end", "late", "hub")
    assert set(preview.conflicts) == {("top", "hub"), ("end", "hub")}
    assert (preview.with_target, preview.landed) == (("late",), ("done",))
    assert (preview.runs, preview.runs_for_each_bad) == (1, 2)
    assert field.checkout.git("for-each-ref") == refs
    squash = field.run(field.lander(field.gate(no_bad), plan=Plan("main", method="squash")).preview(branches))
    assert squash.runs == 3
