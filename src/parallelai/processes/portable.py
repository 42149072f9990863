"""Starting and ending programs where there are no wardens: process groups, psutil and the mark.

What leaves its group and clears its environment escapes here, and nothing outlives a killed ParallelAI to
end its programs: the next start's sweep does.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable

from parallelai.processes import tree
from parallelai.processes.environment import MARK
from parallelai.processes.link import Watcher
from parallelai.processes.specification import Specification
from parallelai.processes.sweep import end_marked
from parallelai.processes.walk import ask_to_end
from parallelai.processes.warden import LEFTOVER_SECONDS, SHORT_GRACE_SECONDS

_STEP_SECONDS = 0.05
_LOOK_SECONDS = 0.25


class GroupLink:
    """A `Link` by a process group."""

    def __init__(self, watcher: Watcher, loop: asyncio.AbstractEventLoop) -> None:
        self._watcher = watcher
        self._loop = loop
        self._process: subprocess.Popen[bytes] | None = None
        self._mark = ""
        self._grace_seconds = 0.0
        self._memory_bytes = 0
        self._look: asyncio.TimerHandle | None = None
        self._tree: set[int] = set()  # all that was seen in it: who loses its parent is found no more
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._has_exited = False

    async def start(self, specification: Specification, streams: list[int]) -> None:
        if specification.is_wrapped or specification.restrictions is not None:
            raise OSError(errno.ENOSYS, "confinement needs a warden")
        env = dict(entry.split(b"=", 1) for entry in specification.env)
        self._mark = env[MARK.encode()].decode()
        self._grace_seconds = specification.grace_seconds
        self._memory_bytes = specification.memory_bytes
        self._process = self._spawn(specification, env, streams)
        self._watcher.started(self._process.pid)
        threading.Thread(target=self._wait, args=(self._process,), daemon=True).start()
        if self._memory_bytes:
            self._look_at_memory()

    def _spawn(
        self, specification: Specification, env: dict[bytes, bytes], streams: list[int]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            list(specification.argv),
            executable=specification.executable,
            cwd=specification.cwd,
            env=env,
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            start_new_session=True,
        )

    def end(self, *, at_once: bool) -> None:
        if at_once:
            self._deadline = 0.0
            self._step()
        elif self._deadline is None:
            self._ask(signal.SIGINT, self._grace_seconds)

    def abandon(self) -> None:
        self._deadline = 0.0
        self._step()

    def close(self) -> None:
        self._stop_timer()
        process, self._process = self._process, None
        if process is not None and not self._has_exited:
            tree.kill_all(self._alive(process))

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._exited, code)

    def _exited(self, code: int) -> None:
        if self._process is None:
            return
        self._has_exited = True
        self._watcher.exited(-code if code < 0 else code << 8)
        if self._deadline is None:
            self._later(LEFTOVER_SECONDS if self._alive(self._process) else 0.0, self._leftovers)

    def _leftovers(self) -> None:
        if self._deadline is None:
            self._ask(signal.SIGTERM, min(self._grace_seconds, SHORT_GRACE_SECONDS))

    def _ask(self, number: int, grace_seconds: float) -> None:
        if self._process is None:
            return
        ask_to_end(self._alive(self._process), number)
        self._deadline = self._loop.time() + grace_seconds
        self._step()

    def _step(self) -> None:
        """Look whether the tree is gone; kill it when its time is over."""
        if self._process is None:
            return
        alive = self._alive(self._process)
        if not alive and self._has_exited:
            end_marked(self._mark)
            self._process = None
            self._stop_timer()
            self._watcher.gone()
            return
        if self._deadline is not None and self._loop.time() >= self._deadline:
            tree.kill_all(alive)
        self._later(_STEP_SECONDS, self._step)

    def _alive(self, process: subprocess.Popen[bytes]) -> list[int]:
        """Return what is known of the tree and still there, the main process first."""
        if not self._has_exited:
            self._tree.update((process.pid, *tree.descendants(process.pid)))
        self._tree.update(found.pid for found in tree.marked() if found.mark == self._mark)
        self._tree = {pid for pid in self._tree if self._is_ours(pid, process.pid)}
        return sorted(self._tree, key=lambda pid: pid != process.pid)

    def _is_ours(self, pid: int, group: int) -> bool:
        """Guard against numbers that passed on to strangers: only our group, or our mark, counts."""
        if tree.start_time(pid) is None:
            return False
        try:
            return os.getpgid(pid) == group or any(
                found.pid == pid and found.mark == self._mark for found in tree.marked()
            )
        except ProcessLookupError:
            return False

    def _look_at_memory(self) -> None:
        if self._process is None or self._has_exited:
            return
        used = tree.memory_bytes(self._alive(self._process))
        self._watcher.used(used)
        if used > self._memory_bytes:
            self._watcher.over_memory()
            self._deadline = 0.0
            self._step()
        else:
            self._look = self._loop.call_later(_LOOK_SECONDS, self._look_at_memory)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._loop.call_later(seconds, call)

    def _stop_timer(self) -> None:
        if self._look is not None and self._process is None:
            self._look.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
