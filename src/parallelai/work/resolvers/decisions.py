"""How conflicts were settled, kept, so that the same conflict is settled the same way.

A decision is a small JSON file, named by the key of its conflict: a hash of the path and of what the hunks hold
on the base and on both sides, whatever stands around them, and whichever side comes first. Files lie below the
state, and with `decisions: commit` also in the repository, in `.parallelai/decisions`, as part of what lands. What
is read is not trusted: it is bounded, and its form and name are checked.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from parallelai.errors import UsageError
from parallelai.git.plumbing import Git
from parallelai.records import utc_now
from parallelai.store.files import replace_whole
from parallelai.work.resolvers.lines import lines
from parallelai.work.resolvers.records import Conflict
from parallelai.work.resolvers.splitting import Split

COMMITTED = ".parallelai/decisions"
MAX_BYTES = 4 * 1024 * 1024
MAX_LISTED = 10_000
_KEY = re.compile(r"[0-9a-f]{64}")
_ABSENT = b"\0absent"
Hunks = tuple[bytes | None, ...]


class Key(Struct, frozen=True):
    """What a conflict is known by.

    `is_swapped`: the sides are the other way round than in the key. `exact` is of the three whole texts.
    """

    key: str
    is_swapped: bool
    exact: str


class Decision(Struct, frozen=True):
    """How one file's conflict was settled.

    Attributes:
        key: the conflict's.
        hunks: what stands in place of each hunk; None is no file. With `exact` the whole text, alone.
        by: a resolver's name, an engine's, or `person`.
        why: in words, for people.
        is_swapped: the sides were the other way round than in the key.
        is_symmetric: it counts whichever side is ours.
        exact: it counts only where the three whole texts are these; empty where the hunks are enough.
    """

    key: str
    path: str
    hunks: Hunks
    by: str
    why: str = ""
    is_swapped: bool = False
    is_symmetric: bool = True
    exact: str = ""
    at: str = ""


def key_of(conflict: Conflict, split: Split | None) -> Key:
    """Give a conflict's key. White space at the ends of lines does not count."""
    hunks: Sequence[Conflict] = split.hunks if split is not None else (conflict,)
    base, ours, theirs = (
        [_plain(side) for side in sides]
        for sides in zip(*((one.base, one.ours, one.theirs) for one in hunks), strict=True)
    )
    is_swapped = theirs < ours
    first, second = (theirs, ours) if is_swapped else (ours, theirs)
    whole = sorted(side if side is not None else _ABSENT for side in (conflict.ours, conflict.theirs))
    return Key(
        _hash([os.fsencode(conflict.path), *base, *first, *second]),
        is_swapped,
        _hash([conflict.base if conflict.base is not None else _ABSENT, *whole]),
    )


def decided(
    conflict: Conflict, split: Split | None, text: bytes | None, by: str, *, why: str, is_symmetric: bool
) -> Decision:
    """Make the decision that a file's conflict was settled with a text, or by having no file (None)."""
    key = key_of(conflict, split)
    hunks: Hunks | None = (text,)
    exact = ""
    if split is not None:
        hunks = split.taken_apart(text) if text is not None else None
        if hunks is None:  # something beside the hunks was changed, too
            hunks, exact = (text,), key.exact
    return Decision(
        key.key,
        conflict.path,
        hunks or (text,),
        by,
        why[:1000],
        key.is_swapped,
        is_symmetric,
        exact,
        utc_now(),
    )


def applied(decision: Decision, key: Key, split: Split | None) -> tuple[bytes | None] | None:
    """Give what a decision makes of a conflict, as a tuple of the text or of None (no file).

    None where it was made of something else.
    """
    if decision.key != key.key:
        return None
    if not decision.is_symmetric and decision.is_swapped != key.is_swapped:
        return None
    if decision.exact or split is None:
        return (
            (decision.hunks[0],) if decision.exact in ("", key.exact) and len(decision.hunks) == 1 else None
        )
    if len(decision.hunks) != len(split.hunks):
        return None
    settled = tuple(hunk for hunk in decision.hunks if hunk is not None)
    return (split.joined(settled),) if len(settled) == len(split.hunks) else None


def encode(decision: Decision) -> bytes:
    """The file of a decision."""
    document = {
        "v": 1,
        "key": decision.key,
        "path": decision.path,
        "by": decision.by,
        "why": decision.why,
        "at": decision.at,
        "is_swapped": decision.is_swapped,
        "is_symmetric": decision.is_symmetric,
        "exact": decision.exact,
        "hunks": [_shown(hunk) for hunk in decision.hunks],
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def decode(data: bytes, key: str) -> Decision | None:
    """Read the file of a decision; None for what is none, or another conflict's."""
    if len(data) > MAX_BYTES:
        return None
    try:
        document = json.loads(data)
        if document["v"] != 1 or document["key"] != key:
            return None
        hunks = tuple(_text(hunk) for hunk in document["hunks"])
        path, by, why, at, exact = (_word(document[name]) for name in ("path", "by", "why", "at", "exact"))
        is_swapped, is_symmetric = (document[name] is True for name in ("is_swapped", "is_symmetric"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Decision(key, path, hunks, by, why, is_swapped, is_symmetric, exact, at) if hunks else None


class Decisions:
    """The decisions below the state: one file each, written whole or not at all."""

    def __init__(
        self, folder: Path, *, commits: bool = False, checkout: Path | None = None, is_kept: bool = True
    ) -> None:
        """Keep decisions in a folder, which is made when the first one is.

        Args:
            folder: where they lie, below the state.
            commits: they also land with what they were made for, and are found in the target.
            checkout: where the ones that landed lie in the user's checkout; these are listed, never written.
            is_kept: new ones are written; not where a landing is only tried.
        """
        self._is_kept = is_kept
        self._folder = folder
        self.commits = commits
        self._checkout = checkout

    def find(self, key: str) -> Decision | None:
        """Give the decision of a conflict."""
        return _read(self._folder, key)

    async def committed(self, git: Git, commit: str, key: str) -> Decision | None:
        """Give the decision of a conflict that a commit holds; None where decisions do not land."""
        if not self.commits or not _KEY.fullmatch(key):
            return None
        done = await git.attempt(
            "ls-tree", "-z", "--full-tree", "-l", commit, "--", f"{COMMITTED}/{key}.json"
        )
        row = done.stdout.split(b"\t", 1)[0].split()
        if done.exit != 0 or len(row) != 4 or row[0] != b"100644" or int(row[3]) > MAX_BYTES:
            return None
        name = row[2].decode()
        return decode((await git.blobs([name])).get(name, b""), key)

    def record(self, decision: Decision) -> None:
        """Keep a decision, in place of an earlier one of the same conflict. Raises OSError."""
        data = encode(decision)
        if not self._is_kept or len(data) > MAX_BYTES or not _KEY.fullmatch(decision.key):
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_whole(self._path(decision.key), data)

    async def all(self) -> tuple[Decision, ...]:
        """Give the decisions that are kept, and those that landed, the newest first; at most 10,000 of each."""
        return await asyncio.to_thread(self._all)

    async def forget(self, key: str) -> bool:
        """Drop a decision; whether there was one.

        `key` may be its first 6 or more characters, if only one begins so. Raises `UsageError` for one that has
        landed: that one is a file of the repository.
        """
        return await asyncio.to_thread(self._forget, key)

    def _all(self) -> tuple[Decision, ...]:
        found: dict[str, Decision] = {}
        for folder in (self._checkout, self._folder):
            for key in _keys(folder)[:MAX_LISTED] if folder is not None else ():
                one = _read(folder, key) if folder is not None else None
                if one is not None:
                    found[key] = one
        return tuple(sorted(found.values(), key=lambda one: (one.at, one.key), reverse=True))

    def _forget(self, key: str) -> bool:
        if not re.fullmatch(r"[0-9a-f]{6,64}", key):
            return False
        kept = [each for each in _keys(self._folder) if each.startswith(key)]
        landed = [each for each in _keys(self._checkout) if each.startswith(key)]
        meant = {*kept, *landed}
        if len(meant) != 1:
            return False
        for each in kept:
            self._path(each).unlink(missing_ok=True)
        if landed:
            said = f"decision `{landed[0][:12]}` has landed, and is a file of the repository now"
            raise UsageError(said, next=f"`git rm {COMMITTED}/{landed[0]}.json`, and commit that")
        return True

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"


def _read(folder: Path, key: str) -> Decision | None:
    if not _KEY.fullmatch(key):
        return None
    with contextlib.suppress(OSError):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(folder / f"{key}.json", flags)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - opened already, without following a link
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES:
                return decode(file.read(MAX_BYTES + 1), key)
    return None


def _keys(folder: Path | None) -> list[str]:
    """The keys of the decisions in a folder, sorted."""
    try:
        with os.scandir(folder if folder is not None else os.devnull) as entries:
            names = [entry.name.removesuffix(".json") for entry in entries if entry.name.endswith(".json")]
    except OSError:
        return []
    return sorted(name for name in names if _KEY.fullmatch(name))


def is_committed(path: str) -> bool:
    """Whether a path is that of a decision that landed with what it was made for."""
    folder, _, name = path.rpartition("/")
    return folder == COMMITTED and name.endswith(".json") and bool(_KEY.fullmatch(name[:-5]))


def _plain(side: bytes | None) -> bytes:
    return _ABSENT if side is None else b"".join(line.rstrip() + b"\n" for line in lines(side))


def _hash(parts: list[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(b"%d\n" % len(part) + part)
    return found.hexdigest()


def _shown(hunk: bytes | None) -> Any:
    if hunk is None:
        return None
    try:
        return hunk.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(hunk).decode()}


def _text(shown: Any) -> bytes | None:
    if isinstance(shown, dict):
        return base64.b64decode(shown["base64"], validate=True)
    if shown is None or isinstance(shown, str):
        return None if shown is None else shown.encode()
    raise TypeError("no text")


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value
