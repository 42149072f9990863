"""Two lists of patterns: which files both select, also files that do not exist yet."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parallelai.plan.files import match
from parallelai.plan.ownership import Overlap, overlap, overlaps

SEGMENTS = st.sampled_from(["a", "b", "*", "**", "a*", "*b", "?", "[ab]", "[!a]", "ab"])
PATTERNS = st.builds(
    lambda parts, start, end: start + "/".join(parts) + end,
    st.lists(SEGMENTS, min_size=1, max_size=3),
    st.sampled_from(["", "", "./"]),
    st.sampled_from(["", "", "/"]),
)
NAMES = ["a", "b", "c", "ab", "aab"]
PATHS = ["/".join(parts) for depth in (1, 2, 3) for parts in itertools.product(NAMES, repeat=depth)]


def _rooted(pattern: str) -> str:
    """A bare name means the one at the root, as long as nothing else exists."""
    is_bare = "/" not in pattern.removesuffix("/") and not set("*?[") & set(pattern)
    return f"./{pattern}" if is_bare else pattern


@given(PATTERNS, PATTERNS)
@settings(max_examples=300, deadline=None)
def test_two_patterns_overlap_exactly_where_some_path_matches_both(a: str, b: str) -> None:
    found = overlap([a], [b])
    both = match([_rooted(b)], match([_rooted(a)], PATHS))
    if found.possible is None:
        assert not both
    else:
        assert match([b], match([a], [found.possible])) == [found.possible]


@given(
    st.lists(PATTERNS, min_size=1, max_size=3), st.lists(PATTERNS, min_size=1, max_size=3), PATTERNS, PATTERNS
)
@settings(max_examples=150, deadline=None)
def test_an_overlap_that_is_reported_is_one_also_with_exclusions(
    a: list[str], b: list[str], x: str, y: str
) -> None:
    first, second = [*a, f"!{x}"], [*b, f"!{y}"]
    found = overlap(first, second, PATHS)
    assert list(found.existing) == sorted(match(second, match(first, PATHS)))
    if found.possible is not None:
        assert match(second, match(first, [found.possible]))


@pytest.mark.parametrize(
    ("a", "b", "example"),
    [
        (["src/**"], ["src/ui/**"], "src/ui/new"),
        (["src/*.py"], ["src/test_*"], "src/test_new.py"),
        (["*.py"], ["docs/"], "docs/new.py"),
        (["src"], ["docs"], None),
        (["src"], ["src/a.py"], "src/a.py"),
        (["src/a"], ["src/b"], None),
        (["src/**", "!src/ui/**"], ["src/ui/**"], None),
        (["src/**", "!src/ui/**"], ["src/**", "!src/core/**"], "src/new"),
        (["*.py"], ["*.js"], None),
        (["*.md"], ["x.py"], None),
        (["**/test_*.py"], ["src/app.py"], None),
        (["*.md"], [".github"], ".github/new.md"),
        (["./a.py"], ["src/a.py"], None),
        (["!docs/**"], ["src/**"], "src/new"),
        (["!docs/**"], ["docs/**"], None),
        (["!docs/**"], ["!src/**"], "new"),
    ],
)
def test_examples_are_such_as_a_person_would_give(a: list[str], b: list[str], example: str | None) -> None:
    found = overlap(a, b)
    assert bool(found) == (example is not None)
    if example is not None and "/new.py" not in example:
        assert found.possible == example


def test_what_is_a_file_has_nothing_below_it_and_what_is_a_folder_has() -> None:
    assert overlap(["*.md"], ["Makefile"]).possible == "Makefile/new.md"
    assert not overlap(["*.md"], ["Makefile"], ["Makefile", "README.md"])
    assert overlap(["*.md"], ["site.web"], ["site.web/index.html"]).possible == "site.web/new.md"


def test_existing_files_are_listed_and_shared_ones_do_not_count() -> None:
    paths = ["src/a.py", "src/main.py", "src/ui/b.py"]
    assert overlap(["src/**"], ["*.py"], paths).existing == tuple(paths)
    owned = {"x": ["src/main.py"], "y": ["src/m*"], "z": ["docs"]}
    assert [(a, b, o.existing) for a, b, o in overlaps(owned, paths)] == [("x", "y", ("src/main.py",))]
    assert list(overlaps(owned, paths, apart_from=["src/main.py"])) == []
    assert not Overlap()


def test_hostile_patterns_end_soon() -> None:
    hostile = "/".join(["*a*b*c*d" * 20] * 5)
    assert overlap([hostile + "x"], [hostile + "y"]) is not None
    assert overlap(["**/a/" * 50 + "x"], ["**/b/" * 50 + "y"]) is not None
