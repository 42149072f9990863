"""A first plan for a project: parts of its code, tests and docs after them, what all need shared."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parallelai.errors import UsageError
from parallelai.plan.check import check
from parallelai.plan.files import FileTree, Matcher
from parallelai.plan.load import loads
from parallelai.plan.pairs import pairs
from parallelai.plan.propose import likely_shared
from parallelai.plan.starting import MOST_PARTS, Start, shared_in, starting_plan

SHOP = {
    "src/shop/__init__.py": 10,
    "src/shop/main.py": 900,
    "src/shop/ui/menu.py": 5000,
    "src/shop/ui/page.py": 4000,
    "src/shop/export/ods.py": 6000,
    "src/shop/core.py": 3000,
    "tests/test_ui.py": 2000,
    "docs/index.md": 700,
    "README.md": 300,
    "pyproject.toml": 400,
    "uv.lock": 90_000,
    ".github/workflows/ci.yml": 300,
    ".env": 20,
}


def owned(start: Start) -> dict[str, tuple[str, ...]]:
    return {work.id: work.owns for work in start.plan.workstreams}


def test_a_project_is_cut_where_its_weight_is() -> None:
    start = starting_plan(SHOP, "shop")
    assert owned(start) == {
        "export": ("src/shop/export/**",),
        "ui": ("src/shop/ui/**",),
        "shop": ("src/shop/**", "!src/shop/export/**", "!src/shop/ui/**"),
        "tests": ("tests/**",),
        "docs": ("./README.md", "docs/**"),
    }
    works = {work.id: work for work in start.plan.workstreams}
    assert works["tests"].depends_on == works["docs"].depends_on == ("export", "ui", "shop")
    assert start.plan.shared == ("pyproject.toml", "src/shop/__init__.py", "src/shop/main.py", "uv.lock")
    assert start.plan.protected == (".github",)
    assert start.plan.gates.landing == (("pytest", "-q", "--junitxml={report}"),)
    assert ".env" not in start.yaml


PYTEST = ("pytest", "-q", "--junitxml={report}")
UNITTEST = ("python3", "-m", "unittest")
UNIT = "import unittest\n"


@pytest.mark.parametrize(
    ("texts", "gates"),
    [
        ({"test_a.py": UNIT}, [UNITTEST]),
        ({"tests/test_a.py": "from unittest import mock\n"}, [(*UNITTEST, "discover", "tests")]),
        ({"tests/__init__.py": "", "tests/test_a.py": UNIT}, [UNITTEST]),
        ({"a/__init__.py": "", "a/b/test_a.py": UNIT, "c/test_a.py": UNIT},
         [(*UNITTEST, "discover", "a/b"), (*UNITTEST, "discover", "c")]),
        ({"t/a_test.py": UNIT}, [(*UNITTEST, "discover", "t", "-p", "*_test.py")]),
        ({"tests/test_a.py": "def test_a(): assert True\n"}, [PYTEST]),
        ({"tests/test_a.py": f"{UNIT}import pytest\n"}, [PYTEST]),
        ({"test_a.py": UNIT, "conftest.py": ""}, [PYTEST]),
        ({"test_a.py": UNIT, "requirements-dev.txt": "pytest>=8"}, [PYTEST]),
        ({"test_a.py": UNIT, "pyproject.toml": "[tool.pytest.ini_options]"}, [PYTEST]),
        ({"test_a.py": UNIT, "tox.ini": "# no pytest"}, [UNITTEST]),
        ({"src/a.py": "import pytest", "Cargo.toml": ""}, [("cargo", "test")]),
        ({"package.json": '{"scripts": {"test": "vitest run"}}'}, [("npm", "test")]),
        ({"package.json": '{"scripts": {"test": "vitest run"}}', "pnpm-lock.yaml": ""}, [("pnpm", "test")]),
        ({"package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'}, []),
        ({"package.json": '{"scripts": {"build": "tsc"}}'}, []),
        ({"package.json": '["scripts"]', "go.mod": ""}, [("go", "test", "./...")]),
        ({"package.json": "{" * 5000}, []),
        ({"cli/package.json": '{"scripts": {"test": "vitest run"}}'}, []),
    ],
)  # fmt: skip
def test_the_gate_is_what_the_project_tests_itself_with(
    texts: dict[str, str], gates: list[tuple[str, ...]]
) -> None:
    start = starting_plan(dict.fromkeys(texts, 1), read=texts.__getitem__)
    assert list(start.plan.gates.landing) == gates


@pytest.mark.parametrize("has_modules", [True, False])
def test_what_a_node_project_depends_on_is_linked_where_it_is_there(has_modules: bool) -> None:
    texts = {"package.json": '{"scripts": {"test": "vitest run"}}', "src/a.ts": ""}
    start = starting_plan(dict.fromkeys(texts, 1), read=texts.__getitem__, has_modules=has_modules)
    assert start.plan.workspace.link == (("node_modules",) if has_modules else ())


@pytest.mark.parametrize(
    ("text", "gate", "linked"),
    [
        ("import pytest\n", (".venv/bin/pytest", *PYTEST[1:]), (".venv",)),
        (UNIT, UNITTEST, ()),
    ],
)
def test_pytest_of_the_projects_own_environment_is_named_and_brought(
    text: str, gate: tuple[str, ...], linked: tuple[str, ...]
) -> None:
    start = starting_plan({"test_a.py": 1}, read=lambda path: text, environment=".venv")
    assert start.plan.gates.landing == (gate,)
    assert start.plan.workspace.link == linked
    assert start.plan.workspace.env == ({"PYTHONPATH": "."} if linked else {})


def test_tests_find_the_code_of_their_own_tree_where_an_install_would_lead_to_the_users() -> None:
    paths = {"src/shop/orders.py": 1, "tests/test_a.py": 1}
    start = starting_plan(paths, read=lambda path: "", environment="venv")
    assert start.plan.workspace.env == {"PYTHONPATH": "src:."}


def test_its_text_says_how_much_is_where_and_is_the_plan() -> None:
    start = starting_plan(SHOP, "shop")
    assert loads(start.yaml) == start.plan
    lines = start.yaml.splitlines()
    assert lines[lines.index("  ui:") - 1] == "  # 2 files, 9 kB"
    assert lines[lines.index("  tests:") - 1] == "  # 1 file, 2 kB"


NAMES = st.sampled_from(
    ["src", "app", "ui", "core", "tests", "docs", "a b", "x[1]", "123", "landing", "é", "pkg", "*", "lib"]
)
FILES = st.sampled_from(
    ["a.py", "b.ts", "main.py", "routes.py", "package.json", "go.sum", "x.md", "x", "t.lock"]
)
TREES = st.dictionaries(
    st.builds(lambda folders, file: "/".join([*folders, file]), st.lists(NAMES, max_size=4), FILES),
    st.integers(0, 10_000_000),
    min_size=1,
    max_size=40,
)  # fmt: skip


def _is_a_tree(sizes: dict[str, int]) -> bool:
    """No path is also a folder."""
    folders = {path[:end] for path in sizes for end, char in enumerate(path) if char == "/"}
    return folders.isdisjoint(sizes)


@given(TREES.filter(_is_a_tree))
@example({"src/a.py": 0, "src/tests/a.py": 0})
def test_every_first_plan_is_right(sizes: dict[str, int]) -> None:
    start = starting_plan(sizes)
    tree = FileTree(Path(), tuple(sorted(sizes)))
    plan = loads(start.yaml, tree=tree)
    assert plan == start.plan
    assert check(plan, tree=tree) == []
    assert all(pair.is_safe for pair in pairs(plan, tree.paths))
    assert len(plan.workstreams) <= MOST_PARTS + 3
    owners = {work.id: Matcher(work.owns) for work in plan.workstreams}
    shared = Matcher(plan.shared)
    for path in sizes:
        who = [name for name, matcher in owners.items() if matcher.selects(path)]
        if plan.shared and shared.selects(path):
            continue
        assert len(who) <= 1
        assert who or "/" not in path, path  # all in folders has an owner


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("package-lock.json", True),
        ("web/yarn.lock", True),
        ("requirements-dev.txt", True),
        ("requirements/base.in", True),
        ("src/app/urls.py", True),
        ("web/src/router.ts", True),
        ("web/src/routes.tsx", True),
        ("config/routes.rb", True),
        ("src/main.rs", True),
        ("cmd/server/main.go", True),
        ("src/App.vue", True),
        ("src/index.ts", True),
        ("src/pkg/__init__.py", True),
        ("src/pkg/deep/__init__.py", False),
        ("src/components/index.ts", False),
        ("tests/main.py", False),
        ("examples/app.py", False),
        ("src/domain.py", False),
        ("docs/routes.md", False),
        ("src/mainframe.py", False),
    ],
)
def test_shared_files_are_known_by_name(path: str, is_one: bool) -> None:
    assert likely_shared([path, "other.py"]) == ((path,) if is_one else ())


def test_packages_of_their_own_keep_their_files() -> None:
    paths = [
        "package.json",
        "yarn.lock",
        "packages/a/package.json",
        "packages/a/src/main.ts",
        "packages/b/x.ts",
    ]
    assert shared_in(paths) == ("package.json", "yarn.lock")


def test_nothing_is_proposed_for_nothing() -> None:
    with pytest.raises(UsageError):
        starting_plan({})
    with pytest.raises(UsageError):
        starting_plan({".hidden": 3})
    assert [work.id for work in starting_plan({"Makefile": 3}).plan.workstreams] == ["all"]


def test_a_list_of_dependencies_is_no_page() -> None:
    start = starting_plan({"requirements.txt": 3, "a/x.py": 3, "NOTES.txt": 4})
    assert owned(start)["docs"] == ("./NOTES.txt",)
    assert start.plan.shared == ("requirements.txt",)
