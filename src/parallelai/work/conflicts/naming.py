"""What a line says of where a name is from: the module that it imports it from, or what stands before it. Pure.

By the text of lines, for all languages at once: what cannot be told is None, and the caller takes it as meant.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import PurePosixPath

_AROUND = {"__init__", "index", "mod", "main", "lib"}
"""Files that are known by their folder."""
_SOURCES = {"src", "lib", "python"}
"""Folders at the top that no import names."""
_PYTHON = re.compile(r"^\s*from\s+([\w.]*\w)\s+import\b")
_SCRIPT = re.compile(r"\b(?:from|require\()\s*['\"]([^'\"]+)['\"]")
_ALIAS = re.compile(
    rb"\bas\s+(\w+)"
    rb"|\b(?:const|let|var)\s+(\w+)\s*=\s*(?:await\s+)?(?:require|import)\s*\("
    rb"|^\s*import\s+(\w+)\s+from\b"
    rb"|^\s*(?:import\s+)?(\w+)\s+\"[^\"]+\"\s*$",
    re.MULTILINE,
)
_STAR = re.compile(rb"\b(?:import\s*\*(?!\s+as\b)|export\s*\*)")
STAR = b"*"


def known_as(path: str, *, is_folder: bool = False) -> str:
    """What users call the module that a file is: its name, or its folder's."""
    place = PurePosixPath(path)
    return place.parent.name if is_folder or place.stem in _AROUND else place.stem


def imports_from(line: str, user: str, path: str) -> bool:
    """Whether a line of one file imports from another: `from src.io import read`, `import {read} from "./io"`."""
    python = _PYTHON.match(line)
    if python is not None:
        return _is_module(python[1], user, path)
    script = _SCRIPT.search(line)
    if script is None:
        return False
    place = PurePosixPath(posixpath.normpath(PurePosixPath(user).parent / script[1]))
    found = PurePosixPath(path)
    return found in (place, place.with_suffix(found.suffix)) or found.with_suffix("") in (
        place,
        place / "index",
    )


def _is_module(name: str, user: str, path: str) -> bool:
    """Whether Python's name of a module can be a file's: all of its parts have to fit, or two of them."""
    file = PurePosixPath(path).with_suffix("")
    parts = (file.parent if file.name == "__init__" else file).parts
    bare = name.lstrip(".")
    wanted = tuple(bare.split("."))
    if len(bare) < len(name):
        above = PurePosixPath(user).parts[: -(len(name) - len(bare))]
        return parts == (*above, *wanted)
    short = parts[1:] if parts[0] in _SOURCES else parts
    return wanted in (parts, short) or (len(wanted) > 1 and parts[-len(wanted) :] == wanted)


def owner_in(line: str, name: str) -> str | None:
    """What stands before a name, parted by a dot, wherever a line has it: `io` of `io.read()`; "" for nothing.

    None where it is not a plain name, or several.
    """
    before = re.findall(rf"(?:([\w)\]\"'}}]+)\s*\??\.\s*)?(?<!\w){re.escape(name)}\b", line)
    if len(set(before)) != 1:
        return None
    (found,) = set(before)
    return found if not found or found.isidentifier() else None


def bound(text: bytes) -> frozenset[bytes]:
    """The names under which a file imports modules, each after `as `, and `STAR` where it passes all of one on."""
    names = {b"as " + name for found in _ALIAS.findall(text) for name in found if name}
    return frozenset(names | {STAR} if _STAR.search(text) else names)
