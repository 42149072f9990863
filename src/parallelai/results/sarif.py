"""SARIF 2.1.0, as code scanning takes it: one run, at most 25,000 results, matched by fingerprint.

Suppressed and refuted findings are in it with SARIF's `suppressions`, those of a baseline with its
`baselineState`; where results must be left out, these and the lowest ranked ones go first, and a notification
says how many went.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from parallelai.records import FileNote, Finding, RunDocument, Severity
from parallelai.results.formats import RenderContext
from parallelai.results.json import dump

MAX_RESULTS = 25_000
"""What code scanning takes of one run; it refuses a file with more."""
MAX_NOTIFICATIONS = 1_000
_NAME_LENGTH = 255
_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.INFO: "note",
}
# Code scanning shows over 9.0 as critical, from 7.0 as high, from 4.0 as medium, the rest as low.
_SECURITY_SCORES = {
    Severity.CRITICAL: "9.5",
    Severity.HIGH: "8.0",
    Severity.MEDIUM: "5.5",
    Severity.LOW: "3.0",
    Severity.INFO: "1.0",
}


def render(document: RunDocument, context: RenderContext) -> str:
    """Write a run's findings as SARIF."""
    # Sorting is stable: within the two halves the document's ranking holds.
    ordered = sorted(document.findings, key=lambda finding: finding.state != "open")
    kept, left_out = ordered[:MAX_RESULTS], len(ordered) - MAX_RESULTS
    rules = _rules(kept)
    numbers = {rule["id"]: number for number, rule in enumerate(rules)}
    has_baseline = any(finding.state == "baseline" for finding in kept)
    run = {
        "tool": {"driver": {"name": "ParallelAI", "version": _version(), "rules": rules}},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "The project's root."}}},
        "invocations": [_invocation(document, max(0, left_out))],
        "properties": {"run": document.run, "leftOut": max(0, left_out)},
    }
    rows = _Rows(numbers, has_baseline)
    return _log(dump(run), ",\n".join(map(rows.write, kept)))


def _log(run: str, results: str) -> str:
    """Put the text together, one result a line: made one by one, 25,000 take a third of the time."""
    before = run.rstrip().removesuffix("}").rstrip()
    return (
        f'{{"$schema": "{_SCHEMA}", "version": "2.1.0", "runs": [{before},\n"results": [\n{results}\n]}}]}}\n'
    )


def _version() -> str:
    from importlib import metadata

    return metadata.version("parallelai")


def _rule_id(finding: Finding) -> str:
    return (finding.rule or finding.category or "general")[:_NAME_LENGTH]


def _rules(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Describe the rules that occur, sorted by id, each by its worst finding."""
    worst: dict[str, Finding] = {}
    for finding in findings:
        rule = _rule_id(finding)
        known = worst.setdefault(rule, finding)
        if finding.severity is not known.severity and finding.severity.rank < known.severity.rank:
            worst[rule] = finding
    return [_rule(id_, worst[id_]) for id_ in sorted(worst)]


def _rule(id_: str, worst: Finding) -> dict[str, Any]:
    """One rule. All that is known of it is its name and category: engines send no descriptions."""
    level = _LEVELS[worst.severity]
    category = worst.category[:_NAME_LENGTH] or "general"
    said = id_ if id_ == category else f"{id_} ({category})"
    properties: dict[str, Any] = {
        "tags": [category],
        "precision": "high" if worst.tier == "must" else "medium",
        "problem.severity": {"error": "error", "warning": "warning", "note": "recommendation"}[level],
    }
    if category == "security":
        properties["security-severity"] = _SECURITY_SCORES[worst.severity]
    return {
        "id": id_,
        "name": id_,
        "shortDescription": {"text": said},
        "fullDescription": {"text": f"Findings of the rule {said}."},
        "help": {
            "text": f"Each finding of {id_} says what is wrong, and how to put it right where that is known."
        },
        "defaultConfiguration": {"level": level},
        "properties": properties,
    }


class _Rows:
    """Writes results, each as one line of JSON: what recurs in thousands of them is written once and kept."""

    def __init__(self, numbers: Mapping[str, int], has_baseline: bool) -> None:
        self._numbers = numbers
        self._has_baseline = has_baseline
        self._heads: dict[tuple[str, Severity, str], str] = {}
        self._places: dict[str, str] = {}
        self._ends: dict[tuple[object, ...], str] = {}

    def write(self, finding: Finding) -> str:
        """Write one result. Of what a finding has, only its place and its id are hardly ever another's."""
        # No `primaryLocationLineHash`: the upload computes it from the source, and warns of any other value.
        marks = f'"partialFingerprints":{{"parallelai/v1":{_quoted(finding.id)}}}'
        place = f'{self._place(finding.file)},"region":{_region(finding)}'
        return f"{{{self._head(finding)},{place}}}}}],{marks},{self._end(finding)}}}"

    def _head(self, finding: Finding) -> str:
        rule, message = _rule_id(finding), _message(finding)
        key = (rule, finding.severity, message)
        if key not in self._heads:
            level = _LEVELS[finding.severity]
            head = {
                "ruleId": rule,
                "ruleIndex": self._numbers[rule],
                "level": level,
                "message": {"text": message},
            }
            self._heads[key] = _inner(head)
        return self._heads[key]

    def _place(self, file: str) -> str:
        if file not in self._places:
            self._places[file] = (
                f'"locations":[{{"physicalLocation":{{{_inner({"artifactLocation": _artifact(file)})}'
            )
        return self._places[file]

    def _end(self, finding: Finding) -> str:
        key = (
            finding.severity,
            finding.category,
            finding.tier,
            finding.by,
            finding.votes,
            finding.task,
            finding.confidence,
            finding.state,
        )
        if key not in self._ends:
            self._ends[key] = _inner(_closing(finding, self._has_baseline))
        return self._ends[key]


def _quoted(name: str) -> str:
    plain = name.isascii() and name.removeprefix("f-").isalnum()  # as all that are made here
    return f'"{name}"' if plain else dump(name, indent=None)


def _inner(data: dict[str, Any]) -> str:
    """Write an object's keys and values, without its braces."""
    return dump(data, indent=None)[1:-1]


def _closing(finding: Finding, has_baseline: bool) -> dict[str, Any]:
    """What stands at the end of a result: what SARIF has no field for, and how it is judged."""
    result: dict[str, Any] = {"properties": _properties(finding)}
    if finding.confidence is not None:
        result["rank"] = round(100 * finding.confidence, 1)
    if finding.state == "suppressed":
        result["suppressions"] = [{"kind": "inSource"}]
    elif finding.state == "refuted":
        result["suppressions"] = [{"kind": "external", "justification": "Looked at again, and refuted."}]
    if has_baseline:
        result["baselineState"] = "unchanged" if finding.state == "baseline" else "new"
    return result


def _message(finding: Finding) -> str:
    message = finding.message or finding.category or "finding"
    return f"{message}\n\nSuggestion: {finding.suggestion}" if finding.suggestion else message


def _artifact(file: str) -> dict[str, str]:
    """A file by its URI below the root; bytes of a name that are not UTF-8 stay what they are."""
    return {"uri": quote(os.fsencode(file)), "uriBaseId": "%SRCROOT%"}


def _region(finding: Finding) -> str:
    (first, last), column = finding.line, finding.column
    columns = "" if column is None else f',"startColumn":{column[0]},"endColumn":{column[1]}'
    return f'{{"startLine":{first},"endLine":{last}{columns}}}'


def _properties(finding: Finding) -> dict[str, Any]:
    """What SARIF has no field for."""
    return {
        "severity": finding.severity.value,
        "category": finding.category,
        "tier": finding.tier,
        "by": list(finding.by),
        "votes": finding.votes,
        "task": finding.task,
    }


def _invocation(document: RunDocument, left_out: int) -> dict[str, Any]:
    """How the run went: files that failed or were skipped, and results that did not fit."""
    files = document.files
    notes = [_notification(note, "error", "failed") for note in files.failed]
    notes += [_notification(note, "note", "skipped") for note in files.skipped]
    cut = len(notes) - MAX_NOTIFICATIONS
    said = [f"{left_out} results ranked lower, or suppressed, were left out: no more than {MAX_RESULTS} fit."]
    said = said if left_out else []
    said += [f"{cut} more files failed or were skipped; the JSON format lists all."] if cut > 0 else []
    general: Sequence[dict[str, Any]] = [{"level": "warning", "message": {"text": text}} for text in said]
    return {
        "executionSuccessful": document.exit in (0, 1),
        "exitCode": document.exit,
        "toolExecutionNotifications": [*general, *notes[:MAX_NOTIFICATIONS]],
    }


def _notification(note: FileNote, level: str, what: str) -> dict[str, Any]:
    return {
        "level": level,
        "message": {"text": f"{what}: {note.why}"},
        "locations": [{"physicalLocation": {"artifactLocation": _artifact(note.file)}}],
    }
