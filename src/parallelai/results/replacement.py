"""What a finding suggests to write instead, where it says so in a form that can be applied.

A suggestion is words for a person, unless it holds one fenced block of the kind `suggestion`, which is GitHub's
form: the block's text stands for the finding's lines, from the first to the last, as a whole. Nothing else is
taken for code: a sentence that is applied to a file does harm.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from parallelai.records import Finding
from parallelai.results.identity import split_lines

_BLOCK = re.compile(r"^[ \t]*(`{3,}|~{3,})suggestion[^\n]*\n(.*?)^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
_INDENT = re.compile(r"[ \t]*")


class Replacement(NamedTuple):
    """Lines `first` to `last` (from 1, inclusive) become `text`, which ends with a line end unless empty."""

    first: int
    last: int
    text: str


def split(suggestion: str) -> tuple[str, str | None]:
    """Split a suggestion into its words, and the code that it gives; None without exactly one block of code."""
    blocks = list(_BLOCK.finditer(suggestion))
    if len(blocks) != 1:
        return suggestion, None
    block = blocks[0]
    words = f"{suggestion[: block.start()].strip()}\n{suggestion[block.end() :].strip()}".strip()
    return words, block[2]


def replacement(finding: Finding, lines: Sequence[str]) -> Replacement | None:
    """Give what a finding replaces in its file.

    Args:
        lines: the file's lines, as `split_lines` gives them.

    Returns:
        None where nothing is suggested in that form, where the lines are not all in the file, or where they
        would not change. Code that was given with less indentation than what it replaces is indented.
    """
    code = split(finding.suggestion)[1] if finding.suggestion else None
    first, last = finding.line
    if code is None or last > len(lines):
        return None
    old = lines[first - 1 : last]
    new = _indented(split_lines(code.removesuffix("\n")) if code else [], old)
    if new == list(old):
        return None
    return Replacement(first, last, "".join(f"{line}\n" for line in new))


def _indented(new: Sequence[str], old: Sequence[str]) -> list[str]:
    wanted, given = _indent(old), _indent(new)
    missing = wanted.removesuffix(given) if wanted.endswith(given) else ""
    return [missing + line if line.strip() else line for line in new]


def _indent(lines: Sequence[str]) -> str:
    """The indentation of the first line that is not blank."""
    first = next((line for line in lines if line.strip()), "")
    found = _INDENT.match(first)
    return found[0] if found else ""
