"""A candidate's own commits, one by one on another base: what `git rebase` would make, without a work tree."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from parallelai.git import merging as git_merging
from parallelai.git.repository import Repository
from parallelai.work.landing import messages
from parallelai.work.landing.merging import Member, Merging
from parallelai.work.landing.records import MOST_REPLAYED


class Step(Struct, frozen=True):
    """A commit to make: its tree and its message. `author` are git's variables where it is not the user.

    `tried` is a commit of plumbing with the same tree, for the gates.
    """

    tree: str
    tried: str
    message: str
    author: Mapping[str, str] = field(default_factory=dict)


def squashed(member: Member) -> list[Step]:
    """A candidate as one commit."""
    message = messages.member(member.candidate, member.settled, None)
    return [Step(member.tree, member.commit, message)]


async def replayed(repository: Repository, merging: Merging, start: str, member: Member) -> list[Step] | None:
    """A candidate's own commits on `start`; those that change nothing there are left out.

    None where that cannot be: a commit conflicts there, is a merge, or they do not come to the tree of the
    merge that was tried.
    """
    rows = await _own(repository, start, member)
    if rows is None:
        return None
    git = repository.git
    tree = await repository.tree(start)
    steps: list[Step] = []
    for commit, parent in rows:
        on_parent = await merging.record(tree, (parent,), "As on the target")
        merged = await git_merging.merge(git, on_parent, commit)
        if not merged.is_clean:
            return None
        if merged.tree != tree:
            tree = merged.tree
            tried = await merging.record(tree, (steps[-1].tried if steps else start,), "Tried alone")
            steps.append(await _step(repository, commit, tree, tried))
    if not steps or tree != member.tree:
        return None
    return [
        Step(
            step.tree,
            step.tried,
            messages.replayed(step.message, member.candidate, step is steps[-1]),
            step.author,
        )
        for step in steps
    ]


async def _own(repository: Repository, start: str, member: Member) -> list[tuple[str, str]] | None:
    """The candidate's commits that the start has not, oldest first, each with its parent."""
    listed = await repository.git.line(
        "rev-list", "--reverse", "--topo-order", "--parents", f"^{start}", member.candidate.commit, "--"
    )
    rows = [line.split() for line in listed.splitlines()]
    if member.settled or len(rows) > MOST_REPLAYED or any(len(row) != 2 for row in rows):
        return None
    return [(row[0], row[1]) for row in rows]


async def _step(repository: Repository, commit: str, tree: str, tried: str) -> Step:
    form = "--format=%an%x00%ae%x00%ad%x00%B"
    shown = await repository.git.run("log", "--max-count=1", "--date=raw", form, commit, "--")
    name, email, date, message = shown.decode("utf-8", "replace").split("\0", 3)
    author = {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": email, "GIT_AUTHOR_DATE": date}
    return Step(tree, tried, message, author if name and email else {})
