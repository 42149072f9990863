"""What a turn may not change in a repository's git folder: refs, configuration, hooks.

A watch is taken before, and compared after. Several people and programs work in one repository at once, so what
changed is not always the assistant's doing: `whose` says what git's own logs prove. Remote-tracking refs are left
out, which any fetch moves; so are HEADs of other worktrees, which people move.
(Files of a repository: gitrepository-layout(5); logs: the lines that `git reflog` reads.)
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from parallelai.git.plumbing import Git

_FILES = (
    *("config", "config.worktree", "objects/info/alternates"),
    *("info/exclude", "info/attributes", "info/grafts", "info/sparse-checkout"),
)
_OF_WORKTREES = ("config.worktree", "gitdir", "commondir", "info/sparse-checkout")
_OF_MODULES = frozenset({"config", "alternates"})
MOST_BYTES = 1024 * 1024
"""Of a file that can be put back; of a larger one only a change is seen."""
MOST_FILES = 10_000
_MOST_LOG_BYTES = 4 * 1024 * 1024
_LEFT_OUT = "refs/remotes/"
_EVERYDAY = re.compile(r"(branch\..*|extensions\.worktreeconfig|core\.repositoryformatversion)")
_MOVING = re.compile(r"checkout: moving from .* to (.*)|Branch: renamed .* to refs/heads/(.*)")

Who = Literal["here", "elsewhere", "unknown"]


class Saved(Struct, frozen=True):
    """A file as it was: `data` is a link's target, a file's bytes, or None where it was too large to keep."""

    mode: int
    digest: str
    data: bytes | None

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    def to_json(self) -> list[int | str | None]:
        """As plain data, to be kept on disk."""
        data = None if self.data is None else base64.b64encode(self.data).decode()
        return [self.mode, self.digest, data]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Saved:
        """Read what `to_json` gave. Raises `TypeError` or `ValueError` for anything else."""
        mode, digest, kept = data
        return cls(int(mode), str(digest), None if kept is None else base64.b64decode(kept))


@dataclass(frozen=True, slots=True)
class Watch:
    """What lay in a git folder. `files` are absolute paths; `logs` the size of each worktree's log of HEAD."""

    git_dir: str
    refs: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Saved] = field(default_factory=dict)
    logs: Mapping[str, int] = field(default_factory=dict)
    hooks: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain data, to be kept on disk."""
        return {
            "git_dir": self.git_dir,
            "refs": dict(self.refs),
            "files": {path: saved.to_json() for path, saved in self.files.items()},
            "logs": dict(self.logs),
            "hooks": self.hooks,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Watch:
        """Read what `to_json` gave. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        files = {str(path): Saved.from_json(saved) for path, saved in data["files"].items()}
        logs = {str(name): int(size) for name, size in data["logs"].items()}
        refs = {str(ref): str(commit) for ref, commit in data["refs"].items()}
        return cls(str(data["git_dir"]), refs, files, logs, data["hooks"])


@dataclass(frozen=True, slots=True)
class Moved:
    """A ref that is elsewhere than before; None where it is not there."""

    ref: str
    before: str | None
    after: str | None


async def watch_of(git_dir: Path) -> Watch:
    """Look at a repository's common git folder (absolute), as it is now. Raises `GitError`."""
    git = Git(git_dir)
    named = (await git.configured(r"^core\.hookspath$")).get("core.hookspath")
    hooks = str(Path(named).expanduser()) if named else None
    refs = await _refs(git)
    files = await asyncio.to_thread(_files, git_dir, _outside(hooks))
    logs = await asyncio.to_thread(_logs, git_dir)
    return Watch(str(git_dir), refs, files, logs, hooks)


async def _refs(git: Git) -> dict[str, str]:
    listed = await git.run("for-each-ref", "--format=%(refname)%00%(objectname)")
    rows = (row.split("\0", 1) for row in os.fsdecode(listed).splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2 and not row[0].startswith(_LEFT_OUT)}


def _outside(hooks: str | None) -> Path | None:
    """The folder of hooks, where it is named by an absolute path."""
    return Path(hooks) if hooks is not None and Path(hooks).is_absolute() else None


async def refs_moved_since(watch: Watch) -> tuple[Moved, ...]:
    """Say which refs are elsewhere. Raises `GitError`."""
    after = await _refs(Git(Path(watch.git_dir)))
    names = sorted({*watch.refs, *after})
    moves = (Moved(name, watch.refs.get(name), after.get(name)) for name in names)
    return tuple(move for move in moves if move.before != move.after)


async def files_changed_since(watch: Watch) -> tuple[str, ...]:
    """Say which files are others; also where git itself cannot work any more.

    In the configuration what everyday work writes (`branch.*`) does not count; of other worktrees only what is
    still there: they come and go.
    """
    worktrees = f"{watch.git_dir}/worktrees/"
    after = await asyncio.to_thread(_files, Path(watch.git_dir), _outside(watch.hooks))
    found = []
    for path in sorted({*watch.files, *after}):
        old, new = watch.files.get(path), after.get(path)
        same = old is not None and new is not None and (old.mode, old.digest) == (new.mode, new.digest)
        is_coming_or_going = path.startswith(worktrees) and not _is_worktree(path, worktrees, watch)
        if same or is_coming_or_going or (path.endswith("/config") and await _is_everyday(watch, old, new)):
            continue
        found.append(path)
    return tuple(found)


def _is_worktree(path: str, worktrees: str, watch: Watch) -> bool:
    """Whether the worktree that a file is of was there at both times."""
    pointer = f"{worktrees}{path.removeprefix(worktrees).partition('/')[0]}/gitdir"
    return pointer in watch.files and Path(pointer).parent.is_dir()


async def _is_everyday(watch: Watch, old: Saved | None, new: Saved | None) -> bool:
    """Whether two configurations differ only in what everyday work writes."""
    if old is None or new is None or old.data is None or new.data is None or old.mode != new.mode:
        return False
    sides = [await _settings(watch, saved.data) for saved in (old, new) if saved.data is not None]
    if any(side is None for side in sides):
        return False
    first, second = (set(side or ()) for side in sides)
    return all(_EVERYDAY.fullmatch(key) for key, _ in first.symmetric_difference(second))


async def _settings(watch: Watch, data: bytes) -> list[tuple[str, str]] | None:
    """The settings of a configuration, in order; None where it is none."""
    done = await Git(Path(watch.git_dir)).attempt(
        "config", "--file", "-", "--no-includes", "--list", "-z", stdin=data
    )
    if done.exit != 0:
        return None
    rows = (os.fsdecode(row).partition("\n") for row in done.stdout.split(b"\0") if row)
    return [(key, value) for key, _, value in rows]


# -- files


def _files(git_dir: Path, hooks: Path | None) -> dict[str, Saved]:
    found: dict[str, Saved] = {}
    for path in _paths(git_dir, hooks):
        saved = save(path)
        if saved is not None:
            found[str(path)] = saved
        if len(found) >= MOST_FILES:
            break
    return found


def _paths(git_dir: Path, hooks: Path | None) -> Iterator[Path]:
    for name in _FILES:
        yield from _below(git_dir / name)
    for folder in (git_dir / "hooks", hooks):
        if folder is not None:
            yield from (path for path in _below(folder) if not path.name.endswith(".sample"))
    for worktree in _children(git_dir / "worktrees"):
        yield from (worktree / name for name in _OF_WORKTREES)
    for path in _below(git_dir / "modules"):
        if path.name in _OF_MODULES or (path.parent.name == "hooks" and not path.name.endswith(".sample")):
            yield path


def _below(path: Path) -> Iterator[Path]:
    """A file, or the files below a folder; no link is followed."""
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for top, folders, files in os.walk(path):
        folders.sort()
        if Path(top).name == "objects":
            folders[:] = [name for name in folders if name == "info"]
        links = [name for name in folders if Path(top, name).is_symlink()]
        yield from (Path(top, name) for name in sorted([*files, *links]))


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def save(path: Path) -> Saved | None:
    """Read a file as it lies there, a link as a link; None where there is none."""
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            data: bytes | None = os.fsencode(path.readlink())
        elif not stat.S_ISREG(status.st_mode):
            return Saved(status.st_mode, "", None)
        elif status.st_size > MOST_BYTES:
            mark = f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
            return Saved(status.st_mode, mark, None)
        else:
            data = path.read_bytes()
    except OSError:
        return None
    return Saved(status.st_mode, hashlib.sha256(data or b"").hexdigest(), data)


# -- whose doing it was


def _logs(git_dir: Path) -> dict[str, int]:
    return {name: path.stat().st_size for name, path in _log_files(git_dir)}


def _log_files(git_dir: Path) -> list[tuple[str, Path]]:
    """Each worktree's log of HEAD, by the worktree's id; the main one's is the empty name."""
    found = [("", git_dir / "logs" / "HEAD")]
    found += [(path.name, path / "logs" / "HEAD") for path in _children(git_dir / "worktrees")]
    return [(name, path) for name, path in found if path.is_file() and not path.is_symlink()]


class Log(Struct, frozen=True):
    """What HEAD of a worktree went through since a watch: the commits, and the branches that it was put on."""

    commits: frozenset[str] = frozenset()
    branches: frozenset[str] = frozenset()


def logs_since(watch: Watch) -> dict[str, Log]:
    """Read what each worktree's log of HEAD holds since a watch was taken."""
    found = {}
    for name, path in _log_files(Path(watch.git_dir)):
        with path.open("rb") as file:
            start = watch.logs.get(name, 0)
            file.seek(start if start <= path.stat().st_size else 0)
            found[name] = read_log(file.read(_MOST_LOG_BYTES))
    return found


def read_log(data: bytes) -> Log:
    """Read lines of a log: `old new who <mail> time zone TAB words`."""
    commits, branches = set[str](), set[str]()
    for line in os.fsdecode(data).split("\n"):
        head, _, words = line.partition("\t")
        hashes = head.split(" ", 2)
        if len(hashes) == 3:
            commits.add(hashes[1])
        moving = _MOVING.fullmatch(words)
        if moving is not None:
            branches.add(moving.group(1) or moving.group(2))
    return Log(frozenset(commits), frozenset(branches))


def whose(moved: Moved, own: Log, others: Iterable[Log]) -> Who:
    """Say where a ref was moved, by what the worktrees' logs prove.

    It was moved here if it stands on a commit that HEAD of this worktree went through since, and HEAD of no
    other did; a new branch, besides, must have been checked out here.
    """
    if moved.after is None:
        return "unknown"
    if any(moved.after in log.commits for log in others):
        return "elsewhere"
    if moved.after not in own.commits:
        return "unknown"
    if moved.before is None and moved.ref.removeprefix("refs/heads/") not in own.branches:
        return "unknown"
    return "here"
