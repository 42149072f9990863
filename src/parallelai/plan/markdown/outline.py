"""The outline of a Markdown text: headings, and below them paragraphs, lists and all else, with their places.

Block structure is CommonMark's, read by markdown-it; text stays as it was written, letter by letter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct, field

from parallelai.errors import PlanError, Problem
from parallelai.plan.markdown.checkboxes import BOX, Broken, broken_item, broken_line
from parallelai.plan.source import DEEPEST

if TYPE_CHECKING:
    from markdown_it.token import Token

MOST_LINES = 20_000
LONGEST_LINE = 50_000
"""In characters. Nobody writes such a line; what it might hold would take long to read."""
_BAR = re.compile(r"(?<!\\)\|")
"""What parts the cells of a table, also inside of code (GFM, "Tables")."""
_DASHES = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?")
MOST_COLUMNS = 50
_NEWLINE = re.compile(r"\r\n?")


class Piece(NamedTuple):
    """A text without line breaks, and where it begins: line and column, from 1, in code points."""

    text: str
    line: int
    column: int

    def part(self, start: int, end: int | None = None) -> Piece:
        """Cut a part out, without the white space around it."""
        cut = self.text[start:end]
        return Piece(cut.strip(), self.line, self.column + start + len(cut) - len(cut.lstrip()))


class Slip(NamedTuple):
    """What was written in a way that says nothing: where, what is wrong with it, and what to write."""

    at: Piece
    said: str
    next: str


class Item(Struct):
    """An item of a list. `box` says whether its checkbox is ticked, None if it has none.

    `pieces` are the lines of its first paragraph, without marker and box; `blocks` is what follows in it; `number`
    is what an ordered list counts. `first` and `last` are its lines, from 0, the end exclusive.
    """

    first: int
    last: int
    number: str | None = None
    box: bool | None = None
    pieces: list[Piece] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)


class Block(Struct):
    """A paragraph (`pieces`), a list (`items`), or anything else, of which only the lines are known.

    A table has its lines as `rows`, the header first, without the line of dashes.
    """

    first: int
    last: int
    pieces: list[Piece] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    rows: list[Piece] = field(default_factory=list)


class Section(Struct):
    """A heading, with its box if it has one, and what is between it and the next; level 0 is before the first."""

    level: int
    title: Piece
    box: bool | None = None
    blocks: list[Block] = field(default_factory=list)


class Outline(Struct, frozen=True):
    """All sections in order, the lines of the text, and the checkboxes that are none."""

    lines: Sequence[str]
    sections: Sequence[Section]
    slips: Sequence[Slip]

    def verbatim(self, first: int, last: int) -> str:
        """Give lines as they were written, without the indent that they share."""
        lines = [line.expandtabs(4).rstrip() for line in self.lines[first:last]]
        indent = min((len(line) - len(line.lstrip()) for line in lines if line), default=0)
        return "\n".join(line[indent:] for line in lines).strip("\n")


def outline(text: str, file: str) -> Outline:
    """Read the outline of a Markdown text. Raises `PlanError` for one that is too long or nested too deep."""
    from markdown_it import MarkdownIt  # only who imports a task list needs it

    text = _NEWLINE.sub("\n", text)
    lines = text.split("\n")
    if len(lines) > MOST_LINES:
        said = f"the task list has more than {MOST_LINES:,} lines"
        raise PlanError([Problem(said, file, MOST_LINES + 1, 1, "split it")])
    long = next((number for number, line in enumerate(lines, 1) if len(line) > LONGEST_LINE), None)
    if long is not None:
        said = f"the line has more than {LONGEST_LINE:,} characters"
        raise PlanError([Problem(said, file, long, LONGEST_LINE + 1, "write it as several lines")])
    parser = MarkdownIt("commonmark", {"maxNesting": 2 * DEEPEST + 2})
    parser.core.ruler.enableOnly(["normalize", "block"])  # text is taken as it stands
    parser.block.ruler.disable(["reference"])
    tokens = parser.parse(text)
    deep = next((token for token in tokens if token.level >= 2 * DEEPEST), None)
    if deep is not None:
        line = deep.map[0] + 1 if deep.map else 1
        said = f"lists are nested more than {DEEPEST} deep"
        raise PlanError([Problem(said, file, line, 1, "a task list needs no such depth")])
    reader = _Reader(lines)
    return Outline(lines, reader.sections(tokens), reader.slips)


class _Reader:
    """Builds sections from the parser's tokens, with its own stack."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._sections = [Section(0, Piece("", 1, 1))]
        self._stack: list[Block | Item] = []  # the lists and items that we are in
        self._quoted = 0
        self.slips: list[Slip] = []

    def sections(self, tokens: Sequence[Token]) -> Sequence[Section]:
        for number, token in enumerate(tokens):
            if token.type == "blockquote_close":
                self._quoted -= 1
            elif self._quoted and token.type != "blockquote_open":
                continue
            elif token.type.endswith(("_list_close", "_item_close")):
                self._stack.pop()
            elif token.map is not None:
                inner = tokens[number + 1] if token.type in ("heading_open", "paragraph_open") else None
                self._take(token, token.map[0], token.map[1], inner)
        return self._sections

    def _take(self, token: Token, first: int, last: int, inner: Token | None) -> None:
        if token.type == "heading_open" and inner is not None and not self._stack:
            pieces = self._pieces(inner.content, first)
            box, pieces = self._unboxed(pieces)
            title = Piece(" ".join(piece.text for piece in pieces), *pieces[0][1:]) if pieces else None
            self._sections.append(Section(int(token.tag[1:]), title or Piece("", first + 1, 1), box))
        elif token.type.endswith("_list_open"):
            self._stack.append(self._add(Block(first, last)))
        elif token.type == "list_item_open":
            item = Item(first, last, token.info or None)
            parent = self._stack[-1]
            assert isinstance(parent, Block)  # noqa: S101  # an item is only ever in a list
            parent.items.append(item)
            self._stack.append(item)
        elif inner is not None:
            self._paragraph(first, last, self._pieces(inner.content, first))
        elif token.type == "blockquote_open":
            if not self._quoted:
                self._add(Block(first, last))
            self._quoted += 1
        elif token.type in ("fence", "code_block") or _is_shown_html(token):
            self._add(Block(first, last))

    def _paragraph(self, first: int, last: int, pieces: list[Piece]) -> None:
        item = self._stack[-1] if self._stack else None
        if isinstance(item, Item) and not item.pieces and not item.blocks:
            item.box, pieces = self._unboxed(pieces)
            item.pieces = [*pieces[:1], *self._without_boxes(pieces[1:], is_item=True)]
        else:
            self._text(first, last, pieces)

    def _text(self, first: int, last: int, pieces: list[Piece]) -> None:
        """Take a paragraph, the end of which may be a table: for CommonMark that is text."""
        heads = (at for at, pair in enumerate(pairwise(pieces)) if _is_head(*pair))
        head = next(heads, len(pieces))
        if head:
            self._add(Block(first, first + head, self._without_boxes(pieces[:head], is_item=False)))
        if head < len(pieces):
            self._add(Block(first + head, last, rows=[pieces[head], *pieces[head + 2 :]]))

    def _unboxed(self, pieces: list[Piece]) -> tuple[bool | None, list[Piece]]:
        """Take the checkbox off a text; one that is broken is noted, and taken for one that is not ticked."""
        found = BOX.match(pieces[0].text) if pieces else None
        if found is not None:
            return found["mark"] != " ", [pieces[0].part(found.end()), *pieces[1:]]
        broken = broken_item(pieces[0].text) if pieces else None
        if broken is None:
            return None, pieces
        self._note(pieces[0], broken)
        return False, [pieces[0].part(broken.end), *pieces[1:]]

    def _without_boxes(self, pieces: Sequence[Piece], *, is_item: bool) -> list[Piece]:
        """Leave out the lines of a text that were meant to be checkboxes, and note them."""
        found = [(piece, broken_line(piece.text, is_item=is_item)) for piece in pieces]
        for piece, broken in found:
            if broken is not None:
                self._note(piece, broken)
        return [piece for piece, broken in found if broken is None]

    def _note(self, piece: Piece, broken: Broken) -> None:
        self.slips.append(Slip(piece, broken.said, broken.next))

    def _add(self, block: Block) -> Block:
        top = self._stack[-1] if self._stack else self._sections[-1]
        assert not isinstance(top, Block)  # noqa: S101  # in a list are only items
        top.blocks.append(block)
        return block

    def _pieces(self, content: str, first: int) -> list[Piece]:
        pieces = []
        for number, line in enumerate(content.split("\n"), first):
            text = line.strip()
            at = self._lines[number].rfind(text) if number < len(self._lines) else 0
            pieces.append(Piece(text, number + 1, max(at, 0) + 1))
        return pieces


def cells(row: Piece) -> list[Piece]:
    """The cells of a table's row."""
    bars = [found.start() for found in _BAR.finditer(row.text)]
    bounds = zip([0, *(at + 1 for at in bars)], [*bars, len(row.text)], strict=True)
    found = [row.part(start, end) for start, end in bounds]
    if bars and bars[0] == 0:
        del found[0]
    if len(found) > 1 and bars[-1] == len(row.text) - 1:
        del found[-1]
    return [cell._replace(text=cell.text.replace("\\|", "|")) for cell in found]


def _is_head(head: Piece, line: Piece) -> bool:
    """Whether a table begins: a header, and below it a line of dashes for as many columns."""
    is_line = "|" in line.text and _DASHES.fullmatch(line.text) is not None
    return is_line and len(cells(head)) == len(cells(line)) <= MOST_COLUMNS


def _is_shown_html(token: Token) -> bool:
    return token.type == "html_block" and not token.content.lstrip().startswith("<!--")
