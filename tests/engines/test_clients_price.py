"""A money budget with assistants: it holds with a price, is free with a server of this machine, else is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from parallelai import AsyncParallelAI
from parallelai.errors import UsageError
from running import project

PRICE = {"input": 3.0, "output": 15.0, "cached": 0.3}


def plan(use: str, **entry: Any) -> dict[str, Any]:
    engine = {"use": use, "command": ["false"], "sandbox": "none", **entry}
    task = {"id": "a", "description": "x", "engine": "assistant", "retries": 0}
    return {"engines": {"assistant": engine}, "tasks": [task]}


async def begun(root: Path, given: dict[str, Any]) -> bool:
    """Carry a plan out under a money budget: say whether a task of it was begun. The program fails at once."""
    async with AsyncParallelAI(root, trust=True) as ai:
        document = await ai.execute(given, budget="1usd")
        return document.tasks[0].attempts > 0


@pytest.mark.parametrize("use", ["claude-code", "codex"])
async def test_a_price_is_what_a_money_budget_needs(use: str, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(project(tmp_path))], check=True)
    with pytest.raises(UsageError, match="what engine `assistant` costs is unknown") as refused:
        await begun(tmp_path, plan(use))
    assert "give the engine a `price`" in (refused.value.next or "")
    assert await begun(tmp_path, plan(use, price=PRICE))
    assert await begun(tmp_path, plan(use, base_url="http://127.0.0.1:9/v1")), (
        "a server of this machine is free"
    )


@pytest.mark.parametrize("use", ["gemini", "aider"])
async def test_where_a_price_has_no_effect_none_is_advised(use: str, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(project(tmp_path))], check=True)
    with pytest.raises(UsageError, match="costs is unknown") as refused:
        await begun(tmp_path, plan(use))
    assert refused.value.next == "allow it: `limits: {unpriced: allow}`"
