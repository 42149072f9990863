"""What a workstream, its branch and its folder may be called; nothing that exists and is not ours is taken."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from parallelai.errors import UsageError
from parallelai.git.repository import Repository
from parallelai.work.streams.base import LANDING
from parallelai.work.streams.places import entries
from parallelai.work.streams.registry import folded

PREFIX = "parallelai/"
"""What the branches of workstreams begin with, unless the plan names one."""
RESERVED = ("landing",)
LONGEST = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HEADS = "refs/heads/"


def check_name(name: str) -> None:
    """Refuse a name that could not be a folder and a part of a branch. Raises `UsageError`."""
    is_good = _NAME.fullmatch(name) and ".." not in name and not name.casefold().endswith((".lock", "."))
    if not is_good or len(name) > LONGEST:
        raise UsageError(
            f"`{name[:200]!a}` cannot be the name of a workstream",
            next=f"use letters, digits, `.`, `_` and `-`, at most {LONGEST}",
        )
    if folded(name) in RESERVED:
        raise UsageError(f"the name `{name}` is reserved", next="take another")


async def check_branch(repository: Repository, branch: str, target: str) -> None:
    """Refuse a name of a branch that git, or a landing, has another use for. Raises `UsageError`."""
    checked = await repository.git.attempt("check-ref-format", f"{_HEADS}{branch}")
    is_ours = folded(branch).startswith(folded(LANDING)) or folded(branch) == folded(LANDING.rstrip("/"))
    if checked.exit != 0 or branch.startswith(("-", "refs/")) or branch == "HEAD" or is_ours:
        raise UsageError(f"`{branch[:200]!a}` cannot be the branch of a workstream", next="take another")
    if folded(branch) == folded(target):
        raise UsageError(f"`{branch}` is the branch to land on", next="take another for the workstream")


async def refuse_taken_branch(repository: Repository, branch: str) -> None:
    """Refuse a branch that exists, or that cannot beside one that does. Raises `UsageError`."""
    listed = await repository.git.line("for-each-ref", "--format=%(refname)", _HEADS)
    wanted = folded(branch)
    for name in (line.removeprefix(_HEADS) for line in listed.split("\n") if line):
        known = folded(name)
        if known == wanted:
            how = (
                "is there already"
                if name == branch
                else f"differs from `{name}` in upper and lower case only"
            )
            raise UsageError(
                f"the branch `{branch}` {how}, and no workstream has it",
                next=f"rename it (`git branch -m {shlex.quote(name)} NEW`), or name another with `branch`",
            )
        if known.startswith(f"{wanted}/") or wanted.startswith(f"{known}/"):
            raise UsageError(
                f"the branch `{branch}` cannot be made beside `{name}`",
                next=f"rename it (`git branch -m {shlex.quote(name)} NEW`), or name another with `branch`",
            )


def default_folder(repository: Repository) -> Path:
    """Where worktrees go if nothing else is set: beside the repository."""
    name = repository.root.name
    if repository.is_bare:
        name = name.removesuffix(".git") or name
    return repository.root.parent / f"{name}-worktrees"


def worktree_path(repository: Repository, name: str, folder: Path | None) -> Path:
    """Where the worktree of a workstream goes. `folder` is the setting `worktrees.path`, from the root."""
    top = default_folder(repository) if folder is None else repository.root / folder.expanduser()
    return Path(os.path.realpath(top)) / name


async def refuse_taken_path(repository: Repository, path: Path) -> None:
    """Refuse a folder that holds anything, or that lies where it would be seen in a checkout. Raises `UsageError`."""
    if "\n" in str(path):
        raise UsageError(
            f"the path `{path}` holds a line's end", next="set `worktrees.path` to another folder"
        )
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise UsageError(
            f"`{path}` is there already, and no workstream has it",
            next="move it away, or set `worktrees.path` to another folder",
        )
    clash = _in_other_letters(path)
    if clash is not None:
        raise UsageError(
            f"`{path}` and `{clash}` differ in upper and lower case only", next="take another name"
        )
    for entry in entries(repository):
        if entry.path != path and path.is_relative_to(entry.path):
            raise UsageError(f"`{path}` lies in the worktree `{entry.path}`", next="set `worktrees.path`")
    if path.is_relative_to(repository.common) and not repository.is_bare:
        raise UsageError(f"`{path}` lies in git's own folder", next="set `worktrees.path`")
    if path.is_relative_to(repository.root) and not repository.is_bare:
        await _refuse_seen(repository, path)


def _in_other_letters(path: Path) -> Path | None:
    try:
        siblings = list(path.parent.iterdir())
    except OSError:
        return None
    return next((each for each in siblings if each != path and folded(each.name) == folded(path.name)), None)


async def _refuse_seen(repository: Repository, path: Path) -> None:
    """A worktree in the checkout would be a new folder to git there, unless it is ignored."""
    inside = path.relative_to(repository.root)
    done = await repository.as_user("check-ignore", "--quiet", "--no-index", "--", f"{inside}/")
    if done.exit != 0:
        raise UsageError(
            f"`{path}` lies in your checkout, where git would show it",
            next=f"add `{inside.parent}/` to `.gitignore`, or set `worktrees.path` to a folder outside",
        )
