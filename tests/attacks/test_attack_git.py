"""Listing the files of a repository that nobody trusts runs nothing that its configuration names."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from parallelai.errors import UsageError
from parallelai.git.listing import changed_since, list_files, staged


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))


def git(root: Path, *arguments: str) -> None:
    options = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *options, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init")
    (root / "a.py").write_text("a = 1\n")
    git(root, "add", ".")
    git(root, "commit", "-m", "first")
    (root / "a.py").write_text("a = 2\n")
    os.utime(root / "a.py", (1, 1))
    return root


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program that leaves `sprung` beside it when it is started."""
    path = tmp_path / "trap"
    path.write_text(f"#!/bin/sh\ntouch '{tmp_path / 'sprung'}'\ncat\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize("name", ["x", "x=y", "=", "x.y", "X", "a b", 'q"q', "é"])
@pytest.mark.parametrize("key", ["clean", "process", "CLEAN"])
def test_no_filter_of_the_repository_is_run_whatever_its_name(
    root: Path, trap: Path, name: str, key: str
) -> None:
    quoted = name.replace('"', '\\"')
    with (root / ".git" / "config").open("a") as config:
        config.write(f'[filter "{quoted}"]\n {key} = {trap}\n required = true\n')
    (root / ".gitattributes").write_text(f"*.py filter={name}\n")

    assert changed_since(root, "HEAD") == [".gitattributes", "a.py"]
    assert staged(root) == []
    assert list_files(root) is not None
    assert not (trap.parent / "sprung").exists()


def test_no_missing_object_is_fetched_by_a_program(root: Path, trap: Path) -> None:
    blob = subprocess.run(
        ["git", "rev-parse", "HEAD:a.py"], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()
    (root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    for key, value in {
        "core.repositoryformatversion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": f"ext::{trap}",
        "remote.origin.uploadpack": str(trap),
        "protocol.ext.allow": "always",
        "protocol.file.allow": "always",
        "core.fsmonitor": str(trap),
        "core.hooksPath": str(trap.parent),
        "diff.external": str(trap),
    }.items():
        git(root, "config", key, value)

    assert list_files(root) is not None
    with pytest.raises(UsageError, match="git cannot say"):
        changed_since(root, "HEAD")
    assert not (trap.parent / "sprung").exists()
