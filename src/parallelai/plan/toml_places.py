"""Where the values of a TOML file were written: what `tomllib` read without a fault, gone through once more."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

from msgspec import Struct

from parallelai.plan.positions import Place

_TOKEN = re.compile(
    r"""
    (?P<blank>[ \t\r]+|\#[^\n]*)
    |(?P<newline>\n)
    |(?P<text>\"{3}(?:\\.|[^\\])*?\"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\])*"|'[^']*')
    |(?P<mark>\[\[|\]\]|[][{},.=])
    |(?P<bare>[^\s\#\[\]{},.="']+)
    """,
    re.VERBOSE | re.DOTALL,
)


class _Token(Struct, frozen=True):
    kind: str
    text: str
    line: int
    column: int


def places(text: str) -> Place:
    """Give the place of each value of a TOML text, by its keys; lists have their items' by number.

    Args:
        text: a text that `tomllib` reads, nested no deeper than settings may be.
    """
    reader = _Reader(text)
    reader.read()
    return reader.root


def _tokens(text: str) -> Iterator[_Token]:
    line, begin = 1, 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "bare"
        if kind != "blank":
            yield _Token(kind, match[0], line, match.start() - begin + 1)
        if newlines := match[0].count("\n"):
            line, begin = line + newlines, match.start() + match[0].rfind("\n") + 1
    yield _Token("end", "", line, len(text) - begin + 1)


def _name(token: _Token) -> str:
    """The key that a token writes, its quotes and escapes undone."""
    return str(tomllib.loads(f"key = {token.text}")["key"]) if token.kind == "text" else token.text


class _Reader:
    """Goes through the tokens; `_table` is what the last header opened."""

    def __init__(self, text: str) -> None:
        self.root = Place(1, 1, children={})
        self._table = self.root
        self._tokens = _tokens(text)
        self._now = next(self._tokens)

    def read(self) -> None:
        """Read all lines."""
        while self._now.kind != "end":
            if self._now.kind == "newline":
                self._next()
            elif self._now.text in {"[", "[["}:
                self._header()
            else:
                self._pair(self._table)

    def _next(self) -> _Token:
        token, self._now = self._now, next(self._tokens, self._now)
        return token

    def _header(self) -> None:
        opened = self._next()
        place = self._key(self.root, opened)
        if opened.text == "[[":
            place = _item(place, opened)
        self._table = place
        self._next()  # its `]`

    def _pair(self, table: Place) -> None:
        place = self._key(table)
        self._next()  # its `=`
        self._value(place)

    def _key(self, table: Place, begin: _Token | None = None) -> Place:
        """Read a key, dotted or not, and give the place of what it names; the last item of a list of tables."""
        place, first = table, self._now
        while True:
            token = self._next()
            if place.children and 0 in place.children:
                place = place.children[len(place.children) - 1]
            place = _below(place, _name(token), begin or first)
            if self._now.text != ".":
                return place
            self._next()

    def _value(self, place: Place) -> None:
        first = self._now
        place.line, place.column = first.line, first.column
        if first.text == "{":
            self._inline(place)
        elif first.text in {"[", "[["}:
            self._list(place)
        else:
            while self._now.kind in {"bare", "text"} or self._now.text == ".":
                self._next()

    def _inline(self, place: Place) -> None:
        self._next()
        place.children = {}
        while self._now.text != "}" and self._now.kind != "end":
            if self._now.kind == "newline" or self._now.text == ",":
                self._next()
            else:
                self._pair(place)
        self._next()

    def _list(self, place: Place) -> None:
        place.children = {}
        self._open_list()
        while not self._now.text.startswith("]") and self._now.kind != "end":
            if self._now.kind == "newline" or self._now.text == ",":
                self._next()
            else:
                self._value(_item(place, self._now))
        self._close_list()

    def _open_list(self) -> None:
        """`[[` within a value is two lists."""
        token = self._now
        if token.text == "[[":
            self._now = _Token("mark", "[", token.line, token.column + 1)
        else:
            self._next()

    def _close_list(self) -> None:
        token = self._now
        if token.text == "]]":
            self._now = _Token("mark", "]", token.line, token.column + 1)
        else:
            self._next()


def _below(place: Place, name: str, begin: _Token) -> Place:
    """The place of a key in a table, which is where it was written first."""
    if place.children is None:
        place.children = {}
    if name not in place.children:
        at = (begin.line, begin.column)
        place.children[name] = Place(*at, *at)
    return place.children[name]


def _item(place: Place, begin: _Token) -> Place:
    if place.children is None:
        place.children = {}
    item = Place(begin.line, begin.column)
    place.children[len(place.children)] = item
    return item
