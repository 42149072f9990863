"""What was found about pairs, in a small file, so that another process need not look again.

Keyed by commits, names and owned patterns: what is found follows from them. The file may be lost or broken at
any time; it is then as if nothing was known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from msgspec import Struct

from parallelai.errors import StoreError
from parallelai.records import ConflictFile, ConflictPair, ConflictPlace
from parallelai.store.files import write_whole
from parallelai.work.conflicts.heads import Head

FORMULA = 2
"""Raised when what is found for the same commits changes."""
MOST_PAIRS = 5_000
MOST_BYTES = 20_000_000
NAME = "conflicts.json"


class Subject(Struct, frozen=True):
    """Two sides to compare; `is_target` says that `b` is the target."""

    a: Head
    b: Head
    is_target: bool


def subject_key(subject: Subject) -> str:
    """Name what a finding depends on."""
    sides = [(side.name, side.commit, side.owns) for side in (subject.a, subject.b)]
    text = json.dumps([FORMULA, subject.is_target, sides])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


class Cache:
    """A file of findings in a folder, or none at all."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / NAME
        self._rows: dict[str, Any] | None = None

    def read(self, keys: Collection[str]) -> dict[str, ConflictPair]:
        """Give what is stored of these."""
        if self._path is None or not keys:
            return {}
        if self._rows is None:
            self._rows = _rows(self._path)
        found = {}
        for key in keys:
            if key in self._rows and (pair := _pair(self._rows[key])) is not None:
                found[key] = pair
        return found

    def write(self, pairs: Mapping[str, ConflictPair]) -> None:
        """Add findings; of too many the oldest go."""
        if self._path is None or not pairs:
            return
        rows = _rows(self._path)  # another process may have written meanwhile
        for key, pair in pairs.items():
            rows.pop(key, None)
            rows[key] = asdict(pair)
        kept = dict(list(rows.items())[-MOST_PAIRS:])
        self._rows = kept
        try:
            write_whole(self._path, json.dumps({"formula": FORMULA, "pairs": kept}).encode())
        except StoreError:
            return  # a full disk costs time, not an answer


def _rows(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            return {}
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    is_ours = (
        isinstance(found, dict) and found.get("formula") == FORMULA and isinstance(found.get("pairs"), dict)
    )
    return found["pairs"] if is_ours else {}


def _pair(row: Any) -> ConflictPair | None:
    """A finding as it was stored; None for what nobody here has written."""
    if not isinstance(row, dict) or not isinstance(row.get("conflict"), bool):
        return None
    try:
        files = tuple(
            ConflictFile(
                one["path"],
                one["kind"],
                tuple(ConflictPlace(tuple(place["a"]), tuple(place["b"])) for place in one["places"]),
                tuple(one["symbols"]),
            )
            for one in row["files"]
        )
        return ConflictPair(
            row["a"], row["b"], row["conflict"], row["class_"], float(row["risk"]), files, row["why"]
        )
    except (KeyError, TypeError, ValueError):
        return None
