"""What is left when ParallelAI, the zygote or a warden is killed: nothing; and what is said about it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes_support import (
    HERE,
    SOURCE,
    STUBBORN,
    alive,
    eventually,
    gone_within,
    open_files,
    python,
    run_until_ready,
    shell,
    token,
)

from parallelai.errors import ProgramError
from parallelai.processes import close_warden, run, sweep
from parallelai.processes.tree import cpu_seconds, start_time
from parallelai.processes.walk import children
from parallelai.processes.zygote import zygote_pid

TREE = f"{STUBBORN}\nchild()\nchild(os.setsid)\nchild(os.setsid, fork_again, os.setsid, clear)\nstay()"

OWNER = """
import asyncio, sys
from processes_support import STUBBORN, python, run_until_ready
from parallelai.processes.walk import descendants
from parallelai.processes.zygote import zygote_pid
import os
TREE, name, count = sys.argv[1:]
async def main():
    tasks = [(await run_until_ready(python(TREE, name, grace_seconds=0.1), int(count)))[0] for _ in range(3)]
    print(zygote_pid(), *descendants(zygote_pid()), flush=True)
    await asyncio.wait(tasks)
asyncio.run(main())
"""


def _owner(name: str, tree: str = TREE, count: int = 4) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a process that runs three trees by `processes.run`; give it and what is below it."""
    env = {**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{HERE}"}
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, tree, name, str(count)], stdout=subprocess.PIPE, text=True, env=env
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the owner failed"
    return process, [int(word) for word in line.split()]


def _end(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def _all_gone(pids: list[int]) -> bool:
    return eventually(lambda: not [pid for pid in pids if start_time(pid) is not None])


def test_kill_9_of_parallelai_leaves_nothing() -> None:
    name = token()
    owner, below = _owner(name)
    assert len(alive(name)) >= 3 * 4
    _end(owner)
    assert gone_within(name)
    assert _all_gone(below)  # the zygote and the wardens, too


def test_an_interrupt_of_parallelai_leaves_nothing() -> None:
    name = token()
    owner, below = _owner(name)
    _end(owner, signal.SIGINT)
    assert alive(name) == []
    assert _all_gone(below)


def test_a_forked_copy_of_parallelai_does_not_keep_the_trees_alive() -> None:
    code = (
        "import os, sys, asyncio, time\n"
        "from processes_support import *\n"
        "async def main():\n"
        "    task, _ = await run_until_ready(python(sys.argv[1], sys.argv[2], grace_seconds=0.1), 4)\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        time.sleep(60)\n"
        "    print(pid, flush=True)\n"
        "    await task\n"
        "asyncio.run(main())"
    )
    name = token()
    env = {**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{HERE}"}
    owner = subprocess.Popen(
        [sys.executable, "-c", code, TREE, name], stdout=subprocess.PIPE, text=True, env=env
    )
    assert owner.stdout is not None
    copy = int(owner.stdout.readline())
    try:
        others = {owner.pid, copy}
        _end(owner)
        assert eventually(lambda: not set(alive(name)) - others)
        assert start_time(copy) is not None
    finally:
        os.kill(copy, signal.SIGKILL)


def test_what_all_guards_killed_at_once_leave_is_swept() -> None:
    name = token()
    owner, below = _owner(name)
    zygote, *others = below
    wardens = children(zygote)
    for pid in (zygote, owner.pid, *wardens):
        os.kill(pid, signal.SIGSTOP)
    cleared = [pid for pid in others if pid not in wardens and not _environ(pid)]
    for pid in (zygote, owner.pid, *wardens):
        os.kill(pid, signal.SIGKILL)
    _end(owner)
    try:
        assert eventually(lambda: not [pid for pid in wardens if start_time(pid) is not None])
        marked = set(alive(name)) - set(cleared)
        assert marked
        # Another ParallelAI's sweep on this machine may have been quicker; what is told is ours in any case.
        swept = {orphan.pid: orphan.command for orphan in sweep(grace_seconds=0.05)}
        assert all(name in swept[pid] for pid in marked & swept.keys())
        assert not set(alive(name)) - set(cleared)
        assert not {orphan.pid for orphan in sweep()} & marked
    finally:  # without mark, parent and guard nobody knows them any more
        for pid in cleared:
            if pid in alive(name):
                os.kill(pid, signal.SIGKILL)
    assert gone_within(name)


def test_a_sweep_ends_what_is_below_a_marked_process_as_well() -> None:
    name = token()
    # The child keeps the mark when its parent, which the guard's death kills, is gone; its own child has none.
    owner, below = _owner(name, f"{STUBBORN}\nchild(lambda: child(clear))\nstay()", 3)
    guards = [below[0], *children(below[0]), owner.pid]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in guards:
            os.kill(pid, number)
    _end(owner)
    assert eventually(lambda: not [pid for pid in guards if start_time(pid) is not None])
    sweep(grace_seconds=0.05)
    assert gone_within(name)


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


async def test_kill_9_of_the_zygote_does_no_harm_to_what_runs_nor_to_what_comes() -> None:
    name = token()
    task, _ = await run_until_ready(python(TREE, name, grace_seconds=0.1), 4)
    first = zygote_pid()
    os.kill(first, signal.SIGKILL)
    assert (await run(shell("echo on"))).stdout == b"on\n"
    assert zygote_pid() != first
    assert len(alive(name)) >= 4
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert alive(name) == []


async def test_killing_the_zygote_again_and_again_loses_and_repeats_nothing(tmp_path: Path) -> None:
    slots = asyncio.Semaphore(6)

    async def one(number: int) -> None:
        async with slots:
            if number % 7 == 0:
                os.kill(zygote_pid(), signal.SIGKILL)
            assert (await run(shell(f"echo {number} >> log", cwd=tmp_path))).exit == 0

    async with asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(one(number))
    numbers = sorted(int(word) for word in (tmp_path / "log").read_text().split())
    assert numbers == list(range(100))


async def test_a_zygote_that_hangs_is_told_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parallelai.processes.zygote._BUSY_SECONDS", 0.2)
    await run(shell("true"))
    hanging = zygote_pid()
    os.kill(hanging, signal.SIGSTOP)
    results = await asyncio.gather(*(run(shell("true")) for _ in range(600)), return_exceptions=True)
    failed = [result for result in results if isinstance(result, BaseException)]
    assert failed
    assert all(isinstance(error, ProgramError) and error.retry_helps for error in failed)
    assert start_time(hanging) is None
    assert (await run(shell("exit 3"))).exit == 3


async def test_kill_9_of_a_warden_is_a_clear_error_and_ends_its_tree() -> None:
    name = token()
    before = set(children(zygote_pid()))
    task, _ = await run_until_ready(python(TREE, name, label="tasks.yaml:9:5"), 4)
    (warden,) = set(children(zygote_pid())) - before
    files = open_files()
    os.kill(warden, signal.SIGKILL)
    with pytest.raises(ProgramError, match="was killed; its tree was ended") as caught:
        await task
    assert caught.value.where == "tasks.yaml:9:5"
    assert caught.value.retry_helps
    assert gone_within(name)  # what cleared its environment the zygote ends, a moment later
    assert open_files() < files


async def test_a_warden_that_is_stopped_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parallelai.processes.launch._ABANDON_SECONDS", 0.2)
    name = token()
    before = set(children(zygote_pid()))
    task, _ = await run_until_ready(python(TREE, name, grace_seconds=0), 4)
    (warden,) = set(children(zygote_pid())) - before
    os.kill(warden, signal.SIGSTOP)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone_within(name)


def test_an_event_loop_that_is_thrown_away_leaves_nothing() -> None:
    name = token()
    loop = asyncio.new_event_loop()
    task, _ = loop.run_until_complete(run_until_ready(python(TREE, name, grace_seconds=0.1), 4))
    coroutine = task.get_coro()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    coroutine.close()
    assert gone_within(name)


async def test_closing_ends_the_zygote_and_a_new_one_serves() -> None:
    assert (await run(shell("exit 6"))).exit == 6
    first = zygote_pid()
    before = open_files()
    await close_warden()
    await close_warden()
    assert start_time(first) is None
    assert open_files() == before - 1
    assert (await run(shell("exit 5"))).exit == 5


async def test_closing_while_programs_run_does_not_touch_them() -> None:
    name = token()
    task, _ = await run_until_ready(python(TREE, name, grace_seconds=0), 4)
    await close_warden()
    assert len(alive(name)) >= 4
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert alive(name) == []


async def test_cpu_use_of_the_tree_counts_what_has_ended() -> None:
    code = "import os, time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    worker = f"import os\nif os.fork() == 0:\n exec({code!r}); os._exit(0)\nos.wait()\nprint('ready')"
    before = set(children(zygote_pid()))
    task, _ = await run_until_ready(shell('"$0" -c "$1"; echo ready; sleep 60', sys.executable, worker), 2)
    (warden,) = set(children(zygote_pid())) - before
    assert cpu_seconds(warden) >= 0.19
    task.cancel()
    await asyncio.wait({task})
