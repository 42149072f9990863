"""`parallelai work status --write FILE`: a page of our own, or the boxes of a list of tasks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from parallelai.cli.shared import Shared
from parallelai.errors import UsageError
from parallelai.results.printable import visible

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.client.ticks import Ticks
    from parallelai.work.landing.waiting import Waiting
    from parallelai.work.status.folding import StreamStatus

TITLE = "Workstreams"
_MOST_NAMED = 10


def write(
    shared: Shared,
    ai: AsyncParallelAI,
    path: Path,
    found: Sequence[StreamStatus],
    landed: Collection[str],
    waiting: Sequence[Waiting] = (),
) -> None:
    """Write how far workstreams are to a page, or tick a list of tasks, and say what was done.

    Raises `UsageError` for a file that is neither.
    """
    from parallelai.work.status.block import MARKS
    from parallelai.work.status.page import write_status

    if path.is_file() and path.stat().st_size and not _is_page(path):
        if path.suffix != ".md":  # only a list of tasks is ever written into, and never over
            own = f"name another file, or put {MARKS} where it is to be written"
            raise UsageError(f"`{path}` is there, and is no page of ours", next=own)
        _tick(shared, ai, path, landed)
        for status in found:
            if status.pending and status.landed is not None:
                shared.say(visible(f"`{status.name}` is not ticked: not yet taken over: {status.why}"))
    elif write_status(path, found, title=TITLE, at=datetime.now(UTC), waiting=waiting):
        shared.say(f"written to {path}")


def _tick(shared: Shared, ai: AsyncParallelAI, path: Path, landed: Collection[str]) -> None:
    from parallelai.client.ticks import ticks
    from parallelai.work.status.ticking import tick_file

    known = ticks(ai.project, ai.runs, path)
    done = {*landed, *known.done}
    rows = _done_rows(known, done)
    if tick_file(path, done, ai.work.tasks()):
        shared.say(f"ticked in {path}")
    elif not rows:
        shared.say(f"nothing to tick in {path}")
    for line in (*rows, *_unapplied(known)):
        shared.say(visible(line))


def _done_rows(known: Ticks, done: Collection[str]) -> list[str]:
    """What is done, and a person has to write down: rows of a table have no box."""
    folded = {name.casefold() for name in done}
    names = sorted(name for name in known.rows if name.casefold() in folded)
    if not names:
        return []
    shown = ", ".join(f"`{name}`" for name in names[:_MOST_NAMED])
    shown += f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    word, its = ("are", "their") if len(names) > 1 else ("is", "its")
    return [f"rows of a table are not ticked: {shown} {word} done, set {its} `Status` to `done`"]


def _unapplied(known: Ticks) -> Iterator[str]:
    for task, run in known.unapplied.items():
        apply = f"`parallelai runs apply {run} {task}` puts its change here"
        if task in known.rows:
            yield f"`{task}`: {apply}; then set its `Status` to `done`"
        else:
            yield f"`{task}` is not ticked: {apply} first"


def _is_page(path: Path) -> bool:
    """Whether a file is a page that `--write` made, or has our marks."""
    from parallelai.work.status import block

    text = block.read(path)
    head = [*text.splitlines()[:3], "", "", ""]
    return block.has_marks(text) or (head[0].rstrip() == f"# {TITLE}" and " ready to land. As of " in head[2])
