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
import os
import re
import shlex
import shutil
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from parallelai.engines.planted import read_plain
from parallelai.git.plumbing import Git, objects_of
from parallelai.results.printable import visible
from parallelai.store.files import replace_whole
from parallelai.work.guard.published import refs_in
from parallelai.work.streams.locks import is_left_over
from parallelai.work.streams.places import first_line

_LOCK = ".lock"
_SHALLOW = "shallow"
_MOST = 20
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
    left = [name for name in sorted(names)[:_MOST] if is_left_over(common / name)]
    is_left = bool(left) and not is_git_at_work()
    return [_clear_lock(common, name, aside, is_left=is_left) for name in left]


def _clear_lock(common: Path, name: str, aside: Path, *, is_left: bool) -> str:
    path = common / name
    if is_left:
        with contextlib.suppress(OSError):
            kept = _put_aside(path, aside)
            return f"{visible(name)} (left there, and barred your git: it is in `{kept}`)"
    way = shlex.join(["rm", "-r", str(path)] if path.is_dir() else ["rm", str(path)])
    return f"{visible(name)} (came since, and bars your git: `{visible(way)}` once none is at work there)"


def is_git_at_work() -> bool:
    """Whether a git runs on this machine; one that waits for its user's editor has its lock, and nothing open."""
    import psutil

    return any(str(each.info["name"] or "").startswith("git") for each in psutil.process_iter(["name"]))


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
    before, after = _names(old), _names(now)
    short = await _without_parents(common, before | after)
    wanted = (after & before) | short
    if had is not None and after - wanted:
        wanted |= await _brought(common, after - wanted, short, had)
    if wanted == after and _is_plain(now or b""):
        return []
    path = common / _SHALLOW
    kept = await asyncio.to_thread(_put_aside, path, aside) if os.path.lexists(path) else None
    if wanted:
        data = "".join(f"{name}\n" for name in sorted(wanted)).encode()
        await asyncio.to_thread(replace_whole, path, data)
    words = "said that history ends where it does not" if kept else "was gone"
    return [f"{_SHALLOW} ({words}, and is right again{f'; it is in `{kept}`' if kept else ''})"]


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
    folder, number = aside / "git", 0
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = folder / path.name
    while os.path.lexists(target):
        number += 1
        target = folder / f"{path.name}.{number}"
    shutil.move(path, target)
    return target
