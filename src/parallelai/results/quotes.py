"""Where the code stands that a finding quotes: a model's finding holds only if its quote is in the file.

A quote is looked up as it is, then with white space and invisible characters normalised, then line by line,
because models leave lines out, number them, or copy the marks of a diff. Of several places the one nearest to
the claimed line is taken. What is found corrects the finding's place; what is nowhere drops the finding.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from msgspec import Struct

from parallelai.records import Finding
from parallelai.results.identity import lines_of, split_lines, squeeze
from parallelai.results.suppress import has_comments

QUOTE_NOT_FOUND = "quote_not_found"
"""Why a finding was dropped, as the run document counts it."""
HIDDEN = "••••"
"""What stands in a reply where a secret was: anything may stand there in the file."""

_LEAST_ANCHOR = 6  # characters that a line needs to be evidence of a place by itself
_LEAST_SHARE = 0.6  # of a quote's characters that must stand at the place, where it is taken line by line
_SLACK_LINES = 15  # that may lie between two quoted lines in the file
_MAX_ANCHORS = 200
_MAX_OCCURRENCES = 5_000
_INVISIBLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_CURLY = str.maketrans("‘’“”", "''\"\"")
_ELLIPSIS = re.compile(rf"(?:\.\.\.|…|{HIDDEN})")
_ELLIPSIS_ALONE = re.compile(r"\W*(?:\.\.\.|…)\W*\Z")
_MARKS = re.compile(r"\s*(?:L?\d+\s*[:|│]\s?|\d+\t|[+\-](?=\s|\w)|>\s)")
_FENCED = re.compile(r"\s*(`{3,})[^\n`]*\n(.*?)\n?\s*\1\s*\Z", re.DOTALL)


class Place(NamedTuple):
    """Lines and, where they are known, columns; as in a finding."""

    line: tuple[int, int]
    column: tuple[int, int] | None = None


class Placed(Struct, frozen=True):
    """Findings with their places put right, in the order given, and how many were dropped, by reason."""

    findings: tuple[Finding, ...]
    dropped: dict[str, int]


def place(
    findings: Iterable[Finding], read: Callable[[str], str | None], *, must_quote: bool = True
) -> Placed:
    """Put findings where the code stands that they quote.

    Args:
        read: gives a file's text by its path below the root, None where it cannot be read; called once a file.
        must_quote: a finding without a quote, or in a file that cannot be read, is dropped too. Without it
            (findings of an analyser) only a quote that is given is looked up.
    """
    sources: dict[str, Source] = {}
    kept: list[Finding] = []
    dropped = 0
    for finding in findings:
        if finding.file not in sources:
            sources[finding.file] = Source(read(finding.file))
        placed = place_one(finding, sources[finding.file], must_quote=must_quote)
        if placed is None:
            dropped += 1
        else:
            kept.append(placed)
    return Placed(tuple(kept), {QUOTE_NOT_FOUND: dropped})


def place_one(finding: Finding, source: Source, *, must_quote: bool) -> Finding | None:
    """Put one finding right; None if it does not stand on what the file holds."""
    if must_quote:
        found = source.locate(finding.quote or "", finding.line)
        if found is None:
            return None
        if (found.line, found.column) == (finding.line, finding.column):
            return finding
        return replace(finding, line=found.line, column=found.column)
    snippet = squeeze(finding.quote) if finding.quote and source.is_readable else ""
    if not snippet or snippet in squeeze("\n".join(lines_of(source.lines, finding.line))):
        return finding
    if finding.quote and HIDDEN in finding.quote:  # of what is hidden nobody can say that it is nowhere
        found = source.locate(finding.quote, finding.line) or Place(finding.line)
    else:
        found = source.locate_squeezed(snippet, finding.line)
    if found is None:
        return None
    return finding if found.line == finding.line else replace(finding, line=found.line, column=None)


class _Laid(NamedTuple):
    """A file's text laid out for searching: where each line of it starts, and that line's number."""

    text: str
    starts: list[int]
    numbers: Sequence[int]

    def line_at(self, offset: int) -> int:
        """The index, within `starts`, of the line that holds an offset."""
        return bisect_right(self.starts, offset) - 1


class Source:
    """A file's text as findings need it. `lines` is empty where the file could not be read."""

    def __init__(self, text: str | None) -> None:
        self.is_readable = text is not None
        self.lines = split_lines(text) if text else []
        self.has_comments = bool(text) and has_comments(text or "")
        self._exact: _Laid | None = None
        self._squeezed: _Laid | None = None

    def locate(self, quote: str, near: tuple[int, int]) -> Place | None:
        """Find where a quote stands, nearest to the lines `near`; None if nowhere, or if it says nothing."""
        quote = _bare(quote)
        if not self.lines or not re.search(r"\w", quote):
            return None
        return (
            self._locate_exact(quote, near)
            or self.locate_squeezed(quote, near)
            or self._locate_by_lines(quote, near)
        )

    def locate_squeezed(self, snippet: str, near: tuple[int, int]) -> Place | None:
        """Find the lines nearest to `near` on which a text with normalised white space stands."""
        laid = self._lay_out_squeezed()
        best = min(_occurrences(laid, _normal(snippet)), key=lambda at: _distance(at, near), default=None)
        return None if best is None else Place(best)

    def _locate_exact(self, quote: str, near: tuple[int, int]) -> Place | None:
        laid = self._lay_out()
        best: tuple[tuple[int, int, int], Place] | None = None
        for start in _offsets(laid.text, quote):
            first, last = laid.line_at(start), laid.line_at(start + len(quote) - 1)
            line = (first + 1, last + 1)
            column = (start - laid.starts[first] + 1, start + len(quote) - laid.starts[last] + 1)
            rank = (*_distance(line, near), start)
            if best is None or rank < best[0]:
                best = (rank, Place(line, column))
        return None if best is None else best[1]

    def _locate_by_lines(self, quote: str, near: tuple[int, int]) -> Place | None:
        """Find the place where most of the quoted lines stand in their order, with others between them."""
        wanted = [pieces for line in quote.split("\n") if (pieces := _pieces(line))]
        weights = [sum(map(len, pieces)) for pieces in wanted]
        if not wanted or max(weights) < _LEAST_ANCHOR:
            return None
        laid = self._lay_out_squeezed()
        lines = [laid.text[start:end] for start, end in pairwise([*laid.starts, len(laid.text) + 1])]
        anchor = max(range(len(wanted)), key=weights.__getitem__)
        standing = [at for at, line in enumerate(lines) if _holds(line, wanted[anchor])]
        standing.sort(key=lambda at: abs(laid.numbers[at] - near[0]))
        best: tuple[float, int, Place] | None = None
        for at in standing[:_MAX_ANCHORS]:
            found = _extend(lines, wanted, anchor, at)
            share = sum(weights[index] for index in found) / sum(weights)
            line = (laid.numbers[min(found.values())], laid.numbers[max(found.values())])
            rank = (-share, abs(line[0] - near[0]), Place(line))
            if share >= _LEAST_SHARE and (best is None or rank[:2] < best[:2]):
                best = rank
        return None if best is None else best[2]

    def _lay_out(self) -> _Laid:
        if self._exact is None:
            starts, offset = [], 0
            for line in self.lines:
                starts.append(offset)
                offset += len(line) + 1
            self._exact = _Laid("\n".join(self.lines), starts, range(1, len(self.lines) + 1))
        return self._exact

    def _lay_out_squeezed(self) -> _Laid:
        """The text normalised, on one line, without its blank lines."""
        if self._squeezed is None:
            parts, starts, numbers, offset = [], [], [], 0
            for number, line in enumerate(self.lines, 1):
                if part := _normal(line):
                    parts.append(part)
                    starts.append(offset)
                    numbers.append(number)
                    offset += len(part) + 1
            self._squeezed = _Laid(" ".join(parts), starts, numbers)
        return self._squeezed


# --- searching


def _occurrences(laid: _Laid, snippet: str) -> Iterator[tuple[int, int]]:
    """The lines on which a normalised text stands."""
    for start in _offsets(laid.text, snippet):
        last = laid.line_at(start + len(snippet) - 1)
        yield laid.numbers[laid.line_at(start)], laid.numbers[last]


def _offsets(text: str, snippet: str) -> list[int]:
    """Every offset at which a text stands as whole words; where there is none, at which it stands at all."""
    if not snippet:
        return []
    found: list[int] = []
    start = text.find(snippet)
    while start >= 0 and len(found) < _MAX_OCCURRENCES:
        found.append(start)
        start = text.find(snippet, start + 1)
    return [start for start in found if _is_whole(text, snippet, start)] or found


def _is_whole(text: str, snippet: str, start: int) -> bool:
    end = start + len(snippet)
    is_cut_before = start > 0 and _is_word(text[start - 1]) and _is_word(snippet[0])
    is_cut_after = end < len(text) and _is_word(text[end]) and _is_word(snippet[-1])
    return not is_cut_before and not is_cut_after


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _distance(line: tuple[int, int], near: tuple[int, int]) -> tuple[int, int]:
    """How far lines are from others: the lines between them, then how far apart they begin."""
    gap = max(line[0] - near[1], near[0] - line[1], 0)
    return gap, abs(line[0] - near[0])


def _extend(lines: Sequence[str], wanted: Sequence[Sequence[str]], anchor: int, at: int) -> dict[int, int]:
    """Find the other wanted lines before and after the anchor, in order; gives the place of each found one."""
    found = {anchor: at}
    for indexes, step in ((range(anchor + 1, len(wanted)), 1), (range(anchor - 1, -1, -1), -1)):
        here = at
        for index in indexes:
            stop = here + step * (_SLACK_LINES + 1)
            for there in range(here + step, min(max(stop, -1), len(lines)), step):
                if _holds(lines[there], wanted[index]):
                    found[index] = here = there
                    break
    return found


def _holds(line: str, pieces: Sequence[str]) -> bool:
    """Say whether a line has all pieces, one after another."""
    offset = 0
    for piece in pieces:
        offset = line.find(piece, offset)
        if offset < 0:
            return False
        offset += len(piece)
    return True


# --- what a quote says


def _bare(quote: str) -> str:
    """A quote without what models put around it: fences, backticks, empty lines, white space."""
    quote = quote.replace("\r\n", "\n").replace("\r", "\n")
    fenced = _FENCED.match(quote)
    if fenced:
        quote = fenced[2]
    quote = quote.strip()
    if len(quote) > 2 and quote[0] == quote[-1] == "`" and "`" not in quote[1:-1]:
        quote = quote[1:-1].strip()
    return quote


def _normal(text: str) -> str:
    """Normalise white space, curly quotes, and characters that nobody sees."""
    if not text.isascii():
        text = text.translate(_CURLY)
    if not text.isprintable():
        text = _INVISIBLE.sub("", text)
    return squeeze(text)


def _pieces(line: str) -> tuple[str, ...]:
    """What a quoted line says, without numbers and diff marks before it and cut at what it leaves out."""
    if _ELLIPSIS_ALONE.match(line):
        return ()
    marks = _MARKS.match(line)
    kept = line[marks.end() :] if marks else line
    pieces = (_normal(piece) for piece in _ELLIPSIS.split(kept))
    return tuple(piece for piece in pieces if re.search(r"\w", piece))
