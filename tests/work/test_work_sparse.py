"""Scratch folders that hold a part of the files: what was not written there is as it was."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repositories import Repository
from work_support import Hands, git, make_repository

from parallelai import AsyncParallelAI, Task
from parallelai.engines.protocol import Request
from parallelai.events import AttemptEnded, GuardKeptOut
from parallelai.plan.model import Workspace
from parallelai.work.scratch import folders, sparse
from parallelai.work.scratch.folders import Folder
from parallelai.work.scratch.snapshot import Snapshot, take_snapshot

FILES: dict[str, str | bytes] = {
    ".gitignore": "*.log\n",
    "README": "1\n",
    "src/a": "1\n",
    "src/b": "1\n",
    "docs/.gitignore": "made\n",
    "docs/x": "1\n",
    "docs/deep/y": "1\n",
}


@pytest.fixture
async def snapshot(tmp_path: Path) -> Snapshot:
    repository = Repository.start(tmp_path / "r")
    repository.commit(FILES)
    return await take_snapshot(repository.root, tmp_path / "private" / "base.git")


async def cut(snapshot: Snapshot, path: Path, *wanted: str) -> Folder:
    index = path.parent / "indexes" / path.name
    folder = await folders.check_out(snapshot, snapshot.commit, path, index, wanted=wanted)
    await folders.make_repository(snapshot, folder)
    return folder


def files_in(folder: Folder) -> set[str]:
    paths = (path.relative_to(folder.path) for path in folder.path.rglob("*") if not path.is_dir())
    return {str(path) for path in paths if path.parts[0] != ".git"}


async def test_only_what_is_wanted_is_written_and_nothing_is_gone(snapshot: Snapshot, tmp_path: Path) -> None:
    folder = await cut(snapshot, tmp_path / "w", "src/**", "!src/b")
    own = Repository(folder.path)
    assert files_in(folder) == {".gitignore", "docs/.gitignore", "src/a"}
    assert own.git("status", "--porcelain") == ""
    assert (await folders.measure(snapshot, folder)).files == ()

    own.write({"src/a": "2\n", "src/new": "1\n", "src/x.log": "1\n"})
    own.git("add", "--all")
    own.git("commit", "-q", "-m", "own")
    measure = await folders.measure(snapshot, folder)

    assert measure.files == ("src/a", "src/new")
    assert measure.kept_out == ()
    listed = await snapshot.git.run("ls-tree", "-r", "--name-only", measure.commit)
    assert set(listed.decode().split()) == {*FILES, "src/new"}, "the change is one of the whole tree"


async def test_what_is_written_over_an_unseen_file_is_kept_out_and_new_files_beside_it_count(
    snapshot: Snapshot, tmp_path: Path
) -> None:
    folder = await cut(snapshot, tmp_path / "w", "src")
    Repository(folder.path).write({"docs/x": "mine\n", "docs/new": "mine\n"})
    measure = await folders.measure(snapshot, folder)
    assert measure.files == ("docs/new",)
    assert measure.kept_out == measure.unseen == ("docs/x",)
    (folder.path / "docs" / "x").unlink()
    (folder.path / "docs" / "new").unlink()
    measure = await folders.measure(snapshot, folder)
    assert measure.files == measure.kept_out == ()


async def test_a_link_to_a_folder_that_is_written_over_an_unseen_one_is_kept_out(tmp_path: Path) -> None:
    repository = Repository.start(tmp_path / "r")
    repository.write(FILES)
    (repository.root / "docs" / "link").symlink_to("deep")
    repository.commit()
    snapshot = await take_snapshot(repository.root, tmp_path / "private" / "base.git")
    folder = await cut(snapshot, tmp_path / "w", "src")
    (folder.path / "docs" / "link").symlink_to("../src")
    measure = await folders.measure(snapshot, folder)
    assert (measure.files, measure.kept_out) == ((), ("docs/link",))


async def test_what_would_take_the_place_of_unseen_files_is_kept_out(
    snapshot: Snapshot, tmp_path: Path
) -> None:
    folder = await cut(snapshot, tmp_path / "w", "src")
    own = Repository(folder.path)
    (folder.path / "docs" / ".gitignore").unlink()
    (folder.path / "docs").rmdir()
    own.write({"docs": "a file\n", "README/x": "a folder\n", "src/a": "2\n"})
    measure = await folders.measure(snapshot, folder)
    assert measure.files == ("docs/.gitignore", "src/a")
    listed = (await snapshot.git.run("ls-tree", "-r", "--name-only", measure.commit)).decode().split()
    assert set(listed) == FILES.keys() - {"docs/.gitignore"}
    assert set(measure.kept_out) == {"docs", "README/x"}


async def test_what_a_check_does_is_taken_back(snapshot: Snapshot, tmp_path: Path) -> None:
    folder = await cut(snapshot, tmp_path / "w", "src")
    own = Repository(folder.path)
    own.write({"src/a": "2\n", "docs/x": "mine\n"})
    before = await folders.measure(snapshot, folder)
    own.write({"src/a": "3\n", "README": "a check's\n"})

    new = await folders.take_back(snapshot, folder, frozenset(before.kept_out))
    after = await folders.measure(snapshot, folder, new)

    assert before.files == after.files == ("src/a",)
    assert before.kept_out == after.kept_out == ("docs/x",), "the check's is nobody's"
    assert (folder.path / "src" / "a").read_text() == "2\n"


async def test_a_folder_that_is_shared_is_restored_as_it_was_laid_out(
    snapshot: Snapshot, tmp_path: Path
) -> None:
    folder = await cut(snapshot, tmp_path / "w", "src")
    before = files_in(folder)
    Repository(folder.path).write({"src/a": "2\n", "docs/x": "mine\n"})
    (folder.path / "src" / "b").unlink()
    measure = await folders.measure(snapshot, folder)
    await folders.restore(snapshot, folder, (*measure.files, *measure.kept_out))
    assert files_in(folder) == before
    assert (folder.path / "src" / "a").read_text() == "1\n"


async def test_one_that_is_opened_again_knows_what_it_has_not(snapshot: Snapshot, tmp_path: Path) -> None:
    folder = await cut(snapshot, tmp_path / "w", "src")
    again = await folders.skipped_in(snapshot, folder.base, ("src",))
    assert again == folder.skipped == {"README", "docs/x", "docs/deep/y"}
    everything = dataclasses.replace(folder, skipped=frozenset())
    assert (await folders.measure(snapshot, everything)).files == ()
    assert again <= files_in(folder), "without it they would be laid out"


async def test_a_task_sees_a_part_and_its_change_applies_to_the_whole(tmp_path: Path) -> None:
    root = make_repository(tmp_path / "repo", {name: str(text) for name, text in FILES.items()})
    seen: dict[str, set[str]] = {}

    def act(request: Request, folder: Path) -> str:
        paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        seen[request.task] = {str(path) for path in paths if path.parts[0] != ".git"}
        (folder / "src" / request.task).write_text("made\n")
        (folder / "src" / "b").unlink(missing_ok=True)
        return "done"

    part = Workspace(sparse=("src",))
    tasks = [
        Task(id="one", description="x", engine="hands", edits=True, workspace=part),
        Task(id="two", description="x", engine="hands", edits=True, workspace=part, depends_on=["one"]),
    ]
    async with AsyncParallelAI(root, engines=[Hands(act)]) as ai:
        document = await ai.execute(tasks=tasks, apply=True)

    assert document.exit == 0
    changes = [task.change for task in document.tasks]
    assert [change.files for change in changes if change is not None] == [("src/b", "src/one"), ("src/two",)]
    assert seen["one"] == {".gitignore", "docs/.gitignore", "src/a", "src/b"}
    assert seen["two"] == {".gitignore", "docs/.gitignore", "src/a", "src/one"}
    assert git(root, "status", "--porcelain", "-uall") == " D src/b\n?? src/one\n?? src/two\n"


async def test_a_task_that_writes_over_what_it_could_not_see_loses_nobodys_work(tmp_path: Path) -> None:
    root = make_repository(tmp_path / "repo", {name: str(text) for name, text in FILES.items()})
    (root / "docs" / "x").write_text("1\nmine, not committed\n")

    def act(request: Request, folder: Path) -> str:
        if request.task == "prepared":
            assert (folder / "docs" / "deep" / "y").read_text() == "the setup's\n"
            (folder / "docs" / "deep" / "y").write_text("mine\n")
            return "done"
        (folder / "docs" / "x").write_text("replaced\n")
        if request.task == "both":
            (folder / "docs" / "new").write_text("made\n")
        return "done"

    part = Workspace(sparse=("src",))
    setup = ("sh", "-c", "mkdir -p docs/deep && echo the setup\\'s > docs/deep/y")
    wanted = {"both": part, "only": part, "prepared": part.model_copy(update={"setup": (setup,)})}
    tasks = [
        Task(id=name, description="x", engine="hands", edits=True, workspace=workspace, retries=0)
        for name, workspace in wanted.items()
    ]
    async with AsyncParallelAI(root, engines=[Hands(act)]) as ai:
        document = await ai.execute(tasks=tasks, apply=True)
        told = [event.data for event in ai.runs.events()]

    both, only, prepared = document.tasks
    assert prepared.change is not None
    assert (prepared.change.files, prepared.change.kept_out) == (("docs/deep/y",), ()), "it saw that one"
    assert both.change is not None
    assert (both.change.files, both.change.kept_out) == (("docs/new",), ("docs/x",))
    kept_out = next(data for data in told if isinstance(data, GuardKeptOut))
    assert (kept_out.paths, kept_out.why) == (("docs/x",), "the task could not see it (`sparse`)")
    replies = [data.reply for data in told if isinstance(data, AttemptEnded) and data.reply is not None]
    assert any(note.startswith("wrote `docs/x`, which it could") for reply in replies for note in reply.notes)
    assert only.error is not None
    assert "`docs/x`" in only.error.said
    assert "`sparse`" in str(only.error.next)
    assert (root / "docs" / "x").read_text() == "1\nmine, not committed\n"
    assert (root / "docs" / "new").read_text() == "made\n"


_NAMES = st.frozensets(st.sampled_from(["a", "d", "d/a", "d/e", "d/e/a", "f/a"]))


@given(_NAMES, _NAMES)
def test_nothing_that_changed_stands_in_the_way_of_files_that_nobody_saw(
    differing: frozenset[str], skipped: frozenset[str]
) -> None:
    seen = sparse.look(Path("nowhere"), differing, skipped)
    assert seen.changed | seen.hiding == differing - skipped
    assert not seen.unseen, "none of them lies there"
    for name in seen.changed:
        assert not any(f"{name}/".startswith(f"{other}/") for other in skipped)
        assert not any(f"{other}/".startswith(f"{name}/") for other in skipped)
