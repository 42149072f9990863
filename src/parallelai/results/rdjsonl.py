"""reviewdog's rdjsonl: one diagnostic a line, with suggested edits, for pull requests on any code host.

The format is reviewdog's `Diagnostic` (proto/rdf): lines and columns count from 1, columns in bytes of UTF-8,
ends are exclusive; a range without columns is of whole lines. Only open findings are in it. reviewdog refuses a
stream for one line of 64 KiB, or for half of a surrogate pair: long texts are cut, and such characters replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from parallelai.records import Finding, RunDocument, Severity
from parallelai.results.formats import RenderContext
from parallelai.results.identity import split_lines
from parallelai.results.json import dump
from parallelai.results.replacement import replacement, split

_SEVERITIES = {
    Severity.CRITICAL: "ERROR",
    Severity.HIGH: "ERROR",
    Severity.MEDIUM: "WARNING",
    Severity.LOW: "INFO",
    Severity.INFO: "INFO",
}


_MOST_MESSAGE = 4_000
_MOST_PATH = 4_000
_MOST_LABEL = 200
_MOST_EDIT_BYTES = 8_000  # six times as many where all are escaped


def render(document: RunDocument, context: RenderContext) -> str:
    """Write a run's open findings, ranked, one a line."""
    texts: dict[str, Sequence[str]] = {}
    rows = (
        dump(_diagnostic(finding, _lines(finding.file, texts, context)), indent=None)
        for finding in document.findings
        if finding.state == "open"
    )
    return "".join(f"{row}\n" for row in rows)


def _lines(file: str, texts: dict[str, Sequence[str]], context: RenderContext) -> Sequence[str]:
    """A file's lines; none where it cannot be read."""
    if file not in texts:
        text = context.read(file)
        texts[file] = split_lines(text) if text else ()
    return texts[file]


def _diagnostic(finding: Finding, lines: Sequence[str]) -> dict[str, Any]:
    diagnostic: dict[str, Any] = {
        "message": _message(finding),
        "location": {"path": _clean(finding.file, _MOST_PATH), "range": _range(finding, lines)},
        "severity": _SEVERITIES[finding.severity],
        "source": {"name": "parallelai"},
        "code": {"value": _clean(finding.rule or finding.category or "general")},
    }
    edits = [edit for edit in _edits(finding, lines) if len(edit["text"].encode()) <= _MOST_EDIT_BYTES]
    return diagnostic | ({"suggestions": edits} if edits else {})


def _clean(text: str, most: int = _MOST_LABEL) -> str:
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _message(finding: Finding) -> str:
    words, code = split(finding.suggestion) if finding.suggestion else ("", None)
    message = finding.message + (" (maybe)" if finding.tier == "maybe" else "")
    rest = words if code is not None else finding.suggestion
    said = f"{message}\n\nSuggestion: {rest}" if rest else message
    return _clean(said or "finding", _MOST_MESSAGE)


def _range(finding: Finding, lines: Sequence[str]) -> dict[str, Any]:
    """The finding's range: in bytes where the file is there to count them, else of whole lines."""
    (first, last), column = finding.line, finding.column
    if column is None or last > len(lines):
        return {"start": {"line": first}, "end": {"line": last}}
    start, end = _byte_column(lines[first - 1], column[0]), _byte_column(lines[last - 1], column[1])
    return {"start": {"line": first, "column": start}, "end": {"line": last, "column": end}}


def _byte_column(line: str, column: int) -> int:
    return len(line[: column - 1].encode("utf-8", "surrogateescape")) + 1


def _edits(finding: Finding, lines: Sequence[str]) -> Iterable[dict[str, Any]]:
    """The edit: from the start of the first line to the end of the last, whose line end stays."""
    edit = replacement(finding, lines)
    if edit is None:
        return
    if edit.text:
        end = {"line": edit.last, "column": _byte_column(lines[edit.last - 1], len(lines[edit.last - 1]) + 1)}
    else:
        end = {"line": edit.last + 1, "column": 1}  # nothing stands for the lines: their line ends go too
    start = {"line": edit.first, "column": 1}
    yield {
        "range": {"start": start, "end": end},
        "text": _clean(edit.text.removesuffix("\n"), len(edit.text)),
    }
