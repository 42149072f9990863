"""Leases: no two hold a file, nobody waits in a circle, and a reply's request is data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.work.guard.leases import (
    MOST_PATHS,
    Claim,
    Granted,
    LeaseRequest,
    Leases,
    NeedsPerson,
    Refused,
    Waits,
    has_circle,
    requests,
)
from parallelai.work.guard.links import link_above
from parallelai.work.guard.rules import Permits
from parallelai.work.streams.record import Rules


def claim(*owns: str, after: tuple[str, ...] = (), **more: tuple[str, ...]) -> Claim:
    return Claim(Permits(Rules(owns=owns, shared=("shared/**",), protected=("locked/**",), **more)), after)


def three() -> Leases:
    return Leases(("a", "b", "c"), {name: claim(f"{name}/**") for name in "abc"})


def test_a_free_file_is_granted_and_ends_with_the_landing() -> None:
    leases = three()
    assert leases.ask("a", ["shared/x", "other.txt"]) == Granted("a", ("shared/x", "other.txt"))
    assert leases.of("a") == {"shared/x", "other.txt"}
    assert leases.end("a") == (("other.txt", "shared/x"), ())
    assert leases.of("a") == frozenset()


def test_what_it_may_change_anyway_needs_no_lease() -> None:
    leases = three()
    assert leases.ask("a", ["a/x", "shared/x"]) == Granted("a", ("shared/x",))
    assert leases.ask("a", ["a/x", "shared/x"]) == Granted("a", ())


def test_who_holds_none_waits_and_is_synced_first() -> None:
    leases = three()
    leases.ask("a", ["shared/x"])
    assert leases.ask("b", ["shared/y", "shared/x"]) == Waits("b", ("shared/y", "shared/x"), ("a",))
    assert leases.of("b") == frozenset()
    assert leases.end("a")[1] == (Granted("b", ("shared/y", "shared/x"), must_sync=True),)


def test_who_holds_any_is_refused_at_once() -> None:
    leases = three()
    leases.ask("a", ["shared/x"])
    leases.ask("b", ["shared/y"])
    answer = leases.ask("b", ["shared/x"])
    assert isinstance(answer, Refused)
    assert "`a`" in answer.why
    assert leases.of("b") == {"shared/y"}


def test_those_who_wait_are_served_in_the_order_of_the_graph() -> None:
    leases = three()
    leases.ask("c", ["shared/x"])
    leases.ask("b", ["shared/x"])
    leases.ask("a", ["shared/x"])
    assert leases.end("c")[1] == (Granted("a", ("shared/x",), must_sync=True),)
    assert leases.end("a")[1] == (Granted("b", ("shared/x",), must_sync=True),)


def test_a_file_that_another_owns_is_waited_for() -> None:
    leases = three()
    assert leases.ask("a", ["b/x"]) == Waits("a", ("b/x",), ("b",))
    assert leases.end("b")[1] == (Granted("a", ("b/x",), must_sync=True),)


def test_two_who_want_each_others_files_do_not_wait_for_each_other() -> None:
    leases = three()
    assert isinstance(leases.ask("a", ["b/x"]), Waits)
    answer = leases.ask("b", ["a/x"])
    assert isinstance(answer, Refused)
    assert "waits for this workstream" in answer.why


def test_nobody_waits_for_one_that_depends_on_it() -> None:
    leases = Leases(("a", "b"), {"a": claim("a/**"), "b": claim("b/**", after=("a",))})
    leases.ask("b", ["shared/x"])
    assert isinstance(leases.ask("a", ["shared/x"]), Refused)
    assert isinstance(leases.ask("a", ["b/x"]), Refused)


def test_a_grant_does_not_close_a_circle_either() -> None:
    live = {"a": claim("a/**"), "b": claim("b/**", after=("c",)), "c": claim("c/**")}
    leases = Leases(("a", "c", "b"), live)
    leases.ask("a", ["shared/x"])
    assert isinstance(leases.ask("c", ["shared/x", "shared/y"]), Waits)
    # `b` depends on `c`, which waits for a file that `b` wants now.
    assert isinstance(leases.ask("b", ["shared/y"]), Refused)
    assert leases.end("a")[1] == (Granted("c", ("shared/x", "shared/y"), must_sync=True),)


@pytest.mark.parametrize(
    "path", ["AGENTS.md", "deep/claude.md", ".parallelai/roles/x.yaml", "locked/x", ".husky/x"]
)
def test_protected_files_need_a_person(path: str) -> None:
    leases = three()
    assert leases.ask("a", ["shared/x", path]) == NeedsPerson("a", ("shared/x", path), (path,))
    assert leases.of("a") == frozenset()
    assert leases.leave("a", ["shared/x", path], "ana") == Granted("a", ("shared/x", path), by="ana")
    assert leases.ask("a", [path]) == Granted("a", ())


def test_what_it_must_avoid_needs_a_person_too() -> None:
    leases = Leases(("a",), {"a": claim("a/**", avoids=("b/**",))})
    assert isinstance(leases.ask("a", ["b/x"]), NeedsPerson)


def test_gits_own_names_are_nobodys() -> None:
    assert isinstance(three().ask("a", [".git/hooks/pre-commit"]), Refused)
    assert isinstance(three().leave("a", ["x/.GIT/config"], "ana"), Refused)


def test_another_way_to_write_a_name_is_the_same_file() -> None:
    leases = three()
    assert leases.ask("a", ["B/X"]) == Waits("a", ("B/X",), ("b",))
    leases.withdraw("a")
    leases.ask("a", ["shared/x"])
    assert leases.ask("b", ["Shared/X"]) == Waits("b", ("Shared/X",), ("a",))
    leases.restore("c", ["SHARED/x"])
    assert leases.of("c") == frozenset()
    lockers = Leases(("a", "b"), {"a": claim("a/**"), "b": claim("Cargo.toml")})
    assert lockers.leave("a", ["cargo.lock"], "ana") == Waits("a", ("cargo.lock",), ("b",))


def test_what_lies_behind_a_link_is_not_leased() -> None:
    leases = three()
    leases.link_above = lambda stream, path: "etc" if path.startswith("etc/") else None
    for answer in (leases.ask("a", ["etc/passwd"]), leases.leave("a", ["etc/passwd"], "ana")):
        assert isinstance(answer, Refused)
        assert "`etc` is a link" in answer.why
    assert leases.of("a") == frozenset()


def test_a_link_is_looked_for_where_its_folder_is_there(tmp_path: Path) -> None:
    worktree, root = tmp_path / "worktree", tmp_path / "root"
    (worktree / "here").mkdir(parents=True)
    root.mkdir()
    for name in ("here", "beyond"):
        (root / name).symlink_to(tmp_path)
    (worktree / "here" / "in").symlink_to("gone")
    assert link_above((worktree, root), "here/x") is None
    assert link_above((worktree, root), "here/in") is None  # the link itself is a file like any
    assert link_above((worktree, root), "here/in/x/y") == "here/in"
    assert link_above((worktree, root), "beyond/x") == "beyond"
    assert link_above((root,), "here/x") == "here"


def test_a_lease_of_an_earlier_process_counts() -> None:
    leases = three()
    leases.restore("a", ["shared/x"])
    leases.restore("b", ["shared/x", "shared/y"])
    assert leases.of("a") == {"shared/x"}
    assert leases.of("b") == {"shared/y"}


def test_a_wish_can_be_withdrawn() -> None:
    leases = three()
    leases.ask("a", ["shared/x"])
    leases.ask("b", ["shared/x"])
    leases.withdraw("b")
    assert leases.waiting() == {}
    assert leases.end("a")[1] == ()


NAMES = ("a", "b", "c", "d")
PATHS = ("shared/1", "shared/2", "free", "a/x", "b/x", "c/x", "d/x", "locked/x", "SHARED/1", "B/x")
ASKS = st.tuples(
    st.sampled_from(["ask", "leave", "end", "withdraw"]),
    st.sampled_from(NAMES),
    st.lists(st.sampled_from(PATHS), min_size=1, max_size=3),
)
EDGES = st.sets(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)).filter(lambda pair: pair[0] < pair[1])
)


@given(EDGES, st.lists(ASKS, max_size=30))
def test_no_file_is_held_twice_and_somebody_can_always_go_on(
    edges: set[tuple[str, str]], steps: list[tuple[str, str, list[str]]]
) -> None:
    after = {name: tuple(first for first, second in edges if second == name) for name in NAMES}
    leases = Leases(NAMES, {name: claim(f"{name}/**", after=after[name]) for name in NAMES})
    for what, name, paths in steps:
        if name not in leases.live or (what != "end" and what != "withdraw" and name in leases.waiting()):
            continue
        before = dict(leases.held)
        if what == "end":
            if any(each in leases.live for each in after[name]) or name in leases.waiting():
                continue  # it cannot land yet
            leases.end(name)
        elif what == "withdraw":
            leases.withdraw(name)
        else:
            had = leases.of(name)
            answer = leases.ask(name, paths) if what == "ask" else leases.leave(name, paths, "ana")
            assert not (had and isinstance(answer, Waits))
            if isinstance(answer, Granted):  # whole
                assert set(answer.paths) <= leases.of(name)
                permits = leases.live[name].permits
                assert all(path in leases.of(name) or permits.refusal(path) is None for path in paths)
            else:  # or not at all
                assert leases.held == before
        assert all(holder in leases.live for holder in leases.held.values())
        assert all(on for on in leases.waiting().values())
        for path, holder in leases.held.items():  # what is held is nobody's by right
            owners = [each for each in leases.live if leases.live[each].permits.owns_alike(path)]
            assert owners in ([], [holder])
        holders = {(path.casefold(), holder) for path, holder in leases.held.items()}
        assert len(holders) == len({path for path, _ in holders})
    # Whoever is left, all can land: somebody always waits for nobody.
    while leases.live:
        waiting = leases.waiting()
        free = [
            name
            for name in leases.live
            if name not in waiting and not any(each in leases.live for each in after[name])
        ]
        assert free
        leases.end(free[0])
    assert leases.held == {}


@given(st.dictionaries(st.sampled_from(NAMES), st.sets(st.sampled_from(NAMES))))
def test_circles_are_found(waits: dict[str, set[str]]) -> None:
    reach = {name: set(others) for name, others in waits.items()}
    for _ in NAMES:
        for name in reach:
            for each in list(reach[name]):
                reach[name] |= reach.get(each, set())
    assert has_circle(waits) == any(name in others for name, others in reach.items())


# -- what a reply asks for


def block(data: object, before: str = "Done.\n\n", after: str = "\n") -> str:
    text = data if isinstance(data, str) else json.dumps(data)
    return f"{before}```parallelai\n{text}\n```{after}"


def test_the_closing_block_is_read() -> None:
    text = block({"lease": "src/main.py", "reason": "register the new command"})
    assert requests(text) == [LeaseRequest(("src/main.py",), "register the new command")]
    text = block({"lease": ["./a", "b//c", "a"], "reason": "x\x1b[31m\ny"})
    assert requests(text) == [LeaseRequest(("a", "b/c"), "x [31m y")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no block",
        block({"lease": "a"}, after="\nand more"),
        block({"other": "a"}),
        block(["a", 1, None]),
        '```json\n{"lease": "a"}\n```',
        '```parallelai\n{"lease": "a"}',
        block({"lease": "a"}) + "\n" + block({"other": 1}, before=""),
    ],
)
def test_anything_else_is_no_request(text: str) -> None:
    assert requests(text) == []


@pytest.mark.parametrize(
    "lease",
    [
        "/etc/passwd",
        "../x",
        "a/../../x",
        "",
        "src/",
        1,
        None,
        {"a": 1},
        [],
        ["a", 2],
        "x\0y",
        "\ud800",
        "x" * 2000,
        ["x"] * (MOST_PATHS + 1),
    ],
    ids=repr,
)
def test_what_cannot_be_a_file_is_told(lease: object) -> None:
    (found,) = requests(block(json.dumps({"lease": lease})))
    assert found.paths == ()
    assert found.problem


def test_hostile_json_is_told_and_harmless() -> None:
    for text in ("[" * 60_000, '{"lease": ', "{" * 1000, "NaN,"):
        assert [each.problem for each in requests(block(text))] == ["the closing block is no JSON"]


@given(st.text(), st.text())
def test_any_text_is_read(before: str, inside: str) -> None:
    for found in requests(block(inside, before=before)):
        for path in found.paths:
            assert not path.startswith("/")
            assert ".." not in path.split("/")
