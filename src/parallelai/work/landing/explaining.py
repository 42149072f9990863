"""Why something did not land, in words, and what to do about it. Pure."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from typing import get_args

from parallelai.errors import ENGINE_ERRORS, Internal, ParallelAIError
from parallelai.records import ErrorKind, ErrorRecord
from parallelai.work.landing.merging import Clash
from parallelai.work.landing.records import LAND_WITH, Candidate, Verdict
from parallelai.work.streams.beside import files_and_folders

_ABOUT_THE_TREE = ("gate_failed", "check_failed", "timed_out", "conflict", "invalid")
_SHOWN = 5


def broken_gate(verdict: Verdict) -> None:
    """Raise the `EngineError` of a gate that could not be run at all: no tree would pass it.

    Looking for the candidate at fault would only repeat that.
    """
    error = verdict.error
    if verdict.ok or error is None or error.kind in _ABOUT_THE_TREE:
        return
    raise error_of(error)


def error_of(record: ErrorRecord) -> ParallelAIError:
    """The error that a record tells of, to be raised."""
    return ENGINE_ERRORS.get(record.kind, Internal)(record.said, where=record.where, next=record.next)


def of_error(error: ParallelAIError) -> ErrorRecord:
    """An error that stopped the landing, as it is told for each candidate that had not landed."""
    kind: ErrorKind = "internal"
    for each in get_args(ErrorKind):
        if each == error.kind:
            kind = each
    return ErrorRecord(kind, error.said, error.where, error.next, error.retry_helps)


def request_open(address: str) -> ErrorRecord:
    """Nothing is wrong, and a person has to act: a pull request was opened instead of landing it."""
    return ErrorRecord(
        "unavailable", f"its pull request is open: {address}", next="merge it there, pull, then go on"
    )


def merged_there(where: str, target: str, pull: str) -> ErrorRecord:
    """Its host has merged it, and nobody has pulled that: to propose it once more would be wrong."""
    return ErrorRecord(
        "unavailable", f"`{where}` has it by now, and `{target}` here has not", next=f"`{pull}`, then go on"
    )


def fails_alone(name: str, verdict: Verdict, worktree: str | None = None) -> ErrorRecord:
    """A candidate does not pass on the target as it is."""
    said, where = _gate(verdict)
    refused = f"`{name}` is refused" if verdict.hook else f"the gate fails with `{name}`"
    advice = f"put `{name}` right"
    if worktree is not None:
        again = f"`parallelai work done {name}` and `parallelai work land {name}`"
        advice = f"put it right in `{worktree}`, then {again}"
    return ErrorRecord("gate_failed", f"{refused}: {said}", where, advice)


def fails_without(name: str, verdict: Verdict, target: str) -> tuple[str, str]:
    """A landing that cannot be taken back, because what is left does not pass; what happened, and what to do."""
    said, where = _gate(verdict)
    log = f"see `{where}`; " if where else ""
    other = f"where the gate fails on `{target}` anyway, name another with `--gate`"
    return (
        f"`{name}` stays, for the gate fails without it: {said}",
        f"{log}take back first what needs it; {other}",
    )


def breaks_together(name: str, with_: Sequence[str], verdict: Verdict) -> ErrorRecord:
    """A candidate passes alone, and not with others that landed before it."""
    said, where = _gate(verdict)
    others = _listed(with_) if with_ else "what landed before it"
    advice = f"fit `{name}` to {others}: sync it with the target first"
    return ErrorRecord(
        "gate_failed", f"`{name}` passes alone, and fails with {others}: {said}", where, advice
    )


def conflicts(clash: Clash, with_: Sequence[str], target: str) -> ErrorRecord:
    """A candidate that git cannot merge, and that nobody was asked about."""
    name = clash.candidate.name
    where = f" in {_listed(clash.paths)}" if clash.paths else f": {clash.merged.said[0]}"
    others = _listed(with_) if with_ else f"`{target}`"
    clear = files_and_folders(clash.merged.conflicts, others, f"`{name}`")[:_SHOWN]
    doubts = [clash.why] * bool(clash.why and not clear and clash.why not in clash.merged.said)
    why = "".join(f"; {said}" for said in (*clear, *doubts) if said)
    advice = f"merge `{target}` into `{name}`, settle it there, then land it again"
    if clash.candidate.worktree is not None:
        advice = (
            f"`parallelai work sync {name}` brings both sides into its worktree: settle it there, then"
            f" `parallelai work done {name}` and `parallelai work land {name}`"
        )
    return ErrorRecord("conflict", f"`{name}` conflicts with {others}{where}{why}", next=advice)


def not_settled(clash: Clash, with_: Sequence[str], target: str, error: ErrorRecord) -> ErrorRecord:
    """A conflict that whoever was asked did not settle."""
    plain = conflicts(dataclasses.replace(clash, why=error.said), with_, target)
    advice = f"{named(error.next, clash.candidate)}; or {plain.next}" if error.next else plain.next
    return ErrorRecord("conflict", plain.said, error.where, advice, error.retry_helps)


def named(advice: str, candidate: Candidate, *, is_ready: bool = False) -> str:
    """Advice to land with an engine, with the name in it. What a run could not land has to be called ready again."""
    name = shlex.quote(candidate.name)
    if candidate.worktree is None:
        name = f"--branches {name}"
    again = f"`parallelai work land {name} --engine NAME`"
    if candidate.worktree is not None and not is_ready:
        again = f"`parallelai work done {name}` and then {again}"
    return advice.replace(LAND_WITH, again)


def waits_for(name: str, need: str, error: ErrorRecord | None) -> ErrorRecord:
    """A candidate whose dependency did not land."""
    kind: ErrorKind = error.kind if error is not None else "gate_failed"
    said = f"`{need}`, which `{name}` depends on, did not land"
    return ErrorRecord(kind, said, next=f"land `{need}` first")


def kept_moving(target: str, times: int) -> ErrorRecord:
    """The target was moved by somebody else again and again."""
    said = f"`{target}` was moved by somebody else {times} times while gates ran"
    return ErrorRecord("transient", said, next="land again", retry_helps=True)


def _gate(verdict: Verdict) -> tuple[str, str | None]:
    """What the gates said, and where their output is."""
    failed = next((gate for gate in verdict.gates if gate.exit != 0), None)
    where = failed.log if failed is not None else None
    if verdict.error is not None:
        return verdict.error.said, verdict.error.where or where
    if verdict.new_failures:
        return f"{_listed(verdict.new_failures)} failed", where
    if failed is not None:
        end = "did not end" if failed.exit is None else f"ended with {failed.exit}"
        return f"`{failed.command}` {end}", where
    return "the gate failed", where


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
