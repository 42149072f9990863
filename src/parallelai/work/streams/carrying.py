"""What a branch and its uncommitted work become on another base: decided in the object store alone."""

from __future__ import annotations

import os
from typing import Literal

from msgspec import Struct

from parallelai.git.merging import Merged, merge, with_base
from parallelai.git.plumbing import Git, failure
from parallelai.git.repository import Repository

How = Literal["merge", "rebase"]
Meets = Literal["commits", "uncommitted"]


class Carried(Struct, frozen=True):
    """The branch's new tip, and a commit on it of what the worktree is to hold."""

    tip: str
    now: str


class Refused(Struct, frozen=True):
    """Why it was not possible, and the files that stand against it; `meets`: what of it meets the target there."""

    why: str
    files: tuple[str, ...] = ()
    meets: Meets | None = None


async def carry(
    repository: Repository, tip: str, now: str, onto: str, how: How, message: str, own: str | None = None
) -> Carried | Refused:
    """Bring commits, and what is uncommitted on them, to a new base.

    Args:
        tip: the branch.
        now: what is in the worktree: the tip, or a commit on it.
        onto: a commit of the target.
        message: of the merge commit.
        own: a commit to merge in the stead of the tip, of which the target took something back.
    """
    found = await _tip(repository, tip, onto, how, message, own or tip)
    if isinstance(found, Refused):
        return found
    if now == tip:
        return Carried(found, found)
    git = repository.git
    merged = await merge(git, await with_base(git, found, tip), now)
    if not merged.is_clean:
        return _conflict("what is not committed there", merged, "uncommitted")
    commit = await git.line("commit-tree", merged.tree, "-p", found, "-m", "What is in the worktree")
    return Carried(found, commit)


def _conflict(what: str, merged: Merged, meets: Meets = "commits") -> Refused:
    files = tuple(conflict.path for conflict in merged.conflicts)
    return Refused(f"{what} and the target changed the same places", files, meets)


async def _tip(
    repository: Repository, tip: str, onto: str, how: How, message: str, own: str
) -> str | Refused:
    if await repository.ancestor(onto, tip):
        return tip
    if own == tip and await repository.ancestor(tip, onto):
        return onto
    merged = await merge(repository.git, own, onto)
    # What was taken back is part of the target: a rebase would leave it out.
    if how == "rebase" and own == tip:
        return await _rebased(repository, tip, onto, merged)
    if not merged.is_clean:
        return _conflict("its commits", merged)
    return await as_commit(repository, merged.tree, (tip, onto), message.encode())


async def _rebased(repository: Repository, tip: str, onto: str, whole: Merged) -> str | Refused:
    git = repository.git
    listed = await git.line("rev-list", "--reverse", "--topo-order", "--parents", f"{onto}..{tip}")
    rows = [row.split() for row in listed.split("\n") if row]
    current = onto
    for commit, *parents in rows:
        if len(parents) != 1:
            continue
        merged = await merge(git, await with_base(git, current, parents[0]), commit)
        if not merged.is_clean:
            return _conflict(f"its commit {commit[:10]}", merged)
        if merged.tree != await repository.tree(current):
            current = await _again(repository, git, commit, merged.tree, current)
    if any(len(row) > 2 for row in rows) and (
        not whole.is_clean or whole.tree != await repository.tree(current)
    ):
        return Refused("it holds merges, and what was settled in them would be lost by a rebase")
    return current


async def _again(repository: Repository, git: Git, commit: str, tree: str, parent: str) -> str:
    """A commit's change on another parent: its message and author stay."""
    header, _, message = (await git.run("cat-file", "commit", commit)).partition(b"\n\n")
    author = next(line for line in header.split(b"\n") if line.startswith(b"author "))
    name, _, rest = author.removeprefix(b"author ").rpartition(b" <")
    email, _, date = rest.partition(b"> ")
    env = {
        "GIT_AUTHOR_NAME": os.fsdecode(name),
        "GIT_AUTHOR_EMAIL": os.fsdecode(email),
        "GIT_AUTHOR_DATE": date.decode("ascii", "replace"),
    }
    return await as_commit(repository, tree, (parent,), message, env)


async def as_commit(
    repository: Repository,
    tree: str,
    parents: tuple[str, ...],
    message: bytes,
    env: dict[str, str] | None = None,
) -> str:
    """Commit as the user, signed where they sign; where git does not know who they are, as ParallelAI."""
    signs = (await repository.settings(r"^commit\.gpgsign$", repository.root, {})).get("commit.gpgsign", "")
    words = ["commit-tree", *(["-S"] if signs.casefold() in ("true", "yes", "on", "1") else []), tree]
    words += [word for parent in parents for word in ("-p", parent)]
    done = await repository.as_user(*words, stdin=message, env=env)
    if done.exit == 0:
        return os.fsdecode(done.stdout).strip()
    if signs:
        raise failure(tuple(words), done)
    ours = Git(repository.common, env=env or {})
    return await ours.line(*words, stdin=message)


async def trees(repository: Repository, one: str, other: str) -> list[Difference]:
    """What differs between two commits."""
    words = ("diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", one, other)
    fields = (await repository.git.run(*words)).split(b"\0")
    found = []
    for meta, path in zip(fields[::2], fields[1::2], strict=False):
        old_mode, new_mode, old, new = meta.removeprefix(b":").decode().split()[:4]
        sides = [
            None if set(mode) == {"0"} else (mode, blob) for mode, blob in ((old_mode, old), (new_mode, new))
        ]
        found.append(Difference(os.fsdecode(path), sides[0], sides[1]))
    return found


class Difference(Struct, frozen=True):
    """A path in two trees: mode and blob on each side, None where there is nothing."""

    path: str
    before: tuple[str, str] | None
    after: tuple[str, str] | None
