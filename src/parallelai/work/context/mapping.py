"""The map of symbols: where the definitions that matter are, as paths, lines and signatures, within a budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from parallelai.engines.models.prices import CHARACTERS_PER_TOKEN
from parallelai.work.context.ranking import Ranked

MOST_FILES = 60
"""How many files are opened for a map."""
_SIGNATURE = 140
_OWN_SHARE = 0.5
"""How much of the room what is owned takes at most, while there is something else to show."""


class Symbol(Struct, frozen=True):
    """A definition as it is shown: `name` is dotted within its file, `line` counts from 1."""

    name: str
    line: int
    signature: str


class _Shown(Struct, frozen=True):
    path: str
    line: int
    text: str
    is_owned: bool


def files_of(ranked: Iterable[Ranked]) -> tuple[str, ...]:
    """The files whose definitions are wanted, the most relevant first, not too many."""
    return tuple(dict.fromkeys(one.path for one in ranked))[:MOST_FILES]


def draw(ranked: Sequence[Ranked], outlines: Mapping[str, Sequence[Symbol]], tokens: int) -> str:
    """Write the map of what matters most within `tokens`; empty where there is nothing to show.

    Args:
        ranked: what matters, the most relevant first.
        outlines: the definitions of the files that were opened.
    """
    room = tokens * CHARACTERS_PER_TOKEN - _AROUND
    lines = _lines(ranked, outlines)
    own, others = [one for one in lines if one.is_owned], [one for one in lines if not one.is_owned]
    taken, left = _fitting(own, int(room * _OWN_SHARE) if others else room)
    more, left = _fitting(others, room - (int(room * _OWN_SHARE) if others else room) + left)
    rest, _ = _fitting(own[len(taken) :], left, known={one.path for one in taken})
    return "\n".join(
        part
        for part in (
            _section("In the files that you own:", [*taken, *rest]),
            _section("Used by them, or by your task:", more),
        )
        if part
    )


def _lines(ranked: Sequence[Ranked], outlines: Mapping[str, Sequence[Symbol]]) -> list[_Shown]:
    """A line for each definition, in the order of the ranking, each once."""
    by_name: dict[str, dict[str, list[Symbol]]] = {}
    for path, symbols in outlines.items():
        for symbol in symbols:
            by_name.setdefault(path, {}).setdefault(symbol.name.rsplit(".", 1)[-1], []).append(symbol)
    found: dict[tuple[str, int], _Shown] = {}
    for one in ranked:
        for symbol in by_name.get(one.path, {}).get(one.name, ()):
            text = f"  {symbol.line:>4}  {_plain(symbol.signature or symbol.name)}"
            found.setdefault((one.path, symbol.line), _Shown(one.path, symbol.line, text, one.is_owned))
    return list(found.values())


def _plain(text: str) -> str:
    """A signature on one line, without what a terminal or a reader could take for something else."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * _SIGNATURE]).split())
    return line if len(line) <= _SIGNATURE else line[: _SIGNATURE - 1] + "…"


def _fitting(lines: Sequence[_Shown], room: int, *, known: Iterable[str] = ()) -> tuple[list[_Shown], int]:
    """Take lines from the first on as long as they fit; gives them, and the room that is left."""
    paths, taken = set(known), list[_Shown]()
    for line in lines:
        cost = len(line.text) + 1 + (0 if line.path in paths else len(line.path) + 1)
        if cost > room - _HEADING:
            break
        room -= cost
        paths.add(line.path)
        taken.append(line)
    return taken, max(room, 0)


_HEADING = 40
_AROUND = 120
"""What is said before a map, and its fence."""


def _section(heading: str, lines: Sequence[_Shown]) -> str:
    if not lines:
        return ""
    files: dict[str, list[_Shown]] = {}
    for line in lines:
        files.setdefault(line.path, []).append(line)
    rows = [heading]
    for path, found in files.items():
        rows.append(path)
        rows += [line.text for line in sorted(found, key=lambda line: line.line)]
    return "\n".join(rows)
