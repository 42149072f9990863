"""Journals that were cut, overwritten, or made by other versions."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from store_samples import ended, numbered

from parallelai.errors import StoreCorruptError, StoreError, StoreFormatError
from parallelai.events import Event
from parallelai.store import Store, database, migrations


@pytest.fixture(scope="module")
def hot(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Event]]]:
    """A journal as a crash leaves it, with much in the file and much in its log, and what was written."""
    folder = tmp_path_factory.mktemp("hot")
    written: dict[str, list[Event]] = {}

    async def fill(store: Store) -> None:
        for name, count in (("r-1", 600), ("r-2", 900), ("r-3", 700)):
            async with store.journal.writer(name) as writer:
                written[name] = []
                for n in range(1, count):
                    # Some replies are longer than a page.
                    written[name].append(writer.append(numbered(n, size=9000 if n % 37 == 0 else 300)))
                    if n % 50 == 0:
                        await writer.flush()
                written[name].append(writer.append(ended()))
            store.commands.ask(name, "pause", {"n": name}, "me")
            if name == "r-2":
                with store._database.lent() as connection:
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    with Store.open(folder / "state") as store:
        asyncio.run(fill(store))
        shutil.copytree(folder / "state", folder / "copy")
    assert (folder / "copy" / "journal.db-wal").stat().st_size > 500_000
    return folder / "copy", written


def _copy(hot: Path, folder: Path) -> Path:
    shutil.copytree(hot, folder / "state")
    return folder / "state"


def _cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def _read(state: Path, written: dict[str, list[Event]]) -> bool:
    """Read everything; whatever comes is a beginning of what was written. Returns whether nothing was refused."""
    try:
        with Store.open(state) as store:
            is_whole = not store.journal.check()
            for row in store.journal.runs():
                seen: list[Event] = []
                try:
                    for event in store.journal.events(row.id):
                        seen.append(event)
                except StoreCorruptError:
                    is_whole = False
                assert seen == written[row.id][: len(seen)]
            return is_whole
    except StoreCorruptError:
        return False


def test_the_journal_as_a_crash_leaves_it_is_whole(
    hot: tuple[Path, dict[str, list[Event]]], tmp_path: Path
) -> None:
    folder, written = hot
    state = _copy(folder, tmp_path)
    assert _read(state, written)
    with Store.open(state) as store:
        assert {row.id: row.events for row in store.journal.runs()} == {n: len(e) for n, e in written.items()}


@pytest.mark.parametrize("seed", range(30))
def test_cut_at_random_bytes(hot: tuple[Path, dict[str, list[Event]]], tmp_path: Path, seed: int) -> None:
    folder, written = hot
    state = _copy(folder, tmp_path)
    random_ = random.Random(seed)
    names = random_.choice([["journal.db"], ["journal.db-wal"], ["journal.db", "journal.db-wal"]])
    for name in names:
        _cut(state / name, random_.randrange((state / name).stat().st_size))
    if not random_.randrange(3):
        (state / "journal.db-shm").unlink(missing_ok=True)
    cut = {name: (state / name).read_bytes() for name in names}
    if _read(state, written):
        return
    for (
        name,
        content,
    ) in cut.items():  # reading may have moved the log into the file, so start from the cut again
        (state / name).write_bytes(content)
    said = Store.repair(state)
    assert _read(state, written)
    kept = state / said[-1].split("`")[1]
    assert kept.exists() or not (state / "journal.db").exists()
    with Store.open(state) as store:
        assert store.journal.check() == []

        async def go_on() -> None:
            async with store.journal.writer("r-new") as writer:
                writer.append(numbered(1))

        asyncio.run(go_on())
        assert store.journal.run("r-new").events == 1


def test_salvage_keeps_every_event_before_the_damage(
    hot: tuple[Path, dict[str, list[Event]]], tmp_path: Path
) -> None:
    folder, written = hot
    state = _copy(folder, tmp_path)
    with contextlib.closing(sqlite3.connect(state / "journal.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        number = connection.execute("SELECT number FROM runs WHERE id = 'r-2'").fetchone()[0]
        connection.execute("DELETE FROM events WHERE id = ?", ((number << 32) + 500,))
        connection.commit()
    with Store.open(state) as store:
        said = store.journal.repair()
        assert "saved 499 event(s) of `r-2`" in said
        for name, count in (("r-1", 600), ("r-2", 499), ("r-3", 700)):
            assert list(store.journal.events(name)) == written[name][:count]
        assert [row.args for row in store.commands.pending("r-3")] == [{"n": "r-3"}]
        assert store.journal.check() == []
        assert len(list(state.glob("journal-damaged-*.db"))) == 1


@pytest.mark.parametrize(
    ("first", "told"), [(500, "saved 499 event(s) of `r-2`"), (1, "no event of `r-2` could be saved")]
)
def test_an_event_that_says_what_none_can_is_saved_around(
    hot: tuple[Path, dict[str, list[Event]]], tmp_path: Path, first: int, told: str
) -> None:
    folder, written = hot
    state = _copy(folder, tmp_path)
    with contextlib.closing(sqlite3.connect(state / "journal.db")) as connection:
        wrong = "UPDATE events SET type = 'task.ended', data = '{}' WHERE run = 'r-2' AND seq = ?"
        connection.execute(wrong, (first,))
        connection.commit()
    with Store.open(state) as store:
        assert told in store.journal.repair()
        assert store.journal.check() == []
        assert list(store.journal.events("r-3")) == written["r-3"]


def test_an_overwritten_page_is_told_and_saved_around(
    hot: tuple[Path, dict[str, list[Event]]], tmp_path: Path
) -> None:
    folder, written = hot
    state = _copy(folder, tmp_path)
    with Store.open(state) as store, store._database.lent() as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    random_ = random.Random(1)
    with (state / "journal.db").open("r+b") as file:
        pages = (state / "journal.db").stat().st_size // database.PAGE_BYTES
        for _ in range(5):
            file.seek(random_.randrange(20, pages) * database.PAGE_BYTES)
            file.write(random_.randbytes(database.PAGE_BYTES))
    assert not _read(state, written)
    with Store.open(state) as store:
        assert any("saved" in line for line in store.journal.repair())
        assert sum(row.events for row in store.journal.runs()) > 100
    assert _read(state, written)


def test_a_journal_that_lost_its_first_page_gives_back_its_events(
    hot: tuple[Path, dict[str, list[Event]]], tmp_path: Path
) -> None:
    folder, written = hot
    state = _copy(folder, tmp_path)
    with Store.open(state) as store, store._database.lent() as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with (state / "journal.db").open("r+b") as file:
        file.write(b"gone" * 1024)
    assert not _read(state, written)
    Store.repair(state)
    assert (state / "journal.db").stat().st_mode & 0o777 == 0o600, "what assistants said is the owner's alone"
    with Store.open(state) as store:
        for name, events in written.items():
            assert list(store.journal.events(name)) == events


@pytest.mark.parametrize("content", [b"", b"SQLite", b"not a database at all, but longer than a header" * 99])
def test_what_is_no_journal_is_never_taken_for_a_new_one(tmp_path: Path, content: bytes) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "runs" / "r-1").mkdir(parents=True)
    (state / "journal.db").write_bytes(content)
    with pytest.raises(StoreCorruptError) as refused:
        Store.open(state)
    assert "doctor --repair" in (refused.value.next or "")
    assert (state / "journal.db").read_bytes() == content
    said = Store.repair(state)
    assert "no event could be read" in said
    with Store.open(state) as store:
        assert store.journal.runs() == []
    assert next(state.glob("journal-damaged-*.db")).read_bytes() == content


def test_an_emptied_file_does_not_cost_the_log(
    hot: tuple[Path, dict[str, list[Event]]], tmp_path: Path
) -> None:
    state = _copy(hot[0], tmp_path)
    log = (state / "journal.db-wal").read_bytes()
    _cut(state / "journal.db", 0)
    shutil.rmtree(state / "runs")
    with pytest.raises(StoreCorruptError, match="it is empty"):
        Store.open(state)
    assert (state / "journal.db-wal").read_bytes() == log


@pytest.mark.parametrize("lost", [1, 100, 2048, 4095])
def test_a_file_cut_within_its_last_page_is_told(
    hot: tuple[Path, dict[str, list[Event]]], tmp_path: Path, lost: int
) -> None:
    folder, written = hot
    state = _copy(folder, tmp_path)
    with Store.open(state) as store, store._database.lent() as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    _cut(state / "journal.db", (state / "journal.db").stat().st_size - lost)
    with pytest.raises(StoreCorruptError, match="cut"):
        Store.open(state)
    Store.repair(state)
    assert _read(state, written)


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    Store.open(state).close()
    with contextlib.closing(sqlite3.connect(state / "journal.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    content = (state / "journal.db").read_bytes()
    with pytest.raises(StoreFormatError, match="format 99") as refused:
        Store.open(state)
    assert "upgrade" in (refused.value.next or "")
    assert (state / "journal.db").read_bytes() == content


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    with contextlib.closing(sqlite3.connect(state / "journal.db")) as connection:
        connection.execute("CREATE TABLE mine (x)")
    content = (state / "journal.db").read_bytes()
    with pytest.raises(StoreFormatError, match="something else"):
        Store.open(state)
    assert (state / "journal.db").read_bytes() == content


def test_triggers_that_someone_put_into_a_journal_never_run(tmp_path: Path) -> None:
    state = tmp_path / "state"
    Store.open(state).close()
    with contextlib.closing(sqlite3.connect(state / "journal.db")) as connection:
        connection.execute("CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM runs; END")
        connection.commit()
    with pytest.raises(StoreFormatError):
        Store.open(state)


def test_an_older_format_is_migrated_with_all_that_is_in_it(
    hot: tuple[Path, dict[str, list[Event]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, written = hot
    state = _copy(folder, tmp_path)
    steps = (
        *migrations.JOURNAL.steps,
        ("ALTER TABLE runs ADD COLUMN note TEXT", "UPDATE runs SET note = id"),
    )
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "JOURNAL", replace(migrations.JOURNAL, steps=steps))
        assert _read(state, written)
        with Store.open(state) as store, store._database.read() as connection:
            assert connection.execute("SELECT note FROM runs ORDER BY 1").fetchone() == ("r-1",)
    with pytest.raises(StoreFormatError, match="format 2; this one knows 1"):
        Store.open(state)


def test_a_migration_that_fails_changes_nothing(
    hot: tuple[Path, dict[str, list[Event]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, written = hot
    state = _copy(folder, tmp_path)
    steps = (*migrations.JOURNAL.steps, ("DROP TABLE tasks", "UPDATE nowhere SET x = 1"))
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "JOURNAL", replace(migrations.JOURNAL, steps=steps))
        with pytest.raises(StoreError):
            Store.open(state)
    assert _read(state, written)
