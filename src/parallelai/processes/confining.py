"""Which confinement works on this machine, and what is started in place of a program that is confined.

What confines is loaded where it is used: most programs are not confined, and ctypes is slow to load.
"""

from __future__ import annotations

import functools
import json
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from parallelai.processes import zygote
from parallelai.processes.confinement import By, Confinement
from parallelai.processes.environment import find
from parallelai.processes.specification import Restrictions, Specification

_TRIAL_SECONDS = 10.0
_LANDLOCK = """
import sys
for name, folder in zip(("parallelai", "parallelai.processes"), sys.argv[1:3]):
    sys.modules[name] = type(sys)(name)
    sys.modules[name].__path__ = [folder]
from parallelai.processes.landlock import restrict
from parallelai.processes.specification import Restrictions
"""
_LANDLOCK_TRIAL = f"""{_LANDLOCK}
restrict(Restrictions(hidden=("/etc",)))
try:
    open("/etc/passwd").close()
except PermissionError:
    print("confined")
"""
_LANDLOCK_BECOMING = f"""{_LANDLOCK}
import json, os
asked = [tuple(each) if isinstance(each, list) else each for each in json.loads(sys.argv[3])]
restrict(Restrictions(*asked))
os.execv(sys.argv[4], sys.argv[4:])
"""
"""Gives up what it is told to, and becomes the program."""


def confinements() -> tuple[By, ...]:
    """Return what works here, best first, of `bubblewrap` and `landlock`. Tried once, then remembered.

    The first call takes some 50 ms. `landlock` is Linux 6.2 or later; one loopback port needs 6.7 with it,
    and that other processes cannot be signalled 6.12.
    """
    return _tried(find("bwrap")) if zygote.is_supported() else ()


@functools.cache
def _tried(bwrap: str | None) -> tuple[By, ...]:
    from parallelai.processes import landlock

    found: list[By] = []
    if bwrap is not None and _bubblewrap_works(bwrap):
        found.append("bubblewrap")
    if landlock.abi() >= landlock.LEAST_ABI and _landlock_works():
        found.append("landlock")
    return tuple(found)


def _bubblewrap_works(bwrap: str) -> bool:
    """Try all the namespaces: some machines forbid one of them, or mounting `/proc`."""
    from parallelai.processes import bubblewrap

    options = bubblewrap.namespaces(is_networked=False)
    argv = [bwrap, "--ro-bind", "/", "/", "--dev", "/dev", *options, "--"]
    return _prints_confined([*argv, "sh", "-c", "echo confined"])


def _landlock_works() -> bool:
    return _prints_confined(_python(_LANDLOCK_TRIAL))


def _python(script: str) -> list[str]:
    room = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120
    return [sys.executable, "-I", "-S", "-c", script, os.path.dirname(room), room]  # noqa: PTH120


def _prints_confined(argv: list[str]) -> bool:
    try:
        done = subprocess.run(
            argv,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TRIAL_SECONDS,
            check=False,
            start_new_session=True,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.stdout == b"confined\n"


def confine(specification: Specification, asked: Confinement) -> Specification:
    """Return what to start so that the program is held to what is asked.

    Raises ValueError, with the reason, where that cannot be.
    """
    if asked.network != "loopback" and asked.ports:
        raise ValueError("ports are for the network `loopback` alone")
    if any(not 0 < port < 65536 for port in asked.ports):
        raise ValueError(f"{asked.ports} are not all port numbers")
    limits = [limit for limit in (specification.memory_bytes, asked.memory_bytes) if limit]
    specification = specification._replace(memory_bytes=min(limits, default=0))
    if _choose(asked.by) == "bubblewrap":
        return _wrap(specification, asked)
    return _restrict(specification, asked)


def confined_words(argv: Sequence[str], asked: Confinement, cwd: Path) -> list[str]:
    """Return the command line that runs a program confined, for one that another program starts in `cwd`.

    No warden looks after it: whoever starts it does; memory and ports are not bounded. What is started has a
    new temporary folder each time with bubblewrap, and `asked.temporary` with Landlock.
    Raises ValueError, with the reason, where that cannot be.
    """
    env, own = find("env"), find(argv[0])
    if env is None or own is None:
        raise ValueError(f"`{argv[0]}` is not found")
    if _choose(asked.by) != "bubblewrap":
        restrictions, folder = _restrictions(asked, own)
        program = _with_folder(env, folder, [own, *argv[1:]])
        return [*_python(_LANDLOCK_BECOMING), json.dumps(restrictions), *program]
    from parallelai.processes import bubblewrap
    from parallelai.processes.layout import lay_out

    bwrap = find("bwrap")
    if bwrap is None:
        raise ValueError("`bwrap` has gone")
    return bubblewrap.command(
        bwrap,
        lay_out(asked, [own]).showing(own),
        cwd=str(cwd),
        program=[env, *_with_folder(env, bubblewrap.PRIVATE, [own, *argv[1:]])],
        is_networked=asked.network == "on",
        is_watched=False,
    )


def _with_folder(env: str, folder: str, argv: list[str]) -> list[str]:
    return [env, *(f"{os.fsdecode(name)}={folder}" for name in _TEMPORARY), *argv]


def _choose(wanted: By | None) -> By:
    works = confinements()
    if not works:
        raise ValueError("it cannot be confined here: neither bubblewrap nor Landlock works")
    if wanted is None:
        return works[0]
    if wanted not in works:
        raise ValueError(f"it cannot be confined by {wanted}, which does not work here")
    return wanted


def _wrap(specification: Specification, asked: Confinement) -> Specification:
    from parallelai.processes import bubblewrap
    from parallelai.processes.layout import lay_out, mounts_of

    own = os.fsdecode(specification.executable)
    is_bridged = asked.network == "loopback" and bool(asked.ports)
    needed = [own, *(bubblewrap.needed_by_bridge() if is_bridged else ())]
    layout = lay_out(asked, needed)
    bwrap = find("bwrap")
    if bwrap is None:
        raise ValueError("`bwrap` has gone")
    argv = bubblewrap.command(
        bwrap,
        layout.showing(own),
        cwd=os.fsdecode(specification.cwd),
        program=[own, *map(os.fsdecode, specification.argv)],
        is_networked=asked.network == "on",
        ports=asked.ports if is_bridged else (),
        mounts=mounts_of(asked),
    )
    return specification._replace(
        executable=os.fsencode(bwrap),
        argv=tuple(map(os.fsencode, argv)),
        env=_with_temporary(specification.env, asked.temporary, bubblewrap.PRIVATE),
        is_wrapped=True,
        ports=asked.ports if is_bridged else (),
        is_isolated=asked.network == "on" and not _is_setuid(bwrap),
    )


def _is_setuid(path: str) -> bool:
    """Say whether a program needs new privileges, which Landlock has a process give up."""
    return bool(os.stat(path).st_mode & stat.S_ISUID)  # noqa: PTH116


def _restrict(specification: Specification, asked: Confinement) -> Specification:
    restrictions, folder = _restrictions(asked, os.fsdecode(specification.executable))
    return specification._replace(
        env=_with_temporary(specification.env, asked.temporary, folder),
        restrictions=restrictions,
    )


def _restrictions(asked: Confinement, own: str) -> tuple[Restrictions, str]:
    """What Landlock holds a program to, and its temporary folder."""
    from parallelai.processes import landlock, seccomp
    from parallelai.processes.layout import Kind, is_within, lay_out

    layout = lay_out(asked, [own])
    hidden, writable = layout.of(Kind.HIDDEN), layout.of(Kind.WRITABLE)
    for path in hidden:
        if any(is_within(path, folder) for folder in writable):
            raise ValueError(f"Landlock cannot hide `{path}`, which lies in a folder that it may write")
    if asked.network == "loopback" and landlock.abi() < landlock.PORTS_ABI:
        raise ValueError("Landlock cannot hold it to some ports here: Linux 6.7 is needed, or bubblewrap")
    if asked.network != "on" and not seccomp.is_supported():
        raise ValueError("Landlock cannot take the network away on this kind of machine")
    readable = layout.of(Kind.READABLE)
    return Restrictions(hidden, readable, writable, asked.network, asked.ports), layout.temporary


def _with_temporary(env: tuple[bytes, ...], temporary: str, folder: str) -> tuple[bytes, ...]:
    """The environment of a program that sees its temporary folder as `folder`, and what lies in it there, too."""
    old, new = os.fsencode(temporary), os.fsencode(folder)
    kept = []
    for entry in env:
        name, _, value = entry.partition(b"=")
        if name in _TEMPORARY:
            continue
        is_inside = value.startswith(old + b"/")
        kept.append(name + b"=" + new + value[len(old) :] if is_inside else entry)
    return (*kept, *(name + b"=" + new for name in _TEMPORARY))


_TEMPORARY = (b"TMPDIR", b"TMP", b"TEMP")
