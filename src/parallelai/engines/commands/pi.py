"""pi, a command (`use: pi`); it ends with 0 whatever happened (CLIENTS §4)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parallelai.engines.acp.errors import read_words
from parallelai.engines.commands.parts import (
    FOLDER,
    KEYS,
    MIB,
    PROVIDER_KEYS,
    Said,
    Template,
    Wanted,
    count,
    priced,
)
from parallelai.errors import EngineError, Invalid, Refused, Transient
from parallelai.records import Usage


class Reader:
    """JSON lines (`--mode json`); the last message of the assistant decides."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._usage: Usage | None = None
        self._stop: str | None = None
        self._error = ""
        self._is_ended = False

    def take(self, line: str) -> str:
        """Read a line; what is no event is passed over."""
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return ""
        kind = event.get("type") if isinstance(event, dict) else None
        if kind == "message_update":
            update = event.get("assistantMessageEvent")
            is_text = isinstance(update, dict) and update.get("type") == "text_delta"
            delta = update.get("delta") if is_text else None
            return delta if isinstance(delta, str) else ""
        if kind == "message_end":
            self._message(event.get("message"))
        elif kind == "auto_retry_start":
            raise read_words("pi", str(event.get("errorMessage") or self._error), "could not do it")
        elif kind in {"agent_start", "agent_end"}:
            self._is_ended = kind == "agent_end"
        return ""

    def _message(self, message: Any) -> None:
        if not isinstance(message, dict) or message.get("role") != "assistant":
            return
        self._stop = str(message.get("stopReason"))
        self._error = str(message.get("errorMessage") or "")
        content = message.get("content")
        parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
        text = "".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
        if text.strip():
            self._texts.append(text)
        usage = _usage(message.get("usage"))
        if usage is not None and self._stop != "error":
            self._usage = usage if self._usage is None else self._usage + usage

    def finish(self, stdout: str, folder: Path) -> Said:
        """Say what the last message came to."""
        if self._stop in {"error", "aborted"}:
            raise _error(self._error)
        if self._stop is None or not self._is_ended:
            raise read_words("pi", stdout[-2000:], "ended before its last word")
        if self._stop == "length":
            raise Invalid("`pi` reached its limit of tokens before it was done", next="make the task smaller")
        return Said(self._texts[-1] if self._texts else "", self._usage or Usage())

    def usage(self, folder: Path) -> Usage | None:
        """Give the sum of its messages."""
        return self._usage


def _error(words: str) -> EngineError:
    """Read its own words for how an answer ended; any others are the provider's."""
    error = read_words("pi", words, "could not do it")
    if "finish_reason: content_filter" in words:
        return Refused(error.said)
    if words.startswith("Stream ended"):
        return Transient(error.said)
    return error


def _usage(usage: Any) -> Usage | None:
    """`input` is what was not cached."""
    if not isinstance(usage, dict):
        return None
    given, output, cached, written = (
        count(usage.get(k)) for k in ("input", "output", "cacheRead", "cacheWrite")
    )
    if given is None or output is None:
        return None
    cost = usage.get("cost")
    usd = cost.get("total") if isinstance(cost, dict) else None
    return priced(Usage(given + (cached or 0) + (written or 0), cached, output), usd)


def _arguments(wanted: Wanted) -> tuple[str, ...]:
    provider = () if wanted.base_url is None else ("--provider", "given")
    model = () if wanted.model is None else ("--model", wanted.model)
    return (*provider, *model, *(() if wanted.edits else ("--tools", "read,grep,find,ls")))


def _files(wanted: Wanted) -> Mapping[str, str]:
    """A server of one's own is a provider in `models.json`, whose key is the name of a variable."""
    if wanted.base_url is None:
        return {}
    name = wanted.model or "default"
    model = {"id": name, "name": name, "input": ["text"], "contextWindow": 128_000, "maxTokens": 16_000}
    provider = {
        "baseUrl": wanted.base_url,
        "apiKey": "PARALLELAI_GIVEN_KEY",
        "api": "openai-completions",
        "models": [model],
    }
    settings = {"retry": {"enabled": False, "maxRetries": 0, "provider": {"maxRetries": 0}}}
    return {
        "pi/models.json": json.dumps({"providers": {"given": provider}}),
        "pi/settings.json": json.dumps(settings),
    }


TEMPLATE = Template(
    command=("pi", "-p", "--mode", "json", "--no-session"),
    arguments=_arguments,
    files=_files,
    env={"PI_OFFLINE": "1", "PI_TELEMETRY": "0"},
    given_env={"PI_CODING_AGENT_DIR": f"{FOLDER}/pi"},
    key_env="PARALLELAI_GIVEN_KEY",
    login=(".pi",),
    read_only=(
        ".pi/agent/settings.json",
        ".pi/agent/models.json",
        ".pi/agent/extensions",
        ".pi/agent/skills",
    ),
    obeyed=(".pi",),
    pass_env=PROVIDER_KEYS,
    reader=Reader,
    how="npm install -g @earendil-works/pi-coding-agent@0.74.2",
    memory_bytes=160 * MIB,
    keys=KEYS,
)
