"""Checkboxes of a Markdown list, and what looks like one but is none."""

from __future__ import annotations

import re
from typing import NamedTuple

BOX = re.compile(r"\[(?P<mark>[ xX])\](?:[ \t]+|\Z)")
_BULLET = r"(?:[-*+•‣◦·–—]|\d{1,9}[.)])"
_BLANK_OR_X = r"\[[ \t]{0,8}(?P<x>[xX]?)[ \t]{0,8}\]"
_OTHER = r"\[[ \t]?[-–—~/\\>+*_=vV✓✔✗✘×√☑☒][ \t]?\]"  # other tools' boxes; letters and digits are footnotes
_ANY = rf"(?:{_BLANK_OR_X}|{_OTHER})"
_BROKEN = re.compile(rf"{_ANY}(?=[\s\w`*]|\Z)")
_BULLETED = re.compile(rf"{_BULLET}[ \t]{{0,8}}{_ANY}(?=[\s\w]|\Z)")
_WHOLE = re.compile(r"(?:[-*+]|\d{1,9}[.)])[ \t]+\[[ xX]\](?=\s|\Z)")
_BARE = re.compile(rf"{_BLANK_OR_X}(?=[ \t]+\w)")


class Broken(NamedTuple):
    """What looks like a checkbox: where it ends in its text, what is wrong, and what to write."""

    end: int
    said: str
    next: str


def broken_item(text: str) -> Broken | None:
    """Find a broken box at the beginning of an item's or heading's text, its marker taken off: `[]`, `[-]`, `[ ]a`."""
    found = None if BOX.match(text) else _BROKEN.match(text)
    return None if found is None else _broken(found)


def broken_line(text: str, *, is_item: bool) -> Broken | None:
    """Find a box in a line that is no item for Markdown: `-[ ] a`, `• [ ] a`; `is_item`: a line of an item's text."""
    whole = _WHOLE.match(text)
    if whole is not None:  # an item that is too deep, or a number that cannot go on after text
        said = f"`{whole[0]}` is no checkbox here: Markdown reads the line as text of the one above"
        return Broken(whole.end(), said, "leave an empty line before it, or indent it like the others")
    found = _BULLETED.match(text) or (_BARE.match(text) if is_item else None)
    return None if found is None else _broken(found)


def _broken(found: re.Match[str]) -> Broken:
    said = f"`{found[0]}` looks like a checkbox, but is none"
    return Broken(found.end(), said, "write `- [ ] what is to be done`, and `- [x] …` for what is done")
