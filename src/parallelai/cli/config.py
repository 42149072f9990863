"""`parallelai config show`."""

from __future__ import annotations

import json
from typing import Any

from parallelai.cli.grammar import group
from parallelai.cli.shared import Shared
from parallelai.client import AsyncParallelAI, setup


@group()
def config() -> None:
    """Show each setting and where it is from."""


@config.command()
def show(shared: Shared) -> int:
    """Show each setting that somebody made, its value, and where it is from. All others have their defaults."""

    async def work(ai: AsyncParallelAI) -> tuple[list[tuple[str, Any, str]], tuple[str, ...]]:
        return setup.settings(ai.project), ai.project.ignored

    rows, ignored = shared.call(work)
    for what in ignored:
        shared.say(f"note: not trusted, so ignored: {what}")
    document = {
        "settings": [{"key": key, "value": value, "from": origin} for key, value, origin in rows],
        "ignored": list(ignored),
    }
    lines = [f"{key} = {json.dumps(value, default=str)}  ({origin})" for key, value, origin in rows]
    shared.result(document, "\n".join(lines) or "nothing is set; defaults hold")
    return 0
