"""Consent that the user wrote down beforehand; what a project says about it never counts."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from parallelai import AsyncParallelAI
from parallelai.client.options import CarryOut
from parallelai.client.reviews import ReviewOptions
from parallelai.engines.protocol import Capabilities
from running import FakeEngine, Watcher, opened


async def engine_of_a_review(root: Path) -> str | None:
    async with AsyncParallelAI(root, trust=True) as ai:
        return (await ai.review("a.py")).tasks[0].engine


async def test_consent_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")  # nothing listens there
    monkeypatch.setenv("OPENAI_API_KEY", "the-key-of-a-test")
    (tmp_path / "a.py").write_text("print()\n")
    settings = tmp_path / "parallelai.toml"
    settings.write_text('consent = ["openai"]\n')
    assert await engine_of_a_review(tmp_path) == "analyzers"
    settings.unlink()
    own = Path(os.environ["XDG_CONFIG_HOME"]) / "parallelai" / "config.toml"
    own.parent.mkdir(parents=True)
    own.write_text('consent = ["openai"]\n')
    assert await engine_of_a_review(tmp_path) == "openai"


async def test_who_goes_on_with_a_review_is_not_asked_for_another_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.py").write_text("print()\n")
    assert await engine_of_a_review(tmp_path) == "analyzers"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")  # nothing listens there
    monkeypatch.setenv("OPENAI_API_KEY", "the-key-of-a-test")
    same, other = ReviewOptions(patterns=("a.py",)), ReviewOptions()
    async with AsyncParallelAI(tmp_path) as ai:
        assert await ai.review_offer(same, CarryOut(is_resume=True)) is None
        for options, carry in (
            (same, CarryOut()),
            (same, CarryOut(is_resume=True, is_new=True)),
            (other, CarryOut(is_resume=True)),
        ):
            offer = await ai.review_offer(options, carry)
            assert offer is not None
            assert offer.engine == "openai"


async def test_the_list_of_engines_marks_the_one_that_a_review_takes(tmp_path: Path) -> None:
    (tmp_path / "parallelai.toml").write_text('[engines.own]\nuse = "mock"\n[defaults]\nengine = "own"\n')
    for trust, taken in ((False, "analyzers"), (True, "own")):
        async with AsyncParallelAI(tmp_path, trust=trust) as ai:
            assert [row.name for row in await ai.engines.list() if row.is_default] == [taken]


async def test_whom_permissions_do_not_bind_is_told_before_the_run(tmp_path: Path) -> None:
    able = Capabilities(answers=frozenset({"text"}), is_remote=True, works_in_folder=True)
    asks = dataclasses.replace(able, asks=True)
    engines = [FakeEngine("mute", capabilities=able), FakeEngine("polite", capabilities=asks)]
    seen = Watcher()
    plan = {
        "permissions": "deny",
        "tasks": [{"id": e.name, "description": "x", "engine": e.name} for e in engines],
    }
    async with opened(tmp_path, *engines) as ai:
        await ai.execute(plan, on_events=seen)
    (created,) = seen.of("run.created")
    assert [note for note in created.data.notes if "never asks" in note] == [
        "`mute` never asks for leave: `permissions: deny` does not keep it from running commands"
    ]
