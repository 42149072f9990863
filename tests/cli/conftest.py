"""The command line in this process: a project to be in, and a call that gives what it printed and its code."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from parallelai.cli import main
from running import project

BAD = "x = 1\nassert x\n"
"""What Ruff finds here is S101, of the security rules."""


@dataclass(frozen=True)
class Called:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """What `--json` says of a failure."""
        assert set(self.document) == {"error"}
        return self.document["error"]


Cli = Callable[..., Called]


@pytest.fixture(autouse=True)
def reports(temporary: Path) -> Path:
    """Where reports of unexpected failures go, so that none is left behind."""
    return temporary


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Call the command line here."""

    def call(*arguments: object) -> Called:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Called(code, out, err)

    return call


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a few files, which one is in."""
    files = {"a.py": BAD, "src/b.py": "x = 1\n", "src/deep/c.py": "assert True\n", "notes.txt": "hello\n"}
    root = project(tmp_path / "project", files)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def plan(here: Path) -> Path:
    """A plan of two tasks that the mock engine does."""
    path = here / "plan.yaml"
    path.write_text(
        "version: 1\ntasks:\n"
        "  - {id: one, description: do one, engine: mock, tags: [first]}\n"
        "  - {id: two, description: do two, engine: mock, depends_on: one}\n"
    )
    return path
