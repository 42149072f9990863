"""What gemini writes down of its model's answers: how each ended, which its protocol does not say.

gemini 0.61 ends a turn with `end_turn` also where the model refused, or was cut at the most tokens. Its telemetry
names the reason; sent to a file of the agent's own, it leaves the machine no more than without. The file holds
JSON objects, one after the other, written every few seconds and when the agent ends. Agents may write into it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parallelai.engines.planted import read_plain

FOLDER = "report"
"""In the folder that each agent has for as long as it runs."""
_MOST_BYTES = 4 * 1024 * 1024
_OBJECT = re.compile(r"^\{\n.*?^\}$", re.MULTILINE | re.DOTALL)
_EVENT = '"gemini_cli.api_response"'


def report_variables(folder: Path) -> Mapping[str, str]:
    """Have gemini write its report into a folder: without prompts and traces, and to nobody else."""
    return {
        "GEMINI_TELEMETRY_ENABLED": "true",
        "GEMINI_TELEMETRY_TARGET": "local",
        "GEMINI_TELEMETRY_TRACES_ENABLED": "false",
        "GEMINI_TELEMETRY_LOG_PROMPTS": "false",
        "GEMINI_TELEMETRY_OUTFILE": str(folder / "calls.json"),
    }


def read_report(folder: Path) -> str:
    """Read the end of a report; empty where there is none."""
    try:
        return read_plain(folder / "calls.json", _MOST_BYTES, is_tail=True).decode("utf-8", "replace")
    except OSError:
        return ""


def stop_of(report: str, session: str, since: str) -> str | None:
    """Say how the last answer of a session's turn ended, as a stop reason of the protocol.

    Args:
        report: text of the report.
        session: the session's id.
        since: when the turn began, in ISO 8601, UTC, with milliseconds; older answers do not count.

    Returns:
        `end_turn`, `max_tokens` or `refusal`; None where no answer of the turn is written down.
    """
    found = None
    for answer in _answers(report):
        when = answer.get("event.timestamp")
        is_turns = isinstance(when, str) and when >= since and answer.get("session.id") == session
        if is_turns and answer.get("role") == "main":
            found = answer
    if found is None:
        return None
    reasons = found.get("finish_reasons")
    listed = reasons if isinstance(reasons, list) else []
    if "content_filter" in listed:
        return "refusal"
    return "max_tokens" if "length" in listed else "end_turn"


def _answers(report: str) -> Iterator[dict[str, Any]]:
    for match in _OBJECT.finditer(report):
        if _EVENT not in match[0]:
            continue
        try:
            data = json.loads(match[0])
        except (ValueError, RecursionError):
            continue
        attributes = data.get("attributes")
        if isinstance(attributes, dict) and attributes.get("event.name") == "gemini_cli.api_response":
            yield attributes
