"""What a settled file must be before it is taken: whole, without markers, each thing defined once."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import PurePosixPath

from parallelai.work import symbols
from parallelai.work.resolvers.lines import lines
from parallelai.work.resolvers.records import Conflict

MAX_BYTES = 8 * 1024 * 1024
_MARKER = re.compile(rb"(<{7,}|>{7,}|\|{7,})( |\r?$)|={7}\r?$")
_DATA: dict[str, Callable[[str], object]] = {".json": json.loads, ".toml": tomllib.loads}


def objection(conflict: Conflict, text: bytes) -> str | None:
    """Say why a settled file cannot be taken; None where nothing speaks against it.

    `conflict` is the whole file's. What a side had already (a line that looks like a marker, a name defined
    twice) is not held against the result.
    """
    if len(text) > MAX_BYTES:
        return f"it is larger than {MAX_BYTES} bytes"
    if has_marker(conflict, text):
        return "it has conflict markers"
    if symbols.parses(conflict.path, text) is False or not _reads(conflict.path, text):
        return "it has syntax errors"
    twice = doubled(conflict, text)
    return f"it defines `{twice[0][:100]}` twice" if twice else None


def has_marker(conflict: Conflict, text: bytes) -> bool:
    """Whether a text has a conflict marker that is not a line of either side."""
    found = {line for line in lines(text) if _MARKER.match(line)}
    if not found:
        return False
    known = {*lines(conflict.ours), *lines(conflict.theirs)}
    return not found <= known


def doubled(conflict: Conflict, text: bytes) -> list[str]:
    """Name what is defined more than once, and was on neither side."""
    counts = _defined(conflict.path, text)
    many = [name for name, count in counts.items() if count > 1]
    if not many:
        return []
    ours, theirs = _defined(conflict.path, conflict.ours), _defined(conflict.path, conflict.theirs)
    return [name for name in many if max(ours[name], theirs[name]) < 2]


def _defined(path: str, text: bytes | None) -> Counter[str]:
    return Counter(one.name for one in symbols.definitions(path, text)) if text else Counter()


def _reads(path: str, text: bytes) -> bool:
    """Whether data in a known form can be read; true for all else."""
    read = _DATA.get(PurePosixPath(path).suffix.lower())
    if read is None:
        return True
    try:
        read(text.decode())
    except (ValueError, RecursionError):
        return False
    return True
