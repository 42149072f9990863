"""The snapshot holds exactly what lies in the checkout, and the user's repository does not notice it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from repositories import Repository, everything, lying, taken

from parallelai.errors import ParallelAIError, StoreFullError, UsageError
from parallelai.work.scratch.snapshot import open_snapshot, take_snapshot


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.start(tmp_path / "r")


@pytest.fixture
def private(tmp_path: Path) -> Path:
    return tmp_path / "private" / "base.git"


async def test_takes_staged_unstaged_and_new_work_but_nothing_ignored(
    repository: Repository, private: Path
) -> None:
    repository.commit(
        {"same": "1\n", "staged": "1\n", "edited": "1\n", "gone": "1\n", ".gitignore": "*.log\n"}
    )
    repository.write({"staged": "2\n"}).git("add", "staged")
    repository.write({"edited": "2\n", "new/file": "n\n", "x.log": "l\n"})
    (repository.root / "gone").unlink()
    snapshot = await take_snapshot(repository.root, private)
    expected = lying(repository.root)
    del expected["x.log"]
    assert await taken(snapshot) == expected
    parent = await snapshot.git.line("rev-parse", f"{snapshot.commit}^")
    assert parent == snapshot.head == repository.git("rev-parse", "HEAD").strip()


@pytest.mark.parametrize("state", ["clean", "dirty", "staged", "touched", "split", "packed"])
async def test_nothing_is_written_to_the_users_repository(
    repository: Repository, private: Path, state: str
) -> None:
    repository.commit({"a": "1\n", "d/b": "2\n"})
    if state == "packed":
        repository.git("gc", "-q")
    if state == "split":
        repository.git("update-index", "--split-index")
    if state in ("dirty", "split"):
        repository.write({"a": "3\n", "new": "n\n"})
    if state == "staged":
        repository.write({"a": "3\n", "e/new": "n\n"}).git("add", "-A")
    for top, _, files in os.walk(repository.root):
        for name in files:
            # Old enough that any later time shows; the checkout's own too, so that git's notes are out of date.
            os.utime(Path(top) / name, (1_600_000_000, 1_600_000_000))
    before = everything(repository.root)
    snapshot = await take_snapshot(repository.root, private)
    assert everything(repository.root) == before
    assert await taken(snapshot) == lying(repository.root)


async def test_an_edit_in_the_same_tick_as_the_last_add_is_seen(
    repository: Repository, private: Path
) -> None:
    repository.write({"a": "1\n"}).git("add", "a")
    index = repository.root / ".git" / "index"
    moment = (repository.root / "a").stat().st_mtime_ns
    repository.write({"a": "2\n"})  # as long as before, and not a tick later
    os.utime(repository.root / "a", ns=(moment, moment))
    os.utime(index, ns=(moment, moment))
    snapshot = await take_snapshot(repository.root, private)
    assert (await taken(snapshot))["a"] == ("file", b"2\n")


async def test_a_repository_without_commits(repository: Repository, private: Path) -> None:
    repository.write({"a": "1\n"})
    snapshot = await take_snapshot(repository.root, private)
    assert snapshot.head is None
    assert await taken(snapshot) == lying(repository.root)


async def test_an_empty_repository(repository: Repository, private: Path) -> None:
    snapshot = await take_snapshot(repository.root, private)
    assert await taken(snapshot) == {}


async def test_a_linked_worktree(repository: Repository, private: Path) -> None:
    repository.commit({"a": "1\n", "b": "1\n"})
    linked = Repository(repository.root.parent / "linked")
    repository.git("worktree", "add", "-q", str(linked.root), "-b", "other")
    linked.write({"a": "2\n", "new": "n\n"})
    snapshot = await take_snapshot(linked.root, private)
    expected = lying(linked.root)
    del expected[".git"]
    assert await taken(snapshot) == expected


async def test_a_shallow_clone(repository: Repository, private: Path, tmp_path: Path) -> None:
    repository.commit({"a": "1\n"})
    repository.commit({"a": "2\n"})
    url = repository.root.as_uri()
    repository.git("clone", "-q", "--depth=1", url, str(tmp_path / "shallow"))
    shallow = Repository(tmp_path / "shallow").write({"a": "3\n"})
    snapshot = await take_snapshot(shallow.root, private)
    assert await taken(snapshot) == lying(shallow.root)
    assert len((await snapshot.git.line("log", "--format=%H", snapshot.commit)).split()) == 2


async def test_sha256(tmp_path: Path, private: Path) -> None:
    repository = Repository.start(tmp_path / "r", "--object-format=sha256")
    repository.commit({"a": "1\n"})
    repository.write({"a": "2\n", "b": "1\n"})
    snapshot = await take_snapshot(repository.root, private)
    assert len(snapshot.commit) == 64
    assert await taken(snapshot) == lying(repository.root)


async def test_names_links_and_programs_of_every_kind(repository: Repository, private: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    names = [
        "-x",
        "a b",
        "n\nl",
        '"q"',
        "é😀",
        "*",
        ":(top)x",
        "t\tab",
        "back\\slash",
        odd,
        " lead",
        "trail ",
    ]
    repository.commit({f"tracked {name}": "1\n" for name in names})
    repository.write({f"tracked {name}": "2\n" for name in names[::2]} | dict.fromkeys(names, "n\n"))
    (repository.root / "link").symlink_to("a b")
    (repository.root / "out").symlink_to("/etc/passwd")
    (repository.root / "broken").symlink_to("nowhere")
    repository.write({"run": "#!/bin/sh\n"})
    (repository.root / "run").chmod(0o755)
    snapshot = await take_snapshot(repository.root, private)
    assert await taken(snapshot) == lying(repository.root)


async def test_folders_links_and_files_that_took_each_others_place(
    repository: Repository, private: Path
) -> None:
    repository.commit(
        {"file": "1\n", "folder/a": "1\n", "linked/a": "1\n", "linked/b": "1\n", "target/a": "1\n"}
    )
    (repository.root / "file").unlink()
    repository.write({"file/inside": "2\n"})
    for name in ("folder", "linked"):
        for path in (repository.root / name).iterdir():
            path.unlink()
        (repository.root / name).rmdir()
    repository.write({"folder": "a file\n"})
    (repository.root / "linked").symlink_to("target")
    snapshot = await take_snapshot(repository.root, private)
    assert await taken(snapshot) == lying(repository.root)


async def test_files_in_conflict_are_taken_as_they_lie(repository: Repository, private: Path) -> None:
    repository.commit({"a": "1\n", "b": "1\n"})
    repository.git("switch", "-q", "-c", "other")
    repository.commit({"a": "2\n"})
    repository.git("switch", "-q", "main")
    repository.commit({"a": "3\n"})
    with pytest.raises(AssertionError):
        repository.git("merge", "-q", "other")
    snapshot = await take_snapshot(repository.root, private)
    assert await taken(snapshot) == lying(repository.root)
    assert b"<<<<<<<" in (await taken(snapshot))["a"][1]


@pytest.mark.parametrize(
    "attributes", ["* text=auto\n", "*.txt text eol=crlf\n", "*.txt ident\n", "*.txt filter=up\n"]
)
async def test_files_are_taken_byte_by_byte_whatever_git_makes_of_them(
    repository: Repository, private: Path, attributes: str
) -> None:
    repository.git("config", "filter.up.clean", "tr a-z A-Z")
    repository.git("config", "filter.up.smudge", "tr A-Z a-z")
    repository.git("config", "filter.up.required", "true")
    repository.write({".gitattributes": attributes, "a.txt": b"one\r\ntwo $Id$\r\n", "b.txt": "same\n"})
    for name in ("a.txt", "b.txt"):  # so old that git takes its index's word for them
        os.utime(repository.root / name, (1_600_000_000, 1_600_000_000))
    repository.commit()
    repository.write({"c.txt": b"new\r\n"})
    snapshot = await take_snapshot(repository.root, private)
    assert await taken(snapshot) == lying(repository.root)


async def test_what_the_user_ignores_elsewhere_is_ignored_too(
    repository: Repository, private: Path, tmp_path: Path, home: Path
) -> None:
    (tmp_path / "mine").write_text("*.mine\n")
    (home / ".gitconfig").write_text(f"[core]\n\texcludesFile = {tmp_path}/mine\n")
    (repository.root / ".git" / "info").mkdir(exist_ok=True)
    (repository.root / ".git" / "info" / "exclude").write_text("*.clone\n")
    repository.commit({"a": "1\n"})
    repository.write({"b.mine": "1\n", "c.clone": "1\n", "d": "1\n"})
    snapshot = await take_snapshot(repository.root, private)
    assert sorted(await taken(snapshot)) == ["a", "d"]
    excluded = (snapshot.repository / "info" / "exclude").read_text()
    assert "*.mine" in excluded
    assert "*.clone" in excluded


async def test_a_sparse_checkout_is_taken_as_it_lies(repository: Repository, private: Path) -> None:
    repository.commit({"in/a": "1\n", "out/b": "1\n", "top": "1\n"})
    repository.git("sparse-checkout", "set", "--cone", "--sparse-index", "in")
    repository.write({"in/a": "2\n"})
    snapshot = await take_snapshot(repository.root, private)
    assert await taken(snapshot) == lying(repository.root)


async def test_no_program_of_the_repository_is_run(
    repository: Repository, private: Path, tmp_path: Path
) -> None:
    repository.commit({"a.txt": "1\n", ".gitattributes": "*.txt filter=evil diff=evil\n"})
    trap = tmp_path / "trapped"
    script = tmp_path / "trap"
    script.write_text(f"#!/bin/sh\ntouch {trap}\ncat\n")
    script.chmod(0o755)
    for key in (
        "core.fsmonitor",
        "filter.evil.clean",
        "filter.evil.process",
        "diff.evil.textconv",
        "core.pager",
    ):
        repository.git("-c", "core.fsmonitor=false", "config", key, str(script))
    repository.git("-c", "core.fsmonitor=false", "config", "alias.ls-files", f"!{script}")
    hooks = repository.root / ".git" / "hooks"
    for name in ("post-index-change", "pre-commit", "reference-transaction", "fsmonitor-watchman"):
        hooks.mkdir(exist_ok=True)
        (hooks / name).write_text(script.read_text())
        (hooks / name).chmod(0o755)
    repository.write({"a.txt": "2\n"})
    snapshot = await take_snapshot(repository.root, private)
    assert (await taken(snapshot))["a.txt"] == ("file", b"2\n")
    assert not trap.exists()


async def test_outside_git_it_is_refused(tmp_path: Path, private: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(UsageError, match="git"):
        await take_snapshot(tmp_path / "plain", private)
    assert not private.exists()


async def test_a_snapshot_is_opened_again(repository: Repository, private: Path) -> None:
    repository.commit({"a": "1\n"})
    repository.write({"a": "2\n"})
    snapshot = await take_snapshot(repository.root, private)
    repository.commit({"a": "3\n"})
    again = await open_snapshot(repository.root, private)
    assert again is not None
    assert (again.commit, again.size) == (snapshot.commit, 4096)
    assert (await taken(again))["a"] == ("file", b"2\n")
    assert await open_snapshot(repository.root, private.parent / "other.git") is None


async def test_a_file_that_cannot_be_read_is_named(repository: Repository, private: Path) -> None:
    if os.geteuid() == 0:
        os.mkfifo(repository.root / "pipe")  # whoever may read all files has others that are none
        snapshot = await take_snapshot(repository.root, private)
        assert await taken(snapshot) == {}
        return
    repository.write({"secret": "1\n"})
    (repository.root / "secret").chmod(0)
    with pytest.raises(ParallelAIError, match="secret"):
        await take_snapshot(repository.root, private)


async def test_collecting_garbage_of_the_user_does_not_take_staged_work_from_it(
    repository: Repository, private: Path
) -> None:
    repository.commit({"a": "1\n"})
    repository.write({"a": "2\n"}).git("add", "a")
    snapshot = await take_snapshot(repository.root, private)
    repository.git("reset", "-q", "--hard")
    repository.git("prune", "--expire=now")
    assert (await taken(snapshot))["a"] == ("file", b"2\n")


def test_the_oldest_git_that_is_enough_is_here() -> None:
    version = subprocess.run(["git", "version"], capture_output=True, text=True, check=True).stdout.split()[2]
    assert tuple(int(part) for part in version.split(".")[:2]) >= (2, 39)


async def test_submodules_are_taken_as_plain_files(
    repository: Repository, private: Path, tmp_path: Path
) -> None:
    inner = Repository.start(tmp_path / "inner")
    inner.commit({"lib.c": "1\n", "deep/x": "1\n", ".gitignore": "*.o\n"})
    allow = ("-c", "protocol.file.allow=always")
    repository.git(*allow, "submodule", "--quiet", "add", str(inner.root), "sub")
    repository.git(*allow, "submodule", "--quiet", "add", str(inner.root), "empty")
    repository.commit({"a": "1\n"})
    repository.git("submodule", "--quiet", "deinit", "-f", "empty")
    repository.write({"sub/lib.c": "2\n", "sub/new": "n\n", "sub/x.o": "ignored\n"})
    snapshot = await take_snapshot(repository.root, private)
    expected = lying(repository.root)
    del expected["sub/.git"], expected["sub/x.o"]
    assert await taken(snapshot) == expected
    assert snapshot.submodules == ("empty",)
    again = await open_snapshot(repository.root, private)
    assert again is not None
    assert again.submodules == ("empty",)


async def test_other_repositories_inside_are_not_taken(repository: Repository, private: Path) -> None:
    repository.commit({"a": "1\n"})
    Repository.start(repository.root / "other").commit({"b": "1\n"})
    snapshot = await take_snapshot(repository.root, private)
    assert sorted(await taken(snapshot)) == ["a"]


async def test_a_folder_that_is_not_the_top_is_refused(repository: Repository, private: Path) -> None:
    repository.commit({"src/a": "1\n"})
    with pytest.raises(UsageError, match="not its top"):
        await take_snapshot(repository.root / "src", private)


async def test_a_full_disk_is_said_before_anything_is_taken(
    repository: Repository, private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit({"a": "1\n"})
    repository.write({"big": b"x" * 1_000_000})
    full = shutil.disk_usage(repository.root)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(StoreFullError, match=r"only 0 MB are free in .*, and 69 MB are needed"):
        await take_snapshot(repository.root, private)
