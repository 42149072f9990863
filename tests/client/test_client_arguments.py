"""What library users may write for an argument, and what they are told of what is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parallelai import AsyncParallelAI
from parallelai.errors import UsageError


@pytest.mark.parametrize("parallel", [0, -1, True, "many", 1.5])
async def test_how_much_at_once_is_a_number_of_at_least_one(tmp_path: Path, parallel: Any) -> None:
    async with AsyncParallelAI(tmp_path) as ai:
        with pytest.raises(UsageError, match="at least 1"):
            await ai.execute(tasks=[{"id": "a", "description": "x"}], engine="mock", parallel=parallel)
    assert not (tmp_path / ".parallelai").exists(), "nothing was begun"
