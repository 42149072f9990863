"""A real agent over the protocol, gemini, with the scripted model server behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from clients.installing import programs
from parallelai.engines.acp.engine import AcpEngine
from parallelai.engines.conformance import CollectingPort
from parallelai.engines.context import EngineContext
from parallelai.engines.protocol import FilesEvent, FinalEvent, Request, SessionEvent, ToolEvent, Workspace
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
from parallelai.plan.model import EngineEntry
from parallelai.records import Reply
from scripted import ScriptedServer, block


@dataclass
class Bench:
    """A folder and an engine of its own for each test."""

    root: Path
    server: ScriptedServer
    port: CollectingPort
    sandbox: str = "auto"

    def engine(self, **settings: Any) -> AcpEngine:
        given: dict[str, Any] = {
            "use": "gemini",
            "model": "m1",
            "base_url": self.server.url,
            "api_key_env": "TEST_CLIENT_KEY",
            "command": [str(programs() / "gemini"), "--acp", "--skip-trust"],
        }
        return AcpEngine("gemini", EngineEntry(**{**given, **settings}), EngineContext(self.root))

    def request(self, *steps: dict[str, Any], edits: bool = True, **more: Any) -> Request:
        work, temporary = self.root / "work", self.root / "temporary"
        for folder in (work, temporary):
            folder.mkdir(exist_ok=True)
        workspace = Workspace(edits=edits, temporary=str(temporary), sandbox=self.sandbox)  # type: ignore[arg-type]
        plain = Request(
            run="r-test",
            task="t",
            attempt=1,
            root=str(work),
            prompt=f"Do what is asked.\n{block(*steps)}",
            output="change" if edits else "text",
            workspace=workspace,
            timeout_seconds=60.0,
            grace_seconds=1.0,
        )
        return replace(plain, **more)

    async def turn(
        self, *steps: dict[str, Any], settings: dict[str, Any] | None = None, **more: Any
    ) -> Reply:
        engine = self.engine(**(settings or {}))
        try:
            return await engine.perform(self.request(*steps, **more), self.port)
        finally:
            await engine.aclose()


@pytest.fixture(scope="session", autouse=True)
def installed() -> Path:
    return programs()


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("TEST_CLIENT_KEY", "sk-of-a-test")
    async with ScriptedServer() as server:
        yield Bench(tmp_path, server, CollectingPort(answer="allow_once"))
        assert not server.problems
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            assert "gemini" not in " ".join(child.cmdline())


WORK = (
    {"say": "I write.", "tool": "write", "path": "new.txt", "text": "héllo\n"},
    {"tool": "edit", "path": "old.txt", "old": "one", "new": "two"},
    {"tool": "shell", "command": "cat new.txt > copy.txt"},
    {"say": "all done"},
)


@pytest.mark.parametrize("sandbox", ["auto", "none"])
async def test_it_creates_and_edits_files_and_asks_for_each(bench: Bench, sandbox: str) -> None:
    bench.sandbox = sandbox
    request = bench.request()
    work = Path(request.root)
    (work / "old.txt").write_text("one\n")
    reply = await bench.turn(*WORK)
    assert [(work / name).read_text() for name in ("new.txt", "old.txt", "copy.txt")] == [
        "héllo\n",
        "two\n",
        "héllo\n",
    ]
    assert reply.text == "all done"
    assert (reply.usage.input, reply.usage.output) == (3600, 160)
    assert (reply.usage.usd, reply.usage.basis) == (0.0, "free")  # its server is on this machine
    assert [question.what for question in bench.port.questions] == ["edit", "edit", "execute"]
    tools = [event for event in bench.port.events if isinstance(event, ToolEvent)]
    assert [tool.state for tool in tools] == ["started", "ended"] * 3
    assert FilesEvent(("old.txt",)) in bench.port.events
    assert bench.port.events[-1] == FinalEvent(ok=True)


async def test_what_is_denied_is_not_done_and_no_error(bench: Bench) -> None:
    bench.port.answer = "reject_once"
    reply = await bench.turn({"tool": "shell", "command": "touch forbidden"}, {"say": "then not"})
    assert not (Path(bench.request().root) / "forbidden").exists()
    assert reply.session


async def test_it_reviews_without_writing(bench: Bench) -> None:
    work = Path(bench.request(edits=False).root)
    (work / "a.py").write_text("import os\n")
    finding = {"file": "a.py", "line": 1, "severity": "low", "message": "`os` is not used"}
    reply = await bench.turn(
        {"tool": "read", "path": "a.py"},
        {"tool": "write", "path": "b.py", "text": "x"},
        {"say": f"I looked.\n```json\n{json.dumps([finding])}\n```"},
        edits=False,
        output="findings",
    )
    assert [found.message for found in reply.findings] == ["`os` is not used"]
    assert not (work / "b.py").exists()


async def test_a_sandbox_keeps_it_in_its_folder(bench: Bench) -> None:
    outside = bench.root / "outside"
    outside.mkdir()
    await bench.turn({"tool": "shell", "command": f"touch {outside}/x; touch inside"}, {"say": "tried"})
    assert not (outside / "x").exists()
    assert (Path(bench.request().root) / "inside").exists()


async def test_a_session_goes_on_in_another_process_within_the_same_minute(bench: Bench) -> None:
    first = await bench.turn({"say": "one"})
    reply = await bench.turn({"say": "two"}, session=first.session)
    assert (reply.text, reply.session) == ("two", first.session)
    said = [text for _, text in bench.server.requests[-1].call.turns]
    assert any("one" in text for text in said[:-1])


async def test_a_long_prompt_arrives_byte_by_byte(bench: Bench) -> None:
    text = "@a /b \"'`$(id)\\ é\u2028 " + "x" * 210_000
    request = bench.request()
    await bench.turn(prompt=f"{text}\n{request.prompt}")
    assert text in bench.server.requests[-1].user_text
    await bench.turn(prompt=f"/quit\n{request.prompt}")
    assert "/quit" in bench.server.requests[-1].user_text


FAULTS: tuple[tuple[dict[str, Any], type[EngineError], str], ...] = (
    ({"fault": "auth"}, Rejected, "invalid x-api-key"),
    ({"fault": "unknown_model"}, Rejected, "no-such-model"),
    ({"fault": "bad_request"}, Rejected, "something is wrong"),
    ({"fault": "context"}, Rejected, "prompt is too long"),
    ({"fault": "rate_limit", "retry_after": 7}, RateLimited, "Rate limit reached"),
    ({"fault": "quota"}, RateLimited, "current quota"),
    ({"fault": "server_error"}, Transient, "Internal server error"),
    ({"fault": "overloaded"}, Transient, "Overloaded"),
    ({"garbage": True}, Transient, ""),
    ({"cut": True}, Transient, ""),
    ({"unfinished": True}, Transient, "broke off"),
    ({"error_event": "overloaded"}, Transient, "broke off"),
)


def check_fault(caught: EngineError, trouble: dict[str, Any], kind: type[EngineError], words: str) -> None:
    assert isinstance(caught, kind), (trouble, caught)
    assert words in caught.said
    if isinstance(caught, RateLimited):
        assert caught.is_quota == ("quota" in words)
        assert caught.retry_after_seconds == trouble.get("retry_after")


async def test_every_fault_is_an_error_with_its_own_words_and_no_second_try(bench: Bench) -> None:
    """All in sessions of agents that they share: to start one for each takes two seconds of a core."""
    engine = bench.engine()
    whole = {"say": "never whole, and long enough to be cut in two or more pieces"}
    requests = [
        bench.request(trouble, whole, edits=False, prompt=f"Fault {number:02}.\n{block(trouble, whole)}")
        for number, (trouble, _, _) in enumerate(FAULTS)
    ]
    turns = [asyncio.ensure_future(engine.perform(request, CollectingPort())) for request in requests]
    await asyncio.wait(turns)
    await engine.aclose()
    for number, (turn, (trouble, kind, words)) in enumerate(zip(turns, FAULTS, strict=True)):
        caught = turn.exception()
        assert isinstance(caught, EngineError)
        check_fault(caught, trouble, kind, words)
        asked = [each for each in bench.server.requests if f"Fault {number:02}." in each.user_text]
        assert len(asked) == 1, trouble
    assert len(bench.server.requests) == len(FAULTS)


@pytest.mark.parametrize(("trouble", "kind", "words"), [FAULTS[4], FAULTS[10]])
async def test_a_fault_of_an_agent_of_its_own_is_such_an_error_too(
    bench: Bench, trouble: dict[str, Any], kind: type[EngineError], words: str
) -> None:
    with pytest.raises(kind) as caught:
        await bench.turn(trouble, {"say": "never whole, and long enough to be cut in two or more pieces"})
    check_fault(caught.value, trouble, kind, words)
    assert len(bench.server.requests) == 1


async def test_a_server_without_a_key_is_asked_once_too(bench: Bench) -> None:
    with pytest.raises(Transient, match="Internal server error"):
        await bench.turn({"fault": "server_error"}, {"say": "never"}, settings={"api_key_env": None})
    assert len(bench.server.requests) == 1
    reply = await bench.turn({"say": "fine"}, settings={"api_key_env": None})
    assert reply.text == "fine"


async def test_a_server_that_is_not_there_is_said_at_once(bench: Bench) -> None:
    with pytest.raises(Unavailable, match="nothing listens"):
        await bench.turn({"say": "never"}, settings={"base_url": "http://127.0.0.1:1"})
    assert not bench.port.events


REFUSED = {"refuse": "I will not"}
CUT = {"say": "half of an ans", "stop": "max_tokens"}


@pytest.mark.parametrize("sandbox", ["auto", "none"])
async def test_a_refusal_and_a_cut_answer_are_no_success(bench: Bench, sandbox: str) -> None:
    bench.sandbox = sandbox
    with pytest.raises(Refused):
        await bench.turn({"tool": "write", "path": "new.txt", "text": "x"}, REFUSED)
    with pytest.raises(Invalid, match="limit of tokens"):
        await bench.turn(CUT)
    assert not any(isinstance(event, FinalEvent) for event in bench.port.events)
    assert (await bench.turn({"say": "fine"})).text == "fine"


@pytest.mark.parametrize("sandbox", ["auto", "none"])
async def test_turns_that_share_an_agent_are_judged_each_by_its_own_answer(
    bench: Bench, sandbox: str
) -> None:
    bench.sandbox = sandbox
    engine = bench.engine()
    requests = [bench.request(step, edits=False) for step in (REFUSED, CUT, {"say": "fine"})]
    ports = [CollectingPort() for _ in requests]
    turns = [
        asyncio.ensure_future(engine.perform(one, port)) for one, port in zip(requests, ports, strict=True)
    ]
    await asyncio.wait(turns)
    await engine.aclose()
    refused, cut, fine = turns
    assert isinstance(refused.exception(), Refused)
    assert isinstance(cut.exception(), Invalid)
    assert "limit of tokens" in str(cut.exception())
    assert fine.result().text == "fine"
    is_final = [any(isinstance(event, FinalEvent) for event in port.events) for port in ports]
    assert is_final == [False, False, True]


async def test_a_session_that_goes_on_is_not_judged_by_its_past(bench: Bench) -> None:
    engine = bench.engine()
    port = CollectingPort()
    with pytest.raises(Refused):
        await engine.perform(bench.request(REFUSED, edits=False), port)
    id = next(event.id for event in port.events if isinstance(event, SessionEvent))
    reply = await engine.perform(bench.request({"say": "fine"}, edits=False, session=id), port)
    assert reply.text == "fine"


async def test_a_server_that_hangs_ends_with_the_time_out(bench: Bench) -> None:
    with pytest.raises(TimedOut):
        await bench.turn({"hang": "start"}, {"say": "never"}, timeout_seconds=5.0)


async def test_a_cancel_ends_a_running_tool_too(bench: Bench) -> None:
    work = Path(bench.request().root)
    turn = asyncio.create_task(
        bench.turn({"tool": "shell", "command": "touch started; exec sleep 987"}, {"say": "never"})
    )
    while not (work / "started").exists():
        await asyncio.sleep(0.02)
        assert not turn.done()
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [])[-2:] == ["sleep", "987"]
    ]


async def test_without_a_key_or_a_login_it_says_so(bench: Bench) -> None:
    with pytest.raises(Unavailable) as caught:
        await bench.turn({"say": "x"}, settings={"api_key_env": None, "base_url": None})
    assert caught.value.next


async def test_read_only_tasks_share_one_agent(bench: Bench) -> None:
    engine = bench.engine()
    request = bench.request({"say": "read"}, edits=False)
    async with asyncio.TaskGroup() as group:
        turns = [group.create_task(engine.perform(request, CollectingPort())) for _ in range(4)]
    await engine.aclose()
    assert [turn.result().text for turn in turns] == ["read"] * 4
    assert len({turn.result().session for turn in turns}) == 4
