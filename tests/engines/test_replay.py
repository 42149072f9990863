"""A recording plays back what came, for exactly what was asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from parallelai.engines.conformance import CollectingPort
from parallelai.engines.context import EngineContext
from parallelai.engines.mock import MockEngine, Rule
from parallelai.engines.protocol import Port, Request, TextEvent
from parallelai.engines.replay import RecordingEngine, ReplayEngine
from parallelai.errors import RateLimited, Rejected, Unavailable, UsageError
from parallelai.plan.model import EngineEntry
from parallelai.records import FilePart, Finding, Reply, Severity, Usage

FINDING = Finding(file="a.py", line=(3, 3), severity=Severity.HIGH, message="bad", column=(1, 4))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    root.mkdir()
    (root / "a.py").write_text("x = 1\n")
    return root


@pytest.fixture
def request_(project: Path) -> Request:
    return Request(
        run="r-1",
        task="review@a.py",
        attempt=1,
        root=str(project),
        prompt="Look at this.\nBe kind.",
        files=(FilePart("a.py"),),
        env={"TOKEN": "sesame-open"},
    )


SCRIPT = (
    Rule(times=1, error="rate_limited", retry_after=2.0, said="slow down"),
    Rule(
        text="I looked.",
        findings=(FINDING,),
        usage=Usage(input=90, output=4, usd=0.5, basis="client"),
        notes=("n",),
    ),
)


class _Talks(MockEngine):
    """Says what it does before it answers."""

    async def perform(self, request: Request, port: Port) -> Reply:
        await port.emit(TextEvent("I look."))
        return await super().perform(request, port)


async def record(folder: Path, request: Request) -> None:
    engine = RecordingEngine(_Talks(script=SCRIPT), folder)
    with pytest.raises(RateLimited):
        await engine.perform(request, CollectingPort())
    await engine.perform(request, CollectingPort())


async def test_plays_back_errors_events_and_replies_in_order(tmp_path: Path, request_: Request) -> None:
    await record(tmp_path / "tape", request_)
    elsewhen = replace(request_, run="r-2", attempt=7, timeout_seconds=1.0, env={"TOKEN": "another-value"})
    engine = ReplayEngine(folder=tmp_path / "tape")
    with pytest.raises(RateLimited, match="slow down") as caught:
        await engine.perform(elsewhen, CollectingPort())
    assert caught.value.retry_after_seconds == 2.0
    port = CollectingPort()
    reply = await engine.perform(elsewhen, port)
    assert (reply.text, reply.findings, reply.notes) == ("I looked.", (FINDING,), ("n",))
    assert port.text == "I look."
    assert port.events[-1].type == "final"


async def test_what_was_paid_once_is_not_paid_again(tmp_path: Path, request_: Request) -> None:
    await RecordingEngine(MockEngine(script=SCRIPT[1:]), tmp_path / "tape").perform(
        request_, CollectingPort()
    )
    reply = await ReplayEngine(folder=tmp_path / "tape").perform(request_, CollectingPort())
    assert (reply.usage.usd, reply.usage.basis, reply.usage.tokens) == (0.0, "free", 94)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": "Look at this.\nBe harsh."}, '`prompt`, line 2: recorded "Be kind.", asked "Be harsh."'),
        ({"model": "large"}, '`model`: recorded null, asked "large"'),
        ({"output": "findings"}, "`output`"),
        ({"repeat": 1}, "`repeat`: recorded 0, asked 1"),
        ({"session": "s"}, "`session`"),
    ],
)
async def test_rejects_what_was_not_recorded_and_says_how_it_differs(
    tmp_path: Path, request_: Request, change: dict[str, object], said: str
) -> None:
    await record(tmp_path / "tape", request_)
    with pytest.raises(Rejected) as caught:
        await ReplayEngine(folder=tmp_path / "tape").perform(replace(request_, **change), CollectingPort())
    assert said in caught.value.said


async def test_rejects_a_request_whose_files_have_changed(tmp_path: Path, request_: Request) -> None:
    await record(tmp_path / "tape", request_)
    (Path(request_.root) / "a.py").write_text("x = 2\n")
    with pytest.raises(Rejected, match="`content`"):
        await ReplayEngine(folder=tmp_path / "tape").perform(request_, CollectingPort())


async def test_rejects_one_call_more_than_was_recorded(tmp_path: Path, request_: Request) -> None:
    await RecordingEngine(MockEngine(), tmp_path / "tape").perform(request_, CollectingPort())
    engine = ReplayEngine(folder=tmp_path / "tape")
    await engine.perform(request_, CollectingPort())
    with pytest.raises(Rejected, match=r"recorded 1 time"):
        await engine.perform(request_, CollectingPort())


async def test_a_recording_holds_no_value_of_the_environment(tmp_path: Path, request_: Request) -> None:
    await record(tmp_path / "tape", request_)
    (file,) = (tmp_path / "tape").iterdir()
    assert "sesame-open" not in file.read_text()
    assert "TOKEN" in file.read_text()


async def test_recording_again_replaces_what_was_recorded(tmp_path: Path, request_: Request) -> None:
    for text in ("old", "new"):
        engine = RecordingEngine(MockEngine(script=[Rule(text=text)]), tmp_path / "tape")
        await engine.perform(request_, CollectingPort())
    reply = await ReplayEngine(folder=tmp_path / "tape").perform(request_, CollectingPort())
    assert reply.text == "new"


async def test_is_configured_by_the_folder_in_args(project: Path, request_: Request) -> None:
    await RecordingEngine(MockEngine(), project / "tapes" / "one").perform(request_, CollectingPort())
    entry = EngineEntry(use="replay", args=("tapes/one",))
    engine = ReplayEngine("rec", entry, EngineContext(project))
    assert (await engine.detect()).is_available
    assert (await engine.perform(request_, CollectingPort())).text == "ok"


def test_reads_no_recording_outside_the_project(project: Path) -> None:
    with pytest.raises(UsageError, match="out of the project"):
        ReplayEngine("rec", EngineEntry(use="replay", args=("../tape",)), EngineContext(project))


async def test_without_a_recording_it_is_unavailable_and_says_what_to_write(
    project: Path, request_: Request
) -> None:
    engine = ReplayEngine("rec", EngineEntry(use="replay"), EngineContext(project))
    found = await engine.detect()
    assert not found.is_available
    assert "args" in (found.how or "")
    with pytest.raises(Unavailable):
        await engine.perform(request_, CollectingPort())


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"version": 9}',
        '{"version": 1, "request": {}, "answers": [{}]}',
        '{"version": 1, "request": {}, "answers": [{"error": {"kind": "x", "said": ""}}]}',
        '{"version": 1, "request": {}, "answers": [{"reply": {"findings": 3}}]}',
        '{"version": 1, "request": {}, "answers": [{"reply": {}, "events": [{"type": "bang"}]}]}',
    ],
)
async def test_a_broken_recording_is_named(tmp_path: Path, request_: Request, content: str) -> None:
    (tmp_path / "broken.json").write_text(content)
    with pytest.raises(Unavailable, match=r"broken\.json"):
        await ReplayEngine(folder=tmp_path).perform(request_, CollectingPort())


async def test_a_recording_is_whole_files_only(tmp_path: Path, request_: Request) -> None:
    await record(tmp_path / "tape", request_)
    (file,) = (tmp_path / "tape").iterdir()  # no temporary file is left
    assert len(json.loads(file.read_text())["answers"]) == 2
