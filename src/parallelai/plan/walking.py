"""Lists a folder that git does not know, by git's own rules of what is ignored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from parallelai.plan.files import FileTree
from parallelai.plan.patterns import Pattern, parse

IGNORE_BYTES = 1024 * 1024
"""How much of one `.gitignore` is read."""

_ALWAYS_OUT = frozenset(
    {".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", ".tox", ".nox"}
    | {".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
)
_STATE = ".parallelai/state"


def walk(root: Path) -> FileTree:
    """List a folder that git does not know, obeying the `.gitignore` files in it.

    Follows no link; version control, caches and virtual environments are left out. Folders that cannot be
    read count as empty.
    """
    found: list[str] = []
    pending: list[tuple[str, tuple[_Ignores, ...]]] = [("", ())]
    while pending:
        folder, ignores = pending.pop()
        own = _read_ignores(root, folder)
        if own is not None:
            ignores = (own, *ignores)
        for name, is_folder in _entries(root / folder):
            path = f"{folder}{name}"
            if _is_left_out(path, name, is_folder) or _is_ignored(path, is_folder, ignores):
                continue
            if is_folder and not os.path.exists(root / path / "pyvenv.cfg"):  # noqa: PTH110  # never raises
                pending.append((f"{path}/", ignores))
            elif not is_folder:
                found.append(path)
    return FileTree(root, tuple(sorted(found)))


class _Ignores(Struct, frozen=True):
    folder: str  # ends with `/`, or is empty
    patterns: tuple[Pattern, ...]  # the last one first


def _read_ignores(root: Path, folder: str) -> _Ignores | None:
    path = root / folder / ".gitignore"
    try:
        if path.is_symlink() or not path.is_file():
            return None
        with path.open("rb") as stream:
            text = stream.read(IGNORE_BYTES).decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    except OSError:
        return None
    parsed = [pattern for line in text.split("\n") if (pattern := parse(line)) is not None]
    return _Ignores(folder, tuple(reversed(parsed))) if parsed else None


def _is_ignored(path: str, is_folder: bool, ignores: tuple[_Ignores, ...]) -> bool:
    """Ask the nearest `.gitignore` first; folders above are known not to be ignored."""
    for own in ignores:
        relative = path[len(own.folder) :]
        for pattern in own.patterns:
            if (is_folder or not pattern.is_folder_only) and pattern.entry.fullmatch(relative):
                return not pattern.is_negated
    return False


def _is_left_out(path: str, name: str, is_folder: bool) -> bool:
    return name == ".git" or (is_folder and (name in _ALWAYS_OUT or path == _STATE))


def _entries(folder: Path) -> Iterator[tuple[str, bool]]:
    """The names in a folder, with whether each is a folder; a link counts as a file, as it does for git."""
    try:
        with os.scandir(folder) as entries:
            listed = list(entries)
    except OSError:
        return
    for entry in listed:
        is_folder = entry.is_dir(follow_symlinks=False)
        if is_folder or entry.is_symlink() or entry.is_file(follow_symlinks=False):
            yield entry.name, is_folder
