from __future__ import annotations

import asyncio
import fcntl
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from store_samples import created, ended, numbered, run, start, started, task_events

from parallelai.errors import BusyError, NotFoundError, StoreCorruptError, StoreError
from parallelai.events import Event, RunPaused, TaskEnded, TaskExpanded
from parallelai.records import Outcome
from parallelai.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state") as opened:
        yield opened


async def record(store: Store, run: str, *data: Any, task: str | None = None) -> None:
    async with store.journal.writer(run) as writer:
        for part in data:
            writer.append(part, task=task, attempt=1 if task else None)


async def test_events_come_back_as_they_were_appended(store: Store) -> None:
    async with store.journal.writer("r-1") as writer:
        given = [writer.append(created())]
        given += [writer.append(data, task="ünï@a.py#2", attempt=1) for data in task_events("ünï@a.py#2")]
        given.append(writer.append(ended()))
    assert list(store.journal.events("r-1")) == given
    assert [event.seq for event in given] == list(range(1, 8))
    assert list(store.journal.events("r-1", after=5)) == given[5:]
    assert list(store.journal.events("r-1", types={"run.created", "task.ended"})) == [given[0], given[5]]
    assert list(store.journal.events("r-1", types=())) == []


async def test_flushed_events_are_seen_by_another_reader_at_once(store: Store) -> None:
    with Store.open(store.state) as other:
        async with store.journal.writer("r-1") as writer:
            for count in range(1, 30):
                writer.append(numbered(count))
                await writer.flush()
                assert [event.seq for event in other.journal.events("r-1")] == list(range(1, count + 1))


async def test_many_events_are_read_in_order(store: Store) -> None:
    async with store.journal.writer("r-1") as writer:
        given = [writer.append(numbered(n)) for n in range(1, 3001)]
        async with store.journal.writer("r-2") as other:
            other.append(created())
    assert list(store.journal.events("r-1")) == given
    assert {row.id: row.events for row in store.journal.runs()} == {"r-1": 3000, "r-2": 1}


async def test_watchers_see_only_what_is_on_the_disk_in_order_and_once(store: Store) -> None:
    seen: list[Event] = []
    given: list[Event] = []

    def watch(events: Any) -> None:
        last = events[-1].seq
        assert [e.seq for e in store.journal.events("r-1", after=last - 1)][:1] == [last]
        seen.extend(events)

    async with store.journal.writer("r-1") as writer:
        writer.subscribe(watch)
        late: list[Event] = []
        for n in range(1, 201):
            given.append(writer.append(numbered(n)))
            if n % 17 == 0:
                await writer.flush()
                assert seen == given
            if n == 102:
                leave = writer.subscribe(late.extend)
            if n == 153:
                leave()
    assert seen == given
    assert [event.seq for event in late] == list(range(103, 154))


async def test_a_watcher_that_raises_stops_neither_the_others_nor_the_run(store: Store) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    seen: list[Event] = []

    def broken(events: Any) -> None:
        raise RuntimeError("no screen")

    async with store.journal.writer("r-1") as writer:
        writer.subscribe(broken)
        writer.subscribe(seen.extend)
        for n in (1, 2, 3):
            writer.append(numbered(n))
            await writer.flush()
    assert [event.seq for event in seen] == [1, 2, 3]
    assert [str(context["exception"]) for context in reported] == ["no screen"]


async def test_a_run_that_no_thread_could_be_started_for_is_given_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as busy:
        busy.setattr(threading.Thread, "start", refuses)
        with pytest.raises(StoreError, match="can't start new thread"):
            await store.journal.writer("r-1").__aenter__()
    async with store.journal.writer("r-1") as writer:
        writer.append(created())


async def test_a_run_has_one_writer_and_the_next_goes_on_where_it_left(store: Store) -> None:
    async with store.journal.writer("r-1") as writer:
        writer.append(created())
        assert store.journal.is_owned("r-1")
        with pytest.raises(BusyError, match="process") as busy:
            async with store.journal.writer("r-1"):
                pass
        assert busy.value.exit_code == 2
        assert json.loads(await asyncio.to_thread(run, "own", store.state, "r-1"))["kind"] == "busy"
    assert not store.journal.is_owned("r-1")
    async with store.journal.writer("r-1") as writer:
        assert writer.append(started(is_resume=True)).seq == 2
    assert (await asyncio.to_thread(run, "own", store.state, "r-1")).strip() == "owner"


async def test_asking_who_owns_a_run_never_keeps_a_writer_out(store: Store) -> None:
    await record(store, "r-1", created())
    with (store.journal.folder("r-1") / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # as one who asks does, for a moment
        async with asyncio.TaskGroup() as group:
            taking = group.create_task(record(store, "r-1", RunPaused("x")))
            for _ in range(5):
                await asyncio.sleep(0)
            assert not taking.done()
            fcntl.flock(file, fcntl.LOCK_UN)
    assert store.journal.run("r-1").events == 2


async def test_appending_outside_the_block_is_refused(store: Store) -> None:
    writer = store.journal.writer("r-1")
    with pytest.raises(StoreError, match="closed"):
        writer.append(created())
    async with writer:
        writer.append(created())
    with pytest.raises(StoreError, match="closed"):
        writer.append(created())
    await writer.aclose()
    with pytest.raises(StoreError, match="used before"):
        await writer.__aenter__()


async def test_an_error_in_the_block_keeps_what_was_appended(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is tested
        async with store.journal.writer("r-1") as writer:
            writer.append(created())
            raise ZeroDivisionError
    assert store.journal.run("r-1").events == 1
    assert not store.journal.is_owned("r-1")


async def test_closing_while_cancelled_keeps_what_was_appended(store: Store) -> None:
    async def work() -> None:
        async with store.journal.writer("r-1") as writer:
            for n in range(1, 501):
                writer.append(numbered(n))
            await asyncio.sleep(3600)

    task = asyncio.create_task(work())
    while not store.journal.is_owned("r-1"):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store.journal.stop_writers()
    assert not store.journal.is_owned("r-1")
    count = store.journal.run("r-1").events if store.journal.runs() else 0
    assert count in (0, 500)


def test_a_closed_loop_loses_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path / "state") as store:
        loop = asyncio.new_event_loop()
        writer = store.journal.writer("r-1")
        loop.run_until_complete(writer.__aenter__())
        writer.append(created())
        writer.append(ended())
        loop.close()
    with Store.open(tmp_path / "state") as store:
        assert store.journal.run("r-1").outcome is Outcome.OK
        assert not store.journal.is_owned("r-1")


def test_several_loops_in_turn(tmp_path: Path) -> None:
    with Store.open(tmp_path / "state") as store:
        for _ in range(3):
            asyncio.run(record(store, "r-1", RunPaused("x")))
        assert store.journal.run("r-1").events == 3


async def test_what_is_no_text_is_replaced_in_data_and_refused_in_ids(store: Store) -> None:
    async with store.journal.writer("r-1") as writer:
        event = writer.append(RunPaused("bad \udcff byte"))
        assert event.data == RunPaused("bad ? byte")
        with pytest.raises(StoreError, match="rename"):
            writer.append(RunPaused("x"), task="a@\udcff.py")
        writer.append(RunPaused("\x00 \x1b[0m is text"))
    stored = list(store.journal.events("r-1"))
    assert stored[0] == event
    assert stored[1].data == RunPaused("\x00 \x1b[0m is text")


async def test_runs_are_listed_and_found(store: Store) -> None:
    for name, plan, kind in (
        ("r-20-aa", "a.yaml", "execute"),
        ("r-20-ab", "b.yaml", "execute"),
        ("r-21", None, "review"),
    ):
        await record(store, name, created(plan, kind))
    journal = store.journal
    assert [row.id for row in journal.runs()] == ["r-21", "r-20-ab", "r-20-aa"]
    assert journal.run("r-21").kind == "review"
    assert journal.run("r-20-aa").id == journal.run("r-20-aa"[:7]).id == "r-20-aa"
    with pytest.raises(NotFoundError, match="r-20-aa"):
        journal.run("r-20")
    for name in ("", "x", "%", "_-21"):
        with pytest.raises(NotFoundError):
            journal.run(name)
    found = [journal.latest(), journal.latest(plan="a.yaml"), journal.latest(kind="execute")]
    assert [row.id if row else None for row in found] == ["r-21", "r-20-aa", "r-20-ab"]
    assert journal.latest(plan="c.yaml") is None


async def test_rows_tell_how_a_run_stands(store: Store) -> None:
    async with store.journal.writer("r-1") as writer:
        writer.append(created(tasks=("a", "b", "c")))
        writer.append(started())
        writer.append(TaskExpanded(("a", "b@x.py", "c")))
        for name, status in (("a", Outcome.OK), ("b@x.py", Outcome.FAILED)):
            for data in task_events(name, status=status):
                writer.append(data, task=name, attempt=1)
        await writer.flush()
        row = store.journal.run("r-1")
        assert (row.tasks["ok"], row.tasks["failed"], row.tasks["unfinished"]) == (1, 1, 1)
        assert (row.outcome, row.ended_at, row.exit) == (None, None, None)
        writer.append(ended(Outcome.FAILED, 4))
    row = store.journal.run("r-1")
    assert (row.outcome, row.exit, row.seconds, row.plan) == (Outcome.FAILED, 4, 1.5, "tasks.yaml")
    tasks = store.journal.tasks("r-1")
    assert [(task.id, task.status, task.kind) for task in tasks] == [
        ("a", Outcome.OK, "review"),
        ("b@x.py", Outcome.FAILED, "review"),
        ("c", None, "review"),
    ]
    async with store.journal.writer("r-1") as writer:
        writer.append(started(is_resume=True))
        *first, last = task_events("b@x.py")
        for data in first:
            writer.append(data, task="b@x.py", attempt=2)
        await writer.flush()
        row = store.journal.run("r-1")
        assert (row.tasks["ok"], row.tasks["failed"], row.tasks["unfinished"]) == (1, 0, 2)
        writer.append(last, task="b@x.py", attempt=2)
    row = store.journal.run("r-1")
    assert (row.outcome, row.ended_at, row.tasks["ok"], row.tasks["failed"]) == (None, None, 2, 0)
    assert store.journal.check() == []


async def test_history_holds_only_what_was_measured(store: Store) -> None:
    async with store.journal.writer("r-1") as writer:
        writer.append(created(tasks=("a", "b", "c", "d")))
        for name, seconds, changes in (
            ("a", 1.0, {}),
            ("b", 2.0, {"is_cached": True}),
            ("c", 3.0, {"status": Outcome.FAILED}),
            ("d@x.py", 4.0, {}),
            ("other", 5.0, {}),
        ):
            for data in task_events(name, seconds=seconds, **changes):
                writer.append(data, task=name, attempt=1)
    async with store.journal.writer("r-1") as writer:  # a resume that keeps `a`
        kept = next(
            data for data in task_events("a", seconds=0.0, is_kept=True) if isinstance(data, TaskEnded)
        )
        writer.append(kept, task="a")
    assert store.journal.history("review", "mock") == [4.0, 1.0]
    assert store.journal.history("", "mock") == [5.0]
    assert store.journal.history("review", "claude") == []
    measured = store.journal.measured("tasks.yaml")
    assert {name: seconds for (name, engine), seconds in measured.items() if engine == "mock"} == {
        "a": [1.0],
        "d": [4.0],
        "d@x.py": [4.0],
        "other": [5.0],
    }
    assert store.journal.measured("another.yaml") == {}


async def test_delete_takes_the_run_and_nothing_else(store: Store) -> None:
    for name in ("r-1", "r-2", "r-3"):
        await record(store, name, created(), *(numbered(n) for n in range(2, 50)))
    (store.journal.folder("r-2") / "attempts").mkdir()
    (store.journal.folder("r-2") / "attempts" / "1.jsonl").write_text("x")
    outside = store.state.parent / "outside"
    outside.mkdir()
    (store.journal.folder("r-2") / "link").symlink_to(outside)
    (outside / "mine").write_text("x")
    seq = store.commands.ask("r-2", "pause", {}, "me")
    async with store.journal.writer("r-2"):
        with pytest.raises(BusyError):
            store.journal.delete("r-2")
    store.journal.delete("r-2")
    assert [row.id for row in store.journal.runs()] == ["r-3", "r-1"]
    assert not store.journal.folder("r-2").exists()
    assert (outside / "mine").exists()
    assert len(list(store.journal.events("r-1"))) == len(list(store.journal.events("r-3"))) == 49
    with pytest.raises(NotFoundError):
        store.commands.get(seq)
    with pytest.raises(NotFoundError):
        store.journal.delete("r-2")
    assert store.journal.check() == []


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "", ".hidden", "x" * 200, "a\nb", "/etc"])
def test_a_run_is_never_a_path(store: Store, name: str) -> None:
    with pytest.raises(NotFoundError):
        store.journal.folder(name)
    with pytest.raises(NotFoundError):
        store.journal.writer(name)
    with pytest.raises(NotFoundError):
        store.journal.delete(name)


async def test_missing_or_changed_events_are_told_not_skipped(store: Store) -> None:
    await record(store, "r-1", created(), *(RunPaused(str(n)) for n in range(8)))
    with store._database.write() as connection:
        connection.execute("DELETE FROM events WHERE seq = 5")
    seen = []
    with pytest.raises(StoreCorruptError, match="4 of its 6"):  # noqa: PT012
        for event in store.journal.events("r-1"):
            seen.append(event.seq)
    assert seen == [1, 2, 3, 4]
    assert "8 of its 9" in store.journal.check()[0]
    with pytest.raises(StoreCorruptError):
        async with store.journal.writer("r-1"):
            pass
    assert not store.journal.is_owned("r-1")
    with store._database.write() as connection:
        connection.execute("DELETE FROM events WHERE seq > 4")
    with pytest.raises(StoreCorruptError, match="4 of its 9"):
        list(store.journal.events("r-1"))
    with store._database.write() as connection:
        connection.execute("UPDATE events SET data = '[[[' WHERE seq = 2")
    with pytest.raises(StoreCorruptError, match="event 2"):
        list(store.journal.events("r-1"))


async def test_events_of_a_newer_version_are_kept_as_they_are(store: Store) -> None:
    await record(store, "r-1", created(), RunPaused("a"), RunPaused("b"))
    with store._database.write() as connection:
        connection.execute("UPDATE events SET type = 'moon.landed', data = '{\"a\":1}' WHERE seq = 2")
        connection.execute("UPDATE events SET v = 2, data = '{\"because\":1}' WHERE seq = 3")
    events = list(store.journal.events("r-1"))
    assert [event.data for event in events[1:]] == [{"a": 1}, {"because": 1}]
    assert store.journal.repair() == ["rebuilt the tables of 1 run(s) from their events"]


async def test_repair_rebuilds_the_tables(store: Store) -> None:
    await record(store, "r-1", created(tasks=("a",)), started(), TaskExpanded(("a", "b")))
    await record(store, "r-1", *task_events("a"), task="a")
    await record(store, "r-1", ended())
    await record(store, "r-2", created("other.yaml"))
    before = store.journal.runs(), store.journal.tasks("r-1"), store.journal.history("review", "mock")
    with store._database.write() as connection:
        connection.execute("UPDATE runs SET events = 7, counts = '{}', outcome = NULL WHERE id = 'r-1'")
        connection.execute("DELETE FROM tasks")
        connection.execute("DELETE FROM runs WHERE id = 'r-2'")
    assert len(store.journal.check()) >= 2
    store.journal.repair()
    assert store.journal.check() == []
    assert (
        store.journal.runs(),
        store.journal.tasks("r-1"),
        store.journal.history("review", "mock"),
    ) == before


async def test_tail_follows_a_run_in_another_process(store: Store) -> None:
    with await asyncio.to_thread(start, "write_on_word", store.state, "r-1") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            await asyncio.to_thread(process.stdout.readline)
            process.stdin.write("\n")
            process.stdin.flush()
            await asyncio.to_thread(process.stdout.readline)
            seen = []
            async for event in store.journal.tail("r-1", poll_seconds=0.01):
                seen.append(event)
                if event.seq < 20:  # the next one is written only when this one was seen
                    process.stdin.write("\n")
                    process.stdin.flush()
                elif event.seq == 20:
                    process.stdin.close()
            assert [event.seq for event in seen] == list(range(1, 22))
            assert seen[-1].type == "run.ended"
            assert seen == list(store.journal.events("r-1"))
        finally:
            process.kill()


async def test_tail_ends_when_the_owner_was_killed(store: Store) -> None:
    with await asyncio.to_thread(start, "write_on_word", store.state, "r-1") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            await asyncio.to_thread(process.stdout.readline)
            process.stdin.write("\n\n")
            process.stdin.flush()
            for _ in range(2):
                await asyncio.to_thread(process.stdout.readline)
            seen = []
            async for event in store.journal.tail("r-1", poll_seconds=0.01):
                seen.append(event.seq)
                if event.seq == 2:
                    process.kill()
            assert seen == [1, 2]
        finally:
            process.kill()


async def test_tail_reads_on_through_an_end_that_was_resumed(store: Store) -> None:
    await record(store, "r-1", created(), ended(), started(is_resume=True), RunPaused("x"))
    assert [event.seq async for event in store.journal.tail("r-1")] == [1, 2, 3, 4]
    assert [event.seq async for event in store.journal.tail("r-1", after=2)] == [3, 4]
    async with store.journal.writer("r-1") as writer:
        writer.append(ended())
        await writer.flush()
        assert [event.seq async for event in store.journal.tail("r-1", after=3)] == [4, 5]
    with pytest.raises(NotFoundError):
        await anext(store.journal.tail("r-9"))
