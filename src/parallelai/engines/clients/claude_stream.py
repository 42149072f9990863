"""The lines of `claude -p --output-format stream-json`, read; and those of its input, written. Pure.

Seen with 2.1.329. A line is an object with a `type`: `system` (`init`, `api_retry`, `permission_denied`, …),
`assistant` and `user` (messages as the API has them), `stream_event` (their pieces), `control_request` (it asks
for leave), `rate_limit_event`, and `result`, the end of a turn: `is_error` counts, not `subtype`.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from parallelai.engines.clients.client import MAX_LINE_BYTES, Ask, note, session_of
from parallelai.engines.clients.errors import LONGEST_WAIT_SECONDS, judge
from parallelai.engines.protocol import (
    Answer,
    EngineEvent,
    FilesEvent,
    PlanEvent,
    Question,
    SessionEvent,
    TextEvent,
    ToolEvent,
    WaitingEvent,
)
from parallelai.engines.untrusted import clean, money, shorten
from parallelai.errors import EngineError, Invalid, Refused
from parallelai.records import LimitKey, Usage

ALLOW, DENY = "allow_once", "deny"
LONGEST_OWN_WAIT_SECONDS = 5.0
"""A wait that the client asks for itself; for longer ones it is ended, and the scheduler waits."""
MAX_ARGUMENT_CHARS = 2_000
MAX_DENIALS = 5
NO_COMMAND = "(The text above is what you are asked to do.)"
_KINDS = {
    "Bash": "shell", "Edit": "edit", "MultiEdit": "edit", "NotebookEdit": "edit", "Write": "write", "Read": "read",
    "Glob": "search", "Grep": "search", "WebFetch": "fetch", "WebSearch": "fetch",
}  # fmt: skip
_WRITERS = frozenset({"Edit", "MultiEdit", "NotebookEdit", "Write"})
_QUIET = frozenset({"control_response", "keep_alive", "tool_progress", "tool_use_summary", "auth_status"})
_WAITS = {429: "rate_limited", 529: "overloaded"}


class ClaudeReader:
    """Reads one turn (`clients.Reader`). `root` is the folder worked in, `key` what a wait counts for."""

    def __init__(
        self, client: str, root: str, key: LimitKey, now: Callable[[], datetime] | None = None
    ) -> None:
        self.session: str | None = None
        self.is_done = False
        self.failure: EngineError | None = None
        self.known = self.strange = 0
        self.text = ""
        self.structured: Any = None
        self.model: str | None = None
        self.has_own_login = False
        self.notes: tuple[str, ...] = ()
        self._client, self._root, self._key = client, root, key
        self._now = now or (lambda: datetime.now(UTC))
        self._after: float | None = None
        self._tools: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self._streamed: set[str] = set()  # messages whose text came in pieces
        self._message = ""
        self._is_in_text = False  # a piece of text came, and its end did not
        self._spent: Usage | None = None  # of the results
        self._partial: dict[str, Usage] = {}  # of messages since the last result
        self._takers: Mapping[str, Callable[[Mapping[str, Any]], list[EngineEvent | Ask]]] = {
            "system": self._system,
            "assistant": self._assistant,
            "user": self._user,
            "stream_event": self._piece,
            "control_request": self._request,
            "rate_limit_event": self._limit,
            "result": self._result,
        }

    def take(self, line: bytes) -> list[EngineEvent | Ask]:
        """Read one line. Raises `RateLimited` where the client would wait for long."""
        data = read_object(line)
        kind = data.get("type") if data is not None else None
        if data is None or not isinstance(kind, str):
            self.strange += 1
            return []
        taker = self._takers.get(kind)
        if taker is None:
            if kind not in _QUIET:
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
        """Sum what the results say, and what the messages said that no result has counted."""
        parts = [*self._partial.values()]
        total = self._spent
        for part in parts:
            total = part if total is None else total + part
        return total

    # The kinds of lines

    def _system(self, data: Mapping[str, Any]) -> list[EngineEvent | Ask]:
        kind = data.get("subtype")
        if kind == "init":
            session = session_of(data["session_id"])
            is_new = session != self.session
            self.session = session
            self.model = _text(data.get("model"))
            self.has_own_login = data.get("apiKeySource") in (None, "none")
            return [SessionEvent(self.session)] if is_new else []
        if kind == "api_retry":
            return [self._wait(data)]
        return []

    def _wait(self, data: Mapping[str, Any]) -> WaitingEvent:
        status, seconds = data.get("error_status"), float(data["retry_delay_ms"]) / 1000
        why = _WAITS.get(status, "transient") if isinstance(status, int) else "transient"
        if status == 429:
            self._after = seconds
        if seconds > LONGEST_OWN_WAIT_SECONDS and why != "transient":
            said = f"the server answered {status} ({_text(data.get('error')) or 'rate_limit'})"
            raise judge(self._client, said, status=429, after=seconds)
        return WaitingEvent(why, self._until(seconds), self._key)

    def _until(self, seconds: float) -> str:
        moment = self._now().timestamp() + min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)
        return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

    def _limit(self, data: Mapping[str, Any]) -> list[EngineEvent | Ask]:
        """A subscription's window: said when it is used up, with the time of its end."""
        info = data["rate_limit_info"]
        if info.get("status") != "rejected" or info.get("isUsingOverage"):
            return []
        resets = info.get("resetsAt")
        if isinstance(resets, int | float):
            self._after = min(max(resets - self._now().timestamp(), 0.0), LONGEST_WAIT_SECONDS)
            return [WaitingEvent("rate_limited", self._until(self._after), self._key)]
        return [WaitingEvent("rate_limited", None, self._key)]

    def _assistant(self, data: Mapping[str, Any]) -> list[EngineEvent | Ask]:
        message = data["message"]
        if message.get("model") == "<synthetic>":  # the client's own words: they come again at the end
            return []
        self._count(message)
        events: list[EngineEvent | Ask] = []
        for part in message["content"]:
            if part["type"] == "text" and str(message.get("id")) not in self._streamed:
                events.append(TextEvent(clean(str(part["text"])) + "\n"))
            elif part["type"] == "tool_use":
                events += self._started(part)
        return events

    def _count(self, message: Mapping[str, Any]) -> None:
        """Keep what a message took: of an attempt that ends without a result nothing else is known."""
        usage, name = message.get("usage"), str(message.get("id"))
        if isinstance(usage, dict) and (name in self._partial or len(self._partial) < 10_000):
            self._partial[name] = tokens(usage)

    def _started(self, part: Mapping[str, Any]) -> list[EngineEvent]:
        name, given = str(part["name"]), part["input"]
        self._tools[str(part["id"])] = (name, given)
        events: list[EngineEvent] = [
            ToolEvent(str(part["id"]), _KINDS.get(name, name), "started", brief(given))
        ]
        if name == "TodoWrite":
            events.append(PlanEvent(tuple(note(str(item["content"])) for item in given["todos"][:100])))
        return events

    def _user(self, data: Mapping[str, Any]) -> list[EngineEvent | Ask]:
        content = data["message"]["content"]
        events: list[EngineEvent | Ask] = []
        for part in content if isinstance(content, list) else ():
            if part.get("type") != "tool_result":
                continue
            id, is_error = str(part["tool_use_id"]), bool(part.get("is_error"))
            name, given = self._tools.pop(id, ("", {}))
            events.append(ToolEvent(id, _KINDS.get(name, name), "ended", exit=int(is_error)))
            path = given.get("file_path") or given.get("notebook_path")
            if name in _WRITERS and isinstance(path, str) and not is_error:
                events.append(FilesEvent((relative(path, self._root),)))
        return events

    def _piece(self, data: Mapping[str, Any]) -> list[EngineEvent | Ask]:
        event = data["event"]
        if event["type"] == "message_start":
            self._message = str(event["message"].get("id"))
        is_own = not data.get("parent_tool_use_id")
        if is_own and self._is_in_text and event["type"] == "content_block_stop":
            self._is_in_text = False
            return [TextEvent("\n")]  # else the next text would begin on the same line
        if not is_own or event["type"] != "content_block_delta":
            return [TextEvent("")]
        delta = event["delta"]
        if delta["type"] != "text_delta":
            return [TextEvent("")]
        self._streamed.add(self._message)
        self._is_in_text = True
        return [TextEvent(clean(str(delta["text"])))]

    def _request(self, data: Mapping[str, Any]) -> list[EngineEvent | Ask]:
        id, request = str(data["request_id"]), data["request"]
        if request.get("subtype") != "can_use_tool":
            return []
        name = str(request["tool_name"])
        what = _KINDS.get(name, name)
        if request.get("decision_reason_type") == "workingDir":
            what = f"{what} outside"
        detail = note(json.dumps(brief(request["input"]), ensure_ascii=False))
        return [Ask(id, Question(id, what, (ALLOW, DENY), detail), request["input"])]

    def _result(self, data: Mapping[str, Any]) -> list[EngineEvent | Ask]:
        self._spend(data)
        self.session = session_of(data["session_id"]) if data.get("session_id") else self.session
        self.text = str(data.get("result") or "")
        self.structured = data.get("structured_output")
        self.notes = _denials(data.get("permission_denials"))
        self.failure = self._failed(data)
        self.is_done = not data.get("queued_turn_count")
        return []

    def _spend(self, data: Mapping[str, Any]) -> None:
        by_model = data.get("model_usage_since_last_result")
        parts = [_of_model(each) for each in by_model.values()] if isinstance(by_model, dict) else []
        if not parts and isinstance(data.get("usage"), dict):
            parts = [tokens(data["usage"])]
        for part in parts:
            self._spent = part if self._spent is None else self._spent + part
        self._partial.clear()

    def _failed(self, data: Mapping[str, Any]) -> EngineError | None:
        if not data.get("is_error"):
            return None
        errors = data.get("errors")
        listed = [str(each) for each in errors[:5]] if isinstance(errors, list) else []
        words = self.text or "; ".join(listed) or str(data.get("subtype"))
        if data.get("stop_reason") == "refusal":
            return Refused(f"`{self._client}`: {note(words)}")
        if data.get("terminal_reason") == "max_turns":
            said = f"`{self._client}`: {note(words)}"
            return Invalid(said, next="raise `max_turns`, or make the task smaller")
        if data.get("terminal_reason") == "structured_output_retry_exhausted":
            return Invalid(f"`{self._client}`: {note(words)}")
        status = data.get("api_error_status")
        return judge(
            self._client, words, status=status if isinstance(status, int) else None, after=self._after
        )


class ClaudeVoice:
    """Writes the lines of `--input-format stream-json` (`clients.Voice`)."""

    def message(self, text: str) -> bytes:
        """Say something as the user. What begins like a command of Claude Code's own is not one.

        It looks at the last block of what is said, so another one follows.
        """
        content: Any = text
        if text.lstrip().startswith("/"):
            content = [{"type": "text", "text": part} for part in (text, NO_COMMAND)]
        return _line({"type": "user", "message": {"role": "user", "content": content}})

    def answer(self, ask: Ask, answer: Answer) -> bytes:
        """Allow a tool with the arguments that it was asked for with, or deny it."""
        if answer.option == ALLOW:
            given: dict[str, Any] = {"behavior": "allow", "updatedInput": ask.data}
        else:
            given = {"behavior": "deny", "message": f"This is not allowed here ({note(answer.by)})."}
        response = {"subtype": "success", "request_id": ask.id, "response": given}
        return _line({"type": "control_response", "response": response})


def read_object(line: bytes) -> dict[str, Any] | None:
    """Read a line as a JSON object; None for anything else."""
    if len(line) >= MAX_LINE_BYTES:
        return None
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def brief(args: Any) -> dict[str, Any]:
    """Shorten what a tool was given, for the journal."""
    if not isinstance(args, dict):
        return {}
    return {
        shorten(clean(str(key)), 100): shorten(clean(value), MAX_ARGUMENT_CHARS)
        if isinstance(value, str)
        else value
        for key, value in list(args.items())[:20]
        if isinstance(value, str | int | bool | None)
    }


def relative(path: str, root: str) -> str:
    """Show a path as seen from the folder that is worked in."""
    shown = shorten(clean(path), 1_000)
    return posixpath.relpath(shown, root) if shown.startswith(f"{root}/") else shown


def tokens(usage: Mapping[str, Any]) -> Usage:
    """Read Anthropic's figures, which count what was cached beside the input."""
    cached, written = (
        _count_of(usage, "cache_read_input_tokens"),
        _count_of(usage, "cache_creation_input_tokens"),
    )
    fresh = _count_of(usage, "input_tokens")
    return Usage(fresh + cached + written, cached, _count_of(usage, "output_tokens"), None, None, "unknown")


def _of_model(figures: Mapping[str, Any]) -> Usage:
    cached, written = (
        _count_of(figures, "cacheReadInputTokens"),
        _count_of(figures, "cacheCreationInputTokens"),
    )
    usd = money(figures.get("costUSD")) if figures.get("costBasis") != "unknown" else None
    return Usage(
        _count_of(figures, "inputTokens") + cached + written,
        cached,
        _count_of(figures, "outputTokens"),
        _count_of(figures, "thinkingTokens"),
        usd,
        "unknown" if usd is None else "client",
    )


def _count_of(figures: Mapping[str, Any], key: str) -> int:
    value = figures.get(key)
    return max(0, value) if isinstance(value, int) and not isinstance(value, bool) else 0


def _denials(denials: Any) -> tuple[str, ...]:
    if not isinstance(denials, list) or not denials:
        return ()
    names = [note(str(each.get("tool_name"))) for each in denials if isinstance(each, dict)]
    shown = ", ".join(f"`{name}`" for name in dict.fromkeys(names[:MAX_DENIALS]))
    return (f"{len(denials)} uses of tools were denied: {shown}",)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _line(data: Any) -> bytes:
    return json.dumps(data).encode() + b"\n"
