"""What a line says of where a name is from: the module that it imports it from, or what stands before it. Pure.

By the text of lines, for all languages at once: what cannot be told is None, and the caller takes it as meant.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import PurePosixPath

_AROUND = {".py": {"__init__"}, ".rs": {"lib", "main", "mod"}}
"""Files that are known by their folder, by ending; of other languages `index`."""
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
    is_folder = is_folder or place.stem in _AROUND.get(place.suffix, {"index"})
    return place.parent.name if is_folder else place.stem


def imports_from(line: str, user: str, path: str) -> bool:
    """Whether a line of one file imports from another: `import {read} from "./io"`; `imports` is for Python."""
    script = _SCRIPT.search(line)
    if script is None:
        return False
    place = PurePosixPath(posixpath.normpath(PurePosixPath(user).parent / script[1]))
    found = PurePosixPath(path)
    return found in (place, place.with_suffix(found.suffix)) or found.with_suffix("") in (
        place,
        place / "index",
    )


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
