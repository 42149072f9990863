"""Branches as they were when half of their work was done: what a forecast is made from, to be held against the end.

A branch of several commits is taken at the middle one. Of a branch of one commit the first half of its changed
places, in the order of its paths, is taken: nobody knows in which order they were written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.branches import Branch, Group
from parallelai.git import merging
from parallelai.git.plumbing import Git
from parallelai.git.repository import Repository
from parallelai.work.conflicts.changes import Changes, Hunk, Patch, changes, patches

NOTHING = "000000"


async def halved(store: Repository, group: Group) -> Group:
    """Give the group with each branch at half of its work."""
    date = await store.git.line("log", "-1", "--format=%cI", group.base)
    git = replace(store.git, env={"GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date})
    base = await git.line("rev-parse", f"{group.base}^{{tree}}")
    trees = {
        branch.name: await git.line("rev-parse", f"{branch.commit}^{{tree}}") for branch in group.branches
    }
    keys = [(base, tree) for tree in dict.fromkeys(trees.values()) if tree != base]
    rows, hunks = await changes(git, keys), await patches(git, keys)
    found = []
    for branch in group.branches:
        key = (base, trees[branch.name])
        tree = await _middle(git, group.base, branch)
        if tree is None:
            tree = await _part(git, base, rows.get(key, Changes()), hunks.get(key, {}))
        commit = await git.line("commit-tree", tree, "-p", group.base, "-m", "half")
        found.append(replace(branch, commit=commit))
    return replace(group, branches=tuple(found))


async def _middle(git: Git, base: str, branch: Branch) -> str | None:
    """The tree at the middle commit of a branch, on the group's base; None where there is none."""
    words = ("rev-list", "--first-parent", "--no-merges", "--reverse", f"{branch.fork}..{branch.head}")
    commits = (await git.line(*words)).split()
    if len(commits) < 2:
        return None
    middle = commits[(len(commits) - 1) // 2]
    ours = await merging.with_base(git, base, branch.fork)
    theirs = await merging.with_base(git, middle, branch.fork)
    merged = await merging.merge(git, ours, theirs)
    return merged.tree if merged.is_clean else None


async def _part(git: Git, base: str, rows: Changes, patch: Patch) -> str:
    """The base's tree with the first half of the changed places."""
    places = [(path, hunk) for path in sorted(rows.rows) for hunk in (patch.get(path) or (None,))]
    kept: dict[str, list[Hunk]] = {}
    whole = set()
    for path, hunk in places[: (len(places) + 1) // 2]:
        row = rows.rows[path]
        if hunk is None or NOTHING in (row.old_mode, row.new_mode) or len(patch[path]) == 1:
            whole.add(path)
        else:
            kept.setdefault(path, []).append(hunk)
    texts = await git.blobs({rows.rows[path].old for path in kept})
    lines = []
    for path in sorted(whole | kept.keys()):
        row = rows.rows[path]
        blob = row.new
        if path in kept and row.old in texts:
            text = _applied(texts[row.old], kept[path])
            blob = await git.line("hash-object", "-w", "--stdin", stdin=text)
        mode = row.new_mode
        lines.append(f"0 {'0' * 40}\t{path}" if mode == NOTHING else f"{mode} {blob}\t{path}")
    with tempfile.TemporaryDirectory() as folder:
        indexed = replace(git, index=Path(folder) / "index")
        await indexed.run("read-tree", base)
        stdin = "\0".join(lines).encode("utf-8", "surrogateescape") + b"\0"
        if lines:
            await indexed.run("update-index", "-z", "--add", "--remove", "--index-info", stdin=stdin)
        return await indexed.line("write-tree")


def _applied(text: bytes, hunks: list[Hunk]) -> bytes:
    lines = text.split(b"\n")
    for hunk in reversed(hunks):
        lines[slice(*hunk.old)] = [line.encode("utf-8", "replace") for line in hunk.added]
    return b"\n".join(lines)


Labels = Mapping[tuple[int, int], bool]
