"""The pure parts: where two sides meet, what a broken use is, how likely a conflict is, what to say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.records import ConflictFile, ConflictPair, ConflictPlace
from parallelai.work.conflicts import advice
from parallelai.work.conflicts.changes import Changes, Hunk, Row, may_conflict, unquoted
from parallelai.work.conflicts.decide import Version, definitions_at, distance, meet, touching
from parallelai.work.conflicts.logic import broken, names_defined, removed_names, still_fits
from parallelai.work.conflicts.risk import Features, expected, features_of, history, latent, risk
from parallelai.work.symbols import definitions

CODE = """\
class A:
    def one(self):
        return 1

    def two(self):
        return 2


def free():
    return 3
"""
DEFINED = definitions("a.py", CODE)


def hunk(start: int, end: int, *added: str) -> Hunk:
    return Hunk((start, end), (start, start + len(added)), tuple("-" * (end - start)), added)


def test_changes_side_by_side_touch() -> None:
    assert touching([hunk(1, 2, "x")], [hunk(2, 3, "y")])
    assert touching([hunk(1, 1, "x")], [hunk(1, 1, "y")])
    assert not touching([hunk(1, 2, "x")], [hunk(3, 4, "y")])


def test_one_wide_change_gathers_what_it_covers() -> None:
    groups = touching([hunk(0, 9, "x")], [hunk(1, 2, "y"), hunk(5, 6, "z"), hunk(20, 21, "far")])
    assert [(len(ours), len(theirs)) for ours, theirs in groups] == [(1, 2)]


def test_the_same_change_is_not_a_place() -> None:
    met = meet(Version((hunk(1, 2, "x"),)), Version((hunk(1, 2, "x"), hunk(40, 41, "y"))))
    assert (met.places, met.class_, met.is_alike) == ((), None, True)


def test_a_conflict_always_has_a_place() -> None:
    met = meet(
        Version((hunk(1, 2, "x"),)), Version((hunk(9, 9, "y", "z"), hunk(30, 31, "q"))), is_conflict=True
    )
    assert met.places == (ConflictPlace((2, 2), (10, 11)),)


@pytest.mark.parametrize(
    ("ours", "theirs", "class_"),
    [
        (hunk(2, 3, "        return 9"), hunk(5, 6, "        return 8"), "function"),
        (hunk(2, 3, "        return 9"), hunk(2, 2, "        x = 1"), "file"),  # touch, in one method
        (hunk(4, 4, "    def new(self):", "        pass", ""), hunk(9, 10, "    return 4"), "function"),
        (hunk(0, 0, "import os"), hunk(9, 10, "    return 4"), None),
    ],
)
def test_classes_from_what_was_defined_before(ours: Hunk, theirs: Hunk, class_: str | None) -> None:
    sides = [Version((each,), DEFINED, (), True) for each in (ours, theirs)]
    assert meet(*sides).class_ == class_


def test_new_lines_are_named_without_parsing() -> None:
    into = definitions_at(
        Version((), DEFINED, (), True), [hunk(4, 4, "    def new(self):", "        pass", "")]
    )
    assert into == {"A.new"}
    assert definitions_at(Version((), DEFINED, (), True), [hunk(2, 2, "        x = 1")]) == {"A.one"}
    assert definitions_at(Version((), DEFINED, (), True), [hunk(7, 7, "", "def extra():", "    pass")]) == {
        "extra"
    }
    assert names_defined(["  total(items) {", "  }"]) == ["total"]
    assert names_defined(["", "x"]) == []


def test_unknown_languages_go_by_lines() -> None:
    near = meet(Version((hunk(1, 2, "x"),)), Version((hunk(4, 5, "y"),)))
    far = meet(Version((hunk(1, 2, "x"),)), Version((hunk(40, 41, "y"),)))
    assert (near.class_, near.gap, far.class_, far.gap) == ("file", 2, None, 38)


spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3)), max_size=8)


def ordered(rows: list[tuple[int, int]], word: str) -> list[Hunk]:
    found: list[Hunk] = []
    for start, length in sorted(rows):
        if not found or start > found[-1].old[1]:
            found.append(hunk(start, start + length, f"{word}{start}"))
    return found


@given(spans, spans)
def test_distance_is_the_least_of_all_pairs(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    ours, theirs = ordered(a, "a"), ordered(b, "b")
    gaps = [max(0, x.old[0] - y.old[1], y.old[0] - x.old[1]) for x in ours for y in theirs]
    assert distance(ours, theirs) == min(gaps, default=None)
    assert bool(touching(ours, theirs)) == (0 in gaps)
    assert bool(touching(theirs, ours)) == (0 in gaps)


@pytest.mark.parametrize(
    ("before", "after", "fits"),
    [
        ("def f(a)", "def f(a)", True),
        ("def f(a)", "def f(a, b=1)", True),
        ("def f(a)", "def f(a, *, b=1)", True),
        ("def f(a)", "def f(a, b)", False),
        ("def f(a, b)", "def f(a)", False),
        ("def f(a=1)", "def f(a=2)", True),
        ("def f(a: int)", "def f(a: str)", False),
        ("def f(a, b)", "def f(b, a)", False),
        ("func (c *C) f(a int) error", "func (c *C) f(a int) (int, error)", True),
        ("func (c *C) f(a int)", "func (c *C) f(a int, b string)", False),
        ("f(a: Map<string, number>)", "f(a: Map<string, number>, b?: number)", True),
        ("class A(B)", "class A(C)", True),
    ],
)
def test_calls_that_still_fit(before: str, after: str, fits: bool) -> None:
    assert still_fits(before, after) is fits


def test_what_is_broken() -> None:
    after = definitions(
        "a.py", CODE.replace("def one(self)", "def uno(self)").replace("def free()", "def free(x)")
    )
    found = {(each.name, each.what, each.now, each.line) for each in broken("a.py", DEFINED, after)}
    assert found == {("A.one", "renamed", "uno", 2), ("free", "changed", "free(x)", 9)}


def test_removed_names_by_language() -> None:
    python = {"a.py": (Hunk((0, 2), (0, 0), ("def load(path):", "    total = open(path)")),)}
    typescript = {"a.ts": (Hunk((0, 2), (0, 0), ("  async load(path: string) {", "    const total = 1")),)}
    assert removed_names(python) == {"a.py": {"load"}}
    assert removed_names(typescript)["a.ts"] == {"load", "total"}


def test_hostile_lines_cost_no_time() -> None:
    line = "a " * 1_000
    assert removed_names({"a.ts": (Hunk((0, 1), (0, 0), (line,) * 2_000),)}) == {}


def test_may_conflict_knows_folders() -> None:
    def side(*paths: str, gone: str = "", mode: str = "100644") -> Changes:
        rows = {path: Row(path, mode, "100644", "1" * 40, "2" * 40) for path in paths}
        return Changes(rows, frozenset(gone.split()))

    assert not may_conflict(side("a/x"), side("a/y"))
    assert may_conflict(side("a/x"), side("a/x", "b"))
    assert may_conflict(side("a"), side("a/b/c"))
    assert may_conflict(side("a/x", "b/x", gone="a"), side("a/new", mode="000000"))
    assert may_conflict(side("a/deep/new", mode="000000"), side("a/x", gone="a"))
    assert not may_conflict(side("a/x", gone="a"), side("b/new", mode="000000"))


def test_quoted_paths() -> None:
    assert unquoted(rb"a \"b\"\n\303\274\\") == 'a "b"\nü\\'.encode()


def test_risk_grows_with_what_it_knows() -> None:
    nothing = risk(Features())
    assert 0 < nothing < 0.01
    for name in Features.__dataclass_fields__:
        assert risk(Features(**{name: 1.0})) > nothing
    assert risk(Features(1, 1, 1, 1, 1, 1, 1)) < 1


def test_nearer_changes_are_riskier() -> None:
    def at(line: int) -> float:
        met = {"a": meet(Version((hunk(1, 2, "x"),)), Version((hunk(line, line + 1, "y"),)))}
        return risk(features_of(met, (10, 10), 0.0, False))

    assert at(3) > at(30) > at(300) > risk(features_of({}, (10, 10), 0.0, False))


def test_history_says_what_changes_together() -> None:
    past = history([["a", "b"]] * 6 + [["c"]] * 3 + [[f"bulk{at}" for at in range(99)]] * 2)
    alone, beside = expected(past, ["a"]), expected(past, ["b"])
    assert alone == {"a": 1.0, "b": 0.75}
    assert latent(alone, beside) == 1.0
    assert latent(expected(past, ["a"]), expected(past, ["c"])) == 0.0
    assert features_of({}, (1, 1), 0.5, False).latent == 0.5


PLACE = (ConflictPlace((1, 2), (3, 4)),)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (
            ConflictPair("a", "b", True, "file", 1.0, (ConflictFile("x.py", "content", PLACE),)),
            ["`x.py` (lines 1-2)", "wait"],
        ),
        (
            ConflictPair("a", "b", True, "file", 1.0, (ConflictFile("x.py", "modify/delete"),)),
            ["(modify/delete)"],
        ),
        (
            ConflictPair(
                "a", "b", True, "function", 1.0, (ConflictFile("x.py", "content", PLACE, ("f", "g")),)
            ),
            ["`f`, `g`", "Keep both"],
        ),
        (
            ConflictPair("a", "b", False, "logic", 0.8, (), "`a` calls `f`, which `b` removed (x.py:1)"),
            ["`a` calls", "second"],
        ),
        (
            ConflictPair("a", "b", False, "file", 0.07, (ConflictFile("x.py", "content", (), ("f",)),)),
            ["same definition", "7%"],
        ),
        (ConflictPair("a", "b", False, None, 0.03), ["close", "3%"]),
        (
            ConflictPair(
                "a", "b", True, "file", 1.0, tuple(ConflictFile(f"{at}", "content") for at in range(9))
            ),
            ["and 4 more"],
        ),
    ],
)
def test_advice(pair: ConflictPair, words: list[str]) -> None:
    said = advice(pair)
    assert "\n" not in said
    for word in words:
        assert word in said
