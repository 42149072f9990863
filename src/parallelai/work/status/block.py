"""Our part of a page that people write in, too: what stands between two marks, each on a line of its own."""

from __future__ import annotations

import re
from pathlib import Path

from parallelai.errors import UsageError

BEGIN = "<!-- parallelai:begin -->"
END = "<!-- parallelai:end -->"
MARKS = f"the lines `{BEGIN}` and `{END}`"
_MARK = re.compile(r"^<!-- parallelai:(begin|end) -->[ \t]*(?:\r?\n|\Z)", re.MULTILINE)
_OURS = re.compile(
    r"# .*|\d+ of \d+ landed, .*As of .*|\| \| workstream \|.*|\|( --- \|)+|\| \[[x ]\] \| .*"
    r"|Not yet taken over: .*|## Last words|- \*\*.*|"
)
"""The lines of a page without marks, as it was written at first."""


def read(path: Path) -> str:
    """What a page has now, with its ends of lines; nothing of what is not there, or is a folder.

    Raises `UsageError` for what is no text, or no file that could be replaced: to write into a pipe would wait for
    somebody who reads it.
    """
    try:
        if path.is_file():
            return path.read_bytes().decode("utf-8")
        if path.exists() and not path.is_dir():
            raise UsageError(f"`{path}` is a pipe or a device", next="name a file")
        return ""
    except UnicodeDecodeError:
        raise UsageError(f"`{path}` is not UTF-8 text", next="name another file") from None
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read: {error.strerror}", next="name another file") from None


def has_marks(text: str) -> bool:
    """Whether one of the marks is in a text."""
    return _MARK.search(text) is not None


def parted(path: Path, text: str) -> tuple[str, str, str]:
    """Part a page into what stands before our part, that, and what stands after it; the marks are no part of ours.

    Where there are none, all of a page that only we wrote is ours. Raises `UsageError` where somebody wrote in it.
    """
    marks = list(_MARK.finditer(text))
    if [mark[1] for mark in marks] == ["begin", "end"]:
        begin, end = marks
        return text[: begin.end()], text[begin.end() : end.start()], text[end.start() :]
    if marks:
        raise UsageError(
            f"`{path}` has not one pair of {MARKS}", next="leave one of each, around what is to be written"
        )
    if not all(map(_OURS.fullmatch, text.splitlines())):
        raise UsageError(
            f"somebody wrote in `{path}`, which would be lost", next=f"put {MARKS} around what is not theirs"
        )
    return f"{BEGIN}\n", "", f"{END}\n"
