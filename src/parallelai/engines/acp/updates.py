"""What an agent of the Agent Client Protocol reports in a turn, as events of the engine protocol.

Pure: `Updates` takes one update after another and gives the events that it stands for. All of it is a
stranger's: texts are cleaned, paths kept below the root, sizes bounded. Shapes: agentclientprotocol.com,
version 1, as the SDK's `schema` reads them; `_meta` as CLIENTS §6 saw it of gemini and qwen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from msgspec import Struct, field

from parallelai.engines.protocol import EngineEvent, FilesEvent, PlanEvent, TextEvent, ToolEvent
from parallelai.engines.untrusted import clean, money, safe_path, shorten
from parallelai.errors import Invalid
from parallelai.records import Usage

MAX_TEXT_CHARS = 16 * 1024 * 1024
"""What of an answer is kept."""
MAX_TOOLS = 100_000
MAX_PATHS = 10_000
MAX_PLAN_ITEMS = 1_000
MAX_ARGS_CHARS = 8_000
"""Longer arguments of a tool are shown by their beginning."""
MAX_ID_CHARS = 200

_MARKS = {"completed": "[x]", "in_progress": "[~]"}
_EDITS = frozenset({"edit", "delete", "move"})
_PLACE_NAMES = ("path", "file", "filename", "directory", "dir")


class _Tool(Struct):
    name: str
    kind: str
    args: Mapping[str, Any]
    paths: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    is_ended: bool = False


class Updates(Struct):
    """One turn's reports. `root` is the absolute folder that paths are made relative to.

    `usd` is the session's whole cost as last reported, `metered` the tokens that updates themselves carried.
    """

    root: str
    usd: float | None = None
    metered: Usage | None = None
    is_cut: bool = False
    _parts: list[str] = field(default_factory=lambda: [""])
    _chars: int = 0
    _tools: dict[str, _Tool] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All that the agent said."""
        return "\n".join(part for part in self._parts if part.strip())

    @property
    def answer(self) -> str:
        """What it said after its last tool call, or last of all: what came before is how it got there."""
        return next((part for part in reversed(self._parts) if part.strip()), "")

    @property
    def has_tools(self) -> bool:
        """Say whether it called any tool."""
        return bool(self._tools)

    @property
    def is_busy(self) -> bool:
        """Say whether a tool is running."""
        return any(not tool.is_ended for tool in self._tools.values())

    def tool(self, id: str) -> tuple[str, str]:
        """Give the kind and the title of a tool call; `other` and nothing where it was not reported."""
        tool = self._tools.get(shorten(clean(id), MAX_ID_CHARS))
        return ("other", "") if tool is None else (tool.kind, str(tool.args.get("title", "")))

    def places(self, call: Any) -> tuple[str, ...] | None:
        """Give the places that a call names for which leave is asked, as it names them; None for a change of none."""
        tool = self._tools.get(shorten(clean(call.tool_call_id), MAX_ID_CHARS))
        named = (*(tool.named if tool is not None else ()), *_named(call))
        kind = call.kind or (tool.kind if tool is not None else "other")
        return None if kind in _EDITS and not named else named

    def take(self, update: Any) -> list[EngineEvent]:
        """Read one update (a model of `acp.schema`); kinds that say nothing about the task give no event."""
        kind = update.session_update
        self._meter(getattr(update, "field_meta", None))
        if kind == "agent_message_chunk":
            return self._said(update.content)
        if kind == "user_message_chunk":  # a loaded session's past, told late: what came so far is past, too
            self._parts = [""]
        if kind in {"tool_call", "tool_call_update"}:
            return self._tool(update)
        if kind == "plan":
            return [PlanEvent(tuple(_plan_items(update.entries)))]
        if kind == "plan_update":
            entries = getattr(update.plan, "entries", None)
            return [PlanEvent(tuple(_plan_items(entries)))] if entries else []
        if kind == "usage_update" and update.cost is not None and update.cost.currency == "USD":
            usd = money(update.cost.amount)
            self.usd = self.usd if usd is None else usd
        return []

    def finish(self) -> list[EngineEvent]:
        """End the tools that the agent left open, as one does whose turn is over."""
        ended = [self._end(id, tool, None) for id, tool in self._tools.items() if not tool.is_ended]
        return [event for events in ended for event in events]

    def _said(self, content: Any) -> list[EngineEvent]:
        text = getattr(content, "text", None)
        if not isinstance(text, str) or not text:
            return []
        text = clean(text)
        room = MAX_TEXT_CHARS - self._chars
        self.is_cut = self.is_cut or len(text) > room
        self._parts[-1] += text[: max(0, room)]
        self._chars += len(text)
        return [TextEvent(text)]

    def _tool(self, update: Any) -> list[EngineEvent]:
        id = shorten(clean(update.tool_call_id), MAX_ID_CHARS)
        events: list[EngineEvent] = []
        tool = self._tools.get(id)
        if tool is None:
            if len(self._tools) >= MAX_TOOLS:
                return []
            tool = self._tools[id] = _Tool(_name(update), update.kind or "other", _args(update))
            if self._parts[-1]:
                self._parts.append("")
            events.append(ToolEvent(id, tool.name, "started", tool.args))
        tool.named = tuple(dict.fromkeys((*tool.named, *_named(update))))[:MAX_PATHS]
        tool.paths = tuple(dict.fromkeys((*tool.paths, *self._paths(update, tool.kind))))[:MAX_PATHS]
        if not tool.is_ended and update.status in {"completed", "failed"}:
            events += self._end(id, tool, _exit(update))
            if tool.paths and update.status == "completed":
                events.append(FilesEvent(tool.paths))
        return events

    def _end(self, id: str, tool: _Tool, exit: int | None) -> list[EngineEvent]:
        tool.is_ended = True
        return [ToolEvent(id, tool.name, "ended", exit=exit)]

    def _paths(self, update: Any, kind: str) -> Iterator[str]:
        """The files that a tool call changes: those of its diffs, and the places of what edits."""
        diffs = [item.path for item in update.content or () if item.type == "diff"]
        places = [place.path for place in update.locations or ()] if kind in _EDITS else []
        for path in [*diffs, *places][:MAX_PATHS]:
            try:
                yield safe_path(path, self.root)
            except Invalid:  # outside of the workspace, or no path: not the task's
                continue

    def _meter(self, meta: Any) -> None:
        """Add the tokens that an update carries (qwen: on the last chunk of each of its calls)."""
        usage = read_tokens(meta.get("usage")) if isinstance(meta, Mapping) else None
        if usage is not None:
            self.metered = usage if self.metered is None else self.metered + usage


def names_places(call: Any) -> bool:
    """Say whether a tool call itself names a place."""
    return bool(_named(call))


def _named(call: Any) -> list[str]:
    """The paths in a tool call: of its diffs, its locations, and what in its arguments is called a path or a file."""
    found = [item.path for item in call.content or () if item.type == "diff"]
    found += [place.path for place in call.locations or ()]
    given = call.raw_input if isinstance(call.raw_input, Mapping) else {}
    found += [
        text
        for name, text in given.items()
        if isinstance(text, str) and str(name).lower().endswith(_PLACE_NAMES)
    ]
    return found[:MAX_PATHS]


def _plan_items(entries: Iterable[Any]) -> Iterator[str]:
    for entry in list(entries)[:MAX_PLAN_ITEMS]:
        text = shorten(" ".join(clean(entry.content).split()), 500)
        yield f"{_MARKS.get(entry.status, '[ ]')} {text}"


def _name(update: Any) -> str:
    kind = update.kind
    if kind and kind != "other":
        return str(kind)
    return shorten(" ".join(clean(update.title or "").split()), 100) or "tool"


def _args(update: Any) -> dict[str, Any]:
    args: dict[str, Any] = {}
    if update.title:
        args["title"] = shorten(clean(update.title), 500)
    if update.raw_input is not None:
        args["input"] = _bounded(update.raw_input)
    return args


def _bounded(value: Any) -> Any:
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (ValueError, TypeError, RecursionError):
        return None
    return value if len(text) <= MAX_ARGS_CHARS and "\\ud" not in text else shorten(text, MAX_ARGS_CHARS)


def _exit(update: Any) -> int | None:
    """A command's exit code where the agent gives one; else 0 or 1 for done or failed."""
    output = update.raw_output
    places = [output, output.get("metadata")] if isinstance(output, dict) else []
    for place in places:
        for key in ("exit", "exitCode", "exit_code"):
            code = place.get(key) if isinstance(place, dict) else None
            if isinstance(code, int) and not isinstance(code, bool) and abs(code) < 1 << 32:
                return code
    return 0 if update.status == "completed" else 1


_NAMES: Mapping[str, tuple[str, ...]] = {
    "input": ("inputTokens", "input_tokens", "promptTokens"),
    "cached": ("cachedReadTokens", "cached_read_tokens", "cachedTokens"),
    "output": ("outputTokens", "output_tokens", "candidatesTokens"),
    "reasoning": ("thoughtTokens", "thought_tokens"),
}


def read_tokens(data: Any) -> Usage | None:
    """Read tokens from the shapes that agents give them in; None where there are none."""
    if not isinstance(data, Mapping):
        return None
    given, cached, output, reasoning = (_count(data, keys) for keys in _NAMES.values())
    return None if given is None and output is None else Usage(given, cached, output, reasoning)


def _count(data: Mapping[str, Any], keys: Iterable[str]) -> int | None:
    values = (data.get(key) for key in keys)
    return next(
        (v for v in values if isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 1 << 50), None
    )


def read_response_usage(response: Any) -> Usage | None:
    """Read what the answer to a prompt says of its turn: the field `usage`, or gemini's `_meta.quota`."""
    if response.usage is not None:
        return _whole_input(response.usage)
    return read_tokens(_quota(response))


def has_broken_off(response: Any) -> bool:
    """Say whether an answer was cut although the turn ended well: gemini then has counted no token of it."""
    count = _quota(response)
    return isinstance(count, Mapping) and count.get("input_tokens") == 0 == count.get("output_tokens")


def _quota(response: Any) -> Any:
    meta = response.field_meta
    quota = meta.get("quota") if isinstance(meta, Mapping) else None
    return quota.get("token_count") if isinstance(quota, Mapping) else None


def _whole_input(usage: Any) -> Usage | None:
    """Read the protocol's `Usage`. Some count what came from a cache beside the input: the total tells."""
    found = read_tokens(usage.model_dump())
    cached = (usage.cached_read_tokens or 0) + (usage.cached_write_tokens or 0)
    if found is None or found.input is None or not cached:
        return found
    is_beside = usage.total_tokens >= usage.input_tokens + usage.output_tokens + cached
    return replace(found, input=found.input + cached) if is_beside else found
