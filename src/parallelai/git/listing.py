"""Which files git knows of in a folder: listed, changed, staged.

Only reads. What a repository's own configuration could have git run (a file monitor, hooks, filters) is
switched off, and no lock is taken: people look at checkouts that they do not trust.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from parallelai.errors import ProgramError, UsageError
from parallelai.plan.files import FileTree
from parallelai.processes import Completed, environment, run_quick
from parallelai.processes.temporary import temporary_folder

SECONDS = 120.0
"""How long one call of git may take; a listing of a million files takes some seconds."""

_SAFE = (
    "git",
    "--no-pager",
    "--no-optional-locks",
    "--literal-pathspecs",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "protocol.allow=never",
)
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    # Older git knows only this; a repository's `protocol.ext.allow` counts for less.
    "GIT_ALLOW_PROTOCOL": "none",
    "LC_ALL": "C.UTF-8",
}
# What `git diff` prints here: names as bytes, paths from `root`, no file that is gone.
_DIFF = ("diff", "--name-only", "-z", "--diff-filter=d", "--no-renames", "--no-ext-diff", "--no-textconv")
_NEW = b"? "
"""What `ls-files -t` says of a file that git does not track."""
_RELATIVE = ("--relative", "--ignore-submodules=all")


def list_files(root: Path) -> FileTree | None:
    """List the project's files below `root`: tracked ones and new ones that are not ignored.

    Left out are tracked files that were deleted, and other repositories inside (submodules too). Names that
    are not UTF-8 hold surrogates, as the `os` module gives them. None where git does not know the folder, or
    will not serve this user there; then `plan.walking.walk` lists it.
    """
    try:
        done = _git(root, "ls-files", "-t", "--cached", "--others", "--exclude-standard", "-z")
    except ProgramError:
        return None
    if done.exit != 0 or done.is_truncated:
        return None
    tracked, new = set[str](), set[str]()
    for row in done.stdout.split(b"\0")[:-1]:
        (new if row.startswith(_NEW) else tracked).add(os.fsdecode(row[2:]))
    # git has just seen what is new; a folder among it is a repository of its own.
    found = [*existing(root, tracked), *(name for name in new if not name.endswith("/"))]
    return FileTree(root, tuple(sorted(found)))


def works_in(root: Path) -> bool:
    """Say whether git works in a folder: it knows it, and serves this user there."""
    try:
        return _git(root, "rev-parse", "--is-inside-work-tree").exit == 0
    except ProgramError:
        return False


def changed_since(root: Path, ref: str) -> list[str]:
    """List what differs from where `ref` and HEAD parted: committed, staged, edited and new files, sorted.

    Paths are relative to `root`; deleted files are not listed. Raises `UsageError` if there is no such
    commit, or no repository.
    """
    commit = _commit(root, ref)
    parted = _git(root, "merge-base", commit, "HEAD")
    base = parted.stdout.decode().split("\n")[0] if parted.exit == 0 else commit
    with temporary_folder("index") as folder:
        # `git diff` brings the index up to date, and locks it to write it: it gets one of its own.
        # To compare edited files it runs the repository's own `clean` filters, which are programs.
        env = {**_copy_index(root, folder), **_without_filters(root)}
        changed = _must(root, *_DIFF, *_RELATIVE, base, "--", env=env)
    new = _must(root, "ls-files", "--others", "--exclude-standard", "-z")
    return sorted(existing(root, {*_names(changed), *_names(new)}))


def staged(root: Path, *, index_file: Path | None = None) -> list[str]:
    """List what the next commit would change below `root`, sorted; deleted files are not listed.

    `index_file` is the index that git names to hooks in `GIT_INDEX_FILE`, if it is not the usual one. Raises
    `UsageError` where there is no repository.
    """
    _must(root, "rev-parse", "--is-inside-work-tree")
    env = {} if index_file is None else {"GIT_INDEX_FILE": str(index_file.absolute())}
    done = _must(root, *_DIFF, *_RELATIVE, "--cached", "--", env=env)
    return sorted(existing(root, _names(done)))


def _commit(root: Path, ref: str) -> str:
    if ref.startswith("-") or "\0" in ref:
        raise UsageError(f"`{ref!a}` is not the name of a commit")
    done = _git(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    if done.exit != 0:
        inside = _git(root, "rev-parse", "--is-inside-work-tree")
        if inside.exit != 0:
            raise _failure(root, inside)
        raise UsageError(
            f"there is no commit `{ref}`", next="name a branch, a tag or a commit (`git fetch` may be needed)"
        )
    return done.stdout.decode().strip()


def _copy_index(root: Path, folder: Path) -> dict[str, str]:
    """Copy the repository's index; gives the environment that makes git use the copy."""
    named = os.fsdecode(_must(root, "rev-parse", "--git-path", "index").stdout).removesuffix("\n")
    copy = folder / "index"
    try:
        # With its time: git takes an entry as unchanged only if the index was written later than the file.
        shutil.copy2(root / named, copy)
    except FileNotFoundError:
        return {}  # nothing was ever added: there is nothing to write either
    except OSError as error:
        raise UsageError(f"git's index of `{root}` cannot be read: {error.strerror}") from error
    return {"GIT_INDEX_FILE": str(copy)}


def _without_filters(root: Path) -> dict[str, str]:
    """Switch off the filters that the repository's own configuration defines; the user's (say LFS) stay.

    Gives the environment that does it. `-c` would not: it cuts at the first `=`, also of a filter's name.
    """
    keys = ("config", "--show-scope", "--name-only", "-z", "--get-regexp", r"^filter\..*\.(clean|process)$")
    done = _git(root, *keys)
    words = done.stdout.split(b"\0")
    settings: dict[str, str] = {}
    for scope, key in zip(words[::2], words[1::2], strict=False):
        if scope in (b"local", b"worktree"):
            name = os.fsdecode(key)
            settings[name] = ""
            settings[f"{name.rpartition('.')[0]}.required"] = "false"
    env = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        env |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return env


def _names(done: Completed) -> list[str]:
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def existing(root: Path, names: Sequence[str] | set[str]) -> list[str]:
    """Keep the files and links that are there; what is a folder to the file system is a repository of its own.

    What lies behind a link is not there for git.
    """
    found: list[str] = []
    top = os.fspath(root)
    behind_links: dict[str, bool] = {"": False}
    for name in names:
        if _is_behind_link(top, name.rpartition("/")[0], behind_links):
            continue
        try:
            mode = os.lstat(f"{top}/{name}").st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            found.append(name)
    return found


def _is_behind_link(top: str, folder: str, known: dict[str, bool]) -> bool:
    """Whether a folder, or one on the way to it, is a link; git knows what was there before as deleted."""
    passed: list[str] = []
    while folder not in known:  # no recursion: a stranger's folders may lie in each other a thousand deep
        passed.append(folder)
        folder = folder.rpartition("/")[0]
    is_behind = known[folder]
    for each in reversed(passed):
        is_behind = is_behind or os.path.islink(f"{top}/{each}")  # noqa: PTH114 -- a Path each would cost more
        known[each] = is_behind
    return is_behind


def _git(root: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Completed:
    complete = environment(env={**_ENVIRONMENT, **(env or {})}, pass_env=("XDG_CONFIG_HOME",))
    return run_quick((*_SAFE, *arguments), root, SECONDS, env=complete)


def _must(root: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Completed:
    """Run git where only success will do. Raises `UsageError` with git's own words."""
    done = _git(root, *arguments, env=env)
    if done.exit != 0 or done.is_truncated:
        raise _failure(root, done)
    return done


def _failure(root: Path, done: Completed) -> UsageError:
    lines = done.stderr.decode("utf-8", "replace").strip().split("\n")
    said = lines[0].removeprefix("fatal: ") or f"git ended with {done.exit}"
    if "dubious ownership" in said:
        advice = f"`git config --global --add safe.directory {root}`, if you trust whom it belongs to"
        return UsageError(f"git does not work in `{root}`: it belongs to somebody else", next=advice)
    return UsageError(f"git cannot say what changed in `{root}`: {said}")
