"""The parts of warden and tree that need no program of their own."""

from __future__ import annotations

import asyncio
import os

from hypothesis import given
from hypothesis import strategies as st
from processes_support import STUBBORN, python, run_until_ready, token

from parallelai.processes import tree, walk
from parallelai.processes.specification import LENGTH, Specification
from parallelai.processes.zygote import zygote_pid

WORDS = st.binary(max_size=30).filter(lambda word: b"\0" not in word)


@given(WORDS, WORDS, st.floats(0, 1e9), st.lists(WORDS, min_size=1, max_size=5), st.lists(WORDS, max_size=5))
def test_a_specification_comes_back_as_it_was(
    executable: bytes, cwd: bytes, grace: float, argv: list[bytes], env: list[bytes]
) -> None:
    specification = Specification(executable, cwd, grace, tuple(argv), tuple(env))
    encoded = specification.encode()
    assert LENGTH.unpack(encoded[: LENGTH.size])[0] == len(encoded) - LENGTH.size
    assert Specification.decode(encoded[LENGTH.size :]) == specification


async def test_every_way_of_walking_a_tree_finds_the_same() -> None:
    task, _ = await run_until_ready(
        python(f"{STUBBORN}\nchild(child)\nchild()\nstay()", token(), grace_seconds=0), 4
    )
    (guard,) = walk.children(zygote_pid())[-1:]
    found = sorted(walk.descendants(guard))
    assert len(found) == 4
    by_scan, queue = [], walk._children_by_scan(guard)
    for pid in queue:
        by_scan.append(pid)
        queue.extend(walk._children_by_scan(pid))
    assert sorted(by_scan) == found
    assert sorted(tree._descendants_by_psutil(guard)) == found
    assert list(tree.parents(found[0])) == tree._parents_by_psutil(found[0])
    task.cancel()
    await asyncio.wait({task})


def test_a_process_that_is_gone_has_nothing() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert tree.start_time(pid) is None  # a zombie: nothing of it is left but its number
    os.waitpid(pid, 0)
    assert tree.start_time(pid) is None
    assert walk.descendants(pid) == []
    assert tree.command(pid) == ""
    assert list(tree.parents(pid)) == []
    assert tree.is_alive(os.getpid(), tree.start_time(os.getpid()) or 0)
    assert not tree.is_alive(os.getpid(), 1)


def test_a_foreign_mark_is_no_owner() -> None:
    assert tree._owner("12:34:r-1:5") == (12, 34)
    for mark in ("", "x", "12", "12:", ":34", "a:b:c"):
        assert tree._owner(mark) is None
