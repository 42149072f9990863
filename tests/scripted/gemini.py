"""Google's Gemini API (https://ai.google.dev/api/generate-content): `generateContent` and its stream."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from scripted.faults import Fault
from scripted.script import Answer, Call, Tool, texts
from scripted.wire import pieces, sse

_STOPS = {"end": "STOP", "tool": "STOP", "max_tokens": "MAX_TOKENS", "refusal": "SAFETY"}
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class Gemini:
    name = "gemini"
    paths = tuple(
        f"/{version}/models/{{model:[^/:]+}}:{{verb:generateContent|streamGenerateContent}}"
        for version in ("v1beta", "v1", "v1beta1")
    )

    def read(self, body: Any, place: Mapping[str, str]) -> Call:
        turns: list[tuple[str, str]] = []
        for content in body["contents"]:
            for part in content.get("parts") or ():
                if "functionResponse" in part:
                    turns.append(("result", str(part["functionResponse"].get("response"))))
                elif isinstance(part.get("text"), str):
                    turns.append(("model" if content.get("role") == "model" else "user", part["text"]))
        found = [
            declared
            for entry in body.get("tools") or ()
            for declared in entry.get("functionDeclarations") or ()
        ]
        tools = tuple(Tool(entry["name"], _schema(entry)) for entry in found)
        system = texts((body.get("systemInstruction") or {}).get("parts"))
        text = "\n".join([*system, *(text for who, text in turns if who == "user")])
        return Call(place["model"], tuple(turns), tools, place["verb"] == "streamGenerateContent", text)

    def document(self, answer: Answer, call: Call) -> Any:
        parts = [] if answer.text is None else [{"text": answer.text}]
        return _response(call, [*parts, *_calls(answer)], answer, is_last=True)

    def events(self, answer: Answer, call: Call) -> Iterator[bytes]:
        for piece in pieces(answer.text) if answer.text is not None else ():
            yield sse(_response(call, [{"text": piece}], answer))
        yield sse(_response(call, _calls(answer) or [{"text": ""}], answer, is_last=True))

    def error(self, fault: Fault) -> Any:
        status = _STATUSES.get(fault.status, "UNAVAILABLE" if fault.status >= 500 else "INVALID_ARGUMENT")
        details: list[Any] = []
        if fault.retry_after is not None:
            kind = "type.googleapis.com/google.rpc.RetryInfo"
            details.append({"@type": kind, "retryDelay": f"{fault.retry_after:g}s"})
        error = {"code": fault.status, "message": fault.message, "status": status, "details": details}
        return {"error": error}

    def error_event(self, fault: Fault) -> bytes:
        return sse(self.error(fault))


def _schema(entry: Any) -> dict[str, Any]:
    return entry.get("parametersJsonSchema") or entry.get("parameters") or {}


def _calls(answer: Answer) -> list[Any]:
    if answer.tool is None:
        return []
    return [{"functionCall": {"id": uuid.uuid4().hex[:12], "name": answer.tool.name, "args": answer.args}}]


def _response(call: Call, parts: list[Any], answer: Answer, *, is_last: bool = False) -> Any:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    response = {"candidates": [candidate], "modelVersion": call.model, "responseId": uuid.uuid4().hex[:16]}
    if not is_last:
        return response
    candidate["finishReason"] = _STOPS[answer.stop]
    given, output = answer.usage.get("input", 900), answer.usage.get("output", 40)
    thought = answer.usage.get("reasoning", 0)
    usage = {
        "promptTokenCount": given,
        "cachedContentTokenCount": answer.usage.get("cached", 0),
        "candidatesTokenCount": output,
        "thoughtsTokenCount": thought,
        "totalTokenCount": given + output + thought,
    }
    return {**response, "usageMetadata": usage}
