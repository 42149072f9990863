"""The lines of `codex exec --json`, read. Pure, but for `recorded_total`, which reads a session's own file.

Seen with 0.169.0. A line is an object with a `type`: `thread.started`, `turn.started`, `item.started`,
`item.updated`, `item.completed` (with an `item` of a `type` of its own), `error` (often only a warning), and
the end: `turn.completed` or `turn.failed`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from parallelai.engines.clients.claude_stream import brief, read_object, relative
from parallelai.engines.clients.client import Ask, note, session_of
from parallelai.engines.clients.errors import judge
from parallelai.engines.planted import read_plain
from parallelai.engines.protocol import (
    EngineEvent,
    FilesEvent,
    PlanEvent,
    SessionEvent,
    TextEvent,
    ToolEvent,
    WaitingEvent,
)
from parallelai.engines.untrusted import clean
from parallelai.errors import EngineError
from parallelai.records import LimitKey, Usage

_RECONNECTING = re.compile(r"^Reconnecting\.\.\. (?:\d+/\d+|waiting for network) \((.*)\)$", re.DOTALL)
_ID = re.compile(r"[0-9a-fA-F-]{8,64}")
_TAIL_BYTES = 4 * 1024 * 1024
_TOOLS = {"command_execution": "shell", "mcp_tool_call": "mcp", "web_search": "search", "file_change": "edit"}


class CodexReader:
    """Reads one turn (`clients.Reader`). `before` is what the session took until now, as its file says."""

    def __init__(self, client: str, root: str, key: LimitKey, before: Usage | None) -> None:
        self.session: str | None = None
        self.is_done = False
        self.failure: EngineError | None = None
        self.known = self.strange = 0
        self.text = ""
        self.model: str | None = None
        self.notes: tuple[str, ...] = ()
        self.total: Usage | None = None
        """What the session took in all, this turn included."""
        self._client, self._root, self._key = client, root, key
        self._before = before
        self._last_error = ""
        self._takers: Mapping[str, Callable[[Mapping[str, Any]], list[EngineEvent | Ask]]] = {
            "thread.started": self._thread,
            "turn.started": lambda _: [],
            "item.started": self._begun,
            "item.updated": self._updated,
            "item.completed": self._ended,
            "error": self._error,
            "turn.completed": self._completed,
            "turn.failed": self._failed,
        }

    def take(self, line: bytes) -> list[EngineEvent | Ask]:
        """Read one line. Raises an `EngineError` where codex would only ask again by itself."""
        data = read_object(line)
        taker = self._takers.get(str(data.get("type"))) if data is not None else None
        if data is None or taker is None:
            self.strange += 1
            return []
        try:
            events = taker(data)
        except (KeyError, TypeError, ValueError, AttributeError):  # a known line of an unknown shape
            self.strange += 1
            return []
        self.known += 1
        return events

    def usage(self) -> Usage | None:
        """Take what the session took before from what it took in all."""
        if self.total is None:
            return None
        before = self._before or Usage(0, 0, 0, 0)
        return Usage(
            _less(self.total.input, before.input),
            _less(self.total.cached, before.cached),
            _less(self.total.output, before.output),
            _less(self.total.reasoning, before.reasoning),
        )

    def _thread(self, data: Mapping[str, Any]) -> list[EngineEvent | Ask]:
        session = session_of(data["thread_id"])
        if session == self.session:
            return []
        self.session = session
        return [SessionEvent(session)]

    def _begun(self, data: Mapping[str, Any]) -> list[EngineEvent | Ask]:
        item = data["item"]
        name = _TOOLS.get(item["type"])
        if name is None or name == "edit":
            return self._updated(data)
        args = {key: item[key] for key in ("command", "query", "server", "tool") if key in item}
        return [ToolEvent(str(item["id"]), name, "started", brief(args))]

    def _updated(self, data: Mapping[str, Any]) -> list[EngineEvent | Ask]:
        item = data["item"]
        if item["type"] == "todo_list":
            return [PlanEvent(tuple(note(str(each["text"])) for each in item["items"][:100]))]
        return [TextEvent("")]

    def _ended(self, data: Mapping[str, Any]) -> list[EngineEvent | Ask]:
        item = data["item"]
        kind = item["type"]
        if kind == "agent_message":
            self.text = str(item["text"])
            return [TextEvent(clean(self.text) + "\n")]
        if kind == "file_change":
            paths = tuple(relative(str(each["path"]), self._root) for each in item["changes"][:1_000])
            return [FilesEvent(paths)] if item.get("status") != "failed" else []
        if kind in _TOOLS:
            code = item.get("exit_code")
            exit = code if isinstance(code, int) else int(item.get("status") == "failed")
            return [ToolEvent(str(item["id"]), _TOOLS[kind], "ended", exit=exit)]
        return self._updated(data)

    def _error(self, data: Mapping[str, Any]) -> list[EngineEvent | Ask]:
        """A word on the way: the end says again what matters. What it retries itself is ended here."""
        self._last_error = str(data.get("message"))
        match = _RECONNECTING.match(self._last_error)
        if match is None:
            return [TextEvent("")]
        is_socket = "ws://" in match[1] or "wss://" in match[1]  # it goes over to HTTP by itself
        if is_socket or "disconnected" in match[1]:
            return [WaitingEvent("transient", None, self._key)]
        raise judge(self._client, match[1])

    def _completed(self, data: Mapping[str, Any]) -> list[EngineEvent | Ask]:
        self.is_done = True
        if isinstance(data.get("usage"), dict):
            self.total = _figures(data["usage"])
        return []

    def _failed(self, data: Mapping[str, Any]) -> list[EngineEvent | Ask]:
        error = data.get("error")
        words = str(error.get("message")) if isinstance(error, dict) else self._last_error
        self.is_done = True
        self.failure = judge(self._client, _unwrapped(words))
        return []


def recorded_total(home: Path, session: str | None) -> Usage | None:
    """Read from a session's file what it took in all; None where there is none, or it does not say.

    `~/.codex/sessions/YYYY/MM/DD/rollout-…-ID.jsonl`, a line `token_count` after each answer.
    """
    if session is None or not _ID.fullmatch(session):
        return None
    try:
        path = max((home / "sessions").glob(f"*/*/*/rollout-*{session}.jsonl"), default=None)
        if path is None:
            return None
        lines = read_plain(path, _TAIL_BYTES, is_tail=True).splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        if b'"token_count"' not in line:
            continue
        found = _total_in(read_object(line))
        if found is not None:
            return found
    return None


def _total_in(data: Mapping[str, Any] | None) -> Usage | None:
    try:
        figures = data["payload"]["info"]["total_token_usage"] if data is not None else None
    except (KeyError, TypeError):
        return None
    return _figures(figures) if isinstance(figures, dict) else None


def _figures(usage: Mapping[str, Any]) -> Usage:
    def count(key: str) -> int | None:
        value = usage.get(key)
        return max(0, value) if isinstance(value, int) and not isinstance(value, bool) else None

    return Usage(
        count("input_tokens"),
        count("cached_input_tokens"),
        count("output_tokens"),
        count("reasoning_output_tokens"),
    )


def _less(total: int | None, before: int | None) -> int | None:
    return None if total is None else max(0, total - (before or 0))


def _unwrapped(words: str) -> str:
    """Some failures are the server's JSON as it came: its message and code say the same in fewer words."""
    try:
        error = json.loads(words)["error"]
        told = [str(error[key]) for key in ("message", "code", "type") if error.get(key)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return words
    return f"{told[0]} ({', '.join(told[1:])})" if len(told) > 1 else words
