"""The whole tree ends, whatever it does to stay: when cancelled, timed out, left by its main process."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from processes_support import STUBBORN, alive, open_files, python, run_until_ready, shell, token

from parallelai.errors import ProgramError
from parallelai.processes import run, sweep

SHAPES = {
    "child": ("child()", 1),
    "setsid": ("child(os.setsid)", 1),
    "daemon": ("child(os.setsid, fork_again, os.setsid)", 1),
    "a family in a session of its own": ("child(os.setsid, child, child, fork_again, child)", 4),
    "no environment": ("child(os.setsid, fork_again, clear)", 1),
    "supervisor that starts again what ends": ("child(supervise)", 4),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_cancelling_ends_the_whole_tree(shape: str) -> None:
    code, count = SHAPES[shape]
    name, before = token(), open_files()
    program = python(f"{STUBBORN}\n{code}\nstay()", name, grace_seconds=0.1)
    task, _ = await run_until_ready(program, count + 1)
    assert len(alive(name)) >= count + 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert alive(name) == []
    assert open_files() <= before + 1  # the zygote's socket


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_end_of_the_main_process_ends_what_it_left(shape: str, tmp_path: Path) -> None:
    # What is left holds stdout open, too: nothing may wait for an end of file that never comes.
    code, count = SHAPES[shape]
    name = token()
    end = f"while len(os.listdir(sys.argv[2])) < {count}: time.sleep(0.01)\nos._exit(4)"
    done = await run(python(f"{STUBBORN}\n{code}\n{end}", name, str(tmp_path), grace_seconds=0.1))
    assert done.exit == 4
    assert done.ended_by is None
    assert done.stdout == b"ready\n" * count
    assert alive(name) == []


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_time_out_ends_the_whole_tree(shape: str) -> None:
    name = token()
    program = python(f"{STUBBORN}\n{SHAPES[shape][0]}\nstay()", name, timeout_seconds=0.3, grace_seconds=0.1)
    done = await run(program)
    assert done.ended_by == "timeout"
    assert done.signal == signal.SIGKILL
    assert alive(name) == []


async def test_what_is_left_may_finish_within_a_moment() -> None:
    done = await run(shell("(sleep 0.05; echo late) & exit 0"))
    assert done.stdout == b"late\n"


async def test_what_is_left_gets_a_word_before_it_is_killed(tmp_path: Path) -> None:
    child = "trap 'echo bye > said; exit' TERM; touch ready; while :; do sleep 0.01; done"
    main = 'sh -c "$1" & while [ ! -e ready ]; do sleep 0.01; done'
    assert (await run(shell(main, "sh", child, cwd=tmp_path, grace_seconds=30))).exit == 0
    assert (tmp_path / "said").read_text() == "bye\n"


async def test_a_second_cancel_does_not_wait_for_the_grace() -> None:
    name = token()
    task, _ = await run_until_ready(python(f"{STUBBORN}\nstay()", name, grace_seconds=100_000), 1)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=0.2)
    assert not done  # within its grace
    assert alive(name)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert alive(name) == []


async def test_a_deadline_around_it_is_a_time_out_error_and_ends_the_tree() -> None:
    name = token()
    program = python(f"{STUBBORN}\nchild(os.setsid)\nstay()", name, grace_seconds=0.1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await run(program)
    assert alive(name) == []


async def test_in_a_task_group_one_failure_ends_the_others() -> None:
    name = token()

    async def fail_when_ready() -> None:
        program = python(f"{STUBBORN}\nstay()", name, grace_seconds=0.1)
        task, _ = await run_until_ready(program, 1)
        task.cancel()
        await asyncio.wait({task})
        raise ValueError("one")

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(run(shell("sleep 60", name)))
            group.create_task(fail_when_ready())

    with pytest.raises(ExceptionGroup):
        await all_of_them()
    assert alive(name) == []


async def test_cancelling_before_it_has_started_leaves_nothing() -> None:
    name = token()
    before = open_files()
    for turns in range(12):
        task = asyncio.create_task(run(python(f"{STUBBORN}\nstay()", name, grace_seconds=0.05)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert alive(name) == []
    assert open_files() <= before + 1


async def test_output_that_an_outsider_holds_open_is_not_waited_for() -> None:
    # Somebody outside the tree (here: this test) gets hold of the program's stdout and keeps it.
    program = shell("echo ready; sleep 60", token(), grace_seconds=0)
    task, _ = await run_until_ready(program, 1)
    pid, *_ = alive(program.argv[-1])
    held = os.open(f"/proc/{pid}/fd/1", os.O_WRONLY)
    try:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        os.close(held)


async def test_a_tree_that_kills_its_guard_is_ended_and_told() -> None:
    name = token()
    code = f"{STUBBORN}\nchild(os.setsid, fork_again)\nos.kill(os.getppid(), signal.SIGKILL)\nstay()"
    with pytest.raises(ProgramError, match="was killed; its tree was ended"):
        await run(python(code, name))
    assert alive(name) == []


def test_sweep_leaves_alone_what_has_an_owner() -> None:
    async def both() -> None:
        name = token()
        task, _ = await run_until_ready(python(f"{STUBBORN}\nstay()", name, grace_seconds=0), 1)
        mine = set(alive(name))
        assert not mine & {orphan.pid for orphan in sweep()}
        assert set(alive(name)) == mine
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(both())
