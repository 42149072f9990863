"""SARIF 2.1.0, as code scanning takes it: one run, at most 25,000 results, matched by fingerprint.

Suppressed and refuted findings are in it with SARIF's `suppressions`, those of a baseline with its
`baselineState`; where results must be left out, these and the lowest ranked ones go first, and a notification
says how many went.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
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
    rows = (dump(_result(finding, numbers, has_baseline), indent=None) for finding in kept)
    return _log(dump(run), ",\n".join(rows))


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
        known = worst.setdefault(_rule_id(finding), finding)
        if finding.severity.rank < known.severity.rank:
            worst[_rule_id(finding)] = finding
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


def _result(finding: Finding, numbers: dict[str, int], has_baseline: bool) -> dict[str, Any]:
    rule = _rule_id(finding)
    result: dict[str, Any] = {
        "ruleId": rule,
        "ruleIndex": numbers[rule],
        "level": _LEVELS[finding.severity],
        "message": {"text": _message(finding)},
        "locations": [
            {"physicalLocation": {"artifactLocation": _artifact(finding.file), "region": _region(finding)}}
        ],
        # No `primaryLocationLineHash`: the upload computes it from the source, and warns of any other value.
        "partialFingerprints": {"parallelai/v1": finding.id},
        "properties": _properties(finding),
    }
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


def _region(finding: Finding) -> dict[str, Any]:
    region: dict[str, Any] = {"startLine": finding.line[0], "endLine": finding.line[1]}
    if finding.column is not None:
        region |= {"startColumn": finding.column[0], "endColumn": finding.column[1]}
    return region


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
