"""The server: any number of sessions of any client at once, each led by the script in its own prompt."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

from aiohttp import web

from scripted.chat import Chat
from scripted.faults import Counts, fault_of
from scripted.gemini import Gemini
from scripted.messages import Messages
from scripted.responses import Responses
from scripted.script import Answer, Call, Step, place
from scripted.tools import answer as make_answer
from scripted.wire import Wire

WIRES: tuple[Wire, ...] = (Messages(), Responses(), Chat(), Gemini())
"""The model APIs that are served; another one is added here."""

GARBAGE = b"<html><body>\x00\xff not what you asked for</body></html>\n"


@dataclass(frozen=True)
class Recorded:
    """One request: what it asked, and what it met (`ok`, or the kind of trouble)."""

    path: str
    wire: str
    script: str
    call: Call
    body: Any = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    met: str = "ok"

    @property
    def user_text(self) -> str:
        """All that came as the user's, to compare with the prompt that was sent."""
        return self.call.user_text


class ScriptedServer:
    """A model server on a free port of 127.0.0.1: `async with ScriptedServer() as server: server.url`.

    `requests` are those that asked for an answer, in order; others (models, counts of tokens) are in
    `others` by path. `key`, where given, is the only one that is accepted.
    """

    def __init__(self, *, port: int = 0, key: str | None = None) -> None:
        self.requests: list[Recorded] = []
        self.others: list[str] = []
        self.problems: list[str] = []
        self._port, self._key = port, key
        self._counts = Counts()
        self._runner: web.AppRunner | None = None
        self._closing = asyncio.Event()

    @property
    def url(self) -> str:
        """The address, without `/v1`."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    def of(self, script: str) -> list[Recorded]:
        """Give the requests that followed a script, by its id."""
        return [request for request in self.requests if request.script == script]

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        for wire in WIRES:
            for path in wire.paths:
                app.router.add_post(path, self._serving(wire))
        app.router.add_post("/v1/messages/count_tokens", self._count)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/responses", self._no_socket)
        app.router.add_route("*", "/{rest:.*}", self._nothing)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()

    def _serving(self, wire: Wire) -> Any:
        async def serve(request: web.Request) -> web.StreamResponse:
            body = await request.json()
            call = wire.read(body, {**request.match_info, **request.query})
            script, position = place(call)
            trouble = self._counts.next(script, position)
            met = (
                "ok"
                if trouble is None
                else next(key for key in trouble if key not in ("times", "retry_after"))
            )
            headers = dict(request.headers)
            self.requests.append(Recorded(request.path, wire.name, script.id, call, body, headers, met))
            if self._key is not None and self._key not in str(headers):
                return _failed(wire, {"fault": "auth"})
            try:
                reply = replace(make_answer(script.action(position), call), usage=script.usage)
            except LookupError as error:
                self.problems.append(str(error))
                return _failed(wire, {"fault": {"status": 400, "message": str(error)}})
            return await self._reply(request, wire, call, reply, trouble or {})

        return serve

    async def _reply(
        self, request: web.Request, wire: Wire, call: Call, reply: Answer, trouble: Step
    ) -> web.StreamResponse:
        if "fault" in trouble:
            return _failed(wire, trouble)
        if "garbage" in trouble:
            kind = "text/event-stream" if call.is_streamed else "application/json"
            return web.Response(body=GARBAGE, headers={"Content-Type": kind})
        if "delay" in trouble:
            await asyncio.sleep(trouble["delay"])
        if trouble.get("hang") == "start":
            await self._closing.wait()
            return web.Response(status=503)
        if not call.is_streamed:
            return web.json_response(wire.document(reply, call))
        return await self._stream(request, wire, call, reply, trouble)

    async def _stream(
        self, request: web.Request, wire: Wire, call: Call, reply: Answer, trouble: Step
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        await response.prepare(request)
        events = list(wire.events(reply, call))
        is_broken = bool({"hang", "cut", "unfinished", "error_event"} & trouble.keys())
        with contextlib.suppress(ConnectionError):  # the client may have ended
            for event in events[: len(events) // 2] if is_broken else events:
                await response.write(event)
            if "hang" in trouble:
                await self._closing.wait()
            if "error_event" in trouble:
                await response.write(wire.error_event(fault_of(trouble)))
            if "cut" in trouble and request.transport is not None:
                request.transport.abort()
                return response
            await response.write_eof()
        return response

    async def _count(self, request: web.Request) -> web.Response:
        self.others.append(request.path)
        return web.json_response({"input_tokens": max(1, len(await request.text()) // 4)})

    async def _models(self, request: web.Request) -> web.Response:
        self.others.append(request.path)
        models = [
            {"id": name, "object": "model", "type": "model", "display_name": name} for name in ("m1", "m2")
        ]
        return web.json_response({"object": "list", "data": models, "has_more": False})

    async def _no_socket(self, request: web.Request) -> web.Response:
        """Refuse the Responses API's WebSocket, in the way that has a client go over to HTTP at once."""
        self.others.append(f"{request.method} {request.path}")
        return web.Response(status=426)

    async def _nothing(self, request: web.Request) -> web.Response:
        self.others.append(f"{request.method} {request.path}")
        return web.json_response({"error": {"type": "not_found_error", "message": request.path}}, status=404)


def _failed(wire: Wire, trouble: Step) -> web.Response:
    fault = fault_of(trouble)
    headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
    if fault.code == "insufficient_quota" or fault.status in (400, 401, 403, 404):
        headers["x-should-retry"] = "false"
    return web.json_response(wire.error(fault), status=fault.status, headers=headers)


@contextlib.contextmanager
def serving(*, port: int = 0) -> Iterator[ScriptedServer]:
    """Serve from a thread of its own, for tests that block."""
    ready, loops = threading.Event(), []
    server_box: list[ScriptedServer] = []

    async def serve() -> None:
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        async with ScriptedServer(port=port) as server:
            server_box.append(server)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait(10)
    try:
        yield server_box[0]
    finally:
        loop, stop = loops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join()
