"""Merge bases of many pairs of commits at once, as `git merge-base --all` gives them for each pair.

One look at the history from the commits down to what all of them share, instead of a process a pair: a commit
is a merge base of two when both contain it and no child of it is contained in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from parallelai.git.plumbing import Git, GitError, failure

Pair = frozenset[str]
Bases = Mapping[Pair, tuple[str, ...]]
Row = tuple[str, list[str]]
MADE = 946_684_800
"""The date of commits that we make from what lies in worktrees (2000-01-01, UTC, in seconds)."""
MOST_PEELED = 50
_SHOW = ("rev-list", "--no-walk=unsorted", "--no-commit-header", "--stdin")


async def trees(git: Git, commits: Sequence[str]) -> dict[str, str]:
    """Give the tree of each commit. Raises `GitError` where one is none."""
    if not commits:
        return {}
    stdin = "".join(f"{commit}\n" for commit in dict.fromkeys(commits)).encode()
    listed = await git.run(*_SHOW, "--format=%H %T", stdin=stdin)
    found = dict(line.split(" ") for line in listed.decode().splitlines())
    if missing := [commit for commit in commits if commit not in found]:
        raise GitError(f"`{missing[0]}` is no commit")
    return found


async def merge_bases(git: Git, commits: Sequence[str]) -> Bases:
    """Give the merge bases of each two of the commits, full hashes; none for unrelated histories."""
    tips = list(dict.fromkeys(commits))
    if len(tips) < 2:
        return {}
    above, roots = await _peeled(git, tips)
    common = [roots[0]]
    below: list[Row] = []
    if len(roots) > 1:
        shared = await git.attempt("merge-base", "--octopus", "--all", *roots)
        if shared.exit not in (0, 1):
            raise failure(("merge-base",), shared)
        common = shared.stdout.decode().split()
        words = (*roots, *(f"^{each}" for each in common))
        stdin = "".join(f"{word}\n" for word in words).encode()
        listed = await git.run("rev-list", "--topo-order", "--parents", "--stdin", stdin=stdin)
        below = [
            (first, parents) for first, *parents in (line.split(" ") for line in listed.decode().splitlines())
        ]
    return best_common(tips, [*above, *below], common)


async def _peeled(git: Git, tips: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Take off the tips' own commits: what branches off one place then costs no walk through history.

    Commits that are made from what lies in worktrees are dated long before their parents, and git finds merge
    bases by dates. Gives the commits taken off, children before parents, and where they lead to.
    """
    taken: dict[str, list[str]] = {}
    roots: dict[str, None] = {}
    ahead = list(tips)
    for level in range(MOST_PEELED):
        for commit, (date, parents) in (await _looked_at(git, ahead)).items():
            if parents and (level == 0 or date <= MADE):
                taken[commit] = parents
            else:
                roots[commit] = None
        ahead = [each for each in _parents(taken) if each not in taken and each not in roots]
        if not ahead or (len(ahead) == 1 and not roots):
            break
    return list(taken.items()), [*roots, *ahead]


def _parents(taken: Mapping[str, list[str]]) -> dict[str, None]:
    return dict.fromkeys(parent for parents in taken.values() for parent in parents)


async def _looked_at(git: Git, commits: Sequence[str]) -> dict[str, tuple[int, list[str]]]:
    """Give the date, in seconds, and the parents of each commit."""
    stdin = "".join(f"{commit}\n" for commit in commits).encode()
    listed = await git.run(*_SHOW, "--format=%H %ct %P", stdin=stdin)
    rows = (line.split() for line in listed.decode().splitlines())
    return {row[0]: (int(row[1]), row[2:]) for row in rows}


def best_common(tips: Sequence[str], history: Iterable[Row], common: Sequence[str]) -> Bases:
    """Decide, for each two tips, which commits are their merge bases.

    `history` has each commit with its parents, in any order and perhaps twice, down to `common`: the best of
    those that all tips contain.
    """
    ordered = _ordered(dict(history))
    masks: dict[str, int] = {}
    for place, tip in enumerate(tips):
        masks[tip] = masks.get(tip, 0) | 1 << place
    children: dict[str, set[int]] = {}
    for commit, parents in ordered:
        mask = masks.get(commit, 0)
        for parent in parents:
            masks[parent] = masks.get(parent, 0) | mask
            children.setdefault(parent, set()).add(mask)
    everybody = (1 << len(tips)) - 1
    ends = dict.fromkeys((*(commit for commit, _ in ordered), *common))
    found: dict[Pair, list[str]] = {}
    for commit in ends:
        mask = everybody if commit in common else masks.get(commit, 0)
        below = children.get(commit, set())
        if mask in below or mask.bit_count() < 2:
            continue
        for first, second in combinations(list(_bits(mask)), 2):
            both = 1 << first | 1 << second
            if not any(child & both == both for child in below):
                found.setdefault(frozenset((tips[first], tips[second])), []).append(commit)
    return {pair: tuple(commits) for pair, commits in found.items()}


def _ordered(history: Mapping[str, list[str]]) -> list[Row]:
    """Sort commits so that children come before their parents."""
    missing: dict[str, int] = dict.fromkeys(history, 0)
    for parents in history.values():
        for parent in parents:
            if parent in missing:
                missing[parent] += 1
    ready = [commit for commit, count in missing.items() if not count]
    for commit in ready:
        for parent in history[commit]:
            if parent in missing:
                missing[parent] -= 1
                if not missing[parent]:
                    ready.append(parent)
    return [(commit, history[commit]) for commit in ready]


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
