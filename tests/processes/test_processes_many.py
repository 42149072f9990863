"""Many programs at once, several event loops, forked copies: nothing leaks and nothing is mixed up."""

from __future__ import annotations

import asyncio
import os
import threading

from processes_support import STUBBORN, alive, eventually, open_files, python, shell, token

from parallelai.processes import run
from parallelai.processes.walk import children
from parallelai.processes.zygote import zygote_pid


async def test_two_hundred_at_once_without_a_leak() -> None:
    await run(shell("true"))
    before, name = open_files(), token()
    done = await asyncio.gather(
        *(run(shell(f"cat; exit {n % 100}", name, stdin=str(n).encode())) for n in range(200))
    )
    assert [(result.exit, result.stdout) for result in done] == [
        (n % 100, str(n).encode()) for n in range(200)
    ]
    assert open_files() == before
    assert alive(name) == []
    assert eventually(lambda: not children(zygote_pid()))


async def test_two_hundred_cancelled_at_once_leave_nothing() -> None:
    await run(shell("true"))
    before, name = open_files(), token()
    tasks = [
        asyncio.create_task(run(python(f"{STUBBORN}\nchild(os.setsid)\nstay()", name, grace_seconds=0.1)))
        for _ in range(100)
    ]
    await asyncio.sleep(0.2)  # somewhere in the middle of starting: any moment is a good one
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert alive(name) == []
    assert open_files() == before


def test_one_loop_after_another() -> None:
    for number in range(3):
        assert asyncio.run(run(shell(f"exit {number}"))).exit == number


def test_loops_in_threads_at_once() -> None:
    results: dict[int, list[int | None]] = {}

    async def several(number: int) -> list[int | None]:
        done = await asyncio.gather(*(run(shell(f"exit {number}")) for _ in range(10)))
        return [result.exit for result in done]

    def work(number: int) -> None:
        results[number] = asyncio.run(several(number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [number] * 10 for number in range(6)}


def test_a_forked_copy_starts_a_zygote_of_its_own() -> None:
    assert asyncio.run(run(shell("exit 1"))).exit == 1
    ours = zygote_pid()
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = asyncio.run(run(shell("exit 42"))).exit or 98
            code = 97 if zygote_pid() == ours else code
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    assert zygote_pid() == ours
    assert asyncio.run(run(shell("exit 2"))).exit == 2
