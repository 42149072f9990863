"""Details of a task list that are misspelt, or not closed: what would else pass for words of the description."""

from __future__ import annotations

import difflib
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import islice

from parallelai.plan.markdown.details import BRACKETED, CLEAR, KEYS, LISTS, PATTERNS, is_meant, key_of
from parallelai.plan.markdown.outline import Piece, Slip
from parallelai.plan.problems import nearest

_MOST = 20  # of one line
_NAME = r"(?P<name>[A-Za-z][A-Za-z _-]{0,30})"
_OPEN = re.compile(rf"\([ \t]{{0,4}}{_NAME}:")
_MORE = re.compile(rf"(?P<mark>[,;])[ \t]{{0,4}}{_NAME}:")
_LABEL = re.compile(
    r"(?:[^\w\s*_`]{1,4}[ \t]*)?(?P<mark>\*\*|__|\*|_|)(?P<name>[A-Za-z][A-Za-z _-]{0,30}?)[ \t]{0,4}"
    r"(?::(?P=mark)|(?P=mark)[ \t]{0,4}:)(?P<value>.*)\Z"
)
_OF_FILES = re.compile(
    r"files? (?:to|it|that|which|this|owned|touched|changed|affected|edited|modified|involved|needed)\b"
)
"""`FILES TO EDIT`, but not `File format`."""
_PROSE = frozenset({"todo", "checks", "description", "status"})
"""Keys whose names are also common words of prose: `(step: 2)`, `**Goals**: …`."""
_LONGEST = 40
_CLOSE, _CLOSE_LONG, _LONG = 0.8, 0.75, 6
"""How alike a name is that was meant: of a short one, of one with so many letters."""


def in_brackets(piece: Piece) -> Iterator[Slip]:
    """Find the wrong details in the brackets of a task's line; at most a few. Ordinary words in brackets are none."""
    yield from islice(_in_brackets(piece), _MOST)


def _in_brackets(piece: Piece) -> Iterator[Slip]:
    brackets = [found.start() for found in re.finditer(r"[()]", piece.text)]
    last = piece.text.rfind(")")
    for found in _OPEN.finditer(piece.text):
        at = piece.part(*found.span("name"))
        key = key_of(at.text, BRACKETED)
        meant = _meant(at.text, BRACKETED) if key is None else None
        if key is None and meant is None:
            continue
        number = bisect_left(brackets, found.end())
        end = brackets[number] if number < len(brackets) else len(piece.text)
        if meant is not None:
            yield _misspelt(at, meant)
        elif last < found.end():
            yield Slip(
                at, f"the bracket of `{at.text}` is not closed", "write `)` behind it, in the same line"
            )
        elif piece.text[end] == "(" and key in CLEAR:
            advice = f"leave the inner ones out, or write `{at.text}: …` on a line of its own"
            yield Slip(at, f"there are brackets in the brackets of `{at.text}`", advice)
        yield from _more(piece, at, found.end(), end)


def _more(piece: Piece, first: Piece, start: int, end: int) -> Iterator[Slip]:
    """Find what is wrong with the other details of a bracket."""
    for found in _MORE.finditer(piece.text, start, end):
        at = piece.part(*found.span("name"))
        key = key_of(at.text, BRACKETED)
        meant = _meant(at.text, BRACKETED) if key is None else None
        if meant is not None:
            yield _misspelt(at, meant)
        elif found["mark"] == ",":
            # In a sentence a comma and `model:` may be words of it; in a list of names they cannot.
            if key in CLEAR or (key is not None and key_of(first.text, BRACKETED) in LISTS - _PROSE):
                said = f"`{at.text}` stands behind a comma, as if it were a part of `{first.text}`"
                yield Slip(at, said, f"write `; {at.text}: …`")
        elif key is not None:
            first = at


def of_label(piece: Piece, *, is_sure: bool = False) -> Slip | None:
    """Find a line whose label is nearly the name of a detail: `**FLIES**: a.py`, `fils: src/a.py`.

    `is_sure`: only one that is bold or in capitals, and names files: what is around it is not known to be a task.
    """
    found = _LABEL.match(piece.text)
    if found is None or key_of(found["name"]) is not None:
        return None
    meant = _meant(found["name"], [name for name, key in KEYS.items() if key in CLEAR])
    key = KEYS[meant] if meant is not None else None
    is_marked = bool(found["mark"]) or found["name"].isupper()
    if meant is None or (is_sure and not (is_marked and key == "owns")):
        return None
    if not is_marked and not (key in PATTERNS | {"depends_on"} and is_meant(key, found["value"])):
        return None
    return _misspelt(piece.part(*found.span("name")), meant)


def of_header(piece: Piece) -> Slip | None:
    """Find a column of a table whose header is nearly the name of a detail: `Fils`."""
    meant = _meant(piece.text[:_LONGEST], [name for name, key in KEYS.items() if key in CLEAR])
    if meant is None:
        return None
    said = f"no detail is called like the column `{piece.text}`"
    return Slip(piece, said, f"did you mean `{meant}`? if it is none, call it otherwise")


def _misspelt(at: Piece, meant: str) -> Slip:
    advice = f"did you mean `{meant}`? if it is no detail, write it without the colon"
    return Slip(at, f"there is no detail `{at.text}`", advice)


def _meant(name: str, known: Iterable[str]) -> str | None:
    """Give the name that was probably meant; None for words of prose."""
    name = re.sub(r"[ _-]+", " ", name.strip().lower())
    if _OF_FILES.match(name):
        return "files"
    names = [each for each in known if BRACKETED[each] not in _PROSE]
    found = nearest(name, names)
    if found is None or found[0] != name[0]:
        return None
    if BRACKETED[found] not in CLEAR and (name == f"{found}s" or len(name) < len(found)):
        return None  # `(roles: admin, user)`, `(mode: dark)`
    alike = difflib.SequenceMatcher(None, name, found).ratio()
    return found if alike >= (_CLOSE if len(found) < _LONG else _CLOSE_LONG) else None
