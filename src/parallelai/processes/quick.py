"""Small calls of known tools, without an event loop: git's plumbing."""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from parallelai.errors import ProgramError
from parallelai.processes.environment import MARK, environment
from parallelai.processes.program import Completed, Program, explain, locate, make_mark

_CHUNK = 65536
_STEP_SECONDS = 0.05


def run_quick(
    argv: Sequence[str],
    cwd: Path,
    timeout: float = 10.0,
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    stdout: IO[bytes] | None = None,
    max_output_bytes: int = 256 * 1024 * 1024,
) -> Completed:
    """Run a small, known program to its end, blocking; for what takes milliseconds and starts nothing.

    `timeout` is in seconds; `env` is the complete environment (default: `environment()`). Of each stream the
    first `max_output_bytes` are kept; beyond that the program is ended and `is_truncated` set. A file `stdout`
    gets all that is printed there, however much, and none of it is kept. No warden: at the time-out its process
    group gets SIGKILL. Raises `ProgramError` when it cannot be started.
    """
    given = environment() if env is None else env
    folder = cwd.resolve()
    complete = {**given, "PWD": str(folder), MARK: make_mark("")}
    executable = locate(argv[0] if argv else "", folder, complete.get("PATH"))
    try:
        process = subprocess.Popen(
            list(argv),
            executable=executable,
            cwd=folder,
            env=complete,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise explain(error.errno or 0, "exec", Program(tuple(argv), cwd, given)) from error
    except ValueError as error:
        raise ProgramError(f"`{argv[0]}` could not be started: {error}") from error
    with _Exchange(process, stdin, max_output_bytes) as exchange:
        return exchange.run(timeout)


class _Exchange:
    """Feeds one process and reads what it prints, bounded in time and size."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes, limit: int) -> None:
        self._process = process
        self._unwritten = memoryview(stdin)
        self._limit = limit
        self._begun = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._output: dict[int, bytearray] = {}
        self._is_truncated = False

    def __enter__(self) -> _Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        self._selector.close()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def run(self, timeout_seconds: float) -> Completed:
        """Do the whole exchange."""
        self._register()
        end = self._begun + timeout_seconds
        has_ended = False
        while self._selector.get_map() and not self._is_truncated:
            left = end - time.monotonic()
            if left <= 0:
                break
            ready = self._selector.select(0 if has_ended else min(left, _STEP_SECONDS))
            for key, _ in ready:
                self._serve(key.fd)
            if ready:
                continue
            if has_ended:
                break  # something that it left holds its output open
            # What it printed between that look and its end is still to be read: look once more.
            has_ended = self._process.poll() is not None
        is_late = not self._collect(end) and not self._is_truncated
        if self._selector.get_map():
            self._kill_group()
        code = self._process.returncode
        return Completed(
            exit=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            stdout=self._printed(self._process.stdout),
            stderr=self._printed(self._process.stderr),
            seconds=time.monotonic() - self._begun,
            is_truncated=self._is_truncated,
            ended_by="timeout" if is_late else None,
        )

    def _register(self) -> None:
        streams = (self._process.stdout, self._process.stderr)
        for descriptor in (stream.fileno() for stream in streams if stream is not None):
            os.set_blocking(descriptor, False)
            self._output[descriptor] = bytearray()
            self._selector.register(descriptor, selectors.EVENT_READ)
        if self._process.stdin is not None:
            os.set_blocking(self._process.stdin.fileno(), False)
            self._selector.register(self._process.stdin.fileno(), selectors.EVENT_WRITE)

    def _printed(self, stream: IO[bytes] | None) -> bytes:
        return b"" if stream is None else bytes(self._output[stream.fileno()])

    def _serve(self, descriptor: int) -> None:
        if descriptor in self._output:
            self._read(descriptor)
        else:
            self._write(descriptor)

    def _read(self, descriptor: int) -> None:
        data = os.read(descriptor, _CHUNK)
        kept = self._output[descriptor]
        self._is_truncated |= len(kept) + len(data) > self._limit  # of either stream
        kept += data[: self._limit - len(kept)]
        if not data:
            self._selector.unregister(descriptor)

    def _write(self, descriptor: int) -> None:
        try:
            self._unwritten = self._unwritten[os.write(descriptor, self._unwritten[:_CHUNK]) :]
        except BrokenPipeError:
            self._unwritten = memoryview(b"")
        if not self._unwritten and self._process.stdin is not None:
            self._selector.unregister(descriptor)
            self._process.stdin.close()

    def _collect(self, end: float) -> bool:
        """Wait for the process until `end`, then kill its group; say whether it ended by itself."""
        seconds = 0.0 if self._is_truncated else max(0.0, end - time.monotonic())
        try:
            if self._process.returncode is None and _ends_within(self._process.pid, seconds):
                self._process.wait()
            else:
                self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._kill()
            return False
        return True

    def _kill(self) -> None:
        if self._process.returncode is None:
            self._kill_group()
            self._process.wait()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _ends_within(pid: int, seconds: float) -> bool:
    """Wait for the end of a child, to the point: `Popen.wait` with a time-out looks every half millisecond and more.

    False also where the system cannot say.
    """
    if not hasattr(os, "pidfd_open"):
        return False
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        return bool(waiting.poll(seconds * 1000))
    finally:
        os.close(descriptor)
