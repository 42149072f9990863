"""The user's stashes and what else is theirs, after turns of programs that nothing holds back, judged or not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from guard_support import Room, Stream
from hypothesis import given
from hypothesis import strategies as st

from parallelai.work.guard import stashes
from parallelai.work.guard.aftercare import Aftercare
from parallelai.work.guard.traces import STASH, VARIABLE, parse

A, B, C = "a" * 40, "b" * 40, "c" * 40
WHEN = "13:34:58.097679 refs/debug.c:435        "
DROP = f"{WHEN}reflog_expire_prepare: {STASH}\n{WHEN}reflog_expire_should_prune: WIP on main\n 17: 1\n"
PUSH = f'{WHEN}0: {STASH} {A} -> {C} (F=0x6, T=0x0) "WIP"\n'
GONE = f'{WHEN}0: {STASH} {A} -> {"0" * 40} (F=0xc, T=0x0) ""\n'


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """Two stashes of the user's, of which the guard of `gui` knows."""
    room = Room(tmp_path)
    for text in ("one\n", "two\n"):
        stash(room, text)
    return room


@pytest.fixture
def gui(room: Room, tmp_path: Path) -> Stream:
    return room.worktree(aftercare=Aftercare(room.repository, tmp_path / "events", tmp_path / "kept"))


def stash(room: Room, text: str) -> None:
    room.main.write({"shared.txt": text})
    room.main.git("stash", "push", "-q", "-m", text.strip())


def listed(room: Room) -> list[str]:
    rows = room.main.git("stash", "list", "--format=%gs").splitlines()
    return [row.partition(": ")[2] for row in rows]


def traced(stream: Stream, *command: str, at: Path | None = None) -> None:
    """What a program of the turn does with git, in its worktree or elsewhere."""
    env = {**os.environ, **stream.guard.variables()}
    subprocess.run(["git", "-C", str(at or stream.root), *command], env=env, check=True, capture_output=True)


async def test_stashes_that_a_turn_dropped_come_back_below_what_the_user_stashed_meanwhile(
    room: Room, gui: Stream
) -> None:
    def act() -> None:
        traced(gui, "stash", "clear")
        stash(room, "mine\n")

    found = await gui.turn(act)
    assert listed(room) == ["mine", "two", "one"]
    assert found.touched == (".git/refs/stash (stashes were dropped, and are back)",)
    assert room.main.git("stash", "show", "-p", "stash@{2}").endswith("+one\n")
    assert room.main.git("rev-parse", "refs/stash") == room.main.git("rev-parse", "stash@{0}")
    room.main.git("stash", "drop", "-q", "stash@{1}")
    assert listed(room) == ["mine", "one"]


async def test_what_the_user_dropped_stays_dropped_though_a_program_used_the_stash(
    room: Room, gui: Stream
) -> None:
    def act() -> None:
        gui.write({"src/b.txt": "work\n"})
        traced(gui, "stash", "push", "-q")
        room.main.git("stash", "drop", "-q", "stash@{1}")
        traced(gui, "stash", "pop", "-q")

    found = await gui.turn(act)
    assert listed(room) == ["one"]
    assert found.touched == (".git/refs/stash (stashes are gone, by whom is not known)",)
    assert found.files == ("src/b.txt",)


async def test_a_stash_of_the_user_that_is_on_top_by_now_is_not_told_as_a_programs(
    room: Room, gui: Stream
) -> None:
    def act() -> None:
        gui.write({"src/b.txt": "work\n"})
        traced(gui, "stash", "push", "-q", "-u")
        for _ in range(2):  # by whom, nobody can say
            room.main.git("stash", "drop", "-q")

    found = await gui.turn(act)
    assert (listed(room), found.kept_out) == (["one"], ())


async def test_a_turn_that_nobody_judges_is_seen_to_and_gone_on_with(room: Room, gui: Stream) -> None:
    await gui.guard.before()
    gui.write({"src/b.txt": "work\n"})
    traced(gui, "branch", "evil", at=room.main.root)
    traced(gui, "stash", "drop", "-q")
    traced(gui, "checkout", "-q", "--detach", at=room.main.root)
    room.main.git("config", "core.pager", "evil")
    told = "\n".join(await gui.guard.see_to_repository())
    for word in (".git/HEAD", ".git/refs/stash", "refs/heads/evil", ".git/config"):
        assert word in told
    assert listed(room) == ["two", "one"]
    assert room.main.git("symbolic-ref", "HEAD") == "refs/heads/main\n"
    assert "refs/heads/evil" not in room.refs()
    # What the user does until it is gone on with is theirs.
    room.main.git("config", "alias.mine", "status")
    room.main.git("stash", "drop", "-q")
    room.main.git("checkout", "-q", "-b", "mine")
    guard = gui.again()
    await guard.before()
    found = await guard.check()
    assert found.touched == ()
    assert found.files == ("src/b.txt",)
    assert listed(room) == ["one"]
    assert room.main.git("config", "alias.mine") == "status\n"
    assert room.main.git("symbolic-ref", "HEAD") == "refs/heads/mine\n"


async def test_of_a_turn_whose_process_was_killed_nothing_is_told_that_the_user_did_since(
    room: Room, gui: Stream
) -> None:
    await gui.guard.before()
    traced(gui, "checkout", "-q", "-b", "evil", at=room.main.root)
    room.main.git("commit", "-q", "--allow-empty", "-m", "went on here")
    log = room.main.root / ".git" / "logs" / "HEAD"
    os.utime(log, (later := log.stat().st_mtime + 60, later))
    guard = gui.again()
    await guard.before()
    found = await guard.check()
    assert [each for each in found.touched if "HEAD" in each or "index" in each] == []
    assert room.main.git("symbolic-ref", "HEAD") == "refs/heads/evil\n"


@pytest.mark.parametrize("is_where_it_was", [True, False])
async def test_a_branch_that_a_turn_moved_goes_back_to_what_others_had_made_of_it_meanwhile(
    room: Room, gui: Stream, is_where_it_was: bool
) -> None:
    theirs: list[str] = []

    def act() -> None:
        room.main.git("stash", "clear")
        theirs.append(room.main.commit({"elsewhere.txt": "landed\n"}))
        to = room.base if is_where_it_was else gui.git("commit-tree", "-m", "x", "HEAD^{tree}").strip()
        traced(gui, "update-ref", "refs/heads/main", to)

    found = await gui.turn(act)
    assert room.refs()["refs/heads/main"] == theirs[0]
    assert any(f"refs/heads/main ({theirs[0][:10]} → " in each for each in found.restored)


@pytest.mark.parametrize("is_edited", [False, True])
async def test_a_checkout_that_a_turn_reset_goes_along_to_what_landed_meanwhile(
    room: Room, gui: Stream, is_edited: bool
) -> None:
    landed: list[str] = []

    def act() -> None:
        room.main.git("stash", "clear")
        landed.append(room.main.commit({"elsewhere.txt": "landed\n"}))
        traced(gui, "reset", "-q", "--hard", room.base, at=room.main.root)
        if is_edited:
            room.main.write({"elsewhere.txt": "mine\n"})

    found = await gui.turn(act)
    assert room.refs()["refs/heads/main"] == landed[0]
    was, now = room.base[:10], landed[0][:10]
    if is_edited:  # nothing is written over
        assert (room.main.root / "elsewhere.txt").read_text() == "mine\n"
        assert room.main.git("status", "--porcelain", "-uno") == " M elsewhere.txt\n"
        assert any(each.startswith(".git/index (back as it was; ") for each in found.touched)
    else:
        assert room.main.git("status", "--porcelain") == ""
        assert f".git/index (left at `{was}`, and at `{now}` again, with its files)" in found.touched


@pytest.mark.parametrize(
    "words",
    [
        ("add", "evil.txt"),
        ("rm", "-q", "--cached", "elsewhere.txt"),
        ("reset", "-q", "BASE"),
        ("reset", "-q", "--hard", "BASE"),
    ],
    ids=["add", "rm", "mixed", "hard"],
)
async def test_the_index_that_a_turn_wrote_is_as_it_was_with_what_landed_meanwhile(
    room: Room, gui: Stream, words: tuple[str, ...]
) -> None:
    room.main.git("stash", "clear")
    room.main.write({"staged.txt": "staged\n"})
    room.main.git("add", "staged.txt")

    def act() -> None:
        room.main.write({"elsewhere.txt": "landed\n", "evil.txt": "evil\n"})
        room.main.git("add", "elsewhere.txt")
        room.main.git("commit", "-qm", "landed", "--only", "elsewhere.txt")
        traced(gui, *(room.base if each == "BASE" else each for each in words), at=room.main.root)

    found = await gui.turn(act)
    assert room.main.git("diff", "--cached", "--name-only") == "staged.txt\n"
    assert any(each.startswith(".git/index (back as it was; ") for each in found.touched)


@pytest.mark.parametrize("is_edited", [False, True])
async def test_a_checkout_that_a_turn_took_off_its_branch_goes_along_to_what_landed_meanwhile(
    room: Room, gui: Stream, is_edited: bool
) -> None:
    room.main.git("stash", "clear")
    landed = room.main.commit({"landed.txt": "landed\n"})
    room.main.git("reset", "-q", "--hard", room.base)
    room.main.write({"shared.txt": "staged\n"})
    room.main.git("add", "shared.txt")

    def act() -> None:
        traced(gui, "checkout", "-q", "--detach", at=room.main.root)
        room.main.git("update-ref", "refs/heads/main", landed)
        if is_edited:
            room.main.write({"landed.txt": "mine\n"})

    found = await gui.turn(act)
    assert room.main.git("branch", "--show-current") == "main\n"
    assert room.main.git("diff", "--cached", "--name-only") == "shared.txt\n"
    assert (room.main.root / "landed.txt").read_text() == ("mine\n" if is_edited else "landed\n")
    assert room.main.git("status", "--porcelain", "-uno").count("landed.txt") == is_edited
    assert any(each.startswith(".git/HEAD (was put on ") for each in found.touched)


@pytest.mark.parametrize("is_in_checkout", [True, False])
@pytest.mark.parametrize("has_trace", [True, False])  # codex without a sandbox of ours gets none
async def test_what_a_turn_stashed_of_the_checkout_is_told(
    room: Room, gui: Stream, monkeypatch: pytest.MonkeyPatch, is_in_checkout: bool, has_trace: bool
) -> None:
    if not has_trace:
        given = gui.guard.variables
        monkeypatch.setattr(gui.guard, "variables", lambda: {**given(), VARIABLE: "0"})
    room.main.write({"shared.txt": "mine\n"})

    def act() -> None:
        gui.write({"src/a.txt": "its own\n"})
        traced(gui, "stash", at=room.main.root if is_in_checkout else None)

    found = await gui.turn(act)
    told = [".git/refs/stash (one more; `git stash pop` in your checkout brings it back)"]
    assert list(found.touched) == (told if is_in_checkout else [])


async def test_a_branch_that_a_turn_put_on_what_it_is_on_stays(room: Room, gui: Stream) -> None:
    found = await gui.turn(lambda: traced(gui, "update-ref", "refs/heads/main", room.base))
    assert (room.refs()["refs/heads/main"], found.restored) == (room.base, ())


@pytest.mark.parametrize(
    ("trace", "now", "is_dropped"),
    [
        (DROP, [A], True),
        (GONE, [], True),
        (PUSH + DROP, [A], False),
        (PUSH + DROP, [A, B, C], True),
        (PUSH + DROP + DROP, [A], True),
        (PUSH + DROP + GONE, [], False),
        (PUSH + DROP + f"{WHEN}ref_store for .git\n" + GONE, [], True),
        (DROP.replace(STASH, "HEAD"), [A], False),
        (DROP.replace("17: 1", "17: 0"), [A], False),
    ],
)
def test_only_a_drop_of_what_a_program_had_not_stashed_itself_counts(
    trace: str, now: list[str], is_dropped: bool
) -> None:
    assert stashes.has_dropped(parse(trace), [A, B], now) is is_dropped


def row(old: str, new: str) -> bytes:
    return f"{old} {new} A <a@b> 1 +0000\tWIP\n".encode()


@given(st.lists(st.sampled_from("abcdef"), unique=True), st.lists(st.sampled_from("abcdef"), unique=True))
def test_what_was_there_stays_in_its_order_with_what_came_above_it(before: list[str], now: list[str]) -> None:
    logs = [b"".join(row("0" * 40, each * 40) for each in names) for names in (before, now)]
    names = [*before, *(each for each in now if each not in before)]
    olds = ["0", *names]
    expected = b"".join(row(old * 40, new * 40) for old, new in zip(olds, names, strict=False))
    assert stashes.merged(*logs) == expected
