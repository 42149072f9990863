"""What git took out of a sparse worktree's files after it was added or committed there is judged as all else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from guard_support import BASE, Room, Stream

from parallelai.errors import StoreFullError
from parallelai.processes import Completed
from parallelai.work.guard.place import Place


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


@pytest.fixture
def gui(room: Room) -> Stream:
    """A worktree that shows one file."""
    made = room.worktree()
    made.git("sparse-checkout", "set", "--no-cone", "/src/a.txt")
    return made


def hides(gui: Stream) -> None:
    gui.git("sparse-checkout", "reapply")
    assert not (gui.root / "src/new.txt").exists()


def staged(gui: Stream) -> None:
    gui.write({"src/new.txt": "mine\n"})
    gui.git("add", "--sparse", "src/new.txt")
    hides(gui)


def committed(gui: Stream) -> None:
    gui.write({"src/new.txt": "mine\n"})
    gui.git("add", "--sparse", "src/new.txt")
    gui.git("commit", "--quiet", "--message", "c")
    hides(gui)


def moved(gui: Stream) -> None:
    gui.write({"src/a.txt": "mine\n"})
    gui.git("add", "src/a.txt")
    gui.git("mv", "--sparse", "src/a.txt", "src/new.txt")
    hides(gui)


@pytest.mark.parametrize("act", [staged, committed, moved])
async def test_what_was_added_outside_of_what_is_shown_is_part_of_the_work(
    gui: Stream, act: Callable[[Stream], None]
) -> None:
    found = await gui.turn(lambda: act(gui))
    assert "src/new.txt" in found.files
    assert found.kept_out == ()
    assert gui.shown(await gui.guard.commit("x"), "src/new.txt") == "mine\n"
    found = await gui.turn()
    assert (found.files, found.kept_out) == ((), ())


async def test_it_is_that_also_where_the_index_is_in_two_parts(gui: Stream) -> None:
    gui.git("update-index", "--split-index")
    assert (await gui.turn(lambda: committed(gui))).files == ("src/new.txt",)


async def test_what_may_not_be_changed_is_kept_out_there_too(gui: Stream) -> None:
    def trespasses() -> None:
        gui.write({"other/x.txt": "mine\n", "src/b.txt": "unread\n"})
        gui.git("add", "--sparse", "other/x.txt", "src/b.txt")
        gui.git("commit", "--quiet", "--message", "c")
        gui.git("sparse-checkout", "reapply")

    found = await gui.turn(trespasses)
    assert found.files == ()
    assert {each.path: each.why for each in found.out} == {"other/x.txt": "not_owned", "src/b.txt": "unseen"}
    assert all(any(text in each.read_text() for each in gui.patches()) for text in ("+mine", "+unread"))


@pytest.mark.parametrize("is_link", [False, True])
async def test_what_something_else_lies_in_the_place_of_is_kept_and_the_rest_counts(
    gui: Stream, tmp_path: Path, is_link: bool
) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()

    def replaces() -> None:
        gui.write({"src/d/new.txt": "mine\n", "src/z.txt": "mine, too\n"})
        gui.git("add", "--sparse", "src")
        gui.git("commit", "--quiet", "--message", "c")
        gui.git("sparse-checkout", "reapply")
        if is_link:
            (gui.root / "src/d").symlink_to(beside)
        else:
            gui.write({"src/d": "a file\n"})

    found = await gui.turn(replaces)
    assert "src/z.txt" in found.files
    (kept,) = [each for each in found.kept_out if "something else lies" in each.why]
    assert kept.patch is not None
    patch = (gui.room.main.root / kept.patch).read_text()
    assert "b/src/d/new.txt" in patch
    assert "src/z.txt" not in patch
    assert list(beside.iterdir()) == []


async def test_half_a_file_is_none(gui: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a full disk has no room for is not taken for what was written."""
    whole = Place.attempt

    async def half(place: Place, *words: str, stdin: bytes = b"", index: Path | None = None) -> Completed:
        done = await whole(place, *words, stdin=stdin, index=index)
        if words[0] != "checkout-index":
            return done
        (found,) = gui.root.rglob("new.txt")
        found.write_text("mi")
        return msgspec.structs.replace(done, stderr=b"error: unable to write file src/new.txt\n")

    await gui.guard.before()
    committed(gui)
    with monkeypatch.context() as patched:
        patched.setattr(Place, "attempt", half)
        with pytest.raises(StoreFullError):
            await gui.guard.check()
    assert (await gui.guard.check()).files == ("src/new.txt",)
    assert (gui.root / "src/new.txt").read_text() == "mine\n"
    assert list(gui.root.glob(".parallelai-*")) == []


async def test_an_older_commit_that_was_looked_at_brings_nothing_back(room: Room, gui: Stream) -> None:
    gui.git("sparse-checkout", "disable")
    await gui.turn(lambda: gui.write({"src/b.txt": "newer\n"}))
    head = await gui.guard.commit("x")
    gui.git("sparse-checkout", "set", "--no-cone", "/src/a.txt")
    await gui.turn()
    found = await gui.turn(lambda: gui.git("checkout", "--quiet", "--detach", room.base))
    assert (found.files, found.kept_out) == ((), ())
    assert gui.shown(head, "src/b.txt") == "newer\n"
    assert BASE["src/b.txt"] != "newer\n"
