"""What `parallelai work land` and `work undo` print."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from parallelai.cli.failures import Stopped
from parallelai.cli.shared import Shared
from parallelai.cli.streams import INCOMPLETE, gate_runs, stream_row
from parallelai.errors import UsageError
from parallelai.results.printable import visible

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.client.workstreams.asked import Asked
    from parallelai.records import RunDocument, TaskResult
    from parallelai.work.landing.records import Preview
    from parallelai.work.streams.record import Stream

ALREADY = "it had landed already"
"""What a landing notes of a branch that the target holds (`work.landing.session`)."""


def asked_of(given: dict[str, Any]) -> Asked:
    """The options of a landing."""
    from parallelai.client.workstreams.asked import Asked

    return Asked(
        target=given["target"],
        gates=tuple(given["gates"]),
        method=given["method"],
        is_pushed=given["is_pushed"],
        is_red_allowed=given["is_red_allowed"],
        engine=given["engine"],
    )


def land(shared: Shared, **given: Any) -> int:
    """Land workstreams or branches, and print what became of each."""
    names, patterns, asked = given["names"], given["branches"], asked_of(given)
    if patterns and given["is_all"]:
        raise UsageError("`--branches` is for branches that no plan made", next="leave `--all` out")
    if patterns:  # more of them may follow the first
        patterns, names = (*patterns, *names), ()
    if not (patterns or names or given["is_all"]):
        raise UsageError("what is to land?", next="name workstreams, or say `--all`, or `--branches PATTERN`")
    if given["is_all"] and not names:
        left = shared.call(lambda ai: ai.work.landings.nothing_left())
        if left is not None and asked.is_pushed and not given["is_dry"]:
            names = tuple(
                sorted(shared.call(lambda ai: ai.work.landed()))
            )  # these are to be pushed all the same
        if left is not None and not names:
            return _tell_nothing_left(shared, left, is_dry=given["is_dry"])
    if given["is_dry"]:
        return _print_preview(
            shared,
            shared.call(lambda ai: ai.work.landings.preview(names, patterns, asked), is_noted=True),
        )

    async def call(ai: AsyncParallelAI) -> RunDocument:
        landings = ai.work.landings
        return await (landings.land_branches(patterns, asked) if patterns else landings.land(names, asked))

    with _interruptible(["land", *_words(given, names)]):
        document = shared.call(call, is_noted=True)
    from parallelai.results.document import to_data, waiting

    shared.result(to_data(document), lambda: "\n".join(_landed_lines(document)))
    pending = waiting(document.tasks)
    if pending is not None:
        shared.insist(visible(pending))
    return document.exit


def _tell_nothing_left(shared: Shared, left: Mapping[str, str], *, is_dry: bool) -> int:
    """Say that nothing is left to land, and what a landing of all leaves out; 4 where a checkout waits still."""
    lines = ["nothing is left to land", *(f"{name}: left out: {why}" for name, why in left.items())]
    rows = [{"id": name, "status": "skipped", "because": why} for name, why in left.items()]
    shared.result({"tasks": rows}, "\n".join(map(visible, lines)))
    if is_dry:
        return 0
    # Checkouts that could not follow what had landed are moved, if git would by now.
    waits = shared.call(lambda ai: ai.work.follow())
    for said in waits:
        shared.insist(visible(said))
    return INCOMPLETE if waits else 0


def _words(given: dict[str, Any], names: Sequence[str]) -> list[str]:
    """What was said after `work land`, but what is said once for all."""
    words = ["--branches", *given["branches"]] if given["branches"] else []
    words += [*names, *["--all"] * given["is_all"]]
    for flag, values in (("--gate", given["gates"]), ("--target", [given["target"]])):
        words += [word for value in values if value is not None for word in (flag, value)]
    for flag, value in (("--method", given["method"]), ("--engine", given["engine"])):
        words += [flag, value] if value is not None else []
    flags = (("--push", given["is_pushed"]), ("--allow-red-base", given["is_red_allowed"]))
    return [*words, *(flag for flag, is_said in flags if is_said)]


@contextlib.contextmanager
def _interruptible(words: Sequence[str]) -> Iterator[None]:
    """Say after Ctrl-C what goes on with a call of `work`. Raises `Stopped`."""
    try:
        yield
    except KeyboardInterrupt:
        again = visible(shlex.join(["parallelai", "work", *words]))
        raise Stopped(signal.SIGINT, next=f"call `{again}` again; what had landed stays") from None


def _landed_lines(document: RunDocument) -> list[str]:
    about: dict[str, list[str]] = {}
    for row in document.tasks:
        for note in _notes(row):
            about.setdefault(note, []).append(row.id)
    lines = []
    for row, names in _alike(document.tasks):
        lines += _landed_row(row, names)
        lines += [f"  {note}" for note in _notes(row) if len(about[note]) == 1]
    # What is said of a gate is said of all that came by it: once is enough.
    lines += [f"{', '.join(names)}: {note}" for note, names in about.items() if len(names) > 1]
    lines.append(_counted(document.tasks))
    return [visible(line) for line in lines]


def _counted(rows: Sequence[TaskResult]) -> str:
    """How many landed; what the target held already, or was left out, is told apart."""
    from parallelai.client.workstreams.landed_branches import THERE
    from parallelai.records import Outcome

    out = sum(row.status is Outcome.SKIPPED for row in rows)
    landed = [row for row in rows if (row.workstream or {}).get("landed")]
    there = sum((row.workstream or {})["stage"] == THERE for row in landed)
    if not (there or out):
        return f"{len(landed)} of {len(rows)} landed"
    parts = (
        (len(landed) - there, "landed"),
        (there, f"{'was' if there == 1 else 'were'} there already"),
        (len(rows) - len(landed) - out, "not landed"),
        (out, "left out"),
    )
    return ", ".join(f"{count} {word}" for count, word in parts if count)


def _alike(rows: Sequence[TaskResult]) -> list[tuple[TaskResult, str]]:
    """The rows, each with its name; those that the same keeps from landing are one, with the names of all."""
    found: dict[object, list[TaskResult]] = {}
    for row in rows:
        is_same = row.error is not None and not row.text and not (row.workstream or {}).get("landed")
        found.setdefault(row.error if is_same else row.id, []).append(row)
    return [(those[0], ", ".join(row.id for row in those)) for those in found.values()]


def _landed_row(row: TaskResult, name: str) -> list[str]:
    """What became of one, or of several alike."""
    if row.because is not None:
        return [f"{row.id}: left out: {row.because}"]
    landed = (row.workstream or {}).get("landed")
    lines = []
    if landed:
        lines.append(f"{row.id}: {_landing(landed, (row.text or '').splitlines())}")
    said = row.error.said.splitlines() if row.error is not None else [str(row.status)]
    if row.error is not None or not landed:
        word = f"not {'pushed' if landed else 'landed'}: "
        first = f"{name}: {word}{said[0].removeprefix(word) if said else ''}"
        lines += [first, *(f"    {line}" for line in said[1:])]
    if row.error is not None:
        lines += [f"  at {row.error.where}"] * bool(row.error.where)
        lines += [f"  {row.error.next}"] * bool(row.error.next)
    return lines


def _notes(row: TaskResult) -> list[str]:
    """What a person should know of a landing; what keeps the checkout from it is told at the end."""
    from parallelai.results.document import WAITS

    notes = (row.text or "").splitlines()
    return [note for note in notes if note != ALREADY and not note.startswith(WAITS)]


def _landing(landed: dict[str, Any], notes: Sequence[str]) -> str:
    """How one landed; nobody shall take for tested what no gate has seen."""
    where = f"{landed['pending'] or landed['target']} at {landed['commit'][:10]}"
    if ALREADY in notes or landed["before"] == landed["commit"]:
        return f"is on {where} already: nothing of it was new"
    gates = ", ".join(gate["command"] for gate in landed["gates"])
    return f"landed on {where}, {f'behind {gates}' if gates else 'without a gate'}"


def _print_preview(shared: Shared, found: Preview) -> int:
    lines = [f"{number}. {name}" for number, name in enumerate(found.order, 1)]
    lines += [f"{name} has landed already" for name in found.landed]
    lines += [f"{a} × {b}: git cannot merge them; {a} comes first" for a, b in found.conflicts]
    how = dict(found.settled)
    lines += [f"{name}: git cannot merge it with the target" for name in found.with_target if name not in how]
    lines += [f"{name}: {said}" for name, said in found.settled]
    lines += [f"{name} would not land: {said}" for name, said in found.refused]
    lines += [f"note: {note}" for note in found.notes]
    more = f", and about {found.runs_for_each_bad} for each that fails" if found.runs_for_each_bad else ""
    passing = " if all pass" if found.runs else ""
    lines.append(f"{gate_runs(found.runs)}{passing}{more}; nothing was moved")
    shared.result(dataclasses.asdict(found), "\n".join(map(visible, lines)))
    return 0


def undo(shared: Shared, names: Sequence[str], gates: Sequence[str]) -> int:
    """Take landings back; 4 where the checkout that holds the target could not follow."""
    from parallelai.client.workstreams.asked import Asked

    again = ["undo", *names, *(word for gate in gates for word in ("--gate", gate))]
    with _interruptible(again):
        done = shared.call(lambda ai: ai.work.landings.undo(names, Asked(gates=tuple(gates))), is_noted=True)
    rows = [{**stream_row(stream), "pending": _pending(stream)} for stream in done]
    shared.result({"undone": rows}, "\n".join(visible(_undone(stream)) for stream in done))
    notes = (note for each in done if each.undone_by is not None for note in each.undone_by.notes)
    for note in dict.fromkeys(notes):
        shared.insist(visible(note))
    return INCOMPLETE if any(map(_pending, done)) else 0


def _pending(stream: Stream) -> str | None:
    """The branch that holds what took a landing back, while the target could not follow."""
    return stream.undone_by.pending if stream.undone_by is not None else None


def _undone(stream: Stream) -> str:
    pending = _pending(stream)
    where = (
        f"on {pending}, which {stream.target} has still to take over" if pending else f"from {stream.target}"
    )
    again = f"parallelai work land {shlex.quote(stream.name)}"
    if not stream.worktree:  # a branch that landed without a plan
        again = f"parallelai work land --branches {shlex.quote(stream.branch)}"
    return f"{stream.name}: taken back {where}; what it did is on {stream.branch}: `{again}` lands it again"
