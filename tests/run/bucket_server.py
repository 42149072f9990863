"""A model server on 127.0.0.1 with real buckets of requests and tokens, as providers have them."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

CHARACTERS_PER_TOKEN = 4


@dataclass
class Tank:
    """A bucket that refills all the time; `rate` a second."""

    rate: float
    capacity: float
    level: float = 0.0
    at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.level = self.capacity

    def refill(self) -> None:
        now = time.monotonic()
        self.level, self.at = min(self.capacity, self.level + self.rate * (now - self.at)), now

    def wait(self, cost: float) -> float:
        return max(0.0, (cost - self.level) / self.rate)


@dataclass
class BucketServer:
    """Answers Chat Completions after `seconds`; refuses with 429 what its buckets cannot pay.

    `most` were asked at once, `at_first` before the first was answered.
    """

    requests: Tank
    tokens: Tank
    seconds: float = 0.02
    has_headers: bool = True
    has_retry_after: bool = True
    answered: int = 0
    refused: int = 0
    most: int = 0
    at_first: int = 0
    _now: int = 0
    _runner: web.AppRunner | None = None
    url: str = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        cost = sum(len(message["content"]) for message in body["messages"]) // CHARACTERS_PER_TOKEN
        for tank in (self.requests, self.tokens):
            tank.refill()
        wait = max(self.requests.wait(1), self.tokens.wait(min(cost, self.tokens.capacity)))
        if wait > 0:
            self.refused += 1
            told = {"Retry-After": f"{wait:.3f}"} if self.has_retry_after else {}
            error = {"error": {"message": "Rate limit reached", "type": "rate_limit"}}
            return web.json_response(error, status=429, headers={**self._headers(), **told})
        self.requests.level -= 1
        self.tokens.level -= min(cost, self.tokens.capacity)
        headers = self._headers()
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(self.seconds)
        self.at_first = self.at_first or self._now
        self._now -= 1
        self.answered += 1
        return web.json_response(self._completion(body, cost), headers=headers)

    def _headers(self) -> dict[str, str]:
        """As OpenAI writes them: the limit of a minute, what remains, when it will be full."""
        if not self.has_headers:
            return {}
        found = {}
        for name, tank in (("requests", self.requests), ("tokens", self.tokens)):
            found[f"x-ratelimit-limit-{name}"] = str(int(tank.rate * 60))
            found[f"x-ratelimit-remaining-{name}"] = str(int(tank.level))
            found[f"x-ratelimit-reset-{name}"] = f"{int(1000 * tank.wait(tank.capacity))}ms"
        return found

    @staticmethod
    def _completion(body: dict[str, Any], cost: int) -> dict[str, Any]:
        return {
            "id": "c",
            "object": "chat.completion",
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": json.dumps({"findings": []})},
                }
            ],
            "usage": {"prompt_tokens": cost, "completion_tokens": 1, "total_tokens": cost + 1},
        }
