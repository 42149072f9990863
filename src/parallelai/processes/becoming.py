"""How a forked process becomes the program that a warden was told to start.

The zygote loads this file, too; it imports next to nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Callable
from typing import NoReturn

from parallelai.processes.specification import Specification

_FREE_DESCRIPTOR = 10
_PR_SET_PDEATHSIG = 1

# Whoever interrupts a tree from outside must not take away the one who would end it properly.
_IGNORED_NAMES = ("INT", "TERM", "HUP", "QUIT", "PIPE", "USR1", "USR2")
IGNORED = tuple(signal.Signals[f"SIG{name}"] for name in _IGNORED_NAMES)
_RESTORED = (*IGNORED, signal.SIGXFSZ, signal.SIGCHLD)


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
