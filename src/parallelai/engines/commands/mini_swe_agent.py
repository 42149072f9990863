"""mini-swe-agent, a command (`use: mini-swe-agent`), which writes down all that was said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from parallelai.engines.acp.errors import read_words
from parallelai.engines.commands.parts import (
    FOLDER,
    KEYS,
    MAX_FILE_BYTES,
    MIB,
    PROMPT,
    PROVIDER_KEYS,
    Said,
    Template,
    Wanted,
    count,
    priced,
)
from parallelai.engines.untrusted import clean, shorten
from parallelai.errors import Invalid
from parallelai.records import Usage


class Reader:
    """A trajectory in `traj.json`; what is printed is for people."""

    def take(self, line: str) -> str:
        """Give the line."""
        return clean(line) + "\n"

    def finish(self, stdout: str, folder: Path) -> Said:
        """Read the trajectory's last message."""
        try:
            data, messages = _read(folder)
            last = messages[-1]
            extra = last["extra"]
            status = str(extra["exit_status"])
        except _UNREADABLE:
            raise read_words("mini", stdout[-2000:], "left no trajectory") from None
        if status == "Submitted":
            return Said(str(extra.get("submission") or ""), _usage(data, messages))
        if status in {"LimitsExceeded", "RetriesExceeded", "TimeExceeded"}:
            raise Invalid(f"`mini` stopped: {status}", next="raise `max_turns`, or make the task smaller")
        if status == "RepeatedFormatError":
            said = f"`mini` gave up: its model did not call its tool as it must: {_told(messages)}"
            raise Invalid(said, next="name a model that calls tools, or make the task smaller")
        raise read_words("mini", str(last.get("content") or status), f"stopped with {status}")

    def usage(self, folder: Path) -> Usage | None:
        """Give what its trajectory counts, which it writes with each step."""
        try:
            return _usage(*_read(folder))
        except _UNREADABLE:
            return None


_UNREADABLE = (OSError, ValueError, RecursionError, LookupError, TypeError)


def _read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read the trajectory, and its messages. Raises what is in `_UNREADABLE`."""
    with (folder / "traj.json").open("rb") as file:
        data = json.loads(file.read(MAX_FILE_BYTES))
    return data, [message for message in data["messages"] if isinstance(message, dict)]


def _told(messages: list[dict[str, Any]]) -> str:
    """What it told its model last, without the advice around it."""
    told = " ".join(clean(str(messages[-2].get("content"))).split()) if len(messages) > 1 else ""
    return shorten(told.removeprefix("Tool call error: <error> ").partition(" </error>")[0], 500)


def _usage(data: Any, messages: list[dict[str, Any]]) -> Usage:
    total: Usage | None = None
    for message in messages:
        response = (
            message.get("extra", {}).get("response") if isinstance(message.get("extra"), dict) else None
        )
        usage = response.get("usage") if isinstance(response, dict) else None
        if isinstance(usage, dict):
            one = Usage(count(usage.get("prompt_tokens")), None, count(usage.get("completion_tokens")))
            total = one if total is None else total + one
    stats = data.get("info", {}).get("model_stats") if isinstance(data.get("info"), dict) else None
    usd = stats.get("instance_cost") if isinstance(stats, dict) else None
    return priced(total or Usage(), usd)


_CONFIG = "../../minisweagent/config/mini.yaml"
"""Its own defaults, from where they lie: a plain `mini.yaml` of the project would take their place."""


def _message(wanted: Wanted) -> str:
    """A config file with the task in it: an argument could not hold a long one. JSON is YAML."""
    agent: dict[str, object] = {"mode": "yolo", "confirm_exit": False, "cost_limit": 0}
    if wanted.max_turns is not None:
        agent["step_limit"] = wanted.max_turns
    model = {"model_kwargs": {"max_retries": 0}}  # beside its own: its library tries each call three times
    config = json.dumps({"run": {"task": wanted.prompt}, "agent": agent, "model": model}, ensure_ascii=False)
    return "".join(each if " " <= each < "\x7f" else _yaml_escape(each) for each in config)


def _yaml_escape(character: str) -> str:
    """Write a character as YAML takes it: JSON's two escapes for one beyond the first plane are none there."""
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


TEMPLATE = Template(
    command=(
        "mini",
        *("-c", _CONFIG, "-c", PROMPT),
        *("-y", "--exit-immediately", "-o", f"{FOLDER}/traj.json"),
    ),
    arguments=lambda wanted: () if wanted.model is None else ("-m", wanted.model),
    message=_message,
    env={
        "MSWEA_CONFIGURED": "true",
        "MSWEA_COST_TRACKING": "ignore_errors",
        "MSWEA_SILENT_STARTUP": "1",
        "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PYTHONUNBUFFERED": "1",
    },
    url_env="OPENAI_API_BASE",
    key_env="OPENAI_API_KEY",
    login=(".config/mini-swe-agent",),
    pass_env=PROVIDER_KEYS,
    reader=Reader,
    how="uv tool install --with mcp mini-swe-agent==2.4.6",
    memory_bytes=240 * MIB,
    keys=KEYS | {"max_turns"},
)
