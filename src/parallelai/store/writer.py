"""Writes one run's events: appended in the event loop, committed in groups by one thread, told after that."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from parallelai.errors import BusyError, StoreError
from parallelai.events import Event, EventData, data_to_json
from parallelai.records import from_json, to_json
from parallelai.store.committer import Committer
from parallelai.store.database import Database
from parallelai.store.faults import told
from parallelai.store.lock import FileLock, owner

Watch = Callable[[Sequence[Event]], None]

_LOCK_TRIES = 10
_LOCK_PAUSE_SECONDS = 0.01


class RunWriter:
    """The one writer of a run, in this and every other process, while its block is open.

    Belongs to the event loop in which it was entered; only that loop's thread may call it. What the disk
    refuses surfaces at the next `append` or `flush` (or, if there is none, at the end of the block), and
    nothing is written after it.
    """

    def __init__(self, database: Database, folder: Path, run: str) -> None:
        self.run = run
        self.folder = folder
        self._database = database
        self._lock = FileLock(folder / "lock")
        self._queue: deque[tuple[Event, str]] = deque()
        self._watchers: list[Watch] = []
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._wake = threading.Event()
        self._failure: StoreError | None = None
        self._is_failure_told = False
        self._is_closing = False
        self._is_waking = False
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._clock = _clock()
        self._seq = 0
        self._on_disk = 0

    @property
    def seq(self) -> int:
        """The last event that was appended; 0 where there is none."""
        return self._seq

    async def __aenter__(self) -> Self:
        """Take the run. Raises `BusyError` where another writer has it, `StoreError`."""
        if self._thread is not None:
            raise StoreError(f"the writer of `{self.run}` was used before", next="make a new one")
        self._database.refuse_fork()
        await self._take_lock()
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = self._started()
        try:
            await asyncio.shield(self._ready)
        except BaseException:  # a cancelled one too must give the run back
            self.stop()
            raise
        if self._failure is not None:
            await self._ended
            self._thread.join()
            raise self._told(self._failure)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.aclose()
        except StoreError as failure:
            if error is None:
                raise
            error.add_note(f"moreover, the journal failed: {failure}")

    def append(self, data: EventData, *, task: str | None = None, attempt: int | None = None) -> Event:
        """Give the next event its place and queue it for the disk; returns at once.

        Raises `StoreError` if the disk failed before, if the writer is closed, or if `task` is not text that
        can be stored.
        """
        if self._failure is not None:
            raise self._told(self._failure)
        if self._is_closing or self._thread is None or os.getpid() != self._process:
            raise StoreError(f"the writer of `{self.run}` is closed here")
        if task is not None and not task.isascii():
            _refuse_surrogates(task)
        try:
            text = data_to_json(data)
        except (ValueError, UnicodeError):
            data, text = _scrubbed(data)
        self._seq += 1
        event = Event(self.run, self._seq, self._clock(), data.type, data, task, attempt)
        self._queue.append((event, text))
        if not self._is_waking:
            # After what is ready in the loop has run: its events share one commit.
            self._is_waking = True
            self._loop.call_soon(self._wake_thread)
        return event

    async def flush(self) -> None:
        """Wait until everything appended so far is on the disk. Raises `StoreError` if it will not be."""
        if self._failure is not None:
            raise self._told(self._failure)
        if self._on_disk >= self._seq:
            return
        waiter = self._loop.create_future()
        self._waiters.append((self._seq, waiter))
        await waiter

    def subscribe(self, watch: Watch) -> Callable[[], None]:
        """Call `watch` in the event loop with committed events: each once, in order, in batches.

        One that raises is reported to the loop's exception handler and called no more. Returns what ends it.
        """
        self._watchers.append(watch)

        def leave() -> None:
            if watch in self._watchers:
                self._watchers.remove(watch)

        return leave

    async def aclose(self) -> None:
        """Write what is queued, and give the run back.

        Raises `StoreError` if that failed and nobody was told. If it is cancelled, the thread still writes
        what is queued before it gives the run back.
        """
        if self._thread is None:
            return
        self._request_end()
        await asyncio.shield(self._ended)
        self._thread.join()
        if self._failure is not None and not self._is_failure_told:
            raise self._told(self._failure)

    def stop(self) -> None:
        """Write what is queued and give the run back, blocking; for when no loop is left to wait in."""
        if self._thread is not None and os.getpid() == self._process:
            self._request_end()
            self._thread.join()

    async def _take_lock(self) -> None:
        with told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for _ in range(_LOCK_TRIES):  # someone who only asks whether the run is owned holds it for a moment
            if self._lock.acquire():
                self._lock.sign()
                return
            await asyncio.sleep(_LOCK_PAUSE_SECONDS)
        raise BusyError(
            f"`{self.run}` is carried out by {owner(self._lock.path)}",
            next=f"watch it with `parallelai runs show {self.run}`, or cancel it first",
        )

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._work, name=f"journal-{self.run}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # it would have given the run back
            self._lock.release()
            raise StoreError(
                f"the journal of `{self.run}` cannot be written: {error}",
                next="see whether this machine allows more threads (`ulimit -u`), and try again",
                retry_helps=True,
            ) from error
        return thread

    def _wake_thread(self) -> None:
        self._is_waking = False
        self._wake.set()

    def _request_end(self) -> None:
        self._is_closing = True
        self._wake.set()

    def _told(self, failure: StoreError) -> StoreError:
        """Make a new error of the failure, so that tracebacks of several callers do not pile up in one."""
        self._is_failure_told = True
        copy = type(failure)(
            failure.said, where=failure.where, next=failure.next, retry_helps=failure.retry_helps
        )
        copy.__cause__ = failure
        return copy

    # In the thread.

    def _work(self) -> None:
        try:
            self._commit_all()
        except StoreError as error:
            self._failure = error
        except BaseException as error:  # the thread's boundary: nobody else would hear of it
            self._failure = StoreError(f"writing the journal of `{self.run}` failed: {error!r}")
            self._failure.__cause__ = error
        finally:
            self._lock.release()
            self._post(self._end)

    def _commit_all(self) -> None:
        committer = Committer(self._database, self.run)
        try:
            self._post(self._begin, committer.last_seq)
            while True:
                self._wake.wait()
                self._wake.clear()  # before looking, so that what is appended from here on wakes again
                is_last = self._is_closing
                while count := len(self._queue):
                    batch = [self._queue.popleft() for _ in range(count)]
                    committer.write(batch)
                    self._post(self._committed, [event for event, _ in batch])
                if is_last:
                    return
        finally:
            committer.close()

    def _post(self, call: Callable[..., None], *args: Any) -> None:
        # The loop may be closed already, with nobody left to tell; the events are on the disk all the same.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *args)

    # In the loop, called by the thread.

    def _begin(self, last_seq: int) -> None:
        self._seq = self._on_disk = last_seq
        self._ready.set_result(None)

    def _committed(self, events: Sequence[Event]) -> None:
        self._on_disk = events[-1].seq
        for watch in tuple(self._watchers):
            self._call(watch, events)
        while self._waiters and self._waiters[0][0] <= self._on_disk:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _call(self, watch: Watch, events: Sequence[Event]) -> None:
        try:
            watch(events)
        except Exception as error:  # a watcher's fault must not stop the run, nor be lost
            self._watchers.remove(watch)
            self._loop.call_exception_handler(
                {"message": f"a watcher of `{self.run}` raised and is called no more", "exception": error}
            )

    def _end(self) -> None:
        failure = self._failure or StoreError(f"the writer of `{self.run}` was closed")
        while self._waiters:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(self._told(failure))
        for future in (self._ready, self._ended):
            if not future.done():
                future.set_result(None)


def _clock() -> Callable[[], str]:
    """Make a `records.utc_now` that takes a quarter of its time: the second is formatted once."""
    last, prefix = -1, ""

    def now() -> str:
        nonlocal last, prefix
        second, nanosecond = divmod(time.time_ns(), 1_000_000_000)
        if second != last:
            last, prefix = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{prefix}.{nanosecond // 1000:06d}Z"

    return now


def _refuse_surrogates(task: str) -> None:
    try:
        task.encode()
    except UnicodeEncodeError:
        raise StoreError(
            f"the task's id {task!r} is not text that can be stored", next="rename the file that it is about"
        ) from None


def _scrubbed(data: EventData) -> tuple[EventData, str]:
    """Replace what JSON cannot hold (lone surrogates, from output that is no UTF-8) in an event's data.

    The event is read back from what is stored, so that a live and a stored one are the same.
    """
    text = data_to_json(_clean(to_json(data)))
    return from_json(type(data), json.loads(text)), text


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_clean(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
