"""`parallelai config show`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from parallelai.cli.grammar import group
from parallelai.cli.shared import Shared

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.client.setup import Setting


@group()
def config() -> None:
    """Show each setting and where it is from."""


@config.command()
def show(shared: Shared) -> int:
    """Show each setting that somebody made, its value, and where it is from; with --verbose all others too."""
    from parallelai.client import setup

    async def work(ai: AsyncParallelAI) -> tuple[list[Setting], tuple[str, ...]]:
        shared.say_ignored(ai.project)
        return setup.settings(ai.project, has_defaults=shared.is_verbose), ai.project.ignored

    rows, ignored = shared.call(work)
    document = {
        "settings": [
            {"key": row.key, "value": row.value, "from": row.origin, "ignored": row.is_ignored}
            for row in rows
        ],
        "ignored": list(ignored),
    }
    empty = "nothing is set; defaults hold, and `--verbose` shows them"
    shared.result(document, lambda: "\n".join(_line(row) for row in rows) or empty)
    return 0


def _line(row: Setting) -> str:
    from parallelai.plan.settings import NEVER_A_PROJECTS

    why = "ignored" if row.key in NEVER_A_PROJECTS else "not trusted, so ignored"
    origin = f"{row.origin}; {why}" if row.is_ignored else row.origin
    return f"{row.key} = {json.dumps(row.value, default=str, ensure_ascii=False)}  ({origin})"
