"""What engines print is hostile until proven otherwise: it harms neither the journal nor a terminal."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from parallelai.engines.protocol import Port, Request
from parallelai.engines.replies import to_reply
from parallelai.errors import Invalid
from parallelai.records import FREE, Reply
from parallelai.results.printable import harmless
from running import FakeEngine, opened, project


@pytest.mark.parametrize("text", ['{"a": 1e999}', '{"a": [-1e999]}', '{"a": NaN}', '{"a": Infinity}'])
def test_a_number_that_json_cannot_hold_is_no_valid_reply(text: str) -> None:
    with pytest.raises(Invalid):
        to_reply(text, output="schema", schema={"type": "object"})


@pytest.mark.parametrize(
    "data", [{"a": math.inf}, [{"b": [math.nan]}], {"\ud800": 1}, ["\udfff"], {1: 2}, {"a": {3}}, b"x"]
)
async def test_no_reply_of_any_engine_damages_the_journal(tmp_path: Path, data: Any) -> None:
    async def answer(request: Request, port: Port) -> Reply:
        return Reply(text="\ud800 and more", data=data if request.task == "a" else None, usage=FREE)

    async with opened(tmp_path, FakeEngine("odd", answer)) as ai:
        tasks = [{"id": name, "description": "x", "engine": "odd"} for name in "ab"]
        document = await ai.execute(tasks=tasks)
        assert [str(task.status) for task in document.tasks] == ["failed", "ok"]
        assert ai.project.store.journal.check() == []
        assert ai.runs.show().run == document.run


def test_what_a_terminal_would_obey_is_shown_instead() -> None:
    assert harmless("a\x1b]0;x\x07\n\tb\x9b31m\r\x7f é 👍") == "a\\x1b]0;x\\x07\n\tb\\x9b31m\\x0d\\x7f é 👍"


async def test_a_project_whose_findings_cannot_be_told_is_not_called_clean(tmp_path: Path) -> None:
    root = project(tmp_path / "caf\udce9", {"a.py": "a = undefined_name\n"})
    async with opened(root) as ai:
        document = await ai.review()

    assert document.exit == 4 or document.findings
