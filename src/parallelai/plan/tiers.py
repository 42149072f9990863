"""Which tier of model a task is worth where nobody said (CONTRACTS §1, `model`)."""

from __future__ import annotations

import re

BY_KIND = {
    "architecture": "best",
    "refactoring": "best",
    "feature": "standard",
    "review": "standard",
    "bugfix": "standard",
    "crud": "fast",
    "tests": "fast",
    "docs": "fast",
}
"""The tier of each kind of task; other kinds are `standard`."""

_ALIASES = {
    "features": "feature",
    "reviews": "review",
    "bug": "bugfix",
    "bug-fix": "bugfix",
    "fix": "bugfix",
    "test": "tests",
    "testing": "tests",
    "documentation": "docs",
    "doc": "docs",
    "refactor": "refactoring",
}
_WORDS = (
    ("refactoring", re.compile(r"\b(refactor\w*|restructur\w*)\b", re.IGNORECASE)),
    ("architecture", re.compile(r"\b(architect\w*|design (the|an?) )", re.IGNORECASE)),
    ("tests", re.compile(r"\b(write|add|generate) (unit |integration )?tests?\b", re.IGNORECASE)),
    ("docs", re.compile(r"\b(document|docstrings?|changelog)\b", re.IGNORECASE)),
)


def tier_for(kind: str | None, text: str) -> str:
    """Give the tier for a task of a kind; without one, it is guessed from what the task says."""
    if kind is None:
        kind = next((name for name, words in _WORDS if words.search(text)), "feature")
    name = kind.strip().lower()
    return BY_KIND.get(_ALIASES.get(name, name), "standard")
