"""The user's stashes: those that a program dropped come back to their places, those that came meanwhile stay above.

A stash is a line in the log of `refs/stash`, which all worktrees share. git's trace of refs tells how many lines its
programs took out, and which they had put in; by what it does not tell, nothing is put back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path
from typing import Literal

from parallelai.git.repository import Repository
from parallelai.store.files import replace_whole
from parallelai.work.guard.restoring import locked
from parallelai.work.guard.traces import STASH, Traced
from parallelai.work.guard.watch import Saved, save

Outcome = Literal["same", "more", "back", "not_back", "unknown"]
"""`more`: programs of the attempt made one; `unknown`: some are gone, and nobody can say by whom."""


def saved(repository: Repository) -> Saved | None:
    """The log of the stash as it is now; None where there is none."""
    return save(_log(repository.common))


async def see_to(
    repository: Repository,
    before: Saved | None,
    own: Traced,
    others: Callable[[], Iterable[Traced]],
    has_stashed: Callable[[], Awaitable[bool]],
) -> Outcome:
    """Put stashes back that a program dropped whose trace is `own`; `others` are the traces of other attempts.

    `has_stashed` says whether it put aside what lay in the checkout: it may have no trace of refs (codex).
    """
    now = commits_of(await asyncio.to_thread(saved, repository))
    ours = commits_of(before)
    if set(ours) <= set(now):
        new = set(now).difference(ours)
        return "more" if has_made(own, new) or (new and await has_stashed()) else "same"
    if not has_dropped(own, ours, now):
        known = await asyncio.to_thread(others)
        return "same" if any(has_dropped(each, ours, now) for each in known) else "unknown"
    if before is None or before.data is None or not await _are_there(repository, ours):
        return "not_back"
    is_back = await asyncio.to_thread(_write, repository.common, before.data)
    return "back" if is_back else "not_back"


def has_made(traced: Traced, commits: Iterable[str]) -> bool:
    """Whether programs made one of these stashes. Pure."""
    return any((STASH, commit) in traced.updates for commit in commits)


def has_dropped(traced: Traced, before: Collection[str], now: Collection[str]) -> bool:
    """Whether programs dropped a stash that they had not made themselves. Pure."""
    made = {commit for ref, commit in traced.updates if ref == STASH}
    return traced.is_stash_cleared or traced.dropped > len(made.difference(before, now))


def commits_of(log: Saved | None) -> list[str]:
    """The stashes in the log, the oldest first: `old new who time TAB words` a line."""
    data = b"" if log is None or log.data is None else log.data
    return [row[1].decode("ascii", "replace") for row in _rows(data)]


def merged(before: bytes, now: bytes) -> bytes:
    """The log with all that was there before, and above it what came since. Pure."""
    rows = _rows(before)
    known = {row[1] for row in rows}
    rows += [row for row in _rows(now) if row[1] not in known]
    olds = [b"0" * len(rows[0][1]), *(row[1] for row in rows)] if rows else []
    return b"".join(b"%b %b %b\n" % (old, row[1], row[2]) for old, row in zip(olds, rows, strict=False))


def _rows(data: bytes) -> list[list[bytes]]:
    return [row for row in (line.split(b" ", 2) for line in data.split(b"\n")) if len(row) == 3]


async def _are_there(repository: Repository, commits: Iterable[str]) -> bool:
    """Whether nothing collected them as garbage meanwhile."""
    names = "".join(f"{commit}\n" for commit in commits).encode()
    listed = await repository.git.attempt("cat-file", "--batch-check", stdin=names)
    return listed.exit == 0 and b" missing" not in listed.stdout


def _write(common: Path, before: bytes) -> bool:
    """Write log and ref under git's own lock of the ref: nobody can make a stash in between."""
    log, ref = _log(common), common / STASH
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.parent.resolve() != log.parent or log.is_symlink():  # it leads elsewhere
            return False
        with locked(ref):
            now = save(log)
            if now is not None and now.data is None:
                return False
            data = merged(before, b"" if now is None or now.data is None else now.data)
            replace_whole(log, data)
            replace_whole(ref, _rows(data)[-1][1] + b"\n")
    except OSError:
        return False
    return True


def _log(common: Path) -> Path:
    return common / "logs" / STASH
