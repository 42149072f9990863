"""git's own merges, many in one process, without a work tree: `git merge-tree --write-tree --stdin`.

The form of its answers is in git-merge-tree(1), "OUTPUT"; measured with git 2.39: for each line of input a flag
(1 clean, 0 not), the tree, the conflicting entries and the messages, each part ended by an empty field; a
clean merge has no messages. 2.39 knows no `--merge-base`: `with_base` makes commits that share the wanted one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct, field

from parallelai.git.plumbing import Git, GitError, failure
from parallelai.records import ConflictKind

_FAILED = (signal.SIGABRT, signal.SIGSEGV)
AT_ONCE = 2000
"""Merges in one process: its whole output is held in memory."""

_KINDS: dict[str, ConflictKind] = {
    "CONFLICT (contents)": "content",
    "CONFLICT (add/add)": "add/add",
    "CONFLICT (modify/delete)": "modify/delete",
    "CONFLICT (rename/delete)": "rename/delete",
    "CONFLICT (rename/rename)": "rename/rename",
    "CONFLICT (rename involved in collision)": "rename/rename",
    "CONFLICT (rename/add)": "add/add",
    "CONFLICT (file/directory)": "file/directory",
    "CONFLICT (directory/file)": "file/directory",
    "CONFLICT (implicit dir rename)": "rename/rename",
    "CONFLICT (directory rename split)": "rename/rename",
    "CONFLICT (directory rename unclear split)": "rename/rename",
    "CONFLICT (binary)": "binary",
    "CONFLICT (submodule)": "submodule",
    "CONFLICT (submodule with conflicts)": "submodule",
    "CONFLICT (distinct modes)": "mode",
    "CONFLICT (distinct types)": "mode",
}
_MODES = {"160000": "submodule"}


class Entry(Struct, frozen=True):
    """One side of a conflicting path: its mode (`100644`) and the hash of its content."""

    mode: str
    blob: str


class Conflicted(Struct, frozen=True):
    """A path that git could not merge: `stages` are 1 the base's, 2 ours, 3 theirs, as far as they have it."""

    path: str
    kind: ConflictKind
    stages: Mapping[int, Entry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of one merge. `tree` holds conflict markers where it is not clean; `said` are git's messages.

    Not clean, and no conflicts: git itself could not do this merge, and `tree` is that of our side.
    """

    tree: str
    is_clean: bool
    conflicts: tuple[Conflicted, ...] = ()
    said: tuple[str, ...] = ()


async def merge(git: Git, ours: str, theirs: str) -> Merged:
    """Merge two commits as `git merge` would. Raises `GitError`."""
    return (await merge_all(git, [(ours, theirs)]))[0]


async def merge_all(git: Git, pairs: Sequence[tuple[str, str]]) -> list[Merged]:
    """Merge each pair of commits, all in one process. Raises `GitError` for what are no two commits.

    On some renames git 2.39 ends with a failed assertion: that pair alone is then one that it cannot merge.
    """
    found: list[Merged] = []
    for start in range(0, len(pairs), AT_ONCE):
        found += await _batch(git, pairs[start : start + AT_ONCE])
    return found


async def _batch(git: Git, pairs: Sequence[tuple[str, str]]) -> list[Merged]:
    found: list[Merged] = []
    waiting = [pairs]
    while waiting:
        part = waiting.pop()
        merged = await _together(git, part)
        if merged is not None:
            found += merged
        elif len(part) == 1:
            ours = await git.line("rev-parse", f"{part[0][0]}^{{tree}}")
            found.append(Merged(ours, False, (), ("git failed on this merge",)))
        else:
            half = len(part) // 2
            waiting += [part[half:], part[:half]]
    return found


async def _together(git: Git, pairs: Sequence[tuple[str, str]]) -> list[Merged] | None:
    """Merge pairs in one process; None where git ended by a signal. Raises `GitError`."""
    stdin = "".join(f"{ours} {theirs}\n" for ours, theirs in pairs).encode()
    arguments = ("merge-tree", "--write-tree", "--allow-unrelated-histories", "--stdin")
    done = await git.attempt(*arguments, stdin=stdin)
    if done.signal in _FAILED:
        return None
    if done.exit not in (0, 1) or done.is_truncated:
        raise failure(arguments, done)
    fields = iter(done.stdout.split(b"\0"))
    return [_one(fields) for _ in pairs]


def _one(fields: Iterator[bytes]) -> Merged:
    flag = next(fields, None)
    if flag not in (b"0", b"1"):
        raise GitError(f"`git merge-tree` gave an answer that is not known: {flag!r}")
    tree = next(fields).decode()
    if flag == b"1":
        next(fields)
        return Merged(tree, True)
    stages: dict[str, dict[int, Entry]] = {}
    while row := next(fields):
        meta, path = row.split(b"\t", 1)
        mode, blob, stage = meta.decode().split(" ")
        stages.setdefault(os.fsdecode(path), {})[int(stage)] = Entry(mode, blob)
    kinds: dict[str, ConflictKind] = {}
    said = []
    while (
        count := next(fields)
    ).isdigit():  # of submodules git 2.39 goes on in a form of its own, to the end
        paths = [os.fsdecode(next(fields)) for _ in range(int(count))]
        type_, message = next(fields).decode(), next(fields).decode(errors="replace").strip()
        if type_.startswith("CONFLICT"):
            said.append(message)
            for name in paths:
                kinds.setdefault(name, _KINDS.get(type_, "content"))
    conflicts = [
        Conflicted(path, _kind(kinds.get(path, "content"), sides), sides) for path, sides in stages.items()
    ]
    return Merged(tree, False, tuple(sorted(conflicts, key=lambda one: one.path)), tuple(said))


def _kind(told: ConflictKind, sides: Mapping[int, Entry]) -> ConflictKind:
    """git calls two new files a conflict of contents; what they are is told by the stages."""
    if any(side.mode in _MODES for side in sides.values()):
        return "submodule"
    if told == "content" and 1 not in sides and 2 in sides and 3 in sides:
        return "add/add"
    return told


async def with_base(git: Git, commit: str, base: str) -> str:
    """A commit with the tree of `commit` and `base` as its only parent, so that merges take `base` as theirs."""
    tree = await git.line("rev-parse", f"{commit}^{{tree}}")
    dated = await git.dated(base)
    return await dated.line("commit-tree", tree, "-p", base, "-m", "As cut from there")
