"""Cutting a file into parts that fit, where its definitions begin.

How good it is to begin a part with a line is a level, 0 being the best: a definition at the top, then one inside
it, and so on inwards, then any statement, then any line. For Python the levels come from its syntax tree, so
that no string or statement is cut; for all other languages from indentation, blank lines and closing braces,
which hold for whatever people format. Comments, decorators and annotations stay with what they stand above.
"""

from __future__ import annotations

import ast
import re
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

CHARACTERS_PER_TOKEN = 4

_ANYWHERE = 99  # the level of a line that nothing speaks for
_DEEPEST = 12  # deeper definitions are as good as any statement
_STATEMENT = 40
_EARLIEST_CUT = 0.5
_ABOVE = re.compile(r"\s*(?:#|//|/\*|\*|--|;;|%|@|\[<|\[\w|<!--|'''|\"\"\"|template\s*<)")
_CLOSING = re.compile(
    r"\s*(?:[)}\]>]|end\b|else\b|elif\b|elsif\b|except\b|catch\b|finally\b|esac\b|fi\b|done\b)"
)
_CLOSED = re.compile(r"(?:[})\];]|\bend|\bfi|\bdone)[;,)]*\s*\Z")
_PYTHON = (".py", ".pyi", ".pyw")


def chunk(text: str, tokens: int, *, path: str = "") -> list[tuple[int, int]]:
    """Cut a text into parts of at most `tokens` tokens (4 characters each), as (first, last) lines from 1.

    Every line is in exactly one part, in order. A definition that fits is not cut; a larger one is cut between
    the definitions in it, else between statements. Only a line that is longer by itself makes a part larger.

    Args:
        path: the file's name, which tells the language.
    """
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    limit = tokens * CHARACTERS_PER_TOKEN
    ends = list(accumulate(len(line) + 1 for line in lines))
    if not lines or ends[-1] <= limit:
        return [(1, len(lines))] if lines else []
    return list(_parts(ends, limit, _Levels(levels(lines, path))))


def levels(lines: Sequence[str], path: str = "") -> list[int]:
    """Say of each line how good it is to begin a part with it: 0 is best."""
    found = _of_python(lines) if path.endswith(_PYTHON) else None
    return found if found is not None else _of_text(lines)


# --- cutting


class _Levels:
    """The levels of a file's lines, and where the next line is that is as good as another."""

    def __init__(self, of_lines: Sequence[int]) -> None:
        self.of_lines = of_lines
        self._next = [len(of_lines)] * len(of_lines)
        waiting: list[int] = []
        for at, level in enumerate(of_lines):
            while waiting and of_lines[waiting[-1]] >= level:
                self._next[waiting.pop()] = at
            waiting.append(at)

    def end_of(self, at: int) -> int:
        """Where the definition ends that begins with a line: before the next one as good or better."""
        return self._next[at]


def _parts(ends: Sequence[int], limit: int, found: _Levels) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(ends):
        before = ends[start - 1] if start else 0
        end = max(bisect_right(ends, before + limit), start + 1)
        if end < len(ends):
            end = _cut(ends, limit, found, start, end)
        yield start + 1, end
        start = end


def _cut(ends: Sequence[int], limit: int, found: _Levels, start: int, end: int) -> int:
    """Where to end a part that can hold the lines up to `end`: before what would be cut, and fits by itself."""
    of_lines = found.of_lines
    best = min(of_lines[start + 1 : end + 1])
    earliest = start + max(1, int((end - start) * _EARLIEST_CUT))
    for level in sorted(set(of_lines[start + 1 : end + 1])):
        at = next(at for at in range(end, start, -1) if of_lines[at] <= level)
        fits = ends[found.end_of(at) - 1] - ends[at - 1] <= limit
        if at == end or (fits and level < _STATEMENT) or (at >= earliest and level >= _STATEMENT):
            return at
    late = [at for at in range(earliest, end + 1) if of_lines[at] == best]
    return late[-1] if late else end


# --- levels of any text


def _of_text(lines: Sequence[str]) -> list[int]:
    unit = _unit(lines)
    found = [_ANYWHERE] * len(lines)
    begun = 0  # where the comments and annotations above the line begin
    for at, line in enumerate(lines):
        if not line.strip():
            begun = at + 1
            continue
        before = lines[at - 1] if at else ""
        if at and before.strip() and not _ABOVE.match(before):
            begun = at
        if _ABOVE.match(line) and at + 1 < len(lines) and lines[at + 1].strip():
            continue  # judged with the line that it stands above
        found[begun] = min(found[begun], _level(lines, begun, at, unit))
    return found


def _level(lines: Sequence[str], begun: int, at: int, unit: int) -> int:
    """The level of a line whose comments begin at `begun`."""
    line = lines[at]
    depth = min(_indent(line) // unit, _DEEPEST)
    if _CLOSING.match(line):
        return _STATEMENT + 2 * _DEEPEST + depth
    before = lines[begun - 1] if begun else ""
    is_apart = not before.strip() or (_CLOSED.search(before) and _indent(before) <= _indent(line))
    return 2 * depth if is_apart else _STATEMENT + depth


def _unit(lines: Sequence[str]) -> int:
    """How far this file indents: the smallest step inwards that is not a slip."""
    steps: dict[int, int] = {}
    previous = 0
    for line in lines:
        if line.strip():
            indent = _indent(line)
            if indent > previous:
                steps[indent - previous] = steps.get(indent - previous, 0) + 1
            previous = indent
    usual = [step for step, count in steps.items() if step > 1 and 10 * count >= max(steps.values())]
    return min(usual, default=4)


def _indent(line: str) -> int:
    width = len(line) - len(line.lstrip(" \t"))
    return width + 3 * line[:width].count("\t")


# --- levels of Python


def _of_python(lines: Sequence[str]) -> list[int] | None:
    """The levels by the syntax tree; None where the text has no such tree."""
    if any(character in line for line in lines for character in "\r\x0c"):
        return None  # the tree counts other lines than we do
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the file's author should know is none of our business
            tree = ast.parse("\n".join(lines))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found = [_ANYWHERE] * len(lines)
    waiting: list[tuple[ast.AST, int]] = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        for statement in _statements(node):
            at = _above(lines, _first(statement) - 1)
            is_definition = isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            level = min(depth, _DEEPEST)
            found[at] = min(found[at], 2 * level if is_definition or not depth else _STATEMENT + level)
            waiting.append((statement, depth + 1))
    return found


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements right below a node, also those in a handler or a case of it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
        elif isinstance(child, ast.ExceptHandler | ast.match_case):
            yield from child.body


def _first(statement: ast.stmt) -> int:
    """The line on which a statement begins, with its decorators."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(one.lineno for one in decorators)])


def _above(lines: Sequence[str], at: int) -> int:
    """Where the comments begin that stand right above a line, no deeper than it."""
    while at > 0 and lines[at - 1].lstrip().startswith("#"):
        at -= 1
    return at
