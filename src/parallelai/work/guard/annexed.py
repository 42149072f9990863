"""Files of git-annex, of which git keeps pointers: where git-annex does not run, their content would be committed."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from parallelai.git.plumbing import Git
from parallelai.work.guard.measure import Entry, Found
from parallelai.work.guard.place import Place, listing

_POINTER = b"/annex/objects/"
_MOST_BYTES = 32 * 1024
"""A larger file is no pointer, for git-annex."""


async def brought_in(place: Place, rows: Sequence[Found]) -> frozenset[str]:
    """The paths that were pointers, and now have what git-annex would bring in the place of these (`git annex get`).

    Content that an assistant wrote there is one of them: nobody could tell the two apart. Raises `GitError`.
    """
    names = await place.annex_filters()
    changed = [row for row in rows if names and _is_file(row.before) and _is_file(row.after)]
    if not changed:
        return frozenset()
    entries = {entry[1] for row in changed for entry in (row.before, row.after) if entry is not None}
    pointers = await _pointers(place.plumbing(), entries)
    paths = [
        row.change.path
        for row in changed
        if row.before is not None and row.after is not None
        if row.before[1] in pointers and row.after[1] not in pointers
    ]
    listed = await place.run("check-attr", "-z", "--stdin", "filter", stdin=listing(paths)) if paths else b""
    fields = [os.fsdecode(field) for field in listed.split(b"\0")]
    given = zip(fields[::3], fields[2::3], strict=False)
    return frozenset(path for path, name in given if name in names)


def _is_file(entry: Entry | None) -> bool:
    return entry is not None and entry[0] in ("100644", "100755")


async def _pointers(git: Git, names: Collection[str]) -> frozenset[str]:
    """Those of some objects that are pointers; large ones are not read."""
    stdin = "".join(f"{name}\n" for name in sorted(names)).encode()
    listed = await git.run("cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=stdin)
    rows = [line.split() for line in listed.decode().splitlines()]
    small = [name for name, size in rows if size.isdigit() and int(size) <= _MOST_BYTES]
    found = await git.blobs(small)
    return frozenset(name for name, data in found.items() if data.startswith(_POINTER))
