"""What is a workstream's own in a worktree, amid a merge or rebase that nobody has finished."""

from __future__ import annotations

import re
from dataclasses import replace

from parallelai.git.merging import Entry
from parallelai.work.streams.adopting import unmerged
from parallelai.work.streams.beside import held_at, with_entries
from parallelai.work.streams.now import Now
from parallelai.work.streams.places import Place, first_line
from parallelai.work.streams.record import Stream

_OURS, _THEIRS = "2", "3"
_REBASES = ("rebase-merge", "rebase-apply")
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
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
    conflicts = await unmerged(place)
    held = await held_at(place.repository, now.commit, conflicts.keys() | set(stream.unsettled))
    texts = await git.blobs({entry.blob for entry in held.values()})
    entries = {}
    for path, entry in held.items():
        stages = conflicts.get(path, {})
        if _OURS not in stages and stages.get(_THEIRS) == entry.blob:  # the workstream has removed it
            entries[path] = Entry("0", "0" * len(entry.blob))
            continue
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


def told(place: Place) -> str:
    """What a person is told where `own_side` is not all that lay there, which is kept."""
    what = "where a merge was not settled, the patch has the workstream's own side"
    if _is_rebasing(place):
        what = "a rebase was not finished: the patch has what was on the branch before it"
    return f"{what}; all as it lay there"


async def beside(place: Place, now: Now) -> list[tuple[str, str]]:
    """The commits that git alone knows of in a worktree, and no file nor branch holds, with what each of them is.

    That is what it put by when a merge or rebase began (`--autostash`), what a rebase has come to so far, and what was
    committed on no branch.
    """
    repository, admin = place.repository, place.entry.admin
    found = []
    for name in ("MERGE_AUTOSTASH", *(f"{each}/autostash" for each in _REBASES)):
        if (commit := await _named(place, name)) is not None:
            found.append((commit, "what git had put by when it began (`--autostash`)"))
    made = await _named(place, "HEAD")
    onto = {first_line(admin / each / "onto") for each in _REBASES}
    if made is not None and made not in onto and not await repository.ancestor(made, now.tip):
        what = "the rebase had committed so far" if _is_rebasing(place) else "was committed on no branch"
        found.append((made, f"what {what}"))
    return found


async def alone(place: Place, tip: str) -> list[tuple[str, str]]:
    """Those that are in the history of no ref: with git's own folder of the worktree they would go."""
    git, found = place.repository.git, []
    for commit, said in await beside(place, Now(tip, tip)):
        words = ("for-each-ref", "--count=1", "--format=%(refname)", "--contains", commit)
        if not await git.line(*words):
            found.append((commit, said))
    return found


async def _named(place: Place, name: str) -> str | None:
    """The commit that a file of git's names."""
    line = first_line(place.entry.admin / name) or ""
    return await place.repository.commit(line) if _HASH.fullmatch(line) else None


def _is_rebasing(place: Place) -> bool:
    return any((place.entry.admin / name).exists() for name in _REBASES)
