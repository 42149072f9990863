"""Where there are no wardens: process groups, psutil and the mark do what they can."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from processes_support import STUBBORN, alive, gone_within, open_files, python, run_until_ready, shell, token

from parallelai.errors import ProgramError
from parallelai.processes import Confinement, confinements, portable, program, quick, run, tree
from parallelai.processes.specification import Restrictions, Specification


@pytest.fixture(autouse=True, params=["proc", "psutil"])
def _portable(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    monkeypatch.setattr("parallelai.processes.zygote.is_supported", lambda: False)
    if request.param == "psutil":
        monkeypatch.setattr(tree, "IS_LINUX", False)
        # The start of a process is told in other units here: to sweeps of tests beside this one these
        # programs' owner would look dead. No machine has both kinds.
        for module in (sys.modules["parallelai.processes.environment"], portable, program, quick, tree):
            monkeypatch.setattr(module, "MARK", "PARALLELAI_MARK_PORTABLE")
    program._own_start.cache_clear()
    yield
    program._own_start.cache_clear()


async def test_it_runs_programs_as_with_wardens() -> None:
    before = open_files()
    done = await run(shell("cat; echo err >&2; exit 3", stdin=b"x" * 200_000))
    assert (done.exit, done.stdout, done.stderr) == (3, b"x" * 200_000, b"err\n")
    assert (await run(shell("kill -9 $$"))).signal == signal.SIGKILL
    with pytest.raises(ProgramError):
        await run(shell("true", "x" * 3_000_000))
    assert open_files() == before


@pytest.mark.parametrize("code", ["child()", "child(os.setsid)", "child(os.setsid, fork_again)"])
async def test_cancelling_ends_the_tree(code: str) -> None:
    name = token()
    task, _ = await run_until_ready(python(f"{STUBBORN}\n{code}\nstay()", name, grace_seconds=0.1), 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone_within(name)


@pytest.mark.parametrize("code", ["child()", "child(os.setsid)", "child(os.setsid, fork_again)"])
async def test_the_end_of_the_main_process_ends_what_it_left(code: str) -> None:
    name = token()
    done = await run(python(f"{STUBBORN}\n{code}\nos._exit(4)", name, grace_seconds=0.1))
    assert done.exit == 4
    assert gone_within(name)


async def test_a_time_out_and_a_second_cancel_work() -> None:
    done = await run(shell("exec sleep 60", timeout_seconds=0.1, idle_timeout_seconds=30))
    assert (done.signal, done.ended_by) == (signal.SIGINT, "timeout")
    name = token()
    task, _ = await run_until_ready(python(f"{STUBBORN}\nstay()", name, grace_seconds=100_000), 1)
    task.cancel()
    await asyncio.wait({task}, timeout=0.1)
    assert alive(name)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone_within(name)


def test_a_loop_that_is_thrown_away_leaves_nothing() -> None:
    name = token()
    loop = asyncio.new_event_loop()
    task, _ = loop.run_until_complete(run_until_ready(python(f"{STUBBORN}\nstay()", name), 1))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine = task.get_coro()
    loop.close()
    coroutine.close()
    assert gone_within(name)


async def test_a_tree_that_takes_too_much_memory_is_ended() -> None:
    grow = "for _ in range(600): held.append(bytearray(os.urandom(1024)) * 1024)"
    code = f"import os, time\nheld = []\nos.fork()\n{grow}\ntime.sleep(60)"
    done = await run(python(code, memory_bytes=100 << 20))
    assert (done.ended_by, done.exit) == ("memory", None)
    assert done.peak_memory_bytes is not None
    assert done.peak_memory_bytes > 100 << 20


async def test_nothing_is_run_that_was_to_be_confined(tmp_path: Path) -> None:
    for name in ("work", "temporary"):
        (tmp_path / name).mkdir()
    confinement = Confinement((f"{tmp_path}/work",), f"{tmp_path}/temporary")
    assert confinements() == ()
    with pytest.raises(ProgramError, match="cannot be confined"):
        await run(shell("touch ran", cwd=tmp_path / "work", confinement=confinement))
    plain = Specification(
        b"/bin/true", b"/", 0.0, (b"true",), (b"PARALLELAI_MARK=x", b"PARALLELAI_MARK_PORTABLE=x")
    )
    for asked in (plain._replace(is_wrapped=True), plain._replace(restrictions=Restrictions())):
        link = portable.GroupLink(Mock(), asyncio.get_running_loop())
        with pytest.raises(OSError, match="warden"):
            await link.start(asked, [0, 1, 2])
    assert list((tmp_path / "work").iterdir()) == []
