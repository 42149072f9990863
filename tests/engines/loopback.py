"""A server of models on 127.0.0.1: the three formats, an exact time for each answer, and faults on demand.

    async with Loopback(text=lambda body: '{"findings": []}') as server:
        …  # at server.url, which ends in /v1

As a program it serves until its stdin ends: `python loopback.py SECONDS [--limits]` prints its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

EMPTY = '{"findings": []}'
LIMITS = {
    "openai": {
        "x-ratelimit-limit-requests": "1000",
        "x-ratelimit-remaining-requests": "990",
        "x-ratelimit-reset-requests": "6m0s",
        "x-ratelimit-limit-tokens": "200000",
        "x-ratelimit-remaining-tokens": "150000",
        "x-ratelimit-reset-tokens": "120ms",
    },
    "anthropic": {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2999-01-01T00:00:00Z",
        "anthropic-ratelimit-tokens-limit": "80000",
        "anthropic-ratelimit-tokens-remaining": "70000",
        "anthropic-ratelimit-tokens-reset": "2999-01-01T00:00:00Z",
    },
}
USAGE = {"input": 100, "cached": 40, "output": 20, "reasoning": 5}


@dataclass(frozen=True)
class Fault:
    """What one request gets instead of an answer.

    `status` other than 200 with `body`; `text` answers that instead; `raw` is the whole body; `cut_after` ends
    a stream (or a body) after so many bytes, without its end; `seconds` is a delay; `stop` another end;
    `is_whole`: no stream is given, although one was asked for.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None
    raw: bytes | None = None
    cut_after: int | None = None
    seconds: float = 0.0
    stop: str | None = None
    is_whole: bool = False


@dataclass(frozen=True)
class Seen:
    """A request that came. `peer` names its connection."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    peer: tuple[str, int]

    @property
    def prompt(self) -> str:
        """The words of the first message of a user."""
        said = self.body.get("messages") or self.body.get("input") or []
        content = next(one["content"] for one in said if one["role"] == "user")
        return content if isinstance(content, str) else "".join(part["text"] for part in content)


class Loopback:
    """The server. `faults` are given to the requests in the order in which they come, None is no fault."""

    def __init__(
        self,
        text: Callable[[Seen], str] | str = EMPTY,
        *,
        seconds: float = 0.0,
        faults: Iterable[Fault | None] | Callable[[Seen], Fault | None] = (),
        headers: Mapping[str, str] | None = None,
        models: Iterable[str] = ("tiny",),
    ) -> None:
        self.seen: list[Seen] = []
        self.peers: set[tuple[str, int]] = set()
        self.visits = 0  # requests of any kind
        self.answered: list[tuple[Seen, float, float]] = []  # what came when, and when it was answered
        self.started = asyncio.Event()
        self._text = text
        self._seconds = seconds
        self._next = faults if callable(faults) else _one_by_one(faults)
        self._headers = dict(headers or {})
        self._models = tuple(models)
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def count(self) -> int:
        """How many requests came."""
        return len(self.seen)

    async def __aenter__(self) -> Loopback:
        app = web.Application(client_max_size=256 * 1024 * 1024)
        for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages"):
            app.router.add_post(path, self._answer)
        app.router.add_get("/v1/models", self._list)
        app.middlewares.append(self._count)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _count(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.visits += 1
        return await handler(request)

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": name} for name in self._models]})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        came = loop.time()
        peer = request.transport.get_extra_info("peername") if request.transport else ("", 0)
        try:
            body = await request.json()
        except ConnectionResetError:  # the caller went away while it spoke
            return web.Response()
        seen = Seen(request.path, dict(request.headers), body, tuple(peer[:2]))
        self.seen.append(seen)
        self.peers.add(seen.peer)
        self.started.set()
        fault = self._next(seen) or Fault()
        delay = came + self._seconds + fault.seconds - loop.time()
        if delay > 0:
            await asyncio.sleep(delay)
        self.answered.append((seen, came, loop.time()))
        headers = {**self._headers, **fault.headers}
        if fault.status != 200:
            return web.Response(status=fault.status, body=_encoded(fault.body), headers=headers)
        text = fault.text if fault.text is not None else self._text
        form = FORMATS[request.path](seen.body, text if isinstance(text, str) else text(seen), fault.stop)
        is_stream = bool(seen.body.get("stream")) and not fault.is_whole
        raw = fault.raw if fault.raw is not None else (form.stream if is_stream else form.whole)
        if fault.cut_after is not None:
            return await self._cut(request, raw, fault.cut_after, headers)
        kind = "text/event-stream" if is_stream else "application/json"
        return web.Response(body=raw, content_type=kind, headers=headers)

    async def _cut(
        self, request: web.Request, raw: bytes, size: int, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """Send the beginning, then break the connection."""
        response = web.StreamResponse(headers={**headers, "Content-Length": str(len(raw))})
        await response.prepare(request)
        await response.write(raw[:size])
        if request.transport is not None:
            request.transport.close()
        return response


@dataclass(frozen=True)
class Form:
    whole: bytes
    stream: bytes


def _one_by_one(faults: Iterable[Fault | None]) -> Callable[[Seen], Fault | None]:
    left = iter(faults)
    return lambda seen: next(left, None)


def _encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def _events(events: Iterable[tuple[str, Any]], *, named: bool, done: bool = False) -> bytes:
    blocks = [
        (f"event: {kind}\n" if named else "") + f"data: {json.dumps(data)}\n\n" for kind, data in events
    ]
    return ("".join(blocks) + ("data: [DONE]\n\n" if done else "")).encode()


def _pieces(text: str) -> list[str]:
    size = max(len(text) // 3, 1)
    return [text[at : at + size] for at in range(0, len(text), size)] or [""]


def _chat(body: dict[str, Any], text: str, stop: str | None) -> Form:
    usage = {
        "prompt_tokens": USAGE["input"],
        "completion_tokens": USAGE["output"],
        "total_tokens": USAGE["input"] + USAGE["output"],
        "prompt_tokens_details": {"cached_tokens": USAGE["cached"]},
        "completion_tokens_details": {"reasoning_tokens": USAGE["reasoning"]},
    }
    same = {"id": "c-1", "object": "chat.completion", "created": 1_700_000_000, "model": body["model"]}
    reason = stop or "stop"
    message = {"role": "assistant", "content": text}
    whole = {**same, "choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": usage}
    chunks = [
        {**same, "choices": [{"delta": {"content": one}, "finish_reason": None}]} for one in _pieces(text)
    ]
    chunks.append({**same, "choices": [{"delta": {}, "finish_reason": reason}]})
    chunks.append({**same, "choices": [], "usage": usage})
    stream = _events((("", one) for one in chunks), named=False, done=True)
    return Form(json.dumps(whole).encode(), stream)


def _responses(body: dict[str, Any], text: str, stop: str | None) -> Form:
    usage = {
        "input_tokens": USAGE["input"],
        "output_tokens": USAGE["output"],
        "input_tokens_details": {"cached_tokens": USAGE["cached"]},
        "output_tokens_details": {"reasoning_tokens": USAGE["reasoning"]},
    }
    reason = {"length": "max_output_tokens"}.get(stop or "", stop)
    whole = {
        "id": "r-1",
        "model": body["model"],
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "content": [{"type": "output_text", "text": text}]},
        ],
        "usage": usage,
        "error": None,
    }
    events: list[tuple[str, Any]] = [("response.created", {"type": "response.created"})]
    kind = "response.output_text.delta"
    events += [(kind, {"type": kind, "delta": one}) for one in _pieces(text)]
    last = "response.incomplete" if reason else "response.completed"
    events.append((last, {"type": last, "response": whole}))
    return Form(json.dumps(whole).encode(), _events(events, named=True))


def _messages(body: dict[str, Any], text: str, stop: str | None) -> Form:
    usage = {
        "input_tokens": USAGE["input"] - USAGE["cached"],
        "cache_read_input_tokens": USAGE["cached"],
        "cache_creation_input_tokens": 0,
        "output_tokens": USAGE["output"],
    }
    reason = {"length": "max_tokens", "content_filter": "refusal"}.get(stop or "", stop or "end_turn")
    by_tool = bool(body.get("tools"))
    with contextlib.suppress(ValueError):
        block = {"type": "tool_use", "id": "t", "name": "answer", "input": json.loads(text)}
    if not by_tool:
        block = {"type": "text", "text": text}
    same = {"id": "m-1", "type": "message", "role": "assistant", "model": body["model"]}
    whole = {**same, "content": [block], "stop_reason": reason, "usage": usage}
    kind = "input_json_delta" if by_tool else "text_delta"
    key = "partial_json" if by_tool else "text"
    events: list[tuple[str, Any]] = [
        ("message_start", {"message": {**same, "content": [], "usage": {**usage, "output_tokens": 1}}}),
        ("content_block_start", {"index": 0}),
        ("ping", {}),
        *(("content_block_delta", {"delta": {"type": kind, key: one}}) for one in _pieces(text)),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": reason}, "usage": {"output_tokens": USAGE["output"]}}),
        ("message_stop", {}),
    ]
    typed = [(name, {"type": name, **data}) for name, data in events]
    return Form(json.dumps(whole).encode(), _events(typed, named=True))


FORMATS: Mapping[str, Callable[[dict[str, Any], str, str | None], Form]] = {
    "/v1/chat/completions": _chat,
    "/v1/responses": _responses,
    "/v1/messages": _messages,
}


async def _lines() -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line


async def _serve(seconds: float, headers: Mapping[str, str]) -> None:
    """Serve until stdin ends; for each line of it, tell what came since the last one, but for model `warm`."""
    async with Loopback(seconds=seconds, headers=headers) as server:
        print(server.port, flush=True)
        async for _ in _lines():
            counted = [one for one in server.answered if one[0].body["model"] != "warm"]
            first = min((came for _, came, _ in counted), default=0.0)
            last = max((went for _, _, went in counted), default=0.0)
            peers = {seen.peer for seen, _, _ in counted}
            told = {
                "requests": len(counted),
                "visits": server.visits,
                "connections": len(peers),
                "seconds": last - first,
            }
            print(json.dumps(told), flush=True)
            server.seen.clear()
            server.answered.clear()
            server.visits = 0


if __name__ == "__main__":
    given = {**LIMITS["openai"], **LIMITS["anthropic"]} if "--limits" in sys.argv else {}
    asyncio.run(_serve(float(sys.argv[1]), given))
