"""OpenAI's Chat Completions: `POST /v1/chat/completions`, which most servers speak."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from parallelai.engines.models.wire.errors import error_in_stream
from parallelai.engines.models.wire.records import (
    Ask,
    Completion,
    Counts,
    Stop,
    Structure,
    count,
    items,
    mapping,
    text,
)
from parallelai.engines.untrusted import money
from parallelai.errors import Transient

_STOPS: dict[str, Stop] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "refused",
    "refusal": "refused",
}


class ChatWire(Struct, frozen=True):
    """`limit_key` is the name of the limit of tokens: OpenAI's own models refuse `max_tokens`."""

    limit_key: str = "max_tokens"
    system_role: str = "system"
    path: str = "/chat/completions"

    def body(self, ask: Ask) -> dict[str, Any]:
        messages = [{"role": "user", "content": ask.prompt}]
        if ask.instructions:
            messages.insert(0, {"role": self.system_role, "content": ask.instructions})
        if ask.earlier is not None:
            answer, said = ask.earlier
            messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": said}]
        body: dict[str, Any] = {"model": ask.model, "messages": messages}
        if ask.max_tokens is not None:
            body[self.limit_key] = ask.max_tokens
        if ask.temperature is not None:
            body["temperature"] = ask.temperature
        if ask.structure is not None:
            body["response_format"] = _format(ask.structure)
        if ask.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body

    def read(self, data: Any) -> Completion:
        choice = next(iter(items(mapping(data).get("choices"))), None)
        if choice is None:
            raise Transient("the answer holds no `choices`")
        message = mapping(choice.get("message"))
        refusal = text(message.get("refusal"))
        reason = text(choice.get("finish_reason"))
        return Completion(
            text=_content(message.get("content")),
            counts=read_counts(mapping(data).get("usage")),
            stop="refused" if refusal else _STOPS.get(reason, "end"),
            said=refusal or reason,
            model=text(mapping(data).get("model")) or None,
        )

    def reader(self) -> ChatReader:
        return ChatReader()


def _format(structure: Structure) -> dict[str, Any]:
    schema: dict[str, Any] = {"name": structure.name, "schema": structure.schema}
    if structure.is_strict:
        schema["strict"] = True
    return {"type": "json_schema", "json_schema": schema}


def _content(content: Any) -> str:
    """A text, or the texts of parts, as some servers give them."""
    if isinstance(content, str):
        return content
    return "".join(text(part.get("text")) for part in items(content))


def read_counts(usage: Any) -> Counts:
    """Read the tokens of an answer; `cost` is OpenRouter's and Perplexity's, in USD."""
    usage = mapping(usage)
    inputs, outputs = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached = count(mapping(inputs).get("cached_tokens"))
    if cached is None:
        cached = count(usage.get("prompt_cache_hit_tokens"))  # DeepSeek's
    cost = usage.get("cost")
    cost = mapping(cost).get("total_cost") if isinstance(cost, dict) else cost
    return Counts(
        input=count(usage.get("prompt_tokens")),
        cached=cached,
        output=count(usage.get("completion_tokens")),
        reasoning=count(mapping(outputs).get("reasoning_tokens")),
        usd=money(cost),
    )


class ChatReader(Struct):
    """Puts the chunks of a stream together. Usage comes in a chunk of its own, after the last words."""

    _texts: list[str] = field(default_factory=list)
    _refusals: list[str] = field(default_factory=list)
    _reason: str = ""
    _model: str = ""
    _counts: Counts = field(default_factory=Counts)

    def take(self, kind: str, data: Any) -> str:
        if mapping(data).get("error") or kind == "error":
            raise error_in_stream(data, model=self._model, how="look at the key")
        chunk = mapping(data)
        self._model = text(chunk.get("model")) or self._model
        if isinstance(chunk.get("usage"), dict):
            self._counts = read_counts(chunk["usage"])
        added = ""
        for choice in items(chunk.get("choices"))[:1]:
            delta = mapping(choice.get("delta"))
            added += _content(delta.get("content"))
            self._refusals.append(text(delta.get("refusal")))
            self._reason = text(choice.get("finish_reason")) or self._reason
        self._texts.append(added)
        return added

    def end(self, is_done: bool = False) -> Completion:
        if not self._reason and not is_done:
            raise Transient("the stream was cut before its end")
        refusal = "".join(self._refusals)
        return Completion(
            text="".join(self._texts),
            counts=self._counts,
            stop="refused" if refusal else _STOPS.get(self._reason, "end"),
            said=refusal or self._reason,
            model=self._model or None,
        )
