"""Two branches that each need one more package: the lock file is made anew by its own tool, here by uv."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from repositories import Repository

from running import run_program

PLACES = ("# one", "# -", "# -", "# -", "# two")
"""Lines of a manifest that are far enough apart for git to merge what becomes of them."""
NAMES = ("alpha", "beta", "gamma")
PROJECT = '[project]\nname = "{name}"\nversion = "1"\nrequires-python = ">=3.11"\n'
SOURCES = "".join(f'{name} = {{ path = "libs/{name}" }}\n' for name in NAMES)


def manifest(**needed: str) -> str:
    """The manifest of the whole; `needed` are packages by the place that they are named at."""
    lines = ['"alpha",']
    for place in PLACES:
        name = needed.get(place.removeprefix("# "))
        lines.append(f'"{name}",' if name else place)
    dependencies = "dependencies = [\n{}\n]\n".format("\n".join(lines))
    return (
        f"{PROJECT.format(name='app')}{dependencies}[tool.uv]\npackage = false\n[tool.uv.sources]\n{SOURCES}"
    )


def lock(root: Path, *more: str) -> None:
    done = subprocess.run(
        ["uv", "lock", "--offline", *more], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def branch(user: Repository, place: str, name: str) -> None:
    """A branch that needs one more package, locked by the tool."""
    user.git("switch", "--quiet", "--create", place, "main")
    user.write({"pyproject.toml": manifest(**{place: name})})
    lock(user.root)
    user.commit()
    user.git("switch", "--quiet", "main")


def test_a_lock_that_two_branches_changed_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    user = Repository.start(tmp_path / "project")
    for key, value in (("user.name", "Ana"), ("user.email", "ana@example.invalid")):
        user.git("config", key, value)
    for name in NAMES:
        user.write({f"libs/{name}/pyproject.toml": PROJECT.format(name=name), f"libs/{name}/{name}.py": ""})
    user.write({"pyproject.toml": manifest(), "app.py": "", ".gitignore": ".venv/\n"})
    lock(user.root)
    user.commit()
    branch(user, "one", "beta")
    branch(user, "two", "gamma")

    landed = run_program(user.root, "work", "land", "--branches", "one", "--branches", "two")

    assert landed.returncode == 0, landed.stdout + landed.stderr
    text = (user.root / "uv.lock").read_text()
    assert all(f'name = "{name}"' in text for name in NAMES)
    lock(user.root, "--check")
    assert user.git("status", "--porcelain") == ""
