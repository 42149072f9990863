"""The logs of a repository's refs, kept as copies: lines that vanish are what `git reflog` cannot show any more.

The stash's log is a list of its own, and looked after where stashes are; the logs of ParallelAI's own refs come and go.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from parallelai.engines.planted import read_plain
from parallelai.store.files import replace_whole
from parallelai.work.guard.restoring import locked

MOST_LOGS = 20_000
_MOST_BYTES = 16 * 1024 * 1024
_LEFT_OUT = ("refs/stash", "refs/parallelai/", "refs/heads/parallelai/")
_TIME = re.compile(rb"> (\d{1,18}) [+-]\d{4}(?:\t|$)")


def keep_logs(common: Path, kept: Path) -> None:
    """Copy the logs that are others than before; lines that were kept stay kept. Raises `OSError`."""
    for ref in _refs(common / "logs"):
        theirs, ours = common / "logs" / ref, kept / ref
        if _is_same(theirs, ours):
            continue
        data = _read(theirs)
        if data is None:
            continue
        # A name may stand where another one, of a ref that is gone, needs a folder.
        with contextlib.suppress(FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError):
            ours.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside = ours.with_name(f"{ours.name}.lock")
            beside.write_bytes(joined(_read(ours) or b"", data))
            shutil.copystat(theirs, beside, follow_symlinks=False)
            beside.replace(ours)  # a disk that is full leaves no half of it


def cut_logs(common: Path, kept: Path) -> Mapping[str, tuple[bytes, ...]]:
    """By ref, the lines that its log had and has no more; of refs that are gone too, these are none of it."""
    found = {}
    for ref in _refs(kept):
        theirs = common / "logs" / ref
        if _is_same(theirs, kept / ref):
            continue
        now = _read(theirs)
        lost = missing(_read(kept / ref) or b"", now) if now is not None else ()
        if lost:
            found[ref] = lost
    return found


def put_lines_back(common: Path, kept: Path, ref: str) -> bool:
    """Put lines back that vanished, under git's own lock of the ref; says whether it was done."""
    theirs = common / "logs" / ref
    try:
        for folder in ((common / ref).parent, theirs.parent):  # a packed ref has none
            folder.mkdir(parents=True, exist_ok=True)
            if folder.resolve() != folder:  # a link, which leads elsewhere
                return False
        with locked(common / ref):
            now = _read(theirs)
            if now is None:
                return False
            replace_whole(theirs, joined(_read(kept / ref) or b"", now))
    except OSError:
        return False
    return True


def is_anew(common: Path, kept: Path, ref: str) -> bool:
    """Whether a ref was deleted and made again: then its log is another one."""
    return begins_anew(_read(kept / ref) or b"", _read(common / "logs" / ref) or b"")


def begins_anew(kept: bytes, now: bytes) -> bool:
    """Whether a log begins with the making of its ref, which is none of the lines that were kept. Pure."""
    old, _, rest = now.partition(b"\n")[0].partition(b" ")
    # git can cut a log so that its first line gets another old hash.
    known = {line.partition(b" ")[2] for line in kept.splitlines()}
    return set(old) == {ord("0")} and rest not in known


def forget(kept: Path, ref: str) -> None:
    """Let go of what was kept of a ref's log: what it has now counts."""
    (kept / ref).unlink(missing_ok=True)


def joined(kept: bytes, now: bytes) -> bytes:
    """Lines that were kept, then those that came since; each once. Pure."""
    known = set(kept.splitlines(keepends=True))
    return kept + b"".join(line for line in now.splitlines(keepends=True) if line not in known)


def missing(kept: bytes, now: bytes) -> tuple[bytes, ...]:
    """The lines that were kept, and are no more. Pure."""
    if now.startswith(kept):
        return ()
    there = set(now.splitlines())
    return tuple(line for line in kept.splitlines() if line not in there)


def time_of(line: bytes) -> float:
    """When a line was written (Unix time); 0 where it does not say. Pure."""
    found = _TIME.search(line)
    return float(found.group(1)) if found is not None else 0.0


def _refs(logs: Path) -> Iterator[str]:
    count = 0
    for folder, folders, names in os.walk(logs):
        folders.sort()
        for name in sorted(names):
            ref = Path(folder, name).relative_to(logs).as_posix()
            if ref.startswith(_LEFT_OUT) or ref.endswith(".lock") or Path(folder, name).is_symlink():
                continue
            count += 1
            if count > MOST_LOGS:
                return
            yield ref


def _is_same(theirs: Path, ours: Path) -> bool:
    try:
        one, other = theirs.lstat(), ours.lstat()
    except OSError:
        return False
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


def _read(path: Path) -> bytes | None:
    """A log's whole lines, none where it is gone; None where it is nothing that can be read whole."""
    try:
        data = read_plain(path, _MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError:
        return None if path.is_file() else b""  # what is no file has none
    return data[: data.rfind(b"\n") + 1] if len(data) <= _MOST_BYTES else None
