"""Real processes: killed at random moments, on a full disk, forked, several at once."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest
from store_samples import ended, numbered, run, start

from parallelai.errors import BusyError
from parallelai.records import Outcome
from parallelai.store import Store
from parallelai.store.lock import FileLock


@pytest.mark.parametrize("seed", range(8))
def test_a_killed_writer_loses_nothing_that_was_flushed(tmp_path: Path, seed: int) -> None:
    state = tmp_path / "state"
    random_ = random.Random(seed)
    reached = 0
    for _ in range(3):  # killed, taken over, killed again
        with start("write", state, "r-1", 10**9) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "owner\n"
            for _ in range(random_.randint(1, 40)):
                reached = int(process.stdout.readline())
            # Between the line that was read and this signal the writer goes on: anywhere in its next commits.
            for _ in range(random_.randint(0, 3000)):
                pass
            process.send_signal(signal.SIGKILL)
            process.wait()
        with Store.open(state) as store:
            assert not store.journal.is_owned("r-1")
            events = list(store.journal.events("r-1"))
            assert len(events) >= reached
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            assert [event.data for event in events] == [numbered(event.seq) for event in events]
            assert store.journal.run("r-1").events == len(events)
            assert store.journal.check() == []

            async def go_on(store: Store = store, count: int = len(events)) -> None:
                async with store.journal.writer("r-1") as writer:
                    assert writer.append(numbered(writer.seq + 1)).seq == count + 1

            asyncio.run(go_on())


def _disk(how: str) -> tuple[str, tuple[str, ...]]:
    """Choose how a program gets a small disk, and the words that let it mount one where that is allowed.

    Where nobody may mount, a limit on the size of files stands for the small disk.
    """
    for prefix in (("unshare", "--mount"), ("unshare", "--mount", "--map-root-user")):
        command = [*prefix, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        with contextlib.suppress(FileNotFoundError):
            if how == "tmpfs" and subprocess.run(command, capture_output=True).returncode == 0:
                return how, prefix
    return "limit", ()


@pytest.mark.parametrize("how", ["tmpfs", "limit"])
def test_a_full_disk_is_told_once_and_keeps_what_was_there(tmp_path: Path, how: str) -> None:
    how, prefix = _disk(how)
    said = json.loads(run("fill", tmp_path, how, prefix=prefix))
    assert said["errors"] == ["StoreFullError"] * 4
    assert "free some space" in said["next_words"]
    assert not said["owned"]
    assert said["flushed"] > 10
    assert said["texts"] == list(range(1, len(said["texts"]) + 1))
    assert len(said["texts"]) >= said["flushed"]
    assert said["seen"] <= len(said["kept"])
    assert said["kept"] == list(range(1, len(said["kept"]) + 1))
    assert len(said["kept"]) >= len(said["texts"])
    assert said["check"] == []
    assert said["next"] == len(said["kept"]) + 1
    assert said["outcome"] == "ok"


@pytest.mark.parametrize("how", ["tmpfs", "limit"])
def test_a_disk_without_room_for_a_journal(tmp_path: Path, how: str) -> None:
    how, prefix = _disk(how)
    assert run("open_full", tmp_path, how, prefix=prefix).split("\n")[:2] == ["store_full", "[]"]


@pytest.mark.parametrize(
    ("how", "kind", "advice"),
    [("full", "store_full", "free some space"), ("read-only", "store", "check its permissions")],
)
def test_what_is_on_a_disk_that_takes_nothing_can_be_read(
    tmp_path: Path, how: str, kind: str, advice: str
) -> None:
    _, prefix = _disk("tmpfs")
    if not prefix:
        pytest.skip("nobody may mount here")
    seen, said = run("read_only", tmp_path, how, prefix=prefix).splitlines()
    assert (seen, said.startswith(f"{kind} {advice}")) == ("[1]", True), said


def test_two_processes_write_different_runs_of_one_journal(tmp_path: Path) -> None:
    state = tmp_path / "state"
    writers = [start("write", state, f"r-{n}", 600) for n in (1, 2, 3)]
    for process in writers:
        _, said = process.communicate(timeout=100)
        assert process.returncode == 0, said
    with Store.open(state) as store:
        assert store.journal.check() == []
        for n in (1, 2, 3):
            row = store.journal.run(f"r-{n}")
            events = list(store.journal.events(row.id))
            assert row.outcome is Outcome.OK
            assert [e.data for e in events[:-1]] == [numbered(e.seq) for e in events[:-1]]
            assert {event.run for event in events} == {row.id}
            assert events[-1].data == ended()


def test_processes_that_start_at_once_make_one_journal(tmp_path: Path) -> None:
    state = tmp_path / "new" / "state"
    starters = [start("own", state, f"r-{n}") for n in range(4)]
    for process in starters:
        out, said = process.communicate(timeout=100)
        assert (out, said) == ("owner\n", "")
    with Store.open(state) as store:
        assert store.journal.check() == []


def test_a_forked_child_is_refused_and_holds_no_lock(tmp_path: Path) -> None:
    state, gate = tmp_path / "state", tmp_path / "gate"
    os.mkfifo(gate)
    # Open both ways, so that nobody waits for the other to come.
    with gate.open("r+b", buffering=0) as opened, start("fork", state, gate) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert json.loads(process.stdout.readline()) == [*["refused"] * 3, "nothing"]
            with Store.open(state) as store:
                assert store.journal.is_owned("r-1")
                process.stdin.write("\n")
                process.stdin.flush()
                assert process.stdout.readline() == "flushed\n"
                process.wait()
                # The child still lives: it waits at the gate. The lock went with its parent all the same.
                assert not store.journal.is_owned("r-1")
                assert store.journal.run("r-1").events == 6
                assert store.journal.check() == []
        finally:
            process.kill()
            opened.write(b"!")
        assert process.stdout.read() == ""  # ends when the child has


def test_a_forked_child_lets_go_of_the_store_whatever_its_parent_was_doing(tmp_path: Path) -> None:
    out, said = start("fork_while_busy", tmp_path / "state", 100).communicate()
    assert (out, said) == ("closed\n", "")


def test_a_child_that_is_forked_while_a_lock_is_taken_does_not_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children: list[int] = []
    take = fcntl.flock

    def take_and_fork(descriptor: int, how: int) -> None:
        take(descriptor, how)
        if not children:  # another thread forks just then
            children.append(os.fork())
            if children[0] == 0:
                signal.pause()
                os._exit(0)

    monkeypatch.setattr(fcntl, "flock", take_and_fork)
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    try:
        assert first.acquire()
        first.release()
        assert second.acquire()
    finally:
        second.release()
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_repair_waits_for_nobody(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with start("write_on_word", state, "r-1") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        before = sorted(os.listdir(state))
        with pytest.raises(BusyError, match="open"):
            Store.repair(state)
        assert sorted(os.listdir(state)) == before
        process.stdin.close()
        process.wait()
    assert Store.repair(state)[0] == "saved 1 event(s) of `r-1`"
