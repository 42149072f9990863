"""Who owns which files, and whether two could own the same one, also one that does not exist yet.

Two lists of patterns are compared as what they are, descriptions of sets of paths: the product of two
patterns is searched for a path that both match. Such a path is then shown to the real matcher, so an overlap that is
reported is one; with many exclusions an overlap of files yet to come may stay unseen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import combinations
from typing import Any, Final

from msgspec import Struct

from parallelai.plan.files import Matcher

_MOST_STATES = 100_000
_FILLS = ("new", "other", "x1")
_ENDING = re.compile(r"[^/.]\.[A-Za-z][A-Za-z0-9]{0,9}\Z")  # of a file: `*.md`, `app.py`, but not `.github`


class _Many:
    """Any number of characters, or of folders."""


class _Any:
    """Any one character."""


_MANY: Final = _Many()
_ANY: Final = _Any()
_Segment = tuple[Any, ...]  # of characters, _ANY, _MANY and compiled classes
_WHOLE: Final[_Segment] = (_MANY,)
_CANDIDATES = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-. "


class Overlap(Struct, frozen=True):
    """Files that both own, sorted, and an example of one that both would own if it were made."""

    existing: tuple[str, ...] = ()
    possible: str | None = None

    def __bool__(self) -> bool:
        return bool(self.existing) or self.possible is not None

    @property
    def example(self) -> str | None:
        return self.existing[0] if self.existing else self.possible


def overlap(a: Sequence[str], b: Sequence[str], paths: Iterable[str] = ()) -> Overlap:
    """Compare two lists of patterns over a project's files and over those that could be made."""
    found = list(overlaps({"a": a, "b": b}, paths))
    return found[0][2] if found else Overlap()


def overlaps(
    owned: Mapping[str, Sequence[str]], paths: Iterable[str] = (), *, apart_from: Sequence[str] = ()
) -> Iterator[tuple[str, str, Overlap]]:
    """Give each two owners whose patterns overlap, in the order of `owned`.

    `apart_from` are patterns of files that do not count, such as shared ones.
    """
    matchers = {name: Matcher(patterns) for name, patterns in owned.items()}
    excluded = Matcher(apart_from) if apart_from else None
    paths = frozenset(paths)
    common: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        owners = [name for name, matcher in matchers.items() if matcher.selects(path)]
        if len(owners) > 1 and not (excluded and excluded.selects(path)):
            for pair in combinations(owners, 2):
                common.setdefault(pair, []).append(path)
    shapes = {
        name: [_shape(text, is_file=_names_file(text, paths)) for text in _taking(patterns)]
        for name, patterns in owned.items()
    }
    for first, second in combinations(owned, 2):
        both = (matchers[first], matchers[second])
        existing = tuple(sorted(common.get((first, second), ())))
        possible = _possible(shapes[first], shapes[second], both, excluded)
        if existing or possible:
            yield first, second, Overlap(existing, possible)


def _taking(patterns: Sequence[str]) -> list[str]:
    """Those of a list that take files in; one that only takes out begins with all of them."""
    taking = [text for text in patterns if not text.startswith("!")]
    return taking or (["**"] if patterns else [])


def _possible(
    first: Sequence[Sequence[Any]],
    second: Sequence[Sequence[Any]],
    matchers: tuple[Matcher, Matcher],
    excluded: Matcher | None,
) -> str | None:
    for a in first:
        for b in second:
            for fill in _FILLS if _meet_paths(a, b, "new", False) else ():
                for is_deep in (False, True):
                    path = _meet_paths(a, b, fill, is_deep)
                    if (
                        path
                        and all(m.selects(path) for m in matchers)
                        and not (excluded and excluded.selects(path))
                    ):
                        return path
    return None


def _names_file(pattern: str, paths: Set[str]) -> bool:
    """Whether a pattern means a file: one that is there, or a name with an ending that is no folder's now."""
    body = re.sub(r"^(?:\./+)+|^/", "", pattern.strip())
    return body in paths or (
        _ENDING.search(body) is not None and not any(path.startswith(f"{body}/") for path in paths)
    )


def _shape(pattern: str, *, is_file: bool) -> list[Any]:
    """Cut a pattern into segments; what matches a folder matches all below it."""
    is_folder = pattern.endswith("/")
    body = pattern.strip().removesuffix("/")
    # A bare name such as `docs` fits at any depth by git's rules, but who owns it means the one at the root:
    # `src` and `docs` do not overlap for the sake of a `src/docs` that nobody made.
    is_anchored = "/" in body or not re.search(r"[*?\[\\]", body)
    body = re.sub(r"^(?:\./+)+|^/", "", body)
    segments: list[Any] = [_MANY if text == "**" else _segment(text) for text in _split(body)]
    if not is_anchored:
        segments.insert(0, _MANY)
    if is_folder or segments[-1] is _MANY:
        segments.append(_WHOLE)
    return segments if is_file else [*segments, _MANY]


def _split(body: str) -> list[str]:
    return [part for part in re.split(r"/(?![^\[/]*\])", body) if part]


def _segment(text: str) -> _Segment:
    tokens: list[Any] = []
    for match in re.finditer(r"\\(.)|(\[[!^]?\]?[^\]]*\])|(\*+)|(\?)|(.)", text, re.DOTALL):
        escaped, group, star, one, char = match.groups()
        if star:
            tokens.append(_MANY)
        elif one:
            tokens.append(_ANY)
        else:
            tokens.append(_class(group) if group else escaped or char)
    return tuple(tokens)


def _class(text: str) -> Any:
    body = text[1:-1]
    sign, body = ("^", body[1:]) if body[:1] in {"!", "^"} else ("", body)
    escaped = body.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace("^", "\\^")
    try:
        return re.compile(f"[{sign}{escaped}]")
    except re.error:
        return _ANY


def _meet_paths(a: Sequence[Any], b: Sequence[Any], fill: str, is_deep: bool) -> str | None:
    """Find a path in both; `fill` stands for what is free, `is_deep` puts folders where some may be."""

    def both(x: _Segment, y: _Segment) -> str | None:
        if x and y and isinstance(x[0], str) and isinstance(y[0], str) and x[0] != y[0]:
            return None
        return _meet(x, y, _meet_characters, _ANY, fill) or None

    segments = _meet(a, b, both, _WHOLE, fill + "/" if is_deep else "", between="/")
    return segments.strip("/") or None if segments is not None else None


def _meet_characters(x: Any, y: Any) -> str | None:
    fixed = [token for token in (x, y) if isinstance(token, str)]
    options: Iterable[str] = fixed[:1] or _CANDIDATES
    return next((char for char in options if _takes(x, char) and _takes(y, char)), None)


def _takes(token: Any, char: str) -> bool:
    if isinstance(token, str):
        return token == char
    return True if token is _ANY else token.match(char) is not None


def _meet(
    a: Sequence[Any],
    b: Sequence[Any],
    both: Callable[[Any, Any], str | None],
    one: Any,
    fill: str,
    between: str = "",
) -> str | None:
    """Walk two sequences at once, from their starts to their ends; give what was walked over."""
    goal = (len(a), len(b))
    came: dict[tuple[int, int], tuple[tuple[int, int], str]] = {(0, 0): ((0, 0), "")}
    stack = [(0, 0)]
    while stack and len(came) < _MOST_STATES:
        at = stack.pop()
        if at == goal:
            return between.join(reversed(list(_walked(came, at))))
        for step, text in reversed(_moves(a, b, at, both, one, fill)):
            if step not in came:
                came[step] = (at, text)
                stack.append(step)
    return None


def _walked(
    came: Mapping[tuple[int, int], tuple[tuple[int, int], str]], at: tuple[int, int]
) -> Iterator[str]:
    while at != (0, 0):
        at, text = came[at]
        if text:
            yield text.strip("/") if text.endswith("/") else text


def _moves(
    a: Sequence[Any],
    b: Sequence[Any],
    at: tuple[int, int],
    both: Callable[[Any, Any], str | None],
    one: Any,
    fill: str,
) -> list[tuple[tuple[int, int], str]]:
    i, j = at
    x = a[i] if i < len(a) else None
    y = b[j] if j < len(b) else None
    moves: list[tuple[tuple[int, int], str | None]] = []
    if x is _MANY and y is _MANY:
        moves = [((i + 1, j + 1), fill), ((i + 1, j), fill), ((i, j + 1), fill)]
    elif x is _MANY:
        moves = [((i + 1, j), ""), *([((i, j + 1), both(one, y))] if y is not None else [])]
    elif y is _MANY:
        moves = [((i, j + 1), ""), *([((i + 1, j), both(x, one))] if x is not None else [])]
    elif x is not None and y is not None:
        moves = [((i + 1, j + 1), both(x, y))]
    return [(step, text) for step, text in moves if text is not None]
