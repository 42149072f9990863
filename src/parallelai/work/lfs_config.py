"""`.lfsconfig`, by which git-lfs finds its server: the user's own counts, and no other that lies in a folder.

git-lfs reads it at the top of the folder; where it is not there, from the index, and then from HEAD. It names no
program, but the server that it leads to chooses what the user's programs for transfers are told, and is asked for files
with the user's credentials. Where it may be an assistant's, git-lfs is told a server that answers nobody: files that
are in the user's repository are there all the same, and new ones are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path

from parallelai.engines.planted import read_plain
from parallelai.git.repository import Repository
from parallelai.processes import Completed
from parallelai.work import lfs

FILE = ".lfsconfig"
SERVER = "lfs.url"
NOBODY = f"http://127.0.0.1:0/the-{FILE}-here-is-not-that-of-your-checkout"
"""The server where the file is not the user's: an error shows its name."""
_MOST_BYTES = 1024 * 1024

Read = Callable[[bytes], Awaitable[Completed]]
"""Calls `git cat-file --batch` with what it reads, where git-lfs would run."""


async def overriding(
    repository: Repository,
    settings: Mapping[str, str],
    read: Read,
    *,
    folder: Path | None = None,
    revisions: Sequence[str],
    written: Sequence[str] = (),
) -> dict[str, str]:
    """Settings that lie over those given, and over a `.lfsconfig` that the user's checkout has not; else none.

    Args:
        settings: those of git that count there: one that names the server counts more than any such file.
        folder: where the file may lie; None where it is yet to be checked out.
        revisions: what has it where it does not lie there; the index is the empty one.
        written: commits and trees whose files are about to be written into the folder, their own `.lfsconfig` too.
    """
    if settings.get(SERVER) or not any(map(lfs.FILTER.fullmatch, settings.values())):
        return {}
    return {SERVER: NOBODY} if await _is_foreign(repository, read, folder, revisions, written) else {}


async def _is_foreign(
    repository: Repository, read: Read, folder: Path | None, revisions: Sequence[str], written: Sequence[str]
) -> bool:
    """Whether git-lfs would go by a file that is not the user's; where there is none, it is led by nobody."""
    try:
        found = [] if folder is None else [await asyncio.to_thread(read_plain, folder / FILE, _MOST_BYTES)]
    except FileNotFoundError:
        found = []
    except OSError:  # no plain file
        return True
    wanted = (*(() if found else revisions), *written)
    if wanted:
        done = await read(b"".join(f"{revision}:{FILE}\n".encode() for revision in wanted))
        if done.exit != 0 or done.is_truncated:
            return True
        found += _contents(done.stdout)
    if any(len(each) >= _MOST_BYTES for each in found):  # not read to its end
        return True
    return bool(found) and set(found) != {await _users(repository)}


async def _users(repository: Repository) -> bytes | None:
    """The file of the user's checkout; where it is not there, as in a bare repository, that of its HEAD."""
    try:
        return await asyncio.to_thread(read_plain, repository.root / FILE, _MOST_BYTES)
    except OSError:
        done = await repository.git.attempt("cat-file", "--batch", stdin=f"HEAD:{FILE}\n".encode())
        return next(_contents(done.stdout), None)


def _contents(listed: bytes) -> Iterator[bytes]:
    """What `git cat-file --batch` printed, object by object; what is missing is passed over."""
    while listed:
        header, _, listed = listed.partition(b"\n")
        size = header.rpartition(b" ")[2]
        if size.isdigit():
            yield listed[: int(size)]
            listed = listed[int(size) + 1 :]
