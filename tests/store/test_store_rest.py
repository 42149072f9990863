"""The folder, the commands, the cache and the machine's memory."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import created, ended, result, started

from parallelai.errors import NotFoundError, StoreError, UsageError
from parallelai.events import (
    AttemptEnded,
    AttemptStarted,
    Event,
    EventData,
    TaskEnded,
    TaskExpanded,
    TaskStep,
    data_from_json,
    data_to_json,
)
from parallelai.records import Change, Coverage, FileNote, Finding, LimitKey, Outcome, Reply, Severity, Usage
from parallelai.store import KINDS, CacheInfo, Machine, Store, facts, migrations, place, projections
from parallelai.store.cache import Cache
from parallelai.store.database import Database
from parallelai.store.projections import RunState


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state") as opened:
        yield opened


async def make_run(store: Store, name: str = "r-1") -> None:
    async with store.journal.writer(name) as writer:
        writer.append(created())


# Encoded events.


def test_large_events_are_each_encoded_as_they_are() -> None:
    """The last of them is remembered; it must not stand for another."""
    one, other = (TaskExpanded((name * 70_000,)) for name in "ab")
    texts = [data_to_json(data) for data in (one, one, other, one, TaskExpanded(one.items))]
    assert [text[11] for text in texts] == [*"aabaa"], texts[0][:20]
    assert len({*map(len, texts)}) == 1


def _nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


@pytest.mark.parametrize(
    "odd", [10**30, {"key": [1.5, -(10**20)]}, _nested(300)], ids=["huge", "mixed", "deep"]
)
def test_what_a_model_answered_is_kept_as_it_is(odd: Any) -> None:
    answered = AttemptEnded("m", ok=True, seconds=1.0, reply=Reply(data={"odd": odd}))
    assert data_from_json("attempt.ended", data_to_json(answered)) == answered


# The folder.


def test_the_folder_is_private_and_unknown_to_git(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        Store.open(tmp_path / "a" / "state").close()
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a" / "state").stat().st_mode) == 0o700
    assert (tmp_path / "a" / "state" / ".gitignore").read_text() == "*\n"


def test_without_leave_to_create_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        Store.open(tmp_path / "state", create=False)
    assert list(tmp_path.iterdir()) == []
    Store.open(tmp_path / "state").close()
    Store.open(tmp_path / "state", create=False).close()


def test_a_journal_that_came_with_a_checkout_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    Store.open(state).close()
    state.chmod(0o755)
    with pytest.raises(StoreError, match="others may") as refused:
        Store.open(state)
    assert "chmod 700" in (refused.value.next or "")
    state.chmod(0o700)
    Store.open(state).close()


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "target")
    with pytest.raises(StoreError, match="link"):
        Store.open(tmp_path / "state")
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "real" / ".gitignore").symlink_to(tmp_path / "target" / "written")
    Store.open(tmp_path / "real").close()
    assert list((tmp_path / "target").iterdir()) == []


MOUNTS = """\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 21 0:40 / /home rw - nfs4 server:/home rw
31 30 254:1 / /home/me/local\\040disk rw shared:5 master:1 - xfs /dev/vdb rw
32 21 0:41 / /mnt/c rw - 9p C: rw
33 21 0:42 / /remote rw - fuse.sshfs me@there rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/work", None),
        ("/home/me/project", "nfs4"),
        ("/homeless", None),
        ("/home/me/local disk/project", None),
        ("/mnt/c/project", "9p"),
        ("/remote", "fuse.sshfs"),
    ],
)
def test_network_file_systems_are_known(path: str, kind: str | None) -> None:
    assert place.network_kind(Path(path), place.parse_mounts(MOUNTS)) == kind


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_mounts", lambda: [("/", "nfs4")])
    with pytest.raises(StoreError, match="nfs4") as refused:
        Store.open(tmp_path / "deep" / "state")
    assert "state.path" in (refused.value.next or "")
    assert list(tmp_path.iterdir()) == []


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "state")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.journal.runs()


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        Store.open(tmp_path / "file" / "state")


async def test_threads_share_a_store(store: Store) -> None:
    await make_run(store)

    def ask(n: int) -> int:
        seq = store.commands.ask("r-1", "set-limit", {"n": n}, "thread")
        assert store.commands.get(seq).args == {"n": n}
        assert store.journal.run("r-1").events == 1
        return seq

    with ThreadPoolExecutor(8) as threads:
        numbers = list(threads.map(ask, range(100)))
    assert sorted(numbers) == list(range(1, 101))
    assert [row.seq for row in store.commands.pending("r-1")] == list(range(1, 101))


# Commands.


async def test_commands_are_asked_in_one_process_and_answered_in_another(store: Store) -> None:
    await make_run(store)
    await make_run(store, "r-2")
    with Store.open(store.state) as other:
        first = other.commands.ask("r-1", "cancel", {"task": "ü"}, "me@host \udcff")
        other.commands.ask("r-2", "pause", {}, "me")
        second = other.commands.ask("r-1", "resume", {}, "me")
    pending = store.commands.pending("r-1")
    assert [(row.seq, row.kind, row.args) for row in pending] == [
        (first, "cancel", {"task": "ü"}),
        (second, "resume", {}),
    ]
    assert (pending[0].by, pending[0].done_at, pending[0].result) == ("me@host ?", None, None)
    store.commands.done(first, "cancelled")
    store.commands.done(first, "again")
    row = store.commands.get(first)
    assert row.result == "cancelled"
    assert row.done_at is not None
    assert [row.seq for row in store.commands.pending("r-1")] == [second]


async def test_commands_are_checked(store: Store) -> None:
    await make_run(store)
    with pytest.raises(UsageError) as unknown:
        store.commands.ask("r-1", "cancle", {}, "me")
    assert unknown.value.next == "did you mean `cancel`?"
    with pytest.raises(UsageError, match="JSON"):
        store.commands.ask("r-1", "add", {"x": object()}, "me")
    with pytest.raises(UsageError, match="bytes"):
        store.commands.ask("r-1", "add", {"x": "x" * 2_000_000}, "me")
    with pytest.raises(NotFoundError):
        store.commands.ask("r-9", "cancel", {}, "me")
    with pytest.raises(NotFoundError):
        store.commands.get(1)
    for kind in KINDS:
        assert store.commands.get(store.commands.ask("r-1", kind, {}, "me")).kind == kind


# The cache.

REPLY = Reply(
    text="ü \x00 text",
    findings=(Finding("a.py", (1, 2), Severity.HIGH, "m", column=(3, 4), confidence=0.5, by=("x",)),),
    data={"a": [1, None, "x"]},
    usage=Usage(1, 0, 2, None, 0.25, "client"),
    coverage=Coverage(("a.py",), (FileNote("b.py", "why"),)),
    change=Change("p.patch", ("a.py",)),
    notes=("n",),
)


def test_a_reply_comes_back_as_it_was(store: Store) -> None:
    assert store.cache.get("k") is None
    store.cache.put("k", Reply(text="other"))
    store.cache.put("k", REPLY)
    assert store.cache.get("k") == REPLY
    assert store.cache.get("K") is None
    for key in ("../../escape", "/etc/passwd", "", "x" * 10_000, "\udcff"):
        store.cache.put(key, Reply(text=key.encode("utf-8", "replace").decode()))
        assert store.cache.get(key) is not None
    assert store.cache.info().entries == 6
    assert {path.name for path in store.state.iterdir()} >= {"cache", "journal.db"}
    assert not (store.state.parent / "escape").exists()


def test_the_cache_is_counted_and_cleared(store: Store) -> None:
    assert store.cache.info() == CacheInfo(0, 0)
    for n in range(20):
        store.cache.put(str(n), REPLY)
    store.cache.flush()
    (store.cache.folder / "mine.txt").write_text("x")
    info = store.cache.info()
    assert info.entries == 20
    assert info.bytes > 20 * 100
    assert store.cache.clear() == info
    assert store.cache.info() == CacheInfo(0, 0)
    assert (store.cache.folder / "mine.txt").exists()


@pytest.mark.parametrize("size", [0, 5, 60, 90, 200, 4096, 5000, 8192, -1])
def test_a_cut_cache_gives_nothing_wrong_and_is_made_anew(store: Store, size: int) -> None:
    store.cache.put("k", REPLY)
    store.cache.close()
    (file,) = (path for path in store.cache.folder.rglob("*") if path.is_file())
    file.write_bytes(file.read_bytes()[:size])
    assert store.cache.get("k") in (None, REPLY)  # a cut may leave it whole
    store.cache.put("other", REPLY)
    store.cache.close()
    store.cache.put("other", REPLY)
    store.cache.close()
    assert store.cache.get("other") == REPLY
    assert store.cache.get("k") in (None, REPLY)


def test_a_damaged_entry_is_a_miss(store: Store) -> None:
    store.cache.put("k", REPLY)
    store.cache.put("whole", REPLY)
    store.cache.close()
    (file,) = (path for path in store.cache.folder.rglob("*") if path.is_file())
    content = file.read_bytes()
    at = content.index(b'"p.patch"')
    file.write_bytes(content[: at + 1] + b"X" + content[at + 2 :])
    found = [store.cache.get("k"), store.cache.get("whole")]
    assert found.count(None) == 1
    assert found.count(REPLY) == 1
    assert store.cache.info().entries == 1


def test_an_entry_is_not_taken_for_another(store: Store) -> None:
    store.cache.put("k", Reply(text="one"))
    store.cache.put("l", Reply(text="two"))
    store.cache.close()
    (file,) = (path for path in store.cache.folder.rglob("*") if path.is_file())
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        rows = connection.execute("SELECT key, mark, body FROM replies").fetchall()
        for (key, _, _), (_, mark, body) in zip(rows, reversed(rows), strict=True):
            connection.execute("UPDATE replies SET mark = ?, body = ? WHERE key = ?", (mark, body, key))
    assert store.cache.get("k") is None
    assert store.cache.get("l") is None


def test_a_reply_is_there_as_soon_as_it_is_stored(store: Store) -> None:
    for number in range(5):
        assert store.cache.get(str(number)) is None
        store.cache.put(str(number), REPLY)
        store.cache.flush()
        assert store.cache.get(str(number)) == REPLY


def test_replies_of_a_burst_are_there_for_all_and_on_the_disk_after_a_flush(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Cache(store.cache.folder)
    for number in range(150):
        store.cache.put(str(number), REPLY)
    assert store.cache.get("149") == REPLY
    store.cache.flush()
    assert all(other.get(str(number)) == REPLY for number in range(150))
    other.put("mine", REPLY)
    other.flush()
    monkeypatch.setattr("parallelai.store.cache._LOOK_SECONDS", -1.0)  # as if a moment had passed
    assert store.cache.get("mine") == REPLY
    assert store.cache.info().entries == 151
    store.cache.clear()
    assert other.get("0") is None
    other.close()
    assert b"p.patch" not in b"".join(p.read_bytes() for p in store.cache.folder.iterdir())


def test_while_another_process_writes_nothing_is_lost_nor_asked_twice(store: Store) -> None:
    store.cache.put("before", REPLY)
    store.cache.close()
    other = sqlite3.connect(store.cache.folder / "stored.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for number in range(2000):  # one thread tries to write them, not a thread for each
        store.cache.put(str(number), REPLY)
    assert sum(thread.name == "parallelai-cache" for thread in threading.enumerate()) <= 1
    assert store.cache.get("before") == REPLY
    store.cache.flush()  # waits, and gives up for now
    other.execute("ROLLBACK")
    other.close()
    store.cache.flush()
    assert store.cache.info().entries == 2001


def test_a_cache_that_cannot_be_written_costs_nothing_but_itself(store: Store) -> None:
    store.cache.folder.write_text("in the way")
    store.cache.put("k", REPLY)
    store.cache.flush()
    assert store.cache.get("k") == REPLY  # for as long as somebody has the cache open
    store.cache.close()
    assert store.cache.get("k") is None
    assert store.cache.info() == store.cache.clear() == CacheInfo(0, 0)


# The machine.


def test_trust_is_for_content(tmp_path: Path) -> None:
    project = tmp_path / "project"
    with Machine.open(tmp_path / "deep" / "machine.db") as machine:
        assert not machine.is_trusted(project, "d1")
        machine.trust(project, "d1")
        machine.trust(project, "d1")
        machine.trust(tmp_path / "b\udcff", "d2")
    with Machine.open(tmp_path / "deep" / "machine.db") as machine:
        assert machine.is_trusted(project, "d1")
        assert machine.is_trusted(tmp_path / "x" / ".." / "project", "d1")
        assert machine.is_trusted(tmp_path / "b\udcff", "d2")
        assert not machine.is_trusted(project, "d2")
        assert not machine.is_trusted(tmp_path, "d1")
        assert [entry.digest for entry in machine.trusted()] == ["d2", "d1"]
        assert machine.untrust(project)
        assert not machine.untrust(project)
        assert not machine.is_trusted(project, "d1")


def test_consent_and_limits_are_remembered(tmp_path: Path) -> None:
    key = LimitKey("openai", "default", "small")
    with Machine.open(tmp_path / "machine.db") as machine, Machine.open(tmp_path / "machine.db") as other:
        assert not other.has_consent("openai")
        machine.consent("openai")
        assert other.has_consent("openai")
        machine.consent("openai", "http://127.0.0.1:9/v1")
        machine.consent("openai2")
        assert other.consents("openai") == {"", "http://127.0.0.1:9/v1"}
        assert machine.revoke("openai")
        assert not other.has_consent("openai")
        assert other.has_consent("openai2")
        assert other.last_good_limit(key) is None
        machine.keep_limit(key, 20)
        machine.keep_limit(key, 40)
        assert other.last_good_limit(key) == 40
        assert other.last_good_limit(key._replace(model="")) is None


def test_the_machine_s_own_place_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    Machine.open().close()
    assert (tmp_path / "parallelai" / "machine.db").exists()
    assert stat.S_IMODE((tmp_path / "parallelai").stat().st_mode) == 0o700


# The fold.

NAMES = st.sampled_from(["a", "b", "c@x", "c@y"])
DATA: st.SearchStrategy[EventData] = st.one_of(
    st.builds(created, tasks=st.just(("a", "c"))),
    st.builds(started, is_resume=st.booleans()),
    st.builds(ended, st.sampled_from(Outcome), st.integers(0, 5)),
    st.builds(TaskExpanded, st.lists(NAMES, unique=True).map(tuple)),
    st.builds(TaskStep, st.just("check"), st.just("checking")),
    st.builds(AttemptStarted, st.just("mock")),
    st.builds(AttemptEnded, st.just("mock"), st.booleans(), st.just(0.1), is_cached=st.booleans()),
    st.builds(
        TaskEnded,
        st.builds(result, NAMES, st.sampled_from(Outcome), st.floats(0, 9)),
        is_kept=st.booleans(),
    ),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(DATA, NAMES), max_size=40), st.integers(1, 9))
def test_folding_in_pieces_is_the_same_as_at_once(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[EventData, str]], piece: int
) -> None:
    """A writer that stores and loads its state between batches makes the tables that a rebuild makes."""
    given_ = [
        Event(
            "r",
            seq,
            f"2026-01-01T00:00:{seq:02d}Z",
            data.type,
            data,
            name if "." in data.type and not data.type.startswith("run") else None,
        )
        for seq, (data, name) in enumerate(history, 1)
    ]
    whole = RunState("r", 1)
    for event in given_:
        whole.apply(event)
    assert sum(whole.counts.values()) == len(whole.tasks)
    assert min(whole.counts.values(), default=0) >= 0

    database = Database(tmp_path_factory.mktemp("fold") / "journal.db", migrations.JOURNAL)
    database.open()
    try:
        state = RunState("r", 1)
        for start in range(0, len(given_), piece):
            part = given_[start : start + piece]
            with database.write() as connection:
                facts.insert(connection, 1, [(event, data_to_json(event.data)) for event in part])
                for event in part:
                    state.apply(event)
                projections.save(connection, state)
        if given_:
            with database.read() as connection:
                loaded = projections.load(connection, "r")
            assert loaded is not None
            assert _plain(loaded) == _plain(whole)
    finally:
        database.close()


def _plain(state: RunState) -> dict[str, Any]:
    tasks = {
        name: (t.position, t.kind, t.status, t.stage, t.engine, t.attempts, t.seconds, t.ended_at, t.measured)
        for name, t in state.tasks.items()
    }
    row = (
        state.events,
        state.plan,
        state.kind,
        state.created_at,
        state.started_at,
        state.ended_at,
        state.outcome,
    )
    return {"tasks": tasks, "row": row, "exit": state.exit, "counts": json.loads(state.counts_json())}
