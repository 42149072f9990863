"""Ticks the checkboxes of a Markdown task list for what has landed.

A box is a task's if its text begins with the task's id, plain, in bold or as code, after a number or a word such
as `Task`; or if its heading does. The boxes below a task's own box are its parts. Nothing but a box's mark is
changed, no box is ever cleared, and text in code blocks is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from parallelai.errors import UsageError
from parallelai.plan.source import LARGEST_BYTES
from parallelai.results.write import write_atomically

_BOX = re.compile(
    r"(?P<before>(?P<indent>[ \t]*)(?:[-*+]|\d{1,9}[.)])[ \t]+\[)(?P<mark>[ xX])(?P<after>\](?:[ \t].*)?)\Z"
)
_ITEM = re.compile(r"(?P<indent>[ \t]*)(?:[-*+]|\d{1,9}[.)])[ \t]")
_HEADING = re.compile(r" {0,3}(?P<level>#{1,6})[ \t]+(?P<text>.*?)(?:[ \t]+#+)?[ \t]*\Z")
_FENCE = re.compile(r"[ \t]*(?P<fence>`{3,}|~{3,})")
_LEADING = re.compile(
    r"(?:(?:\d{1,4}(?:\.\d{1,4}){0,3}[.):]?"
    r"|(?:task|workstream|stream|agent|phase|step)\b[ \t]*\d{0,4}[ \t]*[:.)\-–—]?)[ \t]+)*",
    re.IGNORECASE,
)
_ID = re.compile(r"[`*_\[(\"']{0,3}(?P<id>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?)")


def ticked(text: str, landed: Collection[str]) -> str:
    """Give a task list with the boxes of these tasks ticked; all else is the same, byte by byte."""
    known = {name.casefold() for name in landed}
    lines = text.splitlines(keepends=True)
    headings: list[tuple[int, bool]] = []  # of what we are below: the level, and whether it has landed
    items: list[tuple[int, bool]] = []  # of the list items that we are in: the indent, and the same
    fence: str | None = None
    for number, whole in enumerate(lines):
        line = whole.rstrip("\r\n")
        found = _FENCE.match(line)
        if found is not None and (fence is None or found["fence"].startswith(fence)):
            fence = None if fence is not None else found["fence"]
            continue
        if fence is not None:
            continue
        heading = _HEADING.match(line)
        if heading is not None:
            headings = [one for one in headings if one[0] < len(heading["level"])]
            headings.append((len(heading["level"]), _names(heading["text"], known)))
            items = []
            continue
        lines[number] = _line(line, headings, items, known) + whole[len(line) :]
    return "".join(lines)


def _line(line: str, headings: list[tuple[int, bool]], items: list[tuple[int, bool]], known: set[str]) -> str:
    """Tick one line's box, if it has one whose task has landed; `items` is kept up to date."""
    item = _ITEM.match(line)
    if item is None:
        return line
    indent = len(item["indent"].expandtabs(4))
    while items and items[-1][0] >= indent:
        items.pop()
    box = _BOX.match(line)
    own = box is not None and _names(box["after"][1:], known)
    has_landed = own or any(one[1] for one in items) or (bool(headings) and any(one[1] for one in headings))
    items.append((indent, own))
    if box is None or not has_landed or box["mark"] != " ":
        return line
    return f"{box['before']}x{box['after']}"


def _names(text: str, known: set[str]) -> bool:
    """Say whether a text begins with one of these ids."""
    text = text.strip()
    leading = _LEADING.match(text)
    for start in {0, leading.end() if leading is not None else 0}:
        found = _ID.match(text[start:])
        if found is not None and found["id"].casefold() in known:
            return True
    return False


def tick_file(path: Path, landed: Collection[str]) -> bool:
    """Tick the boxes in a file; say whether there was anything to tick. Raises `UsageError`."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise UsageError(f"`{path}` is too large for a task list")
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read: {error.strerror}", next="name a task list") from None
    except UnicodeDecodeError:
        raise UsageError(f"`{path}` is not UTF-8 text", next="save it as UTF-8") from None
    after = ticked(text, landed)
    if after == text:
        return False
    write_atomically(path, after)
    return True
