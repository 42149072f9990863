"""What a result means beside the base's; phases' gates; what is remembered."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from gates_support import PYTEST, WITH_REPORT, Told, python, trees_of
from hypothesis import given
from hypothesis import strategies as st
from repositories import Repository, run

from parallelai.git.repository import open_repository
from parallelai.work.gates.commands import Result
from parallelai.work.gates.deciding import decide, listed, state, suspects, vanished
from parallelai.work.gates.memory import KEPT_SECONDS, Memory, as_json, from_json, key_of
from parallelai.work.gates.phase import PhaseVerdict, judged, phase_gate
from parallelai.work.gates.reports import Case, Report, Status
from parallelai.work.gates.running import Runs, Setting

STATUSES: list[Status] = ["passed", "failed", "error", "skipped"]


def result(
    exit_code: int | None = 0, /, trouble: str | None = None, flaky: tuple[str, ...] = (), **tests: Status
) -> Result:
    report = Report({name: Case(name, status, "", name) for name, status in tests.items()}) if tests else None
    return Result("gate", exit_code, 1.0, "log", report, trouble, "words", flaky=flaky)


REPORTS = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(STATUSES), min_size=1)
RESULTS = st.builds(
    lambda exit_code, tests, trouble: result(exit_code, trouble, **tests),
    st.sampled_from([0, 1, 2, None]),
    REPORTS | st.just({}),
    st.sampled_from([None, None, None, "it took too long"]),
).filter(lambda each: each.exit is not None or each.trouble is not None)


@given(RESULTS, RESULTS, st.booleans())
def test_whatever_lands_has_no_failure_that_the_base_has_not(a: Result, base: Result, allow: bool) -> None:
    decision = decide(a, base, allow_red_base=allow)
    if a.passed:
        assert decision.ok
    elif state(base) == "blind":
        assert decision.ok is (allow and a.exit is not None)
    elif decision.ok:
        assert a.trouble is None
        assert a.failing
        assert set(a.failing) <= set(base.failing)
    assert decision.ok is (decision.why is None)
    assert decision.ok or a.trouble or not a.passed


@given(RESULTS)
def test_a_tree_as_good_as_a_base_that_can_be_compared_lands(a: Result) -> None:
    if state(a) != "blind":
        assert decide(a, a).ok


@given(RESULTS, RESULTS)
def test_suspects_are_failures_of_the_one_alone(a: Result, base: Result) -> None:
    assert set(suspects(a, base)) == set(a.failing) - set(base.failing)
    assert not set(vanished(a, base)) & (set(a.report.cases) if a.report else set())


def test_states_of_a_base() -> None:
    assert state(result(0, a="passed")) == "green"
    assert state(result(0)) == "green"
    assert state(result(1, a="failed")) == "red"
    assert state(result(1, a="failed", b="error")) == "red"
    assert state(result(2, a="error")) == "blind", "no test ran"
    assert state(result(1)) == "blind"
    assert state(result(1, a="passed")) == "blind"
    assert state(result(0, a="failed")) == "red", "a runner that hides its failures"
    assert state(result(1, "broken", a="failed", b="passed")) == "blind"


def test_flaky_failures_explain_an_exit_and_nothing_else_does() -> None:
    flaky = result(1, flaky=("a",), a="failed", b="passed")
    assert flaky.passed
    assert decide(flaky, None).flaky == ("a",)
    assert not result(1, a="passed").passed
    assert not result(1, flaky=("a",), a="failed", b="failed").passed
    assert not result(1, "no report", flaky=("a",), a="failed").passed


def test_a_failing_gate_needs_a_base() -> None:
    with pytest.raises(ValueError, match="base"):
        decide(result(1), None)


def test_pytest_that_stopped_early_is_not_excused_by_the_bases_failures() -> None:

    base = dataclasses.replace(result(1, a="failed", b="passed"), is_pytest=True)
    stopped = dataclasses.replace(result(2, a="failed"), is_pytest=True)
    assert not decide(stopped, base).ok
    assert decide(dataclasses.replace(stopped, exit=1), base).ok
    assert decide(dataclasses.replace(stopped, is_pytest=False), base).ok, (
        "some exit with the number of failures"
    )


def test_many_tests_are_named_in_a_few_words() -> None:
    assert listed([str(n) for n in range(8)]) == "`0`, `1`, `2`, `3`, `4` and 3 more"


# -- memory


@given(RESULTS)
def test_a_result_is_remembered_as_it_was(a: Result) -> None:

    plain = dataclasses.replace(a, trouble=None)
    assert from_json(json.loads(json.dumps(as_json(plain)))) == plain


def test_what_is_remembered_ages_and_damage_is_forgotten(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    memory = Memory(tmp_path / "m", lambda: now)
    memory.put("k", {"x": 1})
    assert (memory.get("k") or {})["x"] == 1
    assert Memory(tmp_path / "m", lambda: now + KEPT_SECONDS + 1).get("k") is None
    assert Memory(tmp_path / "m", lambda: now - 1).get("k") is None, "from the future"
    for text in ("", "{", "[]", "{}", '{"at": "x"}', "\x00"):
        (tmp_path / "m" / "k.json").write_text(text)
        assert memory.get("k") is None
    for found in (
        {},
        {"cases": 1},
        {**as_json(result(0)), "cases": [[]]},
        {**as_json(result(0)), "seconds": "x"},
    ):
        assert from_json(found) is None
    nothing = Memory(None)
    nothing.put("k", {})
    nothing.prune()
    assert nothing.get("k") is None
    (tmp_path / "file").write_text("")
    Memory(tmp_path / "file").put("k", {})


def test_old_results_are_removed_and_canaries_kept(tmp_path: Path) -> None:
    memory = Memory(tmp_path, lambda: 4_000_000_000.0)
    memory.put("old", {})
    memory.put("canary-old", {})
    memory.prune()
    assert [path.name for path in tmp_path.iterdir()] == ["canary-old.json"]


def test_keys_tell_words_apart() -> None:
    assert key_of("a", "b") != key_of("ab") != key_of("a b")


# -- phases


def test_a_pass_rate_is_of_all_tests_but_the_skipped() -> None:
    some = result(1, a="passed", b="failed", c="skipped", d="passed", e="passed")
    assert judged([some], 0.75).ok
    assert judged([some], 0.75).pass_rate == 0.75
    refused = judged([some], 0.8)
    assert not refused.ok
    assert refused.error is not None
    assert "3 of 4 tests passed (75.0%), and `pass_rate` asks for 80.0%" in refused.error.said
    assert not judged([some], None).ok
    assert judged([some, result(0, x="passed")], 0.8).ok
    assert not judged([some, result(1)], 0.1).ok, "a command without a report has to pass"
    assert not judged([result(1, "it took too long", a="passed")], 0.1).ok
    assert not judged([result(0, a="skipped")], 0.0).ok, "no test ran"
    assert judged([], None) == PhaseVerdict(True)


def test_a_phases_gate_on_a_real_commit(tmp_path: Path) -> None:
    user = Repository.start(tmp_path / "user")
    tests = "".join(f"def test_{n}():\n    assert {n}\n" for n in range(4))
    commit = user.commit({"test_a.py": tests})
    told = Told()

    async def gate(*commands: tuple[str, ...], pass_rate: float | None) -> PhaseVerdict:
        async with trees_of(user.root, tmp_path / "state") as trees:
            repository = await open_repository(user.root)
            setting = Setting(repository, trees, told, tmp_path / "state" / "gates", 60, Memory(None))
            return await phase_gate(Runs(setting), commands, commit, pass_rate=pass_rate, names=("gui",))

    assert run(gate(WITH_REPORT, pass_rate=0.75)).ok
    verdict = run(gate(WITH_REPORT, pass_rate=0.95))
    assert not verdict.ok
    assert verdict.pass_rate == 0.75
    assert not run(gate(WITH_REPORT, pass_rate=None)).ok
    assert run(gate(WITH_REPORT, python("pass"), pass_rate=0.7)).ok
    refused = run(gate(PYTEST, pass_rate=0.7))
    assert refused.error is not None
    assert "`pass_rate` needs a report" in refused.error.said
    assert not refused.gates
    missing = run(gate(python("'{report}'"), pass_rate=0.5))
    assert missing.error is not None
    assert "it was not written" in missing.error.said
    assert [event.ok for event in told.ended()][:2] == [True, False]
    assert {name for name, _ in told.events} == {"gui"}
