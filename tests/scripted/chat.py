"""OpenAI's Chat Completions (https://platform.openai.com/docs/api-reference/chat), as clients of many makers use it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from scripted.faults import Fault
from scripted.script import Answer, Call, Tool, texts
from scripted.wire import pieces, sse

_STOPS = {"end": "stop", "tool": "tool_calls", "max_tokens": "length", "refusal": "content_filter"}


class Chat:
    name = "chat"
    paths = ("/v1/chat/completions", "/chat/completions")

    def read(self, body: Any, place: Mapping[str, str]) -> Call:
        turns: list[tuple[str, str]] = []
        system: list[str] = []
        for message in body["messages"]:
            role, said = message["role"], texts(message.get("content"))
            if role in {"system", "developer"}:
                system += said
            elif role == "assistant":
                turns.append(("model", "\n".join(said)))
            elif role in {"tool", "function"}:
                turns.append(("result", "\n".join(said)))
            else:
                turns.extend(("user", text) for text in said)
        entries = [entry["function"] for entry in body.get("tools") or () if entry.get("type") == "function"]
        tools = tuple(Tool(entry["name"], entry.get("parameters") or {}) for entry in entries)
        text = "\n".join([*system, *(text for who, text in turns if who == "user")])
        return Call(body["model"], tuple(turns), tools, bool(body.get("stream")), text)

    def document(self, answer: Answer, call: Call) -> Any:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
        if answer.tool is not None:
            message["tool_calls"] = [_tool_call(answer)]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _STOPS[answer.stop]}
        return {**_head(call, "chat.completion"), "choices": [choice], "usage": _usage(answer)}

    def events(self, answer: Answer, call: Call) -> Iterator[bytes]:
        head = _head(call, "chat.completion.chunk")

        def chunk(delta: dict[str, Any], stop: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": stop}
            return sse({**head, "choices": [choice], "usage": None})

        yield chunk({"role": "assistant", "content": ""})
        for piece in pieces(answer.text) if answer.text is not None else ():
            yield chunk({"content": piece})
        if answer.tool is not None:
            used = _tool_call(answer)
            arguments = used["function"]["arguments"]
            begun = {**used, "index": 0, "function": {"name": used["function"]["name"], "arguments": ""}}
            yield chunk({"tool_calls": [begun]})
            for piece in pieces(arguments):
                yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        yield chunk({}, _STOPS[answer.stop])
        yield sse({**head, "choices": [], "usage": _usage(answer)})
        yield b"data: [DONE]\n\n"

    def error(self, fault: Fault) -> Any:
        return {"error": {"message": fault.message, "type": fault.kind, "param": None, "code": fault.code}}

    def error_event(self, fault: Fault) -> bytes:
        return sse(self.error(fault))


def _head(call: Call, kind: str) -> dict[str, Any]:
    id = f"chatcmpl-{uuid.uuid4().hex[:20]}"
    return {"id": id, "object": kind, "created": int(time.time()), "model": call.model}


def _tool_call(answer: Answer) -> dict[str, Any]:
    assert answer.tool is not None
    function = {"name": answer.tool.name, "arguments": json.dumps(answer.args)}
    return {"id": f"call_{uuid.uuid4().hex[:20]}", "type": "function", "function": function}


def _usage(answer: Answer) -> dict[str, Any]:
    """What was cached is within the prompt's tokens, what was thought within the answer's."""
    given, output = answer.usage.get("input", 900), answer.usage.get("output", 40)
    return {
        "prompt_tokens": given,
        "completion_tokens": output,
        "total_tokens": given + output,
        "prompt_tokens_details": {"cached_tokens": answer.usage.get("cached", 0)},
        "completion_tokens_details": {"reasoning_tokens": answer.usage.get("reasoning", 0)},
    }
