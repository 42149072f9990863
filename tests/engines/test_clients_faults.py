"""What the real clients make of a server that fails, and what we make of that (issue: each its own error)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from client_support import BOTH, KEY, Bench, left_behind, used

from clients.installing import programs
from parallelai.engines.conformance import CollectingPort
from parallelai.engines.protocol import FinalEvent, ToolEvent, WaitingEvent
from parallelai.errors import (
    EngineError,
    Invalid,
    RateLimited,
    Refused,
    Rejected,
    TimedOut,
    Transient,
    Unavailable,
)
from scripted import ScriptedServer


@dataclass(frozen=True)
class Fault:
    """A fault, the error that it becomes, words of the client's that stay, and how many requests are most."""

    name: str
    step: dict[str, Any]
    error: type[EngineError]
    requests: int = 2
    said: str = ""
    is_quota: bool | None = None


FAULTS = (
    Fault("wrong key", {"fault": "auth"}, Rejected),
    Fault("not allowed", {"fault": "forbidden"}, Rejected, said="may not use this model"),
    Fault("quota used up", {"fault": "quota"}, RateLimited, said="billing details", is_quota=True),
    Fault("no credit", {"fault": "credit"}, RateLimited, said="redit balance"),
    Fault("429, Retry-After 60", {"fault": "rate_limit", "retry_after": 60}, RateLimited),
    Fault("429", {"fault": "rate_limit"}, RateLimited, said="429", is_quota=False),
    Fault("overloaded (529)", {"fault": "overloaded"}, Transient, said="verloaded"),
    Fault("500", {"fault": "server_error"}, Transient),
    Fault("503", {"fault": "unavailable"}, Transient, said="503"),
    Fault("unknown model", {"fault": "unknown_model"}, Rejected, said="model"),
    Fault("400", {"fault": "bad_request"}, Rejected, 8, "something is wrong"),
    Fault("context too long", {"fault": "context"}, Rejected, said="o"),
    Fault("refused", {"refuse": "I will not do that"}, Refused),
    Fault("answer cut at the most tokens", {"say": "half", "stop": "max_tokens"}, Invalid, 4),
    Fault("garbage", {"garbage": True}, Transient, 3),
)


@pytest.fixture(scope="session", autouse=True)
def installed() -> Path:
    return programs()


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as running:
        yield running


@pytest.fixture(params=BOTH)
def bench(
    request: pytest.FixtureRequest, tmp_path: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> Bench:
    monkeypatch.setenv("TEST_CLIENT_KEY", KEY)
    return Bench(tmp_path, server, request.param)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_each_fault_is_its_error(bench: Bench, fault: Fault) -> None:
    port = CollectingPort()
    with pytest.raises(fault.error) as caught:
        await bench.turn(fault.step, {"say": "never"}, port=port)
    assert fault.said in caught.value.said
    if fault.is_quota is not None:  # a quota is told from a limit
        assert isinstance(caught.value, RateLimited)
        assert caught.value.is_quota is fault.is_quota
    assert bench.use in caught.value.said
    assert KEY not in str(caught.value)
    assert not any(isinstance(event, FinalEvent) and event.ok for event in port.events)
    assert 1 <= len(bench.server.requests) <= fault.requests
    assert left_behind(bench.base) == []


@pytest.mark.parametrize("step", [{"cut": True}, {"error_event": "overloaded"}], ids=["cut", "error event"])
async def test_a_broken_answer_is_asked_for_again_or_fails(bench: Bench, step: dict[str, Any]) -> None:
    """claude asks again by another way, without a stream; codex leaves it to us. Never half an answer."""
    work = [{"tool": "write", "path": "a.txt", "text": "whole"}, {"say": "done"}]
    if bench.use == "codex":
        with pytest.raises(Transient):
            await bench.turn(step, *work)
        assert not (bench.work / "a.txt").exists()
    else:
        await bench.turn(step, *work)
        assert (bench.work / "a.txt").read_text() == "whole"


async def test_a_server_that_is_not_there_is_said_before_anything_runs(
    bench: Bench, server: ScriptedServer
) -> None:
    await server.__aexit__()
    with pytest.raises(Unavailable, match="nothing listens at http://127") as caught:
        await bench.turn({"say": "never"})
    assert "base_url" in (caught.value.next or "")


async def test_codex_does_not_wait_for_a_network_that_is_gone(
    tmp_path: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_CLIENT_KEY", KEY)

    def leave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        leaving.close()

    leaving = await asyncio.start_server(leave, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{leaving.sockets[0].getsockname()[1]}"
    with pytest.raises(Transient, match="Connection failed"):
        await Bench(tmp_path, server, "codex").turn({"say": "never"}, settings={"base_url": url})


@pytest.mark.parametrize("where", ["start", "stream"])
async def test_a_server_that_hangs_is_our_time_out(bench: Bench, where: str) -> None:
    with pytest.raises(TimedOut):
        await bench.turn({"hang": where}, {"say": "never"}, timeout_seconds=2.5)
    assert left_behind(bench.base) == []


async def test_what_failed_is_paid_all_the_same(bench: Bench) -> None:
    port = CollectingPort()
    with pytest.raises(EngineError):
        await bench.turn(
            {"tool": "read", "path": "a"}, {"fault": "server_error"}, {"say": "never"}, port=port
        )
    assert used(port) == 900


async def test_a_cancel_ends_the_tool_that_runs_and_counts_what_was_taken(bench: Bench) -> None:
    port = CollectingPort(answer="allow_once")
    loop = {"tool": "shell", "command": "python3 -c 'import time; [time.sleep(1) for _ in range(600)]'"}
    turn = asyncio.create_task(bench.turn(loop, {"say": "never"}, port=port))
    while not any(isinstance(event, ToolEvent) for event in port.events):
        port.started.clear()
        await port.started.wait()
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert used(port) == 900
    assert left_behind(bench.base) == []


async def test_nobody_is_logged_in(bench: Bench) -> None:
    none = {"base_url": None, "api_key_env": None, "network": "off"}
    with pytest.raises(Rejected, match="logged in") as caught:
        await bench.turn({"say": "never"}, settings=none)
    assert "log" in (caught.value.next or "")
    assert bench.server.requests == []


async def test_a_key_that_is_not_there_is_said_before_anything_runs(bench: Bench) -> None:
    with pytest.raises(Rejected, match="NO_SUCH_KEY"):
        await bench.turn({"say": "never"}, settings={"api_key_env": "NO_SUCH_KEY"})


async def test_a_session_that_is_not_there(bench: Bench) -> None:
    with pytest.raises(Rejected, match="found"):
        await bench.turn({"say": "x"}, session="01a1fc4b-3c82-7c33-b29c-1d19eb653e31")


@pytest.mark.parametrize("id", ["--settings=evil.json", "-c", "a b", ""])
async def test_what_could_be_an_option_is_no_session(bench: Bench, id: str) -> None:
    with pytest.raises(Rejected, match="no id of a session"):
        await bench.turn({"say": "never"}, session=id)
    assert bench.server.requests == []


async def test_a_client_that_is_not_there(bench: Bench) -> None:
    engine = bench.engine(command=["no-such-client"])
    assert not (await engine.detect()).is_available
    with pytest.raises(Unavailable, match="no-such-client"):
        await engine.perform(bench.request({"say": "x"}), CollectingPort())


def _program(folder: Path, text: str) -> list[str]:
    path = folder / "pretender"
    path.write_text(f"#!/usr/bin/env python3\nimport os, sys, signal\n{text}\n")
    path.chmod(0o755)
    return [str(path)]


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", Transient, "SIGKILL"),
        ('print(\'{"type": "news", "of": 3}\'); print(\'what?\')', Invalid, "cannot read 2 of the 2 lines"),
        ("sys.exit('error: unknown option --verbose')", Invalid, "unknown option"),
        ("pass", Invalid, "printed nothing"),
    ],
    ids=["killed", "other output", "other options", "silent"],
)
async def test_a_client_that_is_not_what_it_was(
    bench: Bench, text: str, error: type[EngineError], said: str
) -> None:
    with pytest.raises(error, match=said):
        await bench.turn({"say": "x"}, settings={"command": _program(bench.base, text)})


async def test_what_claude_waits_for_is_said_live(
    tmp_path: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_CLIENT_KEY", KEY)
    bench = Bench(tmp_path, server, "claude-code")
    port = CollectingPort()
    with pytest.raises(RateLimited) as caught:
        await bench.turn({"fault": "rate_limit", "retry_after": 60}, {"say": "never"}, port=port)
    assert 60 <= (caught.value.retry_after_seconds or 0) <= 80  # it adds up to a fourth
    assert len(server.requests) == 1
    port = CollectingPort()
    await bench.turn({"fault": "rate_limit", "retry_after": 1, "times": 1}, {"say": "after all"}, port=port)
    waits = [event for event in port.events if isinstance(event, WaitingEvent)]
    assert [(event.why, event.key) for event in waits] == [("rate_limited", ("claude-code", "default", "m1"))]
    assert waits[0].until
    assert waits[0].until.endswith("Z")
