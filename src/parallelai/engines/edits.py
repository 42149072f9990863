"""Changes as data: what an engine without hands answers to a task that edits.

    {"files": [{"path": "a.py", "content": "…"},
               {"path": "b.py", "edits": [{"old": "x = 1", "new": "x = 2"}]},
               {"path": "c.py", "delete": true}]}

A path is relative to the project. `old` stands in the file exactly once.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from parallelai.engines.replies import parse_json
from parallelai.engines.untrusted import safe_path
from parallelai.errors import Invalid, UsageError
from parallelai.plan.files import read_text

MAX_FILES = 2_000
_TEXT = {"type": "string"}


def _entry(properties: Mapping[str, Any]) -> dict[str, Any]:
    whole = {"path": {"type": "string", "description": "relative to the project's root"}, **properties}
    return {
        "type": "object",
        "properties": whole,
        "required": list(whole),
        "additionalProperties": False,
    }


CHANGE_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "files": {
            "type": "array",
            "items": {
                "anyOf": [
                    _entry({"content": {"type": "string", "description": "the whole file, as it is to be"}}),
                    _entry(
                        {
                            "edits": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "properties": {"old": _TEXT, "new": _TEXT},
                                    "required": ["old", "new"],
                                    "additionalProperties": False,
                                },
                            }
                        }
                    ),
                    _entry({"delete": {"type": "boolean", "enum": [True]}}),
                ]
            },
        }
    },
    "required": ["files"],
    "additionalProperties": False,
}
"""In the subset of JSON Schema that model servers can hold an answer to."""

CHANGE_SHAPE = """\
Answer with one JSON object and nothing else: {"files": [...]}, with one element for each file that changes:
{"path": "...", "content": "the whole file as it is to be"} for a new file or one that changes throughout,
{"path": "...", "edits": [{"old": "...", "new": "..."}]} to replace text, where each "old" is copied character by
character from the file and stands in it exactly once, or {"path": "...", "delete": true}. Paths are relative to
the project's root, as they were given. {"files": []} where nothing is to be changed."""
"""What a prompt says where an answer is to be a change."""


class Replacement(Struct, frozen=True):
    """`old`, which stands in the file exactly once, becomes `new`."""

    old: str
    new: str


class FileEdit(Struct, frozen=True):
    """What becomes of a file: `content` is the whole of it, `edits` change parts; or it goes.

    `path` is relative, in POSIX form, and leads nowhere out; links on its way are for who writes it to refuse.
    """

    path: str
    content: str | None = None
    edits: tuple[Replacement, ...] = ()
    delete: bool = False

    def apply(self, before: str | None) -> str | None:
        """Give the file's text after the change; None if it goes. `before` is None where there is none.

        Raises `Invalid` where it does not fit.
        """
        if self.delete:
            if before is None:
                raise Invalid(f"`{self.path}` is to be deleted, and is not there")
            return None
        if self.content is not None:
            return self.content
        if before is None:
            raise Invalid(f"`{self.path}` is to be edited, and is not there")
        return _replaced(self.path, before, self.edits)


def _replaced(path: str, before: str, edits: tuple[Replacement, ...]) -> str:
    """Every `old` is looked up in the file as it was, so that the order of edits does not matter."""
    # A model writes `\n`; a file of a Windows user keeps its own line ends.
    is_crlf = "\r\n" in before and "\n" not in before.replace("\r\n", "")
    text = before.replace("\r\n", "\n") if is_crlf else before
    places: list[tuple[int, int, str]] = []
    for number, edit in enumerate(edits, 1):
        old, new = (one.replace("\r\n", "\n") if is_crlf else one for one in (edit.old, edit.new))
        found = text.count(old) if old else 0
        if found != 1:
            times = "is nowhere" if not found else f"stands {found} times"
            raise Invalid(f"edit {number} of `{path}`: its `old` text {times} in the file")
        start = text.index(old)
        places.append((start, start + len(old), new))
    places.sort()
    for (_, end, _), (start, _, _) in itertools.pairwise(places):
        if start < end:
            raise Invalid(f"two edits of `{path}` change the same text")
    for start, end, new in reversed(places):
        text = text[:start] + new + text[end:]
    return text.replace("\n", "\r\n") if is_crlf else text


def check_fit(edits: tuple[FileEdit, ...], root: Path) -> None:
    """Look whether replacements fit the files below `root`, so that the model can be told while it is there.

    What cannot be read is for who writes them. Raises `Invalid` with what does not fit.
    """
    for edit in edits:
        if not edit.edits:
            continue
        try:
            before = read_text(root, edit.path)
        except FileNotFoundError:
            before = None
        except (OSError, UsageError):
            continue
        edit.apply(before)


def read_edits(text: str) -> tuple[FileEdit, ...]:
    """Read an answer, whole or in a fenced block. Raises `Invalid` with what is wrong."""
    return edits_of(parse_json(text, {}))


def edits_of(data: Any) -> tuple[FileEdit, ...]:
    """Read data, such as a reply's `data`. Raises `Invalid`.

    More is taken than `CHANGE_SCHEMA` allows: keys that say nothing are passed over, and so is a null.
    """
    files = data.get("files") if isinstance(data, dict) else None
    if not isinstance(files, list):
        raise Invalid("the reply holds no `files`", next="an object with a list `files` is expected")
    if len(files) > MAX_FILES:
        raise Invalid(f"the reply changes {len(files):,} files; at most {MAX_FILES:,} are taken")
    edits = tuple(_edit(item, position) for position, item in enumerate(files, 1))
    seen: set[str] = set()
    for edit in edits:
        if edit.path in seen:
            raise Invalid(f"the reply changes `{edit.path}` twice")
        seen.add(edit.path)
    return edits


def edits_to_data(edits: tuple[FileEdit, ...]) -> dict[str, Any]:
    """Give edits as data that fit `CHANGE_SCHEMA`."""
    files: list[dict[str, Any]] = []
    for edit in edits:
        if edit.delete:
            files.append({"path": edit.path, "delete": True})
        elif edit.content is not None:
            files.append({"path": edit.path, "content": edit.content})
        else:
            parts = [{"old": one.old, "new": one.new} for one in edit.edits]
            files.append({"path": edit.path, "edits": parts})
    return {"files": files}


def _edit(item: Any, position: int) -> FileEdit:
    if not isinstance(item, dict) or not isinstance(item.get("path"), str):
        raise Invalid(f"file {position}: it has no `path`")
    try:
        path = safe_path(item["path"])
    except Invalid as error:
        raise Invalid(f"file {position}: {error.said}") from None
    kinds = [key for key in ("content", "edits", "delete") if item.get(key) not in (None, False)]
    if len(kinds) != 1:
        raise Invalid(f"`{path}`: exactly one of `content`, `edits` and `delete` is expected")
    content = item.get("content")
    if kinds == ["content"]:
        if not isinstance(content, str):
            raise Invalid(f"`{path}`: `content` is not a text")
        return FileEdit(path, content=content)
    if kinds == ["delete"]:
        return FileEdit(path, delete=True)
    return FileEdit(path, edits=_replacements(path, item["edits"]))


def _replacements(path: str, edits: Any) -> tuple[Replacement, ...]:
    is_list = isinstance(edits, list) and bool(edits)
    if not is_list or not all(
        isinstance(one, dict) and isinstance(one.get("old"), str) and isinstance(one.get("new"), str)
        for one in edits
    ):
        raise Invalid(f"`{path}`: `edits` is not a list of objects with `old` and `new`")
    return tuple(Replacement(one["old"], one["new"]) for one in edits)
