"""Ticks the checkboxes of a Markdown task list for what has landed.

Of a list that is a plan itself, or was converted to one, a task's boxes are found as the plan found its task: by what
it is called, wherever it stands now. For all other tasks a box is a task's if its text begins with the task's id,
plain, in bold or as code, after a number or a word such as `Task`; or if its heading does. The boxes below a task's
own box are its parts. Nothing but a box's mark is changed, no box is ever cleared, and text in code blocks is left
alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from parallelai.errors import UsageError
from parallelai.plan.markdown.imported import boxes
from parallelai.plan.source import LARGEST_BYTES
from parallelai.results.write import write_atomically

_BOX = re.compile(
    r"(?P<before>(?P<indent>[ \t]*)(?:[-*+]|\d{1,9}[.)])[ \t]+\[)(?P<mark>[ xX])(?P<after>\](?:[ \t].*)?)\Z"
)
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
_ITEM = re.compile(r"(?P<indent>[ \t]*)(?:[-*+]|\d{1,9}[.)])[ \t]")
_HEADING = re.compile(r" {0,3}(?P<level>#{1,6})[ \t]+(?P<text>.*?)(?:[ \t]+#+)?[ \t]*\Z")
_FENCE = re.compile(r"[ \t]*(?P<fence>`{3,}|~{3,})")
_LEADING = re.compile(
    r"(?:(?:\d{1,4}(?:\.\d{1,4}){0,3}[.):]?"
    r"|(?:task|workstream|stream|agent|phase|step)\b[ \t]*\d{0,4}[ \t]*[:.)\-–—]?)[ \t]+)*",
    re.IGNORECASE,
)
_ID = re.compile(r"[`*_\[(\"']{0,3}(?P<id>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?)")


def ticked(text: str, landed: Collection[str], others: Collection[str] = ()) -> str:
    """Give a task list with the boxes of these tasks ticked; all else is the same, byte by byte.

    `others` are tasks of the same plans that have not landed: what the list has of these stays as it is.
    """
    by_id = {id.casefold(): numbers for id, numbers in boxes(text).items()}
    known = {name.casefold() for name in landed}
    lines = _LINE.findall(text)
    for number in _of(known, by_id):
        lines[number] = _tick(lines[number])
    kept = {number: lines[number] for number in _of({name.casefold() for name in others} - known, by_id)}
    lines = _by_name(lines, known)
    for number, line in kept.items():
        lines[number] = line
    return "".join(lines)


def _of(names: Collection[str], by_id: Mapping[str, Sequence[int]]) -> set[int]:
    return {number for name in names for number in by_id.get(name, ())}


def _tick(whole: str) -> str:
    line = whole.rstrip("\r\n")
    box = _BOX.match(line)
    return whole if box is None else f"{box['before']}x{box['after']}{whole[len(line) :]}"


def _by_name(lines: Sequence[str], known: set[str]) -> list[str]:
    """Tick the boxes whose text, or heading, begins with one of these ids."""
    done = list(lines)
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
        done[number] = _line(line, headings, items, known) + whole[len(line) :]
    return done


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


def tick_file(path: Path, landed: Collection[str], others: Collection[str] = ()) -> bool:
    """Tick the boxes in a file as `ticked` does; say whether there was anything to tick. Raises `UsageError`."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise UsageError(f"`{path}` is too large for a task list")
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read: {error.strerror}", next="name a task list") from None
    except UnicodeDecodeError:
        raise UsageError(f"`{path}` is not UTF-8 text", next="save it as UTF-8") from None
    after = ticked(text, landed, others)
    if after == text:
        return False
    write_atomically(path, after)
    return True
