"""What a person took back from a target with `git revert`, by the words that git puts into such a commit's message.

A merge that was reverted is in the target's history, and its work is not in the target: git takes it for merged for
good. So it is treated as `work undo` would have left it. (The words: git-revert(1).)
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from parallelai.git.repository import Repository
from parallelai.work.landing.rows import Row, first_parents, rows_of
from parallelai.work.streams.record import REVERTED, Landed, Stream, taken_back
from parallelai.work.streams.registry import Streams

ByHand = Mapping[str, Mapping[str, bool]]
"""By commits of a target that `git revert` made: the tips that each took out, and (True) those that it brought back."""
_SAID = "This reverts commit "
_REVERTS = re.compile(rf"^{_SAID}([0-9a-f]{{40,64}})\b", re.MULTILINE)


async def reverts(repository: Repository, tip: str, rows: Sequence[Row]) -> ByHand:
    """Say what reverts among a target's rows, newest first, made of tips that a merge or a landing had brought."""
    said = await _said(repository, tip, rows)
    known = {row.commit: row for row in rows}
    named = {commit for commits in said.values() for commit in commits}
    known |= {row.commit: row for row in await rows_of(repository, sorted(named - known.keys()))}
    found: dict[str, dict[str, bool]] = {}
    for row in reversed(rows):  # a revert may be reverted itself
        for before in (known[commit] for commit in said.get(row.commit, ()) if commit in known):
            out = before.lands or before.parents[1:]
            back = [commit for commit, is_back in found.get(before.commit, {}).items() if not is_back]
            made = {**dict.fromkeys(out, False), **dict.fromkeys((*back, *before.undoes), True)}
            found.setdefault(row.commit, {}).update(made)
    return found


def latest(rows: Sequence[Row], by_hand: ByHand) -> dict[str, tuple[Row, bool]]:
    """What became last of each tip that rows tell of, newest first: by which row, and whether that landed it."""
    newest: dict[str, tuple[Row, bool]] = {}
    for row in rows:
        said = {**dict.fromkeys(row.undoes, False), **dict.fromkeys(row.lands, True)}
        for commit, is_landed in {**said, **by_hand.get(row.commit, {})}.items():
            newest.setdefault(commit, (row, is_landed))
    return newest


async def reverted(repository: Repository, streams: Iterable[Stream]) -> dict[str, Landed]:
    """Give what took those out of their targets, by name, whose landing or merge a person reverted.

    Only those are looked at whose branch is there, and no more than once for each revert.
    """
    by_target: dict[str, list[Stream]] = defaultdict(list)
    for stream in streams:
        if stream.undone is None and stream.state != "dropped" and stream.head != stream.base:
            by_target[stream.target].append(stream)
    found: dict[str, Landed] = {}
    for target, known in by_target.items():
        mine = await _with_branch(repository, known)
        tip = await repository.commit(f"refs/heads/{target}") if mine else None
        if tip is None:
            continue
        rows = await first_parents(repository, tip, [each.head for each in mine])
        by_hand = await reverts(repository, tip, rows)
        newest = latest(rows, by_hand) if by_hand else {}
        for each in mine:
            row, is_landed = newest.get(each.head, (None, True))
            if row is None or is_landed or row.commit not in by_hand:
                continue
            if each.undone_by is None or each.undone_by.commit != row.commit:  # else it was taken up since
                tree = await repository.tree(row.commit)
                found[each.name] = Landed(target, row.parents[0], row.commit, tree, notes=(REVERTED,))
    return found


async def note_reverts(repository: Repository, streams: Streams) -> None:
    """Write down of those that are ready or landed what a person reverted: it stays out until somebody asks for it."""
    for name, by in (await reverted(repository, _at_rest(streams.all()))).items():
        streams.update(name, partial(taken_back, by=by))


async def as_they_are(repository: Repository, streams: Sequence[Stream]) -> list[Stream]:
    """Give each as `note_reverts` would leave it; nothing is written."""
    out = await reverted(repository, _at_rest(streams))
    return [taken_back(each, out[each.name]) if each.name in out else each for each in streams]


def _at_rest(streams: Iterable[Stream]) -> list[Stream]:
    """Those that nobody works on: they are ready, or have landed."""
    return [each for each in streams if each.state in ("done", "landed")]


async def _with_branch(repository: Repository, streams: Sequence[Stream]) -> list[Stream]:
    refs = [f"refs/heads/{each.branch}" for each in streams]
    there = set((await repository.git.line("for-each-ref", "--format=%(refname)", *refs)).split("\n"))
    return [each for each, ref in zip(streams, refs, strict=True) if ref in there]


async def _said(repository: Repository, tip: str, rows: Sequence[Row]) -> Mapping[str, Sequence[str]]:
    """The rows that `git revert` made, with the commits that they name; not those of `work undo`."""
    if not rows:
        return {}
    since = [f"^{parent}" for parent in rows[-1].parents[:1]]
    words = ("log", "--first-parent", f"--grep=^{_SAID}", "--format=%H%x00%b%x00", tip, *since, "--")
    parts = os.fsdecode(await repository.git.run(*words)).split("\0")
    others = {row.commit for row in rows if not row.undoes}
    pairs = zip(map(str.strip, parts[::2]), parts[1::2], strict=False)
    said = {commit: _REVERTS.findall(body) for commit, body in pairs if commit in others}
    return {commit: hashes for commit, hashes in said.items() if hashes}
