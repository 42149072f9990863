"""What git says of a project's files, in real repositories: ordinary, odd and hostile ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from parallelai.errors import UsageError
from parallelai.git.listing import changed_since, existing, list_files, staged


class Repository:
    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false")
        clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        done = subprocess.run(
            ["git", *who, *arguments], cwd=self.root, env=clean, capture_output=True, text=True, check=True
        )
        return done.stdout

    def start(self) -> Repository:
        self.git("init", "-q", "-b", "main")
        return self

    def write(self, *names: str, text: str = "x\n") -> None:
        for name in names:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def commit(self, message: str = "c") -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD").strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "r").start()


def listed(root: Path) -> list[str]:
    tree = list_files(root)
    assert tree is not None
    assert tree.root == root
    return list(tree.paths)


# --- Listing


def test_folders_a_thousand_deep_are_listed(tmp_path: Path) -> None:
    name = "a/" * 1_100
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1_100):
        os.mkdir("a", dir_fd=folder)
        above, folder = folder, os.open("a", os.O_RDONLY, dir_fd=folder)
        os.close(above)
    os.close(os.open("x.py", os.O_CREAT, dir_fd=folder))
    os.symlink("x.py", "y.py", dir_fd=folder)
    os.close(folder)
    assert existing(tmp_path, [f"{name}x.py", f"{name}y.py", f"{name}y.py/z.py"]) == [
        f"{name}x.py",
        f"{name}y.py",
    ]
    subprocess.run(["rm", "-rf", str(tmp_path / "a")], check=True)  # pytest's own way goes down by recursion


def test_lists_tracked_and_new_files_but_not_ignored_or_deleted_ones(repository: Repository) -> None:
    repository.write("a.py", "src/b.py", "gone.py")
    repository.write(".gitignore", text="*.log\nbuild/\n")
    repository.commit()
    repository.write("new.py", "x.log", "build/y.py")
    (repository.root / "gone.py").unlink()
    assert listed(repository.root) == [".gitignore", "a.py", "new.py", "src/b.py"]


def test_a_folder_of_a_repository_is_listed_from_itself(repository: Repository) -> None:
    repository.write("a.py", "src/b.py", "src/deep/c.py")
    repository.commit()
    assert listed(repository.root / "src") == ["b.py", "deep/c.py"]


def test_names_of_every_kind(repository: Repository) -> None:
    names = ["-x.py", "a b.py", "n\nl.py", '"q".py', "é😀.py", "*.py", ":(top)x.py", "t\tab.py"]
    repository.write(*names)
    odd = os.fsdecode(b"caf\xe9.py")
    (repository.root / odd).write_text("x\n")
    assert listed(repository.root) == sorted([*names, odd])


def test_links_are_files_and_other_repositories_are_left_out(repository: Repository) -> None:
    repository.write("a.py")
    (repository.root / "link").symlink_to("/etc")
    inner = Repository(repository.root / "inner").start()
    inner.write("b.py")
    inner.commit()
    repository.commit()  # adds `inner` as a link to a commit, which git warns of
    fresh = Repository(repository.root / "fresh").start()
    fresh.write("c.py")
    assert listed(repository.root) == ["a.py", "link"]


def test_a_file_in_conflict_is_listed_once(repository: Repository) -> None:
    repository.write("a.py", text="1\n")
    repository.commit()
    repository.git("switch", "-q", "-c", "other")
    repository.write("a.py", text="2\n")
    repository.commit()
    repository.git("switch", "-q", "main")
    repository.write("a.py", text="3\n")
    repository.commit()
    with pytest.raises(subprocess.CalledProcessError):
        repository.git("merge", "-q", "other")
    assert listed(repository.root) == ["a.py"]
    assert staged(repository.root) == ["a.py"]


def test_outside_git_there_is_no_listing(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x\n")
    assert list_files(tmp_path) is None


def test_without_git_there_is_no_listing(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository.root))
    assert list_files(repository.root) is None


def test_an_empty_repository_has_no_files(repository: Repository) -> None:
    assert listed(repository.root) == []
    assert staged(repository.root) == []


def test_a_damaged_repository_has_no_listing(repository: Repository) -> None:
    repository.write("a.py")
    repository.commit()
    (repository.root / ".git/index").write_bytes(b"not an index")
    assert list_files(repository.root) is None
    with pytest.raises(UsageError):
        staged(repository.root)


def test_variables_of_an_outer_git_do_not_lead_elsewhere(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Repository(tmp_path / "other").start()
    other.write("other.py")
    other.commit()
    repository.write("a.py")
    monkeypatch.setenv("GIT_DIR", str(other.root / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.root))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.root / ".git/index"))
    assert listed(repository.root) == ["a.py"]


def test_nothing_that_the_repository_names_is_run_and_nothing_is_written(
    repository: Repository, tmp_path: Path
) -> None:
    repository.write("a.py", "b.py")
    repository.write(".gitattributes", text="*.py filter=evil diff=evil\n")
    base = repository.commit()
    ran = tmp_path / "ran"
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch '{ran}'\ncat\n")
    script.chmod(0o755)
    for key in ("core.fsmonitor", "filter.evil.clean", "filter.evil.process", "diff.evil.command"):
        repository.git("config", key, str(script))
    repository.git("config", "diff.evil.textconv", str(script))
    repository.git("config", "diff.external", str(script))
    hooks = repository.root / ".git/hooks"
    for name in ("post-index-change", "fsmonitor-watchman", "query-watchman"):
        (hooks / name).write_text(script.read_text())
        (hooks / name).chmod(0o755)
    for file in ("a.py", "b.py"):
        os.utime(repository.root / file, (1, 1))  # git has to look into them to know
    repository.write("a.py", text="other\n")
    index = (repository.root / ".git/index").read_bytes()
    assert listed(repository.root) == [".gitattributes", "a.py", "b.py"]
    assert changed_since(repository.root, base) == ["a.py"]
    assert staged(repository.root) == []
    assert not ran.exists()
    assert (repository.root / ".git/index").read_bytes() == index


# --- Changes


def test_what_changed_since_a_branch_is_what_this_one_did(repository: Repository) -> None:
    repository.write("a.py", "b.py", "c.py", "d.py", "e.py", "src/f.py")
    repository.commit()
    repository.git("switch", "-q", "-c", "feature")
    repository.write("a.py", text="committed\n")
    repository.commit()
    repository.git("switch", "-q", "main")
    repository.write("e.py", text="on main\n")
    repository.commit()
    repository.git("switch", "-q", "feature")
    repository.write("b.py", text="edited\n")
    repository.write("c.py", text="staged\n")
    repository.git("add", "c.py")
    (repository.root / "d.py").unlink()
    repository.write("src/new.py")
    assert changed_since(repository.root, "main") == ["a.py", "b.py", "c.py", "src/new.py"]
    assert changed_since(repository.root / "src", "main") == ["new.py"]
    assert changed_since(repository.root, "HEAD") == ["b.py", "c.py", "src/new.py"]


def test_only_touched_is_not_changed(repository: Repository) -> None:
    repository.write("a.py")
    repository.commit()
    os.utime(repository.root / "a.py", (1, 1))
    assert changed_since(repository.root, "HEAD") == []


def test_a_renamed_file_is_changed_under_its_new_name(repository: Repository) -> None:
    repository.write("a.py", text="long enough to be seen as the same\n" * 5)
    repository.commit()
    repository.git("mv", "a.py", "b.py")
    assert changed_since(repository.root, "HEAD") == ["b.py"]
    assert staged(repository.root) == ["b.py"]


def test_unrelated_histories_are_compared_as_they_are(repository: Repository) -> None:
    repository.write("a.py")
    repository.commit()
    repository.git("switch", "-q", "--orphan", "other")
    repository.write("b.py")
    repository.commit()
    assert changed_since(repository.root, "main") == ["b.py"]


@pytest.mark.parametrize("ref", ["nowhere", "-x", "--output=x", "", "HEAD:a.py", "a\0b", "main..main"])
def test_what_is_no_commit_is_refused(repository: Repository, ref: str) -> None:
    repository.write("a.py")
    repository.commit()
    with pytest.raises(UsageError):
        changed_since(repository.root, ref)
    assert not (repository.root / "x").exists()


def test_changes_need_a_repository(tmp_path: Path) -> None:
    for ask in (lambda: changed_since(tmp_path, "HEAD"), lambda: staged(tmp_path)):
        with pytest.raises(UsageError, match="not a git repository"):
            ask()


def test_what_is_staged(repository: Repository) -> None:
    repository.write("a.py", "b.py", "c.py")
    repository.commit()
    repository.write("a.py", "new.py", text="staged\n")
    repository.git("rm", "-q", "c.py")
    repository.git("add", "a.py", "new.py")
    repository.write("b.py", text="not staged\n")
    assert staged(repository.root) == ["a.py", "new.py"]


def test_a_hook_names_another_index(repository: Repository) -> None:
    repository.write("a.py", "b.py")
    repository.commit()
    repository.write("a.py", "b.py", text="2\n")
    usual = repository.root / ".git/index"
    other = repository.root / ".git/next-index"
    before = usual.read_bytes()
    repository.git("add", "b.py")
    other.write_bytes(usual.read_bytes())
    usual.write_bytes(before)
    assert staged(repository.root) == []
    assert staged(repository.root, index_file=other) == ["b.py"]


def test_what_lies_behind_a_link_is_not_the_projects(repository: Repository) -> None:
    repository.write("d/a.py", "real/a.py")
    repository.commit()
    (repository.root / "d" / "a.py").unlink()
    (repository.root / "d").rmdir()
    (repository.root / "d").symlink_to("real")
    assert listed(repository.root) == ["d", "real/a.py"]


def test_an_edit_in_the_tick_of_the_last_add_is_a_change(repository: Repository) -> None:
    repository.write("a.py", text="1\n")
    repository.commit()
    path = repository.root / "a.py"
    moment = path.stat().st_mtime_ns
    path.write_text("2\n")  # as long as before
    os.utime(path, ns=(moment, moment))
    os.utime(repository.root / ".git" / "index", ns=(moment, moment))
    assert changed_since(repository.root, "HEAD") == ["a.py"]
