"""One real client takes over from another in the midst of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from field_support import KEY, clients
from work_support import make_repository

from parallelai import AsyncParallelAI
from scripted import ScriptedServer, block

QUOTA = {"fault": "quota", "times": 1}


async def test_the_next_client_does_what_the_first_has_no_quota_for(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_CLIENT_KEY", KEY)
    root = make_repository(tmp_path / "checkout", {"a.py": "a = 1\n"})
    writes = [{"tool": "write", "path": f"{name}.txt", "text": f"{name}\n"} for name in ("one", "two")]
    done = {"say": "done"}
    tasks = [
        {"id": "one", "description": f"First.\n{block(writes[0], done)}", "edits": True},
        {
            "id": "two",
            "description": f"Then.\n{block(QUOTA, writes[1], done)}",
            "edits": True,
            "depends_on": ["one"],
        },
    ]
    async with ScriptedServer() as server:
        plan = {
            "engines": clients(server, home),
            "defaults": {"engine": {"fallback": ["codex", "claude-code"]}, "retries": 0},
            "tasks": tasks,
        }
        async with AsyncParallelAI(root) as ai:
            document = await ai.execute(plan, apply=True)
    assert [(row.status, row.engine) for row in document.tasks] == [("ok", "codex"), ("ok", "claude-code")]
    assert [(root / f"{name}.txt").read_text() for name in ("one", "two")] == ["one\n", "two\n"]
