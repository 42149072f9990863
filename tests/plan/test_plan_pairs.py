"""Two workstreams: may they run together, why, and what to write if not."""

from __future__ import annotations

from pathlib import Path

import pytest

from parallelai.plan.files import FileTree
from parallelai.plan.load import loads
from parallelai.plan.model import Plan, Workstream
from parallelai.plan.pairs import Pair, pairs

PATHS = ("src/main.py", "src/ui/menu.py", "src/ui/page.py", "tests/test_ui.py")


def plan_of(text: str) -> Plan:
    return loads(text, file="p")


def pair_of(text: str, paths: tuple[str, ...] | None = PATHS) -> Pair:
    data = loads(text.replace("OVERLAP", ""), file="p")
    (found,) = pairs(data, paths)
    return found


def made(a: list[str], b: list[str], paths: tuple[str, ...] | None = PATHS, **more: object) -> Pair:
    """A pair of a plan that no check has seen."""
    works = (
        Workstream(id="a", description="x", owns=tuple(a)),
        Workstream(id="b", description="x", owns=tuple(b)),
    )
    (found,) = pairs(Plan(workstreams=works, **more), paths)  # type: ignore[arg-type]
    return found


def test_different_files_are_safe() -> None:
    found = made(["src/**"], ["tests/**"])
    assert (found.why, found.is_safe, found.together) == ("disjoint", True, True)
    assert (found.said, found.example, found.next) == ("`a` and `b` own different files", None, None)


@pytest.mark.parametrize(
    ("a", "b", "said", "advice"),
    [
        (["src/**"], ["src/ui/**"], "both own `src/ui/menu.py` and 1 more", "add `!src/ui/**` to what `a` owns"),
        (["*.py"], ["tests/**"], "both own `tests/test_ui.py`", "add `!tests/**` to what `a` owns"),
        (["docs/**"], ["!src/**"], "would both own `docs/new` if it were made", "add `!docs/**` to what `b` owns"),
        (["src/main.py"], ["src/main.py"], "both own `src/main.py`", "add `!src/main.py` to what `b` owns"),
        (["lib/**"], ["lib/*.c"], "would both own `lib/new.c` if it were made", "add `!lib/*.c` to what `a` owns"),
        (["lib/x/**"], ["lib/**"], "would both own `lib/x/new` if it were made", "add `!lib/x/**` to what `b` owns"),
    ],
)  # fmt: skip
def test_the_same_files_are_not(a: list[str], b: list[str], said: str, advice: str) -> None:
    found = made(a, b)
    assert (found.why, found.is_safe, found.together) == ("overlap", False, False)
    assert found.said == f"`a` and `b` {said}, and neither waits for the other"
    assert found.next == f"{advice}, list it under `shared`, or write `depends_on: [a]` in `b`"


def test_what_is_advised_helps() -> None:
    assert made(["src/**", "!src/ui/**"], ["src/ui/**"]).is_safe
    assert made(["lib/**", "!lib/*.c"], ["lib/*.c"]).is_safe
    assert made(["src/**"], ["src/ui/**"], shared=("src/ui/menu.py", "src/ui/**")).why == "shared"


def test_without_the_files_nothing_is_said_of_what_is_there() -> None:
    found = made(["src/**"], ["src/ui/**"], None)
    assert "`a` and `b` both own `src/ui/new`, " in found.said
    assert not found.is_there


def test_what_is_shared_is_edited_under_a_lease() -> None:
    found = made(["src/main.py", "a/**"], ["src/main.py", "b/**"], shared=("src/main.py",))
    assert (found.why, found.together, found.example) == ("shared", True, "src/main.py")
    assert "lease" in found.said
    apart = made(["src/**"], ["src/**"], shared=("src/main.py",))
    assert (apart.why, apart.example, apart.files) == ("overlap", "src/ui/menu.py", 2)


def test_what_is_avoided_is_not_owned() -> None:
    text = (
        "roles: {r: {avoids: [src/ui/**]}}\n"
        "workstreams:\n  a: {description: x, owns: src/**, %s}\n  b: {description: x, owns: src/ui/**}\n"
    )
    assert pair_of(text % "avoids: [src/ui/**]").why == "disjoint"
    assert pair_of(text % "role: r").why == "disjoint"
    works = (
        Workstream(id="a", description="x", owns=("src/**",), avoids=("src/ui/**", "!src/ui/menu.py")),
        Workstream(id="b", description="x", owns=("src/ui/**",)),
    )
    assert (
        pairs(Plan(workstreams=works), PATHS)[0].why == "overlap"
    )  # exceptions are not understood: be careful


def test_an_order_makes_it_safe() -> None:
    text = (
        "tasks: [{id: mid, description: x, depends_on: [a]}]\n"
        "workstreams:\n  a: {description: x, owns: src/**}\n"
        "  b: {description: x, owns: src/**, depends_on: [mid]}\n"
    )
    found = pair_of(text)
    assert (found.why, found.together, found.files) == ("ordered", False, 3)
    assert found.said == "`a` and `b` both own `src/main.py` and 2 more; `b` waits for `a`"
    apart = pair_of(
        "workstreams:\n  a: {description: x, owns: a}\n  b: {description: x, owns: b, depends_on: a}\n"
    )
    assert (apart.why, apart.said) == ("ordered", "`a` and `b` own different files; `b` waits for `a`")


@pytest.mark.parametrize(("barrier", "why"), [("true", "ordered"), ("false", "overlap")])
def test_so_do_phases_with_a_barrier(barrier: str, why: str) -> None:
    text = (
        f"phases:\n  - {{name: one, tasks: [b], barrier: {barrier}}}\n  - {{name: two, tasks: [a]}}\n"
        "workstreams:\n  a: {description: x, owns: src/**}\n  b: {description: x, owns: src/**}\n"
    )
    if why == "overlap":
        with pytest.raises(Exception, match="neither waits"):
            pair_of(text)
    else:
        found = pair_of(text)
        assert found.why == "ordered"
        assert found.said.endswith("`b` is in phase `one`, `a` in `two` after it")


def test_each_two_are_there_in_plan_order() -> None:
    text = "workstreams:\n" + "".join(f"  {name}: {{description: x, owns: {name}}}\n" for name in "cab")
    found = pairs(plan_of(text), FileTree(Path(), PATHS).paths)
    assert [(pair.a, pair.b) for pair in found] == [("c", "a"), ("c", "b"), ("a", "b")]
