"""What each workspace has to itself on this machine, so that several can work at once.

A workspace sees what it holds in its environment:

    PARALLELAI_WORKSPACE      its name
    PARALLELAI_PORT_1, _2, …  its ports, free on IPv4 and IPv6 when they were given; `PORT` is the first
    PARALLELAI_DATABASE       a name for a database, of lower-case letters, digits and `_`, at most 60 long
    COMPOSE_PROJECT_NAME      Docker Compose's own variable: containers, networks and volumes get this prefix
    TMPDIR                    a folder for temporary files
    XDG_CACHE_HOME            a folder for caches
    PARALLELAI_MEMORY         while it works, its share of the memory, in bytes
    PARALLELAI_HEAVY          while it works, how many heavy commands it may run at once

Ports, names and folders of a workstream stay the same until it has landed or was dropped; those of a task's attempt
go with it. Nobody makes the database: the name is free, and who sets the workspace up makes it. Memory and heavy
slots are only held while somebody works; while others hold them, who needs them waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import hashlib
import os
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import platformdirs
from msgspec import Struct, field

from parallelai.plan.model import Needs
from parallelai.processes import tree
from parallelai.processes.removing import remove
from parallelai.store.ledger import Capacity, Holder, Lacking, Watch
from parallelai.store.machine import Machine
from parallelai.work.streams.registry import is_unfinished_file

__all__ = ["Held", "Lacking", "Ledger"]

MEMORY_SHARE = 0.9
"""How much of the machine's memory workspaces may take together."""
WAIT_SECONDS = 0.5
"""How often is looked whether others gave back what somebody waits for: they may be other processes."""
_LONGEST = 40
_GONE = "gone-"
_PLACES = (
    (socket.AF_INET, "127.0.0.1"),
    (socket.AF_INET, "0.0.0.0"),  # noqa: S104 -- only bound, never listened on
    (socket.AF_INET6, "::1"),
    (socket.AF_INET6, "::"),
)
_NO_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


class Held(Struct, frozen=True):
    """What one workspace holds. `env` is what it sees of it; `memory` is its share in bytes, None without one.

    `project` is the folder of its project, or its state folder where `state.path` moved that.
    `is_kept`: it is a workstream's that is not finished, which needs no process to keep what it holds.
    """

    key: str
    name: str
    run: str
    ports: tuple[int, ...]
    database: str | None
    compose: str
    temporary: Path
    cache: Path
    heavy: int = 0
    memory: int | None = None
    pid: int = 0
    is_alive: bool = True
    is_kept: bool = False
    at: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    project: str = ""


class Ledger:
    """The ledger, for one project. Safe for several processes and threads.

    Args:
        machine: the open `machine.db`.
        state: the project's state folder.
        heavy: how many heavy commands the machine bears at once; None is half of its cores.
        folder: where temporary and cache folders go; None is the user's cache.
    """

    def __init__(
        self, machine: Machine, state: Path, *, heavy: int | None = None, folder: Path | None = None
    ) -> None:
        self._table = machine.ledger
        self._state = _text(Path(os.path.realpath(state)))
        slots = max(1, (os.cpu_count() or 2) // 2) if heavy is None else heavy
        self._capacity = Capacity(slots, _memory())
        self._folder = folder or platformdirs.user_cache_path("parallelai", appauthor=False) / "ledger"
        self._watch = Watch(_is_alive, _is_registered, is_free, _put_aside)

    async def take(
        self, run: str, name: str, needs: Needs, *, registration: Path | None = None, is_working: bool = True
    ) -> Held:
        """Take what a workspace needs, all of it or nothing; who holds it already keeps it.

        Args:
            name: of the workspace: a workstream's, a task's attempt's, a gate's.
            registration: the file of the workstream (`Streams.path`): ports and names are kept until it is
                finished. Without one they are the run's, and go with this process.
            is_working: also take the memory and the heavy slots that it needs; they are given back by `rest`,
                or when this process ends.

        Raises:
            Lacking: others hold too much of it now; it says who.
            UsageError: the machine has less than is asked for.
        """
        return await asyncio.to_thread(self._take, run, name, needs, registration, is_working)

    def _take(self, run: str, name: str, needs: Needs, registration: Path | None, is_working: bool) -> Held:
        key = self.key(run, name, is_stream=registration is not None)
        label = label_of(self._state, key, name)
        wanted = Holder(
            key=key,
            project=self._state,
            run=run,
            name=_printable(name),
            host=_host(),
            pid=os.getpid(),
            start=tree.start_time(os.getpid()) or 0,
            registration=None if registration is None else _text(registration),
            label=label,
            has_database=needs.database,
            heavy=needs.heavy if is_working else 0,
            memory=(needs.memory or 0) if is_working else 0,
            folder=_text(self._folder / _short(label)),
        )
        given, gone = self._table.take(wanted, needs.ports, self._capacity, self._watch)
        if gone:
            self._clear()
        held = _held(given)
        for made in (self._folder, held.temporary, held.cache):
            made.mkdir(parents=True, exist_ok=True, mode=0o700)
        return held

    async def take_when_free(
        self,
        run: str,
        name: str,
        needs: Needs,
        *,
        registration: Path | None = None,
        parked: Callable[[], AbstractAsyncContextManager[None]],
        waits: Callable[[Lacking], None],
    ) -> Held:
        """Take what a workspace needs, as `take` does; while others hold too much of it, wait inside of `parked`.

        Args:
            waits: is told, once, what is waited for.
        """
        try:
            return await self.take(run, name, needs, registration=registration)
        except Lacking as lacking:
            waits(lacking)
        async with parked():
            while True:
                await asyncio.sleep(WAIT_SECONDS)
                with contextlib.suppress(Lacking):
                    return await self.take(run, name, needs, registration=registration)

    async def rest(self, held: Held) -> None:
        """Give memory and heavy slots back, between turns and while it waits to land; ports and names stay."""
        await asyncio.to_thread(self._table.rest, held.key)

    async def release(self, held: Held | str, run: str = "", *, is_stream: bool = True) -> None:
        """Give all back, and remove its folders; does nothing where nothing is held.

        Args:
            held: what was taken, or a workspace's name: of a workstream, else of a run (`is_stream` False).
        """
        key = self.key(run, held, is_stream=is_stream) if isinstance(held, str) else held.key
        await asyncio.to_thread(self._table.release, key, self._watch)
        await asyncio.to_thread(self._clear)

    async def sweep(self) -> list[Held]:
        """Take back what processes held that are gone, as every `take` does; gives what that was."""
        gone = await asyncio.to_thread(self._table.sweep, self._watch, _host())
        await asyncio.to_thread(self._clear)
        return [_held(each) for each in gone]

    async def holders(self) -> list[Held]:
        """List what is held on this machine, by any project, for `work ledger`."""
        return [_held(each) for each in await asyncio.to_thread(self._table.holders)]

    def _clear(self) -> None:
        """Remove the folders that were moved aside, those that a killed process left too."""
        with contextlib.suppress(OSError):
            for path in list(self._folder.iterdir()):
                if path.name.startswith(_GONE):
                    remove(path)

    def key(self, run: str, name: str, *, is_stream: bool) -> str:
        """What a holder is known by: a workstream keeps what it holds from run to run."""
        words = ("stream", self._state, name) if is_stream else ("run", self._state, run, name)
        return "\n".join(word.encode("utf-8", "backslashreplace").decode() for word in words)


def label_of(state: str, key: str, name: str) -> str:
    """What names are made of: readable, and of this key alone. Lower-case letters, digits and `_`."""
    project = Path(state).parents[1].name if len(Path(state).parents) > 1 else ""
    words = re.sub(r"[^a-z0-9]+", "_", f"{project}_{name}".lower()).strip("_")[:_LONGEST].strip("_")
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return f"p_{words}_{digest}" if words else f"p_{digest}"


def _project_of(state: str) -> str:
    """The folder of the project whose state folder this is; that itself where `state.path` moved it."""
    path = Path(state)
    return str(path.parents[1]) if path.parts[-2:] == (".parallelai", "state") else state


def is_free(port: int) -> bool:
    """Whether nobody has a port, on any address of either family: proved by binding it."""
    for family, address in _PLACES:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as bound:
                if family == socket.AF_INET6:
                    bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                bound.bind((address, port))
        except OSError as error:
            if error.errno not in _NO_FAMILY:
                return False
    return True


def _held(holder: Holder) -> Held:
    folder = Path(holder.folder)
    database = holder.label if holder.has_database else None
    temporary, cache = folder / "tmp", folder / "cache"
    env = {
        "PARALLELAI_WORKSPACE": holder.name,
        "COMPOSE_PROJECT_NAME": holder.label,
        "TMPDIR": str(temporary),
        "XDG_CACHE_HOME": str(cache),
        **{f"PARALLELAI_PORT_{number}": str(port) for number, port in enumerate(holder.ports, 1)},
    }
    if holder.ports:
        env["PORT"] = str(holder.ports[0])
    if database is not None:
        env["PARALLELAI_DATABASE"] = database
    if holder.memory:
        env["PARALLELAI_MEMORY"] = str(holder.memory)
    if holder.heavy:
        env["PARALLELAI_HEAVY"] = str(holder.heavy)
    return Held(
        key=holder.key,
        name=holder.name,
        run=holder.run,
        ports=holder.ports,
        database=database,
        compose=holder.label,
        temporary=temporary,
        cache=cache,
        heavy=holder.heavy,
        memory=holder.memory or None,
        pid=holder.pid,
        is_alive=_is_alive(holder),
        is_kept=_is_registered(holder),
        at=holder.at,
        env=env,
        project=_project_of(holder.project),
    )


def _is_alive(holder: Holder) -> bool:
    return holder.host == _host() and tree.is_alive(holder.pid, holder.start)


def _is_registered(holder: Holder) -> bool:
    return holder.registration is not None and is_unfinished_file(Path(holder.registration))


def _put_aside(holder: Holder) -> None:
    """Move the folder of a workspace out of the way, if it is ours: named by its label."""
    folder = Path(holder.folder)
    if folder.name == _short(holder.label):
        with contextlib.suppress(OSError):
            folder.rename(folder.with_name(f"{_GONE}{secrets.token_hex(8)}"))


def _short(label: str) -> str:
    """The folder of a label. Sockets are made in it, whose paths may have 100 characters."""
    return label.rpartition("_")[2]


@functools.cache
def _host() -> str:
    """This machine, since it was started: after that the numbers of its processes begin anew."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        import psutil

        boot = str(round(psutil.boot_time()))
    return f"{socket.gethostname()}/{boot}"


def _memory() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(total * MEMORY_SHARE)


def _text(path: Path) -> str:
    """A path as SQLite takes it: what is no UTF-8 in it is written as such."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in name)[:200]
