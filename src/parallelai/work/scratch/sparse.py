"""Folders that hold a part of the files: what is not written there is no deletion, and nothing may take its place.

Nor may anything be written over it: nobody who works there has seen what that would replace.

Our index holds all files all the same, so that a change is one of the whole tree.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from msgspec import Struct

from parallelai.plan.files import Matcher

_OF_GIT = frozenset({".gitignore", ".gitattributes"})
"""Names that are written in any case: without them what a build leaves behind would look like new work."""


def left_out(names: Iterable[str], patterns: Iterable[str]) -> frozenset[str]:
    """Name the files that are not written where only patterns are wanted; none where there is no pattern."""
    wanted = tuple(patterns)
    if not wanted:
        return frozenset()
    matcher = Matcher(wanted)
    return frozenset(
        name for name in names if name.rpartition("/")[2] not in _OF_GIT and not matcher.selects(name)
    )


class Seen(Struct, frozen=True):
    """Of the names that differ: `changed` ones, `unseen` files that were written over, `hiding` ones in their way.

    A file that was never there, and is not now, is as it was: in none of the three.
    """

    changed: frozenset[str]
    unseen: frozenset[str]
    hiding: frozenset[str]


def look(folder: Path, names: Iterable[str], skipped: frozenset[str]) -> Seen:
    """Tell apart what differs in a folder in which the files `skipped` were not written.

    One that is there now was written by somebody who could not see it. A file in place of a folder of theirs, or
    below one of them, would delete what nobody saw.
    """
    differing = frozenset(names)
    if not skipped:
        return Seen(differing, frozenset(), frozenset())
    unseen = differing & skipped & lying(folder)
    above = {str(parent) for name in skipped for parent in PurePosixPath(name).parents}
    hiding = {
        name
        for name in differing - skipped
        if name in above or any(str(parent) in skipped for parent in PurePosixPath(name).parents)
    }
    return Seen(differing - skipped - hiding, unseen, frozenset(hiding))


def lying(folder: Path) -> frozenset[str]:
    """The files and links below a folder, whatever they are; nothing behind a link."""
    found: set[str] = set()
    for top, folders, files in os.walk(folder, followlinks=False):
        below = os.path.relpath(top, folder)
        prefix = "" if below == "." else f"{below}/"
        found.update(prefix + name for name in files)
        found.update(prefix + name for name in folders if Path(top, name).is_symlink())
        if not prefix:
            folders[:] = [name for name in folders if name != ".git"]
    return frozenset(found)
