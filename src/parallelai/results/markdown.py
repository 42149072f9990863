"""Markdown for a pull request's comment: a summary, then findings by file, the worst file first.

GitHub takes 65,536 characters of a comment: what does not fit is counted at the end. What repositories and
engines wrote is escaped, so that it can add no link, picture, heading, mention or HTML.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from parallelai.records import Finding, Outcome, RunDocument, Severity
from parallelai.results import summary
from parallelai.results.formats import RenderContext
from parallelai.results.identity import split_lines
from parallelai.results.printable import harmless, visible
from parallelai.results.replacement import split

MOST_CHARACTERS = 60_000
"""Less than a comment may have: others may add something around it."""
MARK = "<!-- parallelai -->"
"""The first line, by which a later comment can find the one that it replaces."""

_ICONS = {
    Severity.CRITICAL: "🟣",
    Severity.HIGH: "🔴",
    Severity.MEDIUM: "🟠",
    Severity.LOW: "🟡",
    Severity.INFO: "⚪",
}
_MESSAGE = 2_000
_CODE_LINES = 12
_TROUBLES = 20
_SPECIAL = re.compile(r"([\\`*_\[\]<>#!|~$&@]|:(?=//))")
_HOST = re.compile(r"(www)\.", re.IGNORECASE)
_LEADING = re.compile(r"^(\s*\d*)([-+=.)])", re.MULTILINE)
_CODE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)")


def render(document: RunDocument, context: RenderContext) -> str:
    """Write a run's summary and open findings as GitHub's Markdown."""
    shown = [finding for finding in document.findings if finding.state == "open"]
    head = "\n".join([MARK, *_head(document, shown)])
    tail = "\n".join(_tail(document))
    room = MOST_CHARACTERS - len(head) - len(tail) - 200
    blocks: list[str] = []
    for count, block in _blocks(shown):
        room -= len(block) + 1
        if room < 0:
            rest = len(shown) - count
            blocks.append(f"\n… and {rest:,} more, ranked lower: the JSON and HTML formats hold all.")
            break
        blocks.append(block)
    return "\n".join([head, *blocks, tail]).rstrip() + "\n"


def _head(document: RunDocument, shown: list[Finding]) -> Iterator[str]:
    yield "## ParallelAI"
    yield ""
    first, *others = [*summary.reviewed(document), ""]
    yield f"**{text(first or summary.task_counts(document))}**"
    for sentence in filter(None, others):
        yield ""
        yield text(sentence)
    counted = Counter(finding.severity for finding in shown)
    if counted:
        yield ""
        yield "| " + " | ".join(f"{_ICONS[one]} {one.value}" for one in Severity if counted[one]) + " |"
        yield "| " + " | ".join("---:" for one in Severity if counted[one]) + " |"
        yield "| " + " | ".join(f"{counted[one]:,}" for one in Severity if counted[one]) + " |"


def _blocks(shown: list[Finding]) -> Iterator[tuple[int, str]]:
    """The findings file by file, each with how many came before it."""
    files: dict[str, list[Finding]] = {}
    for finding in shown:
        files.setdefault(finding.file, []).append(finding)
    count = 0
    for file, findings in files.items():
        heading = f"\n### {code(file)}\n"
        for finding in findings:
            yield count, heading + "\n".join(_finding(finding))
            heading = ""
            count += 1


def _finding(finding: Finding) -> Iterator[str]:
    first, last = finding.line
    place = f"line {first}" if first == last else f"lines {first}–{last}"
    rule = code(finding.rule or finding.category or "general")
    doubts = ["maybe"] if finding.tier == "maybe" else []
    doubts += [f"{finding.votes} votes: {', '.join(finding.by)}"] if finding.votes > 1 else []
    standing = f" *({text('; '.join(doubts))})*" if doubts else ""
    yield f"- {_ICONS[finding.severity]} **{finding.severity.value}** {place}, {rule}{standing}  "
    yield _indented(prose(finding.message[:_MESSAGE]))
    if finding.quote:
        yield from _fence(finding.quote, "")
    words, replaced = split(finding.suggestion) if finding.suggestion else ("", None)
    if words:
        yield ""
        yield _indented(f"→ {prose(words[:_MESSAGE])}")
    if replaced is not None:
        yield ""
        yield "  Instead:"
        yield from _fence(replaced, "")


def _fence(quoted: str, language: str) -> Iterator[str]:
    """A block of code whose fence is longer than any in it."""
    lines = split_lines(quoted.rstrip("\n"))
    longest = max((len(run) for run in re.findall("`{3,}", quoted)), default=2)
    yield ""
    yield f"  {'`' * (longest + 1)}{language}"
    yield from ("  " + "\t".join(map(visible, line.split("\t"))) for line in lines[:_CODE_LINES])
    if len(lines) > _CODE_LINES:
        yield "  …"
    yield f"  {'`' * (longest + 1)}"


def _tail(document: RunDocument) -> Iterator[str]:
    troubles = list(_troubles(document))
    if troubles:
        yield ""
        yield "<details><summary>What could not be done</summary>"
        yield ""
        yield from troubles[:_TROUBLES]
        if len(troubles) > _TROUBLES:
            yield f"- … and {len(troubles) - _TROUBLES:,} more"
        yield ""
        yield "</details>"
    facts = [summary.task_counts(document), summary.reused(document.tasks)]
    facts += [summary.time(document), summary.cost(document)]
    facts += [summary.engines(document.tasks), f"run {document.run}"]
    yield ""
    yield f"<sub>{text(' · '.join(fact for fact in facts if fact))}</sub>"


def _troubles(document: RunDocument) -> Iterator[str]:
    for task in document.tasks:
        if task.status not in (Outcome.OK, Outcome.SKIPPED):
            said = task.error.said if task.error else task.status.value
            yield f"- {code(task.id)} {task.status.value}: {text(visible(said[:300]))}"
    of_tasks = {task.error.said for task in document.tasks if task.error is not None}
    for note in document.files.failed:
        if note.why not in of_tasks:
            yield f"- {code(note.file)} not looked at: {text(visible(note.why[:300]))}"


# --- escapes


def prose(said: str) -> str:
    """Escape words, and keep what stands in backticks as code."""
    parts: list[str] = []
    end = 0
    said = harmless(said).replace("\r\n", "\n").replace("\r", "\n")
    for found in _CODE.finditer(said):
        parts += [text(said[end : found.start()]), code(found[2])]
        end = found.end()
    return "".join([*parts, text(said[end:])])


def text(said: str) -> str:
    """Escape words: nothing in them is Markdown, HTML, a mention or a link."""
    # Mentions, numbers of issues and bare hosts are linked whatever backslashes say: a space without width parts
    # them.
    escaped = _SPECIAL.sub(r"\\\1", harmless(said)).replace("\\@", "@\u200b").replace("\\#", "#\u200b")
    escaped = _HOST.sub("\\1\u200b.", escaped)
    return _LEADING.sub(r"\1\\\2", escaped).replace("\\&", "&amp;").replace("\\<", "&lt;")


def code(said: str) -> str:
    """A span of code whose backticks are more than any in it."""
    said = visible(said) or " "
    longest = max((len(run) for run in re.findall("`+", said)), default=0)
    pad = " " if said[0] in "` " or said[-1] in "` " else ""
    return f"{'`' * (longest + 1)}{pad}{said}{pad}{'`' * (longest + 1)}"


def _indented(lines: str) -> str:
    return "\n".join(f"  {line.strip()}" for line in _not_blank(lines.split("\n")))


def _not_blank(lines: Iterable[str]) -> Iterable[str]:
    return (line for line in lines if line.strip())
