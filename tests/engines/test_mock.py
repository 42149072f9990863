"""The mock answers at once, or does what its script says."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from parallelai.engines.conformance import CollectingPort
from parallelai.engines.context import EngineContext
from parallelai.engines.mock import MockEngine, Rule, parse_script
from parallelai.engines.protocol import FinalEvent, Request, UsageEvent
from parallelai.errors import (
    ConfigError,
    EngineError,
    Invalid,
    RateLimited,
    Refused,
    TimedOut,
    Transient,
    UsageError,
)
from parallelai.plan.model import EngineEntry, Price
from parallelai.records import FREE, LimitKey, Severity, Usage

REQUEST = Request(run="r", task="t", attempt=1, root="/repo", prompt="do it")


async def ask(engine: MockEngine, task: str = "t", attempt: int = 1, **changes: object) -> str | None:
    reply = await engine.perform(replace(REQUEST, task=task, attempt=attempt, **changes), CollectingPort())
    return reply.text


async def test_answers_at_once_without_a_script() -> None:
    port = CollectingPort()
    reply = await MockEngine().perform(REQUEST, port)
    assert (reply.text, reply.usage) == ("ok", FREE)
    assert port.events == [FinalEvent(ok=True)]


async def test_finds_nothing_without_a_script() -> None:
    reply = await MockEngine().perform(replace(REQUEST, output="findings"), CollectingPort())
    assert (reply.findings, reply.text) == ((), None)


async def test_has_no_data_to_make_up_for_a_schema() -> None:
    with pytest.raises(Invalid, match="no data"):
        await ask(MockEngine(), output="schema")
    reply = await MockEngine(script=[Rule(data={"n": 1})]).perform(
        replace(REQUEST, output="schema"), CollectingPort()
    )
    assert reply.data == {"n": 1}


async def test_the_first_rule_that_fits_is_what_happens() -> None:
    engine = MockEngine(
        script=[Rule("a-*", text="one"), Rule("a-b", text="two"), Rule("c", attempts=(2,), text="three")]
    )
    assert await ask(engine, "a-b") == "one"
    assert await ask(engine, "c", attempt=1) == "ok"
    assert await ask(engine, "c", attempt=2) == "three"
    assert list(engine.calls) == ["a-b", "c", "c"]


async def test_rules_count_their_calls() -> None:
    engine = MockEngine(script=[Rule(after=2, every=2, times=2, text="x")])
    assert [await ask(engine) for _ in range(8)] == ["ok", "ok", "x", "ok", "x", "ok", "ok", "ok"]


async def test_fails_as_the_script_says_then_answers() -> None:
    engine = MockEngine(script=[Rule(times=1, error="transient", said="503"), Rule(times=1, error="refused")])
    with pytest.raises(Transient, match="503"):
        await ask(engine)
    with pytest.raises(Refused):
        await ask(engine)
    assert await ask(engine) == "ok"


async def test_a_rate_limit_says_how_long_to_wait() -> None:
    engine = MockEngine(script=[Rule(error="rate_limited", retry_after=2.5, is_quota=True)])
    with pytest.raises(RateLimited) as caught:
        await ask(engine)
    assert (caught.value.retry_after_seconds, caught.value.is_quota) == (2.5, True)


async def test_a_failed_call_sends_no_final_event() -> None:
    port = CollectingPort()
    with pytest.raises(EngineError):
        await MockEngine(script=[Rule(error="internal")]).perform(REQUEST, port)
    assert port.events == []


async def test_a_hanging_call_ends_by_its_time_out_or_by_being_cancelled() -> None:
    engine = MockEngine(script=[Rule(hang=True)])
    with pytest.raises(TimedOut):
        await ask(engine, timeout_seconds=0.01)
    async with asyncio.TaskGroup() as group:
        turn = group.create_task(ask(engine))
        await asyncio.sleep(0)
        turn.cancel()
    assert turn.cancelled()


async def test_latency_is_waited_for_and_the_calls_overlap() -> None:
    engine = MockEngine(script=[Rule("slow", latency=0.02, text="slow"), Rule(text="quick")])
    order: list[str | None] = []

    async def keep(task: str) -> None:
        order.append(await ask(engine, task))

    async with asyncio.TaskGroup() as group:
        group.create_task(keep("slow"))
        group.create_task(keep("other"))
    assert order == ["quick", "slow"]


async def test_usage_is_free_unless_the_entry_has_a_price() -> None:
    usage = Usage(input=1_000_000, cached=500_000, output=100_000)
    free = await MockEngine(script=[Rule(usage=usage)]).perform(REQUEST, CollectingPort())
    assert (free.usage.usd, free.usage.basis, free.usage.tokens) == (0.0, "free", 1_100_000)
    entry = EngineEntry(use="mock", price=Price(input=2.0, output=10.0, cached=0.2))
    priced = MockEngine("dear", entry, script=[Rule(usage=usage)])
    port = CollectingPort()
    reply = await priced.perform(REQUEST, port)
    assert reply.usage.usd == pytest.approx(1.0 + 0.1 + 1.0)
    assert reply.usage.basis == "prices"
    assert UsageEvent(reply.usage) in port.events
    assert priced.estimate(REQUEST).usd == reply.usage.usd
    assert priced.estimate(REQUEST).tokens == 1_100_000


def test_limits_count_by_model() -> None:
    engine = MockEngine("m")
    assert engine.limit_key(REQUEST) == LimitKey("m")
    assert engine.limit_key(replace(REQUEST, model="large")) == LimitKey("m", "default", "large")


async def test_reads_its_script_from_the_file_that_the_plan_names(tmp_path: Path) -> None:
    (tmp_path / "script.yaml").write_text(
        "- task: 'review@*'\n"
        "  findings: [{file: a.py, line: 3, severity: high, message: m}]\n"
        "  usage: {input: 9, output: 1}\n"
        "- {task: 'x', text: hello, latency: 0}\n"
    )
    engine = MockEngine("m", EngineEntry(use="mock", args=("script.yaml",)), EngineContext(tmp_path))
    assert await ask(engine, "x") == "hello"
    reply = await engine.perform(replace(REQUEST, task="review@a.py", output="findings"), CollectingPort())
    (finding,) = reply.findings
    assert (finding.line, finding.severity) == ((3, 3), Severity.HIGH)
    assert reply.usage.tokens == 10


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not YAML"),
        ("a: 1", "list of rules"),
        ("- [1]", "not a mapping"),
        ("- {tusk: a}", "`tusk`"),
        ("- {latency: soon}", "`latency`"),
        ("- {latency: -1}", "latency"),
        ("- {every: 0}", "every"),
        ("- {error: melted}", "`melted`"),
        ("- &a {text: x}\n- *a", "aliases"),
        ("- {findings: [{file: a.py}]}", "findings.0"),
        ("- !!python/object/apply:os.system [id]", "not YAML"),
    ],
)
def test_refuses_a_script_that_is_wrong_and_says_where(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_script(text, shown="s.yaml")
    assert said in caught.value.said
    assert "s.yaml" in (caught.value.where or "")


@pytest.mark.parametrize("path", ["../outside.yaml", "/etc/passwd", "link.yaml"])
def test_reads_no_script_outside_the_project(tmp_path: Path, path: str) -> None:
    root = tmp_path / "repo"
    root.mkdir()
    (tmp_path / "outside.yaml").write_text("[]")
    (root / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    with pytest.raises(UsageError, match="out of the project"):
        MockEngine("m", EngineEntry(use="mock", args=(path,)), EngineContext(root))


def test_a_missing_script_is_an_error_when_the_engine_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        MockEngine("m", EngineEntry(use="mock", args=("none.yaml",)), EngineContext(tmp_path))


@pytest.mark.parametrize("key", [{"base_url": "http://x"}, {"max_turns": 3}, {"network": "off"}])
def test_refuses_keys_that_would_have_no_effect(tmp_path: Path, key: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(key))):
        MockEngine("m", EngineEntry(use="mock", **key), EngineContext(tmp_path))
