"""Programs that the tests start in processes of their own, to kill them, fill their disk or fork them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import sqlite3
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from store_samples import ended, numbered, task_events

from parallelai.errors import ParallelAIError, StoreError, StoreFullError
from parallelai.records import Reply
from parallelai.store import Store
from parallelai.store.writer import RunWriter


async def write(state: str, run: str, count: str) -> None:
    """Append events for ever (or `count`), saying after each flush what is on the disk."""
    with Store.open(Path(state)) as store:
        async with store.journal.writer(run) as writer:
            print("owner", flush=True)
            while writer.seq < int(count):
                for _ in range(1 + writer.seq % 7):
                    writer.append(numbered(writer.seq + 1), task=f"t{writer.seq % 20}", attempt=1)
                await writer.flush()
                print(writer.seq, flush=True)
            writer.append(ended())


async def write_on_word(state: str, run: str) -> None:
    """Append one event for each line on stdin, and end the run at its end."""
    with Store.open(Path(state)) as store:
        async with store.journal.writer(run) as writer:
            print("owner", flush=True)
            while await asyncio.to_thread(sys.stdin.readline):
                writer.append(numbered(writer.seq + 1))
                await writer.flush()
                print(writer.seq, flush=True)
            writer.append(ended())


async def own(state: str, run: str) -> None:
    """Try to take a run."""
    with Store.open(Path(state)) as store:
        try:
            async with store.journal.writer(run):
                print("owner")
        except ParallelAIError as error:
            print(json.dumps(error.to_json()))


async def fill(folder: str, how: str) -> None:
    """Write until the disk takes no more, look at what was told, make room, and go on."""
    if how == "tmpfs":
        os.system(f"mount -t tmpfs -o size=3m tmpfs {folder}")
    state = Path(folder, "state")
    said: dict[str, Any] = {"flushed": 0, "errors": [], "seen": 0}
    with Store.open(state) as store:
        make_room = _limit(folder, how)
        try:
            async with store.journal.writer("r-1") as writer:
                writer.subscribe(lambda events: said.__setitem__("seen", events[-1].seq))
                await _fill(writer, said)
        except ParallelAIError as error:  # must not happen: it was told before
            said["errors"].append("again at the end: " + str(error))
        said["owned"] = store.journal.is_owned("r-1")
        said["texts"] = [event.seq for event in store.journal.events("r-1")]
        make_room()
    with Store.open(state) as store:
        said["check"] = store.journal.check()
        said["kept"] = [event.seq for event in store.journal.events("r-1")]
        async with store.journal.writer("r-1") as writer:
            said["next"] = writer.append(ended()).seq
        said["outcome"] = store.journal.run("r-1").outcome
    print(json.dumps(said))


async def _fill(writer: RunWriter, said: dict[str, Any]) -> None:
    while not said["errors"]:
        try:
            for _ in range(5):
                writer.append(numbered(writer.seq + 1, size=20_000))
            await writer.flush()
            said["flushed"] = writer.seq
        except StoreError as error:
            said["errors"].append(type(error).__name__)
            said["next_words"] = error.next
    for _ in range(2):
        try:
            writer.append(numbered(3))
        except StoreError as error:
            said["errors"].append(type(error).__name__)
    try:
        await writer.flush()
    except StoreError as error:
        said["errors"].append(type(error).__name__)


def _limit(folder: str, how: str, size: int = 1_500_000) -> Any:
    if how == "tmpfs":
        ballast = Path(folder, "ballast")
        ballast.write_bytes(b"x" * 1024 * 1024)
        return ballast.unlink
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


async def open_full(folder: str, how: str) -> None:
    """Open a store where there is no room for one, and again when there is."""
    if how == "tmpfs":
        os.system(f"mount -t tmpfs -o size=1m tmpfs {folder}")
        ballast = Path(folder, "ballast")
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        make_room = ballast.unlink
    else:
        make_room = _limit(folder, how, 2048)
    try:
        with Store.open(Path(folder, "state")):
            print("opened")
    except StoreFullError as error:
        print(error.kind)
    make_room()
    with Store.open(Path(folder, "state")) as store:
        print(store.journal.check())


async def read_only(folder: str, how: str) -> None:
    """Read a store that cannot be written, and write to it: on a full disk, or one that takes no writes."""
    if how == "full":
        os.system(f"mount -t tmpfs -o size=4m tmpfs {folder}")
    state = Path(folder, "state")
    with Store.open(state) as store:
        async with store.journal.writer("r-1") as writer:
            writer.append(numbered(1))
    if how == "full":
        with Path(folder, "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass
    else:
        os.system(f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}")
    with Store.open(state) as store:
        print([event.seq for event in store.journal.events("r-1")])
        try:
            async with store.journal.writer("r-1") as writer:
                writer.append(numbered(2))
        except StoreError as error:
            print(error.kind, error.next)


async def fork(state: str, gate: str) -> None:
    """Fork with everything open; the child says how it fares, and stays when its parent is killed."""
    store = Store.open(Path(state))
    async with store.journal.writer("r-1") as writer:
        for data in task_events("a"):
            writer.append(data, task="a", attempt=1)
        await writer.flush()
        store.journal.runs()  # leaves an idle connection for the child to find
        store.cache.put("k", Reply(text="a parent's"))
        if os.fork() == 0:
            said = []
            for attempt in (
                lambda: writer.append(numbered(1)),
                lambda: store.journal.runs(),
                lambda: store.journal.writer("r-2")._database.connect(),
            ):
                try:
                    attempt()
                    said.append("worked")
                except StoreError:
                    said.append("refused")
            store.cache.put("mine", Reply(text="a child's"))
            said.append("nothing" if store.cache.get("k") is store.cache.get("mine") is None else "something")
            store.close()
            print(json.dumps(said), flush=True)
            with open(gate, "rb") as opened:  # a FIFO: until the test has looked
                opened.read(1)
            os._exit(0)
        await asyncio.to_thread(sys.stdin.readline)
        writer.append(numbered(6))
        await writer.flush()
        print("flushed", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


def fork_while_busy(state: str, times: str) -> None:
    """Fork again and again while a thread is within SQLite; each child closes what it has inherited, or drops it."""
    warnings.simplefilter(
        "ignore", DeprecationWarning
    )  # from Python 3.12 on it warns of just what is tried here
    store = Store.open(Path(state))
    is_over = threading.Event()

    def be_busy() -> None:
        while not is_over.is_set():
            sqlite3.connect(":memory:").close()

    threads = [threading.Thread(target=be_busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(int(times)):
        store.journal.runs()  # leaves an idle connection for the child to find
        child = os.fork()
        if child == 0:
            if number % 2:
                store.close()
            del store
            os._exit(0)
        if not _has_ended(child, seconds=20):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            print("hangs")
            break
    else:
        print("closed")
    is_over.set()
    for thread in threads:
        thread.join()
    store.close()


def _has_ended(child: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


if __name__ == "__main__":
    program = globals()[sys.argv[1]](*sys.argv[2:])
    if program is not None:
        asyncio.run(program)
