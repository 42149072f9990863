"""Stored answers and the second pass: what nobody tried to refute is no answer to a review that wants it tried."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from loopback import Loopback, Seen

from parallelai import AsyncParallelAI, OpenAI, Task

WHY = "Nothing calls it with zero, as the first line says."


def answer(seen: Seen) -> str:
    if '"verdicts"' in seen.prompt:
        return json.dumps({"verdicts": [{"id": "1", "why": WHY, "verdict": "refuted"}]})
    one = {
        "file": "a.py",
        "line": 1,
        "severity": "high",
        "category": "bug",
        "message": "It divides by zero.",
        "quote": "1 / zero",
        "suggestion": None,
        "confidence": 0.9,
    }
    return json.dumps({"findings": [one]})


async def test_a_second_pass_is_made_although_the_first_answer_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.py").write_text("part = 1 / zero\n")
    monkeypatch.delenv("http_proxy", raising=False)
    states: list[str] = []
    async with Loopback(answer) as server, AsyncParallelAI(tmp_path) as ai:
        for verify in (False, True, True, False):
            task = Task(id="t", description="Review it.", files="a.py", template="code-review", verify=verify)
            document = await ai.execute(tasks=[task], engine=OpenAI(base_url=server.url, api_key="k" * 20))
            states += [found.state for found in document.findings]
        asked = server.count
    assert states == ["open", "refuted", "refuted", "open"]
    assert asked == 3  # once without, once with its second pass; what was asked already is stored
