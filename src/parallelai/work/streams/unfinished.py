"""What is a workstream's own in a worktree, amid a merge or rebase that nobody has finished."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace

from parallelai.git.merging import Entry
from parallelai.work.streams.adopting import unmerged
from parallelai.work.streams.beside import held_at, with_entries
from parallelai.work.streams.left import LEFT
from parallelai.work.streams.now import Now
from parallelai.work.streams.places import Place
from parallelai.work.streams.record import Stream

_REBASES = ("rebase-merge", "rebase-apply")
UNFINISHED = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", *_REBASES)
"""What git keeps in its folder of a worktree while it is not done there."""
_CONFLICT = re.compile(
    rb"^<{7} [^\n]*\n(.*?)(?:^\|{7}[^\n]*\n.*?)?^={7}\r?\n.*?^>{7} [^\n]*(?:\n|\Z)", re.MULTILINE | re.DOTALL
)


async def own_side(place: Place, stream: Stream, now: Now) -> Now:
    """Give what is in a worktree with our side of each conflict that git marked there. Raises `GitError`.

    Amid a rebase that is what the branch has: in the files, commits are missing that git had not come to.
    """
    if _is_rebasing(place):
        return replace(now, commit=now.tip, changed=())
    git = place.repository.git
    held = await held_at(place.repository, now.commit, await unmerged(place) | set(stream.unsettled))
    texts = await git.blobs({entry.blob for entry in held.values()})
    entries = {}
    for path, entry in held.items():
        text = texts.get(entry.blob, b"")
        if (own := ours_of(text)) != text:
            entries[path] = Entry(entry.mode, await git.line("hash-object", "-w", "--stdin", stdin=own))
    if not entries:
        return now
    tree = await with_entries(place.repository, now.commit, entries)
    git = await git.dated(now.tip)
    commit = await git.line("commit-tree", tree, "-p", now.tip, "-m", f"What is {stream.name}'s own")
    return replace(now, commit=commit)


def ours_of(text: bytes) -> bytes:
    """Take our side of each conflict that git marked in a text. Pure."""
    return _CONFLICT.sub(rb"\1", text)


def told(place: Place, stream: Stream, ref: str) -> str:
    """What a person is told where `own_side` is not all that lay there, which is kept under `ref`."""
    what = "where a merge was not settled, the patch has the workstream's own side"
    if _is_rebasing(place):
        what = "a rebase was not finished: the patch has what was on the branch before it"
    back = f"git branch {shlex.quote(f'{stream.name}-left')} {shlex.quote(ref)}"
    go = f"parallelai work clean --left {shlex.quote(ref.removeprefix(LEFT).rpartition('/')[2])}"
    return f"{what}; all as it lay there is kept in git: `{back}` takes it, `{go}` lets it go"


def _is_rebasing(place: Place) -> bool:
    return any((place.entry.admin / name).exists() for name in _REBASES)
