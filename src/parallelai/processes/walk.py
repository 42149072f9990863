"""Walking and ending a tree of processes, by `/proc`.

The zygote loads this file, too; it imports next to nothing, and not pathlib.
"""

# ruff: noqa: PTH110, PTH112, PTH123, PTH208

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

_HAS_CHILDREN_FILE = os.path.exists("/proc/thread-self/children")


def children(pid: int) -> list[int]:
    """Return the children of a process, those of all its threads; none where it is gone."""
    if not _HAS_CHILDREN_FILE:
        return _children_by_scan(pid)
    found: list[int] = []
    folder = f"/proc/{pid}/task"
    try:
        threads = os.listdir(folder)
    except OSError:
        return found
    for thread in threads:
        found.extend(map(int, read(f"{folder}/{thread}/children").split()))
    return found


def _children_by_scan(parent: int) -> list[int]:
    """Do the work of `children` on kernels without `/proc/…/children`."""
    names = os.listdir("/proc") if os.path.isdir("/proc") else []
    pids = [int(name) for name in names if name.isdigit()]
    return [pid for pid in pids if stat_fields(pid)[1:2] == [b"%d" % parent]]


def read(path: str) -> bytes:
    """Return the content of a file of `/proc`; empty where it is gone or not ours to read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def stat_fields(pid: int) -> list[bytes]:
    """Return the fields of `/proc/PID/stat` from the state (field 3) on; empty where it is gone."""
    return read(f"/proc/{pid}/stat").rpartition(b")")[2].split()  # a name may hold spaces and parentheses


def descendants(root: int) -> list[int]:
    """Return all processes below `root`, parents first."""
    found = children(root)
    for pid in found:  # grows while we go
        found.extend(children(pid))
    return found


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone, or not be ours."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def kill_all(tops: list[int]) -> list[int]:
    """SIGKILL the processes in `tops` and all below them; return who that was.

    Each is stopped before its children are read: then it neither forks nor reaps, so that no child is missed
    and no process number passes on to a stranger between reading and killing.
    """
    found = list(tops)
    for pid in found:  # grows while we go
        send(pid, signal.SIGSTOP)
        found.extend(children(pid))
    for pid in found:
        send(pid, signal.SIGKILL)
    return found


def ask_to_end(pids: Iterable[int], *numbers: int) -> None:
    """Send the signals to each process, and SIGCONT, because a stopped one would not see them."""
    for pid in pids:
        for number in numbers:
            send(pid, number)
        send(pid, signal.SIGCONT)
