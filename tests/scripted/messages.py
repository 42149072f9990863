"""Anthropic's Messages API (https://docs.claude.com/en/api/messages-streaming), as far as clients use it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from scripted.faults import Fault
from scripted.script import Answer, Call, Tool, texts
from scripted.wire import pieces, sse

_STOPS = {"end": "end_turn", "tool": "tool_use", "max_tokens": "max_tokens", "refusal": "refusal"}


class Messages:
    name = "messages"
    paths = ("/v1/messages", "/messages")

    def read(self, body: Any, place: Mapping[str, str]) -> Call:
        turns: list[tuple[str, str]] = []
        for message in body["messages"]:
            if message["role"] == "assistant":
                turns.append(("model", "\n".join(texts(message["content"]))))
                continue
            for part in message["content"] if isinstance(message["content"], list) else [message["content"]]:
                if isinstance(part, dict) and part.get("type") == "tool_result":
                    turns.append(("result", "\n".join(texts(part.get("content")))))
                else:
                    turns.extend(("user", text) for text in texts([part] if isinstance(part, dict) else part))
        tools = tuple(
            Tool(tool["name"], tool["input_schema"])
            for tool in body.get("tools") or ()
            if "input_schema" in tool
        )
        system = "\n".join(texts(body.get("system")))
        text = "\n".join([system, *(text for who, text in turns if who == "user")])
        return Call(body["model"], tuple(turns), tools, bool(body.get("stream")), text)

    def document(self, answer: Answer, call: Call) -> Any:
        content: list[Any] = []
        if answer.text is not None:
            content.append({"type": "text", "text": answer.text})
        if answer.tool is not None:
            content.append(_tool_use(answer))
        return {
            **_head(call),
            "content": content,
            "stop_reason": _STOPS[answer.stop],
            "usage": {**_usage(answer), "output_tokens": answer.usage.get("output", 40)},
        }

    def events(self, answer: Answer, call: Call) -> Iterator[bytes]:
        head = {**_head(call), "content": [], "stop_reason": None}
        head["usage"] = {**_usage(answer), "output_tokens": 1}
        yield _event("message_start", message=head)
        index = 0
        if answer.text is not None:
            yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
            for piece in pieces(answer.text):
                yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
            yield _event("content_block_stop", index=0)
            index = 1
        if answer.tool is not None:
            use = _tool_use(answer)
            yield _event("content_block_start", index=index, content_block={**use, "input": {}})
            for piece in pieces(json.dumps(use["input"])):
                delta = {"type": "input_json_delta", "partial_json": piece}
                yield _event("content_block_delta", index=index, delta=delta)
            yield _event("content_block_stop", index=index)
        stop = {"stop_reason": _STOPS[answer.stop], "stop_sequence": None}
        yield _event("message_delta", delta=stop, usage={"output_tokens": answer.usage.get("output", 40)})
        yield _event("message_stop")

    def error(self, fault: Fault) -> Any:
        return {"type": "error", "error": {"type": fault.kind, "message": fault.message}}

    def error_event(self, fault: Fault) -> bytes:
        return sse(self.error(fault), "error")


def _event(kind: str, **fields: Any) -> bytes:
    return sse({"type": kind, **fields}, kind)


def _head(call: Call) -> dict[str, Any]:
    return {
        "id": f"msg_{uuid.uuid4().hex[:20]}",
        "type": "message",
        "role": "assistant",
        "model": call.model,
        "stop_sequence": None,
    }


def _tool_use(answer: Answer) -> dict[str, Any]:
    assert answer.tool is not None
    return {
        "type": "tool_use",
        "id": f"toolu_{uuid.uuid4().hex[:20]}",
        "name": answer.tool.name,
        "input": answer.args,
    }


def _usage(answer: Answer) -> dict[str, int]:
    """Anthropic counts what was cached beside the input, not within it."""
    cached = answer.usage.get("cached", 0)
    return {
        "input_tokens": answer.usage.get("input", 900) - cached,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
    }
