"""Gates of phases: commands that must pass, or of whose tests a share must, before the next phase starts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from parallelai.errors import EngineError, ParallelAIError, first_error
from parallelai.events import EventData, GateEnded, GateStarted
from parallelai.records import ErrorKind, ErrorRecord
from parallelai.work.gates.commands import Result, asks_for_report, shown
from parallelai.work.gates.running import Argv
from parallelai.work.streams.record import GateRun


class Runs(Protocol):
    """Runs commands of gates in prepared folders, and tells of it."""

    def told(self, event: EventData, names: tuple[str, ...] = ()) -> None:
        """Write an event down."""

    async def run(self, commit: str, argv: Argv) -> Result:
        """Run a command in a folder at a commit. Raises `EngineError` where no folder can be made."""


class PhaseVerdict(Struct, frozen=True):
    """What a phase's gate came to. `pass_rate` is the share of tests that passed, of all but the skipped."""

    ok: bool
    gates: tuple[GateRun, ...] = ()
    pass_rate: float | None = None
    error: ErrorRecord | None = None


async def phase_gate(
    runs: Runs,
    commands: Sequence[Argv],
    commit: str,
    *,
    pass_rate: float | None = None,
    names: tuple[str, ...] = (),
) -> PhaseVerdict:
    """Run a phase's gate on a commit: the target's tip, or what the phase's tasks changed.

    Without `pass_rate` each command must pass. With it, that share of all tests in the commands' reports must;
    a command without a report must pass as well. Each call runs the commands, whatever is known of the tree:
    a phase is asked about once.
    """
    if pass_rate is not None and not any(map(asks_for_report, commands)):
        said = "`pass_rate` needs a report of tests, and no command of the phase's gate writes one"
        advice = "let it write one to `{report}`, like `pytest --junitxml={report}`"
        return PhaseVerdict(False, error=ErrorRecord("gate_failed", said, None, advice))
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_one(runs, argv, commit, names, pass_rate)) for argv in commands]
    except ExceptionGroup as errors:
        faults = errors.subgroup((ParallelAIError, OSError))
        if faults is None:
            raise
        return PhaseVerdict(False, error=_fault(first_error(faults)))
    return judged([task.result() for task in tasks], pass_rate)


async def _one(
    runs: Runs, argv: Argv, commit: str, names: tuple[str, ...], pass_rate: float | None
) -> Result:
    runs.told(GateStarted(shown(argv), commit, names), names)
    result = await runs.run(commit, argv)
    verdict = judged([result], pass_rate if result.report is not None else None)
    why = verdict.error.said if verdict.error is not None else None
    ended = GateEnded(
        result.command,
        commit,
        verdict.ok,
        result.exit,
        result.seconds,
        result.log,
        names,
        result.failing,
        (),
        why,
        *result.counted,
    )
    runs.told(ended, names)
    return result


def judged(results: Sequence[Result], pass_rate: float | None) -> PhaseVerdict:
    """Say what a phase's gate came to, from what its commands said. Pure."""
    gates = tuple(GateRun(each.command, each.exit, each.seconds, each.log) for each in results)
    reports = [each.report for each in results if each.report is not None]
    passed = sum(report.count("passed") for report in reports)
    counted = sum(len(report.cases) - report.count("skipped") for report in reports)
    rate = passed / counted if counted else None
    for each in results:
        is_by_rate = pass_rate is not None and each.report is not None and each.trouble is None
        if not each.passed and not is_by_rate:
            return PhaseVerdict(False, gates, rate, _failed(each))
    if pass_rate is not None and (rate is None or rate < pass_rate):
        of = "no test ran" if rate is None else f"{passed} of {counted} tests passed ({rate:.1%})"
        said = f"{of}, and `pass_rate` asks for {pass_rate:.1%}"
        log = next((each.log for each in results if each.report is not None), None)
        return PhaseVerdict(False, gates, rate, ErrorRecord("gate_failed", said, log))
    return PhaseVerdict(True, gates, rate)


def _failed(result: Result) -> ErrorRecord:
    failing = f"{len(result.failing)} tests fail" if result.failing else f"exit {result.exit}"
    said = f"gate `{result.command}` fails: {result.trouble or failing}"
    if result.said and not result.failing:
        said = f"{said}: {result.said[-1500:]}"
    return ErrorRecord("gate_failed", said, result.log, result.advice or f"see `{result.log}`")


def _fault(error: BaseException) -> ErrorRecord:
    if not isinstance(error, ParallelAIError):
        return ErrorRecord("internal", f"the phase's gate could not be run: {error}")
    kind: ErrorKind = (
        "unavailable" if isinstance(error, EngineError) and error.kind == "unavailable" else "internal"
    )
    said = f"the phase's gate could not be run: {error.said}"
    return ErrorRecord(kind, said, error.where, error.next, error.retry_helps)
