"""Files that a filter of the user's git makes something else of each time: nobody could say whether they changed."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from parallelai.engines.untrusted import clean
from parallelai.errors import Unavailable
from parallelai.work.guard.place import Place, listing

_MOST = 20  # a filter that is at fault shows on a few files


async def refuse_unsteady(place: Place, names: Iterable[str]) -> None:
    """Have git read files twice that changed, and for which the user's git has a filter of their own.

    `names` are paths in the worktree. Raises `Unavailable` for a file that is not the same both times, `GitError`.
    """
    known = await place.own_filters()
    if not known:
        return
    files = await asyncio.to_thread(_files, place.worktree, sorted(names))
    listed = await place.run("check-attr", "-z", "--stdin", "filter", stdin=listing(files))
    fields = [os.fsdecode(field) for field in listed.split(b"\0")]
    given = dict(zip(fields[::3], fields[2::3], strict=False))
    wanted = [name for name in files if given.get(name) in known][:_MOST]
    if not wanted:
        return
    twice = b"".join(_quoted(name) * 2 for name in wanted)
    hashes = (await place.run("hash-object", "--stdin-paths", stdin=twice)).split()
    for name, first, second in zip(wanted, hashes[::2], hashes[1::2], strict=True):
        if first != second:
            raise _unsteady(name, given[name], known[given[name]])


def _unsteady(path: str, name: str, command: str) -> Unavailable:
    said = f"git's filter `{name}` (`{command}`) gives other bytes each time for `{path}`, so any look finds a change"
    return Unavailable(
        clean(said),
        next="have `clean` give the same bytes for the same file, or take the filter out of `.gitattributes`",
    )


def _files(root: Path, names: list[str]) -> list[str]:
    """Keep what is a file itself: git would follow a link here."""
    found = []
    for name in names:
        try:
            mode = (root / name).lstat().st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode):
            found.append(name)
    return found


def _quoted(name: str) -> bytes:
    """A line of git's with a path in quotes, as C has them."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return b'"' + os.fsencode(escaped) + b'"\n'
