"""Each rung alone: what it knows, and what it leaves to others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from parallelai.work.resolvers import (
    changelog,
    cherry_picked,
    contained,
    identical,
    in_history,
    versions,
    whitespace,
)
from parallelai.work.resolvers.ladder import climb, is_written_by_program, rungs
from parallelai.work.resolvers.lines import lines
from parallelai.work.resolvers.records import Conflict, History, Past, Replaced, Rung

LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"  c\n", b"\n", b"d 1.2\n", b"x\n", b"}\n"]), max_size=8)
TEXTS = LINES.map(b"".join)


def hunk(base: str, ours: str, theirs: str, path: str = "a.txt", **more: object) -> Conflict:
    whole = Conflict(path, base.encode(), ours.encode(), theirs.encode())
    return Conflict(path, base.encode(), ours.encode(), theirs.encode(), whole=whole, **more)  # type: ignore[arg-type]


def changed(*pairs: tuple[str, str]) -> tuple[Replaced, ...]:
    return tuple(Replaced(lines(removed.encode()), lines(added.encode())) for removed, added in pairs)


def past(*versions: str, changes: tuple[tuple[Replaced, ...], ...] = ()) -> Past:
    return Past(tuple(version.encode() for version in versions), changes)


@given(TEXTS, TEXTS, TEXTS)
def test_no_rung_raises_and_sides_are_alike(base: bytes, ours: bytes, theirs: bytes) -> None:
    whole = Conflict("CHANGES.md", base, ours, theirs)
    conflict = Conflict("CHANGES.md", base, ours, theirs, whole=whole)
    for rung in rungs():
        found, mirrored = rung(conflict), rung(conflict.swapped())
        if found is not None and rung.name != "changelog" and ours != theirs:
            assert {found, mirrored} <= {found, ours, theirs}
            assert (mirrored is not None) == (found is not None)


@given(TEXTS, TEXTS, TEXTS)
def test_a_side_that_changed_something_is_never_given_up(base: bytes, ours: bytes, theirs: bytes) -> None:
    """Nothing new that both sides have is lost by any rung that knows."""
    conflict = Conflict("a.txt", base, ours, theirs, whole=Conflict("a.txt", base, ours, theirs))
    for rung in rungs():
        found = rung(conflict)
        if found is not None:
            new = {line.strip() for line in lines(ours)} & {line.strip() for line in lines(theirs)}
            assert new <= {line.strip() for line in lines(found)} | {b""}


def test_the_order_is_fixed() -> None:
    names = [rung.name for rung in rungs()]
    shipped = ["identical", "whitespace", "contained", "cherry-picked", "in-history", "versions", "changelog"]
    assert [name for name in names if name in shipped] == shipped


def test_identical() -> None:
    assert identical.resolve(hunk("a\n", "b\n", "b\n")) == b"b\n"
    assert identical.resolve(hunk("a\n", "b\n", "c\n")) is None


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        ("x = 1 \ny = 2\n", "x = 1\ny = 2\n", "x = 1 \ny = 3\n", "x = 1\ny = 3\n"),  # ends of lines
        (
            "f(a)\ng(b)\n",
            "    f(a)\n    g(b)\n",
            "f(a)\ng(c)\nh(d)\n",
            "    f(a)\n    g(c)\n    h(d)\n",
        ),  # moved in
        ("    a\n    b\n", "a\nb\n", "    a\n    c\n", "a\nc\n"),  # moved out
        ("a\nb\nq\n", "a\n\nb\nq\n", "a\nb\nr\n", "a\n\nb\nr\n"),  # a blank line more
        ("a\nb\n", "a\n\nb\n", "a\nc\n", None),  # right where something was changed
        ("a\nb\n", "a\nb\n\n", "a\nb\nc\n", None),
        ("f(a)\n", "  f(a)\n", "f(b)\n", None),  # one line does not tell the shift
        ("a\nb\n", "  a\n b\n", "a\nc\n", None),  # two shifts
        ("a|b\nc\n", "a | b\nc\n", "a|b\nd\n", None),  # space within a line
        ("a\nb\n", "a \nb\n", "", None),  # against a deletion
        ("", "\n", "\n\n", None),
        ("a\n", "b \n", "b\n", "b \n"),
    ],
)
def test_whitespace(base: str, ours: str, theirs: str, expected: str | None) -> None:
    found = whitespace.resolve(hunk(base, ours, theirs))
    assert found == (expected.encode() if expected is not None else None)
    if expected is not None and ours.split() != theirs.split():
        assert whitespace.resolve(hunk(base, theirs, ours)) == found


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        ("f(a, b)\n", "f(a, c)\n", "f(a, c) + 1\n", "theirs"),  # the same word, and one more
        ("f(a, b)\n", "g(a, c)\n", "f(a, c)\n", "ours"),
        ("a\nb\nc\n", "c\n", "", "theirs"),  # both only take away
        ("a\nb\n", "x\n", "x\ny\nz\n", "theirs"),
        ("f(a)\n", "f(b)\n", "", None),  # a change against a deletion
        ("f(a)\n", "f(b)\n", "f(c)\n", None),
        ("", "a\n", "a\nb\n", None),  # nothing was there: which one is the newer is not told
    ],
)
def test_contained(base: str, ours: str, theirs: str, expected: str | None) -> None:
    texts = {"ours": ours.encode(), "theirs": theirs.encode(), None: None}
    assert contained.resolve(hunk(base, ours, theirs)) == texts[expected]


def test_cherry_picked_whole_side() -> None:
    same = changed(("a\n", "b\n"))
    history = History(past(changes=(changed(("b\n", "c\n")), same)), past(changes=(same,)))
    assert cherry_picked.resolve(hunk("a\n", "c\n", "b\n", history=history)) == b"c\n"
    swapped = hunk("a\n", "c\n", "b\n", history=history).swapped()
    assert cherry_picked.resolve(swapped) == b"c\n"


def test_cherry_picked_takes_whole_pasts_only() -> None:
    same, other = changed(("a\n", "b\n")), changed(("z\n", "y\n"))
    ours = past(changes=(changed(("b\n", "c\n")), same))
    for theirs in (past(changes=(same, other)), replace(past(changes=(same,)), is_cut=True), past()):
        assert cherry_picked.resolve(hunk("a\n", "c\n", "b\n", history=History(ours, theirs))) is None
    both = History(past(changes=(same, other)), past(changes=(other, same)))
    assert cherry_picked.resolve(hunk("a\n", "c\n", "b\n", history=both)) is None


def test_cherry_picked_is_not_what_was_taken_back() -> None:
    same, back = changed(("a\n", "b\n")), changed(("b\n", "a\n"))
    history = History(past(changes=(changed(("a\n", "c\n")), back, same)), past(changes=(same,)))
    assert cherry_picked.resolve(hunk("a\n", "c\n", "b\n", history=history)) is None


LONG = "def load(path):\n    with open(path) as file:\n        return file.read()\n"


def test_in_history() -> None:
    history = History(past("import os\n" + LONG), past())
    ours = LONG.replace("path", "place")
    assert in_history.resolve(hunk("pass\n", ours, LONG, history=history)) == ours.encode()
    assert in_history.resolve(hunk("pass\n", LONG, ours, history=history)) is None
    assert in_history.resolve(hunk("pass\n", "", LONG, history=history)) is None  # against a deletion
    assert in_history.resolve(hunk("", ours, LONG, history=history)) is None  # nothing was there
    assert (
        in_history.resolve(hunk("x\n", ours, "a\n", history=History(past("a\n"), past()))) is None
    )  # too short


def test_in_history_is_not_what_was_taken_back() -> None:
    ours = LONG.replace("path", "place")
    gone_on, back = History(past(ours, LONG, "pass\n"), past()), History(past(ours, "pass\n", LONG), past())
    assert in_history.resolve(hunk("pass\n", ours, LONG, history=gone_on)) == ours.encode()
    assert in_history.resolve(hunk("pass\n", ours, LONG, history=back)) is None


def test_in_history_not_in_the_base() -> None:
    history = History(past(LONG), past())
    whole = Conflict("a.py", LONG.encode(), b"", b"")
    conflict = Conflict("a.py", b"p\n", b"x\n", LONG.encode(), history=history, whole=whole)
    assert in_history.resolve(conflict) is None


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        ('v = "1.2.3"\n', 'v = "1.3.0"\n', 'v = "1.2.4"\n', "ours"),
        ("qs: 6.5.2\n", "qs: 6.5.3\n", "qs: 6.10.0\n", "theirs"),  # numbers, not letters
        ("v 1.0.0rc1\n", "v 1.0.0rc2\n", "v 1.0.0\n", "theirs"),
        ("v 1.0\n", "v 1.1.0\n", "v 1.1\n", None),  # the same version
        ("v 1.5\n", "v 1.4\n", "v 1.6\n", None),  # a side went back
        ("a 1.0\nb 1.0\n", "a 1.1\nb 1.2\n", "a 1.2\nb 1.1\n", None),  # each is higher once
        ("v 1.0\n", "w 1.1\n", "v 1.2\n", None),  # another shape
        ("v 1.0\n", "v 1.1\nx\n", "v 1.2\n", None),
        ("v 1\n", "v 2\n", "v 3\n", None),  # no dots
    ],
)
def test_versions(base: str, ours: str, theirs: str, expected: str | None) -> None:
    texts = {"ours": ours.encode(), "theirs": theirs.encode(), None: None}
    assert versions.resolve(hunk(base, ours, theirs)) == texts[expected]


NUMBERS = st.lists(st.integers(0, 99), min_size=2, max_size=4)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_the_higher_version_wins_from_either_side(old: list[int], one: list[int], two: list[int]) -> None:
    base, ours, theirs = (f"v {'.'.join(map(str, each))}\n" for each in (old, one, two))
    found = versions.resolve(hunk(base, ours, theirs))
    assert found == versions.resolve(hunk(base, theirs, ours)) or ours == theirs

    def padded(numbers: list[int]) -> list[int]:
        return numbers + [0] * (4 - len(numbers))

    if found is not None and padded(one) != padded(two):
        assert found == (ours if padded(one) > padded(two) else theirs).encode()


def test_changelog_keeps_both_ours_first_and_repeated_lines() -> None:
    found = changelog.resolve(hunk("", "- a\n- same\n", "- b\n- same\n", "CHANGES.md"))
    assert found == b"- a\n- same\n- b\n- same\n"


@pytest.mark.parametrize("path", ["src/app.py", "changes.py", "docs/index.md", "history.json", "release.sh"])
def test_only_in_changelogs(path: str) -> None:
    assert changelog.resolve(hunk("", "- a\n", "- b\n", path)) is None


@pytest.mark.parametrize(
    "path", ["CHANGELOG.md", "docs/releases.rst", "History.md", "NEWS", "Changelog", "CHANGES.txt"]
)
def test_names_of_changelogs(path: str) -> None:
    assert changelog.is_changelog(path)


@pytest.mark.parametrize(
    ("before", "ours", "theirs", "after", "expected"),
    [
        ("", "## 2.0\n\n- a\n", "## 1.9\n\n- b\n", "\n## 1.8\n", "## 2.0\n\n- a\n\n## 1.9\n\n- b\n"),
        ("", "## 1.9\n\n- a\n", "## 2.0\n\n- b\n", "\n## 1.8\n", None),  # would not fall
        (
            "",
            "## 4.2 / 2014-05-11\n- a\n",
            "## 3.7 / 2014-05-18\n- b\n",
            "\n## 3.6 / 2014-05-09\n",
            None,
        ),  # dates
        ("", "## 2.0\n- a\n", "## Unreleased\n- b\n", "\n## 1.8\n", None),
        ("", "- a\n", "\n- b\n", "", "\n- a\n- b\n"),
        ("## 2.0\n\n", "- a\n", "- b\n", "\n## 1.9\n", "- a\n- b\n"),  # entries stand close
        ("## 2.0\n\n- z\n\n", "- a\n", "- b\n", "\n\n## 1.9\n", "- a\n\n- b\n"),  # entries stand apart
        ("- z\n", "- a\n", "### Fixed\n- b\n", "\n## 1.9\n", "- a\n\n### Fixed\n- b\n"),
        ("- z\n", "### Fixed\n- a\n", "- b\n", "\n## 1.9\n", None),  # b would come below Fixed
        ("", "Version 2.3\n", "Version 2.2\n", "-----------\n", None),  # one heading, renamed by both
        ("", "Tool 2.3 (2026-02-01)\n----\n- a\n", "Tool 2.4 (2026-01-01)\n----\n- b\n", "", None),
    ],
)
def test_changelog_releases_stay_in_order(
    before: str, ours: str, theirs: str, after: str, expected: str | None
) -> None:
    conflict = hunk("", ours, theirs, "CHANGES.md", before=before.encode(), after=after.encode())
    assert changelog.resolve(conflict) == (expected.encode() if expected else None)


def test_changed_entries_are_not_known() -> None:
    assert changelog.resolve(hunk("- old\n", "- a\n", "- b\n", "CHANGES.md")) is None


@pytest.mark.parametrize(
    "path",
    [
        *("package-lock.json", "a/go.sum", "data/x.jsonl", "lib/a.min.js", "api_pb2.py"),
        *("bun.lock", "flake.lock", "ios/Podfile.lock", "conda-lock.yml", "Package.resolved"),
    ],
)
def test_what_programs_write_is_left_to_them(path: str) -> None:
    conflict = Conflict(path, b'v "1.0"\n', b'v "1.1"\n', b'v "1.2"\n')
    assert is_written_by_program(conflict)
    everything = Rung("versions", lambda one: one.theirs)
    assert climb(conflict, None, [everything]) is None


def test_generated_by_its_own_word() -> None:
    assert is_written_by_program(Conflict("a.go", None, b"// Code generated by sqlc. DO NOT EDIT.\n", b""))
    assert not is_written_by_program(Conflict("a.go", None, b"package main\n", b""))


@pytest.mark.parametrize("failure", [ValueError("no"), SystemExit(7)])
def test_a_resolver_that_fails_does_not_know(failure: BaseException) -> None:
    def fails(conflict: Conflict) -> bytes | None:
        raise failure

    knows = Rung("knows", lambda one: b"settled\n")
    conflict = Conflict("a.txt", b"a\n", b"b\n", b"c\n")
    answer = climb(conflict, None, [Rung("fails", fails), Rung("odd", lambda one: "text"), knows])  # type: ignore[arg-type, return-value]
    assert answer is not None
    assert (answer.text, answer.name) == (b"settled\n", "knows")
