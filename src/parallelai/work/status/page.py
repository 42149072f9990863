"""The state of all workstreams for people: a table for terminals, and a Markdown page that is kept current."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from parallelai.records import Usage
from parallelai.results.printable import cell_width, crop, ends, visible, wrap
from parallelai.results.write import write_atomically
from parallelai.work.landing.waiting import Waiting
from parallelai.work.status import block
from parallelai.work.status.folding import Files, Passed, StreamStatus

_HEADINGS = ("workstream", "stage", "todo", "files", "checks", "tests", "age", "cost", "")
_GAP = 2
_INDENT = "    "
_MOST_LINES = 8
_LONGEST_NAME = 30
_MOST_PATHS = 3
_LONGEST_VERDICT = 300


def table(statuses: Sequence[StreamStatus], width: int, *, is_ascii: bool = False) -> list[str]:
    """A line for each workstream, under a heading, each at most `width` cells.

    The last column says whether it can land, or why not. A reason that has no room there follows on lines of its
    own, and then its last words on one. Columns that say nothing for all of them are left out.
    """
    if not statuses:
        return ["no workstreams"]
    rows = [_HEADINGS, *(_cells(status, is_ascii) for status in statuses)]
    kept = [
        column
        for column in range(len(_HEADINGS))
        if column in (0, 1, len(_HEADINGS) - 1) or any(row[column] != _UNKNOWN for row in rows[1:])
    ]
    widths = [max(cell_width(row[column]) for row in rows) for column in kept[:-1]]
    lines = []
    for number, row in enumerate(rows):
        cells = [_filled(row[column], size) for column, size in zip(kept, widths, strict=False)]
        before = (" " * _GAP).join(cells)
        has_room = cell_width(row[-1]) <= width - cell_width(before) - _GAP
        last = f"{' ' * _GAP}{row[-1]}" if has_room else ""
        lines.append(crop(f"{before}{last}".rstrip(), width, ascii_only=is_ascii))
        if not has_room:
            lines += _whole(row[-1], statuses[number - 1].name if number else "", width, is_ascii)
        words = statuses[number - 1].words if number else None
        if words:
            said = f"{statuses[number - 1].engine or 'its assistant'} said: {words}"
            lines.append(crop(f"{_INDENT}{visible(said, ascii_only=is_ascii)}", width, ascii_only=is_ascii))
    return lines


def _whole(said: str, name: str, width: int, is_ascii: bool) -> list[str]:
    """A text on lines of its own; of a very long one the beginning and the end, and where all of it is."""
    lines = [_INDENT + line for line in wrap(said, width - len(_INDENT))]
    if len(lines) <= _MOST_LINES:
        return lines
    whole = visible(f"{_INDENT}all of it: `parallelai work status {name}`", ascii_only=is_ascii)
    mark = _INDENT + ("..." if is_ascii else "…")
    return [*ends(lines, _MOST_LINES - 1, mark), crop(whole, width, ascii_only=is_ascii)]


_UNKNOWN = "-"


def _cells(status: StreamStatus, is_ascii: bool, *, is_whole: bool = False) -> tuple[str, ...]:
    """What a row says; with `is_whole` also of a long name all."""
    name = visible(status.name, ascii_only=is_ascii)
    if not is_whole:
        name = crop(name, _LONGEST_NAME, ascii_only=is_ascii)
    stage = status.stage if status.activity != "asking" else f"{status.stage} (asks)"
    return (
        name,
        visible(stage, ascii_only=is_ascii),
        _share(status.todo) if status.todo.of else _UNKNOWN,
        _files(status.files),
        _share(status.checks) if status.checks.of else _UNKNOWN,
        _share(status.tests),
        _span(status.age_seconds),
        _cost(status.usage),
        visible(_verdict(status), ascii_only=is_ascii),
    )


def _filled(text: str, width: int) -> str:
    return text + " " * (width - cell_width(text))


def _share(passed: Passed) -> str:
    if passed.of is None:
        return _UNKNOWN
    return f"{'?' if passed.passed is None else passed.passed}/{passed.of}"


def _files(files: Files | None) -> str:
    if files is None:
        return _UNKNOWN
    numbers = ((files.new, "new"), (files.changed, "changed"), (files.removed, "removed"))
    return ", ".join(f"{count} {word}" for count, word in numbers if count) or "none"


def _span(seconds: float | None) -> str:
    """A time in the one unit that matters: 40 s, 12 min, 3 h, 2 d."""
    if seconds is None:
        return _UNKNOWN
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def _cost(usage: Usage | None) -> str:
    if usage is None or usage.basis == "unknown":
        return _UNKNOWN
    if usage.basis in ("subscription", "free"):
        return usage.basis
    return f"{usage.usd:.2f} USD" if usage.usd is not None else _UNKNOWN


def _verdict(status: StreamStatus) -> str:
    is_landed = status.landed is not None
    said = "ready to land" if status.is_ready else str(status.why)
    if status.landed is not None:
        said = f"landed on {status.pending or status.target} as {status.landed[:10]}"
        said += ", not yet taken over" if status.pending else ""
        said += f", pushed to {status.pushed}" if status.pushed else ""
        said += f", {status.why}" if status.is_push_left else ""
    elif status.pending:
        said = f"taken back on {status.pending}, not yet taken over"
    extras = []
    if status.conflicts and not is_landed:
        extras.append(f"conflicts with {', '.join(status.conflicts)}")
    if status.kept_out:
        more = f" and {len(status.kept_out) - _MOST_PATHS} more" if len(status.kept_out) > _MOST_PATHS else ""
        extras.append(f"kept out: {', '.join(status.kept_out[:_MOST_PATHS])}{more}")
    if status.new_failures and not is_landed:
        count = len(status.new_failures)
        extras.append(f"{count} test newly fails" if count == 1 else f"{count} tests newly fail")
    return "; ".join(filter(None, [said, *extras]))


# ------------------------------------------------------------------ Markdown


def markdown(
    statuses: Sequence[StreamStatus], *, title: str, at: datetime, waiting: Sequence[Waiting] = ()
) -> str:
    """A page of the same, for a file that is kept in the repository or watched in an editor.

    `waiting` is told where no workstream's row does.
    """
    landed = sum(_is_in_target(status) for status in statuses)
    beside = sum(status.pending is not None for status in statuses)
    ready = sum(status.is_ready for status in statuses)
    time = f"{at:%Y-%m-%d %H:%M} {at.tzname() or ''}".rstrip()
    lines = [
        f"# {_plain(title)}",
        "",
        f"{landed} of {len(statuses)} landed{f', {beside} not yet taken over' if beside else ''},"
        f" {ready} ready to land. As of {time}.",
        "",
        "| | workstream | stage | todo | files | checks | tests | age | cost | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for status in statuses:
        mark = "x" if _is_in_target(status) else " "
        *first, verdict = _cells(status, False, is_whole=True)
        cells = [
            "" if cell == _UNKNOWN else _plain(cell) for cell in (*first, _shortened(verdict, status.name))
        ]
        lines.append(f"| [{mark}] | {' | '.join(cells)} |")
    beside_whys = dict.fromkeys(status.why for status in statuses if status.pending and status.why)
    targets = {status.target for status in statuses if status.pending}
    for why in (*beside_whys, *(each.told for each in waiting if each.target not in targets)):
        lines += ["", f"Not yet taken over: {_plain(why)}"]
    told = [status for status in statuses if status.words]
    if told:
        lines += ["", "## Last words", ""]
        lines += [
            f"- **{_plain(status.name)}**{_who(status)}: {_plain(status.words or '')}" for status in told
        ]
    return "\n".join(lines) + "\n"


def _shortened(verdict: str, name: str) -> str:
    """A verdict as a cell of a page can have it: what a gate printed is no part of it."""
    if len(verdict) <= _LONGEST_VERDICT:
        return verdict
    cut = verdict[:_LONGEST_VERDICT]
    return f"{cut.rpartition(' ')[0] or cut} …; all of it: `parallelai work status {name}`"


def _who(status: StreamStatus) -> str:
    return f" ({_plain(status.engine)})" if status.engine else ""


def _is_in_target(status: StreamStatus) -> bool:
    """Whether its target has it: what landed beside that waits for a person to take it over."""
    return status.landed is not None and status.pending is None


_MARKUP = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>|#"})
_CODE = re.compile(r"((?<!`)`[^`]+`(?!`))")
"""What stands between back-ticks."""


def _plain(text: str) -> str:
    """Text as Markdown shows it letter by letter, on one line. Code stays as it is: it is to be copied."""
    parts = _CODE.split(visible(text))
    return "".join(
        part if place % 2 and "|" not in part else part.translate(_MARKUP)  # a `|` would end a table's cell
        for place, part in enumerate(parts)
    )


def write_status(
    path: Path,
    statuses: Sequence[StreamStatus],
    *,
    title: str,
    at: datetime,
    waiting: Sequence[Waiting] = (),
) -> bool:
    """Write the page, if anything but its time has changed; say whether that was so.

    What people wrote around our part stays. Raises `UsageError`.
    """
    text = markdown(statuses, title=title, at=at, waiting=waiting)
    before, ours, after = block.parted(path, block.read(path))
    if _without_time(ours) == _without_time(text):
        return False
    ends = "\r\n" if before.endswith("\r\n") else "\n"
    write_atomically(path, f"{before}{text.replace(chr(10), ends)}{after}")
    return True


def _without_time(text: str) -> list[str]:
    return [line.partition(" As of ")[0] for line in text.splitlines()]
