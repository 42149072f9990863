"""`engines conform`: an engine that does all that it must, and ones that do not."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from scripted_agent import block

from parallelai.engines.acp.engine import AcpEngine
from parallelai.engines.commands.command import CommandEngine
from parallelai.engines.context import EngineContext
from parallelai.engines.mock import MockEngine
from parallelai.engines.proving import Prompts, prove
from parallelai.plan.model import EngineEntry

AGENT = (sys.executable, str(Path(__file__).with_name("scripted_agent.py")))
TOKENS = {"usage": {"totalTokens": 12, "inputTokens": 9, "outputTokens": 3}}


def agent(root: Path) -> AcpEngine:
    env = {"AGENT": json.dumps({"resume": True, "models": ["m1"]})}
    return AcpEngine(
        "mine", EngineEntry(use="acp", command=AGENT, env=env, sandbox="none"), EngineContext(root)
    )


async def test_an_engine_that_conforms_passes_every_check(tmp_path: Path) -> None:
    prompts = Prompts(
        answer=block(TOKENS, {"say": "ok"}),
        edit=block(TOKENS, {"write": "conform.txt", "text": "ok\n"}, {"say": "done"}),
        long=block({"say": "It was "}, {"hang": "deaf"}),
    )
    verdicts = await prove(lambda: agent(tmp_path), sandbox="none", takes_model=True, prompts=prompts)
    assert [verdict for verdict in verdicts if not verdict.ok] == []
    assert {"edits", "streams", "reports usage", "times out", "maps errors", "leaves no process"} <= {
        verdict.check for verdict in verdicts
    }


async def test_what_an_engine_does_wrong_is_named(tmp_path: Path) -> None:
    prompts = Prompts(
        answer=block({"say": "ok"}), edit=block({"say": "I did it"}), long=block({"say": "short"}), model="m1"
    )
    verdicts = await prove(lambda: agent(tmp_path), sandbox="none", takes_model=True, prompts=prompts)
    failed = {verdict.check: verdict.said for verdict in verdicts if not verdict.ok}
    assert set(failed) == {"edits", "reports usage", "maps errors"}
    assert "there is none" in failed["edits"]
    assert "does not exist" in failed["maps errors"]


@pytest.mark.parametrize("use", ["mock", "command"])
async def test_what_an_engine_does_not_claim_is_not_asked_of_it(tmp_path: Path, use: str) -> None:
    code = (
        "import sys, os\n"
        "if 'Create' in sys.stdin.read() and os.path.isdir('.git'):\n"
        "    open('conform.txt', 'w').write('ok')\n"
        "print('ok')"
    )

    def make() -> MockEngine | CommandEngine:
        if use == "mock":
            return MockEngine("mock", EngineEntry(use="mock"), EngineContext(tmp_path))
        entry = EngineEntry(use="command", command=(sys.executable, "-c", code))
        return CommandEngine("sh", entry, EngineContext(tmp_path))

    verdicts = await prove(make, sandbox="none", takes_model=False)
    assert [verdict for verdict in verdicts if not verdict.ok] == []


async def test_a_crash_is_a_verdict(tmp_path: Path) -> None:
    class Broken(MockEngine):
        async def perform(self, request: object, port: object) -> object:  # type: ignore[override]
            raise ZeroDivisionError("oh")

    entry, context = EngineEntry(use="mock"), EngineContext(tmp_path)
    verdicts = await prove(lambda: Broken("b", entry, context), takes_model=False)
    failed = [verdict for verdict in verdicts if not verdict.ok]
    assert len(failed) > 3
    assert all("ZeroDivisionError" in verdict.said for verdict in failed), failed
    assert os.listdir(tmp_path) == []
