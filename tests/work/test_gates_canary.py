"""Whether a gate tests what would land: a syntax error that has to be noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
from gates_support import ALONE, PYTEST, WITH_REPORT, bench, python
from hypothesis import given
from hypothesis import strategies as st
from repositories import Repository, run

from parallelai.work.gates.sources import MOST, broken, choose, is_source, languages_of

LIB = "def double(x):\n    return 2 * x\n"
TEST = "from shop.lib import double\n\ndef test_double():\n    assert double(2) == 4\n"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def user(tmp_path: Path) -> Repository:
    return Repository.start(tmp_path / "user")


def test_a_gate_that_sees_the_tree_is_believed_once_and_for_all(user: Repository, state: Path) -> None:
    base = user.commit({"shop/__init__.py": "", "shop/lib.py": LIB, "test_lib.py": TEST})
    later = user.commit({"shop/lib.py": LIB + "\n"})

    async def scenario(commit: str, runs: int) -> None:
        async with bench(user.root, state, list(WITH_REPORT), canary="require") as b:
            ready = await b.judge.ready(commit)
            assert ready.ok
            assert not ready.notes
            assert not ready.new_failures
            assert b.told.started() == runs

    run(scenario(base, 2))
    run(scenario(later, 1))
    assert user.git("status", "--porcelain") == ""
    assert "canary" not in user.git("rev-list", "--all", "--format=%s")


def test_a_gate_that_tests_an_installed_package_is_found_out(user: Repository, state: Path) -> None:
    """As after `pip install -e` of the main checkout: what is imported is not what would land."""
    base = user.commit({"src/shop/__init__.py": "", "src/shop/lib.py": LIB, "tests/test_lib.py": TEST})
    user.write(
        {"installed/shop/__init__.py": "", "installed/shop/lib.py": LIB, ".git/info/exclude": "installed\n"}
    )
    keys = {"env": {**ALONE, "PYTHONPATH": "installed"}, "link": ["installed"]}
    command = [*WITH_REPORT, "tests"]

    async def scenario() -> None:
        async with bench(user.root, state, command, keys=keys, canary="warn") as b:
            ready = await b.judge.ready(base)
            assert ready.ok
            (note,) = ready.notes
            assert "stays green with a syntax error in `src/shop/__init__.py`, `src/shop/lib.py`" in note
            assert "an editable install, a linked folder" in note
            assert b.told.started() == 3
        async with bench(user.root, state, command, keys=keys, canary="warn") as b:
            assert (await b.judge.ready(base)).notes == ready.notes
            assert b.told.started() == 0, "the base and the canary are remembered"
        async with bench(user.root, state, command, keys=keys, canary="require") as b:
            refused = await b.judge.ready(base)
            assert not refused.ok
            assert refused.error is not None
            assert refused.error.kind == "gate_failed"
            assert "stays green" in refused.error.said
            assert b.told.started() == 2, "with `require` it has another chance each time"
        async with bench(user.root, state, command, keys=keys, canary="off") as b:
            assert (await b.judge.ready(base)).notes == ()

    run(scenario())


def test_a_gate_may_be_about_other_files_than_the_likeliest(user: Repository, state: Path) -> None:
    base = user.commit(
        {
            "core/a.py": "x = 1\n",
            "core/use.py": "from core import a\n",
            "web/b.py": "import core.a\n",
            "cli/c.py": "y = 1\n",
        }
    )
    gate = list(python("import ast; ast.parse(open('web/b.py').read())"))

    async def scenario() -> None:
        async with bench(user.root, state, gate, canary="require") as b:
            ready = await b.judge.ready(base)
            assert ready.ok, ready.error
            assert b.told.started() == 4
            assert [event.ok for event in b.told.ended()] == [True, False, False, True]
            canaries = [event.command.startswith("canary: ") for event in b.told.ended()]
            assert canaries == [False, True, True, True]

    run(scenario())


def test_a_red_base_with_a_report_can_have_a_canary(user: Repository, state: Path) -> None:
    bad = "def test_bad():\n    assert 0\n"
    base = user.commit({"shop/__init__.py": "", "shop/lib.py": LIB, "test_lib.py": TEST, "test_bad.py": bad})

    async def scenario() -> None:
        async with bench(user.root, state, list(WITH_REPORT), canary="require") as b:
            ready = await b.judge.ready(base)
            assert ready.ok
            assert len(ready.notes) == 1

    run(scenario())


def test_without_a_source_file_there_is_no_canary(user: Repository, state: Path) -> None:
    base = user.commit({"README.md": "hello", "test_a.py": "def test_a(): pass\n"})

    async def scenario() -> None:
        async with bench(user.root, state, list(PYTEST), canary="warn") as b:
            ready = await b.judge.ready(base)
            assert ready.ok
            assert not ready.notes
        async with bench(user.root, state, list(PYTEST), canary="require") as b:
            ready = await b.judge.ready(base)
            assert not ready.ok
            assert ready.error is not None
            assert "no source file" in ready.error.said

    run(scenario())


# -- which file


def test_the_file_that_most_import_is_chosen_and_others_from_other_folders() -> None:
    files = {
        "src/app/core.py": b"",
        "src/app/extra.py": b"",
        "src/app/ui/menu.py": b"from app.core import x\nfrom app.ui import theme",
        "src/app/ui/theme.py": b"import app.core",
        "src/db/store.py": b"from app import core",
        "web/index.ts": b"import { x } from './util'",
        "web/util.ts": b"",
        "tests/test_all.py": b"from app.ui import menu\nfrom db.store import y",
        "tests/helper.py": b"",
        "docs/conf.py": b"import app.core",
        "setup.py": b"",
    }
    assert choose(files, ["pytest", "-q"]) == ["src/app/core.py", "src/db/store.py", "src/app/ui/menu.py"]
    assert choose(files, ["npm", "test"])[0] == "web/util.ts"
    assert choose({"a/main.go": b"", "a/main_test.go": b""}, ["go", "test", "./..."]) == ["a/main.go"]
    assert choose({"README": b""}, ["pytest"]) == []


def test_what_the_command_names_weighs_most() -> None:
    files = {
        "src/a.py": b"",
        "src/b.py": b"",
        **{f"tests/unit/test_{n}.py": b"import a" for n in range(5)},
        "tests/core/test_b.py": b"import b",
    }
    assert choose(files, ["pytest", "tests/core"])[0] == "src/b.py"
    assert choose(files, ["pytest", "tests/unit"])[0] == "src/a.py"


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["pytest"], {"python"}),
        ([".venv/bin/python3.12", "-m", "x"], {"python"}),
        (["sh", "-c", "cd web && npm test"], {"script"}),
        (["go", "test"], {"go"}),
        (["./gradlew", "check"], {"jvm"}),
        (["make", "test"], set()),
    ],
)
def test_a_command_speaks_of_its_language(argv: list[str], wanted: set[str]) -> None:
    assert languages_of(argv) == wanted


@pytest.mark.parametrize(
    "path", ["tests/a.py", "test_a.py", "a_test.go", "a.spec.ts", "conftest.py", "x.md", ".eslintrc.js"]
)
def test_tests_and_texts_are_no_source(path: str) -> None:
    assert not is_source(path)


PATHS = st.lists(
    st.tuples(
        st.sampled_from(["src/a", "src/b", "lib", "tests", ""]),
        st.sampled_from(["a.py", "b.py", "test_a.py", "c.ts", "d.go", "README", "__init__.py"]),
    ),
    max_size=12,
)


@given(
    PATHS,
    st.binary(max_size=50),
    st.lists(st.sampled_from(["pytest", "npm", "make", "tests", "src"]), min_size=1),
)
def test_a_choice_is_bounded_and_of_sources(
    paths: list[tuple[str, str]], data: bytes, argv: list[str]
) -> None:
    files = {f"{folder}/{name}".lstrip("/"): data for folder, name in paths}
    chosen = choose(files, argv)
    assert len(chosen) == len(set(chosen)) <= MOST
    assert all(is_source(path) for path in chosen)
    assert bool(chosen) == any(map(is_source, files))


@given(st.sampled_from(["", "#!/usr/bin/python\n", "'''doc'''\n", "from __future__ import annotations\n"]))
def test_a_broken_file_is_no_program(start: str) -> None:
    data = broken("a.py", (start + "x = 1\n").encode())
    with pytest.raises(SyntaxError):
        compile(data, "a.py", "exec")
    assert b"<?php )]}" in broken("a.php", b"<?php echo 1; ?>")
