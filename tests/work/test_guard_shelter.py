"""What a sandbox has of git for itself, and what the guard takes from there; git, sandboxes and attacks are real."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from guard_support import Room, Stream
from repositories import everything

from parallelai import processes
from parallelai.processes import Confinement, Program, environment
from parallelai.work.guard import righting, taking_in
from parallelai.work.guard.place import git_dir_of
from parallelai.work.guard.taking_in import is_object, take_in
from parallelai.work.sheltering import Shelter
from parallelai.work.streams import indexes
from parallelai.work.streams.places import entry_of

ONES, PATCHED = "1\n" * 3, "only in a commit\n"
needs_sandbox = pytest.mark.skipif("bubblewrap" not in processes.confinements(), reason="needs bubblewrap")


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


@pytest.fixture
def gui(room: Room) -> Stream:
    shelter = Shelter(
        room.folder / "state" / "work" / "git" / "gui", room.repository.common, "parallelai/gui"
    )
    return room.worktree(shelter=shelter, is_confined=True)


def shelter_of(gui: Stream) -> Shelter:
    assert gui.settings.shelter is not None
    return gui.settings.shelter


def admin(room: Room) -> Path:
    return room.repository.common / "worktrees" / "gui"


async def in_sandbox(room: Room, gui: Stream, script: str, by: Any = "bubblewrap") -> str:
    """Run a script as an assistant would, and give what it printed."""
    temporary = room.folder / "temporary"
    temporary.mkdir(exist_ok=True)
    shelter = shelter_of(gui)
    is_sheltered = by == "bubblewrap"
    confinement = Confinement(
        writable=(str(gui.root),),
        temporary=str(temporary),
        readable=(str(gui.root), str(room.repository.common), sys.base_prefix, str(room.folder / "borrowed")),
        hidden=(str(room.folder / "state"),),
        mounts=shelter.mounts(admin(room)) if is_sheltered else (),
        by=by,
    )
    who = {
        f"GIT_{role}_{what}": f"a{sign}"
        for role in ("AUTHOR", "COMMITTER")
        for what, sign in (("NAME", ""), ("EMAIL", "@b.invalid"))
    }
    program = Program(
        ("bash", "-c", f"G={room.repository.common}; A={admin(room)}\n{script}"),
        cwd=gui.root,
        env={**environment(), **who, "GIT_CONFIG_GLOBAL": "/dev/null"},
        confinement=confinement,
    )
    return (await processes.run(program)).stdout.decode()


WORKS = f"""
set -e
printf '{ONES}' > src/a.txt; git add -A; git commit -qm one
printf '{PATCHED}' > src/new.txt; git add -A; git commit -qm two; git reset -q --hard HEAD^
git checkout -q -b parallelai/side; echo s > src/side.txt; git add -A; git commit -qm side
git checkout -q parallelai/gui
git log --format=%s -1; git diff --quiet main -- other; git status --porcelain
git log 2>&1 > /dev/null; echo good
"""


@needs_sandbox
async def test_commits_in_a_sandbox_work_and_change_nothing_outside(room: Room, gui: Stream) -> None:
    borrowed = room.folder / "borrowed" / "objects"
    borrowed.mkdir(parents=True)
    (room.repository.common / "objects" / "info" / "alternates").write_text("../../../borrowed/objects\n")
    await gui.guard.before()
    before = everything(room.repository.common)
    assert (await in_sandbox(room, gui, WORKS)).split() == ["one", "good"]
    assert everything(room.repository.common) == before
    guarded = await gui.guard.check()
    assert (len(guarded.undone), guarded.files) == (1, ("src/a.txt",))
    commit = await gui.guard.commit("Work")
    assert gui.shown(commit, "src/a.txt") == ONES
    assert gui.git("rev-parse", "HEAD", "parallelai/gui").split() == [commit, commit]
    assert any("side.txt" in patch.read_text() for patch in gui.patches())
    subprocess.run(["git", "fsck"], cwd=room.main.root, check=True, capture_output=True)


DETOUR = """
set -e
git checkout -q --detach; echo lost > src/lost.txt; git add -A; git commit -qm lost; git checkout -q parallelai/gui
"""


@needs_sandbox
async def test_commits_that_are_left_on_no_branch_in_a_sandbox_are_kept_as_a_patch(
    room: Room, gui: Stream
) -> None:
    await gui.guard.before()
    await in_sandbox(room, gui, DETOUR)
    (kept,) = (await gui.guard.check()).kept_out
    assert "+lost" in (room.main.root / str(kept.patch)).read_text()
    await gui.guard.before()
    assert (await gui.guard.check()).kept_out == ()


ATTACK = """
find $G -name '*.lock' -o -type f -exec chmod u+w {} +
find $G/objects -type f -delete; rm -rf $G/refs/heads/parallelai/* $G/logs/refs $G/worktrees/other
ln -s ../main $G/refs/heads/parallelai/other; ln -s $G/refs/heads $G/refs/heads/parallelai/gui
echo "$(git rev-parse main) refs/heads/evil" > $G/packed-refs; echo x > $G/refs/heads/main
echo x > $G/config; mkdir -p $G/hooks; echo x > $G/hooks/pre-commit
rm -rf $A/HEAD $A/logs; ln -s $G/HEAD $A/HEAD; ln -s $G $A/logs; echo "$G" > $A/commondir; echo x > $A/gitdir
rm $A/index; ln -s $G/config $A/index
echo "/nowhere" > $G/objects/info/alternates; echo b > src/a.txt
"""


@needs_sandbox
@pytest.mark.parametrize("by", ["bubblewrap", "landlock"])
async def test_nothing_of_git_can_be_destroyed_from_a_sandbox(room: Room, gui: Stream, by: str) -> None:
    if by not in processes.confinements():
        pytest.skip(f"needs {by}")
    room.worktree("other")
    commit = gui.git("commit-tree", "-p", "HEAD", "-m", "others", "HEAD^{tree}").strip()
    room.main.git("update-ref", "refs/heads/parallelai/other", commit)
    await gui.guard.before()
    before = everything(room.repository.common)
    await in_sandbox(room, gui, ATTACK, by)
    after = everything(room.repository.common)
    assert {name: each[2] for name, each in after.items()} == {name: each[2] for name, each in before.items()}
    assert (await gui.guard.check()).files == ("src/a.txt",)
    head = await gui.guard.commit("Work")
    assert gui.git("rev-parse", "HEAD", "parallelai/gui").split() == [head, head]
    assert gui.git("status", "--porcelain") == ""
    assert not any(path.is_symlink() for path in admin(room).iterdir())


async def test_landlock_has_no_commits_and_files_are_taken_all_the_same(room: Room, gui: Stream) -> None:
    if "landlock" not in processes.confinements():
        pytest.skip("needs landlock")
    await gui.guard.before()
    script = (
        "echo b > src/a.txt; git add -A 2> /dev/null || echo no; git commit -qam x 2> /dev/null || echo no"
    )
    said = await in_sandbox(room, gui, f"{script}; git status --porcelain", "landlock")
    assert said.split() == ["no", "no", "M", "src/a.txt"]
    assert (await gui.guard.check()).files == ("src/a.txt",)


def commit_there(room: Room, gui: Stream, files: dict[str, str]) -> str:
    """Make a commit with objects of the sandbox's own, and put its copy of the branch there."""
    shelter = shelter_of(gui)
    env = {
        **os.environ,
        "GIT_DIR": str(room.repository.common),
        "GIT_INDEX_FILE": str(room.folder / "index"),
        "GIT_OBJECT_DIRECTORY": str(shelter.objects),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(room.repository.common / "objects"),
        **{f"GIT_{role}_{what}": "a" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }

    def git(*arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["git", *arguments], env=env, input=stdin, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("read-tree", room.base)
    for path, text in files.items():
        blob = git("hash-object", "-w", "--stdin", stdin=text)
        git("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}")
    commit = git("commit-tree", git("write-tree"), "-p", room.base, "-m", "own")
    (shelter.objects.parent / "refs" / "gui").write_text(f"{commit}\n")
    return commit


def object_file(gui: Stream, name: str) -> Path:
    return shelter_of(gui).objects / name[:2] / name[2:]


def _other_content(room: Room, gui: Stream, commit: str) -> None:
    blob = subprocess.run(["git", "hash-object", "--stdin"], input=b"own\n", capture_output=True, check=True)
    path = object_file(gui, blob.stdout.decode().strip())
    path.chmod(0o644)
    path.write_bytes(zlib.compress(b"blob 5\0evil\n"))


def _gone(room: Room, gui: Stream, commit: str) -> None:
    for path in shelter_of(gui).objects.glob("??/*"):
        if path.parent.name + path.name != commit:
            path.unlink()


def _elsewhere(room: Room, gui: Stream, commit: str) -> None:
    """All that is missing lies in a folder that only a list of the sandbox's own leads to."""
    objects = shelter_of(gui).objects
    moved = room.folder / "elsewhere"
    moved.mkdir()
    for folder in objects.glob("??"):
        folder.rename(moved / folder.name)
    (objects / "info" / "alternates").write_text(f"{moved}\n")


def _linked(room: Room, gui: Stream, commit: str) -> None:
    objects = shelter_of(gui).objects
    for folder in list(objects.glob("??")):
        folder.rename(room.folder / folder.name)
        folder.symlink_to(room.folder / folder.name)


def _pipe(room: Room, gui: Stream, commit: str) -> None:
    path = object_file(gui, commit)
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("how", [_other_content, _gone, _elsewhere, _linked, _pipe])
async def test_a_commit_of_a_sandbox_that_is_not_whole_counts_for_nothing(
    room: Room, gui: Stream, how: Any
) -> None:
    await gui.guard.before()
    commit = commit_there(room, gui, {"src/own.txt": "own\n"})
    gui.write({"src/a.txt": "b\n"})
    how(room, gui, commit)
    guarded = await gui.guard.check()
    assert (guarded.undone, guarded.files) == ((), ("src/a.txt",))
    assert await gui.guard.commit("Work") == gui.git("rev-parse", "parallelai/gui").strip()
    done = subprocess.run(
        ["git", "cat-file", "-e", commit], cwd=room.main.root, capture_output=True, check=False
    )
    assert done.returncode != 0


async def test_files_come_back_to_the_commit_that_a_sandbox_left_its_branch_at(
    room: Room, gui: Stream
) -> None:
    await gui.guard.before()
    commit_there(room, gui, {"src/own.txt": PATCHED})
    (shelter_of(gui).admin / "HEAD").write_text(f"{room.base}\n")
    guarded = await gui.guard.check()
    assert "no branch" in guarded.said
    assert gui.lying()["src/own.txt"] == ("file", PATCHED.encode())
    assert guarded.files == ("src/own.txt",)


async def test_a_killed_turn_is_judged_by_what_its_sandbox_left(room: Room, gui: Stream) -> None:
    await gui.guard.before()
    commit = commit_there(room, gui, {"src/own.txt": PATCHED})
    await gui.again().before()
    assert (await gui.guard.check()).undone == (commit,)
    await gui.guard.before()
    assert (await gui.guard.check()).undone == ()


@pytest.mark.parametrize("how", ["a link", "a pipe", "another name", "gone"])
async def test_a_branch_of_a_sandbox_that_is_none_changes_nothing(room: Room, gui: Stream, how: str) -> None:
    await gui.guard.before()
    ref = shelter_of(gui).objects.parent / "refs" / "gui"
    ref.unlink()
    if how == "a link":
        ref.symlink_to(room.repository.common / "refs" / "heads" / "main")
    elif how == "a pipe":
        os.mkfifo(ref)
    elif how == "another name":
        ref.write_text("ref: refs/heads/main\n")
    gui.write({"src/a.txt": "b\n"})
    assert (await gui.guard.check()).files == ("src/a.txt",)
    head = await gui.guard.commit("Work")
    assert gui.git("rev-parse", "parallelai/gui", "main").split() == [head, room.base]


async def test_what_it_cloned_of_submodules_is_where_the_worktree_says_and_stays(
    room: Room, gui: Stream
) -> None:
    await gui.guard.before()
    (shelter_of(gui).admin / "modules" / "sub").mkdir(parents=True)
    await gui.guard.check()
    assert (admin(room) / "modules" / "sub").is_dir()
    await gui.guard.before()
    assert (shelter_of(gui).admin / "modules" / "sub").is_dir()


async def test_a_worktree_that_another_one_claims_is_found_all_the_same(room: Room, gui: Stream) -> None:
    room.worktree("a")
    claiming = room.repository.common / "worktrees" / "a" / "gitdir"
    claiming.write_text(f"{gui.root}/.git\n")
    entry = entry_of(room.repository, gui.root)
    assert entry is not None
    assert (entry.admin, git_dir_of(room.repository, gui.root)) == (admin(room), admin(room))


async def test_a_commit_of_more_files_than_anybody_has_counts_for_nothing(
    room: Room, gui: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(righting, "MOST_LISTED_BYTES", 2_000)
    await gui.guard.before()
    commit_there(room, gui, {f"src/{number:0200}": "x\n" for number in range(10)})
    gui.write({"src/a.txt": "b\n"})
    guarded = await gui.guard.check()
    assert (guarded.undone, guarded.files) == ((), ("src/a.txt",))


async def test_an_index_that_claims_to_be_huge_counts_as_none(
    room: Room, gui: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "MOST_BYTES", 1_000_000)
    await gui.guard.before()
    os.truncate(shelter_of(gui).admin / "index", 1_000_001)
    gui.write({"src/a.txt": "b\n"})
    assert (await gui.guard.check()).files == ("src/a.txt",)
    assert all(path.stat().st_size < 1_000_000 for path in gui.settings.folder.rglob("*"))


def test_objects_are_taken_until_a_turns_bytes_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking_in, "MOST_BYTES", 1_500_000)
    source, target = tmp_path / "from", tmp_path / "to"
    (source / "00").mkdir(parents=True)
    (source / "8b").mkdir()
    target.mkdir()
    false = zlib.compress(b"blob 1000000\0" + bytes(1_000_000))
    good = zlib.compress(b"blob 4\0abc\n")
    for number in range(2):
        (source / "00" / f"{number:038}").write_bytes(false)
    (source / "8b" / "aef1b4abc478178b004d62031cf7fe6db6f903").write_bytes(good)
    take_in(source, target)
    assert not list(target.iterdir())


def test_an_object_is_one_only_if_its_name_says_so(tmp_path: Path) -> None:
    data = b"blob 4\0abc\n"
    name, packed = "8baef1b4abc478178b004d62031cf7fe6db6f903", zlib.compress(data)
    assert is_object(name, packed)
    for other in (
        packed[:-5],
        packed + b"x",
        data,
        b"",
        zlib.compress(b"blob 3\0abc\n"),
        zlib.compress(data * 2),
    ):
        assert not is_object(name, other)
    (tmp_path / "from" / "8b").mkdir(parents=True)
    (tmp_path / "to").mkdir()
    (tmp_path / "from" / "8b" / name[2:]).write_bytes(packed)
    (tmp_path / "from" / "8b" / name[2:-1]).write_bytes(packed)
    take_in(tmp_path / "from", tmp_path / "to")
    assert [path.name for path in (tmp_path / "to" / "8b").iterdir()] == [name[2:]]
