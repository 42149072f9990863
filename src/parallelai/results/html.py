"""One HTML file that a person likes to read: a summary, a filter, findings with their source, tasks.

It holds everything that it needs and loads nothing: its content security policy allows its own style and
script, by hash, and nothing else. All that repositories and engines wrote is escaped, and what would be
invisible or turn the direction of text is shown as its code. It can be read without its script, too.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from importlib import resources

from parallelai.records import Finding, FindingState, Outcome, RunDocument, Severity, TaskResult
from parallelai.results import summary
from parallelai.results.formats import RenderContext
from parallelai.results.identity import split_lines
from parallelai.results.printable import visible
from parallelai.results.replacement import replacement, split

MOST_FINDINGS = 5_000
"""More than these are not in the page, which says so: a browser would become slow."""
MOST_ROWS = 1_000
_AROUND = 2  # lines of source before and after
_SPAN = 12  # lines of source in between
_LINE = 240  # characters of a line
_CODE = re.compile(r"(?s)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_OTHER_STATES: tuple[FindingState, ...] = ("baseline", "suppressed", "refuted")


def render(document: RunDocument, context: RenderContext) -> str:
    """Write a run's document as a page."""
    style, script = _asset("report.css"), _asset("report.js")
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'"
    title = f"ParallelAI: {' '.join(summary.reviewed(document)[:1]) or summary.task_counts(document)}"
    head = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}; form-action \'none\'">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{_text(title)}</title>",
        f"<style>{style}</style></head><body>",
    ]
    ends = [f"<script>{script}</script>", "</body></html>"]
    return "\n".join([*head, *_body(document, context), *ends]) + "\n"


def _asset(name: str) -> str:
    return resources.files("parallelai.results").joinpath("assets", name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _body(document: RunDocument, context: RenderContext) -> Iterator[str]:
    kept = document.findings[:MOST_FINDINGS]
    first, *others = [*summary.reviewed(document), ""]
    head, _, looked_at = first.partition("; ")
    title = head.partition(":")[0]  # how many of each severity stands below
    yield f"<header><h1>{_text(title or summary.task_counts(document))}</h1>"
    facts = [looked_at, document.plan or "", summary.time(document), summary.cost(document)]
    facts += [summary.reused(document.tasks), summary.engines(document.tasks)]
    yield f'<p class="soft">{_text(" · ".join(fact for fact in facts if fact))}</p>'
    yield from (f'<p class="soft">{_text(sentence)}</p>' for sentence in others if sentence)
    yield from _counts(document)
    yield "</header><main>"
    if kept:
        yield from _filter(kept)
        yield from _files(kept, context)
    elif document.is_review and document.files.covered:
        yield '<p class="none">Nothing was found.</p>'
    if len(document.findings) > len(kept):
        rest = len(document.findings) - len(kept)
        yield f'<p class="none">{rest:,} more findings, ranked lower, are in the JSON format.</p>'
    yield from _troubles(document)
    yield from _tasks(document)
    yield f"</main><footer>Run {_text(document.run)}, ended with exit code {document.exit}</footer>"


def _counts(document: RunDocument) -> Iterator[str]:
    """How many findings of each severity are open, and how the tasks ended."""
    counted = Counter(finding.severity for finding in document.findings if finding.state == "open")
    yield '<ul class="counts" aria-label="Open findings by severity, tasks by outcome">'
    if counted:
        for severity in Severity:
            yield f'<li class="{severity.value}"><b>{counted[severity]:,}</b> {severity.value}</li>'
    for outcome in Outcome:
        if document.counts.get(outcome):
            said = f"{summary.plural(document.counts[outcome], 'task')} {outcome.value.replace('_', ' ')}"
            yield f'<li class="{outcome.value}"><b>{document.counts[outcome]:,}</b> {said}</li>'
    yield "</ul>"


# --- findings


def _filter(findings: Iterable[Finding]) -> Iterator[str]:
    listed = list(findings)
    severities = Counter(finding.severity for finding in listed)
    states = Counter(finding.state for finding in listed)
    yield '<div class="bar" role="search" hidden>'
    yield '<input type="search" placeholder="Filter by file, rule or words ( / )" aria-label="Filter findings">'
    for severity in Severity:
        if severities[severity]:
            yield _button("severity", severity.value, f"{severity.value} {severities[severity]:,}")
    if any(finding.tier == "maybe" for finding in listed):
        count = sum(finding.tier == "maybe" for finding in listed)
        yield _button("tier", "maybe", f"maybe {count:,}")
    for state in _OTHER_STATES:
        if states[state]:
            yield _button("state", state, f"{state} {states[state]:,}", is_pressed=False)
    yield '<span id="shown" class="soft" aria-live="polite"></span></div>'


def _button(kind: str, value: str, label: str, *, is_pressed: bool = True) -> str:
    pressed = "true" if is_pressed else "false"
    return (
        f'<button type="button" class="{value}" data-kind="{kind}" value="{value}" aria-pressed="{pressed}">'
        f"{label}</button>"
    )


def _files(findings: Iterable[Finding], context: RenderContext) -> Iterator[str]:
    """The findings file by file, the file of the worst first, in it the worst first; open ones before others."""
    files: dict[str, list[Finding]] = {}
    for finding in sorted(findings, key=lambda one: one.state != "open"):
        files.setdefault(finding.file, []).append(finding)
    for file, found in files.items():
        text = context.read(file)
        lines = split_lines(text) if text else []
        yield f'<section class="file" data-file="{_text(file)}"><div class="name"><h3>{_text(file)}</h3>'
        yield f'<span class="soft">{summary.number(len(found), "finding")}</span></div>'
        for finding in found:
            yield from _finding(finding, lines)
        yield "</section>"


def _finding(finding: Finding, lines: list[str]) -> Iterator[str]:
    first, last = finding.line
    kinds = (
        f'data-severity="{finding.severity.value}" data-tier="{finding.tier}" data-state="{finding.state}"'
    )
    yield f'<article class="finding {finding.severity.value}" id="{_text(finding.id)}" {kinds}>'
    yield f'<div class="head"><span class="severity">{finding.severity.value}</span>'
    yield f'<span class="rule">{_text(finding.rule or finding.category or "general")}</span>'
    place = f"line {first}" if first == last else f"lines {first}–{last}"
    yield f'<span class="soft">{place}</span>'
    tags = [finding.category if finding.rule else "", "maybe" if finding.tier == "maybe" else ""]
    tags += [finding.state if finding.state != "open" else ""]
    tags += [f"{finding.votes} votes" if finding.votes > 1 else "", ", ".join(finding.by)]
    tags += [f"{finding.confidence:.0%} sure" if finding.confidence is not None else ""]
    yield from (f'<span class="tag">{_text(tag)}</span>' for tag in tags if tag)
    yield f'</div><div class="message">{_prose(finding.message)}</div>'
    yield from _source(finding, lines)
    if finding.suggestion:
        words, code = split(finding.suggestion)
        if words:
            yield f'<div class="advice">→ {_prose(words)}</div>'
        if code is not None:
            edit = replacement(finding, lines)
            yield from _edit(code if edit is None else edit.text)
    yield "</article>"


def _source(finding: Finding, lines: list[str]) -> Iterator[str]:
    """The source with what is meant marked; as the run quoted it where the file is not what it was."""
    first, last = finding.line
    quoted = split_lines(finding.quote) if finding.quote else []
    if quoted and [line.strip() for line in lines[first - 1 : first]] != [quoted[0].strip()]:
        start, shown = first, quoted[:_SPAN]
    else:
        start = max(1, first - _AROUND)
        shown = lines[start - 1 : min(last + _AROUND, first + _SPAN)]
    while start < first and shown and not shown[0].strip():
        start, shown = start + 1, shown[1:]
    while len(shown) > 1 and start + len(shown) - 1 > last and not shown[-1].strip():
        shown = shown[:-1]
    if not any(line.strip() for line in shown):
        return
    yield '<div class="source">'
    for number, line in enumerate(shown, start):
        is_hit = first <= number <= last
        yield f"<div{' class=hit' if is_hit else ''}><i>{number}</i><code>{_marked(line, number, finding)}</code></div>"
    yield "</div>"


def _marked(line: str, number: int, finding: Finding) -> str:
    """A source line, cut to what can be read, with the finding's columns marked."""
    column = finding.column
    if column is None or not finding.line[0] <= number <= finding.line[1]:
        return _code(line[:_LINE]) + ("…" if len(line) > _LINE else "")
    start = column[0] - 1 if number == finding.line[0] else len(line) - len(line.lstrip())
    stop = column[1] - 1 if number == finding.line[1] else len(line)
    start, stop = min(start, len(line)), min(max(stop, start), len(line))
    left = max(0, start - _LINE // 3) if stop > _LINE else 0
    right = min(len(line), left + _LINE)
    before, meant, after = line[left:start], line[start : min(stop, right)], line[min(stop, right) : right]
    marked = f"<mark>{_code(meant)}</mark>" if meant else ""
    return ("…" if left else "") + _code(before) + marked + _code(after) + ("…" if right < len(line) else "")


def _edit(code: str) -> Iterator[str]:
    yield '<div class="source" aria-label="suggested instead">'
    for line in split_lines(code.removesuffix("\n"))[:40]:
        yield f'<div class="come"><i>+</i><code>{_code(line[:_LINE])}</code></div>'
    yield "</div>"


# --- tasks and files


def _troubles(document: RunDocument) -> Iterator[str]:
    files = document.files
    if files.failed:
        yield f"<h2>{summary.number(len(files.failed), 'file')} could not be looked at</h2><ul>"
        for note in files.failed[:MOST_ROWS]:
            yield f"<li><code>{_text(note.file)}</code> {_text(note.why)}</li>"
        yield "</ul>"
    if files.skipped:
        said = summary.number(len(files.skipped), "file")
        yield f"<h2>Skipped</h2><details><summary>{said} skipped</summary><ul>"
        for note in files.skipped[:MOST_ROWS]:
            yield f"<li><code>{_text(note.file)}</code> {_text(note.why)}</li>"
        yield "</ul></details>"


def _tasks(document: RunDocument) -> Iterator[str]:
    """All tasks; those that did not end well first, and open."""
    if not document.tasks:
        return
    bad = [task for task in document.tasks if task.status not in (Outcome.OK, Outcome.SKIPPED)]
    others = [task for task in document.tasks if task.status in (Outcome.OK, Outcome.SKIPPED)]
    yield "<h2>Tasks</h2>"
    if bad:
        yield from _table(bad)
    if others:
        yield f"<details{'' if bad or len(others) > 20 else ' open'}><summary>{summary.number(len(others), 'task')}"
        yield " done or skipped</summary>"
        yield from _table(others)
        yield "</details>"


def _table(tasks: list[TaskResult]) -> Iterator[str]:
    yield "<table><thead><tr><th>Task</th><th>Outcome</th><th>Engine</th><th>Said</th><th>Time</th></tr></thead><tbody>"
    for task in tasks[:MOST_ROWS]:
        said = task.text or (f"because {task.because}" if task.because else "")
        if task.error:
            said = "\n".join(filter(None, (f"{task.error.kind}: {task.error.said}", task.error.next)))
        yield f'<tr class="{task.status.value}"><td><code>{_text(task.id)}</code></td>'
        yield f"<td><b>{task.status.value}</b></td><td>{_text(task.engine or '')}</td>"
        yield f'<td class="message">{_prose(said[:2_000])}</td>'
        yield f'<td class="number">{summary.seconds(task.seconds) if task.attempts else ""}</td></tr>'
    if len(tasks) > MOST_ROWS:
        yield f'<tr><td colspan="5">{len(tasks) - MOST_ROWS:,} more are in the JSON format</td></tr>'
    yield "</tbody></table>"


# --- escapes


def _text(text: str) -> str:
    return escape(visible(text))


def _code(text: str) -> str:
    """Source as it stands, but for what nobody could see. Tabs stay tabs."""
    return "\t".join(escape(visible(part)) for part in text.split("\t"))


def _prose(text: str) -> str:
    """Words with line ends, and code where backticks say so."""
    parts: list[str] = []
    end = 0
    for found in _CODE.finditer(text):
        parts += [_lines(text[end : found.start()]), f"<code>{_text(found[2])}</code>"]
        end = found.end()
    return "".join([*parts, _lines(text[end:])])


def _lines(text: str) -> str:
    return "\n".join(_text(line) for line in split_lines(text))
