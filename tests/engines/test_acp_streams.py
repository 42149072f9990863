"""Recorded turns of agents over the protocol, whole, cut and garbled, through the whole engine but its program."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from acp_playback import played, recordings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parallelai.engines.acp.engine import AcpEngine
from parallelai.engines.conformance import CollectingPort
from parallelai.engines.context import EngineContext
from parallelai.engines.protocol import FilesEvent, FinalEvent, Request, ToolEvent, stream_to_json
from parallelai.errors import EngineError, Rejected, Transient
from parallelai.plan.model import EngineEntry
from parallelai.records import Reply

RECORDED = recordings(Path(__file__).parent / "streams")
WORK = [path for path in RECORDED if path.stem == "work"]
ENDS: dict[str, type[EngineError] | None] = {
    "work": None,
    "wrong-key": Rejected,
    "rejected-late": Rejected,
    "failed-late": Transient,
}


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def play(path: Path, data: bytes | None = None) -> tuple[CollectingPort, Reply | EngineError]:
    """Do a turn whose agent says what was recorded; gives what came of it."""
    port = CollectingPort(answer="allow_once")
    report = path.with_suffix(".report")
    entry = EngineEntry(use=path.parent.name.partition("-")[0], command=[sys.executable])
    engine = AcpEngine("it", entry, EngineContext(Path("/bench")))
    request = Request(
        "r", "t", 1, "/bench/repo", "Do it.", output="text", grace_seconds=0.1, timeout_seconds=30
    )

    async def turn() -> Reply | EngineError:
        told = report.read_text() if report.exists() else ""
        with played(path.read_bytes() if data is None else data, told):
            try:
                return await engine.perform(request, port)
            except EngineError as error:
                return error
            finally:
                await engine.aclose()

    return port, asyncio.run(turn())


@pytest.mark.parametrize("path", [path for path in RECORDED if path.stem in ENDS], ids=name_of)
def test_a_recorded_turn_is_understood(path: Path) -> None:
    port, outcome = play(path)
    expected = ENDS[path.stem]
    if expected is not None:
        assert type(outcome) is expected, outcome
        return
    assert isinstance(outcome, Reply), outcome
    assert outcome.text == "All is done."
    assert "I write." in port.text
    states = [event.state for event in port.events if isinstance(event, ToolEvent)]
    assert states == ["started", "ended"] * 2
    assert FilesEvent(("a.txt",)) in port.events
    assert port.events[-1] == FinalEvent(ok=True)


def test_each_agent_was_recorded_in_more_than_one_version() -> None:
    versions = Counter(path.parent.name.partition("-")[0] for path in WORK)
    assert set(versions) == {"gemini", "opencode", "qwen"}
    assert min(versions.values()) > 1


@pytest.mark.parametrize("path", WORK, ids=name_of)
def test_a_turn_that_is_cut_is_no_success(path: Path) -> None:
    data = path.read_bytes().rstrip(b"\n")
    end = max(number for number, line in enumerate(data.splitlines()) if b'"stopReason"' in line)
    before = len(b"\n".join(data.splitlines()[:end]))
    for size in (0, 1, before // 2, before, before + 20):
        _, outcome = play(path, data[:size])
        assert isinstance(outcome, EngineError), size


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_a_garbled_turn_breaks_nothing(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(RECORDED))
    lines = path.read_bytes().splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    line = lines[number]
    start = data.draw(st.integers(0, len(line)))
    stop = data.draw(st.integers(start, min(len(line), start + 40)))
    lines[number] = line[:start] + data.draw(st.binary(max_size=20)) + line[stop:]
    port, outcome = play(path, b"\n".join(lines))
    for event in port.events:
        json.dumps(stream_to_json(event))
    if path.stem in ("wrong-key", "rejected-late", "failed-late") and b'"error"' not in line:
        assert isinstance(outcome, EngineError)


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_noise_is_never_a_success(lines: list[bytes]) -> None:
    assert isinstance(play(WORK[0], b"\n".join(lines))[1], EngineError)
