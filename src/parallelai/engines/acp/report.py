"""What agents write down of their calls to their models, which their protocol does not say.

How an answer ended, where the protocol says `end_turn` also of one that was refused or cut; and a call that failed
and that the agent is about to make again by itself. Each agent that has one writes its report into a file of its own,
which leaves the machine no more than without: JSON objects, indented, one after the other. Agents may write into it.
How one agent writes is data: `acp_reporters`.
"""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from parallelai.engines.planted import read_plain
from parallelai.records import Usage

FOLDER = "report"
"""In the folder that each agent has for as long as it runs."""
FILE = f"{FOLDER}/calls.json"
SETTINGS = "settings"
"""Beside it, and read-only to the agent: its settings, and what makes it report."""
_BEGIN = "\n{\n"
_MOST_BYTES = 4 * 1024 * 1024
_MISSHAPEN = (
    *(TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError),
    OSError,  # of a time that the system has no room for
)


class Call(Struct, frozen=True):
    """One call of an agent's to its model, as its report has it.

    Attributes:
        session: the session that made it.
        at: when, in ISO 8601, UTC, with milliseconds.
        stop: how its answer ended, as a stop reason of the protocol; None where it brought none.
        trouble: why it failed, where the agent is to make it again.
        failure: why it failed, where the agent is not to make it again.
        wait_seconds: how long the model's server asked to wait before that; None where it did not say.
        is_brief: the server's words, or how long it asks to wait, may be told later.
    """

    session: str
    at: str
    stop: str | None = None
    trouble: str | None = None
    failure: str | None = None
    wait_seconds: float | None = None
    is_brief: bool = False


class Spent(Struct, frozen=True):
    """What one answer took. `answer` is its own id, by which it is told from the others of its session."""

    session: str
    at: str
    answer: str
    usage: Usage


class Reporter(Struct, frozen=True):
    """How an agent is made to report, and what it then writes.

    Attributes:
        variables: of its environment, given the folder that it has.
        read: gives the call that one object of the report stands for; None for any other. May raise what Python
            does for what has not the expected shape.
        marks: texts of which each object that counts has one.
        own_prefix: variables that begin so are the user's own wishes for such a report, which count.
        files: texts that lie beside its settings, by name.
        spent: as `read`, what an object says that an answer took; None where the agent says that otherwise.
    """

    variables: Callable[[Path], Mapping[str, str]]
    read: Callable[[Mapping[str, Any]], Call | None]
    marks: tuple[str, ...]
    own_prefix: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    spent: Callable[[Mapping[str, Any]], Spent] | None = None


def read_report(folder: Path) -> str:
    """Read the end of the report in an agent's folder; empty where there is none."""
    try:
        return read_plain(folder / FILE, _MOST_BYTES, is_tail=True).decode("utf-8", "replace")
    except OSError:
        return ""


class News:
    """What comes to the report in an agent's folder from now on."""

    def __init__(self, folder: Path) -> None:
        """Start after what is there. Looks at the file."""
        self._file = folder / FILE
        try:
            self._at = self._file.stat().st_size
        except OSError:
            self._at = 0
        self._open = b""

    def read(self) -> str:
        """Give the objects that were finished since the last time, as text."""
        try:
            data = read_plain(self._file, _MOST_BYTES, start=self._at)
        except OSError:
            return ""
        self._at += len(data)
        whole, end, self._open = (self._open + data).rpartition(b"\n}\n")
        self._open = self._open[-_MOST_BYTES:]
        return (whole + end).decode("utf-8", "replace")


def objects_of(report: str) -> Iterator[str]:
    """Split a report into its objects, in time that grows with its size alone, whatever was written into it."""
    for part in f"{report}\n".split("\n}\n")[:-1]:
        yield f"{part[part.rfind(_BEGIN) + 1 :]}\n}}"


def stop_of(reporter: Reporter, report: str, session: str, since: str) -> str | None:
    """Say how the last answer of a session's turn ended, as a stop reason of the protocol.

    Args:
        reporter: how the agent reports.
        report: text of the report.
        session: the session's id.
        since: when the turn began, in ISO 8601, UTC, with milliseconds; older answers do not count.

    Returns:
        `end_turn`, `max_tokens` or `refusal`; None where no answer of the turn is written down.
    """
    stops = [call.stop for call in _calls(reporter, report, session, since) if call.stop is not None]
    return stops[-1] if stops else None


def trouble_of(reporter: Reporter, report: str, session: str, since: str) -> Call | None:
    """Give a call of a session's turn that failed and is to be made again: the last one that is told in full.

    None where there is no such call.
    """
    calls = [call for call in _calls(reporter, report, session, since) if call.trouble is not None]
    return next((call for call in reversed(calls) if not call.is_brief), calls[-1] if calls else None)


def failure_of(reporter: Reporter, report: str, session: str, since: str) -> str | None:
    """Say why the last call of a session's turn failed for good; None where it did not."""
    calls = list(_calls(reporter, report, session, since))
    return calls[-1].failure if calls else None


def usage_of(reporter: Reporter, report: str, session: str, since: str, last: Usage) -> Usage | None:
    """Add up what the answers of a session's turn took.

    None where they are not all written down: `last` is what the last of them is known to have taken.
    """
    found: dict[str, Usage] = {}
    if reporter.spent is None:
        return None
    for text in objects_of(report):
        try:
            one = reporter.spent(json.loads(text))
            if one.session == session and one.at >= since:
                found[one.answer] = one.usage
        except _MISSHAPEN:
            continue
    usages = list(found.values())
    if not usages or (usages[-1].input, usages[-1].output) != (last.input, last.output):
        return None
    return functools.reduce(operator.add, usages)


def _calls(reporter: Reporter, report: str, session: str, since: str) -> Iterator[Call]:
    for text in objects_of(report):
        if not any(mark in text for mark in reporter.marks):
            continue
        try:
            call = reporter.read(json.loads(text))
            is_its = call is not None and call.session == session and call.at >= since
        except _MISSHAPEN:
            continue
        if call is not None and is_its:
            yield call
