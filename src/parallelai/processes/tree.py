"""Facts about processes: who is alive, since when, with which mark, and what a tree has used.

On Linux from `/proc`; elsewhere by psutil.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from parallelai.processes import walk
from parallelai.processes.environment import MARK
from parallelai.processes.meter import resident
from parallelai.processes.walk import stat_fields

IS_LINUX = sys.platform.startswith("linux")
_STATE, _TIMES, _START = 0, slice(11, 15), 19  # fields of /proc/PID/stat, counted from the state
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Marked(Struct, frozen=True):
    """A running process that carries a mark. `start` tells it from a later one of the same number."""

    pid: int
    start: int
    owner: int
    owner_start: int
    mark: str


def start_time(pid: int) -> int | None:
    """Return when a process started (a number to compare, of no unit), None if it is not running.

    A zombie is not running: nothing of it is left but its number.
    """
    if not IS_LINUX:
        return _start_time_by_psutil(pid)
    fields = stat_fields(pid)
    return int(fields[_START]) if fields and fields[_STATE] not in (b"Z", b"X") else None


def is_alive(pid: int, start: int) -> bool:
    """Say whether the process that `start_time` was asked for is still running."""
    return start_time(pid) == start


def descendants(root: int) -> list[int]:
    """Return all processes below `root`, parents first; none where it is gone."""
    return walk.descendants(root) if IS_LINUX else _descendants_by_psutil(root)


def kill_all(tops: list[int]) -> None:
    """SIGKILL the processes in `tops` and all below them."""
    if IS_LINUX:
        walk.kill_all(tops)
        return
    for top in tops:
        for pid in [top, *_descendants_by_psutil(top)]:
            walk.send(pid, signal.SIGKILL)


def cpu_seconds(root: int) -> float:
    """Return the CPU seconds that the tree below `root` has used, those that ended in it included."""
    if not IS_LINUX:
        return _cpu_seconds_by_psutil(root)
    total = 0
    for pid in [root, *descendants(root)]:
        times = [int(field) for field in stat_fields(pid)[_TIMES]]
        # Of the root itself (the warden) only what it collected from its children counts.
        total += sum(times[2:] if pid == root else times)
    return total / _TICKS


def memory_bytes(pids: list[int]) -> int:
    """Return what the processes have in memory, roughly."""
    return resident(pids) if IS_LINUX else _memory_bytes_by_psutil(pids)


def marked() -> Iterator[Marked]:
    """Give the running processes of this user and this PID namespace that carry a mark."""
    pids = _pids() if IS_LINUX else _pids_by_psutil()
    for pid in pids:
        mark = _mark(pid) if IS_LINUX else _mark_by_psutil(pid)
        start = start_time(pid) if mark else None
        owner = _owner(mark) if mark else None
        if mark and start is not None and owner is not None:
            yield Marked(pid, start, *owner, mark)


def command(pid: int) -> str:
    """Return a process's command line, for people; empty if it is gone."""
    if not IS_LINUX:
        return _command_by_psutil(pid)
    words = walk.read(f"/proc/{pid}/cmdline")[:4000].replace(b"\0", b" ")
    return words.decode(errors="replace").strip()


def parents(pid: int) -> Iterator[int]:
    """Give the ancestors of a process, nearest first."""
    if not IS_LINUX:
        yield from _parents_by_psutil(pid)
        return
    fields = stat_fields(pid)
    while fields and (pid := int(fields[1])):
        yield pid
        fields = stat_fields(pid)


def _owner(mark: str) -> tuple[int, int] | None:
    pid, _, rest = mark.partition(":")
    start = rest.partition(":")[0]
    try:
        return int(pid), int(start)
    except ValueError:
        return None  # somebody else's variable of that name


def _pids() -> list[int]:
    me, space = os.getuid(), _namespace("self")
    with os.scandir("/proc") as entries:
        mine = [entry.name for entry in entries if entry.name.isdigit() and _user(entry) == me]
    # In another PID namespace (a container) owners have other numbers: not ours to judge.
    return [int(name) for name in mine if _namespace(name) == space]


def _user(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat().st_uid
    except OSError:
        return None


def _namespace(pid: str) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return None


def _mark(pid: int) -> str | None:
    environ = b"\0" + walk.read(f"/proc/{pid}/environ")
    _, found, rest = environ.partition(f"\0{MARK}=".encode())
    return rest.partition(b"\0")[0].decode(errors="replace") if found else None


def _pids_by_psutil() -> list[int]:
    import psutil

    me = os.getuid()
    found = []
    for process in psutil.process_iter():
        try:
            if process.uids().real == me:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def _mark_by_psutil(pid: int) -> str | None:
    import psutil

    try:
        mark: str | None = psutil.Process(pid).environ().get(MARK)
    except (psutil.Error, OSError):
        return None
    return mark


def _start_time_by_psutil(pid: int) -> int | None:
    import psutil

    try:
        process = psutil.Process(pid)
        is_running = process.status() != psutil.STATUS_ZOMBIE
        return round(process.create_time() * 1000) if is_running else None
    except psutil.Error:
        return None


def _command_by_psutil(pid: int) -> str:
    import psutil

    try:
        return " ".join(psutil.Process(pid).cmdline())[:4000]
    except psutil.Error:
        return ""


def _descendants_by_psutil(root: int) -> list[int]:
    import psutil

    try:
        return [child.pid for child in psutil.Process(root).children(recursive=True)]
    except psutil.Error:
        return []


def _parents_by_psutil(pid: int) -> list[int]:
    import psutil

    try:
        return [parent.pid for parent in psutil.Process(pid).parents()]
    except psutil.Error:
        return []


def _cpu_seconds_by_psutil(root: int) -> float:
    import psutil

    total = 0.0
    for pid in [root, *_descendants_by_psutil(root)]:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            continue
        total += float(times.user + times.system)
    return total


def _memory_bytes_by_psutil(pids: list[int]) -> int:
    import psutil

    total = 0
    for pid in pids:
        try:
            total += int(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            continue
    return total
