"""Confinement by bubblewrap: namespaces of its own for each program, and mounts over what it may not see.

See bwrap(1). The program gets a PID namespace, whose end is the end of all in it; IPC, UTS and cgroup
namespaces; a session without terminal; no capability but those over files; and, where the network is not on,
a network namespace with nothing but its own loopback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from parallelai.processes.confinement import Mount
from parallelai.processes.layout import Kind, Layout, is_within
from parallelai.processes.specification import BRIDGE_DESCRIPTOR, STATUS_DESCRIPTOR

PRIVATE = os.path.realpath("/tmp")  # noqa: S108 - the program's own, inside
_SHARED_MEMORY_BYTES = 256 * 1024 * 1024
_NOTHING = str(Path(__file__).with_name("nothing"))
"""An empty file, seen in place of hidden ones."""

_NAMESPACES = (
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--die-with-parent",
    "--new-session",
)
_FILE_CAPABILITIES = ("CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_CHOWN", "CAP_FSETID")
"""What root keeps: a checkout in a container often belongs to somebody else."""

_ORDINARY_PORT = 1024
_KERNEL_DOORS = ("sys", "sysrq-trigger", "irq", "bus", "fs")
"""What of `/proc` root could change the machine by. bubblewrap covers what it takes for writable, but asks
with access(2), which says no for `/proc/sys` where opening a file below it says yes."""

BRIDGE = f"""
import _socket, os, sys
own = _socket.socket(fileno={BRIDGE_DESCRIPTOR})
stage = b"B"
try:
    listeners = []
    for port in map(int, sys.argv[1].split(",")):
        listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
        listeners.append(listener)
    numbers = b"".join(one.fileno().to_bytes(4, sys.byteorder) for one in listeners)
    own.sendmsg([b"L"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)])
    os.set_inheritable(own.fileno(), False)
    stage = b"F"
    os.execve(sys.argv[2], sys.argv[3:], os.environ)
except OSError as error:
    own.send(stage + b"%d" % error.errno)
os._exit(127)
"""
"""Runs inside, before the program: listens on its ports, hands the listening sockets out, becomes it."""


def command(
    bwrap: str,
    layout: Layout,
    *,
    cwd: str,
    program: Sequence[str],
    is_networked: bool,
    ports: Sequence[int] = (),
    mounts: Sequence[Mount] = (),
    is_watched: bool = True,
) -> list[str]:
    """Return the command line that runs `program` (its executable, then its argv) in `layout`.

    With `ports` the network namespace has listeners on them, which come out at the bridge's descriptor. What
    nobody of ours watches tells its status to nobody, and its temporary folder is in memory, for it alone.
    """
    root = "--bind" if layout.kind("/") is Kind.WRITABLE else "--ro-bind"
    result = [bwrap, root, "/", "/", "--dev", "/dev"]
    result += ["--size", str(_SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm"]  # noqa: S108
    own = ["--bind", layout.temporary] if is_watched else ["--size", str(_SHARED_MEMORY_BYTES), "--tmpfs"]
    result += [*_mounts(layout, [*own, PRIVATE]), *_laid_over(layout.temporary, mounts), *_sealed(layout)]
    result += namespaces(is_networked=is_networked)
    if any(port < _ORDINARY_PORT for port in ports):
        result += ["--cap-add", "CAP_NET_BIND_SERVICE"]
    if is_watched:
        result += ["--json-status-fd", str(STATUS_DESCRIPTOR)]
    result += ["--chdir", cwd, "--"]
    executable, *argv = program
    if ports:
        numbers = ",".join(map(str, ports))
        result += [interpreter(), "-I", "-S", "-c", BRIDGE, numbers, executable, *argv]
        return result
    return [*result, executable, *argv[1:]]


def namespaces(*, is_networked: bool) -> list[str]:
    """Return the options that do not depend on the program."""
    result = [*_NAMESPACES, "--proc", "/proc", "--cap-drop", "ALL"]
    if os.geteuid() == 0:
        for name in _KERNEL_DOORS:
            result += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
        for name in _FILE_CAPABILITIES:
            result += ["--cap-add", name]
    return result if is_networked else [*result, "--unshare-net"]


def interpreter() -> str:
    """Return the Python that the bridge runs in."""
    return os.path.realpath(sys.executable)


def needed_by_bridge() -> tuple[str, ...]:
    """Return what the bridge's Python reads."""
    return (interpreter(), os.path.realpath(sys.base_prefix), os.path.realpath(sys.base_exec_prefix))


def _mounts(layout: Layout, private: list[str]) -> list[str]:
    """Return the mounts, outer before inner; `private` is that of its temporary folder.

    Raises ValueError where one could be led astray.
    """
    result: list[str] = []
    is_private = False
    for path, kind in layout.entries:
        if path == "/":
            continue  # mounted already
        if path == PRIVATE and kind is Kind.HIDDEN:
            result += private
            is_private = True
        elif kind is not Kind.HIDDEN:
            if is_within(path, PRIVATE):
                _refuse_planted(layout.temporary, path)
            result += ["--bind" if kind is Kind.WRITABLE else "--ro-bind", path, path]
        elif Path(path).is_dir():
            result += ["--tmpfs", path]
        else:
            result += ["--ro-bind", _NOTHING, path]
    if not is_private:
        result += private
    return result


def _laid_over(temporary: str, mounts: Sequence[Mount]) -> list[str]:
    """Return the mounts that lie over all else. Raises ValueError where one could be led astray."""
    result: list[str] = []
    for what, place, is_writable in mounts:
        if is_within(place, PRIVATE):
            _refuse_planted(temporary, place)
        result += ["--bind" if is_writable else "--ro-bind", what, place]
    return result


def _sealed(layout: Layout) -> list[str]:
    """Return what keeps a program from filling memory with files where something is hidden."""
    hidden = (path for path in layout.of(Kind.HIDDEN) if path != PRIVATE and Path(path).is_dir())
    return [word for path in hidden for word in ("--remount-ro", path)]


def _refuse_planted(temporary: str, path: str) -> None:
    """Where `path` is mounted, in the private folder, no link may lie: bubblewrap would follow it."""
    step = Path(temporary)
    for part in Path(path).relative_to(PRIVATE).parts:
        step /= part
        if step.is_symlink():
            raise ValueError(f"`{step}` is a link, where `{path}` is to be seen")
