"""Objects of a git that others wrote, taken into a folder of ours: those only that are what their names say.

git itself believes a folder of objects: it does not compute names again each time that it reads, and obeys lists
of further folders and of ancestors that lie there. So nothing is taken but single objects, each looked at.
(How they lie: gitformat-loose(5).)
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path

from parallelai.work.scratch.measuring import MAX_FILE_BYTES

MOST_OBJECTS = 100_000
MOST_BYTES = 1024 * 1024 * 1024
"""Of all objects together, unpacked: also of those that turn out to be none."""
_PIECE_BYTES = 1024 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HEADER = re.compile(rb"(?:commit|tree|blob|tag) (0|[1-9]\d{0,11})\0")
_FAN = frozenset(f"{number:02x}" for number in range(256))
_REST = re.compile(r"[0-9a-f]{38}(?:[0-9a-f]{24})?")


def take_in(source: Path, target: Path) -> None:
    """Copy the good objects of a folder into one of ours; what is more than a turn may leave stays out.

    Raises `OSError` where the target cannot be written.
    """
    count = size = 0
    for name, data in _objects(source, target):
        is_good, unpacked = _looked_at(name, data)
        count, size = count + 1, size + max(unpacked, len(data))
        if count > MOST_OBJECTS or size > MOST_BYTES:
            return
        if is_good:
            _put(target / name[:2], name[2:], data)


def is_object(name: str, data: bytes) -> bool:
    """Whether these bytes are, to their end, the object of that name."""
    return _looked_at(name, data)[0]


def _looked_at(name: str, data: bytes) -> tuple[bool, int]:
    """Whether these bytes are the object of that name, and how many bytes were unpacked to know it."""
    unpack = zlib.decompressobj()
    digest = hashlib.new("sha1" if len(name) == 40 else "sha256", usedforsecurity=False)
    size, header = 0, None
    try:
        while not unpack.eof:
            piece = unpack.decompress(data, _PIECE_BYTES)
            data = unpack.unconsumed_tail
            header = header or _HEADER.match(piece)
            size += len(piece)
            if header is None or not (piece or data or unpack.eof) or size > MAX_FILE_BYTES + len(header[0]):
                return False, size
            digest.update(piece)
    except zlib.error:
        return False, size
    is_whole = header is not None and size - len(header[0]) == int(header[1]) and not unpack.unused_data
    return is_whole and digest.hexdigest() == name, size


def _objects(source: Path, target: Path) -> Iterator[tuple[str, bytes]]:
    """The files that could be objects which the target has not, by their names; no link is followed."""
    for fan in sorted(_FAN.intersection(_names(source))):
        try:
            folder = os.open(source / fan, _FOLDER)
        except OSError:
            continue
        try:
            for rest in _names(folder):
                if _REST.fullmatch(rest) and not (target / fan / rest).exists():
                    data = _read(folder, rest)
                    if data is not None:
                        yield fan + rest, data
        finally:
            os.close(folder)


def _names(folder: Path | int) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 -- names alone, also of an opened folder
    except OSError:
        return []


def _read(folder: int, name: str) -> bytes | None:
    try:
        with os.fdopen(os.open(name, _FILE, dir_fd=folder), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_BYTES:
                return None
            return file.read(MAX_FILE_BYTES)
    except OSError:
        return None


def _put(folder: Path, name: str, data: bytes) -> None:
    folder.mkdir(exist_ok=True, mode=0o700)
    part = folder / f"tmp_obj_{secrets.token_hex(8)}"
    try:
        with os.fdopen(os.open(part, _NEW, 0o444), "wb") as file:
            file.write(data)
        part.replace(folder / name)
    finally:
        part.unlink(missing_ok=True)
