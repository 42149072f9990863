"""What gates say of trees beside the base: real pytest runs in small repositories."""

from __future__ import annotations

from pathlib import Path

import pytest
from gates_support import PYTEST, WITH_REPORT, Bench, bench, python
from repositories import Repository, run

from parallelai.engines import confining
from parallelai.errors import Unavailable
from parallelai.plan import model
from parallelai.work.landing.records import Verdict

GOOD = "def test_good():\n    assert True\n"
BAD = "def test_bad():\n    assert False, 'it is bad'\n"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def user(tmp_path: Path) -> Repository:
    return Repository.start(tmp_path / "user")


async def judged(bench: Bench, commit: str, base: str, name: str = "gui") -> Verdict:
    return await bench.judge.judge(commit, base, (name,))


def test_a_green_tree_lands_with_its_log(user: Repository, state: Path) -> None:
    base = user.commit({"test_a.py": GOOD})
    good = user.commit({"test_b.py": "def test_b():\n    print('hello')\n"})

    async def scenario() -> None:
        async with bench(user.root, state, list(WITH_REPORT)) as b:
            verdict = await judged(b, good, base)
            assert verdict.ok
            assert not verdict.error
            assert not verdict.new_failures
            (gate,) = verdict.gates
            assert gate.exit == 0
            assert gate.command.endswith("--junitxml={report}")
            assert "2 passed" in (user.root / gate.log).read_text()
            assert b.told.started() == 1
            assert [(name, event.type) for name, event in b.told.events] == [
                ("gui", "gate.started"),
                ("gui", "gate.ended"),
            ]

    run(scenario())


def test_only_failures_that_the_base_has_not_count(user: Repository, state: Path) -> None:
    base = user.commit({"test_a.py": GOOD + BAD})
    same = user.commit({"test_c.py": GOOD})
    worse = user.commit({"test_b.py": "def test_new():\n    assert 0\n"})
    user.git("rm", "-q", "test_b.py")
    broke = user.commit({"test_c.py": "def test_good():\n    assert 0\n"})
    fixed = user.commit({"test_a.py": GOOD, "test_c.py": GOOD})

    async def scenario() -> None:
        async with bench(user.root, state, list(WITH_REPORT)) as b:
            ready = await b.judge.ready(base)
            assert ready.ok
            assert "fails 1 test on the base already" in ready.notes[0]
            verdict = await judged(b, same, base)
            assert verdict.ok
            assert "the base fails 1 test, too: `test_a::test_bad`" in verdict.notes[0]
            verdict = await judged(b, worse, base)
            assert not verdict.ok
            assert verdict.new_failures == ("test_b::test_new",)
            assert verdict.error is not None
            assert verdict.error.kind == "gate_failed"
            assert "fails 1 test that the base does not fail: `test_b::test_new`" in verdict.error.said
            again = next((state / "gates").glob(f"{worse[:12]}*again*.log")).read_text()
            assert "1 failed in" in again, "what the base fails, too, is not run again"
            verdict = await judged(b, broke, same)
            assert not verdict.ok
            assert verdict.new_failures == ("test_c::test_good",)
            assert (await judged(b, fixed, base)).ok

    run(scenario())


def test_of_several_tests_with_one_name_each_counts(user: Repository, state: Path) -> None:
    base = user.commit({"x": "1", "y": "0"})
    as_bad = user.commit({"x": "1", "y": "0", "z": ""})
    worse = user.commit({"x": "1", "y": "1"})
    case = "<testcase classname='c' name='t'>%s</testcase>"
    junit = (
        "import sys; bad = [open(name).read() == '1' for name in 'xy']; "
        f"cases = ''.join({case!r} % ('<failure/>' * each) for each in bad); "
        "open(sys.argv[1], 'w').write(f'<testsuite>{cases}</testsuite>'); sys.exit(any(bad))"
    )

    async def scenario() -> None:
        for _ in range(2):  # the second one finds what the base came to
            async with bench(user.root, state, [*python(junit), "{report}"]) as b:
                assert (await judged(b, as_bad, base)).ok
                assert (await judged(b, worse, base)).new_failures == ("c::t",)

    run(scenario())


def test_the_base_runs_once_and_a_second_process_finds_it(user: Repository, state: Path) -> None:
    base = user.commit({"test_a.py": GOOD + BAD})
    other = user.commit({"test_b.py": GOOD})

    async def scenario(runs: int) -> None:
        async with bench(user.root, state, list(WITH_REPORT)) as b:
            assert (await b.judge.ready(base)).ok
            assert (await judged(b, other, base)).ok
            assert (await judged(b, other, base)).ok
            assert b.told.started() == runs

    run(scenario(2))
    run(
        scenario(1)
    )  # the failing candidate alone: what blocked or may have been the machine's fault is seen anew


def test_the_same_tree_is_never_gated_twice(user: Repository, state: Path) -> None:
    base = user.commit({"test_a.py": GOOD})
    user.commit({"test_b.py": GOOD})
    first = user.git("rev-parse", "HEAD").strip()
    user.git("commit", "-q", "--amend", "-m", "other words, same tree")
    second = user.git("rev-parse", "HEAD").strip()

    async def scenario(runs: int) -> None:
        async with bench(user.root, state, list(WITH_REPORT)) as b:
            one, two = await judged(b, first, base), await judged(b, second, base)
            assert one == two
            assert one.ok
            assert b.told.started() == runs

    assert first != second
    run(scenario(1))
    run(scenario(0))


def test_a_gate_without_report_on_a_red_base_is_refused(user: Repository, state: Path) -> None:
    base = user.commit({"test_a.py": BAD})
    other = user.commit({"test_b.py": GOOD})
    fixed = user.commit({"test_a.py": GOOD})

    async def scenario() -> None:
        async with bench(user.root, state, list(PYTEST)) as b:
            ready = await b.judge.ready(base)
            assert not ready.ok
            assert ready.error is not None
            assert "fails on the base already" in ready.error.said
            assert "--allow-red-base" in (ready.error.next or "")
            verdict = await judged(b, other, base)
            assert not verdict.ok
            assert verdict.error is not None
            assert "--allow-red-base" in (verdict.error.next or "")
            assert (await judged(b, fixed, base)).ok
        async with bench(user.root, state, list(PYTEST), allow_red_base=True) as b:
            assert (await b.judge.ready(base)).ok
            verdict = await judged(b, other, base)
            assert verdict.ok
            assert "allow_red_base" in verdict.notes[0]
            assert "\n" not in verdict.notes[0], "notes are lines; what it printed is in its log"

    run(scenario())


def test_a_gate_without_report_is_not_run_again(user: Repository, state: Path) -> None:
    base = user.commit({"test_a.py": GOOD})
    bad = user.commit({"test_a.py": BAD})

    async def scenario() -> None:
        async with bench(user.root, state, list(PYTEST)) as b:
            assert (await b.judge.ready(base)).ok
            verdict = await judged(b, bad, base)
            assert not verdict.ok
            assert verdict.error is not None
            assert "it is bad" in verdict.error.said
            assert len(list((state / "gates").glob("*.log"))) == 2

    run(scenario())


def flaky_test(counter: Path, name: str = "test_flaky", passes_from: int = 2) -> str:
    """A test that passes from its nth run on, counted outside of the tree."""
    return (
        "import pathlib\n"
        f"def {name}():\n    counter = pathlib.Path({str(counter)!r})\n"
        "    with counter.open('a') as file:\n        file.write('x')\n"
        f"    assert len(counter.read_text()) >= {passes_from}\n"
    )


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that gates can write: without a sandbox, as one would keep it from them."""

    monkeypatch.setattr(confining, "confinements", lambda: ())
    return tmp_path / "counter"


def test_failed_tests_run_again_alone_and_the_flaky_are_named(
    user: Repository, state: Path, counter: Path
) -> None:
    base = user.commit({"pkg/test_a.py": GOOD})
    flaky = user.commit(
        {"pkg/test_b.py": flaky_test(counter) + BAD.replace("bad", "other").replace("False", "True")}
    )
    mixed = user.commit({"pkg/test_c.py": "class TestC:\n    def test_c(self):\n        assert 0\n"})

    async def scenario() -> None:
        async with bench(user.root, state, [*WITH_REPORT, "pkg"]) as b:
            assert (await b.judge.ready(base)).ok
            verdict = await judged(b, flaky, base)
            assert verdict.ok
            assert verdict.flaky == ("pkg.test_b::test_flaky",)
            assert counter.read_text() == "xx"
            assert "1 test passed when run again alone: `pkg.test_b::test_flaky`" in verdict.notes[0]
            again = next((state / "gates").glob("*again*.log")).read_text()
            assert "1 passed" in again
            assert (await judged(b, flaky, base)).ok, "what is known of the tree stays"
            counter.unlink()
            verdict = await judged(b, mixed, base)
            assert not verdict.ok
            assert verdict.new_failures == ("pkg.test_c.TestC::test_c",)
            assert verdict.flaky == ("pkg.test_b::test_flaky",)
            assert b.told.ended()[-1].flaky == ("pkg.test_b::test_flaky",)

    run(scenario())


def test_a_failure_of_a_base_that_is_only_flaky_excuses_nobody(
    user: Repository, state: Path, counter: Path
) -> None:
    base = user.commit({"test_a.py": GOOD, "test_b.py": flaky_test(counter)})
    broken = user.commit({"test_b.py": "def test_flaky():\n    assert 0\n"})

    async def scenario() -> None:
        async with bench(user.root, state, list(WITH_REPORT)) as b:
            assert (await b.judge.ready(base)).ok
            verdict = await judged(b, broken, base)
            assert verdict.new_failures == ("test_b::test_flaky",)

    run(scenario())


def test_the_gate_of_an_unknown_runner_runs_again_as_a_whole(
    user: Repository, state: Path, counter: Path
) -> None:
    base = user.commit({"run.py": "print('TAP version 13\\n1..1\\nok 1 - a')"})
    program = (
        f"import pathlib, sys\ncounter = pathlib.Path({str(counter)!r})\nn = counter.exists()\ncounter.touch()\n"
        "print('TAP version 13\\n1..2\\nok 1 - a')\nprint('ok 2 - b' if n else 'not ok 2 - b')\nsys.exit(not n)\n"
    )
    flaky = user.commit({"run.py": program})

    async def scenario() -> None:
        async with bench(user.root, state, list(python("exec(open('run.py').read())"))) as b:
            assert (await b.judge.ready(base)).ok
            verdict = await judged(b, flaky, base)
            assert verdict.ok
            assert verdict.flaky == ("b",)

    run(scenario())


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("pass", "its report (`{report}`) is no good: it was not written"),
        ("open(sys.argv[1], 'w')", "it is empty"),
        ("open(sys.argv[1], 'w').write('<testsuites><testsuite>')", "no whole XML document"),
        ("open(sys.argv[1], 'w').write('<testsuite tests=\"0\"/>')", "it names no test"),
        ("open(sys.argv[1], 'w').write('all is well')", "neither JUnit XML, TAP"),
        ("os.symlink('/etc/passwd', sys.argv[1])", "it cannot be read"),
        ("os.mkfifo(sys.argv[1])", "it is no plain file"),
        ("os.mkdir(sys.argv[1])", "it names no test"),
    ],
)
def test_a_report_that_is_asked_for_and_no_good_is_a_failure(
    user: Repository, state: Path, code: str, why: str
) -> None:
    good = "open(sys.argv[1], 'w').write('<testsuite><testcase name=\"a\"/></testsuite>')"
    base = user.commit({"run.py": f"import os, sys\n{good}\n"})
    bad = user.commit({"run.py": f"import os, sys\n{code}\n"})

    async def scenario() -> None:
        async with bench(user.root, state, [*python("exec(open('run.py').read())"), "{report}"]) as b:
            assert (await b.judge.ready(base)).ok
            verdict = await judged(b, bad, base)
            assert not verdict.ok
            assert verdict.error is not None
            assert why in verdict.error.said

    run(scenario())


def test_a_report_may_be_a_folder(user: Repository, state: Path) -> None:
    code = (
        "import os, sys\nos.mkdir(sys.argv[1])\nfor name in 'ab':\n"
        "    open(f'{sys.argv[1]}/TEST-{name}.xml', 'w').write(f'<testsuite><testcase name=\"{name}\"/></testsuite>')\n"
    )
    base = user.commit({"run.py": code})
    fewer = user.commit({"run.py": code.replace("'ab'", "'a'")})

    async def scenario() -> None:
        async with bench(user.root, state, [*python("exec(open('run.py').read())"), "{report}"]) as b:
            assert (await b.judge.ready(base)).ok
            verdict = await judged(b, fewer, base)
            assert verdict.ok
            assert "1 test of the base did not run: `b`" in verdict.notes[0]

    run(scenario())


def test_a_gate_that_takes_too_long_fails(user: Repository, state: Path) -> None:
    base = user.commit({"run.py": "pass"})
    slow = user.commit({"run.py": "import time; time.sleep(600)"})

    async def scenario() -> None:
        async with bench(user.root, state, list(python("exec(open('run.py').read())")), timeout=2) as b:
            verdict = await judged(b, slow, base)
            assert not verdict.ok
            assert verdict.error is not None
            assert "was not done after 2 s" in verdict.error.said
            assert verdict.gates[0].exit is None

    run(scenario())


def test_a_program_of_the_machine_that_takes_too_long_is_not_told_as_missing(
    user: Repository, state: Path
) -> None:
    base = user.commit({"check.sh": "exit 0\n"})
    slow = user.commit({"check.sh": "sleep 600\n"})

    async def scenario() -> None:
        async with bench(user.root, state, ["sh", "check.sh"], timeout=1) as b:
            verdict = await judged(b, slow, base)
            assert verdict.error is not None
            assert verdict.error.said == "gate `sh check.sh` fails: it was not done after 1 s"
            assert verdict.error.next is None or "program" not in verdict.error.next

    run(scenario())


def test_a_base_where_no_test_can_run_is_nothing_to_compare_with(user: Repository, state: Path) -> None:
    base = user.commit({"test_a.py": GOOD, "test_broken.py": "import nothing_of_this_name\n"})
    broke = user.commit({"test_a.py": "def test_good():\n    assert 0\n"})

    async def scenario() -> None:
        async with bench(user.root, state, list(WITH_REPORT)) as b:
            ready = await b.judge.ready(base)
            assert not ready.ok
            assert ready.error is not None
            assert "cannot be compared" in ready.error.said
            assert not (await judged(b, broke, base)).ok

    run(scenario())


def test_a_gate_that_ends_badly_beside_green_tests_fails(user: Repository, state: Path) -> None:
    base = user.commit({"test_a.py": GOOD})
    crash = (
        "import pytest\n@pytest.hookimpl\ndef pytest_sessionfinish(session):\n    session.exitstatus = 9\n"
    )
    bad = user.commit({"conftest.py": crash})

    async def scenario() -> None:
        async with bench(user.root, state, list(WITH_REPORT)) as b:
            verdict = await judged(b, bad, base)
            assert not verdict.ok
            assert verdict.error is not None
            assert "ended with exit 9, and its report names no test that failed" in verdict.error.said

    run(scenario())


def test_a_program_that_the_machine_lacks_is_no_fault_of_a_branch(user: Repository, state: Path) -> None:
    base = user.commit({"a": "1"})

    async def scenario() -> None:
        async with bench(user.root, state, ["no-such-program-anywhere"], allow_red_base=True) as b:
            for verdict in (await b.judge.ready(base), await judged(b, base, base)):
                assert not verdict.ok
                assert verdict.error is not None
                assert verdict.error.kind == "unavailable"
                assert "`no-such-program-anywhere` was not found" in verdict.error.said

    run(scenario())


def test_a_program_of_the_tree_that_a_branch_removes_is(user: Repository, state: Path) -> None:
    user.write({"check": "#!/bin/sh\nexit 0\n"})
    (user.root / "check").chmod(0o755)
    base = user.commit()
    user.git("rm", "-q", "check")
    gone = user.commit()

    async def scenario() -> None:
        async with bench(user.root, state, ["./check"]) as b:
            assert (await b.judge.ready(base)).ok
            verdict = await judged(b, gone, base)
            assert verdict.error is not None
            assert verdict.error.kind == "gate_failed"
            assert "it could not be run" in verdict.error.said

    run(scenario())


def test_a_setup_that_fails_on_a_branch_alone_fails_its_gate(user: Repository, state: Path) -> None:
    base = user.commit({"setup.txt": "ok", "test_a.py": GOOD})
    bad = user.commit({"setup.txt": "broken"})
    setup = [list(python("assert open('setup.txt').read() == 'ok'"))]

    async def scenario() -> None:
        async with bench(user.root, state, list(WITH_REPORT), keys={"setup": setup}) as b:
            assert (await b.judge.ready(base)).ok
            verdict = await judged(b, bad, base)
            assert not verdict.ok
            assert verdict.error is not None
            assert "setup" in verdict.error.said

    run(scenario())


def test_several_gates_all_have_to_pass(user: Repository, state: Path) -> None:
    base = user.commit({"test_a.py": GOOD, "lint": "ok"})
    bad = user.commit({"lint": "bad"})
    lint = list(python("assert open('lint').read() == 'ok'"))

    async def scenario() -> None:
        async with bench(user.root, state, list(WITH_REPORT), lint) as b:
            verdict = await judged(b, bad, base)
            assert not verdict.ok
            assert [gate.exit for gate in verdict.gates] == [0, 1]
            assert (await judged(b, base, base)).ok

    run(scenario())


def test_a_gate_cannot_leak_into_the_next(user: Repository, state: Path) -> None:
    base = user.commit({"test_a.py": GOOD})
    code = "import os, sys; found = os.path.exists('left'); open('left', 'w'); sys.exit(found)"

    async def scenario() -> None:
        async with bench(user.root, state, list(python(code)), list(python(f"{code} # 2")), parallel=1) as b:
            assert (await judged(b, base, base)).ok

    run(scenario())


class Reviewer:
    def __init__(self, count: int = 0, error: Unavailable | None = None) -> None:
        self.count, self.error, self.asked = count, error, 0

    async def __call__(self, base: str, commit: str, gate: model.ReviewGate) -> tuple[int, str]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.count, "high: this is wrong"


REVIEW = {"review": "code-review", "model": "best", "fail_on": "high"}


def test_a_review_is_a_gate_and_asked_once_and_last(user: Repository, state: Path) -> None:
    base = user.commit({"test_a.py": GOOD})
    good = user.commit({"b": "1"})
    bad = user.commit({"test_a.py": BAD})

    async def scenario() -> None:
        reviewer = Reviewer(2)
        async with bench(user.root, state, REVIEW, list(WITH_REPORT), review=reviewer) as b:
            assert not (await judged(b, bad, base)).ok
            assert reviewer.asked == 0, "nobody pays for a review of what fails its tests"
            verdict = await judged(b, good, base)
            assert not verdict.ok
            assert verdict.error is not None
            assert "has 2 findings of severity `high` or higher" in verdict.error.said
            assert (user.root / verdict.gates[-1].log).read_text() == "high: this is wrong"
            await judged(b, good, base)
            assert reviewer.asked == 1
        for asked in (1, 0):
            reviewer = Reviewer(0)
            async with bench(user.root, state, REVIEW, list(WITH_REPORT), review=reviewer) as b:
                verdict = await judged(b, good, base)
                assert verdict.ok
                assert verdict.gates[-1].command == "review code-review best"
                assert reviewer.asked == asked

    run(scenario())


def test_a_review_that_nobody_can_do_blocks(user: Repository, state: Path) -> None:
    base = user.commit({"a": "1"})

    async def scenario() -> None:
        async with bench(user.root, state, REVIEW) as b:
            assert not (await judged(b, base, base)).ok
        async with bench(user.root, state, REVIEW, review=Reviewer(0, Unavailable("no key"))) as b:
            verdict = await judged(b, base, base)
            assert not verdict.ok
            assert verdict.error is not None
            assert "no key" in verdict.error.said
            assert verdict.error.kind == "unavailable", "nothing is wrong with the tree"
            assert "no key" in (user.root / verdict.gates[-1].log).read_text()

    run(scenario())
