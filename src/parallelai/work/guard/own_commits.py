"""A person's commits in a worktree: which stay as they are, and what is told of those that do not."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Sequence

from parallelai.git.repository import Repository
from parallelai.results.printable import visible
from parallelai.work.guard import facts
from parallelai.work.guard.measure import Found, rows_of, with_targets
from parallelai.work.guard.place import Place, Settings, git_dir_of
from parallelai.work.scratch.measuring import MAX_FILE_BYTES
from parallelai.work.streams import left
from parallelai.work.streams.places import entry_of
from parallelai.work.streams.record import KeptOut, Stream

MOST = 200
"""Commits that are looked at one by one, which takes time; of more the content is committed as one."""
_MOST_NAMED = 50
_SUBMODULE = "160000"
_ANEW = "undone: what may stay is committed anew"
_WHO = "%an <%ae>"
_ALSO = "%(trailers:key=Co-authored-by,valueonly,separator=%x1f)"


@dataclasses.dataclass(frozen=True, slots=True)
class Undone:
    """Commits that were undone, but merges, oldest first: their names, their subjects; and who else made them."""

    commits: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()


# -- those that stay


async def last_to_stay(settings: Settings, stream: Stream, settling: Collection[str]) -> str:
    """The commit that the branch of a worktree goes on from: its tip, where each commit up to it may stay; else ours.

    What one of them brought in counts, also where a later one took it back: it would be in the history.
    """
    repository = settings.repository
    entry = entry_of(repository, settings.worktree)
    tip = await repository.commit(settings.ref)
    is_persons = not stream.in_attempt and entry is not None and entry.branch == settings.branch
    if not is_persons or tip is None or tip == stream.head:
        return stream.head
    rows = await repository.git.line(
        "rev-list", "--parents", f"--max-count={MOST + 1}", f"^{stream.head}", tip
    )
    pairs = [row.split() for row in rows.splitlines()]
    is_straight = bool(pairs) and pairs[-1][1:] == [stream.head] and all(len(each) == 2 for each in pairs)
    if not is_straight or len(pairs) > MOST:  # a merge is not looked through
        return stream.head
    place = Place(settings, git_dir_of(repository, settings.worktree))
    place.make_folders()
    permits = await facts.permits_of(repository, settings.rules, stream.leases, settings.plan_file, settling)
    for commit, parent in pairs:
        found = await _found(place, parent, commit)
        if any(_SUBMODULE in (side[0] for side in (each.before, each.after) if side) for each in found):
            return stream.head
        if (await facts.judged(place, permits, parent, found)).out or await _is_huge(repository, found):
            return stream.head
        if await facts.secrets_in(repository.git, parent, commit, settings.secrets_in):
            return stream.head
    return tip


async def _found(place: Place, parent: str, commit: str) -> list[Found]:
    git = place.settings.repository.git
    sides = (f"{parent}^{{tree}}", f"{commit}^{{tree}}")
    listed = await git.run("diff-tree", "-r", "-z", "--raw", "--no-abbrev", "-M", *sides)
    return await with_targets(git, rows_of(listed), place.worktree)


async def _is_huge(repository: Repository, found: Sequence[Found]) -> bool:
    """Whether a file is larger than any that the guard lets into a commit."""
    stdin = "".join(f"{each.after[1]}\n" for each in found if each.after is not None).encode()
    listed = await repository.git.run("cat-file", "--batch-check=%(objectsize)", stdin=stdin)
    return any(int(size) > MAX_FILE_BYTES for size in listed.split() if size.isdigit())


# -- those that do not


async def told_of(repository: Repository, commits: Sequence[str]) -> Undone:
    """Read what is to be told of commits, which are given newest first; of a sandbox's nothing is known here."""
    there = [each for each in commits if await repository.commit(each) is not None]
    if not there:
        return Undone()
    words = ("log", "-z", "--no-walk=unsorted", "--no-merges", f"--format=%H%x1f{_WHO}%x1f{_ALSO}%x1e%s")
    rows = os.fsdecode(await repository.git.run(*words, *there, "--")).split("\0")
    known = await repository.as_user("var", "GIT_AUTHOR_IDENT")
    me = known.stdout.decode("utf-8", "replace").rpartition(">")[0] + ">"
    names, subjects, authors = list[str](), list[str](), list[str]()
    for row in reversed([each for each in rows if each]):
        about, _, subject = row.partition("\x1e")
        name, *who = (visible(each.strip()) for each in about.split("\x1f"))
        names.append(name)
        subjects.append(visible(subject.strip()))
        authors += [each for each in who if each not in ("", me)]
    return Undone(tuple(names), tuple(subjects), tuple(dict.fromkeys(authors)))


def worded(message: str, undone: Undone) -> str:
    """The message of a commit of ours that stands for commits which were undone."""
    if not undone.subjects:
        return message
    lines = [f"- {subject}" for subject in undone.subjects[:_MOST_NAMED]]
    more = len(undone.subjects) - _MOST_NAMED
    return "\n".join((message.rstrip("\n"), "", *lines, *([f"- and {more} more"] if more > 0 else []), ""))


async def keep(repository: Repository, stream: Stream, undone: Undone) -> tuple[KeptOut, ...]:
    """Keep commits that were undone under names of ours; gives what a person is told of it."""
    if not undone.commits:
        return ()
    tips = (await repository.git.line("merge-base", "--independent", *undone.commits)).split()
    refs = [await left.keep(repository, stream.run, stream.name, tip) for tip in tips]
    what = "a commit was" if len(undone.commits) == 1 else f"{len(undone.commits)} commits were"
    shown = ", ".join(f"`{tip[:10]}`" for tip in tips)
    logs = ", ".join(f"`git log {ref}`" for ref in refs)
    said = f"{what} {_ANEW}; {logs} shows them as they were, up to {shown}"
    return (KeptOut((), said),)


def is_of_commits(kept: KeptOut) -> bool:
    """Whether what is told is of commits that were undone, and not of content."""
    return not kept.paths and _ANEW in kept.why
