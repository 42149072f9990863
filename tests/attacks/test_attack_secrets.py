"""A secret that a program was given, and prints, is in nothing that anybody is shown or that is kept of replies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parallelai.events import event_to_json
from parallelai.records import to_json
from running import Watcher, opened

SECRET = "hunter2-hunter2-hunter2"

FINDING = (
    '[{"file": "a.py", "line": 1, "severity": "high", "message": "m $MY_TOKEN", "rule": "r $MY_TOKEN",'
    ' "category": "c $MY_TOKEN", "suggestion": "s $MY_TOKEN", "quote": "$MY_TOKEN"}]'
)
PROGRAMS = {
    "says": "echo $MY_TOKEN",
    "fails": "echo $MY_TOKEN >&2; exit 3",
    "finds": f"cat <<END\n{FINDING}\nEND",
    "answers": 'echo "{\\"$MY_TOKEN\\": [\\"$MY_TOKEN\\"]}"',
    "misfits": 'echo "[{\\"file\\": \\"$MY_TOKEN\\", \\"line\\": \\"$MY_TOKEN\\"}]"',
}
OUTPUTS = {"finds": "findings", "misfits": "findings", "answers": {"schema": {"type": "object"}}}


async def test_no_event_and_no_result_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", SECRET)
    monkeypatch.setenv("OTHER_TOKEN", "nobody-asked-for-this-one")
    (tmp_path / "a.py").write_text("a = 1\n")
    check = ["sh", "-c", "echo $MY_TOKEN >&2; exit 1"]
    plan = {
        "engines": {
            name: {"use": "command", "command": ["sh", "-c", program]} for name, program in PROGRAMS.items()
        }
        | {"env": {"use": "command", "command": ["env"]}},
        "workspace": {"pass_env": ["MY_TOKEN"]},
        "defaults": {"retries": 0},
        "tasks": [
            *(
                {"id": name, "description": "x", "engine": name, "output": OUTPUTS.get(name, "text")}
                for name in PROGRAMS
            ),
            {"id": "env", "description": "x", "engine": "env"},
            {"id": "checked", "description": "x", "engine": "says", "checks": [check]},
        ],
    }
    watcher = Watcher()
    async with opened(tmp_path) as ai:
        document = await ai.execute(plan, on_events=watcher)
        state = ai.project.state

    assert {str(task.status) for task in document.tasks} == {"ok", "failed"}
    shown = json.dumps(to_json(document)) + "".join(event_to_json(event) for event in watcher.events)
    shown = shown.replace(json.dumps(PROGRAMS["finds"])[1:-1], "")

    assert SECRET not in shown
    kept = b"".join(path.read_bytes() for path in state.glob("journal.db*"))
    kept += b"".join(path.read_bytes() for path in state.glob("cache/*"))
    assert SECRET.encode() not in kept
    assert b"nobody-asked" not in kept + b"".join(p.read_bytes() for p in state.rglob("*") if p.is_file())
