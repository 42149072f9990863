"""Comments in the code that say: this finding is known and wanted.

A comment with `parallelai: ignore[S105, E501]`, on the line of a finding or alone on the line above,
suppresses findings of these rules; `parallelai: ignore` suppresses all. A finding without a rule is meant by
its category. Case makes no difference. What is suppressed stays in the results, with that state.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_COMMENT = re.compile(r"parallelai:[ \t]*ignore(?:\[([^\]\n]*)\]|(?![\w\[-]))")
_ANYTHING = frozenset({"*"})


def has_comments(text: str) -> bool:
    """Say quickly whether a file's text can hold such a comment at all."""
    return "parallelai:" in text


def is_suppressed(lines: Sequence[str], line: int, *, rule: str | None, category: str) -> bool:
    """Say whether a comment in the code suppresses a finding.

    Args:
        lines: the file's lines.
        line: the first line of the finding, from 1; may lie beyond the end.
        rule: the finding's rule.
        category: its category, which stands for the rule where there is none.
    """
    name = (rule or category).casefold()
    ignored = _ignored_on(lines, line, alone=False) | _ignored_on(lines, line - 1, alone=True)
    return bool(ignored & {"*", name})


def _ignored_on(lines: Sequence[str], line: int, *, alone: bool) -> frozenset[str]:
    """The rules that a line's comment names. A comment behind code is about that line only."""
    if not 1 <= line <= len(lines):
        return frozenset()
    found = _COMMENT.search(lines[line - 1])
    if found is None or (alone and re.search(r"\w", lines[line - 1][: found.start()])):
        return frozenset()
    if found[1] is None:
        return _ANYTHING
    return frozenset(name.strip().casefold() for name in found[1].split(",")) - {"", "*"}
