"""The suite that every engine must pass: the embedded ones do, and broken ones are told apart."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from parallelai.engines.commands.command import CommandEngine
from parallelai.engines.conformance import CollectingPort, Verdict, conform
from parallelai.engines.context import EngineContext
from parallelai.engines.mock import MockEngine, Rule
from parallelai.engines.protocol import (
    Availability,
    Estimate,
    FinalEvent,
    Port,
    Question,
    Request,
    TextEvent,
)
from parallelai.engines.registry import Registry
from parallelai.engines.replay import RecordingEngine, ReplayEngine
from parallelai.plan.model import EngineEntry
from parallelai.records import FilePart, Finding, Reply, Severity


def wrong(verdicts: list[Verdict]) -> dict[str, str]:
    return {verdict.check: verdict.said for verdict in verdicts if not verdict.ok}


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    (tmp_path / "a.py").write_text("import os\n")
    return Request(
        run="r",
        task="t",
        attempt=1,
        root=str(tmp_path),
        prompt="p",
        files=(FilePart("a.py"),),
        output="findings",
        timeout_seconds=60,
        grace_seconds=0.2,
    )


# --- The engines that ship


async def test_mock_conforms(request_: Request) -> None:
    script = [Rule("hang", hang=True), Rule("fail", error="transient"), Rule(text="hello")]
    verdicts = await conform(
        lambda: MockEngine(script=script),
        request_,
        hanging=replace(request_, task="hang"),
        failing=replace(request_, task="fail"),
    )
    assert wrong(verdicts) == {}
    assert wrong(await conform(MockEngine, request_)) == {}


async def test_command_conforms(request_: Request) -> None:
    code = (
        "import sys, time, json\n"
        "prompt = sys.stdin.read()\n"
        "if prompt == 'hang': time.sleep(600)\n"
        "if prompt == 'fail': sys.exit(3)\n"
        f"print({json.dumps([{'file': 'a.py', 'line': 1, 'severity': 'low', 'message': 'm'}])!r})\n"
    )
    entry = EngineEntry(use="command", command=(sys.executable, "-c", code))
    verdicts = await conform(
        lambda: CommandEngine("sh", entry, EngineContext(Path(request_.root))),
        request_,
        hanging=replace(request_, prompt="hang"),
        failing=replace(request_, prompt="fail"),
    )
    assert wrong(verdicts) == {}


async def test_replay_conforms(request_: Request, tmp_path: Path) -> None:
    folder = tmp_path / "tape"
    recorder = RecordingEngine(MockEngine(script=[Rule(text="hello")]), folder)
    for _ in range(4):
        await recorder.perform(request_, CollectingPort())
    failing = replace(request_, prompt="never asked")
    assert wrong(await conform(lambda: ReplayEngine(folder=folder), request_, failing=failing)) == {}


async def test_a_recorded_engine_conforms_as_before(request_: Request, tmp_path: Path) -> None:
    verdicts = await conform(
        lambda: RecordingEngine(MockEngine(script=[Rule(error="internal", task="fail")]), tmp_path / "tape"),
        request_,
        failing=replace(request_, task="fail"),
    )
    assert wrong(verdicts) == {}


async def test_analyzers_conforms(request_: Request) -> None:
    def make() -> object:
        return Registry({}, EngineContext(Path(request_.root))).get("analyzers")

    assert wrong(await conform(make, request_)) == {}


# --- Broken ones


class Loose(MockEngine):
    """Does one thing wrong at a time."""

    fault = ""
    started: subprocess.Popen[bytes] | None = None

    async def detect(self) -> Availability:
        if self.fault == "starts something":
            self.started = subprocess.Popen(["sleep", "600"])
        return Availability(False, "not here") if self.fault == "no how" else await super().detect()

    def estimate(self, request: Request) -> Estimate:
        return Estimate(tokens=-1) if self.fault == "negative" else Estimate()

    def attach(self, session: str) -> list[str] | None:
        return "ssh there" if self.fault == "attach" else None  # type: ignore[return-value]  # on purpose

    async def aclose(self) -> None:
        if self.fault == "starts something" and self.started is not None:
            self.started.kill()
            self.started.wait()
        if self.fault == "close" and self.__dict__.setdefault("closed", False):
            raise OSError("already closed")
        self.__dict__["closed"] = True

    async def perform(self, request: Request, port: Port) -> Reply:
        try:
            return await FAULTS[self.fault](request, port)
        except asyncio.CancelledError:
            if self.fault == "swallows":
                return Reply()
            raise


async def good(request: Request, port: Port) -> Reply:
    await port.emit(FinalEvent(ok=True))
    return Reply(text="x")


async def no_final(request: Request, port: Port) -> Reply:
    return Reply(text="x")


async def two_finals(request: Request, port: Port) -> Reply:
    await port.emit(FinalEvent(ok=True))
    return await good(request, port)


async def talks_on(request: Request, port: Port) -> Reply:
    await port.emit(FinalEvent(ok=True))
    await port.emit(TextEvent("more"))
    return Reply(text="x")


async def contradicts(request: Request, port: Port) -> Reply:
    await port.emit(FinalEvent(ok=False))
    return Reply(text="x")


async def no_reply(request: Request, port: Port) -> Reply:
    await port.emit(FinalEvent(ok=True))
    return "x"  # type: ignore[return-value]  # on purpose


async def climbs_out(request: Request, port: Port) -> Reply:
    await port.emit(FinalEvent(ok=True))
    return Reply(findings=(Finding("../a.py", (1, 1), Severity.LOW, "m"),))


async def crashes(request: Request, port: Port) -> Reply:
    raise KeyError("oops")


async def waits(request: Request, port: Port) -> Reply:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return await good(request, port)


FAULTS: dict[str, Callable[[Request, Port], object]] = {
    "starts something": good,
    "no how": good,
    "negative": good,
    "attach": good,
    "close": good,
    "no final": no_final,
    "two finals": two_finals,
    "talks on": talks_on,
    "contradicts": contradicts,
    "no reply": no_reply,
    "climbs out": climbs_out,
    "crashes": crashes,
    "swallows": waits,
}


@pytest.mark.parametrize(
    ("fault", "check", "said"),
    [
        ("starts something", "detects without starting anything", "1 process"),
        ("no how", "detects without starting anything", "how"),
        ("negative", "estimates", "-1"),
        ("attach", "says how to attach", "list"),
        ("close", "closes twice", "already closed"),
        ("no final", "answers with one final event", "0 final"),
        ("two finals", "answers with one final event", "2 final"),
        ("talks on", "answers with one final event", "after the final"),
        ("contradicts", "answers with one final event", "says that it failed"),
        ("no reply", "answers with one final event", "str"),
        ("climbs out", "answers with one final event", "../a.py"),
        ("crashes", "answers with one final event", "KeyError"),
        ("swallows", "stays usable after a cancelled turn", "swallowed"),
    ],
)
async def test_a_broken_engine_is_told_what_is_wrong(
    request_: Request, fault: str, check: str, said: str
) -> None:
    kind = type("Broken", (Loose,), {"fault": fault})
    failures = wrong(await conform(kind, request_))
    assert said in failures[check]


async def test_an_engine_must_fail_with_an_engine_s_error(request_: Request) -> None:
    for fault, said in {"crashes": "KeyError", "no final": "was answered"}.items():
        kind = type("Broken", (Loose,), {"fault": fault})
        failures = wrong(await conform(kind, request_, failing=request_))
        assert said in failures["fails with an engine's error"]


async def test_an_engine_that_lacks_a_method_has_not_the_shape(request_: Request) -> None:
    class Bare:
        name = "bare"

        async def aclose(self) -> None:
            return

    failures = wrong(await conform(Bare, request_))
    assert "missing" in failures["has the shape of the protocol"]


async def test_what_was_not_checked_says_so(request_: Request) -> None:
    verdicts = await conform(MockEngine, request_)
    assert {verdict.check for verdict in verdicts if "left out" in verdict.said} == {
        "can be cancelled",
        "fails with an engine's error",
    }


async def test_the_port_denies_unless_told_otherwise() -> None:
    question = Question("q", "shell", ("allow_once", "deny"))
    assert (await CollectingPort().ask(question)).option == "deny"
    assert (await CollectingPort(answer="allow_once").ask(question)).option == "allow_once"
