"""Which command runs a Node project's tests, by what its `package.json` says. Pure but for `read`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Final

Read = Callable[[str], str]
"""Gives the text of a file; an empty one where it cannot be read."""

MODULES: Final = "node_modules"
"""Where what a project depends on lies: no tree without it can run its tests."""
_BY_LOCK: Final = (
    ("pnpm-lock.yaml", "pnpm test"),
    ("yarn.lock", "yarn test"),
    ("bun.lock", "bun run test"),
    ("bun.lockb", "bun run test"),
)
_NOTHING: Final = "no test specified"
"""What `npm init` writes for a project without tests."""


def command(paths: Collection[str], read: Read) -> str | None:
    """Give the command of the package at the top; None where it says none."""
    if "package.json" not in paths:
        return None
    try:
        found = json.loads(read("package.json"))
        script = found["scripts"]["test"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(script, str) or not script.strip() or _NOTHING in script:
        return None
    return next((words for lock, words in _BY_LOCK if lock in paths), "npm test")
