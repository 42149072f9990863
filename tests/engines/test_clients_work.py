"""What the real clients do with files, answers and sessions, with the scripted model server behind them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from client_support import BOTH, KEY, Bench, again, used

from clients.installing import programs
from parallelai.engines.clients import engine as client_engine
from parallelai.engines.conformance import CollectingPort, conform
from parallelai.engines.protocol import Answer, FinalEvent, Message, Question, SessionEvent, ToolEvent
from parallelai.errors import Invalid
from scripted import ScriptedServer, block


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


async def test_it_creates_and_edits_files(bench: Bench) -> None:
    (bench.work / "old.txt").write_text("one\n")
    port = CollectingPort()
    reply = await bench.turn(
        {"tool": "write", "path": "new.txt", "text": "hello\n"},
        {"tool": "read", "path": "old.txt"},
        {"tool": "edit", "path": "old.txt", "old": "one", "new": "two"},
        {"tool": "shell", "command": "cat new.txt > copy.txt"},
        {"say": "all done"},
        port=port,
    )
    assert (bench.work / "new.txt").read_text() == "hello\n"
    assert (bench.work / "old.txt").read_text() == "two\n"
    assert (bench.work / "copy.txt").read_text() == "hello\n"
    assert reply.text == "all done"
    assert reply.session
    assert [event.id for event in port.events if isinstance(event, SessionEvent)] == [reply.session]
    started = [event.id for event in port.events if isinstance(event, ToolEvent) and event.state == "started"]
    ended = [event.id for event in port.events if isinstance(event, ToolEvent) and event.state == "ended"]
    assert len(started) == 4
    assert started == ended
    assert "all done" in port.text
    assert isinstance(port.events[-1], FinalEvent)
    assert reply.usage.input == used(port) == 5 * 900


async def test_it_answers(bench: Bench) -> None:
    reply = await bench.turn({"say": "forty-two — ja"}, edits=False, output="text")
    assert reply.text == "forty-two — ja"
    assert not (bench.work / "new.txt").exists()


async def test_it_finds(bench: Bench) -> None:
    (bench.work / "a.py").write_text("x = eval(input())\n")
    found = {
        "file": "a.py",
        "line": 1,
        "severity": "high",
        "category": "security",
        "message": "eval of input",
        "quote": "eval(input())",
        "suggestion": None,
        "confidence": 0.9,
    }
    reply = await bench.turn(
        {"tool": "read", "path": "a.py"}, {"json": {"findings": [found]}}, edits=False, output="findings"
    )
    assert [(each.file, each.line, each.message) for each in reply.findings] == [
        ("a.py", (1, 1), "eval of input")
    ]


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


async def test_it_keeps_to_a_schema(bench: Bench) -> None:
    reply = await bench.turn({"json": {"n": 3}}, edits=False, output="schema", schema=SCHEMA)
    assert reply.data == {"n": 3}


async def test_what_does_not_fit_the_schema_is_invalid(bench: Bench) -> None:
    with pytest.raises(Invalid):
        await bench.turn(*[{"json": {"n": "three"}}] * 8, edits=False, output="schema", schema=SCHEMA)


async def test_a_long_strange_prompt_arrives_byte_by_byte(bench: Bench) -> None:
    strange = "@README.md \"quoted\" 'single' `tick` $(no) \\n {{x}} ünïcode 日本語 🜁\r\n\ttab\x0bend "
    say = "@at the start\n" + (strange + "\n") * 2_600
    request = bench.request({"say": "got it"}, edits=False, output="text", say=say)
    assert len(request.prompt.encode()) > 210_000
    await bench.engine().perform(request, CollectingPort())
    assert any(text == request.prompt for who, text in bench.server.requests[-1].call.turns if who == "user")


@pytest.mark.parametrize("say", ["/compact the tables", "  /clear it", "!ls", "-p is broken"])
async def test_a_prompt_is_never_taken_for_a_command(bench: Bench, say: str) -> None:
    request = bench.request({"say": "read"}, edits=False, output="text", say=say)
    reply = await bench.engine().perform(request, CollectingPort())
    assert reply.text == "read"
    assert any(text == request.prompt for who, text in bench.server.requests[-1].call.turns if who == "user")


async def test_a_session_goes_on_and_its_usage_is_a_difference(bench: Bench) -> None:
    engine = bench.engine()
    usage = {"input": 1000, "cached": 600, "output": 70}
    request = bench.request({"tool": "shell", "command": "ls"}, {"say": "first"}, script_usage=usage)
    first = await engine.perform(request, CollectingPort())
    port = CollectingPort()
    second = await bench.engine().perform(  # another process of ours would have another object
        again(request, first, block({"say": "second"}, usage=usage)), port
    )
    assert second.session == first.session
    assert second.text == "second"
    assert "first" in json.dumps(bench.server.requests[-1].body)
    assert (first.usage.input, first.usage.cached, first.usage.output) == (2000, 1200, 140)
    assert (second.usage.input, second.usage.cached, second.usage.output) == (1000, 600, 70)
    assert used(port) == 1000


async def test_a_server_of_this_machine_costs_nothing_unless_a_price_is_written(bench: Bench) -> None:
    reply = await bench.turn({"say": "x"})
    assert (reply.usage.usd, reply.usage.basis) == (0.0, "free")
    reply = await bench.turn({"say": "x"}, settings={"price": {"input": 10, "output": 100}})
    assert reply.usage.basis == "prices"
    assert reply.usage.usd == pytest.approx((900 * 10 + 40 * 100) / 1e6)


async def test_it_is_told_its_role(bench: Bench) -> None:
    await bench.turn({"say": "x"}, instructions='You are "MARIE", a painter.\nBe brief.')
    assert 'You are \\"MARIE\\", a painter.\\nBe brief.' in json.dumps(bench.server.requests[-1].body)


async def test_the_key_reaches_the_server_and_nothing_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-the-user")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-user")
    monkeypatch.setenv("SECRET_OF_THE_SHELL", "sk-of-the-user")
    port = CollectingPort(answer="allow_once")
    await bench.turn({"tool": "shell", "command": "env > env.txt"}, {"say": "x"}, port=port)
    assert KEY in str(bench.server.requests[-1].headers)
    seen = (bench.work / "env.txt").read_text()
    assert "sk-of-the-user" not in seen
    assert f"PWD={bench.work}" in seen


async def test_it_conforms(bench: Bench) -> None:
    verdicts = await conform(
        bench.engine,
        bench.request({"say": "fine"}, edits=False, output="text"),
        hanging=bench.request({"hang": "start"}, {"say": "never"}, edits=False, output="text"),
        failing=bench.request({"fault": "auth"}, {"say": "never"}, edits=False, output="text"),
    )
    assert [verdict for verdict in verdicts if not verdict.ok] == []


async def test_it_says_its_version_and_how_to_open_a_session(bench: Bench) -> None:
    found = await bench.engine().detect()
    assert found.is_available
    assert found.version in {"2.1.329", "0.169.0"}
    plain = {"command": None, "base_url": None, "api_key_env": None}
    command = bench.engine(**plain).attach("s-1")
    assert command in (["claude", "--resume", "s-1"], ["codex", "resume", "s-1"])
    assert bench.engine(**plain).attach("--help") is None


async def test_a_session_is_opened_with_its_own_program_folder_and_server(bench: Bench) -> None:
    variable = {"claude-code": "CLAUDE_CONFIG_DIR", "codex": "CODEX_HOME"}[bench.use]
    settings = {"command": ["npx", "client"], "env": {variable: "/logins/work", "OTHER": "secret"}}
    command = bench.engine(**settings).attach("s-1") or []
    program = command.index("npx")
    assert command[program + 1] == "client"
    assert command[:2] == ["env", f"{variable}=/logins/work"]
    assert any(bench.server.url in word for word in command)
    assert "TEST_CLIENT_KEY" in " ".join(command)
    assert not {KEY, "secret"} & {part for word in command for part in word.split("=")}


@pytest.fixture
def claude(tmp_path: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("TEST_CLIENT_KEY", KEY)
    return Bench(tmp_path, server, "claude-code")


class LateMessage(CollectingPort):
    """Sends a message as soon as a tool has begun."""

    async def inbox(self) -> AsyncIterator[Message]:
        while not any(isinstance(event, ToolEvent) for event in self.events):
            self.started.clear()
            await self.started.wait()
        yield Message("and be quick")


async def test_a_message_reaches_a_running_session(claude: Bench) -> None:
    port = LateMessage(answer="allow_once")
    await claude.turn(
        {"delay": 0.3},
        {"tool": "shell", "command": "mkdir d; touch d/e"},
        {"delay": 1.0},
        {"say": "x"},
        port=port,
    )
    assert "and be quick" in claude.server.requests[-1].user_text


async def test_it_asks_before_it_runs_what_nothing_confines(claude: Bench) -> None:
    port = CollectingPort(answer="deny")
    reply = await claude.turn(
        {"tool": "shell", "command": 'python3 -c \'open("made.txt", "w")\''}, {"say": "well"}, port=port
    )
    assert [(question.what, question.options) for question in port.questions] == [
        ("shell", ("allow_once", "deny"))
    ]
    assert "made.txt" in port.questions[0].detail
    assert not (claude.work / "made.txt").exists()
    assert any("denied" in note for note in reply.notes)
    port = CollectingPort(answer="allow_once")
    await claude.turn(
        {"tool": "shell", "command": 'python3 -c \'open("made.txt", "w")\''}, {"say": "well"}, port=port
    )
    assert (claude.work / "made.txt").exists()


async def test_the_time_of_a_question_is_not_the_clients(
    claude: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks: list[asyncio.Timeout] = []
    real = client_engine.converse

    async def watched(*args: Any) -> Any:
        clocks.append(args[3])
        return await real(*args)

    class Person(CollectingPort):
        async def ask(self, question: Question) -> Answer:
            stopped.append(clocks[0].when())
            return Answer("allow_once")

    stopped: list[float | None] = []
    monkeypatch.setattr(client_engine, "converse", watched)
    await claude.turn({"tool": "shell", "command": "python3 -c 1"}, {"say": "x"}, port=Person())
    assert stopped == [None]
    assert clocks[0].when() is not None


async def test_a_write_outside_is_asked_for_as_such(claude: Bench) -> None:
    port = CollectingPort()
    await claude.turn(
        {"tool": "write", "path": str(claude.base / "out.txt"), "text": "x"}, {"say": "x"}, port=port
    )
    assert [question.what for question in port.questions] == ["write outside"]
    assert not (claude.base / "out.txt").exists()


async def test_a_checkout_that_nobody_trusts_runs_no_hooks(claude: Bench) -> None:
    hook = {"type": "command", "command": f"touch {claude.base}/hooked"}
    settings = {"hooks": {"PreToolUse": [{"matcher": "*", "hooks": [hook]}]}}
    (claude.work / ".claude").mkdir()
    (claude.work / ".claude" / "settings.json").write_text(json.dumps(settings))
    await claude.turn({"tool": "read", "path": ".claude/settings.json"}, {"say": "x"})
    assert not (claude.base / "hooked").exists()


async def test_too_many_turns_are_invalid(claude: Bench) -> None:
    step = {"tool": "read", "path": "a"}
    with pytest.raises(Invalid, match="maximum number of turns"):
        await claude.turn(step, step, step, {"say": "x"}, max_turns=2)
