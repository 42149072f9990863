"""Whole runs with model engines against a server on 127.0.0.1: every file accounted for, every request counted."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from loopback import EMPTY, LIMITS, Fault, Loopback, Seen

from parallelai import AsyncParallelAI, Claude, MultiEngine, OpenAI, RunDocument
from parallelai.engines.models.keys import masked, split_at_key
from parallelai.events import Event

KEY = "sk-of-a-run-0123456789abcdefghij"
FILES = 40
SOURCE = "def part():\n    return 1 / 0\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of forty files, in which one stands; no setting of this machine counts."""
    for number in range(FILES):
        path = tmp_path / "src" / f"part{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# part {number}\n{SOURCE}")
    for name in (
        "OPENAI_BASE_URL",
        "ANTHROPIC_BASE_URL",
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "http_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def about(seen: Seen) -> str:
    """The file that a request is about."""
    found = re.search(r"src/part\d+\.py", seen.prompt)
    return found[0] if found else ""


def finding(seen: Seen) -> str:
    one = {
        "file": about(seen),
        "line": 3,
        "severity": "high",
        "category": "bug",
        "message": "It divides by zero.",
        "quote": "return 1 / 0",
        "suggestion": None,
        "confidence": 0.9,
    }
    return json.dumps({"findings": [one]})


async def review(here: Path, engine: Any, **more: Any) -> tuple[RunDocument, list[Event]]:
    events: list[Event] = []
    async with AsyncParallelAI(here) as ai:
        document = await ai.review("src", engine=engine, on_events=events.extend, **more)
    return document, events


@pytest.mark.parametrize("kind", [Claude, OpenAI])
async def test_a_review_asks_once_for_each_file(kind: Any, here: Path) -> None:
    async with Loopback(finding, headers=LIMITS["openai"]) as server:
        document, _ = await review(here, kind(base_url=server.url), parallel=10)
    assert document.exit == 0
    assert document.counts["ok"] == FILES
    assert {found.file for found in document.findings} == {f"src/part{n}.py" for n in range(FILES)}
    assert Counter(about(seen) for seen in server.seen) == Counter(f"src/part{n}.py" for n in range(FILES))
    assert all("return 1 / 0" in seen.prompt for seen in server.seen)
    assert len(server.peers) <= 10
    assert document.usage.input == 100 * FILES
    assert (document.usage.usd, document.usage.basis) == (0.0, "free")


async def test_two_engines_share_the_work(here: Path) -> None:
    async with Loopback(finding) as server:
        engines = MultiEngine([Claude(base_url=server.url), OpenAI(base_url=server.url)])
        document, _ = await review(here, engines, parallel=4)
    assert document.counts["ok"] == FILES
    assert server.count == FILES
    assert {task.engine for task in document.tasks} == {"claude", "openai"}
    assert {seen.path for seen in server.seen} == {"/v1/messages", "/v1/chat/completions"}


async def test_faults_cost_tries_and_lose_no_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the server always refuses fails, by name; what the server counted is what the journal has."""
    monkeypatch.setattr("parallelai.run.scheduling.attempts.backoff_seconds", lambda *_: 0.01)
    refused = {f"src/part{n}.py" for n in (3, 17)}
    once = {
        "src/part1.py": Fault(429, {"error": {"message": "slow"}}, {"Retry-After": "0.05"}),
        "src/part2.py": Fault(500, {"error": {"message": "oops"}}),
        "src/part4.py": Fault(cut_after=20),
        "src/part5.py": Fault(text="not JSON"),
        "src/part6.py": Fault(429, {"error": {"message": "slow"}}, {"retry-after-ms": "20"}),
        "src/part7.py": Fault(seconds=0.3),
        "src/part8.py": Fault(raw=b'{"id": '),
    }
    given: set[str] = set()

    def fault(seen: Seen) -> Fault | None:
        file = about(seen)
        if file in refused:
            return Fault(400, {"error": {"message": "this one never"}})
        if file in given:
            return None
        given.add(file)
        return once.get(file)

    async with Loopback(finding, faults=fault) as server:
        document, events = await review(here, OpenAI(base_url=server.url), parallel=8)
    assert document.exit == 4
    failed = {task.id.partition("@")[2]: task.error for task in document.tasks if task.status != "ok"}
    assert set(failed) == refused
    assert all(error is not None and "this one never" in error.said for error in failed.values())
    assert document.counts["ok"] == FILES - 2
    ended = [event for event in events if event.type == "attempt.ended"]
    assert server.count == len(ended) + 1  # and the one call that repaired an answer
    assert server.count == FILES + 5 + 1


async def test_a_key_is_nowhere_in_the_journal(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", KEY)
    bad = Fault(401, {"error": {"message": f"no such key: {KEY}"}})
    async with Loopback(faults=lambda seen: bad) as server:
        document, events = await review(here, OpenAI(base_url=server.url, api_key_env="A_KEY"), parallel=8)
    assert document.counts["ok"] == 0
    assert "no such key" in str(document.tasks[0].error)
    assert all(KEY in seen.headers["Authorization"] for seen in server.seen)
    assert KEY not in f"{document} {events}"
    stored = [path for path in (here / ".parallelai").rglob("*") if path.is_file()]
    assert stored
    assert not [path for path in stored if KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize("kind", [Claude, OpenAI])
@pytest.mark.parametrize("args", [[], ["stream"]])
async def test_a_key_that_an_answer_repeats_is_stored_masked(
    kind: Any, args: list[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's own, in the variable that its entry names, and one of another engine."""
    other = "an-other-key-of-the-environment"
    monkeypatch.setenv("A_LOGIN", KEY)
    monkeypatch.setenv("OPENROUTER_API_KEY", other)

    def echo(seen: Seen) -> str:
        one = json.loads(finding(seen))["findings"][0]
        return json.dumps({"findings": [{**one, "message": f"{KEY} {other} is in {about(seen)}"}]})

    async with Loopback(echo) as server:
        engine = kind(base_url=server.url, api_key_env="A_LOGIN", args=args)
        document, events = await review(here, engine, parallel=8)
    assert {found.message for found in document.findings} == {
        f"•••• •••• is in src/part{number}.py" for number in range(FILES)
    }
    assert KEY not in f"{document} {events}"
    assert other not in f"{document} {events}"
    told: dict[Path, str] = {}
    for path in (here / ".parallelai").rglob("*"):
        if path.is_file():
            stored = path.read_bytes()
            assert KEY.encode() not in stored
            assert other.encode() not in stored
            if path.suffix == ".jsonl":
                pieces = [json.loads(line) for line in stored.splitlines()]
                told[path] = "".join(one["delta"] for one in pieces if one["type"] == "text")
    assert len(told) == (FILES if args else 0)
    assert not [text for text in told.values() if KEY in text]


def test_a_key_is_masked_wherever_a_stream_is_cut() -> None:
    text = f"it is {KEY}, or {KEY[:9]}; {KEY}{KEY}{KEY[:20]}"
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1, 5):
            told, held = "", ""
            for piece in (text[:first], text[first:second], text[second:]):
                safe, held = split_at_key(held + piece, KEY)
                told += masked(safe, KEY)
            assert told + held == text.replace(KEY, "••••")


async def test_what_was_answered_is_taken_from_the_cache(here: Path) -> None:
    async with Loopback(EMPTY) as server:
        for _ in range(2):
            document, _ = await review(here, OpenAI(base_url=server.url, model="m"), parallel=8)
            assert document.counts["ok"] == FILES
        assert server.count == FILES


@pytest.mark.parametrize("use", ["openai", "anthropic"])
async def test_servers_that_the_environment_names_share_no_answers(
    use: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"{use.upper()}_BASE_URL"
    monkeypatch.setenv(f"{use.upper()}_API_KEY", KEY)
    async with Loopback(finding) as one, Loopback(EMPTY) as other:
        found = []
        for server in (one, other, one):
            monkeypatch.setenv(variable, server.url)
            document, _ = await review(here, use, model="m")
            found.append(len(document.findings))
    assert found == [FILES, 0, FILES]
    assert (one.count, other.count) == (FILES, FILES), "and each is asked once"


async def test_an_engine_of_the_library_is_known_by_its_settings(here: Path) -> None:
    """Replies of the same name with other settings are not taken for its own; its model comes before defaults."""
    (here / "parallelai.toml").write_text('[defaults]\nmodel = "another"\n')
    async with Loopback(EMPTY) as server:
        for settings in ({"temperature": 0.0}, {"temperature": 0.5}, {"base_url": f"{server.url}/"}):
            engine = OpenAI("one", name="m", **{"base_url": server.url, **settings})
            document, _ = await review(here, engine, parallel=8)
            assert document.counts["ok"] == FILES
    assert server.count == 3 * FILES
    assert {seen.body["model"] for seen in server.seen} == {"one"}


async def test_an_answer_that_is_no_json_is_kept_with_the_attempt(here: Path) -> None:
    async with Loopback(lambda seen: "Sorry, I see no \x1b[1mproblem.") as server:
        engine = OpenAI(model="m", base_url=server.url, api_key=KEY)
        async with AsyncParallelAI(here) as ai:
            document = await ai.review("src/part1.py", engine=engine)
            task = document.tasks[0]
            (log,) = ai.runs.logs(document.run, task.id)
    assert task.error is not None and f"runs logs {document.run}" in (task.error.next or "")  # noqa: PT018
    replies = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [one["text"] for one in replies if one["type"] == "reply"] == ["Sorry, I see no \x1b[1mproblem."]
