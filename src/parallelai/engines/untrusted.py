"""Text, places and paths that strangers wrote, made fit to be kept and shown."""

from __future__ import annotations

import posixpath
import re
from pathlib import PurePosixPath

from parallelai.errors import Invalid

MAX_FIELD_CHARS = 8_000
"""Longer messages, suggestions and quotes are cut."""
MAX_PATH_CHARS = 4_096
MAX_LINE = 100_000_000
MAX_USD = 1e6

# Escape sequences: CSI, then strings (OSC, DCS, SOS, PM, APC) up to their end, then two-character ones.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
# Other control characters, those that turn the direction of text, and halves of surrogate pairs.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    """Take terminal escapes, control characters and lone surrogates out; line ends become `\\n`."""
    if text.isascii() and text.isprintable():
        return text  # the common case, at the speed of one look
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def shorten(text: str, limit: int) -> str:
    """Cut a text to at most `limit` characters, the last of which says so."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def safe_path(path: str, root: str | None = None) -> str:
    """Make a path that a reply names relative to the project's root, in POSIX form.

    An absolute one is taken only below `root`. Raises `Invalid` for one that leads out, or is none.
    """
    shown = shorten(clean(path), 200)
    if not path or len(path) > MAX_PATH_CHARS or path != clean(path) or "\n" in path:
        raise Invalid(f"`{shown}` is not the path of a file")
    if path.startswith("/") and root is not None and PurePosixPath(path).is_relative_to(root):
        path = str(PurePosixPath(path).relative_to(root))
    normal = posixpath.normpath(path)
    if normal == ".." or normal.startswith(("/", "../")):
        raise Invalid(f"`{shown}` lies outside the project")
    if normal == ".":
        raise Invalid(f"`{shown}` is not the path of a file")
    return normal


def money(value: object) -> float | None:
    """Read a cost in USD that a stranger tells; None for what is no price, such as an endless or a negative one."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < MAX_USD:
        return None
    return float(value)


def clean_json(text: str) -> str:
    """Take out escapes that programs write around JSON for a terminal; inside JSON they are never raw."""
    return _ESCAPES.sub("", text) if "\x1b" in text or "\x9b" in text else text
