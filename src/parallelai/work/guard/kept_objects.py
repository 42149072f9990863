"""A repository's objects, kept by hard links: they cost no room, and are there when git has thrown its own names away.

(Files of a store of objects: gitrepository-layout(5); an index of a pack: gitformat-pack(5).)
"""

from __future__ import annotations

import array
import contextlib
import errno
import mmap
import os
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from parallelai.engines.planted import read_plain

MOST_LOOSE = 250_000
"""Of single objects that are kept; git's own `gc` packs them from about 7,000 on."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PREFIX = re.compile(r"[0-9a-f]{2}")
_REST = re.compile(r"[0-9a-f]{38}(?:[0-9a-f]{24})?")
_PACK = re.compile(r"(pack-[0-9a-f]{40}(?:[0-9a-f]{24})?)\.(pack|idx)")
_KINDS = ("pack", "idx")
_TIMES = "mtimes"
"""Beside a pack of what nothing refers to (a cruft pack): when each of its objects was written."""
_TIMES_MARK = b"MTME\0\0\0\1"
_TIMES_START = 12
_MOST_TIMES = 256 * 1024 * 1024
_LOOKS = 3
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
_INDEX_MARK = b"\xfftOc\0\0\0\2"
_FANOUT_END = 8 + 256 * 4
_PIECE = 100_000


class Listing(Struct, frozen=True):
    """What lies in a store: single objects by their names, and packs by theirs, without an ending."""

    loose: frozenset[str] = frozenset()
    packs: frozenset[str] = frozenset()

    def without(self, other: Listing) -> Listing:
        """What the other has not."""
        return Listing(self.loose - other.loose, self.packs - other.packs)


def list_store(objects: Path) -> Listing:
    """List a store; what is not called as git calls it, or is no plain file, is none of it."""
    loose = frozenset(
        f"{top}{rest}"
        for top in _names(objects, _PREFIX, folders=True)
        for rest in _names(objects / top, _REST)
    )
    ends: dict[str, set[str]] = {}
    for name in _names(objects / "pack", _PACK):
        stem, _, kind = name.partition(".")
        ends.setdefault(stem, set()).add(kind)
    return Listing(loose, frozenset(stem for stem, kinds in ends.items() if len(kinds) == len(_KINDS)))


def _names(folder: Path, wanted: re.Pattern[str], *, folders: bool = False) -> list[str]:
    try:
        with os.scandir(folder) as listed:
            return [entry.name for entry in listed if wanted.fullmatch(entry.name) and _is(entry, folders)]
    except OSError:  # it is not there, or no folder
        return []


def _is(entry: os.DirEntry[str], folder: bool) -> bool:
    return entry.is_dir(follow_symlinks=False) if folder else entry.is_file(follow_symlinks=False)


def link_new(objects: Path, kept: Path) -> Listing:
    """Keep what a store has and `kept` has not; gives what the store has. Raises `OSError` where `kept` takes nothing.

    Of a single object that cannot be linked the name is kept, with its time, as an empty file: so much can be told.
    Where git moved some to a pack meanwhile, it is looked at again.
    """
    (kept / "pack").mkdir(parents=True, exist_ok=True, mode=0o700)
    now = Listing()
    for _ in range(_LOOKS):
        now = list_store(objects)
        if _link_all(now, objects, kept):
            break
    return now


def _link_all(now: Listing, objects: Path, kept: Path) -> bool:
    """Keep what `kept` has not of a listing; says whether all of it still was there."""
    known = list_store(kept)
    new = now.without(known)
    room = max(0, MOST_LOOSE - len(known.loose))
    by_folder: dict[str, list[str]] = {}
    for name in sorted(new.loose)[:room]:
        by_folder.setdefault(name[:2], []).append(name[2:])
    is_whole = True
    for top, names in by_folder.items():
        (kept / top).mkdir(exist_ok=True, mode=0o700)
        is_whole &= _link(objects / top, kept / top, names, is_marked=True)
    _link(objects / "pack", kept / "pack", [f"{stem}.{_TIMES}" for stem in new.packs])
    # In this order: git takes a pack as there when its index is.
    packs = [f"{stem}.{kind}" for stem in new.packs for kind in _KINDS]
    return _link(objects / "pack", kept / "pack", packs) and is_whole


def _link(source: Path, target: Path, names: Collection[str], *, is_marked: bool = False) -> bool:
    """Link files of one folder into another; says whether all of them still were there."""
    with _opened(source) as theirs, _opened(target) as ours:
        if theirs is None or ours is None:
            return not names
        is_whole = True
        for name in names:
            try:
                os.link(name, name, src_dir_fd=theirs, dst_dir_fd=ours, follow_symlinks=False)
            except FileExistsError:
                continue
            except FileNotFoundError:  # packed meanwhile
                is_whole = False
            except OSError as error:
                if error.errno in _FULL:
                    raise
                if is_marked:
                    _mark(name, theirs, ours)
        return is_whole


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(folder, _FOLDER)
    except OSError:  # git removes a folder with its last object
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _mark(name: str, theirs: int, ours: int) -> None:
    """Keep a name and its time only."""
    with contextlib.suppress(FileNotFoundError, FileExistsError):
        found = os.stat(name, dir_fd=theirs, follow_symlinks=False)
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o400, dir_fd=ours))
        os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=ours)


def names_in(kept: Path, gone: Listing) -> Iterator[dict[str, float]]:
    """The objects that left their place, some at a time, with when each was written, or its pack was (Unix time)."""
    yield {name: _time(kept / name[:2] / name[2:]) for name in gone.loose}
    for stem in sorted(gone.packs):
        when = _time(kept / "pack" / f"{stem}.pack")
        times, at = _times(kept / "pack" / f"{stem}.{_TIMES}"), 0
        for names in _names_in_pack(kept / "pack" / f"{stem}.idx"):
            found = times[at : at + len(names)] or [when] * len(names)
            yield dict(zip(names, found, strict=False))
            at += len(names)


def is_kept(kept: Path, name: str) -> bool:
    """Whether more than the name is kept of a single object; of what came in a pack, all is."""
    try:
        return (kept / name[:2] / name[2:]).lstat().st_size > 0
    except FileNotFoundError:
        return True


def _time(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _times(file: Path) -> Sequence[float]:
    """Read when the objects of a pack were written (Unix time), in the order of their names; none without the file."""
    try:
        data = read_plain(file, _MOST_TIMES)
    except OSError:
        return ()
    if not data.startswith(_TIMES_MARK):
        return ()
    found = array.array("I", data[_TIMES_START : len(data) // 4 * 4])
    if sys.byteorder == "little":
        found.byteswap()
    return found


def _names_in_pack(index: Path) -> Iterator[list[str]]:
    """Read the names from a pack's index (version 2), sorted; none where it is something else."""
    size = (len(index.stem) - len("pack-")) // 2
    try:
        file = index.open("rb")
    except OSError:
        return
    with file:
        if os.fstat(file.fileno()).st_size < _FANOUT_END:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            count = int.from_bytes(data[_FANOUT_END - 4 : _FANOUT_END])
            if data[:8] != _INDEX_MARK or len(data) < _FANOUT_END + count * size:
                return
            for first in range(0, count, _PIECE):
                last = min(count, first + _PIECE)
                piece = data[_FANOUT_END + first * size : _FANOUT_END + last * size].hex()
                yield [piece[at : at + 2 * size] for at in range(0, len(piece), 2 * size)]


def forget(kept: Path, gone: Listing) -> None:
    """Let go of what need not be kept any more."""
    paths = [kept / name[:2] / name[2:] for name in gone.loose]
    # The index first: without it there is no pack.
    paths += [kept / "pack" / f"{stem}.{kind}" for kind in (*reversed(_KINDS), _TIMES) for stem in gone.packs]
    for path in paths:
        path.unlink(missing_ok=True)
