"""Running a program: its streams, its time-outs, and the end of its tree."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Literal

from parallelai.errors import ProgramError
from parallelai.processes import zygote
from parallelai.processes.feed import Input
from parallelai.processes.link import Link, WardenLink, exit_and_signal
from parallelai.processes.output import Capture, Log
from parallelai.processes.program import Completed, Prepared, Program, explain, prepare, refusal
from parallelai.processes.sweep import end_marked
from parallelai.processes.tree import cpu_seconds
from parallelai.processes.warden import UNENDABLE_SECONDS

OnLine = Callable[[str, bytes], None]

_TRIES = 10  # a launch that was lost before its program started is done again
_CHUNK = 65536
_CHUNK_OF_LINES = 8192  # where somebody looks at each line, of which there may be thousands in it
_READS = 4  # of one stream, before others have their turn
_DRAIN_BYTES = 4 * 1024 * 1024
"""What a pipe holds at most, in case somebody outside the tree keeps writing to it."""
_ABANDON_SECONDS = UNENDABLE_SECONDS + 5.0
_IDLE_CPU_SHARE = 0.005
"""A tree that uses less of a core than this counts as idle: timers and collectors tick in every client."""


async def run(program: Program, *, on_line: OnLine | None = None) -> Completed:
    """Run a program to its end, and end whatever it leaves behind.

    `on_line` is called in the event loop with the stream's name (`stdout`, `stderr`) and each line, without
    its line end; an exception from it ends the tree and is raised here. Being cancelled ends the whole tree
    (SIGINT, the grace, SIGKILL until none is left; a second cancel: SIGKILL at once) before the
    `CancelledError` goes on. Raises `ProgramError` when it cannot be started, or whoever guarded it was
    killed.
    """
    try:
        return await _run(program, on_line)
    finally:
        if program.feed is not None:
            program.feed.detach()


async def _run(program: Program, on_line: OnLine | None) -> Completed:
    prepared = prepare(program)
    for _ in range(_TRIES):
        execution = _Execution(program, prepared, on_line)
        try:
            await execution.start()
            await execution.wait()
        finally:
            execution.close()
        if not execution.is_lost:
            return execution.completed()
    raise ProgramError(
        f"`{program.argv[0]}` could not be started: the process that starts programs keeps ending",
        where=program.label or None,
        retry_helps=True,
    )


class _Stream:
    """One output stream: the descriptor that it is read from, -1 once it has ended, and what came."""

    def __init__(self, descriptor: int, capture: Capture) -> None:
        self.descriptor = descriptor
        self.capture = capture


class _Execution:
    """One launch, in one event loop. It is the `Watcher` of its link."""

    def __init__(self, program: Program, prepared: Prepared, on_line: OnLine | None) -> None:
        self.is_lost = False
        self._program = program
        self._prepared = prepared
        self._on_line = on_line
        self._chunk = _CHUNK if on_line is None else _CHUNK_OF_LINES
        self._loop = asyncio.get_running_loop()
        self._link = _link(self, self._loop)
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._log = Log(program.log) if program.log is not None else None
        self._streams: list[_Stream] = []
        self._input: Input | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._root = 0
        self._begun = self._active = self._loop.time()
        self._seconds: float | None = None
        self._cpu_seconds = 0.0
        self._status: int | None = None
        self._ended_by: Literal["timeout", "idle", "memory"] | None = None
        self._peak_memory_bytes: int | None = None
        self._is_refused = False
        self._failure: Exception | None = None
        self._notes: list[str] = []

    # Start and end

    async def start(self) -> None:
        """Open the streams and have the program started. Raises `ProgramError`."""
        theirs: list[int] = []
        try:
            self._open(theirs)
            await self._link.start(self._prepared.specification, theirs)
        except OSError as error:
            raise explain(error.errno or 0, "start", self._program) from error
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        for stream in self._streams:
            self._loop.add_reader(stream.descriptor, self._read, stream)
        self._start_timers()

    async def wait(self) -> None:
        """Wait until nothing of the tree is left, also when cancelled meanwhile."""
        try:
            await asyncio.wait((self._ended,))
        except asyncio.CancelledError:
            self._end()
            while not self._ended.done():
                try:
                    await asyncio.wait((self._ended,))
                except asyncio.CancelledError:
                    self._end(at_once=True)
            raise
        if self._failure is not None:
            raise self._failure

    def completed(self) -> Completed:
        """Say what came of it."""
        out, err = (stream.capture for stream in self._streams)
        code, number = (None, None) if self._status is None else exit_and_signal(self._status)
        if self._log is not None and self._log.problem is not None:
            self._notes.append(self._log.problem)
        return Completed(
            exit=code,
            signal=number,
            stdout=out.value,
            stderr=err.value,
            seconds=self._elapsed() if self._seconds is None else self._seconds,
            is_truncated=bool(out.left_out or err.left_out),
            ended_by=self._ended_by,
            notes=tuple(self._notes),
            peak_memory_bytes=self._peak_memory_bytes,
        )

    def close(self) -> None:
        """Let go of everything; what still runs is ended by its warden."""
        self._link.close()
        for timer in self._timers.values():
            timer.cancel()
        self._close_input()
        for stream in self._streams:
            self._close_stream(stream)
        if self._log is not None:
            self._log.close()

    def _end(self, *, at_once: bool = False) -> None:
        self._link.end(at_once=at_once)
        self._limit_the_end()

    def _limit_the_end(self) -> None:
        """Bound the wait for a guard that was stopped or hangs."""
        if "abandon" not in self._timers:
            seconds = self._program.grace_seconds + _ABANDON_SECONDS
            self._timers["abandon"] = self._loop.call_later(seconds, self._link.abandon)

    def _elapsed(self) -> float:
        return self._loop.time() - self._begun

    # What the link reports

    def started(self, root: int) -> None:
        self._root = root
        if self._input is not None:
            self._input.start()

    def used(self, peak_bytes: int) -> None:
        self._peak_memory_bytes = max(peak_bytes, self._peak_memory_bytes or 0)

    def over_memory(self) -> None:
        if self._status is None and self._ended_by is None:
            self._ended_by = "memory"
            self._limit_the_end()

    def refused(self, number: int, stage: str) -> None:
        if number:
            self._fail(explain(number, stage, self._program))
        else:
            self._is_refused = True
        self._over()

    def exited(self, status: int) -> None:
        self._status = status
        self._over()

    def _over(self) -> None:
        self._seconds = self._elapsed()
        for name in ("timeout", "idle"):
            if name in self._timers:
                self._timers.pop(name).cancel()
        self._close_input()
        self._limit_the_end()

    def unendable(self, pids: str) -> None:
        self._notes.append(f"processes that could not be ended: {pids}")
        self._conclude()

    def failed(self, number: int, stage: str) -> None:
        self._fail(explain(number, stage, self._program))
        self._conclude()

    def gone(self) -> None:
        self._conclude()

    def lost(self, *, is_started: bool) -> None:
        if not is_started:
            self.is_lost = self._ended_by is None  # what is out of time is not tried again
        else:
            self._seconds = self._elapsed() if self._seconds is None else self._seconds
            try:
                end_marked(self._prepared.mark)
            except OSError as error:  # no descriptor left, for example; the zygote ends it, or a sweep
                self._notes.append(f"the tree was left to the sweep: {error.strerror}")
            said = f"the process that guarded `{self._program.argv[0]}` was killed; its tree was ended"
            if self._status is None:
                self._fail(ProgramError(said, where=self._program.label or None, retry_helps=True))
            else:
                self._notes.append(said)
        self._conclude()

    def _fail(self, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure

    def _conclude(self) -> None:
        """Read what is left in the pipes; then it is over."""
        if self._ended.done():
            return
        for stream in self._streams:
            self._read(stream, _DRAIN_BYTES // self._chunk)
            self._close_stream(stream)
            self._with_care(stream.capture.finish)
        if self._is_refused:
            self._fail(refusal(self._streams[1].capture.value, self._program))
        self._ended.set_result(None)

    # Streams

    def _open(self, theirs: list[int]) -> None:
        """Open the program's ends into `theirs` and keep ours."""
        program = self._program
        if program.stdin or program.feed is not None:
            reader, writer = os.pipe()
            theirs.append(reader)
            self._input = Input(writer, self._loop, program.stdin, program.feed)
        else:
            theirs.append(os.open(os.devnull, os.O_RDONLY))
        for name in ("stdout", "stderr"):
            reader, writer = os.pipe()
            theirs.append(writer)
            os.set_blocking(reader, False)
            on_line = None if self._on_line is None else _named(self._on_line, name)
            capture = Capture(self._program.max_output_bytes, on_line, self._log)
            self._streams.append(_Stream(reader, capture))

    def _read(self, stream: _Stream, reads: int = _READS) -> None:
        for _ in range(reads):
            if stream.descriptor < 0:
                return
            try:
                data = os.read(stream.descriptor, self._chunk)
            except BlockingIOError:
                return
            if not data:
                self._close_stream(stream)
                return
            self._active = self._loop.time()
            self._with_care(stream.capture.feed, data)

    def _with_care(self, call: Callable[..., None], *args: bytes) -> None:
        try:
            call(*args)
        except Exception as error:  # the caller's `on_line`, of which nothing is known
            self._fail(error)
            for stream in self._streams:
                stream.capture.stop_lines()
            self._end()

    def _close_stream(self, stream: _Stream) -> None:
        if stream.descriptor >= 0:
            if not self._loop.is_closed():
                self._loop.remove_reader(stream.descriptor)
            os.close(stream.descriptor)
            stream.descriptor = -1

    def _close_input(self) -> None:
        if self._input is not None:
            self._input.close()

    # Time-outs

    def _start_timers(self) -> None:
        if self._program.timeout_seconds is not None:
            seconds = self._program.timeout_seconds
            self._timers["timeout"] = self._loop.call_later(seconds, self._time_out, "timeout")
        if self._program.idle_timeout_seconds is not None:
            self._check_idle(self._program.idle_timeout_seconds)

    def _time_out(self, which: Literal["timeout", "idle"]) -> None:
        if self._status is None and self._ended_by is None:
            self._ended_by = which
            self._end()

    def _check_idle(self, limit_seconds: float) -> None:
        period_seconds = min(15.0, max(0.02, limit_seconds / 4))
        used = cpu_seconds(self._root) if self._root else 0.0
        # It shrinks when a process goes whose parent does not collect it: that is a sign of life, too.
        if abs(used - self._cpu_seconds) > period_seconds * _IDLE_CPU_SHARE:
            self._active = self._loop.time()
            if self._program.on_active is not None:
                self._program.on_active()
        self._cpu_seconds = used
        if self._loop.time() - self._active >= limit_seconds:
            self._time_out("idle")
        else:
            self._timers["idle"] = self._loop.call_later(period_seconds, self._check_idle, limit_seconds)


def _named(on_line: OnLine, name: str) -> Callable[[bytes], None]:
    return lambda line: on_line(name, line)


def _link(watcher: _Execution, loop: asyncio.AbstractEventLoop) -> Link:
    if zygote.is_supported():
        return WardenLink(watcher, loop)
    from parallelai.processes.portable import GroupLink

    return GroupLink(watcher, loop)
