"""What a gate's result means beside that of the base: only failures that the base does not have count. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from parallelai.work.gates.commands import Result

NAMED = 5
"""How many tests a sentence names."""
SAID_CHARS = 1500
BaseState = Literal["green", "red", "blind"]
"""Of a base: `red` has failures by test, to compare with; `blind` fails, and nobody can say what."""


class Decision(Struct, frozen=True):
    """Whether one gate lets a tree land, and why not (`why` goes on after the gate's name)."""

    ok: bool
    new_failures: tuple[str, ...] = ()
    flaky: tuple[str, ...] = ()
    why: str | None = None
    next: str | None = None
    notes: tuple[str, ...] = ()


def state(base: Result) -> BaseState:
    """Say what can be compared with a base's result.

    Where nothing but errors is reported, no test ran (a file that cannot be collected stops pytest), and a
    branch that fails in the same way may fail in any other.
    """
    if base.passed:
        return "green"
    report = base.report
    if base.trouble is not None or report is None or not base.failing:
        return "blind"
    return "red" if report.count("passed") or report.count("failed") else "blind"


def suspects(result: Result, base: Result) -> tuple[str, ...]:
    """The tests that fail and do not on the base, new ones too, in the report's order.

    Of several with one id those are new that are more than the base has.
    """
    known, now = _failures(base), _failures(result)
    return tuple(test for test in result.failing if now[test] > known.get(test, 0))


def _failures(result: Result) -> Mapping[str, int]:
    """How many tests of each id fail."""
    cases = result.report.cases if result.report is not None else {}
    return {test: cases[test].failures for test in result.failing}


def decide(result: Result, base: Result | None, *, allow_red_base: bool = False) -> Decision:
    """Say whether a tree may land, by one gate.

    Args:
        result: what the gate said of the tree; `flaky` are those that passed when run again.
        base: what it said of the base; needed unless `result` passed.
        allow_red_base: whether a failure that cannot be compared with the base's is let through, if the gate
            came to an end at all.
    """
    if result.passed:
        return Decision(True, flaky=result.flaky, notes=_notes(result, base))
    if base is None:
        raise ValueError("a failing gate is compared with the base")
    before = state(base)
    if before == "blind":
        return _beside_blind(result, base, allow_red_base)
    if result.trouble is not None or not result.failing:
        return Decision(False, flaky=result.flaky, why=_why(result), next=result.advice)
    new = suspects(result, base)
    if new:
        why = f"fails {_tests(new)} that the base does not fail: {listed(new)}"
        return Decision(False, new, result.flaky, why, notes=_notes(result, base))
    if _stopped_early(result, base):
        return Decision(
            False, flaky=result.flaky, why=f"{_why(result)}; on the base it ended with {base.exit}"
        )
    excused = f"`{result.command}`: the base fails {_tests(result.failing)}, too: {listed(result.failing)}"
    return Decision(True, flaky=result.flaky, notes=(excused, *_notes(result, base)))


def _beside_blind(result: Result, base: Result, allow_red_base: bool) -> Decision:
    if allow_red_base and result.exit is not None:
        note = (
            f"`{result.command}` {_ended(result)}; the base fails, too, and `allow_red_base` lets it through"
        )
        return Decision(True, flaky=result.flaky, notes=(note,))
    why = f"{_why(result)}; it fails on the base, too ({_what(base)}), and cannot be compared by test"
    if result.advice is not None:
        why = refusal(result)
    return Decision(False, result.failing, result.flaky, why, advice(result))


def _stopped_early(result: Result, base: Result) -> bool:
    """Whether pytest ended otherwise than by failing tests (1), and did not on the base: it ran not all of them."""
    return result.is_pytest and result.exit not in (0, 1) and result.exit != base.exit


def refusal(base: Result) -> str:
    """Why nothing can land on a base that fails in a way that cannot be compared."""
    if base.advice is not None:
        return _why(base)
    return f"fails on the base already ({_what(base)}), and cannot be compared by test"


def advice(base: Result) -> str:
    """What to do about a base that nothing can be compared with."""
    if base.advice is not None:
        return base.advice
    if base.exit is None:  # it was ended, or never begun: no report comes of that, and nobody lets it through
        return "let the base pass"
    report = "" if base.asked else " give the gate a report (`{report}`),"
    return f"let the base pass,{report} or say `--allow-red-base`"


def _what(base: Result) -> str:
    return _why(base).removeprefix("fails: ")


def red_note(base: Result) -> str:
    return f"`{base.command}` fails {_tests(base.failing)} on the base already; only others count"


def _ended(result: Result) -> str:
    """What went wrong, in one line, as notes are: what it printed is in its log."""
    return _why(dataclasses.replace(result, said=""))


def _why(result: Result) -> str:
    """What went wrong, in words, without regard to the base."""
    if result.trouble is not None:
        end = f" (exit {result.exit})" if result.exit is not None else ""
        said = f": {_cut(result.said)}" if result.said else ""
        return f"fails: {result.trouble}{end}{said}"
    if result.failing:
        return f"fails {_tests(result.failing)}: {listed(result.failing)}"
    if result.report is not None:
        said = f": {_cut(result.said)}" if result.said else ""
        return f"ended with exit {result.exit}, and its report names no test that failed{said}"
    return f"ended with exit {result.exit}" + (f": {_cut(result.said)}" if result.said else "")


def _notes(result: Result, base: Result | None) -> tuple[str, ...]:
    notes = []
    if result.flaky:
        notes.append(
            f"`{result.command}`: {_tests(result.flaky)} passed when run again alone: {listed(result.flaky)}"
        )
    gone = vanished(result, base) if base is not None else ()
    if gone:
        notes.append(f"`{result.command}`: {_tests(gone)} of the base did not run: {listed(gone)}")
    return tuple(notes)


def vanished(result: Result, base: Result) -> tuple[str, ...]:
    """The tests that passed on the base and are not reported any more."""
    if result.report is None or base.report is None:
        return ()
    cases = result.report.cases
    return tuple(
        case.id for case in base.report.cases.values() if case.status == "passed" and case.id not in cases
    )


def listed(tests: Sequence[str]) -> str:
    """Name some tests, and how many there are beside them."""
    names = ", ".join(f"`{test}`" for test in tests[:NAMED])
    return names if len(tests) <= NAMED else f"{names} and {len(tests) - NAMED} more"


def _tests(tests: Sequence[str]) -> str:
    return "1 test" if len(tests) == 1 else f"{len(tests)} tests"


def _cut(text: str) -> str:
    return text if len(text) <= SAID_CHARS else "…" + text[-SAID_CHARS:]
