"""Replies by the content of what was asked, shared between runs: a file for each, a damaged one is a miss."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from parallelai.records import Reply, from_json, to_json

_MAGIC = b"parallelai-cache/1"
_NAME = re.compile(r"[0-9a-f]{62}")
_SHARD = re.compile(r"[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """How much there is."""

    entries: int
    bytes: int


class Cache:
    """The stored replies of a project. Safe to use from several threads and processes at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> Reply | None:
        """Find the reply that was stored for the key; None if there is none, or it is damaged."""
        path = self._path(key)
        try:
            head, _, body = path.read_bytes().partition(b"\n")
        except OSError:
            return None
        try:
            if head == _head(body):
                return _decode(body)
        except (ValueError, RecursionError):  # another version's, or not a reply
            pass
        with contextlib.suppress(OSError):
            path.unlink()
        return None

    def put(self, key: str, reply: Reply) -> bool:
        """Store a validated reply for the key, in place of one that is there.

        Returns False where it could not be stored (no room, no leave): the reply will be asked for again,
        which is no reason for a run to fail.
        """
        path = self._path(key)
        draft = path.with_name(f".draft-{os.getpid()}-{secrets.token_hex(4)}")
        try:
            body = _encode(reply)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft.write_bytes(_head(body) + b"\n" + body)
            draft.replace(path)
        except (OSError, ValueError):
            with contextlib.suppress(OSError):
                draft.unlink()
            return False
        return True

    def info(self) -> CacheInfo:
        """Count the entries and their bytes."""
        entries = size = 0
        for path in self._entries():
            with contextlib.suppress(OSError):  # cleared meanwhile
                size += path.stat().st_size
                entries += 1
        return CacheInfo(entries, size)

    def clear(self) -> CacheInfo:
        """Delete all entries; returns how much that was."""
        was = self.info()
        for path in self._entries(has_drafts=True):
            with contextlib.suppress(OSError):
                path.unlink()
        return was

    def _path(self, key: str) -> Path:
        # Hashed again: a key may be anything, and never becomes a path.
        name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return self.folder / name[:2] / name[2:]

    def _entries(self, *, has_drafts: bool = False) -> Iterator[Path]:
        """Iterate over our own files only, whatever else lies in the folder."""
        with contextlib.suppress(OSError):
            for shard in sorted(self.folder.iterdir()):
                if _SHARD.fullmatch(shard.name) and shard.is_dir() and not shard.is_symlink():
                    for path in shard.iterdir():
                        is_draft = has_drafts and path.name.startswith(".draft-")
                        if _NAME.fullmatch(path.name) or is_draft:
                            yield path


def _head(body: bytes) -> bytes:
    return _MAGIC + b" " + hashlib.sha256(body).hexdigest().encode()


def _encode(reply: Reply) -> bytes:
    from pydantic_core import to_json as encode  # loaded only where replies are stored

    return encode(to_json(reply))


def _decode(body: bytes) -> Reply:
    from pydantic_core import from_json as parse

    return from_json(Reply, parse(body))
