"""Read the findings of other people's analysers from SARIF 2.1.0 (OASIS).

The document is a stranger's: what has the wrong shape raises `Invalid`, and results that name no place in
the project are counted, not kept. Both URIs below the project's folder and ones relative to it are taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from msgspec import Struct, field

from parallelai.engines.untrusted import MAX_FIELD_CHARS, MAX_LINE, clean, safe_path, shorten
from parallelai.errors import Invalid
from parallelai.records import Finding, Severity

Read = Callable[[str], str | None]
"""Gives the text of a file of the project, None where it cannot be read."""

_LEVELS = {
    "error": Severity.HIGH,
    "warning": Severity.MEDIUM,
    "note": Severity.LOW,
    "none": Severity.INFO,
}
# `security-severity` is a CVSS score; the bounds are those that code scanning uses.
_SCORES = ((9.0, Severity.CRITICAL), (7.0, Severity.HIGH), (4.0, Severity.MEDIUM), (0.0, Severity.LOW))
_CATEGORIES = (
    ("security", ("security", "cwe", "owasp", "vulnerab", "injection")),
    ("bug", ("correctness", "bug", "reliability", "possible error", "problem")),
    ("performance", ("performance",)),
    ("style", ("style", "format", "layout", "convention")),
    ("maintainability", ("maintainability", "best-practice", "best practice", "suggestion", "readability")),
)
_MAX_DEPTH = 5
_MAX_NOTES = 20


class SarifReport(Struct, frozen=True):
    """What a document said.

    `left_out` counts results without a usable place in the project; `suppressed` those that the tool itself
    was told to pass over; `notes` are errors that the tool reported about its own run.
    """

    findings: tuple[Finding, ...] = ()
    left_out: int = 0
    suppressed: int = 0
    notes: tuple[str, ...] = ()


class _Run(Struct):
    """One `run` of the document, with what its results refer to by number."""

    data: Mapping[str, Any]
    root: str | None
    read: Read | None
    rules: list[Mapping[str, Any]] = field(default_factory=list)
    extensions: list[list[Mapping[str, Any]]] = field(default_factory=list)
    by_id: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)


def read_sarif(data: Any, *, root: str | None = None) -> tuple[Finding, ...]:
    """Give the findings of a SARIF document; `root` is the project's absolute folder. Raises `Invalid`."""
    return read_report(data, root=root).findings


def read_report(data: Any, *, root: str | None = None, read: Read | None = None) -> SarifReport:
    """Read a SARIF document whole.

    With `read`, columns that count UTF-16 code units, SARIF's default, become code points. Raises `Invalid`
    if the data are not SARIF.
    """
    document = _object(data, "the document")
    if "runs" not in document:
        raise Invalid("the document is not SARIF: it has no `runs`")
    findings: list[Finding] = []
    notes: list[str] = []
    left_out = suppressed = 0
    for item in _list(document, "runs"):
        run = _open_run(_object(item, "a run"), root, read)
        notes.extend(_notifications(run.data))
        for result in _list(run.data, "results"):
            result = _object(result, "a result")
            if _is_suppressed(result):
                suppressed += 1
            elif not _is_about_a_problem(result):
                continue
            elif (finding := _finding(result, run)) is None:
                left_out += 1
            else:
                findings.append(finding)
    return SarifReport(tuple(findings), left_out, suppressed, tuple(notes[:_MAX_NOTES]))


def _open_run(data: Mapping[str, Any], root: str | None, read: Read | None) -> _Run:
    tool = _get(data, "tool")
    run = _Run(data, root, read, rules=_objects(_get(tool, "driver"), "rules"))
    run.extensions = [_objects(extension, "rules") for extension in _objects(tool, "extensions")]
    for rule in (*run.rules, *(rule for rules in run.extensions for rule in rules)):
        if name := _text(rule, "id"):
            run.by_id.setdefault(name, rule)
    return run


def _finding(result: Mapping[str, Any], run: _Run) -> Finding | None:
    rule_id, rule = _rule(result, run)
    place = _place(result, run)
    message = _message(result, rule, rule_id)
    if place is None or not message:
        return None
    file, region = place
    line = _lines(region)
    fixes = _objects(result, "fixes")
    suggestion = _words(_text(_get(fixes[0], "description"), "text")) if fixes else ""
    return Finding(
        file=file,
        line=line,
        column=_columns(region, line, file, run),
        severity=_severity(result, rule),
        message=message,
        category=_category(rule, rule_id),
        rule=shorten(" ".join(clean(rule_id).split()), 200) or None,
        suggestion=suggestion or None,
    )


def _rule(result: Mapping[str, Any], run: _Run) -> tuple[str, Mapping[str, Any]]:
    """Find the rule of a result: by its number in the driver or an extension, else by its name."""
    reference = _get(result, "rule")
    name = _text(result, "ruleId") or _text(reference, "id")
    component = _number(_get(reference, "toolComponent"), "index")
    rules = run.rules
    if component is not None:
        rules = run.extensions[component] if component < len(run.extensions) else []
    index = _number(result, "ruleIndex")
    if index is None:
        index = _number(reference, "index")
    found: Mapping[str, Any] = rules[index] if index is not None and index < len(rules) else {}
    # A rule's id may go on after a slash in results (SARIF §3.52.4): `CA1000/1` is a case of `CA1000`.
    found = found or run.by_id.get(name) or run.by_id.get(name.rpartition("/")[0]) or {}
    return name or _text(found, "id"), found


def _severity(result: Mapping[str, Any], rule: Mapping[str, Any]) -> Severity:
    for holder in (result, rule):
        score = _get(holder, "properties").get("security-severity")
        try:
            value = float(score) if isinstance(score, str | int | float) else None
        except (ValueError, OverflowError):
            value = None
        if value is not None and 0 < value <= 10:
            return next(severity for least, severity in _SCORES if value >= least)
    if _text(result, "kind") == "informational":
        return Severity.INFO
    level = _text(result, "level") or _text(_get(rule, "defaultConfiguration"), "level")
    return _LEVELS.get(level, Severity.MEDIUM)


def _category(rule: Mapping[str, Any], rule_id: str) -> str:
    properties = _get(rule, "properties")
    tags = properties.get("tags")
    words = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    words += [
        value for key in ("category", "problem.severity") if isinstance(value := properties.get(key), str)
    ]
    if "security-severity" in properties:
        return "security"
    said = " ".join([*words, rule_id]).lower()
    for category, marks in _CATEGORIES:
        if any(mark in said for mark in marks):
            return category
    return "general"


def _message(result: Mapping[str, Any], rule: Mapping[str, Any], rule_id: str) -> str:
    message = _get(result, "message")
    text = _text(message, "text") or _text(message, "markdown")
    if not text and (key := _text(message, "id")):
        text = _text(_get(_get(rule, "messageStrings"), key), "text")
    arguments = message.get("arguments")
    for number, argument in enumerate(arguments[:20] if isinstance(arguments, list) else ()):
        text = shorten(text.replace(f"{{{number}}}", str(argument)), MAX_FIELD_CHARS)
    text = text or _text(_get(rule, "shortDescription"), "text") or rule_id
    return _words(text)


def _place(result: Mapping[str, Any], run: _Run) -> tuple[str, Mapping[str, Any]] | None:
    """Give the first location in the project, as a path and a region."""
    for location in _objects(result, "locations")[:100]:
        physical = _get(location, "physicalLocation")
        artifact = _get(physical, "artifactLocation")
        index = _number(artifact, "index")
        if not _text(artifact, "uri") and index is not None:
            artifacts = _objects(run.data, "artifacts")
            artifact = _get(artifacts[index], "location") if index < len(artifacts) else {}
        path = _path(artifact, run)
        if path is not None:
            return path, _get(physical, "region")
    return None


def _path(artifact: Mapping[str, Any], run: _Run) -> str | None:
    uri = _uri(artifact, run, _MAX_DEPTH)
    parts = _split(uri)
    if parts is None or parts[0] not in ("", "file"):
        return None
    roots = (run.root, os.path.realpath(run.root)) if run.root else (None,)
    for root in roots:
        try:
            return safe_path(parts[1], root)
        except Invalid:
            continue
    return None


def _split(uri: str) -> tuple[str, str] | None:
    """The scheme and the decoded path of a URI; None if it is none."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    return parts.scheme.lower(), unquote(parts.path)


def _uri(artifact: Mapping[str, Any], run: _Run, depth: int) -> str:
    """Resolve a location's URI against the base that it names, which may name another."""
    uri = _text(artifact, "uri")
    base_id = _text(artifact, "uriBaseId")
    if not base_id or depth == 0 or uri.startswith("/") or ":" in uri.partition("/")[0]:
        return uri
    base = _uri(_get(_get(run.data, "originalUriBaseIds"), base_id), run, depth - 1)
    return f"{base.rstrip('/')}/{uri}" if base else uri


def _lines(region: Mapping[str, Any]) -> tuple[int, int]:
    first = min(_number(region, "startLine") or 1, MAX_LINE)
    last = min(_number(region, "endLine") or first, MAX_LINE)
    return first, max(first, last)


def _columns(
    region: Mapping[str, Any], line: tuple[int, int], file: str, run: _Run
) -> tuple[int, int] | None:
    start, end = _number(region, "startColumn"), _number(region, "endColumn")
    if not start:
        return None
    if _text(run.data, "columnKind") != "unicodeCodePoints" and run.read is not None:
        start = _code_points(run, file, line[0], start)
        end = _code_points(run, file, line[1], end) if end else None
    start = min(start, MAX_LINE)
    end = min(end or start + 1, MAX_LINE)
    return (start, max(start, end)) if line[0] == line[1] else (start, end)


def _code_points(run: _Run, file: str, line: int, column: int) -> int:
    """Turn a column in UTF-16 code units into one in code points."""
    if file not in run.texts:
        text = run.read(file) if run.read else None
        run.texts[file] = (text or "").split("\n")
    lines = run.texts[file]
    text = lines[line - 1] if line <= len(lines) else ""
    if text.isascii():
        return column
    units = text.encode("utf-16-le", "surrogatepass")[: 2 * (column - 1)]
    beyond = column - 1 - len(units) // 2
    return len(units.decode("utf-16-le", "replace")) + 1 + beyond


def _is_suppressed(result: Mapping[str, Any]) -> bool:
    suppressions = _objects(result, "suppressions")
    return any(_text(item, "status") in ("", "accepted") for item in suppressions)


def _is_about_a_problem(result: Mapping[str, Any]) -> bool:
    passed = _text(result, "kind") in ("pass", "notApplicable")
    return not passed and _text(result, "baselineState") != "absent"


def _notifications(run: Mapping[str, Any]) -> Iterable[str]:
    """What the tool said went wrong in its own run."""
    for invocation in _objects(run, "invocations"):
        for key in ("toolExecutionNotifications", "toolConfigurationNotifications"):
            for item in _objects(invocation, key):
                if _text(item, "level") == "error" and (said := _text(_get(item, "message"), "text")):
                    yield shorten(" ".join(clean(said).split()), 300)


def _words(text: str) -> str:
    return shorten(clean(text).strip(), MAX_FIELD_CHARS)


# Reading a stranger's JSON: what is absent is empty, what is of another type is an error.


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Invalid(f"the document is not SARIF: {what} is not an object")
    return value


def _list(holder: Mapping[str, Any], key: str) -> list[Any]:
    value = holder.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Invalid(f"the document is not SARIF: `{key}` is not a list")
    return value


def _objects(holder: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    return [_object(item, f"an item of `{key}`") for item in _list(holder, key)]


def _get(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = holder.get(key)
    return {} if value is None else _object(value, f"`{key}`")


def _text(holder: Mapping[str, Any], key: str) -> str:
    value = holder.get(key)
    return value if isinstance(value, str) else ""


def _number(holder: Mapping[str, Any], key: str) -> int | None:
    """A whole number that is not negative; -1 is SARIF's word for none."""
    value = holder.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
