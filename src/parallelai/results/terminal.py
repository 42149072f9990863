"""For people: findings by file with their source line, the tasks that need a look, and a closing line.

Text from the repository and from engines is shown with every control character visible. No line is wider than
the context says, unless that is under `NARROWEST` cells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from parallelai.records import Change, Coverage, FileNote, Finding, Outcome, RunDocument, Severity, TaskResult
from parallelai.results import summary
from parallelai.results.document import standing
from parallelai.results.formats import RenderContext
from parallelai.results.identity import split_lines
from parallelai.results.printable import cell_width, crop, ends, excerpt, visible, wrap

NARROWEST = 40
_MESSAGE_CELLS = 28  # where fewer are left, a finding's message goes under its place
_MESSAGE_LINES = 8
_ERROR_LINES = 12
_SUGGESTION_LINES = 6
_TEXT_LINES = 40
_FILES = 10
_FEW = 2  # so many alike are shown each by itself
_RULE_CELLS = 24
_PLACE_CELLS = 14

_STYLES = {
    Severity.CRITICAL: "1;35",
    Severity.HIGH: "1;31",
    Severity.MEDIUM: "33",
    Severity.LOW: "36",
    Severity.INFO: "2",
    Outcome.OK: "32",
    Outcome.FAILED: "1;31",
    Outcome.SKIPPED: "2",
    Outcome.BLOCKED: "33",
    Outcome.CANCELLED: "33",
    Outcome.OVER_BUDGET: "33",
    "bold": "1",
    "faint": "2",
}
_HOW_TO_SEE_ALL = "`--verbose` lists all, `--format json` and `--format sarif` hold all"


def render(document: RunDocument, context: RenderContext) -> str:
    """Show a run's document to a person, with a line end at the end."""
    page = _Page(context)
    blocks = [
        *_finding_blocks(document, page),
        _task_block(document, page),
        _file_block(document, page),
        _closing(document, page),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


class _Page:
    """What lines are made with: the width, the colours and the characters that can be shown."""

    def __init__(self, context: RenderContext) -> None:
        self.context = context
        self.width = max(context.width, NARROWEST)
        self.limit = context.limit
        self.bar = "|" if context.ascii_only else "│"
        self.arrow = "->" if context.ascii_only else "→"
        self.dot = " - " if context.ascii_only else " · "
        self.more = "..." if context.ascii_only else "…"

    def style(self, text: str, style: str) -> str:
        """Colour printable text."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.context.color and text else text

    def show(self, text: str) -> str:
        """Make foreign text printable, on one line."""
        return visible(text, ascii_only=self.context.ascii_only)

    def crop(self, text: str, width: int) -> str:
        return crop(self.show(text), width, ascii_only=self.context.ascii_only)

    def fill(self, text: str, *, indent: int = 0, hang: str = "", most: int | None = None) -> list[str]:
        """Wrap foreign text, line by line, under an indentation; `hang` stands before the first line."""
        before = " " * indent
        room = self.width - indent - cell_width(hang)
        lines = [
            line for part in split_lines(text.strip("\r\n")) for line in wrap(self.show(part.rstrip()), room)
        ]
        if most is not None and len(lines) > most:
            lines = [*lines[:most], self.more]
        return [
            (before + (hang if number == 0 else " " * cell_width(hang)) + line).rstrip()
            for number, line in enumerate(lines)
        ]


# --- findings


def _finding_blocks(document: RunDocument, page: _Page) -> Iterable[list[str]]:
    """One block a file, the file with the worst finding first; in it, findings by line."""
    found = [finding for finding in document.findings if finding.state == "open"]
    shown = found if page.limit is None else found[: page.limit]
    files: dict[str, list[Finding]] = {}
    for finding in shown:
        files.setdefault(finding.file, []).append(finding)
    has_many = len({name for finding in found for name in finding.by}) > 1
    for file, findings in files.items():
        findings.sort(key=lambda finding: (finding.line, finding.column or (0, 0)))
        heading = [page.style(line, "bold") for line in page.fill(file)]
        places = [_place(finding) for finding in findings]
        margin = 4 + max(5, *map(len, places))
        rows = [
            line
            for finding, place in zip(findings, places, strict=True)
            for line in _finding(finding, place, margin, page, has_many)
        ]
        yield heading + rows
    if len(shown) < len(found):
        rest = f"{len(found) - len(shown):,} more findings, ranked lower, are not shown: {_HOW_TO_SEE_ALL}"
        yield page.fill(rest, hang=f"{page.more} ")


def _place(finding: Finding) -> str:
    place = f"{finding.line[0]}:{finding.column[0]}" if finding.column else str(finding.line[0])
    return place[:_PLACE_CELLS]


def _finding(finding: Finding, place: str, margin: int, page: _Page, has_many: bool) -> list[str]:
    severity = finding.severity
    rule = page.crop(finding.rule or finding.category, _RULE_CELLS)
    message = finding.message.strip() + _standing(finding, has_many)
    head = margin + len("critical  ")
    indent = head + cell_width(rule) + 1
    is_stacked = page.width - indent < _MESSAGE_CELLS
    if is_stacked:
        indent, rule = margin, page.crop(rule, page.width - head)
    text = page.fill(message, indent=indent, most=_MESSAGE_LINES)
    first = f"{place:>{margin - 2}}  {page.style(f'{severity.value:<8}', severity)}  {rule}"
    lines = [first, *text] if is_stacked else [f"{first} {text[0].strip()}".rstrip(), *text[1:]]
    lines += _source(finding, margin, page)
    if finding.suggestion:
        lines += page.fill(finding.suggestion, indent=margin, hang=f"{page.arrow} ", most=_SUGGESTION_LINES)
    return lines


def _standing(finding: Finding, has_many: bool) -> str:
    """How sure the finding is: who says so, and whether it is only a maybe."""
    parts = ["maybe"] if finding.tier == "maybe" else []
    if finding.votes > 1:
        parts.append(f"{finding.votes} votes: {', '.join(finding.by)}")
    elif has_many and finding.by:
        parts.append(", ".join(finding.by))
    return f" ({'; '.join(parts)})" if parts else ""


def _source(finding: Finding, margin: int, page: _Page) -> list[str]:
    """The first line of the code, with a mark under the columns; nothing where there is no code to show."""
    line = _code(finding, page)
    if line is None or not line.strip():
        return []
    column = finding.column
    if column is not None and finding.line[0] != finding.line[1]:
        column = (column[0], len(line) + 1)
    before = " " * margin + page.style(page.bar, "faint") + " "
    part = excerpt(line, column, page.width - margin - 2, ascii_only=page.context.ascii_only)
    rows = [before + part.text]
    if part.length:
        rows.append(before + " " * part.start + page.style("^" * part.length, finding.severity))
    return rows


def _code(finding: Finding, page: _Page) -> str | None:
    """The finding's first line: as the run quoted it, or from the file where the quote does not reach."""
    quoted = split_lines(finding.quote)[0] if finding.quote else None
    if quoted is not None and (finding.column is None or finding.column[0] <= len(quoted) + 1):
        return quoted
    text = page.context.read(finding.file)
    lines = split_lines(text) if text else []
    return lines[finding.line[0] - 1] if finding.line[0] <= len(lines) else quoted


# --- tasks


def _task_block(document: RunDocument, page: _Page) -> list[str]:
    """The tasks with a text, a change, or a reason why they are not ok; all, if no files were reviewed."""
    tasks = [task for task in document.tasks if not _is_review(document) or _has_something_to_say(task)]
    groups = [[task] for task in tasks] if page.limit is None else _alike(tasks)
    shown = groups[: page.limit]
    lines = [line for group in shown for line in _group(group, page)]
    if len(shown) < len(groups):
        left = sum(map(len, groups[len(shown) :]))
        rest = f"{left:,} more tasks are not shown: `--verbose` or `--format json` lists all"
        lines += page.fill(rest, hang=f"{page.more} ")
    return lines


def _is_review(document: RunDocument) -> bool:
    """Whether files were looked at: tasks with nothing to say of themselves are then not listed."""
    return bool(document.findings or document.files != Coverage())


def _has_something_to_say(task: TaskResult) -> bool:
    return task.status is not Outcome.OK or task.text is not None or task.change is not None


def _alike(tasks: Iterable[TaskResult]) -> list[list[TaskResult]]:
    """Put tasks together that failed in the same way, or were skipped for the same reason, where the first stands."""
    groups: dict[object, list[TaskResult]] = {}
    for task in tasks:
        error = task.error
        reason = (error.kind, error.said) if error is not None else task.because
        is_bare = task.text is None and task.change is None and task.workstream is None
        key = (task.status, task.engine, reason) if is_bare and reason is not None else id(task)
        groups.setdefault(key, []).append(task)
    return list(groups.values())


def _group(tasks: list[TaskResult], page: _Page) -> list[str]:
    """Show tasks that are alike: one or two by themselves, of more the first."""
    if len(tasks) <= _FEW:
        return [line for task in tasks for line in _task(task, page)]
    rest = f"and {len(tasks) - 1:,} more tasks in the same way: `--verbose` lists all"
    return [*_task(tasks[0], page), *page.fill(rest, indent=4, hang=f"{page.more} ")]


def _task(task: TaskResult, page: _Page) -> list[str]:
    facts = [task.engine or "", summary.seconds(task.seconds) if task.attempts else ""]
    facts.append(f"{task.attempts} attempts" if task.attempts > 1 else "")
    said = page.dot.join(page.show(fact) for fact in facts if fact)
    status = task.status.value
    head = page.fill(f"{task.id}  {said}" if said else task.id, hang=f"{status:<11} ")
    lines = [page.style(head[0][: len(status)], task.status) + head[0][len(status) :], *head[1:]]
    if task.because:
        lines += page.fill(f"because {task.because}", indent=4)
    lines += _error(task, page) + _change(task, page)
    if task.text:
        most = None if page.limit is None else _TEXT_LINES
        lines += page.fill(task.text, indent=4, most=most)
    return lines


def _error(task: TaskResult, page: _Page) -> list[str]:
    error = task.error
    if error is None:
        return []
    lines = ends(page.fill(f"{error.kind}: {error.said}", indent=4), _ERROR_LINES, f"    {page.more}")
    if error.where:
        lines += page.fill(f"at {error.where}", indent=4)
    if error.next:
        lines += page.fill(error.next, indent=4, hang=f"{page.arrow} ", most=_SUGGESTION_LINES)
    return lines


def _applied(change: Change) -> str:
    """Whether a change is in the checkout, why not, and where it is else."""
    return standing(change) if change.applied else f"{standing(change)}: {change.patch}"


def _change(task: TaskResult, page: _Page) -> list[str]:
    """What became of a change: of a workstream's where it landed, of another whether it is applied."""
    change, stream = task.change, task.workstream
    landed = stream.get("landed") if stream else None
    kept_out = change.kept_out if change is not None else tuple(stream["kept_out"] if stream else ())
    count = f"{summary.number(len(change.files), 'file')} changed, " if change is not None else ""
    said = []
    if landed:
        pending = landed.get("pending")
        waits = f" ({landed['target']} could not follow)" if pending else ""
        said.append(f"{count}landed on {pending or landed['target']} at {landed['commit'][:10]}{waits}")
    elif stream is not None and stream["stage"] == "undone":
        said.append(f"{count}taken back, and kept on {stream['branch']}")
    elif stream is not None and stream["stage"] != "dropped":  # which has neither branch nor worktree
        where = f" in {stream['worktree']}" if stream["worktree"] is not None else ""  # a branch of no plan
        said.append(f"{count}not landed: {stream['branch']}{where}")
    elif change is not None:
        said.append(f"{count}{_applied(change)}")
    trespasses = stream.get("trespasses", ()) if stream is not None else ()
    if kept_out or trespasses:
        said += _kept_out(kept_out, trespasses)
    return [line for each in said for line in page.fill(each, indent=4)]


def _kept_out(paths: Sequence[str], trespasses: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the guard kept out of a workstream, by reason, and where it is; each turn may have tried the same."""
    if not trespasses:  # of a plain task, or of a run that an older version recorded
        return [f"kept out: {', '.join(dict.fromkeys(paths))}"]
    by_reason: dict[str, list[Mapping[str, Any]]] = {}
    for each in trespasses:
        by_reason.setdefault(each["why"], []).append(each)
    lines = []
    for why, found in by_reason.items():
        named = ", ".join(dict.fromkeys(path for each in found for path in each["paths"]))
        patches = ", ".join(dict.fromkeys(each["patch"] for each in found if each["patch"]))
        about = f"{why}; it is kept in {patches}" if patches else why
        lines.append(f"kept out: {named} ({about})" if named else f"kept out: {about}")
    return lines


# --- files and the end


def _file_block(document: RunDocument, page: _Page) -> list[str]:
    """What nobody looked at: the failed ones by name, the skipped ones by reason."""
    files = document.files
    lines: list[str] = []
    if files.failed:
        lines.append(page.style(f"{summary.number(len(files.failed), 'file')} failed", Outcome.FAILED))
        lines += _failed(files.failed, page)
    if files.skipped:
        reasons = Counter(note.why for note in files.skipped).most_common()
        said = ", ".join(f"{count:,} {why}" for why, count in reasons[:5])
        said += f", {len(reasons) - 5:,} other reasons" if len(reasons) > 5 else ""
        lines += page.fill(f"{summary.number(len(files.skipped), 'file')} skipped: {said}")
    return lines


def _failed(notes: Sequence[FileNote], page: _Page) -> list[str]:
    """Name files that failed; of many for the same reason the first."""
    reasons: dict[str, list[FileNote]] = {}
    for note in notes:
        reasons.setdefault(note.why if page.limit is not None else note.file, []).append(note)
    lines: list[str] = []
    groups = list(reasons.values())
    shown = groups if page.limit is None else groups[:_FILES]
    for group in shown:
        named = group if len(group) <= _FEW else group[:1]
        for note in named:
            lines += page.fill(f"{note.file}: {note.why}", indent=2, most=3)
        if len(named) < len(group):
            rest = f"and {len(group) - 1:,} more files for the same reason"
            lines += page.fill(rest, indent=4, hang=f"{page.more} ")
    if len(shown) < len(groups):
        left = sum(map(len, groups[len(shown) :]))
        lines += page.fill(f"{page.more} {left:,} more: `--format json` lists all", indent=2)
    return lines


def _closing(document: RunDocument, page: _Page) -> list[str]:
    """What it came to, what it took, and under which name it is kept."""
    reviewed = summary.reviewed(document)
    lines = [page.style(line, "bold") for sentence in reviewed[:1] for line in page.fill(sentence)]
    lines += [line for sentence in reviewed[1:] for line in page.fill(sentence)]
    has_voters = any(task.voters for task in document.tasks)
    facts = [
        summary.task_counts(document),
        summary.kept_out(document.tasks),
        summary.reused(document.tasks),
        summary.time(document),
        summary.cost(document),
        summary.engines(document.tasks)
        if _is_review(document) or has_voters
        else "",  # else each task names its own
    ]
    facts.append(f"run {document.run}")
    ended = page.fill(page.dot.join(fact for fact in facts if fact))
    return lines + ended
