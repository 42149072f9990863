"""The engines of model APIs against a server on 127.0.0.1: what is asked, read, refused, counted, hidden."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from loopback import EMPTY, LIMITS, Fault, Loopback, Seen

from parallelai.engines.conformance import CollectingPort, conform
from parallelai.engines.context import EngineContext
from parallelai.engines.models.anthropic import AnthropicEngine
from parallelai.engines.models.api import ModelEngine
from parallelai.engines.models.openai import OpenAIEngine
from parallelai.engines.protocol import LimitsEvent, Request, UsageEvent
from parallelai.errors import (
    ConfigError,
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

KEY = "sk-not-to-be-seen-0123456789abcdef"
FORMS: list[tuple[str, tuple[str, ...]]] = [
    ("openai", ()),
    ("openai", ("stream",)),
    ("openai", ("responses",)),
    ("openai", ("responses", "stream")),
    ("anthropic", ()),
    ("anthropic", ("stream",)),
]
every_form = pytest.mark.parametrize(("use", "args"), FORMS, ids=["-".join((u, *a)) for u, a in FORMS])
whole_forms = pytest.mark.parametrize(
    ("use", "args"), [f for f in FORMS if "stream" not in f[1]], ids=["chat", "responses", "messages"]
)
stream_forms = pytest.mark.parametrize(
    ("use", "args"), [f for f in FORMS if "stream" in f[1]], ids=["chat", "responses", "messages"]
)
FOUND = json.dumps(
    {
        "findings": [
            {
                "file": "src/a.py",
                "line": 3,
                "severity": "high",
                "category": "bug",
                "message": "It divides by zero.",
                "quote": "1 / 0",
                "suggestion": None,
                "confidence": 0.9,
            }
        ]
    }
)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own environment counts."""
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "OLLAMA_HOST",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)


def make(use: str, url: str | None, *, root: Path = Path("/"), name: str = "", **entry: Any) -> ModelEngine:
    kind = AnthropicEngine if use == "anthropic" else OpenAIEngine
    return kind(name or use, EngineEntry(use=use, base_url=url, **entry), EngineContext(root=root))


def ask(output: Any = "findings", prompt: str = "Review it.", **more: Any) -> Request:
    return Request(run="r", task="t", attempt=1, root="/project", prompt=prompt, output=output, **more)


async def fails(
    engine: ModelEngine, request: Request | None = None, port: CollectingPort | None = None
) -> EngineError:
    with pytest.raises(EngineError) as caught:
        await engine.perform(request or ask(), port or CollectingPort())
    await engine.aclose()
    return caught.value


# ---------------------------------------------------------------------- what is asked and read


@every_form
async def test_reads_findings_usage_and_limits(use: str, args: tuple[str, ...]) -> None:
    async with Loopback(FOUND, headers=LIMITS[use]) as server:
        engine, port = make(use, server.url, args=args, model="m-1"), CollectingPort()
        reply = await engine.perform(ask(), port)
        await engine.aclose()
    (finding,) = reply.findings
    assert (finding.file, finding.line, finding.quote) == ("src/a.py", (3, 3), "1 / 0")
    assert (reply.usage.input, reply.usage.cached, reply.usage.output) == (100, 40, 20)
    assert (reply.usage.usd, reply.usage.basis) == (0.0, "free")
    assert reply.model == "m-1"
    (limits,) = [event for event in port.events if isinstance(event, LimitsEvent)]
    assert limits.requests is not None
    assert limits.tokens is not None
    assert limits.requests.remaining == {"openai": 990, "anthropic": 49}[use]
    assert limits.tokens.remaining == {"openai": 150_000, "anthropic": 70_000}[use]
    if use == "openai":
        assert (limits.requests.reset_seconds, limits.tokens.reset_seconds) == (360.0, 0.12)
    assert [event.type for event in port.events][-1] == "final"
    assert [permit.settled for permit in port.permits] == [[reply.usage]]
    assert server.count == 1


@stream_forms
async def test_text_comes_as_it_is_written(use: str, args: tuple[str, ...]) -> None:
    words = "First this, then \N{SNOWMAN}, then that."
    async with Loopback(words) as server:
        engine, port = make(use, server.url, args=args, model="m"), CollectingPort()
        reply = await engine.perform(ask("text"), port)
        await engine.aclose()
    assert reply.text == port.text == words
    assert server.seen[0].body["stream"] is True
    assert engine.capabilities.streams


@stream_forms
async def test_a_server_that_does_not_stream_is_read_all_the_same(use: str, args: tuple[str, ...]) -> None:
    async with Loopback(FOUND, faults=[Fault(is_whole=True)]) as server:
        engine = make(use, server.url, args=args, model="m")
        assert len((await engine.perform(ask(), CollectingPort())).findings) == 1
        await engine.aclose()


async def test_a_word_that_serves_as_a_key_stays_in_answers_and_a_key_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Loopback(f"none of {KEY}") as server:
        for key, text in (
            ("none", f"none of {KEY}"),
            (KEY, "none of \N{BULLET}\N{BULLET}\N{BULLET}\N{BULLET}"),
        ):
            monkeypatch.setenv("A_KEY", key)
            engine = make("openai", server.url, model="m", api_key_env="A_KEY")
            assert (await engine.perform(ask("text"), CollectingPort())).text == text
            await engine.aclose()


@every_form
async def test_says_what_the_role_and_the_entry_say(use: str, args: tuple[str, ...]) -> None:
    async with Loopback("fine") as server:
        engine = make(use, server.url, args=args, model="m", temperature=0.9, max_tokens=700)
        await engine.perform(ask("text", instructions="Be a critic.", temperature=0.2), CollectingPort())
        await engine.perform(ask("text", max_tokens=70), CollectingPort())
        await engine.aclose()
    first, second = (seen.body for seen in server.seen)
    assert (first["model"], first["temperature"]) == ("m", 0.2)
    assert second["temperature"] == 0.9
    limit = "max_output_tokens" if "responses" in args else "max_tokens"
    assert (first[limit], second[limit]) == (700, 70)
    if use == "anthropic":
        assert first["system"] == "Be a critic."
    elif "responses" in args:
        assert first["instructions"] == "Be a critic."
        assert first["store"] is False
    else:
        assert first["messages"][0] == {"role": "system", "content": "Be a critic."}


@every_form
async def test_a_prompt_of_210_kb_arrives_as_it_is(use: str, args: tuple[str, ...]) -> None:
    prompt = "Zeile \N{LATIN SMALL LETTER U WITH DIAERESIS} \U0001f600\n" * 15_001
    async with Loopback("read") as server:
        engine = make(use, server.url, args=args, model="m")
        await engine.perform(ask("text", prompt, shared=20_000), CollectingPort())
        await engine.aclose()
    assert len(prompt.encode()) > 210_000
    assert server.seen[0].prompt == prompt


async def test_the_shared_beginning_is_marked_for_the_cache_and_stays_the_same() -> None:
    shared = "Rules of the house.\n" * 400
    async with Loopback() as server:
        engine = make("anthropic", server.url, model="m")
        for tail in ("one", "two"):
            await engine.perform(ask(prompt=shared + tail, shared=len(shared)), CollectingPort())
        await engine.perform(ask(prompt="short" + tail, shared=5), CollectingPort())
        await engine.aclose()
    first, second, short = (seen.body["messages"][0]["content"] for seen in server.seen)
    assert first[0] == second[0] == {"type": "text", "text": shared, "cache_control": {"type": "ephemeral"}}
    assert (first[1]["text"], second[1]["text"]) == ("one", "two")
    assert short == "shorttwo"


@pytest.mark.parametrize(("use", "host"), [("anthropic", "api.anthropic.com"), ("openai", "api.openai.com")])
async def test_one_call_warms_the_providers_cache_and_the_others_follow(
    use: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = "Rules of the house.\n" * 400
    async with Loopback("done", seconds=0.05) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
        monkeypatch.setenv("A_KEY", KEY)
        engine = make(use, f"http://{host}/v1", model="m", api_key_env="A_KEY")

        async def call(number: int) -> None:
            await engine.perform(ask("text", f"{shared}{number}", shared=len(shared)), CollectingPort())

        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(call(number))
        await engine.aclose()
    (_, _, warm), *others = server.answered
    assert len(others) == 4
    assert all(came >= warm for _, came, _ in others)


@every_form
async def test_the_answer_is_held_to_a_schema(use: str, args: tuple[str, ...]) -> None:
    schema = {"type": "array", "items": {"type": "integer", "minimum": 1}}
    async with Loopback('{"value": [3, 4]}') as server:
        engine = make(use, server.url, args=args, model="claude-sonnet-4-5")
        reply = await engine.perform(ask("schema", schema=schema), CollectingPort())
        await engine.aclose()
    assert reply.data == [3, 4]
    body = server.seen[0].body
    if use == "anthropic":
        sent = body["output_config"]["format"]["schema"]
    elif "responses" in args:
        sent = body["text"]["format"]["schema"]
    else:
        sent = body["response_format"]["json_schema"]["schema"]
    assert sent["properties"]["value"]["items"] == {"type": "integer"}  # what no server knows is checked here


async def test_what_the_schema_forbids_is_not_taken_whatever_the_server_says() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
    async with Loopback('{"n": 0}') as server:
        error = await fails(make("openai", server.url, model="m"), ask("schema", schema=schema))
    assert isinstance(error, Invalid)
    assert "minimum" in error.said
    assert server.count == 2  # repaired once, no more


async def test_an_old_model_of_anthropic_answers_by_a_tool() -> None:
    async with Loopback(FOUND) as server:
        engine = make("anthropic", server.url, model="haiku-3.5")
        reply = await engine.perform(ask(), CollectingPort())
        await engine.aclose()
    assert len(reply.findings) == 1
    body = server.seen[0].body
    assert body["model"] == "claude-3-5-haiku-latest"
    assert body["tool_choice"] == {"type": "tool", "name": "answer"}
    assert "output_config" not in body


async def test_a_server_that_knows_no_schemas_is_asked_without_from_then_on() -> None:
    said = {"error": {"message": "Unknown parameter: 'response_format.json_schema'", "type": "bad_request"}}

    def refuse(seen: Seen) -> Fault | None:
        return Fault(400, said) if "response_format" in seen.body else None

    async with Loopback(FOUND, faults=refuse) as server:
        engine, port = make("openai", server.url, model="m"), CollectingPort()
        for _ in range(2):
            assert len((await engine.perform(ask(), port)).findings) == 1
        await engine.aclose()
    assert ["response_format" in seen.body for seen in server.seen] == [True, False, False]
    assert [len(permit.settled) for permit in port.permits] == [1, 1, 1]


async def test_a_change_is_data_that_fits_its_schema() -> None:
    files = [{"path": "./a.py", "content": "x = 2\n", "why": "because"}, {"path": "b.py", "delete": True}]
    async with Loopback(f"Here:\n```json\n{json.dumps({'files': files})}\n```\n") as server:
        engine = make("openai", server.url, model="m")
        reply = await engine.perform(ask("change"), CollectingPort())
        await engine.aclose()
    assert reply.data == {"files": [{"path": "a.py", "content": "x = 2\n"}, {"path": "b.py", "delete": True}]}
    assert '"edits"' in server.seen[0].prompt  # the model is told the form
    assert server.seen[0].prompt.startswith("Review it.")


async def test_a_model_whose_edit_does_not_fit_is_told_so_once(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")

    def change(old: str) -> Fault:
        return Fault(text=json.dumps({"files": [{"path": "a.py", "edits": [{"old": old, "new": "x = 2"}]}]}))

    request = dataclasses.replace(ask("change"), root=str(tmp_path))
    async with Loopback(faults=[change("x = 3"), change("x = 1"), change("y"), change("z")]) as server:
        engine = make("openai", server.url, model="m")
        reply = await engine.perform(request, CollectingPort())
        assert reply.data == {"files": [{"path": "a.py", "edits": [{"old": "x = 1", "new": "x = 2"}]}]}
        assert "its `old` text is nowhere in the file" in server.seen[1].body["messages"][-1]["content"]
        error = await fails(engine, request)
    assert isinstance(error, Invalid)
    assert server.count == 4


async def test_a_local_server_is_asked_which_model_it_serves() -> None:
    async with Loopback("hello", models=["qwen3:8b"]) as server:
        engine = make("ollama", server.url)
        assert (await engine.perform(ask("text"), CollectingPort())).model == "qwen3:8b"
        await engine.perform(ask("text", model="standard"), CollectingPort())
        await engine.aclose()
    assert [seen.body["model"] for seen in server.seen] == ["qwen3:8b", "qwen3:8b"]


async def test_of_several_models_one_must_be_named() -> None:
    async with Loopback("hello", models=["a", "b"]) as server:
        error = await fails(make("ollama", server.url))
    assert isinstance(error, Unavailable)
    assert "`a`, `b`" in error.said
    assert server.count == 0


# ---------------------------------------------------------------------- what goes wrong


def said(status: int, message: str, code: str = "", wait: str = "", name: str = "Retry-After") -> Fault:
    """An error as OpenAI's servers give it; Anthropic's differ in what is not read."""
    body = {"type": "error", "error": {"message": message, "type": code}}
    return Fault(status, body, {name: wait} if wait else {})


PAGE = b"<html><head><style>p{}</style></head><body><h1>Bad gateway</h1></body></html>"
QUOTA = "You exceeded your current quota"
# What the server says; the error that it is; what of it must hold, or must be in what it says.
FAULTS: list[tuple[Fault, type[EngineError], dict[str, Any] | str]] = [
    (said(429, "slow down", wait="7"), RateLimited, {"retry_after_seconds": 7.0, "is_quota": False}),
    (said(429, "slow down"), RateLimited, {"retry_after_seconds": None, "is_quota": False}),
    (said(429, "Please try again in 1.5s."), RateLimited, {"retry_after_seconds": 1.5}),
    (said(429, "x", wait="250", name="retry-after-ms"), RateLimited, {"retry_after_seconds": 0.25}),
    (said(429, QUOTA, "insufficient_quota"), RateLimited, {"is_quota": True}),
    (said(402, "Payment required"), RateLimited, {"is_quota": True}),
    (said(400, "Your credit balance is too low"), RateLimited, {"is_quota": True}),
    (said(429, "Request too large for m: Limit 30000, Requested 40000."), Invalid, "each: {chunk"),
    (said(529, "Overloaded", "overloaded_error"), RateLimited, {"is_quota": False}),
    (Fault(503, {"error": "loading model"}), Transient, "loading model"),
    (said(503, "busy", wait="3"), RateLimited, {"retry_after_seconds": 3.0}),
    (said(500, "The server had an error"), Transient, "had an error"),
    (Fault(502, PAGE), Transient, {"said": "502 Bad gateway"}),
    (said(401, "Incorrect API key"), Rejected, "LOCAL_KEY"),
    (said(403, "Country not supported"), Rejected, "Country"),
    (said(404, "The model `m` does not exist"), Rejected, "`/v1`"),
    (said(400, "no more than 10", "context_length_exceeded"), Invalid, "each: {chunk"),
    (said(400, "prompt is too long: 300000 tokens > 200000 maximum"), Invalid, "each: {chunk"),
    (said(400, "filtered", "content_filter"), Refused, "filtered"),
    (said(400, "Unsupported parameter: 'max_tokens'"), Rejected, "another `max_tokens`"),
    (said(400, "no"), Rejected, {"said": "400 no"}),
    (Fault(422, {"detail": [{"loc": ["body"], "msg": "field required"}]}), Rejected, "field required"),
    (Fault(307, b"", {"Location": "http://elsewhere.invalid/v1"}), Rejected, "elsewhere"),
    (Fault(200, raw=b"<html>Please log in</html>"), Transient, "not answer in JSON"),
    (Fault(200, raw=b'{"id": "x"'), Transient, "JSON"),
    (Fault(200, raw=b'{"error": {"code": 429, "message": "upstream"}}'), RateLimited, "upstream"),
    (Fault(200, raw=b"[]"), Transient, "the answer holds no"),
    (Fault(200, stop="length"), Invalid, "max_tokens"),
    (Fault(200, stop="content_filter"), Refused, "refused"),
    (Fault(200, text="{}", cut_after=5), Transient, "broke"),
]


@whole_forms
@pytest.mark.parametrize("number", range(len(FAULTS)))
async def test_every_fault_becomes_the_error_that_it_is(
    use: str, args: tuple[str, ...], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_KEY", KEY)
    fault, kind, expected = FAULTS[number]
    port = CollectingPort()
    async with Loopback(faults=[fault]) as server:
        error = await fails(make(use, server.url, args=args, model="m", api_key_env="LOCAL_KEY"), None, port)
    assert type(error) is kind, error
    if isinstance(expected, str):
        assert expected in str(error)
    else:
        assert {key: getattr(error, key) for key in expected} == expected
    assert server.count == 1  # nothing is tried again here
    assert [len(permit.settled) for permit in port.permits] == [1]
    assert not any(event.type == "final" for event in port.events)


@stream_forms
@pytest.mark.parametrize("size", [0, 40, 200])
async def test_a_stream_that_is_cut_is_transient(use: str, args: tuple[str, ...], size: int) -> None:
    async with Loopback(faults=[Fault(cut_after=size)]) as server:
        error = await fails(make(use, server.url, args=args, model="m"))
    assert isinstance(error, Transient)


def told(code: str, message: str) -> bytes:
    """An error in a stream."""
    data = {"type": "error", "error": {"type": code, "message": message}}
    return f"event: error\ndata: {json.dumps(data)}\n\n".encode()


STREAMED = {
    "overloaded": (told("overloaded_error", "Overloaded"), RateLimited),
    "server": (told("api_error", "Oops"), Transient),
    "quota": (told("insufficient_quota", "no money"), RateLimited),
    "long": (told("context_length_exceeded", "too long"), Invalid),
    "ended": (b": nothing but a comment\n\n", Transient),
}


@stream_forms
@pytest.mark.parametrize("name", sorted(STREAMED))
async def test_an_error_in_a_stream_is_the_one_that_it_names(
    use: str, args: tuple[str, ...], name: str
) -> None:
    raw, kind = STREAMED[name]
    async with Loopback(faults=[Fault(raw=raw)]) as server:
        error = await fails(make(use, server.url, args=args, model="m"))
    assert type(error) is kind, error


@every_form
async def test_what_takes_too_long_is_timed_out(use: str, args: tuple[str, ...]) -> None:
    port = CollectingPort()
    async with Loopback(faults=[Fault(seconds=60)]) as server:
        error = await fails(make(use, server.url, args=args, model="m"), ask(timeout_seconds=0.2), port)
    assert isinstance(error, TimedOut)
    assert [permit.settled for permit in port.permits] == [[None]]


@every_form
async def test_being_cancelled_settles_the_permit(use: str, args: tuple[str, ...]) -> None:
    port = CollectingPort()
    async with Loopback(faults=[Fault(seconds=60)]) as server:
        engine = make(use, server.url, args=args, model="m")
        async with asyncio.TaskGroup() as group:
            turn = group.create_task(engine.perform(ask(), port))
            await server.started.wait()
            turn.cancel()
        await engine.aclose()
    assert turn.cancelled()
    assert [permit.settled for permit in port.permits] == [[None]]


async def test_where_nothing_listens_the_server_is_to_be_started() -> None:
    async with Loopback() as server:
        url = server.url
    error = await fails(make("vllm", url, model="m"))
    assert isinstance(error, Unavailable)
    assert "nothing listens" in error.said


@every_form
async def test_a_malformed_answer_is_shown_to_the_model_once(use: str, args: tuple[str, ...]) -> None:
    port = CollectingPort()
    async with Loopback(FOUND, faults=[Fault(text="I found: nothing much")]) as server:
        engine = make(use, server.url, args=args, model="m")
        reply = await engine.perform(ask(), port)
        await engine.aclose()
    assert len(reply.findings) == 1
    assert any("repaired once" in note for note in reply.notes)
    body = server.seen[1].body
    *_, answer, said = body.get("messages") or body["input"]
    assert (answer["role"], answer["content"]) == ("assistant", "I found: nothing much")
    assert "not JSON" in said["content"]
    assert server.seen[1].prompt == server.seen[0].prompt  # its beginning stays in the provider's cache
    assert (reply.usage.input, reply.usage.output) == (200, 40)
    assert [len(permit.settled) for permit in port.permits] == [1, 1]


@every_form
async def test_what_is_malformed_twice_is_invalid_and_paid_for(use: str, args: tuple[str, ...]) -> None:
    port = CollectingPort()
    async with Loopback(text="No JSON at all.") as server:
        error = await fails(make(use, server.url, args=args, model="m"), ask(), port)
    assert isinstance(error, Invalid)
    assert "repair" in error.said
    assert server.count == 2
    told = [event.usage for event in port.events if isinstance(event, UsageEvent)]
    assert [usage.input for usage in told] == [100, 100]  # a failed attempt is settled by these


@pytest.mark.parametrize(
    "text", ["", "[" * 100_000, '{"findings": 3}', '{"findings": [{"file": "../x"}]}', "null"]
)
async def test_hostile_answers_are_invalid(text: str) -> None:
    async with Loopback(text=text) as server:
        assert isinstance(await fails(make("openai", server.url, model="m")), Invalid)


async def test_an_empty_text_is_no_answer() -> None:
    async with Loopback(text="  ") as server:
        assert isinstance(await fails(make("openai", server.url, model="m"), ask("text")), Invalid)
    assert server.count == 1


async def test_what_the_model_cannot_read_is_said_before_the_call() -> None:
    async with Loopback() as server:
        engine = make("openai", f"http://127.0.0.1:{server.port}/v1", model="gpt-4o")
        engine._pricing = type(engine._pricing)("https://api.openai.com/v1")  # as if it were that server
        error = await fails(engine, ask(prompt="word " * 120_000))
    assert isinstance(error, Invalid)
    assert "150,000" in error.said
    assert "128,000" in error.said
    assert "chunk" in (error.next or "")
    assert server.count == 0


# ---------------------------------------------------------------------- keys


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
@every_form
async def test_a_key_is_in_no_error_and_no_event(
    use: str, args: tuple[str, ...], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_KEY", KEY)
    port = CollectingPort()
    async with Loopback(faults=[Fault(status, {"error": {"message": f"bad key {KEY}!"}})]) as server:
        error = await fails(make(use, server.url, args=args, model="m", api_key_env="LOCAL_KEY"), None, port)
    assert KEY in str(server.seen[0].headers)
    shown = f"{error} {error!r} {error.args} {error.to_json()} {port.events} {error.__cause__!r}"
    assert KEY not in shown
    assert "bad key" in error.said


async def test_the_key_comes_from_where_the_entry_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    monkeypatch.setenv("OTHER", "other-key")
    async with Loopback() as server:
        for entry in (
            {"api_key_file": "key"},
            {"api_key_file": str(tmp_path / "key")},
            {"api_key_env": "OTHER"},
        ):
            engine = make("openai", server.url, root=tmp_path, model="m", **entry)
            await engine.perform(ask(), CollectingPort())
            await engine.aclose()
    sent = [seen.headers["Authorization"] for seen in server.seen]
    assert sent == [f"Bearer {KEY}", f"Bearer {KEY}", "Bearer other-key"]


async def test_the_key_comes_from_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in for the package, which is an extra and asks a desktop's own keyring."""
    kept = {("openai", "me"): KEY, ("lonely", "parallelai"): "of-nobody"}
    keyring = types.SimpleNamespace(get_password=lambda service, user: kept.get((service, user)))
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    async with Loopback() as server:
        for name in ("openai/me", "lonely"):
            engine = make("openai", server.url, model="m", api_key_keyring=name)
            assert (await engine.detect()).is_available
            await engine.perform(ask(), CollectingPort())
            await engine.aclose()
        error = await fails(make("openai", server.url, model="m", api_key_keyring="gone"))
    assert [seen.headers["Authorization"] for seen in server.seen] == [f"Bearer {KEY}", "Bearer of-nobody"]
    assert isinstance(error, Rejected)
    monkeypatch.setitem(sys.modules, "keyring", None)
    error = await fails(make("openai", "http://127.0.0.1:9", model="m", api_key_keyring="openai/me"))
    assert isinstance(error, Unavailable)
    assert "parallelai[keyring]" in str(error)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"api_key_env": "NOT_SET"}, "NOT_SET"),
        ({"api_key_file": "missing"}, "missing"),
        ({"api_key_file": "../outside"}, "outside"),
        ({"api_key_env": "TWO_LINES"}, "TWO_LINES"),
    ],
)
async def test_a_key_that_is_none_is_said_without_a_call(
    entry: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWO_LINES", f"{KEY}\nx")
    async with Loopback() as server:
        error = await fails(make("openai", server.url, root=tmp_path, model="m", **entry))
    assert isinstance(error, Rejected)
    assert said in str(error)
    assert KEY not in str(error)
    assert server.count == 0


async def test_a_key_of_the_environment_is_not_sent_to_a_server_that_an_entry_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    async with Loopback() as server:
        for use in ("openai", "anthropic"):
            engine = make(use, server.url, model="m")
            await engine.perform(ask(), CollectingPort())
            await engine.aclose()
    assert KEY not in str([seen.headers for seen in server.seen])


async def test_address_and_key_of_the_environment_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Loopback() as server:
        for name in ("OPENAI", "ANTHROPIC"):
            monkeypatch.setenv(f"{name}_API_KEY", KEY)
            monkeypatch.setenv(f"{name}_BASE_URL", f"http://127.0.0.1:{server.port}")
            engine = make(name.lower(), None, model="m")
            await engine.perform(ask(), CollectingPort())
            await engine.aclose()
    headers = [seen.headers for seen in server.seen]
    assert headers[0]["Authorization"] == f"Bearer {KEY}"
    assert headers[1]["x-api-key"] == KEY
    assert headers[1]["anthropic-version"] == "2023-06-01"


def test_what_one_server_allows_is_not_taken_for_what_another_does(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [make("openai", None, model="m").limit_key(ask())]
    for url in ("http://one.example/v1", "http://user:secret@two.example/v1"):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        keys.append(make("openai", None, model="m").limit_key(ask()))
    accounts = [key.account for key in keys]
    assert accounts == ["default", "http://one.example/v1", "http://two.example/v1"]


async def test_without_a_key_nothing_is_sent_to_the_provider() -> None:
    for use in ("openai", "anthropic", "openrouter", "perplexity"):
        engine = make(use, None, model="m")
        found = await engine.detect()
        assert not found.is_available
        assert "API_KEY" in (found.how or "")
        assert isinstance(await fails(engine), Unavailable)


# ---------------------------------------------------------------------- addresses, settings, conformance


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/"])
@pytest.mark.parametrize("use", ["openai", "anthropic", "vllm"])
async def test_an_address_is_taken_with_and_without_v1(use: str, tail: str) -> None:
    async with Loopback() as server:
        engine = make(use, f"http://127.0.0.1:{server.port}{tail}", model="m")
        await engine.perform(ask(), CollectingPort())
        await engine.aclose()
    assert server.count == 1


async def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Loopback("through the proxy") as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
        engine = make("openai", "http://models.invalid/v1", model="m")
        reply = await engine.perform(ask("text"), CollectingPort())
        await engine.aclose()
        assert reply.text == "through the proxy"
        assert server.seen[0].headers["Host"] == "models.invalid"
        monkeypatch.setenv("no_proxy", "models.invalid")
        assert isinstance(await fails(make("openai", "http://models.invalid/v1", model="m")), Transient)
        assert server.count == 1


async def test_a_local_server_is_never_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Loopback("here") as server:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        engine = make("ollama", server.url, model="m")
        assert (await engine.perform(ask("text"), CollectingPort())).text == "here"
        await engine.aclose()


async def test_a_bundle_of_certificates_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    error = await fails(make("openai", "https://127.0.0.1:9/v1", model="m"))
    assert isinstance(error, Unavailable)
    assert "SSL_CERT_FILE" in error.said


def test_what_leaves_the_machine_is_remote() -> None:
    def is_remote(use: str, url: str | None) -> bool:
        return make(use, url).capabilities.is_remote

    assert is_remote("openai", "http://127.0.0.1:8000/v1")
    assert is_remote("anthropic", "http://localhost:8000")
    assert is_remote("ollama", "http://gpu.example:11434")
    assert is_remote("ollama", "http://127.0.0.1.example.org:11434")
    assert not is_remote("ollama", None)
    assert not is_remote("vllm", "http://localhost:8000")
    assert not is_remote("llamacpp", "http://[::1]:8080/v1")


@pytest.mark.parametrize(
    "entry",
    [
        {"args": ["loud"]},
        {"args": ["chat", "responses"]},
        {"sandbox": "required"},
        {"command": ["x"]},
        {"network": "off"},
        {"base_url": "http://"},
        {"base_url": "http://h:99999999"},
    ],
)
def test_settings_without_effect_or_sense_are_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make("openai", **{"url": entry.pop("base_url", None), **entry})


async def test_a_price_of_the_entry_counts_also_on_this_machine() -> None:
    price = {"input": 2.0, "output": 10.0, "cached": 0.5}
    async with Loopback() as server:
        engine = make("openai", server.url, model="m", price=price)
        reply = await engine.perform(ask(), CollectingPort())
        guess = engine.estimate(ask(prompt="x" * 4000, max_tokens=1000))
        await engine.aclose()
    assert reply.usage.usd == pytest.approx((60 * 2 + 40 * 0.5 + 20 * 10) / 1e6)
    assert reply.usage.basis == "prices"
    assert (guess.tokens, guess.usd) == (2000, pytest.approx(0.012))


def test_costs_are_foretold_where_a_table_knows_them_and_unknown_elsewhere() -> None:
    request = ask(prompt="x" * 4000, max_tokens=1000)
    known = make("anthropic", None, model="sonnet-4.5").estimate(request)
    assert known.usd == pytest.approx(1000 * 3e-6 + 1000 * 15e-6)
    assert make("openai", "https://gateway.example/v1", model="gpt-4o").estimate(request).usd is None
    assert make("ollama", None, model="qwen").estimate(request).usd == 0.0


@every_form
async def test_conforms(use: str, args: tuple[str, ...]) -> None:
    def late(seen: Seen) -> Fault | None:
        return {"wait": Fault(seconds=60), "fail": Fault(400, {"error": "no"})}.get(seen.prompt)

    async with Loopback(text=EMPTY, faults=late) as server:
        verdicts = await conform(
            lambda: make(use, server.url, args=args, model="m"),
            ask(),
            hanging=ask(prompt="wait"),
            failing=ask(prompt="fail"),
        )
    assert [verdict for verdict in verdicts if not verdict.ok] == []
