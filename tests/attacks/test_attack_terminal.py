"""Names and arguments from strangers reach a terminal: it obeys nothing in them. Nor do odd streams matter."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from running import PROGRAM, environment, project, run_program

ODD = "e\x1b]0;pwned\x07\x9b31m.py"


@pytest.mark.parametrize(
    "arguments",
    [
        ["review"],
        ["review", "--json"],
        ["review", "--dry-run"],
        ["review", f"no{ODD}"],
        ["review", f"no{ODD}", "--json"],
        ["execute", f"no{ODD}"],
        ["plan", "check", f"{ODD}.yaml"],
        ["execute", f"{ODD}.yaml"],
        ["runs", "list"],
        ["runs", "show", ODD],
        ["engines", "test", ODD],
        [ODD],
        ["review", f"--{ODD}"],
    ],
)
def test_no_control_character_is_printed(tmp_path: Path, arguments: list[str]) -> None:
    plan = "tasks: [{id: a, description: x, engine: mock}]"
    root = project(tmp_path, {ODD: "a = undefined_name\n", f"{ODD}.yaml": plan})
    if arguments == ["runs", "list"]:
        run_program(root, "execute", f"{ODD}.yaml")
    done = run_program(root, *arguments)

    assert done.returncode != 3, done.stderr
    for text in (done.stdout, done.stderr):
        assert not set(text) & {"\x1b", "\x07", "\x9b"}


@pytest.mark.parametrize(
    "verb", [["runs", "show"], ["runs", "cancel"], ["runs", "delete", "--yes"], ["execute"], ["review"]]
)
def test_arguments_that_are_no_text_are_a_users_mistake(tmp_path: Path, verb: list[str]) -> None:
    root = project(tmp_path, {"a.py": "a = 1\n"})
    run_program(root, "review")
    assert run_program(root, *verb, os.fsdecode(b"\xff\xfe")).returncode == 2


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_change_nothing(tmp_path: Path, closed: str) -> None:
    root = project(tmp_path, {"a.py": "a = undefined_name\n"})
    arguments = ["review", "--fail-on", "high", "--output", "out.json"]
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *PROGRAM, *arguments]
    done = subprocess.run(shell, cwd=root, env=environment(), capture_output=True, timeout=100, check=False)

    assert done.returncode == 1
    assert b"F821" in (root / "out.json").read_bytes()


def test_a_full_device_is_not_taken_for_a_finding(tmp_path: Path) -> None:
    root = project(tmp_path, {"a.py": "a = 1\n"})
    for flags in ("", "--json"):
        shell = ["sh", "-c", f'exec "$@" {flags} >/dev/full', "sh", *PROGRAM, "review", "--fail-on", "high"]
        done = subprocess.run(
            shell, cwd=root, env=environment(), capture_output=True, timeout=100, check=False
        )
        assert done.returncode not in (0, 1), done.stderr


def test_a_review_needs_no_home_that_can_be_written(tmp_path: Path) -> None:
    root = project(tmp_path, {"a.py": "a = undefined_name\n", "parallelai.toml": "[limits]\nparallel = 1\n"})
    env = {name: value for name, value in environment().items() if not name.startswith("XDG_")}
    done = subprocess.run(
        [*PROGRAM, "review"],
        cwd=root,
        env={**env, "HOME": "/dev/null"},
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, b"F821" in done.stdout) == (0, True), done.stderr
