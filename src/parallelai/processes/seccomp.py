"""A filter of system calls that takes the network away, beside Landlock, which knows only ports of TCP.

See seccomp(2), linux/filter.h (classic BPF) and linux/audit.h. The zygote's children load this file.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN, _AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_X32 = 0x40000000
_IO_URING_SETUP = 425
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_STREAM, _TYPE_MASK, _TCP = 1, 0xF, 6
_FAST_OPEN = 0x20000000

# Of each machine: the audit number, then the numbers of socket, sendto, sendmsg and sendmmsg.
_MACHINES: Final = {
    "x86_64": (0xC000003E, 41, 44, 46, 307),
    "aarch64": (0xC00000B7, 198, 206, 211, 269),
}

_Step = tuple[int, int, int | str, int | str]  # code, value, where to go if true and if false; 0: the next


def is_supported() -> bool:
    """Say whether the numbers of this machine are known."""
    return os.uname().machine in _MACHINES


def refuse_network(libc: ctypes.CDLL, *, allow_tcp: bool) -> None:
    """Refuse sockets of the network to this process and all that it starts. Raises OSError.

    Sockets within the machine (AF_UNIX) stay, and the look at its interfaces (AF_NETLINK). With `allow_tcp`
    TCP stays as well, but for its fast open, which connects without Landlock's knowledge. io_uring, which
    makes sockets past every filter, is refused.
    """
    if not is_supported():
        raise OSError(errno.ENOSYS, "seccomp")
    program = assemble(os.uname().machine, allow_tcp=allow_tcp)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, header, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def assemble(machine: str, *, allow_tcp: bool) -> bytes:
    """Return the filter as the kernel takes it."""
    audit, socket, sendto, sendmsg, sendmmsg = _MACHINES[machine]
    steps: list[tuple[str, _Step]] = [
        ("", (_LOAD, _ARCHITECTURE_AT, 0, 0)),
        ("", (_JUMP_EQUAL, audit, 0, "refuse")),
        ("", (_LOAD, _NUMBER_AT, 0, 0)),
        ("", (_JUMP_AT_LEAST, _X32, "refuse", 0)),
        ("", (_JUMP_EQUAL, _IO_URING_SETUP, "missing", 0)),
        ("", (_JUMP_EQUAL, socket, "socket", 0)),
    ]
    if allow_tcp:
        steps += [
            ("", (_JUMP_EQUAL, sendto, "flags 3", 0)),
            ("", (_JUMP_EQUAL, sendmsg, "flags 2", 0)),
            ("", (_JUMP_EQUAL, sendmmsg, "flags 3", 0)),
        ]
    steps.append(("", (_RETURN, _ALLOW, 0, 0)))
    steps += _of_socket(allow_tcp=allow_tcp)
    if allow_tcp:
        for argument in (2, 3):
            steps.append((f"flags {argument}", (_LOAD, _argument(argument), 0, 0)))
            steps.append(("", (_JUMP_ANY_BIT, _FAST_OPEN, "unsupported", "allow")))
        steps.append(("unsupported", (_RETURN, _ERRNO | errno.EOPNOTSUPP, 0, 0)))
    steps += [
        ("refuse", (_RETURN, _ERRNO | errno.EACCES, 0, 0)),
        ("missing", (_RETURN, _ERRNO | errno.ENOSYS, 0, 0)),
        ("allow", (_RETURN, _ALLOW, 0, 0)),
    ]
    return _link(steps)


def _of_socket(*, allow_tcp: bool) -> list[tuple[str, _Step]]:
    steps: list[tuple[str, _Step]] = [
        ("socket", (_LOAD, _argument(0), 0, 0)),
        ("", (_JUMP_EQUAL, _AF_UNIX, "allow", 0)),
        ("", (_JUMP_EQUAL, _AF_NETLINK, "allow", 0)),
    ]
    if allow_tcp:
        steps += [
            ("", (_JUMP_EQUAL, _AF_INET, "type", 0)),
            ("", (_JUMP_EQUAL, _AF_INET6, "type", "refuse")),
            ("type", (_LOAD, _argument(1), 0, 0)),
            ("", (_AND, _TYPE_MASK, 0, 0)),
            ("", (_JUMP_EQUAL, _STREAM, 0, "refuse")),
            ("", (_LOAD, _argument(2), 0, 0)),
            ("", (_JUMP_EQUAL, 0, "allow", 0)),
            ("", (_JUMP_EQUAL, _TCP, "allow", "refuse")),
        ]
    else:
        steps.append(("", (_RETURN, _ERRNO | errno.EACCES, 0, 0)))
    return steps


def _argument(index: int) -> int:
    """Where the lower half of an argument lies; both machines are little-endian."""
    return 16 + 8 * index


def _link(steps: list[tuple[str, _Step]]) -> bytes:
    """Turn names into distances: a jump counts from the step after it."""
    places = {name: at for at, (name, _) in enumerate(steps) if name}

    def distance(at: int, target: int | str) -> int:
        return places[target] - at - 1 if isinstance(target, str) else target

    return b"".join(
        struct.pack("=HBBI", code, distance(at, yes), distance(at, no), value)
        for at, (_, (code, value, yes, no)) in enumerate(steps)
    )
