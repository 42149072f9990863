"""GitHub's workflow commands: annotations beside the changed lines, and a line for each task that failed.

GitHub shows ten errors and ten warnings of a step and fifty annotations of a job; all are in the log, and the
worst come first. Escapes as in actions/toolkit (`command.ts`): what a repository or an engine wrote can start
no command of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from parallelai.records import Finding, Outcome, RunDocument, Severity
from parallelai.results import summary
from parallelai.results.formats import RenderContext
from parallelai.results.printable import harmless

_LEVELS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "notice",
    Severity.INFO: "notice",
}
_LONGEST = 4_000  # characters of a message; GitHub cuts at 4,096


def render(document: RunDocument, context: RenderContext) -> str:
    """Write a run's open findings, and what went wrong, as workflow commands; the last line sums up."""
    shown = (finding for finding in document.findings if finding.state == "open")
    lines = [_finding(finding) for finding in shown]
    lines += _troubles(document)
    lines.append(_plain(". ".join(summary.reviewed(document) or [summary.task_counts(document)])))
    return "\n".join(lines) + "\n"


def _finding(finding: Finding) -> str:
    properties: dict[str, object] = {
        "file": finding.file,
        "line": finding.line[0],
        "endLine": finding.line[1],
    }
    if finding.column is not None and finding.line[0] == finding.line[1]:
        # GitHub's columns are inclusive, and only good on one line.
        properties |= {"col": finding.column[0], "endColumn": max(finding.column[0], finding.column[1] - 1)}
    rule = finding.rule or finding.category or "general"
    properties["title"] = f"{rule} ({finding.severity.value}{', maybe' if finding.tier == 'maybe' else ''})"
    message = finding.message or rule
    if finding.suggestion:
        message += f"\n\nSuggestion: {finding.suggestion}"
    return _command(_LEVELS[finding.severity], properties, message)


def _troubles(document: RunDocument) -> Iterator[str]:
    """What a reader of the job has to know: tasks that did not end well, files that nobody could look at."""
    for task in document.tasks:
        if task.status in (Outcome.OK, Outcome.SKIPPED):
            continue
        said = f"{task.error.kind}: {task.error.said}" if task.error else task.status.value
        if task.error and task.error.next:
            said += f"\n{task.error.next}"
        level = "error" if task.status in (Outcome.FAILED, Outcome.BLOCKED) else "warning"
        yield _command(level, {"title": f"task {task.id}: {task.status.value}"}, said)
    of_tasks = {task.error.said for task in document.tasks if task.error is not None}
    for note in itertools.islice((n for n in document.files.failed if n.why not in of_tasks), 50):
        yield _command("warning", {"file": note.file, "title": "not looked at"}, note.why)


def _command(level: str, properties: dict[str, object], message: str) -> str:
    said = ",".join(f"{key}={_property(str(value))}" for key, value in _kept(properties.items()))
    return f"::{level} {said}::{_data(harmless(message[:_LONGEST]))}"


def _kept(properties: Iterable[tuple[str, object]]) -> Iterator[tuple[str, object]]:
    return ((key, value) for key, value in properties if str(value))


def _data(text: str) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace("\x85", "").replace("\u2028", " ").replace("\u2029", " ")


def _property(text: str) -> str:
    return _data(harmless(text)).replace(":", "%3A").replace(",", "%2C")


def _plain(text: str) -> str:
    """A line that is no command whatever it holds."""
    return _data(harmless(text)).replace("::", ": :").replace("##[", "## [")
