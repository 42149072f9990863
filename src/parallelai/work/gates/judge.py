"""Whether a tree may land: all gates run on it, compared with the base; reviews last, as they cost money."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, get_args

from msgspec import Struct

from parallelai.errors import EngineError, ParallelAIError, Unavailable
from parallelai.events import GateEnded, GateStarted
from parallelai.git.repository import Repository
from parallelai.plan import model
from parallelai.records import ErrorKind, ErrorRecord
from parallelai.work.gates.canary import Canary
from parallelai.work.gates.commands import Result, shown
from parallelai.work.gates.deciding import Decision, advice, decide, red_note, refusal, state, suspects
from parallelai.work.gates.memory import Memory, key_of
from parallelai.work.gates.running import Argv, Runs, Setting
from parallelai.work.gates.trees import Trees
from parallelai.work.landing.records import Tell, Verdict
from parallelai.work.streams.record import GateRun

T = TypeVar("T")


class ReviewRunner(Protocol):
    """Has the difference between two commits reviewed.

    Gives how many findings are as severe as the gate's `fail_on`, and the review as text. Raises `EngineError`
    where nobody could do it.
    """

    async def __call__(self, base: str, commit: str, gate: model.ReviewGate) -> tuple[int, str]: ...


class _Said(Struct, frozen=True):
    """What one gate came to: `ok`, its run if there was one, and why not."""

    ok: bool
    run: GateRun | None = None
    new_failures: tuple[str, ...] = ()
    flaky: tuple[str, ...] = ()
    error: ErrorRecord | None = None
    notes: tuple[str, ...] = ()


class GateJudge:
    """Runs a plan's gates on trees (`landing.records.Gates`).

    Args:
        repository: the user's.
        gates: the plan's.
        trees: prepared folders.
        tell: writes events down.
        logs: the folder of the run's gates' logs.
        state: where results and canaries are remembered for later processes; None remembers nothing.
        review: does review gates; without it a plan that has one is refused with each verdict.
    """

    def __init__(
        self,
        repository: Repository,
        gates: model.Gates,
        trees: Trees,
        *,
        tell: Tell,
        logs: Path,
        state: Path | None = None,
        review: ReviewRunner | None = None,
    ) -> None:
        self._repository = repository
        self._gates = gates
        self._commands = list(
            dict.fromkeys(gate for gate in gates.landing if not isinstance(gate, model.ReviewGate))
        )
        self._reviews = [gate for gate in gates.landing if isinstance(gate, model.ReviewGate)]
        memory = Memory(state / "gates" if state is not None else None)
        memory.prune()
        self._runs = Runs(Setting(repository, trees, tell, logs, gates.timeout, memory))
        self._canary = Canary(self._runs, trees, memory, gates.canary)
        self._review = review
        self._memory = memory
        self._reviewed: dict[str, _Said] = {}

    async def judge(self, commit: str, base: str, names: tuple[str, ...]) -> Verdict:
        """Say whether a commit's tree may land. See `landing.records.Gates`."""
        said = await _each(self._commands, lambda argv: self._command(argv, commit, base, names))
        if all(each.ok for each in said):
            said += await _each(self._reviews, lambda gate: self._reviewed_by(gate, commit, base, names))
        return _verdict(said)

    async def ready(self, base: str) -> Verdict:
        """Run the gates on the base, refuse one that nothing can be compared with, and put the canaries out."""
        return _verdict(await _each(self._commands, lambda argv: self._base(argv, base)))

    async def results(self, commit: str) -> tuple[Result, ...]:
        """What the commands said of a commit, as far as it is known."""
        found = [await self._runs.known(commit, argv) for argv in self._commands]
        return tuple(each for each in found if each is not None)

    # -- commands

    async def _command(self, argv: Argv, commit: str, base: str, names: tuple[str, ...]) -> _Said:
        outcome = await self._runs.result(commit, argv, names)
        result = outcome.result
        before = await self._runs.known(base, argv)
        if not result.passed:
            before = await self._before(argv, base)
            if result.trouble is None and state(before) != "blind":
                new = suspects(result, before)
                result = await self._runs.again(commit, argv, result, new) if new else result
        decision = decide(result, before, allow_red_base=self._gates.allow_red_base)
        if outcome.is_new:
            self._runs.told(_ended(result, commit, names, decision), names)
        if not decision.ok and result.advice is not None and before and before.advice == result.advice:
            said = (decision.why or "").removeprefix("fails: ").removeprefix("it could not be run: ")
            raise Unavailable(said, next=result.advice)  # whatever the tree holds
        return _said(result, decision)

    async def _before(self, argv: Argv, base: str) -> Result:
        """What a gate says of the base; told, if it ran now."""
        outcome = await self._runs.result(base, argv, is_base=True)
        if outcome.is_new:
            result = outcome.result
            why = refusal(result) if state(result) == "blind" else None
            self._runs.told(
                _ended(result, base, (), Decision(result.passed, result.failing, result.flaky, why))
            )
        return outcome.result

    async def _base(self, argv: Argv, base: str) -> _Said:
        result = await self._before(argv, base)
        before = state(result)
        run = _run(result)
        if before == "blind" and not self._gates.allow_red_base:
            said = f"gate `{result.command}` {refusal(result)}"
            error = ErrorRecord("gate_failed", said, result.log, advice(result))
            return _Said(False, run, result.failing, error=error)
        notes = (red_note(result),) if before == "red" else ()
        note, fault = await self._canary.look(base, argv, result)
        return _Said(fault is None, run, error=fault, notes=(*notes, *filter(None, (note,))))

    # -- reviews

    async def _reviewed_by(
        self, gate: model.ReviewGate, commit: str, base: str, names: tuple[str, ...]
    ) -> _Said:
        name = " ".join(["review", gate.review, *([gate.model] if gate.model else [])])
        if self._review is None:
            error = ErrorRecord("unavailable", f"gate `{name}` cannot run: nobody reviews here")
            return _Said(False, error=error)
        trees = [await self._repository.tree(each) for each in (base, commit)]
        key = key_of("review", *trees, gate.model_dump_json())
        if key in self._reviewed:
            return self._reviewed[key]
        kept = await asyncio.to_thread(self._memory.get, key)
        if kept is not None and isinstance(kept.get("log"), str):
            log = await asyncio.to_thread(self._runs.take_log, kept["log"], commit, (name,))
            if log is not None:
                return _Said(True, GateRun(name, 0, float(kept.get("seconds", 0.0)), log))
        self._runs.told(GateStarted(name, commit, names), names)
        said = await self._review_now(self._review, gate, name, commit, base)
        if said.ok or (said.error is not None and said.error.kind == "gate_failed"):
            self._reviewed[key] = said  # what could not be done is tried again
        run = said.run
        if run is not None:
            if said.ok:
                await asyncio.to_thread(self._memory.put, key, {"log": run.log, "seconds": run.seconds})
            why = said.error.said if said.error is not None else None
            ended = GateEnded(name, commit, said.ok, run.exit, run.seconds, run.log, names, why=why)
            self._runs.told(ended, names)
        return said

    async def _review_now(
        self, review: ReviewRunner, gate: model.ReviewGate, name: str, commit: str, base: str
    ) -> _Said:
        log = await asyncio.to_thread(self._runs.log, commit, name)
        started = time.monotonic()
        place = self._runs.shown_path(log)
        try:
            count, text = await review(base, commit, gate)
        except EngineError as error:
            run = GateRun(name, None, time.monotonic() - started, place)
            said = f"gate `{name}` could not be done: {error.said}"
            text = "\n  next: ".join(filter(None, (said, error.next)))
            await asyncio.to_thread(log.write_text, f"{text}\n", "utf-8", "backslashreplace")
            record = ErrorRecord(_kind(error), said, place, error.next, error.retry_helps)
            return _Said(False, run, error=record)
        await asyncio.to_thread(log.write_text, text, "utf-8", "backslashreplace")
        run = GateRun(name, 1 if count else 0, time.monotonic() - started, place)
        if not count:
            return _Said(True, run)
        findings = "1 finding" if count == 1 else f"{count} findings"
        said = f"gate `{name}` has {findings} of severity `{gate.fail_on}` or higher"
        return _Said(False, run, error=ErrorRecord("gate_failed", said, place, f"see `{place}`"))


def _run(result: Result) -> GateRun:
    return GateRun(result.command, result.exit, result.seconds, result.log)


def _ended(result: Result, commit: str, names: tuple[str, ...], decision: Decision) -> GateEnded:
    return GateEnded(
        result.command,
        commit,
        decision.ok,
        result.exit,
        result.seconds,
        result.log,
        names,
        decision.new_failures,
        decision.flaky,
        decision.why,
        *result.counted,
    )


def _said(result: Result, decision: Decision) -> _Said:
    error = None
    if not decision.ok:
        said = f"gate `{result.command}` {decision.why}"
        error = ErrorRecord("gate_failed", said, result.log, decision.next or f"see `{result.log}`")
    return _Said(decision.ok, _run(result), decision.new_failures, decision.flaky, error, decision.notes)


def _verdict(said: Sequence[_Said]) -> Verdict:
    errors = [each.error for each in said if each.error is not None]
    return Verdict(
        all(each.ok for each in said),
        tuple(each.run for each in said if each.run is not None),
        tuple(dict.fromkeys(test for each in said for test in each.new_failures)),
        tuple(dict.fromkeys(test for each in said for test in each.flaky)),
        errors[0] if errors else None,
        tuple(dict.fromkeys(note for each in said for note in each.notes)),
    )


async def _each(gates: Sequence[T], ask: Callable[[T], Awaitable[_Said]]) -> list[_Said]:
    """Ask for all gates at once; one that cannot be run at all does not end the others."""

    async def one(gate: T) -> _Said:
        try:
            return await ask(gate)
        except ParallelAIError as error:
            return _fault(gate, _kind(error), error.said, error.next, error.retry_helps)
        except OSError as error:
            return _fault(gate, "internal", str(error), None, False)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(gate)) for gate in gates]
    return [task.result() for task in tasks]


def _kind(error: ParallelAIError) -> ErrorKind:
    """The error's kind: what is no fault of the tree must not look like a gate that failed."""
    if isinstance(error, EngineError):
        return next((kind for kind in get_args(ErrorKind) if kind == error.kind), "internal")
    return "internal"


def _fault(gate: object, kind: ErrorKind, said: str, advice: str | None, retry_helps: bool) -> _Said:
    name = shown(gate) if isinstance(gate, tuple) else "review"
    record = ErrorRecord(kind, f"gate `{name}` could not be run: {said}", None, advice, retry_helps)
    return _Said(False, error=record)
