"""A run that is killed while a workstream waits for another to land goes on, and waits again."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from repositories import Repository

AGENT = """\
import pathlib, re, sys, time
said = sys.stdin.read()
second = "number 2 of 2" in said
for name in re.findall(r"^AFTER (\\S+)$" if not second else r"^THEN (\\S+)$", said, re.M):
    while not pathlib.Path(name).exists():
        time.sleep(0.02)
for name, text in re.findall(r"^WRITE (\\S+) (.*)$", said, re.M):
    pathlib.Path(name).write_text(text.replace("|", "\\n") + "\\n")
print("done")
"""
LOADS = "def load(path):\n    return path\n"


@contextlib.contextmanager
def _started(root: Path, events: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run in a process of its own, which is gone at the end, also where the test fails."""
    argv = [sys.executable, "-m", "parallelai", "work", "run", "plan.json", "--json", "--events", str(events)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(argv, cwd=root, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _await(process: subprocess.Popen[bytes], events: Path, kind: str, task: str) -> None:
    """Wait until a task's event is written; fails where the process ends before."""
    while True:
        lines = events.read_text().splitlines() if events.exists() else []
        if any(f'"type":"{kind}"' in line and f'"task":"{task}"' in line for line in lines):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.slow
def test_a_run_that_is_killed_while_one_waits_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Ana\n\temail = ana@example.invalid\n")
    user = Repository.start(tmp_path / "project")
    begun, go = tmp_path / "begun", tmp_path / "go"
    renamed = f"THEN {go}\nWRITE util.py def read(path):|    return path"
    uses = f"AFTER {begun}\nWRITE two.py import util|from util import load||print(load('x'))"
    plan = {
        "engines": {"sh": {"use": "command", "command": ["python3", "agent.py"], "sandbox": "none"}},
        "defaults": {"engine": "sh"},
        "landing": {"conflicts": {"logic": "wait"}},
        "workstreams": {
            "two": {"description": f"Two\n{uses}", "owns": "two.py", "priority": "low"},
            "one": {"description": f"One\n{renamed}", "owns": "util.py", "todo": ["begin", "go on"]},
        },
    }
    base = user.commit({"agent.py": AGENT, "util.py": LOADS, "plan.json": json.dumps(plan)})
    with _started(user.root, tmp_path / "events") as process:
        _await(process, tmp_path / "events", "turn.ended", "one")
        begun.touch()
        _await(process, tmp_path / "events", "conflict.waiting", "two")
        status = subprocess.run(
            [sys.executable, "-m", "parallelai", "work", "status", "--json"],
            cwd=user.root,
            capture_output=True,
            check=True,
        )
        two = next(row for row in json.loads(status.stdout)["workstreams"] if row["name"] == "two")
        assert (two["stage"], two["activity"]) == ("waiting", "waiting")
        assert two["why"].startswith("waits for `one` to land: `two` calls `load(path)`")
    go.touch()
    with _started(user.root, tmp_path / "again") as again:
        out, err = again.communicate()
    rows = {row["id"]: row["status"] for row in json.loads(out)["tasks"]}
    assert rows == {"one": "ok", "two": "ok"}, err.decode()
    merges = user.git("log", "--first-parent", "--format=%s", f"{base}..main").splitlines()
    assert [line.split(":")[0] for line in merges] == ["Merge two", "Merge one"]
