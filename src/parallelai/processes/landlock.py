"""Confinement by Landlock and seccomp: what a process gives up, for itself and all that it starts.

See landlock(7), https://docs.kernel.org/userspace-api/landlock.html and linux/landlock.h. Landlock grants;
it cannot take away below what it granted. So reading is granted not to `/` but to what stands beside the
hidden paths, folder by folder on the way to them. What appears later in such a folder is not readable, and
what is hidden can still be listed by name, not read: programs fail in strange ways where they cannot list
the folders above their own.

Not held back: chmod, chown and utime, `connect` to sockets that are files, and, with the network on, anything
of it. The zygote's children load this file; it imports next to nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator

from parallelai.processes.seccomp import refuse_network  # not later: what is confined cannot read it
from parallelai.processes.specification import Restrictions

LEAST_ABI = 3
"""Before it (Linux 6.2) truncating a file, wherever it lies, could not be refused."""

PORTS_ABI, _IOCTL_ABI, _SCOPES_ABI = 4, 5, 6

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
_VERSION = 1  # a flag
_RULE_PATH_BENEATH, _RULE_NET_PORT = 1, 2
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_CONNECT_TCP = 2
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

_CAPABILITY_VERSION = 0x20080522
_KEPT_CAPABILITIES = 0b11011  # CHOWN, DAC_OVERRIDE, FOWNER, FSETID: those over files

_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *args: object) -> int:
    values = [arg if isinstance(arg, bytes) else ctypes.c_long(arg) for arg in args]  # type: ignore[arg-type]
    result: int = _libc.syscall(ctypes.c_long(number), *values)
    if result < 0:
        raise OSError(ctypes.get_errno(), "Landlock")
    return result


def abi() -> int:
    """Return the version of Landlock that runs here, 0 where none does."""
    try:
        return _call(_CREATE_RULESET, 0, 0, _VERSION)
    except OSError:
        return 0


def isolate() -> None:
    """Keep this process from the abstract sockets of others, where that is possible; beside bubblewrap.

    They belong to the network, and no mount hides them. Raises OSError.
    """
    if abi() >= _SCOPES_ABI:
        _give_up_new_privileges()
        attributes = struct.pack("=3Q", 0, 0, _ABSTRACT_SOCKETS)
        descriptor = _call(_CREATE_RULESET, attributes, len(attributes), 0)
        _call(_RESTRICT_SELF, descriptor, 0)
        os.close(descriptor)


def restrict(asked: Restrictions) -> None:
    """Hold this process to what is asked. Raises OSError; then it must not go on."""
    version = abi()
    if version < LEAST_ABI or (asked.network == "loopback" and version < PORTS_ABI):
        raise OSError(errno.ENOSYS, "Landlock")
    _drop_capabilities()
    _give_up_new_privileges()
    ruleset = _Ruleset(version, is_networked=asked.network != "loopback")
    ruleset.add(asked)
    ruleset.enforce()
    if asked.network != "on":
        refuse_network(_libc, allow_tcp=asked.network == "loopback")


def _give_up_new_privileges() -> None:
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


class _Ruleset:
    """A set of rules of Landlock, for the rights that this kernel knows."""

    def __init__(self, version: int, *, is_networked: bool) -> None:
        self._rights = (1 << 16 if version >= _IOCTL_ABI else 1 << 15) - 1
        fields = [self._rights]
        if version >= PORTS_ABI:
            fields.append(0 if is_networked else _CONNECT_TCP)
        if version >= _SCOPES_ABI:
            fields.append(_ABSTRACT_SOCKETS | _SIGNALS)
        attributes = struct.pack(f"={len(fields)}Q", *fields)
        self._descriptor = _call(_CREATE_RULESET, attributes, len(attributes), 0)

    def add(self, asked: Restrictions) -> None:
        """Add all the rules."""
        self._allow("/", _READ_DIR)
        hidden = (*asked.hidden, "/dev")  # disks, and the user's terminals
        for top in ("/", *asked.readable):
            for path in beside(top, hidden):
                self._allow(path, _READ)
        for name in _DEVICES:
            self._allow(f"/dev/{name}", _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV)
        for path in asked.writable:
            self._allow(path, ~(_MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV), is_needed=True)
        for port in asked.ports if asked.network == "loopback" else ():
            self._rule(_RULE_NET_PORT, struct.pack("=QQ", _CONNECT_TCP, port))

    def enforce(self) -> None:
        """Have the rules hold from now on."""
        _call(_RESTRICT_SELF, self._descriptor, 0)
        os.close(self._descriptor)

    def _allow(self, path: str, rights: int, *, is_needed: bool = False) -> None:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            if is_needed:
                raise
            return  # it has gone, or is not this user's to look at
        try:
            rights &= self._rights
            if not os.path.isdir(path):  # noqa: PTH112
                rights &= _OF_FILES
            self._rule(_RULE_PATH_BENEATH, struct.pack("=Qi", rights, descriptor))
        finally:
            os.close(descriptor)

    def _rule(self, kind: int, attributes: bytes) -> None:
        _call(_ADD_RULE, self._descriptor, kind, attributes, 0)


def beside(top: str, hidden: tuple[str, ...]) -> Iterator[str]:
    """Give the paths that together are all of `top` but what is hidden. Links are left out.

    A folder above something hidden is taken apart into what it holds; what lies in it later is not given.
    """
    if top in hidden:
        return
    prefix = top.rstrip("/") + "/"
    inner = tuple(path for path in hidden if path.startswith(prefix))
    if not inner:
        yield top
        return
    try:
        entries = [entry.name for entry in os.scandir(top) if not entry.is_symlink()]
    except OSError:
        return  # not this user's to read
    for name in entries:
        yield from beside(prefix + name, inner)


def _drop_capabilities() -> None:
    """Give up all of root's privileges but those over files; the kernel gives none back after NO_NEW_PRIVS."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    data = ctypes.create_string_buffer(24)
    if _libc.capget(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    effective, permitted, _, *_ = struct.unpack("=6I", data.raw)
    kept = struct.pack("=6I", effective & _KEPT_CAPABILITIES, permitted & _KEPT_CAPABILITIES, 0, 0, 0, 0)
    if _libc.capset(header, kept) != 0:
        raise OSError(ctypes.get_errno(), "capset")
