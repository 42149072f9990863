"""The engine `acp`, with a small real agent that does what its prompt says: good ones, and every way of being bad."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from scripted_agent import block

from parallelai.engines.acp import pool as acp_pool
from parallelai.engines.acp import transport as acp_transport
from parallelai.engines.acp.engine import AcpEngine
from parallelai.engines.acp.errors import read_error, read_no_load
from parallelai.engines.acp.launch import Launch
from parallelai.engines.acp.pool import Pool
from parallelai.engines.acp.presets import PRESETS, Wanted, keep_gemini_session, settings_text
from parallelai.engines.conformance import CollectingPort
from parallelai.engines.context import EngineContext
from parallelai.engines.own_folders import likely_folders
from parallelai.engines.protocol import (
    Answer,
    FilesEvent,
    FinalEvent,
    PlanEvent,
    Question,
    Request,
    SessionEvent,
    TextEvent,
    ToolEvent,
    UsageEvent,
    Workspace,
)
from parallelai.errors import (
    ConfigError,
    EngineError,
    Internal,
    Invalid,
    RateLimited,
    Refused,
    Rejected,
    SessionGone,
    TimedOut,
    Transient,
    Unavailable,
)
from parallelai.plan.model import EngineEntry
from parallelai.processes import Program, environment
from parallelai.records import Reply, Usage
from parallelai.run.asking import verdict

AGENT = (sys.executable, str(Path(__file__).with_name("scripted_agent.py")))


class World:
    """An engine with the scripted agent, in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = CollectingPort(answer="allow_once")
        self.engines: list[AcpEngine] = []
        self.request = Request(
            run="r-1",
            task="t",
            attempt=1,
            root=str(root),
            prompt="",
            output="text",
            grace_seconds=0.5,
            timeout_seconds=60,
        )

    def engine(
        self, command: tuple[str, ...] = AGENT, *, can: dict[str, Any] | None = None, **keys: Any
    ) -> AcpEngine:
        env = {"AGENT": json.dumps(can or {}), **keys.pop("env", {})}
        entry = EngineEntry(use=keys.pop("use", "acp"), command=command, env=env, **keys)
        self.engines.append(AcpEngine("mine", entry, EngineContext(self.root)))
        return self.engines[-1]

    async def do(self, *steps: dict[str, Any], engine: AcpEngine | None = None, **request: Any) -> Reply:
        """Do one turn whose agent does `steps`."""
        given = replace(self.request, prompt=block(*steps), **request)
        return await (engine or self.engine()).perform(given, self.port)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.port.events if isinstance(event, kind)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    for engine in made.engines:
        await engine.aclose()
    assert not [words for words in running() if str(tmp_path) in words]


def running() -> list[str]:
    """The agents that run below this process, each by its folder and its command line."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = " ".join(child.cmdline())
            if "scripted_agent" in words:
                found.append(f"{child.cwd()} {words}")
    return found


# --- What goes well


async def test_a_turn_is_streamed_and_ends_with_its_last_words(world: World) -> None:
    reply = await world.do(
        {"say": "let me "}, {"say": "see"}, {"write": "a.txt", "text": "x\n"}, {"say": "done"}
    )
    assert (reply.text, reply.session) == ("done", world.of(SessionEvent)[0].id)
    assert world.port.text == "let me seedone"
    assert (world.root / "a.txt").read_text() == "x\n"
    assert [(event.name, event.state, event.exit) for event in world.of(ToolEvent)] == [
        ("edit", "started", None),
        ("edit", "ended", 0),
    ]
    assert world.of(FilesEvent) == [FilesEvent(("a.txt",))]
    assert world.port.events[-1] == FinalEvent(ok=True)


async def test_offers_neither_files_nor_a_terminal(world: World) -> None:
    assert (await world.do({"tell": "offered"})).text == "[false, false, false]"
    assert (await world.do({"request": "read_text_file"})).text == "refused -32601"


async def test_works_in_the_request_s_folder_with_a_bare_environment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s")
    reply = await world.do({"tell": "cwd"})
    assert json.loads(reply.text or "") == [str(world.root)] * 3
    reply = await world.do({"tell": "env"}, env={"GIVEN": "1"})
    assert "GIVEN" in (reply.text or "")
    assert "SECRET_TOKEN" not in (reply.text or "")


@pytest.mark.parametrize(
    "prompt", ["é\n\"'`$(id)\\ @a.txt\n\x00\u2028", "x" * 210_000, "@a\n", "/quit", "$a", "  /clear\n"]
)
async def test_the_prompt_arrives_as_it_is_and_is_no_command(world: World, prompt: str) -> None:
    engine = world.engine()
    reply = await engine.perform(
        replace(world.request, prompt=f"{prompt}\n{block({'tell': 'parts'})}"), world.port
    )
    *before, last = json.loads(reply.text or "")
    assert last.startswith(prompt)
    assert not "".join([*before, last]).lstrip().startswith(("/", "$", "@"))


async def test_a_role_s_instructions_come_first(world: World) -> None:
    reply = await world.do({"tell": "parts"}, instructions="You are careful.")
    assert json.loads(reply.text or "")[0] == "You are careful.\n\n"


async def test_reads_findings_after_whatever_else_was_said(world: World) -> None:
    finding = {"file": "a.py", "line": 3, "severity": "high", "message": "bad"}
    reply = await world.do(
        {"say": "I shall look."}, {"write": "a.txt"}, {"say": json.dumps([finding])}, output="findings"
    )
    assert [(found.file, found.line) for found in reply.findings] == [("a.py", (3, 3))]


async def test_plans_and_tools_are_told(world: World) -> None:
    await world.do(
        {"plan": [["look", "completed"], ["do", "in_progress"], ["check", "pending"]]},
        {"tool": {"toolCallId": "1", "kind": "execute", "status": "in_progress", "rawInput": {"command": "ls"}}},
        {"update": {"sessionUpdate": "tool_call_update", "toolCallId": "1", "status": "completed",
                    "rawOutput": {"metadata": {"exit": 3}}}},
        {"tool": {"toolCallId": "2", "title": "left open"}},
        {"say": "ok"},
    )  # fmt: skip
    assert world.of(PlanEvent) == [PlanEvent(("[x] look", "[~] do", "[ ] check"))]
    assert world.of(ToolEvent) == [
        ToolEvent("1", "execute", "started", {"title": "t", "input": {"command": "ls"}}),
        ToolEvent("1", "execute", "ended", exit=3),
        ToolEvent("2", "left open", "started", {"title": "left open"}),
        ToolEvent("2", "left open", "ended"),
    ]


async def test_files_outside_of_the_folder_are_not_the_task_s(world: World) -> None:
    places = [{"path": "/etc/passwd"}, {"path": "../up"}, {"path": f"{world.root}/in"}, {"path": "a\nb"}]
    await world.do(
        {"tool": {"toolCallId": "1", "kind": "delete", "status": "completed", "locations": places}},
        {"say": "ok"},
    )
    assert world.of(FilesEvent) == [FilesEvent(("in",))]


async def test_a_folder_behind_a_link_is_the_real_one(world: World) -> None:
    """An agent looks up where it is, tells real paths, and would ask for leave to go to the link's."""
    real, link = world.root / "real", world.root / "link"
    real.mkdir()
    link.symlink_to(real)
    places = [{"path": f"{real}/a.txt"}]
    reply = await world.do(
        {"tool": {"toolCallId": "1", "kind": "edit", "status": "completed", "locations": places}},
        {"tell": "cwd"},
        root=str(link),
    )
    assert json.loads(reply.text or "") == [str(real)] * 3
    assert world.of(FilesEvent) == [FilesEvent(("a.txt",))]


async def test_terminal_escapes_do_not_pass(world: World) -> None:
    reply = await world.do({"say": "\x1b]0;title\x07\x1b[2Jred\x1b[31m\u202e"})
    assert reply.text == "red" == world.port.text


async def test_a_model_is_chosen_where_the_agent_lets_it_be(world: World) -> None:
    can = {"models": ["m-small", "m-big"]}
    assert (await world.do({"tell": "model"}, engine=world.engine(can=can, model="M-Big"))).text == '"m-big"'
    assert (
        await world.do({"tell": "model"}, engine=world.engine(can=can), model="m-small")
    ).text == '"m-small"'
    with pytest.raises(Rejected, match="no model `m-x`") as caught:
        await world.do({"say": "x"}, engine=world.engine(can=can, model="m-x"))
    assert "`m-big`" in (caught.value.next or "")
    with pytest.raises(Rejected, match="does not let its model be chosen"):
        await world.do({"say": "x"}, engine=world.engine(model="m-x"))


# --- Usage


async def test_usage_is_the_turn_s_and_money_a_difference(world: World) -> None:
    engine = world.engine(can={"resume": True})
    tokens = {"totalTokens": 1240, "inputTokens": 200, "cachedReadTokens": 1000, "outputTokens": 40}
    reply = await world.do({"cost": 0.25}, {"usage": tokens}, {"say": "a"}, engine=engine)
    assert reply.usage == Usage(1200, 1000, 40, None, 0.25, "client")
    assert world.of(UsageEvent) == [UsageEvent(reply.usage)]
    again = await world.do({"cost": 0.75}, {"say": "b"}, engine=engine, session=reply.session)
    assert again.usage == Usage(usd=0.5, basis="client")


async def test_an_endless_cost_is_none(world: World) -> None:
    reply = await world.do({"cost": 0.25}, {"cost": float("inf")}, {"say": "a"})
    assert reply.usage == Usage(usd=0.25, basis="client")


async def test_money_of_a_session_from_before_is_unknown_rather_than_all_of_it(world: World) -> None:
    first = await world.do({"cost": 0.25}, {"say": "a"}, engine=world.engine(can={"resume": True}))
    reply = await world.do(
        {"cost": 0.75}, {"say": "b"}, engine=world.engine(can={"resume": True}), session=first.session
    )
    assert reply.usage.usd is None


@pytest.mark.parametrize(
    ("step", "usage"),
    [
        ({"meta": {"quota": {"token_count": {"input_tokens": 9, "output_tokens": 4}}}}, Usage(9, None, 4)),
        ({"update": {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "x"}, "_meta":
                     {"usage": {"inputTokens": 9, "outputTokens": 4, "cachedReadTokens": 2}}}}, Usage(9, 2, 4)),
        ({"meta": {"quota": "none"}}, Usage()),
    ],
)  # fmt: skip
async def test_usage_is_found_where_agents_put_it(world: World, step: dict[str, Any], usage: Usage) -> None:
    assert (await world.do(step, {"say": "x"})).usage == usage


async def test_what_failed_was_paid_all_the_same(world: World) -> None:
    with pytest.raises(Refused):
        await world.do({"cost": 0.5}, {"stop": "refusal"}, {"say": "no"})
    assert world.of(UsageEvent) == [UsageEvent(Usage(usd=0.5, basis="client"))]
    assert not world.of(FinalEvent)


# --- Permissions


@pytest.mark.parametrize(
    ("kinds", "answer", "chosen"),
    [
        (["allow_always", "allow_once", "reject_once"], "allow_once", "o-allow_once"),
        (["allow_always", "allow_once", "reject_once"], "reject_once", "o-reject_once"),
        (["allow_always", "reject_once"], "allow_once", "o-reject_once"),
        (["allow_always", "reject_always"], "allow_once", "cancelled"),
        ([], "allow_once", "cancelled"),
    ],
)
async def test_nothing_is_allowed_for_longer_than_once(
    world: World, kinds: list[str], answer: str, chosen: str
) -> None:
    world.port.answer = answer
    reply = await world.do({"ask": kinds, "kind": "execute", "title": "rm -r x"})
    assert reply.text == chosen
    [question] = world.port.questions
    assert (question.what, question.detail) == ("execute", "rm -r x")


async def test_the_kind_of_what_is_asked_may_have_been_told_before(world: World) -> None:
    await world.do(
        {"tool": {"toolCallId": "asked", "kind": "edit", "title": "Edit a", "locations": [{"path": "a"}]}},
        {"ask": ["allow_once"]},
        {"say": "x"},
    )
    assert [(question.what, question.detail) for question in world.port.questions] == [("edit", "Edit a")]


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ({"places": ["sub/a.txt"]}, "edit"),
        ({"input": {"file_path": "{root}/a.txt", "content": "/etc"}}, "edit"),
        ({"places": ["{root}/a.txt", "/a.txt"]}, "edit outside of its folder"),
        ({"input": {"filePath": "../a.txt"}}, "edit outside of its folder"),
        ({"input": {"path": "~/.profile"}}, "edit outside of its folder"),
        ({"places": ["file:///etc/passwd"]}, "edit outside of its folder"),
        ({"input": {"path": "a\0b"}}, "edit outside of its folder"),
        ({"input": {"path": "a\ud800"}}, "edit outside of its folder"),
        ({"places": ["out/a.txt"]}, "edit outside of its folder"),
        ({"input": {"content": "x"}}, "edit of what it does not name"),
        ({"kind": "read", "places": ["/etc/passwd"]}, "read outside of its folder"),
        ({"kind": "search"}, "search"),
    ],
)
async def test_what_lies_outside_of_the_folder_is_no_plain_edit(
    world: World, call: dict[str, Any], what: str
) -> None:
    """Without a sandbox plain work on the files of the folder is allowed unasked; a person is asked for the rest."""
    (world.root / "out").symlink_to(world.root.parent)
    told = json.loads(json.dumps(call).replace("{root}", str(world.root)))
    await world.do({"ask": ["allow_once"], "kind": "edit", **told}, {"say": "x"})
    workspace = Workspace(edits=True, temporary=str(world.root))
    [question] = world.port.questions
    assert question.what == what
    is_plain = what in ("edit", "search")
    assert verdict(question, workspace, is_confined=False) == ("allow" if is_plain else "ask")


@pytest.mark.parametrize(
    ("kind", "asked", "what"),
    [
        ("edit", {"places": ["{root}/link/a.txt", "{root}/link"]}, "edit"),
        ("read", {"places": ["{root}/link"]}, "read"),
        ("edit", {"places": ["{root}/out"]}, "other outside of its folder"),
        ("edit", {"input": {"tool": "write"}}, "other"),
        ("execute", {"places": ["{root}/link"]}, "execute"),
    ],
    ids=["edit", "read", "out", "no place", "command"],
)
async def test_leave_for_a_link_to_its_own_folder_is_that_for_the_call_itself(
    world: World, kind: str, asked: dict[str, Any], what: str
) -> None:
    """opencode asks first for leave to go to a folder whose path is not below its own, whatever it leads to."""
    (world.root / "link").symlink_to(world.root)
    (world.root / "out").symlink_to(world.root.parent)
    told = json.loads(json.dumps(asked).replace("{root}", str(world.root)))
    await world.do(
        {"tool": {"toolCallId": "asked", "kind": kind, "title": "it"}},
        {"ask": ["allow_once"], "kind": "other", **told},
        {"say": "x"},
    )
    assert [question.what for question in world.port.questions] == [what]


async def test_a_question_that_cannot_be_answered_ends_the_turn(world: World) -> None:
    class Nobody(CollectingPort):
        async def ask(self, question: Question) -> Answer:
            raise Unavailable("nobody is there to answer")

    world.port = Nobody()
    with pytest.raises(Unavailable, match="nobody is there"):
        await world.do({"ask": ["allow_once"]}, {"say": "x"})


async def test_waiting_for_a_person_takes_no_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    now = loop.time

    class Slow(CollectingPort):
        async def ask(self, question: Question) -> Answer:
            # Later by more than the time-out, which an agent's start on a busy machine needs.
            monkeypatch.setattr(loop, "time", lambda: now() + 11)
            await asyncio.sleep(0.01)  # what is due by now happens
            return Answer("allow_once")

    world.port = Slow()
    reply = await world.do({"ask": ["allow_once"]}, {"say": "!"}, timeout_seconds=10.0)
    assert reply.text == "o-allow_once!"


# --- Sessions


@pytest.mark.parametrize("can", ["load", "resume"])
async def test_a_session_goes_on_and_its_past_is_not_its_answer(world: World, can: str) -> None:
    first = await world.do({"say": "one"}, {"cost": 1.0})
    engine = world.engine(can={can: True})
    world.port = CollectingPort()
    reply = await world.do({"tell": "past"}, engine=engine, session=first.session)
    assert reply.session == first.session
    assert [answered for _, answered in json.loads(reply.text or "")] == ["one"]
    assert world.port.text == reply.text


async def test_a_session_that_is_gone_or_cannot_be_continued_is_said(world: World) -> None:
    with pytest.raises(SessionGone, match="cannot continue a session"):
        await world.do({"say": "x"}, session="s-1")
    with pytest.raises(SessionGone, match="Session not found: s-1") as caught:
        await world.do({"say": "x"}, engine=world.engine(can={"load": True}), session="s-1")
    assert "--new" in (caught.value.next or "")


def test_gemini_keeps_a_session_that_goes_on_twice_within_a_minute(tmp_path: Path) -> None:
    chats = tmp_path / ".gemini/tmp/shop/chats"
    chats.mkdir(parents=True)
    file, kept = (chats / f"session-{name}2026-11-21T21-29-38d7b49a.jsonl" for name in ("", "kept-"))
    for words in ("what was said", "nothing: what a load leaves behind"):
        file.write_text('{"sessionId": "38d7b49a-1"}\n' + words)
        keep_gemini_session(tmp_path, "38d7b49a-1")
        assert not file.exists()
    assert kept.read_text().endswith("\nwhat was said")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("No previous sessions found for this project.", SessionGone),
        ('Invalid session identifier "s-1". Searched for sessions in /x', SessionGone),
        ("Resource not found: s-1", SessionGone),
        ("out of memory", Internal),
    ],
)
def test_an_agent_that_knows_no_such_session_is_told_from_one_that_fails(said: str, kind: type) -> None:
    assert type(read_no_load(read_error("it", -32603, said))) is kind


async def test_read_only_turns_share_an_agent_and_edits_do_not(world: World, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    engine = world.engine(can={"close": True})
    for edits, agents in ((False, 1), (True, 3)):
        workspace = Workspace(edits=edits, temporary=str(tmp_path / "tmp"), sandbox="none")
        turns = [
            world.do(
                {"touch": f"{edits}{n}"},
                {"await": f"go{edits}"},
                {"tell": "pid"},
                engine=engine,
                workspace=workspace,
            )
            for n in range(3)
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(turn) for turn in turns]
            while len(list(tmp_path.glob(f"{edits}*"))) < 3:
                await asyncio.sleep(0.01)
            (tmp_path / f"go{edits}").touch()
        assert len({task.result().text for task in tasks}) == agents


async def test_one_of_several_turns_can_be_cancelled(world: World, tmp_path: Path) -> None:
    engine = world.engine()
    workspace = Workspace(edits=False, temporary=str(tmp_path), sandbox="none")
    async with asyncio.TaskGroup() as group:
        stays = group.create_task(
            world.do({"touch": "a"}, {"await": "go"}, {"say": "ok"}, engine=engine, workspace=workspace)
        )
        goes = group.create_task(world.do({"touch": "b"}, {"hang": "x"}, engine=engine, workspace=workspace))
        while not ((tmp_path / "a").exists() and (tmp_path / "b").exists()):
            await asyncio.sleep(0.01)
        goes.cancel()
        await asyncio.wait({goes})
        (tmp_path / "go").touch()
    assert stays.result().text == "ok"
    assert goes.cancelled()


# --- What goes wrong


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("refusal", Refused), ("max_tokens", Invalid), ("max_turn_requests", Invalid), ("cancelled", Internal)],
)
async def test_a_turn_that_stopped_for_another_reason_is_no_success(
    world: World, reason: str, kind: type[EngineError]
) -> None:
    with pytest.raises(kind):
        await world.do({"say": "half"}, {"stop": reason})
    assert not world.of(FinalEvent)


async def test_a_call_that_an_agent_would_make_again_ends_its_turn(world: World) -> None:
    engine = world.engine(use="opencode")
    waits = {"report": {"retry": "Rate limit reached for requests", "wait": 7}}
    with pytest.raises(RateLimited, match="Rate limit reached") as caught:
        await world.do(waits, {"hang": "for the cancel"}, engine=engine)
    assert caught.value.retry_after_seconds == 7
    with pytest.raises(Transient, match="broke off"):
        await world.do({"report": {"finish": "unknown", "tools": False}}, {"hang": "too"}, engine=engine)
    assert not world.of(FinalEvent)


async def test_how_an_answer_ended_is_looked_up_where_the_protocol_does_not_say(world: World) -> None:
    engine = world.engine(use="opencode")
    for reason, kind in (("length", Invalid), ("content-filter", Refused)):
        with pytest.raises(kind):
            await world.do(
                {"say": "half an ans"}, {"report": {"finish": reason, "tools": False}}, engine=engine
            )
    assert not world.of(FinalEvent)
    calls = [{"report": {"finish": "unknown", "tools": True}}, {"report": {"finish": "stop", "tools": False}}]
    assert (await world.do(*calls, {"say": "all"}, engine=engine)).text == "all"


async def test_an_end_without_a_word_is_no_success(world: World) -> None:
    with pytest.raises(Invalid, match="without a word"):
        await world.do({"think": "hm"})
    with pytest.raises(Invalid, match="without an answer"):
        await world.do({"write": "a.txt"})
    assert (await world.do({"write": "a.txt"}, output="change")).text == ""


@pytest.mark.parametrize(
    ("code", "message", "data", "kind"),
    [
        (401, "API key not valid", None, Rejected),
        (-32603, "Internal error", {"details": "401 invalid x-api-key"}, Rejected),
        (-32000, "Authentication required", None, Unavailable),
        (429, "Rate limit exceeded. Try again later.", None, RateLimited),
        (-32603, "Internal error", {"errorKind": "rate_limit"}, RateLimited),
        (500, "Internal server error", None, Transient),
        (-32603, "Internal error", {"statusCode": 529, "message": "Overloaded"}, Transient),
        (-32603, "prompt is too long: 250000 tokens", None, Rejected),
        (404, "model: no-such-model", None, Rejected),
        (-32603, "something else", ["x", {"y": None}], Internal),
        (
            -32603,
            "Internal error: messages: wrong",
            {"service": "session", "errorName": "APIError"},
            Rejected,
        ),
        (-32603, "", None, Internal),
    ],
)
async def test_errors_keep_the_agent_s_words(
    world: World, code: int, message: str, data: Any, kind: type[EngineError]
) -> None:
    with pytest.raises(EngineError) as caught:
        await world.do({"say": "x"}, {"error": {"code": code, "message": message, "data": data}})
    assert type(caught.value) is kind
    assert message in caught.value.said


async def test_a_limit_says_how_long_and_whether_it_is_a_quota(world: World) -> None:
    with pytest.raises(RateLimited) as caught:
        await world.do(
            {
                "error": {
                    "code": 429,
                    "message": "You exceeded your current quota",
                    "data": {"retryDelay": "34s"},
                }
            }
        )
    assert (caught.value.is_quota, caught.value.retry_after_seconds) == (True, None)
    with pytest.raises(RateLimited) as caught:
        await world.do({"error": {"code": 429, "message": "Slow down. Please retry after 1500 ms"}})
    assert (caught.value.is_quota, caught.value.retry_after_seconds) == (False, 1.5)


async def test_an_agent_without_a_login_says_so(world: World) -> None:
    with pytest.raises(Unavailable, match="Authentication required") as caught:
        await world.do({"say": "x"}, engine=world.engine(can={"auth": True}))
    assert "log in" in (caught.value.next or "")


async def test_an_agent_of_another_version_is_not_spoken_to(world: World) -> None:
    with pytest.raises(Unavailable, match="version 9"):
        await world.do({"say": "x"}, engine=world.engine(can={"version": 9}))


@pytest.mark.parametrize("signalled", [False, True])
async def test_an_agent_that_dies_in_the_middle_is_said_in_its_own_words(
    world: World, signalled: bool
) -> None:
    end: dict[str, Any] = {"kill": signal.SIGKILL} if signalled else {"exit": 7}
    kind = Transient if signalled else Internal  # who was killed, by whomever, is asked again
    with pytest.raises(kind, match=r"signal 9|exit 7") as caught:
        await world.do({"say": "half"}, {"complain": "my heap\x1b[31m is full"}, end)
    assert "my heap is full" in caught.value.said
    assert not world.of(FinalEvent)


async def test_what_is_no_agent_is_not_waited_for(world: World) -> None:
    with pytest.raises(Invalid, match="usage: tool"):
        await world.do(
            engine=world.engine((sys.executable, "-c", "print('usage: tool [--x]'); raise SystemExit(2)"))
        )
    with pytest.raises(Unavailable, match="not found"):
        await world.do(engine=world.engine(("no-such-agent-anywhere",)))
    with pytest.raises(TimedOut):
        await world.do(engine=world.engine((sys.executable, "-c", "input(); import time; print('no'); time.sleep(60)")),
                       timeout_seconds=1.5)  # fmt: skip


async def test_what_never_says_hello_is_told_from_an_agent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acp_pool, "START_SECONDS", 0.5)
    with pytest.raises(TimedOut, match="did not answer as an agent") as caught:
        await world.do(engine=world.engine((sys.executable, "-c", "import sys; sys.stdin.read()")))
    assert "use: command" in (caught.value.next or "")


GARBAGE = [
    "not json\n",
    "[1, 2]\n",
    '{"jsonrpc": "2.0"}\n',
    '{"jsonrpc": "2.0", "id": [1], "result": {}}\n',
    '{"jsonrpc": "2.0", "id": 99, "error": "text"}\n',
    '{"jsonrpc": "2.0", "id": {"a": 1}, "method": "session/request_permission", "params": {}}\n',
    '{"jsonrpc": "2.0", "id": 5, "method": "session/request_permission", "params": {"x": 1}}\n',
    '{"jsonrpc": "2.0", "id": 6, "method": "elicitation/create", "params": {}}\n',
    '{"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": 1}}\n',
    '{"jsonrpc": "2.0", "method": 5, "params": null}\n',
    '{"jsonrpc": "2.0", "method": "_vendor/thing", "params": {}}\n',
    "[" * 100_000 + "\n",
    "\x00\n",
]


async def test_lines_that_are_no_messages_do_no_harm(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        reply = await world.do(*({"print": line} for line in GARBAGE), {"say": "still here"})
    assert reply.text == "still here"
    assert any("could not be read" in note for note in reply.notes)
    assert not [record for record in caplog.records if record.name == "root"]


@pytest.mark.parametrize(
    "answer",
    ['{"jsonrpc":"2.0","id":2,"result":{"stopReason":"new_reason"}}', '{"jsonrpc":"2.0","id":2,"result":null}',
     '{"jsonrpc":"2.0","id":2,"result":[]}', '{"jsonrpc":"2.0","id":2,"error":{"code":"x","message":[1]}}'],
)  # fmt: skip
async def test_an_answer_that_is_none_is_no_success(world: World, answer: str) -> None:
    with pytest.raises(EngineError):
        await world.do({"say": "good"}, {"print": answer + "\n"}, {"hang": "deaf"})
    assert not world.of(FinalEvent)


CHUNK = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "x" * 1000}}


async def test_a_flood_of_text_is_bounded_and_the_answer_whole(world: World) -> None:
    reply = await world.do({"flood": 3000, "update": CHUNK}, {"say": "end"})
    assert len(reply.text or "") == 3_000_003
    assert (reply.text or "").endswith("end")


async def test_a_flood_of_reports_ends_the_turn(world: World) -> None:
    class Stuck(CollectingPort):
        async def emit(self, event: object) -> None:
            await asyncio.Event().wait()

    world.port = Stuck()
    plan = {"sessionUpdate": "plan", "entries": [{"content": "x", "priority": "low", "status": "pending"}]}
    with pytest.raises(Invalid, match="more than anybody can follow"):
        await world.do({"flood": 30_000, "update": plan}, {"hang": "x"})


async def test_a_flood_without_end_ends_the_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acp_transport, "MAX_BYTES", 100_000)
    with pytest.raises(Invalid, match="sent more than is read"):
        async with asyncio.timeout(60):
            await world.do({"flood": 300, "update": CHUNK}, {"hang": "polite"})


def test_models_of_others_are_their_own_while_the_sdk_is_loaded() -> None:
    from parallelai.engines.acp.sdk import _lean_models

    with _lean_models():
        from pydantic import ConfigDict  # as any thread may do just then
    assert ConfigDict(use_attribute_docstrings=True) == {"use_attribute_docstrings": True}


# --- Cancel and time-out


async def test_a_turn_that_is_cancelled_at_its_very_start_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use() -> None:
        async with Pool().agent(Launch("x", Program(("true",), cwd=tmp_path, env=environment()))):
            pass

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    turn = asyncio.create_task(use())
    await asyncio.sleep(0)
    turn.cancel()
    await asyncio.wait({turn})
    await asyncio.get_running_loop().shutdown_default_executor()  # also what threads still do
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["polite", "deaf"])
async def test_a_cancelled_turn_leaves_nothing_running(world: World, how: str) -> None:
    spawned = [sys.executable, "-c", "import time; time.sleep(600)"]
    turn = asyncio.create_task(world.do({"spawn": spawned}, {"touch": "there"}, {"hang": how}))
    while not ((world.root / "there").exists() and world.port.text.strip()):
        await asyncio.sleep(0.01)
    child = int(world.port.text)
    assert psutil.pid_exists(child)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert not psutil.pid_exists(child)


async def test_a_turn_out_of_time_ends_with_what_it_started(world: World) -> None:
    spawned = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(TimedOut, match="not done after"):
        await world.do({"spawn": spawned}, {"cost": 0.5}, {"hang": "deaf"}, timeout_seconds=3)
    assert not psutil.pid_exists(int(world.port.text))
    assert world.of(UsageEvent) == [UsageEvent(Usage(usd=0.5, basis="client"))]


async def test_an_agent_that_forks_and_ends_well_leaves_nothing(world: World) -> None:
    reply = await world.do({"spawn": [sys.executable, "-c", "import time; time.sleep(600)"]})
    assert not psutil.pid_exists(int(reply.text or ""))


async def test_closing_the_engine_ends_a_turn_s_agent(world: World) -> None:
    engine = world.engine()
    turn = asyncio.create_task(world.do({"tell": "pid"}, {"hang": "deaf"}, engine=engine))
    while not world.port.text:
        await asyncio.sleep(0.01)
    await engine.aclose()
    with pytest.raises(EngineError):
        await turn
    assert not psutil.pid_exists(int(world.port.text))


# --- What it is before it runs


async def test_says_whether_it_is_there_and_refuses_keys_without_effect(world: World) -> None:
    found = await world.engine().detect()
    assert (found.is_available, found.path) == (True, sys.executable)
    missing = await world.engine(("no-such-agent-anywhere", "--acp")).detect()
    assert not missing.is_available
    assert "install" in (missing.how or "")
    unset = await AcpEngine("acp", EngineEntry(use="acp"), EngineContext(world.root)).detect()
    assert "engines add" in (unset.how or "")
    for key, value in (
        ("max_turns", 3),
        ("base_url", "http://x"),
        ("temperature", 1.0),
        ("api_key_env", "K"),
    ):
        with pytest.raises(ConfigError, match=key):
            world.engine(**{key: value})


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        ("gemini", {"GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL", "GEMINI_CLI_HOME"}),
        ("opencode", {"OPENAI_API_KEY", "OPENCODE_CONFIG_CONTENT", "OPENCODE_DISABLE_AUTOUPDATE"}),
        ("qwen", {"OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "QWEN_CODE_SYSTEM_SETTINGS_PATH"}),
        ("cursor", {"CURSOR_API_KEY"}),
    ],
)
async def test_agents_that_are_known_get_key_server_and_quiet(
    world: World, monkeypatch: pytest.MonkeyPatch, use: str, expected: set[str]
) -> None:
    monkeypatch.setenv("K", "sk-1")
    keys = {} if use == "cursor" else {"base_url": "http://models.example/v1", "model": "m1"}
    entry = EngineEntry(use=use, command=AGENT, api_key_env="K", **keys)
    engine = AcpEngine(use, entry, EngineContext(world.root))
    world.engines.append(engine)
    reply = await world.do({"tell": "env"}, engine=engine)
    assert expected <= set(json.loads(reply.text or ""))
    assert "K" not in json.loads(reply.text or "")
    monkeypatch.delenv("K")
    with pytest.raises(Unavailable, match="`K` is not set"):
        await world.do({"say": "x"}, engine=engine)


@pytest.mark.parametrize(
    ("use", "path"),
    [
        ("opencode", "opencode.json"),
        ("opencode", ".opencode"),
        ("qwen", ".qwen"),
        ("cursor", ".cursor/mcp.json"),
    ],
)
async def test_what_a_project_would_have_an_agent_run_takes_trust(world: World, use: str, path: str) -> None:
    (world.root / path).parent.mkdir(exist_ok=True)
    (world.root / path).write_text("{}")
    engine = AcpEngine(use, EngineEntry(use=use), EngineContext(world.root))
    with pytest.raises(Unavailable, match="not trusted"):
        await engine.perform(world.request, CollectingPort())
    await engine.aclose()


def test_agents_ask_before_they_act_and_ask_their_models_nothing_of_their_own() -> None:
    qwen = json.loads(settings_text(PRESETS["qwen"], Wanted()))
    assert qwen["tools"]["approvalMode"] == "default"  # its own is a second model that judges each command
    assert not any([*qwen["memory"].values(), *qwen["ui"].values(), qwen["general"]["enableAutoUpdate"]])
    opencode = json.loads(settings_text(PRESETS["opencode"], Wanted()))
    assert set(opencode["permission"].values()) == {"ask"}
    assert opencode["agent"]["title"]["disable"]


def test_what_an_agent_nobody_knows_may_write_of_the_home_is_named_after_it(home: Path) -> None:
    for name in (".helper", ".config/helper", ".ssh", ".config"):
        (home / name).mkdir(parents=True, exist_ok=True)
    env = {"HOME": str(home)}
    assert likely_folders("/opt/helper", env) == (f"{home}/.helper", f"{home}/.config/helper")
    for program in ("ssh", "config", "..", "other", "config/.."):
        assert likely_folders(program, env) == ()


async def test_text_comes_while_the_turn_goes_on(world: World) -> None:
    turn = asyncio.create_task(world.do({"say": "first"}, {"await": "go"}, {"say": "second"}))
    while world.port.text != "first":
        await asyncio.sleep(0.01)
    assert not os.path.exists(world.root / "go")
    (world.root / "go").touch()
    assert (await turn).text == "firstsecond"
    assert TextEvent("first") in world.port.events


async def test_an_agents_own_id_of_a_session_is_no_option_of_the_command_that_opens_it(world: World) -> None:
    engine = AcpEngine("opencode", EngineEntry(use="opencode", command=AGENT), EngineContext(world.root))
    world.engines.append(engine)
    assert engine.attach("ses_1a.b-c") == ["opencode", "--session", "ses_1a.b-c"]
    for id in ("--version", "-x", "", "a b", "a\nb"):
        assert engine.attach(id) is None
