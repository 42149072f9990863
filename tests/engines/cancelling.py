"""Turns that are cancelled as they begin."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest


async def cancelled_in(name: str, turn: Coroutine[Any, Any, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancel a turn while a function of its start is called in a thread, which goes on to its end all the same."""
    is_begun, may_go = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        is_begun.set()
        may_go.wait(10)

    monkeypatch.setattr(name, slow)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(turn)
        await asyncio.to_thread(is_begun.wait, 10)
        task.cancel()
        await asyncio.wait({task})
        may_go.set()
    await asyncio.get_running_loop().shutdown_default_executor()
