"""What agents' own reports say of how an answer ended, and of what they would try again."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.engines.acp import reporters as acp_reporters
from parallelai.engines.acp.errors import read_error, read_trouble
from parallelai.engines.acp.presets import PRESETS
from parallelai.engines.acp.report import (
    FILE,
    FOLDER,
    News,
    Reporter,
    failure_of,
    read_report,
    stop_of,
    trouble_of,
    usage_of,
)
from parallelai.errors import EngineError, RateLimited, Rejected, Transient
from parallelai.records import Usage

SINCE = "2026-11-21T10:00:00.000Z"
RECORDED = sorted((Path(__file__).parent / "streams" / "acp").glob("*/*.report"))
STOPS = {"work": "end_turn", "refused": "refusal", "cut-short": "max_tokens"}
TROUBLES: dict[str, type[EngineError]] = {
    "asked-to-wait": RateLimited,
    "failed": Transient,
    "broken-off": Transient,
}
WITHOUT_WAITS = "qwen-0.15.10"
"""It reports no event of its own for a call that it makes again, and so not for how long it waits."""
FAILED = {"wrong-key", "rejected-late"}


def _answer(
    *reasons: str, session: str = "s", at: str = "2026-11-21T10:00:01.000Z", role: str = "main"
) -> str:
    attributes = {
        "session.id": session,
        "event.name": "gemini_cli.api_response",
        "event.timestamp": at,
        "finish_reasons": list(reasons),
        "role": role,
    }
    return json.dumps({"resource": {"a": "}\n{"}, "attributes": attributes}, indent=2) + "\n"


@pytest.mark.parametrize(
    ("report", "stop"),
    [
        ("", None),
        (_answer("stop"), "end_turn"),
        (_answer("stop", "length"), "max_tokens"),
        (_answer("stop", "content_filter"), "refusal"),
        (_answer("length") + _answer("stop"), "end_turn"),  # the last answer of a turn counts
        (_answer("length", session="another"), None),
        (_answer("length", at="2026-11-21T09:59:59.999Z"), None),  # of the turn before
        (_answer("stop") + _answer("length", role="utility_router"), "end_turn"),
        (_answer("length")[:-9] + "\n" + _answer("stop"), "end_turn"),  # written in the midst of another
        (_answer(), "end_turn"),
    ],
)
def test_the_last_answer_of_a_turn_says_how_it_ended(report: str, stop: str | None) -> None:
    assert stop_of(acp_reporters.GEMINI, report, "s", SINCE) == stop


@given(cut=st.integers(0, 400), noise=st.text(max_size=40))
def test_a_garbled_report_says_nothing_or_the_truth(cut: int, noise: str) -> None:
    whole = _answer("length")
    found = stop_of(acp_reporters.GEMINI, whole[:cut] + noise + whole[cut:], "s", SINCE)
    assert found in {None, "max_tokens", "end_turn"}


# -- as the agents wrote it


def recorded(path: Path) -> tuple[Reporter, str, str]:
    """The reader of a recording, its text, and the session that it is of."""
    reporter = PRESETS[path.parent.name.partition("-")[0]].reports
    assert reporter is not None
    text = path.read_text()
    first, _ = json.JSONDecoder().raw_decode(text)
    return reporter, text, first.get("session") or first["attributes"]["session.id"]


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", [path for path in RECORDED if path.stem in STOPS], ids=name_of)
def test_a_recorded_answer_ended_as_it_did(path: Path) -> None:
    reporter, text, session = recorded(path)
    assert stop_of(reporter, text, session, SINCE) == STOPS[path.stem]
    assert trouble_of(reporter, text, session, SINCE) is None


@pytest.mark.parametrize("path", [path for path in RECORDED if path.stem in TROUBLES], ids=name_of)
def test_a_recorded_call_that_would_be_made_again_is_an_error(path: Path) -> None:
    reporter, text, session = recorded(path)
    call = trouble_of(reporter, text, session, SINCE)
    if reporter is acp_reporters.GEMINI:  # a setting keeps it from trying again
        assert call is None
        return
    assert call is not None
    assert call.trouble is not None
    is_told_in_full = path.parent.name != WITHOUT_WAITS or path.stem == "broken-off"
    assert call.is_brief != is_told_in_full
    error = read_trouble("it", call.trouble, call.wait_seconds)
    assert type(error) is TROUBLES[path.stem]
    if isinstance(error, RateLimited):
        asked = error.retry_after_seconds
        assert asked == pytest.approx(7, abs=0.1) if is_told_in_full else asked is None
        assert not error.is_quota
        assert "Rate limit reached" in error.said


@pytest.mark.parametrize("path", [path for path in RECORDED if path.stem in FAILED], ids=name_of)
def test_a_recorded_call_that_failed_for_good_is_not_stopped(path: Path) -> None:
    reporter, text, session = recorded(path)
    assert trouble_of(reporter, text, session, SINCE) is None
    words = failure_of(reporter, text, session, SINCE)
    if reporter is acp_reporters.OPENCODE:  # of the others the protocol says it
        assert type(read_error("it", 0, words or "")) is Rejected
    else:
        assert words is None


def test_an_answer_after_a_failure_is_the_end_of_the_turn() -> None:
    end = {"session": "s", "at": "2026-11-21T10:00:02.000Z"}
    failed = json.dumps({**end, "failed": "400 too long"}, indent=2) + "\n"
    answered = json.dumps({**end, "finish": "stop", "tools": False}, indent=2) + "\n"
    reporter = acp_reporters.OPENCODE
    assert failure_of(reporter, answered + failed, "s", SINCE) == "400 too long"
    assert failure_of(reporter, failed + answered, "s", SINCE) is None
    assert failure_of(reporter, failed, "another", SINCE) is None


def answer(id: str, *counts: int, session: str = "s", at: str = "2026-11-21T10:00:02.000Z") -> str:
    given, read, output, reasoning = counts
    tokens = {"input": given, "output": output, "reasoning": reasoning, "cache": {"read": read, "write": 0}}
    return json.dumps({"at": at, "session": session, "message": id, "tokens": tokens}, indent=2) + "\n"


def test_what_opencode_s_calls_took_is_added_up_once_each() -> None:
    first, last = answer("m1", 100, 800, 35, 5), answer("m2", 10, 900, 7, 0)
    others = answer("m0", 5, 5, 5, 5, at="2025-01-01T00:00:00.000Z") + answer("m3", 5, 5, 5, 5, session="x")
    report = others + first * 2 + others + last * 2
    reporter = acp_reporters.OPENCODE
    assert usage_of(reporter, report, "s", SINCE, Usage(910, 900, 7)) == Usage(1810, 1700, 42, 5)
    assert usage_of(reporter, others + first, "s", SINCE, Usage(910, 900, 7)) is None, "the last is missing"
    assert usage_of(reporter, others, "s", SINCE, Usage(910, 900, 7)) is None
    assert usage_of(acp_reporters.GEMINI, report, "s", SINCE, Usage(910, 900, 7)) is None
    assert stop_of(reporter, report, "s", SINCE) is None


def test_each_agent_that_reports_was_recorded() -> None:
    names = {name: {path.stem for path in RECORDED if path.parent.name.startswith(name)} for name in PRESETS}
    assert names["opencode"] == names["qwen"] == {*STOPS, *TROUBLES, *FAILED}
    assert names["gemini"] >= set(STOPS)


@given(data=st.data())
def test_a_garbled_recording_breaks_nothing(data: st.DataObject) -> None:
    reporter, text, session = recorded(data.draw(st.sampled_from(RECORDED)))
    start = data.draw(st.integers(0, len(text)))
    garbled = text[:start] + data.draw(st.text(max_size=20)) + text[start + data.draw(st.integers(0, 40)) :]
    stop_of(reporter, garbled, session, SINCE)
    trouble_of(reporter, garbled, session, SINCE)
    failure_of(reporter, garbled, session, SINCE)
    usage_of(reporter, garbled, session, SINCE, Usage(1, 1, 1))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just("s"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = (
    (acp_reporters.GEMINI, ("event.name", "event.timestamp", "session.id", "role", "finish_reasons")),
    (
        acp_reporters.QWEN,
        (
            *(
                "event.name",
                "event.timestamp",
                "session.id",
                "success",
                "llm_request.context",
                "finish_reason",
            ),
            *("error_status_code", "error_type", "error_message", "retry_delay_ms", "status_code"),
        ),
    ),
    (
        acp_reporters.OPENCODE,
        ("session", "at", "retry", "wait", "finish", "tools", "failed", "message", "tokens"),
    ),
)
GOOD = {
    "session": "s",
    "session.id": "s",
    "at": "2026-11-21T10:00:01.000Z",
    "event.timestamp": "2026-11-21T10:00:01.000Z",
    "role": "main",
    "finish_reasons": ["stop"],
    "finish": "stop",
    "retry": "429",
    "error_message": "429",
    "error_type": "NO_FINISH_REASON",
}


@given(data=st.data())
def test_what_stands_in_a_report_gives_an_error_of_ours_or_nothing(data: st.DataObject) -> None:
    reporter, names = data.draw(st.sampled_from(NAMES))
    marks = st.sampled_from([mark.strip('"') for mark in reporter.marks])
    told = {}
    for name in names:
        good = marks if name == "event.name" else st.just(GOOD.get(name, 5))
        if data.draw(st.integers(0, 5)):
            told[name] = data.draw(good if data.draw(st.booleans()) else JSON)
    whole = told if reporter is acp_reporters.OPENCODE else {"attributes": told, "name": data.draw(marks)}
    record = {"startTime": data.draw(JSON | st.lists(st.integers() | st.floats(), min_size=2)), **whole}
    report = json.dumps(record, indent=2) + "\n"
    assert stop_of(reporter, report, "s", SINCE) in {None, *STOPS.values()}
    failure = failure_of(reporter, report, "s", SINCE)
    assert failure is None or isinstance(read_error("it", 0, failure), EngineError)
    assert isinstance(usage_of(reporter, report, "s", SINCE, Usage(1, 1, 1)), Usage | None)
    if (call := trouble_of(reporter, report, "s", SINCE)) is not None:
        error = read_trouble("it", call.trouble or "", call.wait_seconds)
        assert isinstance(error, EngineError)
        assert not isinstance(error, RateLimited) or (error.retry_after_seconds or 0) <= 7 * 86_400


@pytest.mark.parametrize("at", [5, None, [], {}, "", [1e17, 0], [1e308, 0], [float("nan"), 0], ["x", 0]])
def test_a_call_at_a_time_that_is_none_does_not_count(at: Any) -> None:
    opencodes = {"session": "s", "at": at, "retry": "429", "wait": 5}
    failed = {"session.id": "s", "success": False, "error_type": "x"}
    qwens = {"name": "qwen-code.llm_request", "startTime": at, "attributes": failed}
    for reporter, record in ((acp_reporters.OPENCODE, opencodes), (acp_reporters.QWEN, qwens)):
        assert trouble_of(reporter, json.dumps(record, indent=2) + "\n", "s", SINCE) is None


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("429 You exceeded your current quota", RateLimited),
        ("429 RateLimitError", RateLimited),
        ("529 Overloaded", Transient),
        ("something new", Transient),  # what is tried again helps to try again
        ("400 this once more", Transient),
    ],
)
def test_whatever_would_be_tried_again_is_worth_it(words: str, kind: type[EngineError]) -> None:
    error = read_trouble("it", words, None)
    assert type(error) is kind
    assert words in error.said


# -- the file


def test_what_an_agent_puts_in_the_reports_place_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    assert read_report(tmp_path) == ""
    os.mkfifo(tmp_path / FILE)
    assert read_report(tmp_path) == ""
    assert News(tmp_path).read() == ""


def test_what_an_agent_writes_into_it_holds_nobody_up() -> None:
    reporter = acp_reporters.OPENCODE
    for flood in ("{\n", "\n}\n", '{\n"retry"\n}\n', '{\n"retry": ' + "[" * 100_000 + "\n}\n"):
        assert trouble_of(reporter, flood * (1_000_000 // len(flood)), "s", SINCE) is None


def test_news_are_whole_objects_from_now_on(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    file = tmp_path / FILE
    file.write_text(_answer("stop"))
    news = News(tmp_path)
    answer = _answer("length")
    for text, told in (("", ""), (answer[:50], ""), (answer[50:] + answer[:9], answer), (answer[9:], answer)):
        with file.open("a") as stream:
            stream.write(text)
        assert news.read() == told


# -- the plugin of opencode


def test_the_plugin_tells_of_retries_and_ends_of_subagents_too(tmp_path: Path) -> None:
    events: list[tuple[str, dict[str, Any]]] = [
        ("session.created", {"sessionID": "child", "info": {"id": "child", "parentID": "s"}}),
        ("session.status", {"sessionID": "child", "status": {"type": "busy"}}),
        ("session.status", {"sessionID": "child", "status": _retry("429 slow down")}),
        ("message.part.updated", {"sessionID": "s", "part": {"type": "tool", "messageID": "m1"}}),
        ("message.updated", {"sessionID": "s", "info": _message("m1", "unknown")}),
        ("message.updated", {"sessionID": "s", "info": _message("m2", None)}),
        ("message.updated", {"sessionID": "s", "info": _message("m3", "length")}),
        ("message.updated", {"sessionID": "s", "info": {**_message("m4", "stop"), "summary": True}}),
        ("server.heartbeat", {}),
        ("session.error", {"sessionID": "s", "error": {"data": {"message": "wrong key", "statusCode": 401}}}),
    ]
    folder = tmp_path / "agent"
    for name in (FOLDER, "settings"):
        (folder / name).mkdir(parents=True)
    reporter = acp_reporters.OPENCODE
    (folder / "settings" / "report.mjs").write_text(reporter.files["report.js"])
    script = (
        "const { Report } = await import('./agent/settings/report.mjs'); const plugin = await Report();"
        "for (const [type, properties] of JSON.parse(process.argv[1]))"
        "  await plugin.event({ event: { type, properties } })"
    )
    subprocess.run(
        ["node", "--input-type=module", "-e", script, json.dumps(events)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **reporter.variables(folder)},
        check=True,
    )
    report = read_report(folder)
    call = trouble_of(reporter, report, "s", SINCE)
    assert call is not None
    assert (call.trouble, call.wait_seconds is not None) == ("429 slow down", True)
    assert stop_of(reporter, report, "s", SINCE) == "max_tokens"
    assert report.count('"finish"') == 2
    assert failure_of(reporter, report, "s", SINCE) == "401 wrong key"


def _retry(message: str) -> dict[str, Any]:
    return {"type": "retry", "attempt": 1, "message": message, "next": 1e15}


def _message(id: str, finish: str | None) -> dict[str, Any]:
    return {"id": id, "role": "assistant", "sessionID": "s", "finish": finish}
