"""What a person took back from a target with `git revert`, by the words that git puts into such a commit's message.

A merge that was reverted is in the target's history, and its work is not in the target: git takes it for merged for
good. So it is treated as `work undo` would have left it. (The words: git-revert(1).)

Words are no proof, and anybody may write them: a revert counts where its change takes back what it names, all of it.
So it is enough that some are left, as in what was squashed, or of a message that was written anew but for its title.
It may have come in with a branch that was merged: then that merge is what took it back.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from parallelai.git import merging as git_merging
from parallelai.git.merging import Merged
from parallelai.git.plumbing import Git
from parallelai.git.repository import Repository
from parallelai.processes.temporary import temporary_folder
from parallelai.work.landing.rows import Row, before_of, first_parents, rows_of
from parallelai.work.streams.record import REVERTED, Landed, Stream, taken_back
from parallelai.work.streams.registry import Streams

ByHand = Mapping[str, Mapping[str, bool]]
"""By commits of a target that reverted something: the tips that each took out, and (True) that it brought back."""
Whole = tuple[str, str, str]
"""The commits between which all lies that a tip brought, and that tip."""
Alike = Sequence[tuple[Sequence[Row], int]]
"""For each title that a commit names: the commits of that title, the latest first, and how often it is named."""
_REVERTS = re.compile(r"^[ *]*This reverts commit ([0-9a-f]{40,64})\b", re.MULTILINE)
_TITLE = re.compile(r"^[ *]*(?:Revert|(Reapply)) \"(.+)\"(?: \(#\d+\))?$", re.MULTILINE)
_SAID = '^[ *]*(This reverts commit |Revert "|Reapply ")'
"""How a line of these begins, for git; in what was squashed it is indented, or an item of a list."""
_MOST_TITLED = 5
"""So many commits of one title are looked at, the latest ones before what says that it reverts one."""


async def reverts(
    repository: Repository, tip: str, rows: Sequence[Row], works: Iterable[tuple[str, str]]
) -> ByHand:
    """Say what reverts among a target's rows, newest first, made of tips that a merge or a landing had brought.

    `works`: what each workstream was cut from, and its tip. A person may have moved the target along to that.
    """
    said, alike = await _said(repository, tip, rows)
    if not said:
        return {}
    first = {row.commit: row for row in rows}
    others = {*said, *(commit for commits in said.values() for commit in commits)} - first.keys()
    known = first | {row.commit: row for row in await rows_of(repository, sorted(others))}
    own = await _own(repository, tip, works)
    replayed = await _replayed(repository, rows, {commit for commits in said.values() for commit in commits})
    counting = {
        *own,
        *replayed,
        *said,
        *(row.commit for row in known.values() if row.lands or row.undoes or row.parents[1:]),
    }
    said |= {row.commit: await _meant(repository, row, those, counting) for row, those in alike}
    found: dict[str, dict[str, bool]] = {}
    for row, commits in await _in_order(repository, tip, rows, said, known):
        made: dict[str, bool] = {}
        for before in (known[commit] for commit in dict.fromkeys(commits) if commit in known):
            # In a branch anybody may have written trailers.
            is_part = before.commit in replayed
            its = before if before.commit in first and not is_part else Row(before.commit, before.parents)
            tips = _tips(its, found.get(before.commit, {}))
            if tips and await takes_back(repository, row, before.parents[0], before.commit):
                made |= tips
            wholes = (*own.get(before.commit, ()), *replayed.get(before.commit, ()))
            for base, last, brought in wholes:  # the last of several reverts took all of it
                if await takes_back(repository, row, base, last):
                    made[brought] = False
        if made:
            found[row.commit] = made
    return found


def _tips(before: Row, reverted: Mapping[str, bool]) -> dict[str, bool]:
    """What is made of tips where a commit is taken back, which had `reverted` some itself."""
    if not before.parents:
        return {}
    out = before.lands or before.parents[1:]
    again = {commit: not is_back for commit, is_back in reverted.items()}
    return {**dict.fromkeys(out, False), **dict.fromkeys(before.undoes, True), **again}


async def without(git: Git, before: str, after: str, tip: str) -> Merged:
    """A commit without what lies between two others, as `git revert` would merge it. Raises `GitError`."""
    theirs = await git_merging.with_base(git, before, after)
    ours = await git_merging.with_base(git, tip, after)  # which may be there by content only
    return await git_merging.merge(git, ours, theirs)


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
        by_hand = await reverts(repository, tip, rows, [(each.base, each.head) for each in mine])
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


async def _said(
    repository: Repository, tip: str, rows: Sequence[Row]
) -> tuple[dict[str, Sequence[str]], Sequence[tuple[Row, Alike]]]:
    """The commits that `git revert` made since the oldest row, with those that they name; not those of `work undo`.

    Where no hash is left they are named by their titles: with all that these may mean, which is also given apart.
    """
    if not rows:
        return {}, ()
    words = ("log", "--extended-regexp", f"--grep={_SAID}", "--format=%H%x00%B%x00", tip, *_since(rows), "--")
    parts = os.fsdecode(await repository.git.run(*words)).split("\0")
    ours = {row.commit for row in rows if row.undoes}
    pairs = zip(map(str.strip, parts[::2]), parts[1::2], strict=False)
    messages = {commit: message for commit, message in pairs if commit not in ours}
    said: dict[str, Sequence[str]] = {commit: _REVERTS.findall(each) for commit, each in messages.items()}
    titled = {commit: _titles(messages[commit]) for commit, hashes in said.items() if not hashes}
    alike = await _alike(repository, tip, rows, titled) if any(titled.values()) else ()
    said |= {row.commit: [each.commit for those, _ in names for each in those] for row, names in alike}
    return {commit: hashes for commit, hashes in said.items() if hashes}, alike


def _titles(message: str) -> list[str]:
    """The titles of the commits that a message says it reverts."""
    return [f'Revert "{title}"' if again else title for again, title in _TITLE.findall(message)]


async def _alike(
    repository: Repository, tip: str, rows: Sequence[Row], titled: Mapping[str, Sequence[str]]
) -> Sequence[tuple[Row, Alike]]:
    """The commits that name titles, with what came before them under these since the oldest row."""
    words = ("log", "--topo-order", "--format=%H%x00%P%x00%s", tip, *_since(rows), "--")
    listed = os.fsdecode(await repository.git.run(*words)).rstrip("\n")
    found: list[tuple[Row, Alike]] = []
    earlier: dict[str, list[Row]] = defaultdict(list)
    for line in reversed(listed.split("\n")):
        commit, parents, own = line.split("\0", 2)
        row = Row(commit, tuple(parents.split()))
        wanted = Counter(each for each in titled.get(commit, ()) if each in earlier)
        if wanted:
            names = [(earlier[title][: -_MOST_TITLED - 1 : -1], times) for title, times in wanted.items()]
            found.append((row, names))
        earlier[own].append(row)
    return found


async def _meant(repository: Repository, by: Row, alike: Alike, counting: Collection[str]) -> list[str]:
    """Of commits of one title those that a commit takes back, as many as it names: the latest ones.

    All, where it takes none of them back alone: they may be parts of what it does. Nor is it asked of what nothing
    comes of.
    """
    found: list[str] = []
    for those, times in alike:
        taken: list[str] = []
        if len(those) > times and any(each.commit in counting for each in those):
            for each in those:
                if each.parents and await takes_back(repository, by, each.parents[0], each.commit):
                    taken.append(each.commit)
                if len(taken) == times:
                    break
        found += taken or [each.commit for each in those]
    return found


async def _in_order(
    repository: Repository,
    tip: str,
    rows: Sequence[Row],
    said: Mapping[str, Sequence[str]],
    known: Mapping[str, Row],
) -> list[tuple[Row, Sequence[str]]]:
    """What says that it reverts, with all that it names, oldest first: a revert may be reverted itself.

    A merge says what its branch says, which comes before it.
    """
    first = {row.commit for row in rows}
    parents: dict[str, list[str]] = {}
    if not first.issuperset(said):
        listed = await repository.git.line("rev-list", "--topo-order", "--parents", tip, *_since(rows), "--")
        parents = {commit: above for commit, *above in map(str.split, listed.splitlines())}
    places = {commit: place for place, commit in enumerate(parents)}
    found: list[tuple[Row, Sequence[str]]] = []
    for row in reversed(rows):
        inside, ahead = [], list(row.parents[1:])
        while ahead:
            above = parents.pop(commit := ahead.pop(), None)
            if above is None or commit in first:
                continue
            ahead += above
            inside += [commit] if commit in said else []
        inside.sort(key=places.__getitem__, reverse=True)
        found += [(known[commit], said[commit]) for commit in inside]
        names = [*said.get(row.commit, ()), *(name for commit in inside for name in said[commit])]
        found += [(row, names)] if names else []
    return found


async def _own(
    repository: Repository, tip: str, works: Iterable[tuple[str, str]]
) -> Mapping[str, Sequence[Whole]]:
    """By commits of workstreams that a target has as they are: what each was cut from, and the last that is there."""
    found: dict[str, list[Whole]] = defaultdict(list)
    for base, head in dict.fromkeys(works):
        shared = await repository.git.attempt("merge-base", head, tip)
        last = os.fsdecode(shared.stdout).strip()
        if shared.exit == 0 and last != base:
            listed = await repository.git.line("rev-list", "--no-merges", last, f"^{base}", "--")
            for commit in listed.split():
                found[commit].append((base, last, last))
    return found


async def _replayed(
    repository: Repository, rows: Sequence[Row], names: Collection[str]
) -> Mapping[str, Sequence[Whole]]:
    """The same of rows that are among those by which a rebase landed a branch; only of what is named, and its kin."""
    found: dict[str, list[Whole]] = defaultdict(list)
    places = {row.commit: place for place, row in enumerate(rows)}
    landings = [place for place, row in enumerate(rows) if row.lands]
    for at in sorted({place for name in names if (place := places.get(name)) is not None}):
        last = max((place for place in landings if place <= at), default=None)
        if last is None or rows[at].commit in found:
            continue
        whole = rows[last]
        before = await before_of(repository, whole)
        end = places.get(before, len(rows))
        if at < end and [before] != list(whole.parents[:1]):
            for row in rows[last:end]:
                found[row.commit].append((before, whole.commit, whole.lands[0]))
    return found


async def takes_back(repository: Repository, row: Row, before: str, after: str) -> bool:
    """Whether a commit takes back what lies between two others: where git would, it came to what git comes to.

    It may do more than that. Where later work changed the same lines, a person settled it.
    """
    if not row.parents:
        return False
    was, kept = row.parents[0], repository.git.git_dir / "objects"
    with temporary_folder("reverts") as folder:  # who only looks writes nothing into the repository
        git = replace(repository.git, objects=folder, alternates=(*repository.git.alternates, kept))
        merged = await without(git, before, after, was)
        conflicting = {os.fsencode(conflict.path) for conflict in merged.conflicts}
        if not merged.is_clean and not conflicting:
            return False
        wanted = await _differing(git, was, merged.tree)
        clear = {path for path in wanted if path.partition(b"~")[0] not in conflicting}
        if clear & await _differing(git, merged.tree, row.commit):
            return False
        return bool((clear | conflicting) & await _differing(git, was, row.commit))


async def _differing(git: Git, a: str, b: str) -> set[bytes]:
    listed = await git.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", a, b)
    return {path for path in listed.split(b"\0") if path}


def _since(rows: Sequence[Row]) -> list[str]:
    return [f"^{parent}" for parent in rows[-1].parents[:1]]
