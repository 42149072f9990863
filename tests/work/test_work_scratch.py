"""Scratch repositories: their own, cheap to measure, and nothing that may not be comes out of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from repositories import Repository, everything, lying, taken

from parallelai.errors import UsageError
from parallelai.work.scratch import folders, measuring
from parallelai.work.scratch.folders import Conflict, Folder
from parallelai.work.scratch.snapshot import Snapshot, take_snapshot

FILES: dict[str, str | bytes] = {
    "a": "1\n",
    "src/b": "1\n",
    "src/c": "1\n",
    ".gitignore": "*.log\nnode_modules\n.env\n",
}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository.start(tmp_path / "r")
    repository.commit(FILES)
    return repository


@pytest.fixture
async def snapshot(repository: Repository, tmp_path: Path) -> Snapshot:
    return await take_snapshot(repository.root, tmp_path / "private" / "base.git")


async def cut(
    snapshot: Snapshot, path: Path, base: str | None = None, brought: frozenset[str] = frozenset()
) -> Folder:
    index = path.parent / "indexes" / path.name
    folder = await folders.check_out(snapshot, base or snapshot.commit, path, index)
    folder = Folder(folder.path, folder.base, folder.index, brought)
    await folders.make_repository(snapshot, folder)
    return folder


async def test_it_is_a_clean_repository_of_its_own(
    repository: Repository, snapshot: Snapshot, tmp_path: Path
) -> None:
    before = everything(repository.root)
    folder = await cut(snapshot, tmp_path / "w")
    own = Repository(folder.path)
    assert own.git("status", "--porcelain") == ""
    assert own.git("rev-parse", "HEAD").strip() == snapshot.commit
    assert own.git("symbolic-ref", "HEAD").strip() == folders.BRANCH
    assert own.git("remote") == ""
    assert lying(folder.path) == lying(repository.root)
    own.write({"a": "2\n"}).git("stash")
    own.git("config", "core.editor", "x")
    own.git("branch", "other")
    own.git("gc", "-q")
    assert everything(repository.root) == before


async def test_edits_of_every_kind_and_own_commits_are_measured(snapshot: Snapshot, tmp_path: Path) -> None:
    folder = await cut(snapshot, tmp_path / "w", brought=frozenset({".env", "node_modules"}))
    own = Repository(folder.path)
    own.commit({"committed": "1\n"})
    own.git("switch", "-q", "-c", "elsewhere")
    own.git("rm", "-q", "--cached", "src/b")
    own.write({"src/b": b"bin\0ary", "new/x": "1\n", "x.log": "1\n", ".env": "1\n"})
    (folder.path / "node_modules").symlink_to(tmp_path)
    (folder.path / "a").rename(folder.path / "moved")
    (folder.path / "src" / "c").chmod(0o755)
    (folder.path / "link").symlink_to("src/c")
    measure = await folders.measure(snapshot, folder)
    assert measure.files == ("a", "committed", "link", "moved", "new/x", "src/b", "src/c")
    assert measure.kept_out == ()
    expected = lying(folder.path)
    for name in ("x.log", ".env", "node_modules"):
        del expected[name]
    assert await taken(snapshot, measure.commit) == expected
    assert (await folders.measure(snapshot, folder)) == measure
    (folder.path / "new" / "x").unlink()
    again = await folders.measure(snapshot, folder)
    assert set(measure.files) - set(again.files) == {"new/x"}


async def test_an_untouched_folder_has_no_change(snapshot: Snapshot, tmp_path: Path) -> None:
    folder = await cut(snapshot, tmp_path / "w")
    Repository(folder.path).git("commit", "-q", "--allow-empty", "-m", "nothing")
    for top, _, files in os.walk(folder.path):
        for name in files:
            os.utime(Path(top) / name)
    assert (await folders.measure(snapshot, folder)).files == ()


async def test_what_may_not_be_is_kept_out_and_named(
    snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = await cut(snapshot, tmp_path / "w")
    own = Repository(folder.path)
    monkeypatch.setattr(measuring, "MAX_FILE_BYTES", 1000)
    bad: dict[str, str | bytes] = {
        "A": "1\n", "SRC/x": "1\n", "big": b"x" * 1001, "sub/.GIT/config": "1\n", "git~1/x": "1\n", ".git /x": "1\n",
        ".parallelai/roles/x": "1\n", "parallelai.toml": "1\n", "s\u200bub/.g\u200cit/x": "1\n",
    }  # fmt: skip
    own.write(bad).write({"good": "1\n"})
    links = {
        "out": "/etc/passwd",
        "up": "../x",
        "gits": ".git/config",
        "here": str(folder.path / "a"),
        "loop": "loop",
    }
    links |= {"src/gits": "../.git", ".gitmodules": "a"}
    for name, target in links.items():
        (folder.path / name).symlink_to(target)
    (folder.path / "inside").symlink_to("src/b")
    Repository.start(folder.path / "nested").commit({"x": "1\n"})
    os.mkfifo(folder.path / "src" / "pipe")
    (folder.path / "a").unlink()
    os.mkfifo(folder.path / "a")
    measure = await folders.measure(snapshot, folder)
    assert measure.files == ("good", "inside")
    assert set(measure.kept_out) == {*bad, *links, "nested/", "a"}


async def test_what_was_fine_and_then_was_not_is_as_in_the_base(snapshot: Snapshot, tmp_path: Path) -> None:
    folder = await cut(snapshot, tmp_path / "w")
    own = Repository(folder.path).write({"a": "2\n", "new": "1\n"})
    assert (await folders.measure(snapshot, folder)).files == ("a", "new")
    for name in ("a", "new"):
        (own.root / name).unlink()
        (own.root / name).symlink_to("/etc/passwd")
    measure = await folders.measure(snapshot, folder)
    assert measure.files == ()
    assert measure.kept_out == ("a", "new")


async def test_nothing_that_the_folder_configures_is_run(snapshot: Snapshot, tmp_path: Path) -> None:
    folder = await cut(snapshot, tmp_path / "w")
    trap = tmp_path / "trapped"
    script = tmp_path / "trap"
    script.write_text(f"#!/bin/sh\ntouch {trap}\ncat\n")
    script.chmod(0o755)
    own = Repository(folder.path).write(
        {".gitattributes": "* filter=evil diff=evil merge=evil\n", "a": "2\n"}
    )
    for key in (
        "filter.evil.clean",
        "filter.evil.smudge",
        "diff.evil.command",
        "diff.evil.textconv",
        "core.fsmonitor",
    ):
        own.git("-c", "core.fsmonitor=false", "config", key, str(script))
    (folder.path / ".git" / "info" / "exclude").write_text("*\n")
    measure = await folders.measure(snapshot, folder)
    patch = await folders.patch_of(snapshot, snapshot.commit, measure.commit, set(measure.files))
    await folders.restore(snapshot, folder, measure.files)
    assert measure.files == (".gitattributes", "a")
    assert b"+2\n" in patch
    assert not trap.exists()


async def test_a_broken_or_missing_git_folder_does_not_matter(snapshot: Snapshot, tmp_path: Path) -> None:
    folder = await cut(snapshot, tmp_path / "w")
    folders.remove(folder.path / ".git")
    (folder.path / ".git").write_text("gitdir: /etc\n")
    Repository(folder.path).write({"a": "2\n"})
    assert (await folders.measure(snapshot, folder)).files == ("a",)


async def test_restoring_drops_what_was_changed_and_follows_no_link(
    snapshot: Snapshot, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / "b" / "deep").mkdir(parents=True)
    (outside / "b" / "deep" / "x").write_text("1\n")
    folder = await folders.check_out(snapshot, snapshot.commit, tmp_path / "w", tmp_path / "index")
    before = lying(folder.path)
    Repository(folder.path).write({"new/x": "1\n", "a": "2\n"})
    folders.remove(folder.path / "src")
    (folder.path / "src").symlink_to(outside)
    measure = await folders.measure(snapshot, folder)
    await folders.restore(snapshot, folder, (*measure.files, *measure.kept_out))
    assert lying(folder.path) == before
    assert (outside / "b" / "deep" / "x").exists()


async def test_changes_of_several_tasks_are_put_together(snapshot: Snapshot, tmp_path: Path) -> None:
    commits = []
    for name, files in {"one": {"a": "2\n"}, "two": {"src/b": "2\n"}, "three": {"new": "1\n"}}.items():
        folder = await cut(snapshot, tmp_path / name)
        Repository(folder.path).write({**files})
        commits.append((name, (await folders.measure(snapshot, folder)).commit))
    merged = await folders.merge(snapshot, snapshot.commit, commits)
    found = await taken(snapshot, merged)
    assert (found["a"][1], found["src/b"][1], found["new"][1]) == (b"2\n", b"2\n", b"1\n")
    later = await cut(snapshot, tmp_path / "later", merged)
    Repository(later.path).write({"a": "3\n"})
    after = (await folders.measure(snapshot, later)).commit
    both = await folders.merge(snapshot, snapshot.commit, [commits[0], ("later", after)])
    assert (await taken(snapshot, both))["a"][1] == b"3\n"


async def test_changes_that_do_not_fit_name_the_paths(snapshot: Snapshot, tmp_path: Path) -> None:
    commits = []
    for name in ("one", "two"):
        folder = await cut(snapshot, tmp_path / name)
        Repository(folder.path).write({"a": f"{name}\n", "src/c": f"{name}\n"})
        commits.append((name, (await folders.measure(snapshot, folder)).commit))
    with pytest.raises(Conflict, match=r"`a`, `src/c`"):
        await folders.merge(snapshot, snapshot.commit, commits)


async def test_files_that_worktreeinclude_names_by_gits_rules(repository: Repository, tmp_path: Path) -> None:
    repository.write({".worktreeinclude": "# mine\n.env\n!not/.env\n", ".env": "1\n", "deep/er/.env": "1\n"})
    repository.write({"not/.env": "1\n", "x.log": "1\n", "node_modules/.env/x": "1\n"})
    snapshot = await take_snapshot(repository.root, tmp_path / "base.git")
    assert sorted(await folders.included(snapshot)) == [".env", "deep/er/.env", "node_modules/.env/x"]


async def test_what_comes_along_leads_nowhere_else(
    repository: Repository, snapshot: Snapshot, tmp_path: Path
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("1\n")
    (repository.root / "node_modules").symlink_to(tmp_path / "secret")
    repository.write({"conf/x": "1\n", "conf/.git/config": "1\n"})
    (repository.root / "conf" / "out").symlink_to(tmp_path / "secret")
    (repository.root / "conf" / "up").symlink_to("../../secret")
    (repository.root / "conf" / "in").symlink_to("x")
    folder = tmp_path / "w"
    folder.mkdir()
    for bring in (folders.copy_in, folders.link_in):
        with pytest.raises(UsageError, match="leads out"):
            bring(snapshot, folder, ["node_modules"])
    folders.copy_in(snapshot, folder, ["conf"])
    assert lying(folder) == {"conf/x": ("file", b"1\n"), "conf/in": ("link", b"x")}
    (folder / "trap").symlink_to(tmp_path / "secret")
    repository.write({"trap/new": "1\n"})
    folders.copy_in(snapshot, folder, ["trap/new"])
    assert sorted(os.listdir(tmp_path / "secret")) == ["key"]


def test_any_folder_can_be_removed_and_nothing_else_is(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("1\n")
    top = tmp_path / "w"
    top.mkdir()
    (top / "link").symlink_to(outside)
    (top / "closed" / "inner").mkdir(parents=True)
    (top / "closed" / "inner" / "x").write_text("1\n")
    (top / "closed" / "inner").chmod(0o000)
    (top / "closed").chmod(0o500)
    os.mkfifo(top / "pipe")
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(1500):  # far longer than a path may be, far deeper than a call may be
        os.mkdir("deeper", dir_fd=descriptor)
        inner = os.open("deeper", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    folders.remove(top)
    assert not top.exists()
    assert (outside / "kept").exists()
    (tmp_path / "to").symlink_to(outside)
    folders.remove(tmp_path / "to")
    folders.remove(tmp_path / "nowhere")
    assert (outside / "kept").exists()


async def test_the_patch_is_what_git_applies(
    repository: Repository, snapshot: Snapshot, tmp_path: Path
) -> None:
    folder = await cut(snapshot, tmp_path / "w")
    Repository(folder.path).write({"src/b": b"bin\0ary\xff", "new é": "1\n"})
    (folder.path / "a").rename(folder.path / "moved")
    measure = await folders.measure(snapshot, folder)
    patch = await folders.patch_of(snapshot, snapshot.commit, measure.commit, set(measure.files))
    subprocess.run(["git", "apply", "-"], cwd=repository.root, input=patch, check=True)
    assert lying(repository.root) == lying(folder.path)
