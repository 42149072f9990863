"""What an agent answers when something fails, as an engine's error with its own words (CLIENTS §6).

An agent's code may be JSON-RPC's, or a status of HTTP (gemini); the words of the provider stand in the message
or somewhere in `data`. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from parallelai.engines.untrusted import clean, shorten
from parallelai.errors import (
    EngineError,
    Internal,
    Invalid,
    RateLimited,
    Refused,
    Rejected,
    SessionGone,
    Transient,
    Unavailable,
)

MAX_SAID_CHARS = 2_000
AUTH_REQUIRED = -32000
_MOST_SECONDS = 7 * 86_400.0

_STATUS = re.compile(
    r"(?:^|status(?:\s*code)?|code|http|error|api error|\[|\()[\s\"':=]*([45]\d\d)\b(?!\s*(?:ms|tokens|files))",
    re.IGNORECASE,
)
_RETRY_AFTER = re.compile(
    r"(?:retry[- _]?(?:after|delay)|(?:try again|retry|reset\w*) (?:in|after))[\"':=\s]*"
    r"(\d+(?:\.\d+)?)\s*(ms|milliseconds|m\b|min|s|)",
    re.IGNORECASE,
)
_WORDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("quota", r"insufficient[_ ]quota|quota (?:exceeded|exhausted)|exceeded your (?:current )?quota"
                  r"|usage limit|out of credits?|credit balance|billing|payment required|daily limit"),
        ("limited", r"rate[_ -]?limit|too many requests|resource[_ ]exhausted"),
        ("rejected", r"context[_ ]length|context ?window|too long|maximum context|prompt is too"
                      r"|exceeds (?:the )?(?:model|context|token)|contextoverflow"),
        ("rejected", r"(?:model|deployment).{0,60}(?:not found|does not exist|not supported|unknown|invalid)"
                     r"|unknown model|no such model|model_not_found|\bmodel: [\w./-]+(?:$|:)"),
        ("rejected", r"(?:invalid|incorrect|wrong|bad|expired|missing).{0,20}(?:api[ _-]?key|token|credential)"
                     r"|api[ _-]?key (?:is )?(?:not valid|invalid)|unauthorized|unauthenticated|forbidden"
                     r"|permission[_ ]?denied|invalid[_ ]request|bad ?request|authentication_?error"),
        ("login", r"not logged in|log ?in|sign in|authentication required|no credentials|set an auth method"),
        ("refused", r"content (?:policy|filter)|safety|refus(?:ed|al)"),
        ("transient", r"overloaded|unavailable|timed? ?out|timeout|econn\w+|socket|network|connection"
                      r"|fetch failed|terminated|internal ?server ?error|bad gateway|server error|try again"),
        ("rejected", r": APIError$"),  # opencode's name for what it does not ask again for, without the status
    )
)  # fmt: skip
_NO_SESSION = re.compile(
    r"no (?:previous )?(?:sessions?|rollout|conversation|thread) found|(?:invalid|unknown|no such) session"
    r"|(?:session|resource)\b.{0,80}(?:not found|does not exist|notfound)",
    re.IGNORECASE,
)
_BY_STATUS: Mapping[int, str] = {
    400: "rejected", 401: "rejected", 402: "quota", 403: "rejected", 404: "rejected", 408: "transient",
    409: "transient", 413: "rejected", 422: "rejected", 425: "transient", 429: "limited", 529: "transient",
}  # fmt: skip


def read_error(agent: str, code: int, message: str, data: Any = None) -> EngineError:
    """Turn an agent's JSON-RPC error into an engine's. `agent` is how the agent is called."""
    words = _words(message, data)
    said = f"`{agent}` answered: {words}" if words else f"`{agent}` answered with error {code}"
    kind = _kind(code, words)
    if kind == "login" or (code == AUTH_REQUIRED and kind in {"", "transient"}):
        return Unavailable(said, next=f"log in to `{agent}` once, or give it a key")
    return _made(kind, said, words, code)


def read_no_load(error: EngineError) -> EngineError:
    """Tell an agent that does not know the session that it was to go on with from one that fails otherwise."""
    if isinstance(error, Internal | Rejected) and _NO_SESSION.search(error.said):
        return SessionGone(error.said, next=error.next)
    return error


def read_trouble(agent: str, words: str, wait_seconds: float | None) -> EngineError:
    """Turn a failed call that an agent would make again into an error: trying again is not the agent's to do."""
    error = read_error(agent, 0, words)
    if not isinstance(error, RateLimited):
        return error if isinstance(error, Transient) else Transient(error.said)
    asked = error.retry_after_seconds if wait_seconds is None else min(wait_seconds, _MOST_SECONDS)
    return RateLimited(error.said, retry_after_seconds=asked, is_quota=error.is_quota)


def read_words(agent: str, words: str, what: str) -> EngineError:
    """Turn what an agent wrote before it ended into an error; `what` says how it ended."""
    tail = shorten(clean(words).strip(), MAX_SAID_CHARS)
    said = f"`{agent}` {what}: {tail}" if tail else f"`{agent}` {what}"
    kind = _kind(0, tail)
    if kind == "login":
        return Unavailable(said, next=f"log in to `{agent}` once, or give it a key")
    return _made(kind, said, tail, 0)


def read_stop(agent: str, reason: str) -> EngineError | None:
    """Say what a turn's stop reason comes to; None where it ended well."""
    if reason == "end_turn":
        return None
    if reason == "refusal":
        return Refused(f"`{agent}` refused the task")
    if reason == "max_tokens":
        return Invalid(
            f"`{agent}` reached its limit of tokens before it was done", next="make the task smaller"
        )
    if reason == "max_turn_requests":
        return Invalid(
            f"`{agent}` reached its limit of calls to its model before it was done",
            next="raise `max_turns`, or make the task smaller",
        )
    return Internal(f"`{agent}` stopped by itself: {shorten(clean(reason), 100)}")


def _kind(code: int, words: str) -> str:
    """What went wrong; empty where nothing says it. The status is surer than the words, quota aside."""
    found = next((kind for kind, pattern in _WORDS if pattern.search(words)), "")
    status = code if 400 <= code < 600 else _status(words)
    if status is None:
        return found
    kind = _BY_STATUS.get(status, "transient" if status >= 500 else "rejected")
    if status == 500 and found:  # what an agent gives where it knows no status
        return found
    return "quota" if kind in {"limited", "rejected"} and found == "quota" else kind


def _status(words: str) -> int | None:
    match = _STATUS.search(words)
    return int(match[1]) if match else None


def _made(kind: str, said: str, words: str, code: int) -> EngineError:
    if kind in {"limited", "quota"}:
        return RateLimited(said, retry_after_seconds=retry_after(words), is_quota=kind == "quota")
    if kind == "rejected":
        return Rejected(said)
    if kind == "refused":
        return Refused(said)
    if kind == "transient":
        return Transient(said)
    return Internal(said)


def retry_after(words: str) -> float | None:
    """Find how long to wait, in seconds, in what a provider wrote; None where it does not say."""
    match = _RETRY_AFTER.search(words)
    if match is None:
        return None
    unit = match[2].lower()
    factor = 0.001 if unit in {"ms", "milliseconds"} else 60.0 if unit.startswith("m") else 1.0
    return min(float(match[1]) * factor, _MOST_SECONDS)


def _words(message: str, data: Any) -> str:
    """The message, and the texts of `data` that say more; each once, one line, bounded."""
    texts = [*_texts(_unwrapped(message)), *_texts(data)]
    kept: list[str] = []
    for text in texts:
        line = " ".join(clean(text).split())
        if line and not any(line in other for other in kept):
            kept.append(line)
    return shorten(": ".join(kept), MAX_SAID_CHARS)


def _unwrapped(message: str) -> Any:
    """Read a message that is a provider's answer in JSON, whole."""
    try:
        data = json.loads(message) if message.lstrip().startswith("{") else message
    except (ValueError, RecursionError):
        return message
    return data if any(_texts(data)) else message


def _texts(data: Any, depth: int = 4) -> Iterator[str]:
    """Texts in `data`, a status before its message; stacks are left out, they are for the agent's makers."""
    if isinstance(data, str):
        yield data[: 4 * MAX_SAID_CHARS]
    elif isinstance(data, dict) and depth:
        for key, value in list(data.items())[:50]:
            if key in {"statusCode", "status", "code", "errorKind", "retryAfter"} and isinstance(
                value, int | str
            ):
                yield f"{key} {value}"
            elif key not in {"stack", "requestBodyValues"}:
                yield from _texts(value, depth - 1)
    elif isinstance(data, list) and depth:
        for value in data[:50]:
            yield from _texts(value, depth - 1)
