"""Whether a branch's work is in the target, proven by content: ancestry says nothing after a squash or a rebase."""

from __future__ import annotations

from parallelai.git.merging import merge_all
from parallelai.git.repository import Repository
from parallelai.work.streams.now import paths

STATES = 500
"""So many states of the target are looked at: those since it parted from the branch that touched its files."""
_BATCH = 25
_MOST_PATHS = 500


async def landed_by_content(repository: Repository, commit: str, target: str) -> bool:
    """Whether the target holds all that a commit brings, or has held it.

    It does if the commit is an ancestor of it, or if git's own merge of the two changes nothing in the target,
    as it is or as it was after one of its first-parent commits. (Later changes of the same lines, or a landing
    that was taken back, do not make work unlanded: it is in the target's history.)
    """
    if await repository.ancestor(commit, target):
        return True
    bases = await repository.git.attempt("merge-base", commit, target)
    base = bases.stdout.decode().split("\n")[0] if bases.exit == 0 else ""
    if not base:
        return False
    listed = await repository.git.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", base, commit)
    touched = paths(listed)
    words = ("rev-list", "--first-parent", f"--max-count={STATES}", target, f"^{base}", "--")
    below = touched if len(touched) <= _MOST_PATHS else []
    found = (await repository.git.line(*words, *below)).split("\n")
    states = list(dict.fromkeys([target, *filter(None, found)]))
    for start in range(0, len(states), _BATCH):
        batch = states[start : start + _BATCH]
        for state, merged in zip(
            batch, await merge_all(repository.git, [(each, commit) for each in batch]), strict=True
        ):
            if merged.is_clean and merged.tree == await repository.tree(state):
                return True
    return False
