"""A small git repository for the command line, which one is in."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest


def git(folder: Path, *arguments: str) -> str:
    """Call git; gives what it printed."""
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder: Path, said: str) -> None:
    """Commit all that lies there."""
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", said)


def shop_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Mapping[str, str]) -> Path:
    """Make a repository with these files, and one of code, in its first commit; it is the current folder then."""
    root = tmp_path / "shop"
    for name, text in {"src/app.py": "x = 1\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(tmp_path, "init", "-qb", "main", str(root))
    git(root, "config", "user.email", "a@example.org")
    git(root, "config", "user.name", "A")
    commit(root, "first")
    monkeypatch.chdir(root)
    return root
