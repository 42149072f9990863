"""What bars the user's git after programs ran that nothing holds back: lock files, and a history that is cut short.

A lock of git's names nobody. One that came since, that no process has open, and that stays as it is was left over if
no git runs any more: it is put aside then, and else told. What `shallow` names is where history ends: a line may go
whose commit has its parents here, and one must come back whose commit has not. `git fetch --depth` by the user writes
lines of both kinds: it ends the history of what it brings, and of nothing that the user had.
(Files: gitrepository-layout(5).)
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import itertools
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from parallelai.engines.planted import read_plain
from parallelai.git.plumbing import Git, objects_of
from parallelai.results.printable import visible
from parallelai.store.files import replace_whole
from parallelai.work.guard.published import refs_in
from parallelai.work.guard.restoring import locked
from parallelai.work.streams.locks import is_left_over
from parallelai.work.streams.places import first_line

if TYPE_CHECKING:
    import psutil

_LOCK = ".lock"
_SHALLOW = "shallow"
_MOST = 20
_LOOKS = 3
_TRIES = 20
_PAUSE = 0.05
_GIT = "git"
_MOST_BYTES = 1024 * 1024
_BRANCHES = "refs/heads/"
_NAME = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class Barring(Struct, frozen=True):
    """What barred a repository's git before: its lock files, below its git folder, and the content of `shallow`."""

    locks: frozenset[str] = frozenset()
    shallow: bytes | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain data, to be kept on disk."""
        shallow = None if self.shallow is None else base64.b64encode(self.shallow).decode()
        return {"locks": sorted(self.locks), "shallow": shallow}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Barring:
        """Read what `to_json` gave. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        shallow = data["shallow"]
        return cls(frozenset(data["locks"]), None if shallow is None else base64.b64decode(shallow))


def barring(common: Path) -> Barring:
    """Look at what bars git in a repository, by its git folder. Raises nothing."""
    return Barring(frozenset(_locks(common)), _content(common / _SHALLOW))


async def clear(
    common: Path, before: Barring, aside: Path, head: Callable[[], Awaitable[str | None]] | None = None
) -> list[str]:
    """Take away what came since and is left over, and say what bars git still: each by its name, with words.

    `head` gives the commit that HEAD was on before, unless a program fetched since. Raises `OSError`.
    """
    now = await asyncio.to_thread(barring, common)
    locks = await asyncio.to_thread(_clear_locks, common, now.locks - before.locks, aside)
    if before.shallow == now.shallow:
        return locks
    if any(map(_is_cut, (before.shallow, now.shallow))):
        words = "is not as it was, and too large to be looked at: see where `git log` ends"
        return [f"{_SHALLOW} ({words})", *locks]
    had = await head() if head is not None else None
    return [*await _mend_shallow(common, before.shallow, now.shallow, aside, had), *locks]


# -- locks


def _clear_locks(common: Path, names: Collection[str], aside: Path) -> list[str]:
    found = sorted(names)
    left = [name for name in found[:_MOST] if is_left_over(common / name)]
    is_left = bool(left) and not is_git_at_work(common)
    more = [f"{len(found) - _MOST} more files like them (`*{_LOCK}`)"] if len(found) > _MOST else []
    return [_clear_lock(common, name, aside, is_left=is_left) for name in left] + more


def _clear_lock(common: Path, name: str, aside: Path, *, is_left: bool) -> str:
    path = common / name
    if is_left:
        with contextlib.suppress(OSError):
            kept = _put_aside(path, aside)
            return f"{visible(name)} (left there, and barred your git: it is in `{kept}`)"
    way = shlex.join(["rm", "-r", str(path)] if path.is_dir() else ["rm", str(path)])
    return f"{visible(name)} (came since, and bars your git: `{visible(way)}` once none is at work there)"


def is_git_at_work(common: Path) -> bool:
    """Whether a git may run in a repository; one that waits for its user's editor has its lock, and nothing open.

    git goes to the top of its checkout. Where one is that cannot be seen, or it was told elsewhere, it counts; one that
    ends within a moment does not: ParallelAI's own do, and others' that begin now left no lock before.
    """
    import psutil

    pointers = (_text_of(each) for each in common.glob("worktrees/*/gitdir"))
    tops = {common.parent, common, *(Path(each).parent for each in pointers if each)}
    roots = frozenset(Path(os.path.realpath(each)) for each in tops)
    found = list(psutil.process_iter())
    for number in range(_TRIES):
        if number:
            time.sleep(_PAUSE)
        found = [each for each in found if each.is_running() and may_be_at_work(each, roots)]
        if not found:
            return False
    return True


def may_be_at_work(process: psutil.Process, roots: frozenset[Path]) -> bool:
    """Whether a process may be a git that is at work in one of some folders."""
    import psutil

    try:
        name = process.name()
        if name != _GIT and not name.startswith(f"{_GIT}-"):
            return False
        line = process.cmdline()
        if line[1:2] and line[1].endswith("--daemon"):  # it serves others, and holds no lock
            return False
        if f"{_GIT.upper()}_DIR" in process.environ() or any(word.startswith("--git-dir") for word in line):
            return True
        is_elsewhere = _names_of_files(process.pid) != _names_of_files(os.getpid())
        return is_elsewhere or not roots.isdisjoint((at := Path(process.cwd()), *at.parents))
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, OSError):  # it is another user's
        return True


def _names_of_files(pid: int) -> str:
    """What the names of files mean to a process (its mount namespace): in a container they are others."""
    path = Path(f"/proc/{pid}/ns/mnt")
    return os.readlink(path) if sys.platform.startswith("linux") else ""  # noqa: PTH115


def _text_of(path: Path) -> str:
    return (first_line(path) or "").strip()


def _locks(common: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from (each.name for each in common.iterdir() if each.name.endswith(_LOCK))
    for above, folders, names in os.walk(common / "refs"):
        for name in (*folders, *names):
            if name.endswith(_LOCK):  # no ref is called so
                yield os.path.relpath(Path(above, name), common)


# -- where history ends


async def _mend_shallow(
    common: Path, old: bytes | None, now: bytes | None, aside: Path, had: str | None
) -> list[str]:
    path = common / _SHALLOW
    for _ in range(_LOOKS):
        wanted = await _wanted(common, _names(old), _names(now), had)
        if wanted == _names(now) and _is_plain(now or b""):
            return []
        data = "".join(f"{name}\n" for name in sorted(wanted)).encode()
        with await asyncio.to_thread(_holding, path):
            if (again := await asyncio.to_thread(_content, path)) == now:
                kept = await asyncio.to_thread(_write, path, data, aside)
                words = "said that history ends where it does not" if kept else "was gone"
                return [f"{_SHALLOW} ({words}, and is right again{f'; it is in `{kept}`' if kept else ''})"]
        now = again
    return [f"{_SHALLOW} (is written all the time: see where `git log` ends)"]


async def _wanted(common: Path, before: set[str], after: set[str], had: str | None) -> set[str]:
    """The commits at which history has to end."""
    short = await _without_parents(common, before | after)
    wanted = (after & before) | short
    if had is not None and after - wanted:
        wanted |= await _brought(common, after - wanted, short, had)
    return wanted


def _holding(path: Path) -> contextlib.AbstractContextManager[object]:
    """git's own lock on a file; nothing where somebody has it, and does not let go."""
    for _ in range(_TRIES):
        with contextlib.suppress(FileExistsError):
            held = contextlib.ExitStack()
            held.enter_context(locked(path))
            return held
        time.sleep(_PAUSE)
    return contextlib.nullcontext()


def _write(path: Path, data: bytes, aside: Path) -> Path | None:
    """Write a file anew, or remove it where it is empty; gives where a copy of what lay there is. Raises `OSError`.

    Up to the last step it lies there: what a fetch of the user's wrote there would be nowhere else.
    """
    kept = None
    if path.is_symlink() or path.is_file():
        kept = free_in(aside, path.name)
        shutil.copyfile(path, kept, follow_symlinks=False)
    elif os.path.lexists(path):
        kept = _put_aside(path, aside)
    if data:
        replace_whole(path, data)
    else:
        path.unlink(missing_ok=True)
    return kept


async def _without_parents(common: Path, names: Collection[str]) -> set[str]:
    """Those of some commits of which a parent is not in a repository, whatever it says of where its history ends."""
    if not names:
        return set()
    async with objects_of(common, next(iter(names))) as git:
        here = await _there(git, names)
        words = ("rev-list", "--no-walk=unsorted", "--parents", "--stdin")
        listed = await git.attempt(*words, stdin="".join(f"{name}\n" for name in sorted(here)).encode())
        rows = [row.split() for row in listed.stdout.decode().splitlines()]
        parents = await _there(git, {each for row in rows for each in row[1:]})
    return {row[0] for row in rows if not parents.issuperset(row[1:])}


async def _brought(common: Path, names: Collection[str], short: Collection[str], had: str) -> set[str]:
    """Those of some commits that are in no history of a commit, nor of the branches that are not checked out."""
    current = (first_line(common / "HEAD") or "").removeprefix("ref: ")  # it may have moved along
    branches = await asyncio.to_thread(refs_in, common, (_BRANCHES,))
    tips = {had, *(tip for name, tip in branches.items() if name != current)}
    async with objects_of(common, had) as git:
        ends = "".join(f"{name}\n" for name in short)
        await asyncio.to_thread((git.git_dir / _SHALLOW).write_text, ends, encoding="utf-8")
        asked = "".join(f"{each}\n" for each in (*await _there(git, names), *(f"^{tip}" for tip in tips)))
        done = await git.attempt("rev-list", "--ignore-missing", "--stdin", stdin=asked.encode())
    return set(names) & set(done.stdout.decode().split()) if done.exit == 0 else set()


async def _there(git: Git, names: Collection[str]) -> set[str]:
    """Those of some names that commits have which are here."""
    asked = "".join(f"{name}\n" for name in names).encode()
    done = await git.attempt("cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=asked)
    rows = (row.split() for row in done.stdout.decode().splitlines())
    return {row[0] for row in rows if row[1:] == ["commit"]}


def _names(data: bytes | None) -> set[str]:
    return {line for line in (data or b"").decode("utf-8", "replace").splitlines() if _NAME.fullmatch(line)}


def _is_plain(data: bytes) -> bool:
    """Whether nothing but names is in it: git ends at anything else."""
    return all(_NAME.fullmatch(line) for line in data.decode("utf-8", "replace").splitlines())


def _is_cut(data: bytes | None) -> bool:
    """Whether there are more names than were read."""
    return data is not None and len(data) >= _MOST_BYTES and _is_plain(data.rpartition(b"\n")[0])


def _content(path: Path) -> bytes | None:
    try:
        return read_plain(path, _MOST_BYTES)
    except OSError:  # what is no plain file, too, is not what git wrote there
        return b"?" if os.path.lexists(path) else None


def _put_aside(path: Path, aside: Path) -> Path:
    """Move what lies there to `aside`, under a name that is free. Raises `OSError`."""
    target = free_in(aside, path.name)
    shutil.move(path, target)
    return target


def free_in(aside: Path, name: str) -> Path:
    """A path below `aside` that is free; where that is no folder, below one beside it. Raises `OSError`."""
    for number in range(_MOST):
        folder = aside.with_name(f"{aside.name}-{number}" if number else aside.name) / "git"
        with contextlib.suppress(FileExistsError, NotADirectoryError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            names = itertools.chain([name], (f"{name}.{each}" for each in itertools.count(1)))
            return next(folder / each for each in names if not os.path.lexists(folder / each))
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(aside))
