"""Anthropic's Messages: `POST /v1/messages`.

Answers are held to a schema by `output_config.format`, which models since Claude 4.5 have; older ones by a tool
that they must call.
"""

from __future__ import annotations

import json
import re
from typing import Any

from msgspec import Struct, field

from parallelai.engines.models.wire.errors import error_in_stream
from parallelai.engines.models.wire.records import (
    LEAST_CACHED,
    Ask,
    Completion,
    Counts,
    Stop,
    count,
    items,
    mapping,
    text,
)
from parallelai.errors import Transient

VERSION = "2023-06-01"
TOOL = "answer"
_BY_TOOL = re.compile(r"claude-(?:instant|v?[12]\b|[12]\.|3|(?:opus|sonnet)-4(?:-[01]\b|-20|$|@))")
_STOPS: dict[str, Stop] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refused",
}


def is_by_tool(model: str) -> bool:
    """Say whether a model knows schemas only as those of its tools."""
    return _BY_TOOL.search(model) is not None


def usual_limit(model: str) -> int:
    """Give the limit of tokens, which Messages must name, where nobody wrote one.

    As much as a change of a large file takes; the models of 2024 refuse more than they could write.
    """
    return 4_096 if re.search(r"claude-(?:instant|v?2|3(?!-7))", model) else 16_384


class MessagesWire(Struct, frozen=True):
    path: str = "/messages"

    def body(self, ask: Ask) -> dict[str, Any]:
        messages: list[dict[str, Any]] = [{"role": "user", "content": _blocks(ask)}]
        if ask.earlier is not None:
            answer, said = ask.earlier
            messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": said}]
        body: dict[str, Any] = {"model": ask.model, "max_tokens": ask.max_tokens, "messages": messages}
        if ask.instructions:
            body["system"] = ask.instructions
        if ask.temperature is not None:
            body["temperature"] = min(ask.temperature, 1.0)  # its scale ends there
        if ask.structure is not None and is_by_tool(ask.model):
            tool = {
                "name": TOOL,
                "description": "Give the answer.",
                "input_schema": ask.structure.schema,
            }
            body |= {"tools": [tool], "tool_choice": {"type": "tool", "name": TOOL}}
        elif ask.structure is not None:
            form = {"type": "json_schema", "schema": ask.structure.schema}
            body["output_config"] = {"format": form}
        if ask.stream:
            body["stream"] = True
        return body

    def read(self, data: Any) -> Completion:
        message = mapping(data)
        if not isinstance(message.get("content"), list):
            raise Transient("the answer holds no `content`")
        reason = text(message.get("stop_reason"))
        return Completion(
            text="".join(_text_of(block) for block in items(message["content"])),
            counts=_counts(message.get("usage")),
            stop=_STOPS.get(reason, "end"),
            said=_why(message) or reason,
            model=text(message.get("model")) or None,
        )

    def reader(self) -> MessagesReader:
        return MessagesReader()


def _blocks(ask: Ask) -> str | list[dict[str, Any]]:
    """The prompt, in two blocks where its beginning is to be cached."""
    if ask.shared < LEAST_CACHED:  # a mark on it would be one for nothing
        return ask.prompt
    first = {"type": "text", "text": ask.prompt[: ask.shared], "cache_control": {"type": "ephemeral"}}
    rest = ask.prompt[ask.shared :]
    return [first, {"type": "text", "text": rest}] if rest.strip() else [first]


def _text_of(block: Any) -> str:
    if block.get("type") == "tool_use":
        return json.dumps(block.get("input"), ensure_ascii=False)
    return text(block.get("text")) if block.get("type") == "text" else ""


def _why(message: Any) -> str:
    """What is said of a refusal, as far as it is."""
    details = mapping(message.get("stop_details"))
    return text(details.get("explanation")) or text(details.get("reason"))


def _counts(usage: Any) -> Counts:
    """Its `input_tokens` are what neither was in the cache nor went into it."""
    usage = mapping(usage)
    fresh = count(usage.get("input_tokens"))
    cached = count(usage.get("cache_read_input_tokens"))
    written = count(usage.get("cache_creation_input_tokens"))
    return Counts(
        input=None if fresh is None else fresh + (cached or 0) + (written or 0),
        cached=cached,
        output=count(usage.get("output_tokens")),
        reasoning=count(mapping(usage.get("output_tokens_details")).get("thinking_tokens")),
        written=written,
    )


class MessagesReader(Struct):
    """Puts the deltas of a stream together. The figures of `message_delta` are totals of the turn."""

    _texts: list[str] = field(default_factory=list)
    _usage: dict[str, Any] = field(default_factory=dict)
    _last: dict[str, Any] = field(default_factory=dict)
    _model: str = ""
    _is_ended: bool = False

    def take(self, kind: str, data: Any) -> str:
        event = mapping(data)
        kind = text(event.get("type")) or kind
        if kind == "error":
            raise error_in_stream(data, model=self._model, how="look at the key")
        if kind == "message_start":
            message = mapping(event.get("message"))
            self._model = text(message.get("model"))
            self._usage |= mapping(message.get("usage"))
        elif kind == "message_delta":
            self._last |= mapping(event.get("delta"))
            known = {key: value for key, value in mapping(event.get("usage")).items() if value is not None}
            self._usage |= known
        elif kind == "message_stop":
            self._is_ended = True
        delta = mapping(event.get("delta")) if kind == "content_block_delta" else {}
        added = text(delta.get("text")) or text(delta.get("partial_json"))
        self._texts.append(added)
        return added

    def end(self, is_done: bool = False) -> Completion:
        reason = text(self._last.get("stop_reason"))
        if not self._is_ended and not reason:
            raise Transient("the stream was cut before its end")
        return Completion(
            text="".join(self._texts),
            counts=_counts(self._usage),
            stop=_STOPS.get(reason, "end"),
            said=_why(self._last) or reason,
            model=self._model or None,
        )
