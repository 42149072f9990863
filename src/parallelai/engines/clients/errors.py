"""What a client says went wrong, as an engine's error with the client's own words (CLIENTS §4). Pure.

A status of HTTP is surer than words; used-up credit and a prompt that is too long have no status of their own
and are told by words alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

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
)

MAX_SAID_CHARS = 2_000
LONGEST_WAIT_SECONDS = 8 * 86_400.0

_STATUS = re.compile(r"(?:status|error|request rejected \()[\s:=(]*([45]\d\d)\b", re.IGNORECASE)
_AFTER = re.compile(
    r"(?:try again|retry|resets?) (?:in|after) (?:about )?"
    r"(?:(\d+) ?d\w*)?[, ]*(?:(\d+) ?h\w*)?[, ]*(?:(\d+) ?m(?:in\w*)?\b)?[, ]*(?:(\d+(?:\.\d+)?) ?s\w*)?",
    re.IGNORECASE,
)
_WORDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("session", r"no (?:rollout|conversation) found"),
        ("quota", r"quota exceeded|exceeded your (?:current )?quota|insufficient[_ ]quota|credit balance"
                  r"|out of (?:\w+ )?credits|(?:usage|session|weekly|spend\w*|\d+-hour) limit|(?<!rate )limit reached"
                  r"|billing|hit your limit"),
        ("too_long", r"(?:prompt|input|request)\W{0,3} (?:is |are )?too (?:long|large)|context window"
                     r"|context[_ ]length|maximum context"),
        ("login", r"not logged in|please run /login|log ?in again|sign in again|login has expired"
                  r"|token (?:has )?expired|refresh token|no (?:auth\w*|credentials) "),
        ("refused", r"content[_ ](?:policy|filter)|safeguards? flagged|usage policy|refus(?:ed|al)"
                    r"|invalid_prompt|flagged for"),
        ("cut", r"max_output_tokens|output token (?:maximum|limit)"),
        ("limited", r"rate[_ -]?limit|too many requests"),
        ("model", r"model.{0,80}(?:not found|does ?n.t exist|does not exist|may not exist|not supported"
                  r"|unknown|invalid)|unknown model|no such model|model_not_found"),
        ("rejected", r"invalid.{0,20}(?:api[ _-]?key|token|credential)|incorrect api key|unauthorized"
                     r"|forbidden|failed to authenticate|permission[_ ]denied|invalid[_ ]request"
                     r"|missing environment variable"),
        ("transient", r"overloaded|at capacity|high demand|unavailable|timed? ?out|disconnected|connection"
                      r"|network|transport|econn\w+|socket|server error|bad gateway|try again|parse error"
                      r"|reset by peer|dns|unable to connect"),
    )
)  # fmt: skip
_BY_STATUS: Mapping[int, str] = {
    402: "quota", 404: "model", 408: "transient", 409: "transient", 413: "too_long", 425: "transient",
    429: "limited",
}  # fmt: skip
_NEXT: Mapping[str, str] = {
    "model": "name another `model`",
    "too_long": "give it less to read: fewer `files`, or `each: {chunk: …}`",
    "cut": "make the task smaller",
}


def judge(client: str, words: str, *, status: int | None = None, after: float | None = None) -> EngineError:
    """Turn what a client said at its end into an error.

    `status` is the server's, where the client tells it apart from its words; `after` are the seconds to wait,
    where something before the end told them.
    """
    said = shorten(" ".join(clean(words).split()), MAX_SAID_CHARS)
    kind = _kind(said, status)
    shown = f"`{client}`: {said}" if said else f"`{client}` failed and did not say why"
    if kind in {"limited", "quota"}:
        wait = retry_after(said) if after is None else min(max(after, 0.0), LONGEST_WAIT_SECONDS)
        return RateLimited(shown, retry_after_seconds=wait, is_quota=kind == "quota")
    if kind == "login":
        return Rejected(shown, next=f"log in to `{client}` once, or name a key in `api_key_env`")
    return _plain(kind, shown)


def _plain(kind: str, shown: str) -> EngineError:
    if kind == "session":
        return SessionGone(shown, next="start the task anew (`--new`)")
    if kind in {"rejected", "model", "too_long"}:
        return Rejected(shown, next=_NEXT.get(kind))
    if kind == "refused":
        return Refused(shown)
    if kind == "cut":
        return Invalid(shown, next=_NEXT[kind])
    if kind == "transient":
        return Transient(shown)
    return Internal(shown)


def _kind(words: str, status: int | None) -> str:
    """Name what went wrong; empty where neither a status nor a word says it."""
    found = next((kind for kind, pattern in _WORDS if pattern.search(words)), "")
    if status is None and (match := _STATUS.search(words)):
        status = int(match[1])
    if status is None:
        return found
    plain = _BY_STATUS.get(status, "transient" if status >= 500 else "rejected")
    if plain == "transient":
        return plain
    surer = {"limited": ("quota",), "rejected": ("quota", "too_long", "login", "refused", "model")}
    return found if found in surer.get(plain, ()) else plain


def retry_after(words: str) -> float | None:
    """Find how long to wait, in seconds, in what a client wrote; None where it does not say."""
    match = _AFTER.search(words)
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return min(days * 86_400 + hours * 3_600 + minutes * 60 + seconds, LONGEST_WAIT_SECONDS)
