"""Runners that name a test by the whole path of its file: it is the same test wherever a gate runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from gates_support import bench, python
from repositories import Repository, run

JUNIT = (
    "import os, sys; file = os.path.realpath('FooTest.php'); "
    'case = f\'<testcase classname="FooTest" name="known" file="{file}"><failure/></testcase>\'; '
    "open(sys.argv[1], 'w').write(f'<testsuite file=\"{file}\">{case}</testsuite>'); sys.exit(1)"
)


@pytest.fixture
def user(tmp_path: Path) -> Repository:
    return Repository.start(tmp_path / "user")


def test_a_test_named_by_a_whole_path_is_the_same_in_each_run(user: Repository, tmp_path: Path) -> None:
    base = user.commit({"FooTest.php": "", "a": "1"})
    others = [user.commit({"FooTest.php": "", "a": str(each)}) for each in (2, 3)]

    async def scenario(candidate: str) -> None:
        async with bench(user.root, tmp_path / "state", [*python(JUNIT), "{report}"]) as b:
            verdict = await b.judge.judge(candidate, base, ("one",))
            assert verdict.ok, verdict.error
            assert verdict.notes[0].endswith("the base fails 1 test, too: `FooTest.php::FooTest::known`")

    run(scenario(others[0]))
    run(scenario(others[1]))  # with what the first one found of the base
