"""`ParallelAI`: the same as `AsyncParallelAI`, for scripts and notebooks that do not await."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from parallelai.client.facade import AsyncParallelAI
from parallelai.records import RunDocument

T = TypeVar("T")
P = ParamSpec("P")


class ParallelAI:
    """Runs many assistants at once over one code base; every call waits for its result.

    Takes what `AsyncParallelAI` takes. It works in a script, and in a notebook whose loop is running.
    """

    def __init__(self, project: Any = None, **settings: Any) -> None:
        self._made: Callable[[], AsyncParallelAI] = functools.partial(AsyncParallelAI, project, **settings)
        self._made().project.close()  # a wrong project or config is said here and now

    def review(self, *args: Any, **asked: Any) -> RunDocument:
        """See `AsyncParallelAI.review`."""
        return self._call(lambda ai: ai.review(*args, **asked))

    def execute(self, *args: Any, **asked: Any) -> RunDocument:
        """See `AsyncParallelAI.execute`."""
        return self._call(lambda ai: ai.execute(*args, **asked))

    @property
    def project(self) -> Any:
        """The open project; for reading settings and paths."""
        return self._made().project

    def show(self, run: str | None = None) -> RunDocument:
        """Give a run's document; None is the latest run."""
        return self._call(lambda ai: _now(lambda: ai.runs.show(run)))

    def resume(self, run: str | None = None) -> RunDocument | None:
        """Go on with a run; None is the latest one."""
        return self._call(lambda ai: ai.runs.resume(run))

    def _call(self, call: Callable[[AsyncParallelAI], Awaitable[T]]) -> T:
        async def carried() -> T:
            async with self._made() as ai:
                return await call(ai)

        return run_apart(carried)


async def _now(call: Callable[[], T]) -> T:
    return call()


def run_apart(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end: in this thread if it has no running loop, else in one of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(make())
    results: list[T] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            results.append(asyncio.run(make()))
        except BaseException as failure:  # handed to the thread that waits, which raises it
            failures.append(failure)

    thread = threading.Thread(target=work, name="parallelai")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
