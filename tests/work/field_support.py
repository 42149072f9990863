"""Runs of `parallelai work` from outside, and what must hold of the user's repository afterwards."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repositories import Repository

from clients.installing import programs
from running import PROGRAM, environment
from scripted import ScriptedServer

KEY = "sk-of-a-test"
CLIENTS = {"claude-code": "claude", "codex": "codex"}
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
SECONDS = 570


@dataclass(frozen=True)
class Called:
    """What a command came to."""

    code: int
    document: dict[str, Any]
    err: str

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        return {task["id"]: task for task in self.document["tasks"]}

    @property
    def told(self) -> str:
        """What became of each task, for the message of an assertion."""
        rows = [
            f"{task['id']} {task['status']} {task['error'] or ''}" for task in self.document.get("tasks", ())
        ]
        return "\n".join([f"exit {self.code}", *rows, str(self.document.get("error", "")), self.err])

    def error(self, name: str) -> str:
        """The kind of a task's error, empty where it has none."""
        error = self.tasks[name]["error"]
        return str(error["kind"]) if error else ""


def call(root: Path, *arguments: str) -> Called:
    """Run a command with `--json` to its end."""
    done = subprocess.run(
        [*PROGRAM, *arguments, "--json"],
        cwd=root,
        env=environment(PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.stdout, done.stderr
    return Called(done.returncode, json.loads(done.stdout), done.stderr)


def clients(server: ScriptedServer, home: Path, **more: Any) -> dict[str, dict[str, Any]]:
    """Entries of the real assistants, which ask the scripted server; `TEST_CLIENT_KEY` must be set.

    Codex offers a model that it knows tools of that model's own, so in the user's config, which is written here,
    all tiers are a model that nobody knows.
    """
    config = home / "config" / "parallelai" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text('[models.openai]\nbest = "m1"\nstandard = "m1"\nfast = "m1"\n')
    return {
        use: {
            "use": use,
            "base_url": f"{server.url}/v1",
            "api_key_env": "TEST_CLIENT_KEY",
            "command": [str(programs() / program)],
            "model": "standard",
            **more,
        }
        for use, program in CLIENTS.items()
    }


def events(root: Path, *types: str) -> list[dict[str, Any]]:
    """The events of the latest run, of these types."""
    done = subprocess.run(
        [*PROGRAM, "runs", "export"], cwd=root, env=environment(), capture_output=True, text=True, check=True
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [event for event in found if event["type"] in types]


@dataclass(frozen=True)
class Before:
    """What a user has before a run: it must be so afterwards, but for the target that moved along."""

    commit: str
    config: bytes
    hooks: tuple[str, ...]
    notes: Path

    @classmethod
    def of(cls, repository: Repository) -> Before:
        notes = repository.root / "notes.txt"
        notes.write_text("mine, and in no commit\n")
        git = repository.root / ".git"
        hooks = tuple(sorted(path.name for path in (git / "hooks").iterdir()))
        head = repository.git("rev-parse", "HEAD").strip()
        return cls(head, (git / "config").read_bytes(), hooks, notes)


def check_checkout(repository: Repository, before: Before) -> None:
    """The user's checkout is on `main`, clean, moved along; nothing else of the repository was written."""
    git = repository.root / ".git"
    assert repository.git("symbolic-ref", "HEAD").strip() == "refs/heads/main"
    assert repository.git("status", "--porcelain", "--", ":!notes.txt") == ""
    assert before.notes.read_text() == "mine, and in no commit\n"
    assert (git / "config").read_bytes() == before.config
    assert tuple(sorted(path.name for path in (git / "hooks").iterdir())) == before.hooks
    assert repository.git("stash", "list") == ""
    assert repository.git("merge-base", before.commit, "main").strip() == before.commit


def check_removed(repository: Repository) -> None:
    """No worktree and no branch is left of what has landed."""
    worktrees = repository.git("worktree", "list", "--porcelain").count("worktree ")
    assert worktrees == 1, repository.git("worktree", "list")
    folder = repository.root.parent / f"{repository.root.name}-worktrees"
    assert not folder.exists() or not list(folder.iterdir())
    assert repository.git("for-each-ref", "--format=%(refname)", "refs/heads/parallelai") == ""


def first_parents(repository: Repository, since: str, target: str = "main") -> list[str]:
    """The commits that a target came through, the oldest first."""
    return repository.git("rev-list", "--first-parent", "--reverse", f"{since}..{target}").split()


def check_green(repository: Repository, commits: Sequence[str], gate: Sequence[str], folder: Path) -> None:
    """Run the gate on each commit."""
    for commit in commits:
        place = folder / commit
        packed = subprocess.run(
            ["git", "archive", "--format=tar", commit], cwd=repository.root, capture_output=True, check=True
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as files:
            files.extractall(place, filter="data")
        env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(gate, cwd=place, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{commit} is red:\n{done.stdout}{done.stderr}"


def check_order(called: Called, depends_on: Mapping[str, Sequence[str]], commits: Sequence[str]) -> None:
    """Each landed later than all that it depends on."""
    works = {name: task["workstream"] for name, task in called.tasks.items() if task["workstream"]}
    at = {name: commits.index(work["landed"]["commit"]) for name, work in works.items()}
    for name, others in depends_on.items():
        for other in others:
            assert at[other] < at[name], f"{name} landed before {other}"


def text_at(repository: Repository, path: str, commit: str = "main") -> str | None:
    """A file as it is at a commit, None where it is not there."""
    done = subprocess.run(
        ["git", "show", f"{commit}:{path}"], cwd=repository.root, capture_output=True, text=True, check=False
    )
    return done.stdout if done.returncode == 0 else None
