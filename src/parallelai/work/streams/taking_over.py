"""Brings the target into a worktree also where git cannot merge it, for its assistant to settle.

Text gets git's markers; of what has none to put them into, the other version lies beside it (`beside`). The merge is a
commit of the branch, so that what the assistant makes of it merges cleanly afterwards. What is to be settled is written
into the workstream's record first: nothing lands as long as a marker, or a file beside another, is left.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from parallelai.git.merging import Entry, merge
from parallelai.git.repository import Repository
from parallelai.work.landing.history import to_merge
from parallelai.work.streams import syncing
from parallelai.work.streams.beside import belongs_to, beside, held_at, with_entries
from parallelai.work.streams.carrying import as_commit, trees
from parallelai.work.streams.markers import LONGEST_LABEL, brought
from parallelai.work.streams.now import find_place
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import Streams
from parallelai.work.streams.sparse import left_out
from parallelai.work.streams.syncing import Synced

_MARKER = re.compile(rb"^(?:<<<<<<<|>>>>>>>) [0-9a-f]{40}", re.MULTILINE)
"""What git begins and ends a conflict with when it merges commits by their hashes; no text has that by chance."""
_SUBMODULE = "160000"


async def take_over(repository: Repository, streams: Streams, stream: Stream, onto: str) -> Synced:
    """Bring a commit of the target into a worktree that is committed, to be settled where it conflicts.

    What no worktree can hold both versions of (a submodule is a commit, not a file), what a sparse one would not show,
    and what git cannot merge at all, is not brought in: `Synced.ok` is false, and nothing is touched. Raises as
    `syncing.sync` does.
    """
    tip = await repository.commit(f"refs/heads/{stream.branch}") or stream.head
    own = await to_merge(repository, stream, tip, onto)
    merged = await merge(repository.git, own, onto)
    if merged.is_clean:
        return await syncing.sync(repository, streams, stream, onto, "merge")
    paths = tuple(conflict.path for conflict in merged.conflicts)
    there = await held_at(repository, merged.tree, paths)
    texts = await _marked(repository, there)
    others = [conflict for conflict in merged.conflicts if conflict.path not in texts]
    held = {path: entry for path, entry in there.items() if path not in texts}
    more = beside(others, held, own, onto)
    files = (*texts, *(more or ()), *(path for path in held if belongs_to(path) is not None))
    if more is None or not files:
        return Synced(False, stream, why="git cannot put both sides into one worktree", files=paths)
    if stream.is_sparse and (hidden := await left_out(find_place(repository, stream), files)):
        why = "the worktree holds a part of the files, and would not have all that is to be settled"
        return Synced(False, stream, why=why, files=hidden)
    labels = {own: stream.name, onto: stream.target}
    named = {path: await _written(repository, there[path], text, labels) for path, text in texts.items()}
    tree = await with_entries(repository, merged.tree, {**more, **named})
    message = f"Merge `{stream.target}` into `{stream.branch}`, to be settled\n"
    made = await as_commit(repository, tree, (tip, onto), message.encode())

    def noted(it: Stream) -> Stream:
        # What came in before stays, too: `unsettled` says, of the branch, what is settled by now.
        files_left = tuple(dict.fromkeys((*it.unsettled, *files)))
        return dataclasses.replace(it, unsettled=files_left, approved_head=None)

    streams.update(stream.name, noted)
    synced = await syncing.sync(repository, streams, stream, made, "merge", base=onto)
    if not synced.ok:  # nothing came in, so what a person saw is what there is
        was = (stream.unsettled, stream.approved_head)
        streams.update(
            stream.name, lambda it: dataclasses.replace(it, unsettled=was[0], approved_head=was[1])
        )
    return synced


async def unsettled(repository: Repository, base: str, tip: str, files: Sequence[str]) -> tuple[str, ...]:
    """What of a branch is not settled: files with markers, or beside another file, that it has brought since `base`.

    `files` are those that were to be settled; none is left where there are none. What the target, or the assistant,
    has given another name since is found under that name. Raises `GitError`.
    """
    if not files:
        return ()
    markers = await brought(repository, base, tip)
    changed = await trees(repository, base, tip)
    new = {each.path for each in changed if each.before is None and each.after is not None}
    left = {each.path for each in markers if each.is_ours or each.path in files}
    left |= {path for path in new if belongs_to(path) is not None}
    return (*(path for path in files if path in left), *sorted(left.difference(files)))


def settling(stream: Stream) -> frozenset[str]:
    """What a workstream may change for the time, whoever owns it: the files that it has to settle."""
    return frozenset(path for each in stream.unsettled for path in (each, belongs_to(each)) if path)


def labelled(text: bytes, labels: Mapping[str, str]) -> bytes:
    """Put the names of commits before their hashes in git's conflict markers; too long a name is left out. Pure."""
    for commit, name in labels.items():
        label = name.encode()
        if len(label) <= LONGEST_LABEL:
            marker = rb"^(<<<<<<<|>>>>>>>) (?=" + commit.encode() + rb"(?:[:\r\n]|\Z))"
            named = rb"\g<0>" + label.replace(b"\\", rb"\\") + b" "
            text = re.sub(marker, named, text, flags=re.MULTILINE)
    return text


async def _written(repository: Repository, held: Entry, text: bytes, labels: Mapping[str, str]) -> Entry:
    """Write a file with conflict markers that say whose each side is. Raises `GitError`."""
    blob = await repository.git.line("hash-object", "-w", "--stdin", stdin=labelled(text, labels))
    return Entry(held.mode, blob)


async def _marked(repository: Repository, held: Mapping[str, Entry]) -> dict[str, bytes]:
    """The contents of those of some files that have git's conflict markers in them. Raises `GitError`."""
    texts = await repository.git.blobs({entry.blob for entry in held.values() if entry.mode != _SUBMODULE})
    found = {path: texts.get(entry.blob, b"") for path, entry in held.items()}
    return {path: text for path, text in found.items() if _MARKER.search(text)}
