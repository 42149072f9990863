"""From a change to what it writes to the user's checkout, as that is now.

A file that still is as the change's base had it becomes what the change made of it; one that the user edited
since is merged, by git's own three-way merge, where that is clean. What does not fit keeps the whole change
out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from parallelai.git.plumbing import Git, GitError
from parallelai.processes.temporary import temporary_folder
from parallelai.work.checkout.placing import is_same, read_as_git
from parallelai.work.checkout.writing import Content, NotWritten, Write, digest

_FILE_MODES = {b"100644": 0o644, b"100755": 0o755, b"120000": 0o777}
_LINK = b"120000"
_NOTHING = b"000000"


class _Difference(Struct, frozen=True):
    """A path in two trees: git's mode and blob on each side, None where there is nothing."""

    path: str
    before: tuple[bytes, bytes] | None
    after: tuple[bytes, bytes] | None


class Before(Struct, frozen=True):
    """That a change was applied before, in hashes by path.

    `found` is what it was written over, `beyond` what later changes of the run made of it.
    """

    found: Mapping[str, str | None]
    beyond: Mapping[str, frozenset[str | None]]

    def is_back(self, path: str, now: Content | None) -> bool:
        """Whether there lies again what the change was written over."""
        return path in self.found and digest(now) == self.found[path]

    def has(self, path: str, now: Content | None) -> bool:
        """Whether a later change made what lies at a path now, upon this one."""
        return digest(now) in self.beyond.get(path, ())


async def writes_for(
    git: Git, root: Path, base: str, commit: str, before: Before | None = None
) -> list[Write]:
    """Say what has to be written so that the checkout at `root` holds a change, too.

    What was applied `before` is written again only where all of it is gone from a file: of what the user made
    of it since nothing is taken.

    Raises:
        NotWritten: the change does not fit to what lies there; the error names the paths.
    """
    writes: list[Write] = []
    refused: list[str] = []
    differences = await _differences(git, base, commit)
    sides = [side for one in differences for side in (one.before, one.after)]
    blobs = await git.blobs({blob.decode() for mode, blob in filter(None, sides) if mode in _FILE_MODES})
    for difference in differences:
        try:
            write = await _write(git, root, difference, blobs, before)
        except NotWritten as error:
            refused.extend(error.paths)
            continue
        if write is not None:
            writes.append(write)
    if refused:
        said = "the checkout was changed in the same places"
        raise NotWritten(said if before is None else "it was edited since it was applied", refused)
    return writes


async def _write(
    git: Git, root: Path, difference: _Difference, blobs: Mapping[str, bytes], earlier: Before | None
) -> Write | None:
    """What one path needs, None where it already is as the change would have it."""
    path = difference.path
    now = read_as_git(root, path)
    before, after = _content(blobs, difference.before), _content(blobs, difference.after)
    if is_same(after, now) or (earlier is not None and earlier.has(path, now)):
        return None
    if is_same(before, now):
        return Write(path, now, None if after is None else _with_mode(after, now))
    if before is None or after is None or now is None or before.is_link or after.is_link or now.is_link:
        raise NotWritten("it was edited since", [path])
    merged = await _merged(git, now.data, before.data, after.data)
    if merged is None:
        raise NotWritten("it was edited since", [path])
    # Who changed whether it is a program decides it; where both did they agree, there being two ways only.
    if earlier is not None and not earlier.is_back(path, now):
        if merged != now.data:
            raise NotWritten("it was edited since", [path])
        return None
    is_theirs = bool(before.mode & 0o100) == bool(after.mode & 0o100)
    return Write(path, now, Content(merged, now.mode if is_theirs else _with_mode(after, now).mode))


def _with_mode(after: Content, now: Content | None) -> Content:
    """The new content with the old permission bits, but for who may execute it."""
    if now is None or now.is_link or after.is_link:
        return after
    execute = (now.mode & 0o444) >> 2 if after.mode & 0o100 else 0
    return Content(after.data, (now.mode & ~0o111) | execute)


async def contents(git: Git, base: str, commit: str) -> list[tuple[str, bytes | None, bytes | None]]:
    """Give each path that two commits have otherwise, with its bytes in both; None where it is not there."""
    differences = await _differences(git, base, commit)
    sides = [side for one in differences for side in (one.before, one.after)]
    wanted = {blob.decode() for mode, blob in filter(None, sides) if mode in _FILE_MODES}
    found = await git.blobs(wanted)

    def data(side: tuple[bytes, bytes] | None) -> bytes | None:
        return None if side is None else found.get(side[1].decode(), b"")

    return [(one.path, data(one.before), data(one.after)) for one in differences]


def secrets_of(data: bytes, path: str, find: Callable[[str], frozenset[str]]) -> frozenset[str]:
    """What looks like a secret in a file, however it is encoded, or in its name."""
    texts = [path, data.decode("utf-8", "replace")]
    if b"\0" in data:  # UTF-16, or a text with zeros strewn in
        texts.append(data.replace(b"\0", b"").decode("utf-8", "replace"))
    return frozenset().union(*(find(text) for text in texts))


async def _differences(git: Git, base: str, commit: str) -> list[_Difference]:
    listed = await git.run("diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", base, commit)
    fields = listed.split(b"\0")
    found = []
    for meta, path in zip(fields[::2], fields[1::2], strict=False):
        old_mode, new_mode, old, new = meta.removeprefix(b":").split()[:4]
        sides = ((old_mode, old), (new_mode, new))
        before, after = (None if mode == _NOTHING else (mode, blob) for mode, blob in sides)
        found.append(_Difference(os.fsdecode(path), before, after))
    return found


def _content(blobs: Mapping[str, bytes], side: tuple[bytes, bytes] | None) -> Content | None:
    if side is None:
        return None
    mode, blob = side
    if mode not in _FILE_MODES:
        raise NotWritten("it is no file", [])
    data = blobs.get(blob.decode())
    if data is None:
        raise NotWritten("what the change holds is not kept any more", [])
    return Content(data, _FILE_MODES[mode], mode == _LINK)


async def _merged(git: Git, now: bytes, before: bytes, after: bytes) -> bytes | None:
    """Merge what the user and the change made of a file; None where they meet, or it is no text."""
    with temporary_folder("merge") as folder:
        names = []
        for name, data in (("now", now), ("before", before), ("after", after)):
            path = folder / name
            path.write_bytes(data)
            names.append(str(path))
        try:
            done = await git.attempt("merge-file", "-p", "-q", *names)
        except GitError:
            return None
    return done.stdout if done.exit == 0 and not done.is_truncated else None
