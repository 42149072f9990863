"""OpenAI's Responses: `POST /v1/responses`."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from parallelai.engines.models.wire.errors import error_in_stream
from parallelai.engines.models.wire.records import Ask, Completion, Counts, Stop, count, items, mapping, text
from parallelai.errors import Transient

_ENDS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")


class ResponsesWire(Struct, frozen=True):
    path: str = "/responses"

    def body(self, ask: Ask) -> dict[str, Any]:
        said: list[dict[str, Any]] = [{"role": "user", "content": ask.prompt}]
        if ask.earlier is not None:
            answer, wrong = ask.earlier
            said += [{"role": "assistant", "content": answer}, {"role": "user", "content": wrong}]
        # What is asked here is never continued: the provider need not keep it.
        body: dict[str, Any] = {"model": ask.model, "input": said, "store": False}
        if ask.instructions:
            body["instructions"] = ask.instructions
        if ask.max_tokens is not None:
            body["max_output_tokens"] = ask.max_tokens
        if ask.temperature is not None:
            body["temperature"] = ask.temperature
        if ask.structure is not None:
            one = ask.structure
            form = {"type": "json_schema", "name": one.name, "schema": one.schema, "strict": one.is_strict}
            body["text"] = {"format": form}
        if ask.stream:
            body["stream"] = True
        return body

    def read(self, data: Any) -> Completion:
        response = mapping(data)
        if response.get("error"):
            raise error_in_stream(data, model=text(response.get("model")), how="look at the key")
        if not isinstance(response.get("output"), list):
            raise Transient("the answer holds no `output`")
        parts = [
            part
            for item in items(response["output"])
            if item.get("type") == "message"
            for part in items(item.get("content"))
        ]
        refusal = "".join(text(part.get("refusal")) for part in parts)
        reason = text(mapping(response.get("incomplete_details")).get("reason"))
        return Completion(
            text="".join(text(part.get("text")) for part in parts),
            counts=_counts(response.get("usage")),
            stop=_stop(refusal, reason, text(response.get("status"))),
            said=refusal or reason,
            model=text(response.get("model")) or None,
        )

    def reader(self) -> ResponsesReader:
        return ResponsesReader(self)


def _stop(refusal: str, reason: str, status: str) -> Stop:
    if refusal or reason == "content_filter":
        return "refused"
    return "length" if reason or status == "incomplete" else "end"


def _counts(usage: Any) -> Counts:
    usage = mapping(usage)
    return Counts(
        input=count(usage.get("input_tokens")),
        cached=count(mapping(usage.get("input_tokens_details")).get("cached_tokens")),
        output=count(usage.get("output_tokens")),
        reasoning=count(mapping(usage.get("output_tokens_details")).get("reasoning_tokens")),
    )


class ResponsesReader(Struct):
    """The last event of a stream holds the whole response."""

    _wire: ResponsesWire
    _texts: list[str] = field(default_factory=list)
    _whole: Any = None

    def take(self, kind: str, data: Any) -> str:
        event = mapping(data)
        kind = text(event.get("type")) or kind
        if kind == "error":
            # Its fields stand beside its type here, not below `error`.
            inner = event if "message" in event and not event.get("error") else event.get("error")
            raise error_in_stream({"error": inner}, model="", how="look at the key")
        if kind in _ENDS:
            self._whole = event.get("response")
        if kind != "response.output_text.delta":
            return ""
        added = text(event.get("delta"))
        self._texts.append(added)
        return added

    def end(self, is_done: bool = False) -> Completion:
        if self._whole is None:
            raise Transient("the stream was cut before its end")
        whole = self._wire.read(self._whole)
        if whole.text or not self._texts:
            return whole
        return Completion("".join(self._texts), whole.counts, whole.stop, whole.said, whole.model)
