"""From what a server says went wrong to the engine's error that the scheduler understands.

Read from the status and the body, in the forms of OpenAI, Azure, Anthropic, OpenRouter, Ollama, vLLM, llama.cpp,
LM Studio, and frameworks' own. The server's words are kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from parallelai.engines.models.wire.limits import retry_after
from parallelai.engines.models.wire.records import Headers, items, mapping
from parallelai.engines.untrusted import clean, shorten
from parallelai.errors import EngineError, Invalid, RateLimited, Refused, Rejected, Transient

MAX_SAID = 500
CHUNK = "write `each: {chunk: N}` to give it the files in parts, or name a model with a larger context"
_QUOTA = re.compile(
    r"insufficient[_ ]quota|exceeded your current quota|billing|credit balance|insufficient (?:credits|funds|balance)"
    r"|out of credits|payment required|spend(?:ing)? limit",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(
    r"context[_ ](?:length|window|size)|maximum context|prompt is too long|input is too long|too many (?:input )?tokens"
    r"|exceed_context_size|reduce the length|request too large|longer than the (?:model|maximum)",
    re.IGNORECASE,
)
_FILTERED = re.compile(
    r"content[_ ]?(?:filter|policy)|responsible ?ai|moderation|safety system|flagged", re.IGNORECASE
)
_FORMAT = re.compile(
    r"response_format|json_schema|output_config|output_format|text\.format|structured output|guided|grammar"
    r"|invalid schema|tool_choice",
    re.IGNORECASE,
)
# The types that stand in an error where a status does not: in the middle of a stream.
_STATUSES: Mapping[str, int] = {
    "overloaded_error": 529,
    "overloaded": 529,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "too_many_requests": 429,
    "insufficient_quota": 429,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "billing_error": 402,
    "request_too_large": 413,
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "timeout_error": 504,
}


class Said(Struct, frozen=True):
    """What the body of an error holds: its words, and its type and codes as one text."""

    message: str
    labels: str = ""

    @property
    def whole(self) -> str:
        return f"{self.labels} {self.message}"


def read_said(body: bytes | Any) -> Said:
    """Read the body of an error, or the JSON of one; whatever it is, something comes out."""
    data = body
    if isinstance(body, bytes):
        text = body.decode("utf-8", "replace")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            return Said(_words(text))
    if isinstance(data, list):
        data = next(iter(items(data)), {})
    if isinstance(data, str):
        return Said(_words(data))
    return _of_object(mapping(data))


def _of_object(data: Mapping[str, Any]) -> Said:
    error = data.get("error", data.get("errors", data.get("detail", data)))
    if isinstance(error, list):
        error = next(iter(items(error)), str(error))
    if isinstance(error, str):
        return Said(_words(error), _labels(data))
    inner = mapping(error)
    message = inner.get("message") or inner.get("msg") or data.get("message") or inner.get("error") or ""
    raw = mapping(inner.get("metadata")).get("raw")  # OpenRouter's: what the provider behind it said
    said = f"{message}: {raw}" if isinstance(raw, str) and raw not in str(message) else str(message)
    return Said(_words(said or json.dumps(data)[:MAX_SAID]), _labels(inner))


def _labels(error: Mapping[str, Any]) -> str:
    inner = mapping(error.get("innererror") or error.get("inner_error"))
    found = (error.get("type"), error.get("code"), error.get("param"), inner.get("code"))
    return " ".join(str(label) for label in found if isinstance(label, str | int))


def _words(text: str) -> str:
    """One line; of a page in HTML its text."""
    if "<html" in text[:1000].lower() or "<!doctype" in text[:1000].lower():
        text = re.sub(r"<(?:style|script)[\s\S]*?</(?:style|script)>|<[^>]{0,500}>", " ", text[:20_000])
    return shorten(" ".join(clean(text).split()), MAX_SAID)


def is_about_format(status: int, body: bytes) -> bool:
    """Say whether a server refused the form that was asked of its answer, which it may be asked without."""
    return status in (400, 404, 422, 500, 501) and _FORMAT.search(read_said(body).whole) is not None


def error_of(status: int, headers: Headers, body: bytes | Any, *, model: str, how: str) -> EngineError:
    """Give the error that an answer stands for.

    `how` says where a key comes from. Nothing is masked here: that is for who knows the key.
    """
    said = read_said(body)
    text = f"{status} {said.message}".strip()
    if 300 <= status < 400:
        place = clean(headers.get("location", "elsewhere"))[:200]
        return Rejected(f"{status}: the server sends on to {place}", next="write that address as `base_url`")
    if status in (402, 429, 503, 529) or (status in (400, 403) and _QUOTA.search(said.whole)):
        return _limited(status, headers, said, text)
    if status in (401, 403) and not _FILTERED.search(said.whole):
        return Rejected(text, next=how)
    if status in (400, 403, 404, 405, 413, 422):
        return _refused(status, said, text, model)
    if status in (408, 409, 425) or status >= 500:
        return Transient(text) if status not in (501, 505) else Rejected(text)
    return Rejected(text, next="look at `base_url`: this is not how a model API answers")


def error_in_stream(data: Any, *, model: str, how: str) -> EngineError:
    """Give the error of an event in a stream, or of a body whose status was good."""
    said = read_said(data)
    error = mapping(mapping(data).get("error"))
    code = error.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else None
    if status is None:
        status = next((_STATUSES[word] for word in said.labels.split() if word in _STATUSES), 500)
    return error_of(status, {}, data, model=model, how=how)


def _limited(status: int, headers: Headers, said: Said, text: str) -> EngineError:
    if status == 429 and re.search(r"request too large", said.message, re.IGNORECASE):
        return Invalid(text, next=CHUNK)  # larger than what a whole minute allows: it never fits
    wait = retry_after(headers, said.message)
    if status == 503 and wait is None:
        return Transient(text)
    if status in (402, 400, 403) or _QUOTA.search(said.whole):
        return RateLimited(
            text, retry_after_seconds=wait, is_quota=True, next="look at the account's plan and billing"
        )
    return RateLimited(text, retry_after_seconds=wait)


def _refused(status: int, said: Said, text: str, model: str) -> EngineError:
    if status == 413 or _TOO_LONG.search(said.whole):
        return Invalid(text, next=CHUNK)
    if _FILTERED.search(said.whole):
        return Refused(text, next="the provider's filter refused it; another engine may not")
    if status == 404:
        return Rejected(
            text or "404",
            next=f"look at the model's name (`{model}`) and at `base_url`, with or without `/v1`",
        )
    if re.search(r"max_(?:completion_|output_)?tokens", said.message):
        return Rejected(text, next="write another `max_tokens` in the engine's entry")
    if re.search(r"\btemperature\b", said.message):
        return Rejected(text, next="take `temperature` out of the role or the engine's entry")
    return Rejected(text)
