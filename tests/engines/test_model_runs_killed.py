"""`kill -9` in the middle of a review by a model, and the same command again: no answered call is sent again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from loopback import Fault, Loopback, Seen

from running import PROGRAM, environment

FILES = 100
HALF = 50
PARALLEL = 20
KEY = "sk-nobody-0123456789abcdefghij"
NAMES = [f"src/part{number}.py" for number in range(FILES)]
HELD = Fault(seconds=3600.0)


class Scene:
    """A project, and a server that from some request on leaves its callers waiting."""

    def __init__(self, root: Path, use: str) -> None:
        self.root = root
        self.use = use
        self.asked: Counter[str] = Counter()
        self.most_answers = HALF
        (root / "src").mkdir(parents=True)
        for number, name in enumerate(NAMES):
            (root / name).write_text(f"# part {number}\ndef part():\n    return 1 / 0\n")

    def fault(self, seen: Seen) -> Fault | None:
        self.asked[about(seen)] += 1
        return HELD if self.asked.total() > self.most_answers else None

    async def start(self, server: Loopback, *more: str) -> asyncio.subprocess.Process:
        variables = {
            "OPENAI_BASE_URL": server.url,
            "ANTHROPIC_BASE_URL": server.url,
            "OPENAI_API_KEY": KEY,
            "ANTHROPIC_API_KEY": KEY,
        }
        words = ("review", "src", "--engine", self.use, "--model", "m", "--parallel", str(PARALLEL))
        return await asyncio.create_subprocess_exec(
            *PROGRAM,
            *words,
            *more,
            cwd=self.root,
            env=environment(**variables),
            stdout=PIPE,
            stderr=DEVNULL,
            limit=2**24,
        )

    async def review(self, server: Loopback, *more: str) -> dict[str, Any]:
        """Review to the end; gives the document."""
        program = await self.start(server, "--json", *more)
        told, _ = await program.communicate()
        assert program.returncode == 0, told
        document: dict[str, Any] = json.loads(told)
        return document

    async def kill_at_half(self, server: Loopback) -> set[str]:
        """Begin a review, and kill it when half of its calls are answered; gives those files."""
        program = await self.start(server, "--events", "-")
        answered: set[str] = set()
        assert program.stdout is not None
        async for line in program.stdout:
            event: Mapping[str, Any] = json.loads(line)
            if event["type"] == "attempt.ended":  # events are told when they are on disk
                answered.add(event["task"].partition("@")[2])
                if len(answered) == HALF:
                    break
        with contextlib.suppress(ProcessLookupError):
            program.send_signal(signal.SIGKILL)
        await program.communicate()
        assert program.returncode == -signal.SIGKILL
        return answered


def about(seen: Seen) -> str:
    found = re.search(r"src/part\d+\.py", seen.prompt)
    assert found is not None
    return found[0]


def answer(seen: Seen) -> str:
    one = {
        "file": about(seen),
        "line": 3,
        "severity": "high",
        "category": "bug",
        "message": f"{about(seen)} divides by zero.",
        "quote": "return 1 / 0",
        "suggestion": None,
        "confidence": 0.9,
    }
    return json.dumps({"findings": [one]})


def came_to(document: Mapping[str, Any]) -> Any:
    """What a review came to, without times and identifiers."""
    tasks = [(task["id"], task["status"], task["engine"], task["findings"]) for task in document["tasks"]]
    findings = [{**found, "id": ""} for found in document["findings"]]
    return document["exit"], document["counts"], tasks, findings, document["files"], document["dropped"]


@pytest.mark.parametrize("use", ["openai", "anthropic"])
@pytest.mark.parametrize("more", [["--resume"], []], ids=["resumed", "begun anew"])
async def test_no_answered_call_is_sent_again(use: str, more: list[str], tmp_path: Path) -> None:
    scene, alone = Scene(tmp_path / "killed", use), Scene(tmp_path / "alone", use)
    alone.most_answers = FILES
    async with Loopback(answer, faults=scene.fault) as server:
        answered = await scene.kill_at_half(server)
        assert len(answered) == HALF
        before = scene.asked.copy()
        assert before.keys() > answered
        scene.most_answers = 10 * FILES
        document = await scene.review(server, *more)
    assert scene.asked.keys() == set(NAMES)
    assert not answered & (scene.asked - before).keys()
    assert scene.asked.total() - before.total() == FILES - HALF
    async with Loopback(answer, faults=alone.fault) as server:
        expected = await alone.review(server)
    assert came_to(document) == came_to(expected)
    assert len(document["findings"]) == FILES
