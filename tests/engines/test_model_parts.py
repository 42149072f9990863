"""The pure parts of the model engines: changes as data, schemas, limits, streams, names of models, addresses."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai import GPT4, Claude, MultiEngine, Ollama, OpenAI
from parallelai.engines.context import EngineContext
from parallelai.engines.edits import CHANGE_SCHEMA, FileEdit, Replacement, edits_to_data, read_edits
from parallelai.engines.listening import is_listening
from parallelai.engines.models.openai import OpenAIEngine
from parallelai.engines.models.servers import SERVERS, reached
from parallelai.engines.models.table import MODELS, TIERS, extended, model_name
from parallelai.engines.models.wire.limits import MOST_SECONDS, read_limits, retry_after, seconds_until
from parallelai.engines.models.wire.sse import EventStream
from parallelai.engines.models.wire.structure import FINDINGS, portable
from parallelai.engines.protocol import Engine, Request
from parallelai.engines.replies import FINDINGS_SCHEMA, parse_findings
from parallelai.errors import ConfigError, Invalid, UsageError
from parallelai.plan.model import EngineEntry
from parallelai.records import FilePart

# ---------------------------------------------------------------------- changes


def edits(*files: dict[str, Any]) -> tuple[FileEdit, ...]:
    return read_edits(json.dumps({"files": files}))


def test_a_change_is_read_and_written_again() -> None:
    read = edits(
        {"path": "src/./a.py", "content": ""},
        {"path": "b.py", "edits": [{"old": "x", "new": "y"}], "content": None},
        {"path": "c.py", "delete": True},
    )
    assert read == (
        FileEdit("src/a.py", content=""),
        FileEdit("b.py", edits=(Replacement("x", "y"),)),
        FileEdit("c.py", delete=True),
    )
    data = edits_to_data(read)
    jsonschema.validate(data, CHANGE_SCHEMA)
    assert read_edits(f"```json\n{json.dumps(data)}\n```") == read


@pytest.mark.parametrize(
    "file",
    [
        {"path": "../up.py", "content": "x"},
        {"path": "/etc/passwd", "content": "x"},
        {"path": "a\n.py", "content": "x"},
        {"path": "", "content": "x"},
        {"path": "a.py"},
        {"path": "a.py", "content": 3},
        {"path": "a.py", "edits": []},
        {"path": "a.py", "edits": [{"old": "x"}]},
        {"path": "a.py", "content": "x", "delete": True},
        {"content": "x"},
        "a.py",
    ],
)
def test_a_change_that_is_none_is_invalid(file: Any) -> None:
    with pytest.raises(Invalid):
        edits(file)


def test_a_file_changes_once() -> None:
    with pytest.raises(Invalid, match="twice"):
        edits({"path": "a.py", "content": "1"}, {"path": "./a.py", "delete": True})


def test_edits_are_looked_up_in_the_file_as_it_was() -> None:
    (edit,) = edits(
        {"path": "a", "edits": [{"old": "three", "new": "one"}, {"old": "one", "new": "two\nlines"}]}
    )
    assert edit.apply("one, three") == "two\nlines, one"
    assert edit.apply("one\r\nthree\r\n") == "two\r\nlines\r\none\r\n"  # line ends stay the user's


@pytest.mark.parametrize(
    ("before", "said"),
    [("one", "nowhere"), ("one three one", "2 times"), (None, "not there")],
)
def test_an_edit_that_does_not_fit_is_said(before: str | None, said: str) -> None:
    (edit,) = edits({"path": "a", "edits": [{"old": "one", "new": "1"}, {"old": "three", "new": "3"}]})
    with pytest.raises(Invalid, match=said):
        edit.apply(before)


def test_edits_that_overlap_are_refused() -> None:
    (edit,) = edits({"path": "a", "edits": [{"old": "abc", "new": "1"}, {"old": "cd", "new": "2"}]})
    with pytest.raises(Invalid, match="same text"):
        edit.apply("abcd")


def test_what_is_not_there_cannot_go() -> None:
    assert FileEdit("a", delete=True).apply("x") is None
    with pytest.raises(Invalid, match="not there"):
        FileEdit("a", delete=True).apply(None)


# ---------------------------------------------------------------------- schemas


def objects(schema: Any) -> list[dict[str, Any]]:
    """All objects in a schema."""
    below = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    own = [schema] if isinstance(schema, dict) and schema.get("type") == "object" else []
    return own + [found for part in below for found in objects(part)]


@pytest.mark.parametrize("schema", [FINDINGS.schema, CHANGE_SCHEMA], ids=["findings", "change"])
def test_what_is_sent_is_in_the_strict_subset(schema: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    for one in objects(schema):
        assert one["additionalProperties"] is False
        assert one["required"] == list(one["properties"])


def test_what_fits_the_sent_schema_of_findings_is_read() -> None:
    finding = {
        "file": "a.py",
        "line": 2,
        "severity": "low",
        "category": "style",
        "message": "m",
        "quote": "q",
        "suggestion": None,
        "confidence": 0.5,
    }
    data = {"findings": [finding]}
    jsonschema.validate(data, FINDINGS.schema)
    jsonschema.validate(data, FINDINGS_SCHEMA)
    assert parse_findings(json.dumps(data))[0].line == (2, 2)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
        {"allOf": [{"type": "string"}]},
        {"type": "array"},
        {"type": "array", "items": {"$ref": "http://elsewhere.invalid/schema"}},
    ],
)
def test_what_no_server_can_be_told_is_not_sent(schema: Any) -> None:
    assert portable(schema) is None


def test_a_schema_is_strict_only_if_everything_is_required() -> None:
    properties = {"a": {"type": "string", "minLength": 3}, "b": {"$ref": "#/$defs/b"}}
    schema = {"type": "object", "properties": properties, "$defs": {"b": {"enum": [1, 2]}}}
    loose = portable(schema)
    strict = portable({**schema, "required": ["a", "b"]})
    assert loose is not None
    assert strict is not None
    assert (loose.is_strict, strict.is_strict) == (False, True)
    assert strict.schema["properties"]["a"] == {"type": "string"}
    assert strict.schema["$defs"] == {"b": {"enum": [1, 2]}}


# ---------------------------------------------------------------------- limits

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1h2m3s", 3723.0),
        ("120ms", 0.12),
        ("12", 12.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("2026-01-01T00:00:08Z", 8.0),
        ("2026-01-01T01:00:08+01:00", 8.0),
        ("2025-01-01T00:00:00Z", 0.0),
        ("1767225610", 10.0),
        ("1767225610000", 10.0),
        ("Thu, 01 Jan 2026 00:00:20 GMT", 20.0),
        ("999999999", MOST_SECONDS),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("9" * 400, None),
        ("", None),
        (None, None),
    ],
)
def test_a_reset_is_read_in_every_form(value: str | None, seconds: float | None) -> None:
    assert seconds_until(value, {}, NOW) == seconds


def test_a_time_is_compared_with_the_servers_own_clock() -> None:
    headers = {"date": "Thu, 01 Jan 2026 00:00:00 GMT", "retry-after": "Thu, 01 Jan 2026 00:00:05 GMT"}
    assert retry_after(headers) == 5.0


def test_without_a_word_on_waiting_the_limit_that_is_used_up_says_it() -> None:
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "8s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "500",
        "x-ratelimit-reset-tokens": "30s",
    }
    assert retry_after(headers) == 8.0


def test_headers_of_gateways_count_requests_only() -> None:
    limits = read_limits({"x-ratelimit-limit": "20", "x-ratelimit-remaining": "3", "x-ratelimit-reset": "9"})
    assert limits is not None
    assert limits.requests is not None
    assert (limits.requests.limit, limits.requests.remaining, limits.requests.reset_seconds) == (20, 3, 9.0)
    assert limits.tokens is None


@given(st.dictionaries(st.sampled_from(["x-ratelimit-limit-requests", "retry-after", "date"]), st.text()))
def test_no_header_breaks_the_reader(headers: dict[str, str]) -> None:
    limits = read_limits(headers, NOW)
    assert (
        limits is None
        or limits.requests is None
        or limits.requests.limit is None
        or limits.requests.limit >= 0
    )
    wait = retry_after(headers, headers.get("date", ""), NOW)
    assert wait is None or wait >= 0


# ---------------------------------------------------------------------- streams


@given(st.lists(st.integers(1, 40)), st.sampled_from(["\n", "\r\n"]))
def test_a_stream_is_the_same_however_it_is_cut(sizes: list[int], end: str) -> None:
    lines = [
        "event: a",
        'data: {"x":',
        "data: 1}",
        "",
        ": a comment",
        "",
        'data: "\N{SNOWMAN}"',
        "",
        "data: no",
        "",
    ]
    raw = (end.join([*lines, "data: [DONE]", "", 'data: {"last": true}'])).encode()
    stream, found, at = EventStream(), [], 0
    for size in [*sizes, len(raw)]:
        found += list(stream.take(raw[at : at + size]))
        at += size
    found += list(stream.end())
    assert found == [("a", {"x": 1}), ("", "\N{SNOWMAN}"), ("", {"last": True})]
    assert stream.is_done


def test_an_event_without_an_end_is_refused() -> None:
    stream = EventStream()
    assert list(stream.take(b"data: " + b"x" * 5 * 1024 * 1024)) == []
    with pytest.raises(Invalid):
        list(stream.take(b"x" * 5 * 1024 * 1024))


# ---------------------------------------------------------------------- names of models


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ("opus", MODELS["anthropic"]["best"]),
        ("opus-4", "claude-opus-4-0"),
        ("sonnet-4.5", "claude-sonnet-4-5"),
        ("Sonnet 4.5", "claude-sonnet-4-5"),
        ("claude-haiku-3.5", "claude-3-5-haiku-latest"),
        ("claude-sonnet-4-5", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5-20250929"),
        ("something-new", "something-new"),
    ],
)
def test_familiar_names_are_the_providers_names(wanted: str, named: str) -> None:
    assert model_name(wanted, "anthropic") == named


@pytest.mark.parametrize("provider", ["anthropic", "openai", "openrouter", "perplexity"])
def test_every_provider_has_the_tiers_and_what_they_cost_is_known(provider: str) -> None:
    from parallelai.engines.models.prices import Pricing

    pricing = Pricing(SERVERS[provider].base_url)
    for tier in TIERS:
        named = model_name(tier, provider)
        assert named
        assert named != tier
        assert pricing.estimate(named, 1000, 1000) is not None, named


def test_config_extends_the_table_for_providers_and_entries(tmp_path: Path) -> None:
    more = {"anthropic": {"best": "mine"}, "gateway": {"standard": "qwen", "tiny": "q-1"}, "nonsense": 3}
    assert model_name("best", "anthropic", extended(more)) == "mine"
    assert model_name("fast", "anthropic", extended(more)) == MODELS["anthropic"]["fast"]
    entry = EngineEntry(use="openai", base_url="https://gateway.example/v1", model="tiny")
    engine = OpenAIEngine("gateway", entry, EngineContext(root=tmp_path, models=more))
    request = Request(run="r", task="t", attempt=1, root="/", prompt="x")
    assert engine.limit_key(request).model == "q-1"
    given_model = Request(run="r", task="t", attempt=1, root="/", prompt="x", model="standard")
    assert engine.limit_key(given_model).model == "qwen"


def test_the_engines_of_the_library_have_names_that_differ() -> None:
    made = [Claude(), Claude("opus"), Claude(model="claude-sonnet-4-5"), GPT4(), OpenAI(), Ollama("qwen3:8b")]
    assert all(isinstance(engine, Engine) for engine in made)
    names = ("claude", "claude-opus", "claude-sonnet-4-5", "gpt4", "openai", "ollama-qwen3-8b")
    assert MultiEngine(made).choice.members == names
    request = Request(run="r", task="t", attempt=1, root="/", prompt="x")
    assert GPT4().limit_key(request).model == "gpt-4.1"
    assert not Ollama().capabilities.is_remote
    assert Claude().capabilities.is_remote


def test_a_wrong_setting_of_a_library_engine_is_said() -> None:
    with pytest.raises(UsageError, match="`temprature`"):
        Claude(temprature=0.5)
    with pytest.raises(UsageError, match="`base_url`"):
        OpenAI(base_url="localhost:8000")


def test_a_key_that_was_given_is_shown_nowhere() -> None:
    engine = Claude(api_key="sk-ant-secret-secret")
    assert "secret" not in f"{engine!r} {engine.capabilities} {engine._entry}"


# ---------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("use", "base_url", "env", "address"),
    [
        ("openai", None, {}, "https://api.openai.com/v1"),
        ("openai", None, {"OPENAI_BASE_URL": "http://h:1/api/v1/"}, "http://h:1/api/v1"),
        ("openai", "http://h:1", {"OPENAI_BASE_URL": "http://other/v1"}, "http://h:1/v1"),
        ("openai", "http://h:1/v1/chat/completions", {}, "http://h:1/v1"),
        ("openai", "https://api.perplexity.ai", {}, "https://api.perplexity.ai"),
        ("openai", "https://mine.openai.azure.com", {}, "https://mine.openai.azure.com/openai/v1"),
        ("azure", None, {"AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com/"}, "https://x.openai.azure.com/openai/v1"),
        ("azure", None, {}, ""),
        ("anthropic", "http://h:1/anthropic", {}, "http://h:1/anthropic/v1"),
        ("openrouter", "https://openrouter.ai", {}, "https://openrouter.ai/api/v1"),
        ("ollama", None, {"OLLAMA_HOST": "0.0.0.0"}, "http://127.0.0.1:11434/v1"),
        ("ollama", None, {"OLLAMA_HOST": "gpu:99"}, "http://gpu:99/v1"),
    ],
)  # fmt: skip
def test_an_address_is_completed(use: str, base_url: str | None, env: dict[str, str], address: str) -> None:
    assert reached(use, base_url, env, where="e")[0] == address


def test_an_address_of_the_environment_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL"):
        reached("openai", None, {"OPENAI_BASE_URL": "ftp://x"}, where="e")


def test_keys_stay_with_their_own_provider() -> None:
    assert reached("openai", "https://evil.example", {}, where="e")[1].key_variables == ()
    assert reached("anthropic", "https://openrouter.ai", {}, where="e")[1].key_variables == (
        "OPENROUTER_API_KEY",
    )
    for use, server in SERVERS.items():
        assert reached(use, None, {}, where="e")[1].key_variables == server.key_variables


def test_what_listens_is_read_from_the_kernels_table(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
    table.write_text(
        f"{head}   0: 0100007F:2CAA 00000000:0000 0A 0 0\n   1: 0100007F:1F90 0100007F:9 01 0 0\n"
    )
    tables = (str(table), str(tmp_path / "missing"))
    assert is_listening("http://127.0.0.1:11434/v1", tables) is True
    assert is_listening("http://127.0.0.1:8080/v1", tables) is False
    assert is_listening("http://127.0.0.1:8080/v1", tables[1:]) is None


def test_the_text_of_files_that_is_still_to_come_is_foretold(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x" * 8000)
    entry = EngineEntry(use="openai", base_url="http://127.0.0.1:9", max_tokens=100)
    engine = OpenAIEngine("e", entry, EngineContext(root=tmp_path))
    files = (FilePart("a.py"), FilePart("gone.py"), FilePart("a.py", 1, 10))
    request = Request(run="r", task="t", attempt=1, root=str(tmp_path), prompt="", files=files, files_at=0)
    assert engine.estimate(request).tokens == (8000 + 600) // 4 + 100
