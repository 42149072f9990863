"""JUnit XML, for whatever shows test reports: a finding is a failure, an engine's fault an error.

The form is that of Jenkins' `junit-10.xsd`, which pytest, GitLab and others keep to. The suite `findings` has a
case for each open finding, and one that passes for each file without; the suite `tasks` has a case for each
task: what failed or is blocked is an error, what a budget, a condition or a person stopped is skipped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from xml.sax.saxutils import escape, quoteattr

from msgspec import Struct

from parallelai.records import Finding, Outcome, RunDocument, TaskResult
from parallelai.results.formats import RenderContext

_NOT_XML = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]")
_ERRORS = (Outcome.FAILED, Outcome.BLOCKED)


class _Case(Struct, frozen=True):
    """One test case; `kind` is `failure`, `error`, `skipped`, or empty for one that passed."""

    group: str
    name: str
    kind: str = ""
    type: str = ""
    message: str = ""
    body: str = ""
    seconds: float = 0.0


def render(document: RunDocument, context: RenderContext) -> str:
    """Write a run's findings and tasks as JUnit XML."""
    suites = {"findings": list(_findings(document)), "tasks": [_task(task) for task in document.tasks]}
    cases = [case for suite in suites.values() for case in suite]
    kinds = Counter(case.kind for case in cases)
    head = {
        "name": "ParallelAI",
        "tests": len(cases),
        "failures": kinds["failure"],
        "errors": kinds["error"],
        "time": _seconds(document.seconds),
    }
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites{_attributes(head)}>"]
    for name, suite in suites.items():
        lines += _suite(name, suite, document.run)
    return "\n".join([*lines, "</testsuites>"]) + "\n"


def _findings(document: RunDocument) -> Iterator[_Case]:
    shown = [finding for finding in document.findings if finding.state == "open"]
    for finding in shown:
        yield _finding(finding)
    of_tasks = {task.error.said for task in document.tasks if task.error is not None}
    for note in document.files.failed:
        if note.why not in of_tasks:  # else the task is the error, once for all of its files
            yield _Case(note.file, "looked at", "error", "unreadable", note.why)
    with_findings = {finding.file for finding in shown}
    for file in document.files.covered:
        if file not in with_findings:
            yield _Case(file, "no findings")


def _finding(finding: Finding) -> _Case:
    rule = finding.rule or finding.category or "general"
    place = f"{finding.file}:{finding.line[0]}" + (f":{finding.column[0]}" if finding.column else "")
    parts = [f"{place}: {finding.severity.value}: {finding.message}", finding.quote or ""]
    parts += [f"Suggestion: {finding.suggestion}"] if finding.suggestion else []
    by = f"{finding.tier}; {finding.votes} of {', '.join(finding.by)}" if finding.by else finding.tier
    return _Case(
        finding.file,
        f"{rule} at line {finding.line[0]} ({finding.id})",
        "failure",
        finding.severity.value,
        finding.message,
        "\n\n".join([*filter(None, parts), f"({by})"]),
    )


def _task(task: TaskResult) -> _Case:
    group = task.engine or "tasks"
    error = task.error
    said = error.said if error else (task.because or task.status.value)
    if task.status is Outcome.OK:
        return _Case(group, task.id, seconds=task.seconds)
    if task.status in _ERRORS:
        body = "\n".join(filter(None, (said, error.where, error.next) if error else (said,)))
        kind = error.kind if error else task.status.value
        return _Case(group, task.id, "error", kind, said, body, task.seconds)
    return _Case(group, task.id, "skipped", task.status.value, said, "", task.seconds)


def _suite(name: str, cases: list[_Case], run: str) -> Iterable[str]:
    kinds = Counter(case.kind for case in cases)
    head = {
        "name": name,
        "tests": len(cases),
        "failures": kinds["failure"],
        "errors": kinds["error"],
        "skipped": kinds["skipped"],
        "time": _seconds(sum(case.seconds for case in cases)),
    }
    yield f"<testsuite{_attributes(head)}>"
    yield f"<properties><property{_attributes({'name': 'run', 'value': run})}/></properties>"
    for case in cases:
        yield from _case(case)
    yield "</testsuite>"


def _case(case: _Case) -> Iterable[str]:
    head = {"classname": case.group, "name": case.name, "time": _seconds(case.seconds)}
    if not case.kind:
        yield f"<testcase{_attributes(head)}/>"
        return
    yield f"<testcase{_attributes(head)}>"
    what = _attributes({"type": case.type, "message": case.message})
    yield f"<{case.kind}{what}>{escape(_text(case.body))}</{case.kind}>"
    yield "</testcase>"


def _attributes(values: Mapping[str, object]) -> str:
    return "".join(f" {key}={quoteattr(_text(str(value)))}" for key, value in values.items())


def _text(text: str) -> str:
    """What XML cannot hold is shown as its code."""
    return _NOT_XML.sub(lambda found: f"\\x{ord(found[0]):02x}", text.replace("\r\n", "\n"))


def _seconds(seconds: float) -> str:
    return f"{max(seconds, 0.0):.3f}"
