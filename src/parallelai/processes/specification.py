"""What a warden is told to start, and how a forked process becomes that program.

The zygote loads this file, too; it imports next to nothing.
"""

from __future__ import annotations

import errno
import fcntl
import marshal
import os
import signal
import struct
from collections.abc import Callable
from typing import NamedTuple, NoReturn

LENGTH = struct.Struct("!Q")
STATUS_DESCRIPTOR, BRIDGE_DESCRIPTOR = 3, 4
"""Where bubblewrap tells what became of the program, and where the bridge's listeners come out."""

_FREE_DESCRIPTOR = 10
_PR_SET_PDEATHSIG = 1

# Whoever interrupts a tree from outside must not take away the one who would end it properly.
_IGNORED_NAMES = ("INT", "TERM", "HUP", "QUIT", "PIPE", "USR1", "USR2")
IGNORED = tuple(signal.Signals[f"SIG{name}"] for name in _IGNORED_NAMES)
_RESTORED = (*IGNORED, signal.SIGXFSZ, signal.SIGCHLD)


class Restrictions(NamedTuple):
    """What Landlock holds a program to. Paths are absolute, without links; `hidden` may hold `readable`."""

    hidden: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    network: str = "on"
    ports: tuple[int, ...] = ()


class Specification(NamedTuple):
    """What a warden starts. All bytes are without NUL; `env` holds `NAME=value`.

    `memory_bytes` (0: any) is what the tree may take. `is_wrapped` says that bubblewrap is started, and the
    program in it; then `ports` are those of the bridge, and `is_isolated` has Landlock keep it from abstract
    sockets. `restrictions` are Landlock's alone.
    """

    executable: bytes
    cwd: bytes
    grace_seconds: float
    argv: tuple[bytes, ...]
    env: tuple[bytes, ...]
    memory_bytes: int = 0
    is_wrapped: bool = False
    ports: tuple[int, ...] = ()
    is_isolated: bool = False
    restrictions: Restrictions | None = None

    def encode(self) -> bytes:
        """Return the bytes that go over the control socket, length included."""
        plain = self._replace(restrictions=None)
        body = marshal.dumps((tuple(plain), self.restrictions and tuple(self.restrictions)))
        return LENGTH.pack(len(body)) + body

    @classmethod
    def decode(cls, body: bytes) -> Specification:
        """Read back what `encode` wrote, without the length. Both ends are the same interpreter."""
        fields, restrictions = marshal.loads(body)  # noqa: S302 - from the process that started this one
        return cls(*fields)._replace(restrictions=restrictions and Restrictions(*restrictions))


def become(
    specification: Specification,
    streams: list[int],
    report: int,
    prctl: Callable[[int, int], None],
) -> NoReturn:
    """Turn this forked process into the program; on failure write errno and stage to `report` and exit.

    `streams` become the descriptors 0, 1, 2 and, where there are more, those of bubblewrap.
    """
    stage = b"start"
    try:
        os.setsid()
        for number in _RESTORED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # should the warden be killed
        report, *streams = (
            fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FREE_DESCRIPTOR)
            for descriptor in (report, *streams)
        )
        for target, descriptor in enumerate(streams):
            os.dup2(descriptor, target)
        stage = b"chdir"
        os.chdir(specification.cwd)
        stage = b"confine"
        _confine(specification)
        stage = b"exec"
        env = dict(entry.split(b"=", 1) for entry in specification.env)
        os.execve(specification.executable, specification.argv, env)  # noqa: S606 - never a shell
    except OSError as error:
        os.write(report, b"%d %s" % (error.errno or 0, stage))
    except Exception:  # whatever it is, the program was not started
        os.write(report, b"%d %s" % (errno.EINVAL, stage))
    finally:
        os._exit(127)


def _confine(specification: Specification) -> None:
    if specification.restrictions is not None:
        from parallelai.processes.landlock import restrict  # not for those without

        restrict(specification.restrictions)
    elif specification.is_isolated:
        from parallelai.processes.landlock import isolate

        isolate()
