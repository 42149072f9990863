"""Real repositories for the tests of work: a user's checkout, changed by real git."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from parallelai.git.plumbing import Git
from parallelai.work.scratch.snapshot import Snapshot

T = TypeVar("T")
WHO = (
    *("-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false"),
    *("-c", "maintenance.auto=false"),  # or each commit starts a second git
)


class Repository:
    """A checkout at `root`, and what its user does there."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def start(cls, root: Path, *arguments: str) -> Repository:
        root.mkdir(parents=True)
        made = cls(root)
        made.git("init", "-q", "-b", "main", *arguments)
        return made

    def git(self, *arguments: str) -> str:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        env = {**clean, "GIT_CONFIG_NOSYSTEM": "1"}
        argv = ["git", *WHO, *arguments]
        done = subprocess.run(argv, cwd=self.root, env=env, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return os.fsdecode(done.stdout)

    def write(self, files: dict[str, str | bytes]) -> Repository:
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return self

    def commit(self, files: dict[str, str | bytes] | None = None) -> str:
        self.write(files or {})
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "c")
        return self.git("rev-parse", "HEAD").strip()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Wait for something in a loop of its own, for tests that Hypothesis calls often."""
    return asyncio.run(work)


def everything(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that lies below a folder: kind and mode, time in nanoseconds, content."""
    found = {}
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(top) / name
            status = path.lstat()
            content = b""
            if path.is_symlink():
                content = os.fsencode(path.readlink())
            elif path.is_file():
                content = path.read_bytes()
            found[str(path.relative_to(folder))] = (status.st_mode, status.st_mtime_ns, content)
    return found


def lying(folder: Path) -> dict[str, tuple[str, bytes]]:
    """The files below a folder as git would see them, without its own: kind and content."""
    found = {}
    for top, folders, files in os.walk(folder):
        if ".git" in folders and Path(top) == folder:
            folders.remove(".git")
        for name in (*files, *(each for each in folders if (Path(top) / each).is_symlink())):
            path = Path(top) / name
            if path.is_symlink():
                kind, content = "link", os.fsencode(path.readlink())
            else:
                kind = "program" if path.stat().st_mode & 0o100 else "file"
                content = path.read_bytes()
            found[str(path.relative_to(folder))] = (kind, content)
    return found


async def taken(snapshot: Snapshot, commit: str | None = None) -> dict[str, tuple[str, bytes]]:
    """The files of a commit of the private repository, as `lying` gives those of a folder."""
    kinds = {b"100644": "file", b"100755": "program", b"120000": "link", b"160000": "repository"}
    listed = await snapshot.git.run("ls-tree", "-r", "-z", commit or snapshot.commit)
    found = {}
    for row in listed.split(b"\0")[:-1]:
        meta, path = row.split(b"\t", 1)
        mode, _, blob = meta.split()
        data = b"" if mode == b"160000" else await snapshot.git.run("cat-file", "blob", blob.decode())
        found[os.fsdecode(path)] = (kinds[mode], data)
    return found


def private_git(repository: Path) -> Git:
    return Git(repository)


def discard(folder: Path) -> None:
    shutil.rmtree(folder)
