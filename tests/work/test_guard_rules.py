"""Which changes stay: the rules alone, on made-up changes."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.work.guard.rules import (
    ALWAYS_PROTECTED,
    MANIFESTS,
    Changed,
    Judged,
    Permits,
    Why,
    judge,
)
from parallelai.work.streams.record import Rules

RULES = Rules(
    owns=("src/**", "package.json", "!src/theirs/**"),
    avoids=("src/never/**",),
    shared=("src/main.py", "Cargo.toml"),
    protected=("src/locked/**",),
)


def change(path: str, status: str = "changed", **more: object) -> Changed:
    modes = {"added": (None, "100644"), "deleted": ("100644", None)}.get(status, ("100644", "100644"))
    return Changed(path, status, more.pop("old_path", None), *modes, **more)  # type: ignore[arg-type]


def why(
    changes: list[Changed], rules: Rules = RULES, leases: tuple[str, ...] = (), **more: object
) -> list[Why]:
    found = judge(changes, Permits(rules, leases), **more)  # type: ignore[arg-type]
    return [each.why for each in found.out]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("src/a.py", []),
        ("package.json", []),
        ("package-lock.json", []),
        ("src/theirs/a.py", ["not_owned"]),
        ("docs/a.md", ["not_owned"]),
        ("SRC/a.py", ["not_owned"]),
        ("src/main.py", ["shared"]),
        ("Cargo.lock", ["generated"]),
        ("src/never/a.py", ["avoided"]),
        ("src/NEVER/a.py", ["avoided"]),
        ("src/locked/a.py", ["protected"]),
        ("src/Locked/a.py", ["protected"]),
        ("src/AGENTS.md", ["protected"]),
        ("src/agents.MD", ["protected"]),
        ("src/deep/CLAUDE.md", ["protected"]),
        (".parallelai/roles/x.yaml", ["protected"]),
        ("parallelai.toml", ["protected"]),
        (".husky/pre-commit", ["protected"]),
        (".githooks/x", ["protected"]),
        ("src/.gitattributes", ["protected"]),
        (".gitmodules", ["protected"]),
        ("src/.gitignore", []),
        ("src/.git/config", ["gits_own"]),
        ("src/.GIT/x", ["gits_own"]),
        ("src/git~1/x", ["gits_own"]),
    ],
)
def test_paths(path: str, expected: list[Why]) -> None:
    assert why([change(path)]) == expected


def test_the_plan_and_the_folder_of_hooks_are_protected() -> None:
    permits = Permits(RULES, plan_file="src/plan[1].yaml", hooks=["src/hooks"])
    assert permits.refusal("src/plan[1].yaml") == ("protected", None)
    assert permits.refusal("src/plan1.yaml") is None
    assert permits.refusal("src/hooks/pre-commit") == ("protected", None)
    assert permits.refusal("src/deep/src/hooks/pre-commit") is None


def test_a_lease_lets_in_what_was_leased_and_nothing_of_gits() -> None:
    paths = ["docs/a.md", "src/main.py", "src/never/a.py", "AGENTS.md"]
    assert why([change(path) for path in paths], leases=tuple(paths)) == []
    assert why([change(".git/config")], leases=(".git/config",)) == ["gits_own"]
    assert why([change("Cargo.lock")], leases=("Cargo.toml",)) == []


def test_what_is_to_be_settled_may_be_changed_but_not_what_needs_a_person() -> None:
    paths = ["docs/a.md", "docs/a.md~0", "src/main.py", "AGENTS.md", "src/never/a.py", ".git/config"]
    permits = Permits(RULES, plan_file="plan.yaml", settling=[*paths, "plan.yaml"])
    assert [permits.refusal(path) for path in paths[:3]] == [None] * 3
    refused = [permits.refusal(path) for path in (*paths[3:], "plan.yaml")]
    assert [each[0] for each in refused if each] == ["protected", "avoided", "gits_own", "protected"]


def test_a_protected_manifest_takes_its_lock_file_along() -> None:
    rules = Rules(owns=("**",), protected=("package.json",))
    assert why([change("package.json")], rules) == ["protected"]
    assert why([change("package-lock.json")], rules) == []  # it is owned by itself
    assert why([change("package-lock.json")], Rules(owns=("src/**",), protected=("package.json",))) == [
        "generated"
    ]


@pytest.mark.parametrize(("old", "new"), [("src/a.py", "docs/a.py"), ("docs/a.py", "src/a.py")])
def test_a_rename_needs_both_names(old: str, new: str) -> None:
    assert why([change(new, "renamed", old_path=old)]) == ["not_owned"]
    assert why([change("src/b.py", "renamed", old_path="src/a.py")]) == []


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"a.py", []),
        (b"../package.json", []),
        (b"../../x", ["leads_out"]),
        (b"/etc/passwd", ["leads_out"]),
        (b"../.git/config", ["leads_out"]),
        (b"deep/../../../x", ["leads_out"]),
        (None, ["leads_out"]),
    ],
)
def test_links(target: bytes | None, expected: list[Why]) -> None:
    link = Changed("src/link", "added", None, None, "120000", target)
    assert why([link]) == expected


def test_a_gitmodules_that_is_a_link_is_none() -> None:
    link = Changed("src/.gitmodules", "added", None, None, "120000", b"a.py")
    assert why([link], leases=("src/.gitmodules",)) == ["leads_out"]


def test_submodules_need_the_path_and_a_commit_that_others_can_get() -> None:
    module = Changed("src/lib", "changed", None, "160000", "160000")
    assert why([module]) == []
    assert why([module], unpublished={"src/lib"}) == ["unpublished"]
    assert why([Changed("lib", "changed", None, "160000", "160000")]) == ["not_owned"]


def test_the_content_of_a_file_of_git_annex_is_kept_out_also_where_it_is_owned_or_leased() -> None:
    assert why([change("src/a.bin"), change("src/b.bin")], annexed={"src/a.bin"}) == ["annexed"]
    assert why([change("a.bin")], leases=("a.bin",), annexed={"a.bin"}) == ["annexed"]


def test_generated_files_are_said_to_be() -> None:
    assert why([change("gen/a.py")], generated={"gen/a.py"}) == ["generated"]
    assert why([change("src/a.py")], generated={"src/a.py"}) == []


def test_names_that_differ_in_case_only_clash() -> None:
    assert why([change("src/A.py", "added")], existing=["src/a.py"]) == ["clash"]
    assert why([change("src/A.py", "renamed", old_path="src/a.py")], existing=["src/a.py"]) == []
    assert why([change("src/A.py", "added"), change("src/a.py", "deleted")], existing=["src/a.py"]) == []
    # The other file is not its own, so it stays, and there is no room for the new name.
    rules = Rules(owns=("src/A.py",))
    found = why([change("src/A.py", "added"), change("src/a.py", "deleted")], rules, existing=["src/a.py"])
    assert sorted(found) == ["clash", "not_owned"]
    assert why([change("SRC2/x", "added")], Rules(owns=("**",)), existing=["src2/y"]) == ["clash"]


def test_names_that_differ_in_normalisation_only_clash() -> None:
    names = [unicodedata.normalize(form, "src/é.py") for form in ("NFC", "NFD")]
    assert why([change(names[1], "added")], existing=[names[0]]) == ["clash"]
    assert why([change(name, "added") for name in names]) == ["clash"]


def test_what_stays_does_not_take_the_place_of_what_was_kept() -> None:
    rules = Rules(owns=("conf/**",))
    # A folder in place of a file that may not go.
    changes = [change("conf", "deleted"), change("conf/new", "added")]
    assert why(changes, rules, existing=["conf"]) == ["not_owned", "in_the_way"]
    # A file in place of a folder whose content may not go.
    changes = [change("lib/a", "deleted"), change("lib", "added")]
    assert why(changes, Rules(owns=("/lib", "!lib/a")), existing=["lib/a"]) == ["not_owned", "in_the_way"]


# -- any rules, any changes

NAMES = st.lists(st.sampled_from(["a", "b", "A", "é", "e\u0301", "x.py"]), min_size=1, max_size=3).map(
    "/".join
)
PATTERNS = st.lists(
    st.sampled_from(["a", "/a", "a/**", "*.py", "b/", "!a/b", "**", "A/*", "e\u0301", "b/x.py"]), max_size=3
).map(tuple)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[set[str], list[Changed]]:
    """A tree without files below files, and the changes to another one."""

    def tree() -> set[str]:
        names = draw(st.sets(NAMES, max_size=6))
        return {name for name in names if not any(name.startswith(f"{other}/") for other in names)}

    before, after = tree(), tree()
    gone, made = sorted(before - after), sorted(after - before)
    changes = [change(path) for path in sorted(before & after)]
    if gone and made and draw(st.booleans()):
        changes.append(change(made.pop(), "renamed", old_path=gone.pop()))
    changes += [change(path, "deleted") for path in gone] + [change(path, "added") for path in made]
    return before, draw(st.permutations(changes))


RULE_SETS = st.builds(Rules, owns=PATTERNS, avoids=PATTERNS, shared=PATTERNS, protected=PATTERNS)


def result(before: set[str], judged: Judged) -> set[str]:
    after = set(before)
    after.difference_update(each.gone for each in judged.kept if each.gone is not None)
    after.update(each.made for each in judged.kept if each.made is not None)
    return after


@given(worlds(), RULE_SETS, st.lists(NAMES, max_size=2))
def test_whatever_the_rules_only_what_is_permitted_stays_and_it_fits(
    world: tuple[set[str], list[Changed]], rules: Rules, leases: list[str]
) -> None:
    before, changes = world
    permits = Permits(rules, leases)
    judged = judge(changes, permits, existing=before)
    assert sorted([*judged.kept, *(each.change for each in judged.out)], key=repr) == sorted(
        changes, key=repr
    )
    assert all(permits.refusal(path) is None for each in judged.kept for path in each.paths)
    refused = [each for each in judged.out if each.why not in ("clash", "in_the_way")]
    assert all(permits.refusal(each.path) is not None for each in refused)
    after = result(before, judged)
    # Two files never take each other's place.
    assert not any(one.startswith(f"{other}/") for one in after for other in after)
    # What is new clashes with nothing.
    folded: dict[str, str] = {}
    for name in after:
        folded.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
    made = {each.made for each in judged.kept}
    for name in after:
        other = folded[unicodedata.normalize("NFC", name).casefold()]
        assert name == other or not {name, other} & made
    # Judging what stays again keeps all of it.
    assert judge(judged.kept, permits, existing=before).out == ()


@given(worlds())
def test_who_owns_everything_keeps_all_but_names_that_clash(world: tuple[set[str], list[Changed]]) -> None:
    before, changes = world
    judged = judge(changes, Permits(Rules(owns=("**",))), existing=before)
    reasons = {each.why for each in judged.out}
    assert reasons <= {"clash", "in_the_way"}
    assert "clash" in reasons or not reasons


@given(worlds(), RULE_SETS)
def test_who_owns_nothing_changes_nothing(world: tuple[set[str], list[Changed]], rules: Rules) -> None:
    before, changes = world
    nothing = Rules(owns=(), avoids=rules.avoids, shared=rules.shared, protected=rules.protected)
    assert judge(changes, Permits(nothing), existing=before).kept == ()


def test_every_lock_file_has_a_manifest_of_its_own() -> None:
    assert all(manifests for manifests in MANIFESTS.values())
    assert not set(MANIFESTS) & {name for names in MANIFESTS.values() for name in names}
    assert len(set(ALWAYS_PROTECTED)) == len(ALWAYS_PROTECTED)
