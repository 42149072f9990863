"""The readers of the clients' lines: recorded streams, whole, cut and garbled. No client is started."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.engines.clients.claude_stream import ClaudeReader, ClaudeVoice
from parallelai.engines.clients.client import Ask, check_end
from parallelai.engines.clients.codex_stream import CodexReader, recorded_total
from parallelai.engines.clients.errors import judge, retry_after
from parallelai.engines.protocol import (
    Answer,
    FilesEvent,
    PlanEvent,
    Question,
    SessionEvent,
    TextEvent,
    ToolEvent,
    WaitingEvent,
    stream_to_json,
)
from parallelai.errors import EngineError, Invalid, RateLimited, Refused, Rejected, SessionGone, Transient
from parallelai.processes import Completed
from parallelai.records import LimitKey, Usage

STREAMS = Path(__file__).parent / "streams"
RECORDED = sorted(STREAMS.glob("*/*.jsonl"))
WORK = [path for path in RECORDED if path.stem in {"work", "structured", "overloaded"}]
CLAUDE = STREAMS / "claude-code-2.1.329"
ROOT = "/bench/repo"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def reader_of(path: Path) -> ClaudeReader | CodexReader:
    key = LimitKey("it")
    if path.parent.name.startswith("claude"):
        return ClaudeReader("it", ROOT, key, lambda: NOW)
    return CodexReader("it", ROOT, key, None)


def ended(exit: int | None = 0, stderr: bytes = b"", signal: int | None = None) -> Completed:
    return Completed(exit, signal, b"", stderr, 1.0)


def read(
    path: Path, data: bytes | None = None
) -> tuple[ClaudeReader | CodexReader, list[Any], EngineError | None]:
    """Read a stream to its end; the error is what the turn would end with."""
    reader, events = reader_of(path), []
    try:
        for line in (path.read_bytes() if data is None else data).split(b"\n"):
            if line.strip():
                events += reader.take(line)
        check_end("it", "1.2.3", reader, ended())
    except EngineError as error:
        return reader, events, error
    return reader, events, None


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recorded_stream_is_understood(path: Path) -> None:
    errors: dict[str, type[EngineError] | None] = {
        "work": None,
        "structured": None,
        "overloaded": None if path.parent.name.startswith("claude") else Transient,
        "limited": RateLimited,
        "wrong-key": Rejected,
        "failed-late": Transient,
        "refused": Refused,
    }
    reader, events, error = read(path)
    expected = errors[path.stem]
    assert error is None if expected is None else type(error) is expected
    assert reader.strange == 0
    assert [event for event in events if isinstance(event, SessionEvent)] == [
        SessionEvent(str(reader.session))
    ]
    if path.stem in {"work", "failed-late"}:
        states = [(event.name, event.state) for event in events if isinstance(event, ToolEvent)]
        assert states[-2:] == [("shell", "started"), ("shell", "ended")]
        assert "I write." in "".join(event.delta for event in events if isinstance(event, TextEvent))
    if path.stem == "work":
        assert reader.text == "All is done."
        assert reader.usage() is not None
        assert (reader.usage() or Usage()).input == 2700


def test_each_client_was_recorded_in_more_than_one_version() -> None:
    versions = Counter(path.parent.name.rpartition("-")[0] for path in RECORDED if path.stem == "work")
    assert set(versions) == {"claude-code", "codex"}
    assert min(versions.values()) > 1


def test_what_claude_wrote_and_waited_for_is_told() -> None:
    _, events, _ = read(CLAUDE / "work.jsonl")
    assert FilesEvent(("a.txt",)) in events
    told = "".join(event.delta for event in events if isinstance(event, TextEvent))
    assert told.count("All is done.") == 1
    assert told.endswith("All is done.\n")  # what the next turn says begins on a line of its own
    _, events, _ = read(CLAUDE / "overloaded.jsonl")
    assert [event.why for event in events if isinstance(event, WaitingEvent)] == ["overloaded"]


@pytest.mark.parametrize("path", WORK, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_stream_that_is_cut_is_no_success(path: Path) -> None:
    data = path.read_bytes().rstrip(b"\n")
    last = len(data.splitlines()[-1])
    for size in (0, 1, len(data) // 2, len(data) - last, len(data) - 1):
        _, _, error = read(path, data[:size])
        assert isinstance(error, Transient | Invalid), size


@given(data=st.data())
def test_a_garbled_stream_breaks_nothing(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(RECORDED))
    lines = path.read_bytes().splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    line = lines[number]
    start = data.draw(st.integers(0, len(line)))
    stop = data.draw(st.integers(start, min(len(line), start + 40)))
    lines[number] = line[:start] + data.draw(st.binary(max_size=20)) + line[stop:]
    _, events, error = read(path, b"\n".join(lines))
    for event in events:
        if not isinstance(event, Ask):
            json.dumps(stream_to_json(event))
    whole = read(path)[2]
    if whole is not None and number < len(lines) - 1:
        assert error is not None  # what failed does not become a success by a broken line before its end


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(data=st.data(), value=JSON)
def test_any_value_in_place_of_any_other_breaks_nothing(data: st.DataObject, value: Any) -> None:
    path = data.draw(st.sampled_from(RECORDED))
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    place: Any = lines
    while isinstance(place, dict | list) and place:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            place[key] = value
            break
        place = place[key]
    _, events, error = read(path, b"\n".join(json.dumps(line).encode() for line in lines))
    assert all(isinstance(event, Ask) or json.dumps(stream_to_json(event)) for event in events)
    assert error is None or error.said


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_noise_is_never_a_success(lines: list[bytes]) -> None:
    for path in (RECORDED[0], RECORDED[-1]):
        assert read(path, b"\n".join(lines))[2] is not None


def test_a_bomb_is_only_a_strange_line() -> None:
    reader = ClaudeReader("it", ROOT, LimitKey("it"))
    assert reader.take(b"[" * 200_000) == []
    assert reader.take(b'{"type": "assistant", "message": ' + b'{"a":' * 50_000) == []
    assert reader.strange == 2


def test_a_subscription_that_is_used_up_says_until_when() -> None:
    reader = ClaudeReader("it", ROOT, LimitKey("it"), lambda: NOW)
    info = {"status": "rejected", "resetsAt": int(NOW.timestamp()) + 3600}
    (event,) = reader.take(json.dumps({"type": "rate_limit_event", "rate_limit_info": info}).encode())
    assert event == WaitingEvent("rate_limited", "2026-11-20T13:00:00Z", LimitKey("it"))
    end = {
        "type": "result",
        "is_error": True,
        "result": "You've hit your session limit",
        "api_error_status": 429,
    }
    reader.take(json.dumps(end).encode())
    with pytest.raises(RateLimited) as caught:
        check_end("it", None, reader, ended(1))
    assert (caught.value.is_quota, caught.value.retry_after_seconds) == (True, 3600)


def test_an_error_that_calls_itself_a_success_is_none() -> None:
    reader = ClaudeReader("it", ROOT, LimitKey("it"))
    reader.take(
        b'{"type":"result","subtype":"success","is_error":true,"result":"API Error: 500","api_error_status":500}'
    )
    with pytest.raises(Transient):
        check_end("it", None, reader, ended(0))


@pytest.mark.parametrize(
    ("lines", "said", "advice"),
    [
        ([], "`it 9.9.9` printed nothing and ended (exit 3): no such option", "`parallelai engines test it`"),
        (
            [b"Welcome!", b'{"type":"system","subtype":"init","session_id":"s"}', b"{}"],
            "`it 9.9.9` ended without an answer, and ParallelAI cannot read 2 of the 3 lines that it printed"
            " (exit 3): no such option",
            "`parallelai engines conform it`",
        ),
    ],
    ids=["nothing", "strange lines"],
)
def test_of_a_client_that_says_nothing_readable_is_told_what_to_do(
    lines: list[bytes], said: str, advice: str
) -> None:
    reader = ClaudeReader("it", ROOT, LimitKey("it"))
    for line in lines:
        reader.take(line)
    with pytest.raises(Invalid) as caught:
        check_end("it", "9.9.9", reader, ended(3, b"no such option\n"))
    assert caught.value.said == said
    assert advice in str(caught.value.next)


def test_a_price_that_claude_guesses_is_unknown_and_one_that_it_knows_its_own() -> None:
    for basis, told, usd in (
        ("unknown", 0.5, None),
        ("published", 0.5, 0.5),
        ("published", 1e999, None),
        ("published", -1, None),
    ):
        reader = ClaudeReader("it", ROOT, LimitKey("it"))
        figures = {
            "inputTokens": 5,
            "cacheReadInputTokens": 90,
            "outputTokens": 7,
            "costUSD": told,
            "costBasis": basis,
        }
        end = {
            "type": "result",
            "result": "x",
            "model_usage_since_last_result": {"m": figures},
            "total_cost_usd": 9,
        }
        reader.take(json.dumps(end).encode())
        usage = reader.usage()
        assert usage is not None
        assert (usage.input, usage.cached, usage.output, usage.usd) == (95, 90, 7, usd)


def test_messages_that_no_result_counted_are_counted_once() -> None:
    reader = ClaudeReader("it", ROOT, LimitKey("it"))
    message = {"id": "m", "model": "m1", "content": [], "usage": {"input_tokens": 100, "output_tokens": 3}}
    for _ in range(3):
        reader.take(json.dumps({"type": "assistant", "message": message}).encode())
    assert reader.usage() == Usage(100, 0, 3, None, None, "unknown")


def test_claudes_lists_become_a_plan() -> None:
    reader = ClaudeReader("it", ROOT, LimitKey("it"))
    part = {
        "type": "tool_use",
        "id": "t",
        "name": "TodoWrite",
        "input": {"todos": [{"content": "one\x1b[31m"}]},
    }
    events = reader.take(
        json.dumps({"type": "assistant", "message": {"id": "m", "content": [part]}}).encode()
    )
    assert PlanEvent(("one",)) in events


def test_answers_repeat_what_was_asked_and_denials_say_why() -> None:
    ask = Ask("r1", Question("r1", "shell", ("allow_once", "deny")), {"command": "ls"})
    voice = ClaudeVoice()
    allowed = json.loads(voice.answer(ask, Answer("allow_once")))["response"]
    assert allowed["response"] == {"behavior": "allow", "updatedInput": {"command": "ls"}}
    assert json.loads(voice.answer(ask, Answer("deny", "ana")))["response"]["response"]["behavior"] == "deny"
    assert json.loads(voice.message("one\ntwo\ud800"))["message"]["content"] == "one\ntwo\ud800"


def test_codex_that_begins_to_ask_again_is_ended() -> None:
    reader = CodexReader("it", ROOT, LimitKey("it"), None)
    line = {
        "type": "error",
        "message": "Reconnecting... 1/5 (exceeded retry limit, last status: 429 Too Many Requests)",
    }
    with pytest.raises(RateLimited):
        reader.take(json.dumps(line).encode())


def test_what_a_codex_session_took_is_read_from_its_file(tmp_path: Path) -> None:
    session = "01a1fc5e-ceb9-7601-9c1d-11a2ec9b3153"
    folder = tmp_path / "sessions" / "2026" / "11" / "20"
    folder.mkdir(parents=True)
    counts = [{"input_tokens": n, "cached_input_tokens": 1, "output_tokens": 2} for n in (10, 30)]
    lines = [{"payload": {"type": "token_count", "info": {"total_token_usage": count}}} for count in counts]
    text = "\n".join(
        json.dumps(line) for line in [*lines, {"payload": {"type": "token_count", "info": None}}]
    )
    (folder / f"rollout-2026-{session}.jsonl").write_text(text + "\nhalf a li")
    assert recorded_total(tmp_path, session) == Usage(30, 1, 2, None)
    assert recorded_total(tmp_path, "../../etc") is None
    assert recorded_total(tmp_path, None) is None


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Try again in 3 days 5 hours 2 minutes.", 277_320),
        ("try again in 20s", 20),
        ("resets in 1 hour, 30 min", 5_400),
        ("no idea", None),
        ("try again in a moment", None),
    ],
)
def test_how_long_to_wait_is_found_in_words(words: str, seconds: float | None) -> None:
    assert retry_after(words) == seconds


@given(st.text(max_size=200), st.none() | st.integers(100, 700))
def test_any_words_are_some_error(words: str, status: int | None) -> None:
    error = judge("it", words, status=status)
    assert isinstance(error, EngineError)
    assert error.said.startswith("`it`")


@pytest.mark.parametrize(
    "words",
    [
        "No conversation found with session ID: 11111111-2222-4333-8444-555555555555",
        "Error: thread/resume: thread/resume failed: no rollout found for thread id 1111-22 (code -32600)",
    ],
)
def test_a_session_that_a_client_does_not_know_is_told_from_other_refusals(words: str) -> None:
    assert type(judge("it", words)) is SessionGone
    assert type(judge("it", "invalid api key")) is Rejected
