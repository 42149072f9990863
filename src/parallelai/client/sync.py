"""`ParallelAI`: the same as `AsyncParallelAI`, for scripts and notebooks that do not await."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from parallelai.client.facade import AsyncParallelAI
from parallelai.client.project import OpenProject
from parallelai.records import RunDocument

T = TypeVar("T")
P = ParamSpec("P")


def _waiting(
    method: Callable[Concatenate[AsyncParallelAI, P], Awaitable[T]],
) -> Callable[Concatenate[ParallelAI, P], T]:
    """Make the method that waits of one that is awaited: the same arguments, the same documentation."""

    @functools.wraps(method)
    def waits(self: ParallelAI, /, *args: P.args, **given: P.kwargs) -> T:
        return self._call(lambda ai: method(ai, *args, **given))

    return waits


class ParallelAI:
    """Runs many assistants at once over one code base; every call waits for its result.

    Takes what `AsyncParallelAI` takes. It works in a script, and in a notebook whose loop is running. Nothing
    is held open between two calls; as a context manager it is there for those who like one.
    """

    def __init__(self, project: Any = None, **settings: Any) -> None:
        self._made: Callable[[], AsyncParallelAI] = functools.partial(AsyncParallelAI, project, **settings)
        self._made().project.close()  # a wrong project or config is said here and now

    review = _waiting(AsyncParallelAI.review)
    execute = _waiting(AsyncParallelAI.execute)

    def __enter__(self) -> ParallelAI:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""

    @property
    def project(self) -> OpenProject:
        """The project, opened for reading settings and paths. Close it if you open its store."""
        return self._made().project

    def show(self, run: str | None = None) -> RunDocument:
        """Give a run's document; None is the latest run."""

        async def shown(ai: AsyncParallelAI) -> RunDocument:
            return ai.runs.show(run)

        return self._call(shown)

    def resume(self, run: str | None = None) -> RunDocument | None:
        """Go on with a run; None is the latest one. Gives None if another process carries it out."""
        return self._call(lambda ai: ai.runs.resume(run))

    def _call(self, call: Callable[[AsyncParallelAI], Awaitable[T]]) -> T:
        async def carried() -> T:
            async with self._made() as ai:
                return await call(ai)

        return run_apart(carried)


def run_apart(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end: in this thread if it has no running loop, else in one of its own.

    An interruption of this thread, such as Ctrl-C in a notebook, cancels the coroutine, and is raised once
    that has ended.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(make())
    apart = _Apart(make)
    thread = threading.Thread(target=contextvars.copy_context().run, args=(apart.work,), name="parallelai")
    try:
        thread.start()
        apart.has_ended.wait()  # not `join`: an interrupted one forgets that the thread is still there
    except RuntimeError:  # there is no room for another thread
        raise
    except BaseException:  # also while it starts
        apart.cancel()
        apart.has_ended.wait()
        raise
    thread.join()
    if apart.failure is not None:
        raise apart.failure
    result: T = apart.result
    return result


class _Apart:
    """A coroutine in a loop of a thread of its own: what came of it, and a way to end it."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._make = make
        self._lock = threading.Lock()  # of the two below: one thread sets them, another cancels
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None] | None = None
        self._is_cancelled = False
        self.has_ended = threading.Event()
        self.result: Any = None
        self.failure: BaseException | None = None

    def work(self) -> None:
        """Run it; what it raises is kept for the thread that waits."""
        try:
            self.result = asyncio.run(self._carried())
        except BaseException as failure:  # the thread's boundary: whoever waits for it is told
            self.failure = failure
        finally:
            self.has_ended.set()

    async def _carried(self) -> Any:
        with self._lock:
            if self._is_cancelled:
                raise asyncio.CancelledError
            self._running = asyncio.get_running_loop(), asyncio.current_task()
        try:
            return await self._make()
        finally:
            with self._lock:
                self._running = None

    def cancel(self) -> None:
        """Cancel it, from another thread; before it has begun it never will."""
        with self._lock:
            self._is_cancelled = True
            if self._running is not None and self._running[1] is not None:
                self._running[0].call_soon_threadsafe(self._running[1].cancel)
