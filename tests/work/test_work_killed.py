"""`work run` is killed at many points, with all that it started; run again it finishes, and nothing was lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from repositories import Repository

AGENT = """\
import pathlib, re, sys
for name, text in re.findall(r"^WRITE (\\S+) (.*)$", sys.stdin.read(), re.M):
    pathlib.Path(name).write_text(text + "\\n")
print("done")
"""
GATE = "import pathlib, sys; sys.exit(any('BROKEN' in p.read_text() for p in pathlib.Path('.').rglob('*.txt')))\n"
STREAMS = {
    "one": {"description": "One\nWRITE one.txt of one", "owns": "one.txt"},
    "two": {"description": "Two\nWRITE two.txt of two\nWRITE user.txt trespass", "owns": "two.txt"},
    "bad": {"description": "Bad\nWRITE bad.txt BROKEN", "owns": "bad.txt"},
    "last": {"description": "Last\nWRITE last.txt of last", "owns": "last.txt", "depends_on": ["one", "two"]},
}
POINTS = (
    ("workspace.created", "landing.queued", "gate.ended", "landing.landed"),
    ("guard.kept_out", "gate.started", "landing.landed", "landing.landed"),
    ("change.made", "workspace.removed"),
    ("attempt.ended", "task.ended"),
)
"""Where one run is killed, gone on with, and killed again. Each of these is still to come after those before it."""


def _start(root: Path, events: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "parallelai", "work", "run", "plan.json", "--json", "--events", str(events)]
    return subprocess.Popen(
        argv, cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _kill_at(process: subprocess.Popen[bytes], events: Path, kind: str) -> None:
    """Kill it, and nothing else, once the event is written; fails if it ended before."""
    while process.poll() is None:
        if events.exists() and f'"type":"{kind}"' in events.read_text():
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            return
        time.sleep(0.002)  # looked for without a pause, it is kept from its work
    pytest.fail(f"it came to its end without `{kind}`: {process.communicate()}")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("points", POINTS, ids=" ".join)
def test_a_run_that_is_killed_again_and_again_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: tuple[str, ...]
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Ana\n\temail = ana@example.invalid\n")
    user = Repository.start(tmp_path / "project")
    plan = {
        "engines": {"sh": {"use": "command", "command": ["python3", "agent.py"]}},
        "defaults": {"engine": "sh"},
        "gates": {"landing": [["python3", "gate.py"]], "canary": "off"},
        "workstreams": STREAMS,
    }
    base = user.commit(
        {"agent.py": AGENT, "gate.py": GATE, "user.txt": "mine\n", "plan.json": json.dumps(plan)}
    )
    (user.root / "user.txt").write_text("being edited\n")
    for number, kind in enumerate(points):
        events = tmp_path / f"events-{number}"
        _kill_at(_start(user.root, events), events, kind)
    # What landed in between does not land again, and neither does what landed when it went on.
    for _ in range(2 if "landing.landed" in points else 1):
        again = _start(user.root, tmp_path / "again")
        out, err = again.communicate()
        document = json.loads(out)
        rows = {row["id"]: row for row in document["tasks"]}
        assert {name: row["status"] for name, row in rows.items()} == {
            "one": "ok",
            "two": "ok",
            "bad": "blocked",
            "last": "ok",
        }, (err.decode(), [row["error"] for row in document["tasks"]])
    for name in ("one", "two", "last"):
        assert (user.root / f"{name}.txt").read_text() == f"of {name}\n"
    assert (user.root / "user.txt").read_text() == "being edited\n"
    assert user.git("status", "--short").strip() == "M user.txt"
    merges = user.git("log", "--first-parent", "--format=%H", f"{base}..main").split()
    for commit in merges:
        assert "BROKEN" not in user.git("grep", "-h", "", commit, "--", "*.txt")
    brought = user.git("log", "--format=%s", f"{base}..main", "--no-merges").split("\n")
    assert sorted(line.split(":")[0] for line in brought if line) == ["last", "one", "two"]
    assert user.git("worktree", "list").count("\n") == 2  # the user's, and that of `bad`
    me = psutil.Process()
    assert [each for each in me.children(recursive=True) if "agent.py" in " ".join(each.cmdline())] == []
