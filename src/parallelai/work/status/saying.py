"""What an assistant says just now: the end of its attempt's stream, which is written while it works."""

from __future__ import annotations

import json
import os
from pathlib import Path

_TAIL_BYTES = 64 * 1024


def said_lately(stream: Path) -> str | None:
    """Give the text at the end of a stream of JSON lines; None where there is no text, or no such file.

    Only its last 64 KiB are read. Text is cut into many lines there; what is no text separates them.
    """
    try:
        with stream.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
            file.seek(start)
            lines = file.read(_TAIL_BYTES).split(b"\n")
    except OSError:
        return None
    text = ""
    for line in lines[1:] if start else lines:
        delta = _delta(line)
        text += "\n" if delta is None and text else delta or ""
    return text.strip() or None


def _delta(line: bytes) -> str | None:
    """The text of a line; None for another event, or for what is only half written."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or event.get("type") != "text":
        return None
    delta = event.get("delta")
    return delta if isinstance(delta, str) else None
