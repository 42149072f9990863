"""OpenAI's Responses API (https://platform.openai.com/docs/api-reference/responses-streaming)."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from scripted.faults import Fault
from scripted.script import Answer, Call, Tool, texts
from scripted.wire import pieces, sse

_RESULTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")
_CALLS = ("function_call", "custom_tool_call", "local_shell_call")


class Responses:
    name = "responses"
    paths = ("/v1/responses", "/responses")

    def read(self, body: Any, place: Mapping[str, str]) -> Call:
        turns: list[tuple[str, str]] = []
        given = body["input"]
        for item in given if isinstance(given, list) else [{"role": "user", "content": given}]:
            kind, role = item.get("type", "message"), item.get("role")
            if kind in _RESULTS:
                turns.append(("result", str(item.get("output"))))
            elif kind in _CALLS or role == "assistant":
                turns.append(("model", "\n".join(texts(item.get("content")))))
            elif role == "user":
                turns.extend(("user", text) for text in texts(item.get("content")))
        every = (str(body.get("instructions") or ""), *(text for who, text in turns if who == "user"))
        tools = tuple(tool for entry in body.get("tools") or () if (tool := _tool(entry)) is not None)
        return Call(body["model"], tuple(turns), tools, bool(body.get("stream")), "\n".join(every))

    def document(self, answer: Answer, call: Call) -> Any:
        return _response(call, "completed", _items(answer), answer)

    def events(self, answer: Answer, call: Call) -> Iterator[bytes]:
        numbers = iter(range(1_000_000))
        items = _items(answer)

        def event(kind: str, **fields: Any) -> bytes:
            return sse({"type": kind, "sequence_number": next(numbers), **fields}, kind)

        yield event("response.created", response=_response(call, "in_progress", []))
        for index, item in enumerate(items):
            yield event("response.output_item.added", output_index=index, item=_begun(item))
            if item["type"] == "message":
                place = {"item_id": item["id"], "output_index": index, "content_index": 0}
                for piece in pieces(answer.text or ""):
                    yield event("response.output_text.delta", delta=piece, **place)
                yield event("response.output_text.done", text=answer.text, **place)
            yield event("response.output_item.done", output_index=index, item=item)
        if answer.stop in ("max_tokens", "refusal"):
            reason = {"max_tokens": "max_output_tokens", "refusal": "content_filter"}[answer.stop]
            ended = _response(call, "incomplete", items, answer)
            yield event("response.incomplete", response={**ended, "incomplete_details": {"reason": reason}})
        else:
            yield event("response.completed", response=_response(call, "completed", items, answer))

    def error(self, fault: Fault) -> Any:
        return {"error": {"message": fault.message, "type": fault.kind, "param": None, "code": fault.code}}

    def error_event(self, fault: Fault) -> bytes:
        failed = {"id": _id("resp"), "object": "response", "status": "failed"}
        failed["error"] = {"code": fault.code, "message": fault.message}  # type: ignore[assignment]
        return sse({"type": "response.failed", "response": failed}, "response.failed")


def _id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:24]}"


def _tool(entry: dict[str, Any]) -> Tool | None:
    if entry.get("type") == "function":
        return Tool(entry["name"], entry.get("parameters") or {})
    if entry.get("type") == "custom":
        return Tool(entry["name"], is_free=True)
    return None


def _items(answer: Answer) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if answer.text is not None:
        part = {"type": "output_text", "text": answer.text, "annotations": []}
        if answer.stop == "refusal":
            part = {"type": "refusal", "refusal": answer.text}
        items.append({"type": "message", "id": _id("msg"), "role": "assistant", "status": "completed"})
        items[-1]["content"] = [part]
    if answer.tool is not None:
        items.append(
            {"id": _id("fc"), "call_id": _id("call"), "name": answer.tool.name, "status": "completed"}
        )
        if answer.tool.is_free:
            items[-1].update(type="custom_tool_call", input=answer.args)
        else:
            items[-1].update(type="function_call", arguments=json.dumps(answer.args))
    return items


def _begun(item: dict[str, Any]) -> dict[str, Any]:
    empty = {"content": [], "arguments": "", "input": ""}
    return {key: empty.get(key, value) for key, value in item.items()} | {"status": "in_progress"}


def _response(
    call: Call, status: str, items: list[dict[str, Any]], answer: Answer | None = None
) -> dict[str, Any]:
    return {
        "id": _id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "model": call.model,
        "output": items,
        "usage": None if answer is None else _usage(answer),
    }


def _usage(answer: Answer) -> dict[str, Any]:
    given, made = answer.usage.get("input", 900), answer.usage.get("output", 40)
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": answer.usage.get("cached", 0)},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": answer.usage.get("reasoning", 0)},
        "total_tokens": given + made,
    }
