"""What a task of a Markdown task list may be called where another depends on it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import takewhile

from parallelai.plan.markdown.details import slug
from parallelai.plan.markdown.tasklist import Entry

_NUMBER = re.compile(r"(?:task[ \t]*)?#?[ \t]*0{0,4}(?P<number>\d{1,5})", re.IGNORECASE)
_MARKS = re.compile(r"[`*_]+")


class Names:
    """The names of the tasks of a list: ids, titles, numbers, and the beginnings of titles."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._order = [entry.id for entry in entries]
        self._ids = {slug(entry.id): entry.id for entry in reversed(entries)}
        self._titles: dict[str, dict[str, None]] = {}
        self._numbers: dict[str, dict[str, None]] = {}
        for entry in entries:
            for name in {slug(entry.name), *entry.others}:
                self._titles.setdefault(name, {})[entry.id] = None
            if entry.number is not None:
                self._numbers.setdefault(entry.number, {})[entry.id] = None
        self._sorted = sorted((_plain(entry.name), entry.id) for entry in entries)

    def find(self, text: str, whose: str) -> Sequence[str]:
        """Give the ids of the tasks that a text may mean, where the task `whose` names it: the closest kind of name.

        None, one, or several, between which the text does not decide.
        """
        name = slug(text)
        if name and name in self._ids:
            return [self._ids[name]]
        if name and name in self._titles:
            return list(self._titles[name])
        return self._numbered(text, name) or self._beginning(text, whose)

    def _numbered(self, text: str, name: str) -> Sequence[str]:
        """By the tasks' own numbers where any has one, else by their places in the list, from 1."""
        found = _NUMBER.fullmatch(text.strip())
        number = found["number"] if found is not None else name
        if self._numbers:
            return list(self._numbers.get(number, ()))
        index = int(number) if found is not None else 0
        return [self._order[index - 1]] if 0 < index <= len(self._order) else []

    def _beginning(self, text: str, whose: str) -> Sequence[str]:
        plain = _plain(text)
        if not plain or _NUMBER.fullmatch(plain):
            return []
        start = bisect_left(self._sorted, (plain, ""))
        following = (self._sorted[index] for index in range(start, min(start + 4, len(self._sorted))))
        return [id for _, id in takewhile(lambda each: each[0].startswith(plain), following) if id != whose]


def _plain(text: str) -> str:
    """A title without marks of code and of bold text, its case and white space evened out."""
    return " ".join(_MARKS.sub("", text).casefold().split())
