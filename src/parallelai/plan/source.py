"""From a plan file's bytes to plain data and positions.

The file is hostile until proven otherwise: it is read only if it is a file of the project and not too large,
its YAML is taken from the parser's events (so nothing is nested, unfolded or constructed without a bound),
scalars follow YAML 1.2's core schema (`on`, `yes`, `012` and `12:30` are text), and tags make nothing.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import stat
from pathlib import Path, PurePath
from typing import Any

import yaml
from msgspec import Struct, field

from parallelai.errors import PlanError, Problem
from parallelai.plan.positions import Place
from parallelai.plan.values import shown

TASK_LISTS = frozenset({".md", ".markdown"})
PLANS = TASK_LISTS | {".yaml", ".yml"}
LARGEST_BYTES = 10_000_000
DEEPEST = 40
MOST_COPIES = 100_000
"""How many values the aliases of a file may unfold to."""
MOST_VALUES = 500_000
"""How many keys and values a file may have: `- a` is five bytes there, and a kilobyte when it is read."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9]\d{0,29})\Z")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]{1,16}\Z")
_FLOAT = re.compile(r"[-+]?(?:\.\d{1,30}|(?:0|[1-9]\d{0,29})(?:\.\d{0,30})?)(?:[eE][-+]?\d{1,4})?\Z")
_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset({"int", "float", "bool", "null"})


def is_task_list(file: PurePath) -> bool:
    """Say whether a plan file is a Markdown task list, by its name."""
    return file.suffix.lower() in TASK_LISTS


class Refused(Exception):
    """The text cannot be read any further."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.said)
        self.problem = problem


class Source(Struct):
    """A file as plain data, where its values stand, what was wrong with it so far, and what was left out of it.

    `finished` says of a task list that all in it is done: `all 2 tasks are done`; it is empty of any other.
    """

    data: Any
    place: Place
    problems: list[Problem] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    finished: str = ""


def _instead(path: Path, file: str) -> str:
    """What to do about a plan that is not there."""
    if " " in file and path.suffix.lower() not in PLANS:
        return (
            "a plan is a file: `parallelai init` writes a first one; put these words there as a `description`"
        )
    try:
        beside = [each.name for each in path.parent.iterdir() if each.suffix.lower() in PLANS]
    except OSError:
        beside = []
    near = difflib.get_close_matches(path.name, [each for each in beside if each.isprintable()], n=1)
    if near:
        return f"did you mean `{PurePath(file).with_name(near[0])}`?"
    return "name a plan that is there; `parallelai init` writes a first one"


def read(path: Path, *, root: Path, file: str) -> bytes:
    """Read a plan file. Raises `PlanError` for what is no readable file of this project.

    A path that is below the root, but leads out of it by a symbolic link, is refused; one that the user
    named outside of the root is taken.
    """
    try:
        _check_inside(path, root, file)
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise PlanError([Problem(f"there is no plan `{file}`", next=_instead(path, file))]) from None
    except (OSError, ValueError, RuntimeError) as error:
        raise _refusal(f"cannot be read: {_reason(error)}", file, "name a plan file") from None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise _refusal("is not a file", file, "name a plan file")
        if found.st_size > LARGEST_BYTES:
            raise _too_large(found.st_size, file)
        with os.fdopen(handle, "rb", closefd=False) as stream:
            data = stream.read(LARGEST_BYTES + 1)
    finally:
        os.close(handle)
    if len(data) > LARGEST_BYTES:
        raise _too_large(len(data), file)
    return data


def _too_large(size: int, file: str) -> PlanError:
    said = f"is too large for a plan: {size / 1e6:.1f} MB, at most {LARGEST_BYTES // 10**6} MB are read"
    return _refusal(said, file, "split it, or use `each` for many files")


def _reason(error: Exception) -> str:
    return error.strerror.lower() if isinstance(error, OSError) and error.strerror else "not a usable path"


def _refusal(said: str, file: str, advice: str | None) -> PlanError:
    return PlanError([Problem(f"the plan {said}", file, next=advice)])


def _check_inside(path: Path, root: Path, file: str) -> None:
    real_root = root.resolve()
    written = Path(os.path.abspath(path))  # noqa: PTH100  # `..` by the text alone, links not followed
    below = any(written.is_relative_to(base) for base in (Path(os.path.abspath(root)), real_root))  # noqa: PTH100
    if below and not path.resolve().is_relative_to(real_root):
        raise _refusal("is a link that leads out of the project", file, "name the file itself")


def decode(data: bytes, file: str) -> str:
    """Decode UTF-8, with or without its mark. Raises `PlanError` at the first byte that is none."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise PlanError([Problem("the plan is UTF-16, not UTF-8", file, 1, 1, "save it as UTF-8")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", "replace")
        line, column = _line_column(before, len(before))
        said = f"the plan is not UTF-8 text: byte {data[error.start]:#04x}"
        raise PlanError([Problem(said, file, line, column, "save it as UTF-8")]) from None


def _line_column(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1


def parse(text: str, file: str) -> Source:
    """Read YAML as plain data with positions. Raises `PlanError` where the text cannot be read to its end."""
    text = text.removeprefix("\ufeff")
    refuse_unreadable(text, file)
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        builder.problem(_syntax(error), _at(mark) if mark else (1, 1), _syntax_advice(error))
    except yaml.YAMLError:
        builder.problem("this is not YAML", (1, 1), "see `parallelai plan schema`")
    except Refused as refused:
        builder.problems.append(refused.problem)
    else:
        return Source(builder.data, builder.place or Place(1, 1), builder.problems)
    raise PlanError(builder.problems)


def refuse_unreadable(text: str, file: str) -> None:
    """Raise `PlanError` for a text that is too large, or has control characters in it."""
    if len(text) > LARGEST_BYTES:
        raise _too_large(len(text), file)
    control = _UNREADABLE.search(text)
    if control:
        line, column = _line_column(text, control.start())
        said = f"the plan is not text: character U+{ord(control[0]):04X}"
        raise PlanError([Problem(said, file, line, column, "leave the character out")])


def _syntax(error: yaml.MarkedYAMLError) -> str:
    said = (error.problem or "cannot be read").replace("'", "`")
    context = f" {error.context}" if error.context else ""
    return f"this is not YAML:{context}: {said}" if context else f"this is not YAML: {said}"


def _syntax_advice(error: yaml.MarkedYAMLError) -> str | None:
    problem = error.problem or ""
    if "\\t" in problem or "tab" in problem or "cannot start any token" in problem:
        return "indent with spaces, and quote text that begins with a special character"
    if "mapping values are not allowed" in problem:
        return "put text that has `: ` in it in quotes"
    if "alias" in problem:
        return "quote text that begins with `*`, or define the anchor before it"
    return "check indentation, quotes and brackets here"


def _at(mark: Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


class _Frame(Struct):
    """A mapping or list that is being read. `count` is how many values are in it, aliases unfolded.

    `is_unkeyed`: the key that was read last is none; what stands at it is read, and dropped.
    """

    container: dict[str, Any] | list[Any]
    place: Place
    anchor: str | None
    count: int = 1
    key: str | None = None
    key_at: tuple[int, int] = (0, 0)
    is_merge: bool = False
    is_unkeyed: bool = False
    merged: list[tuple[Any, Place]] = field(default_factory=list)


class _Builder:
    """Turns the parser's events into data, with its own stack."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.data: Any = None
        self.place: Place | None = None
        self.problems: list[Problem] = []
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, Place, int] | None] = {}  # None: still being read
        self._copies = 0
        self._values = 0

    def problem(self, said: str, at: tuple[int, int], advice: str | None = None) -> Problem:
        self.problems.append(Problem(said, self.file, at[0], at[1], advice))
        return self.problems[-1]

    def _refuse(self, said: str, at: tuple[int, int], advice: str) -> Refused:
        return Refused(Problem(said, self.file, at[0], at[1], advice))

    def take(self, event: Any) -> None:
        at = _at(event.start_mark)
        self._values += isinstance(event, yaml.NodeEvent)
        if self._values > MOST_VALUES:
            said = f"the plan has more than {MOST_VALUES:,} keys and values"
            raise self._refuse(said, at, "split it, or use `each` for many files")
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, at)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event.anchor or "", at)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open(event, at)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close()
        elif isinstance(event, yaml.DocumentStartEvent) and self.place is not None:
            raise self._refuse("a second YAML document begins here", at, "keep one plan in one file")

    def _scalar(self, event: Any, at: tuple[int, int]) -> None:
        if (frame := self._at_key()) is not None:
            self._key(frame, event, at)
            return
        value = self._value(event, at)
        place = Place(*at)
        if event.anchor:
            self._anchors[event.anchor] = (value, place, 1)
        self._add(value, place, 1)

    def _at_key(self) -> _Frame | None:
        """The mapping that is being read, if a key of it is what comes next."""
        frame = self._stack[-1] if self._stack else None
        return (
            frame if frame is not None and isinstance(frame.container, dict) and frame.key is None else None
        )

    @staticmethod
    def _no_key(frame: _Frame) -> None:
        frame.key, frame.is_unkeyed = "", True

    def _key(self, frame: _Frame, event: Any, at: tuple[int, int]) -> None:
        frame.key, frame.key_at = event.value, at
        frame.is_merge = event.value == "<<" and event.implicit[0]
        if "\0" in event.value:
            self.problem("a key has a NUL character", at, "leave it out")
        if event.anchor:
            self._anchors[event.anchor] = (event.value, Place(*at), 1)

    def _value(self, event: Any, at: tuple[int, int]) -> Any:
        text: str = event.value
        if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
            self.problem("the text has a NUL or half a character", at, "leave the escape out")
            return text.replace("\0", "")
        tag = event.tag
        if tag in (None, "!"):
            return core_value(text) if tag is None and event.implicit[0] else text
        short = tag.removeprefix(_TAG)
        if short in _PLAIN_TAGS:
            return core_value(text)
        if short != "str":
            self.problem(
                f"the tag {shown(_tag_name(tag))} is not taken", at, "write plain text, without a tag"
            )
        return text

    def _alias(self, name: str, at: tuple[int, int]) -> None:
        if (frame := self._at_key()) is not None:
            self.problem(f"the alias `*{name}` stands for a key", at, "write the key out")
            self._no_key(frame)
            return
        if name not in self._anchors:
            raise self._refuse(
                f"the alias `*{name}` has no anchor before it", at, f"define `&{name}`, or quote it"
            )
        found = self._anchors[name]
        if found is None:
            raise self._refuse(f"the alias `*{name}` contains itself", at, "write the values out")
        value, place, count = found
        self._copies += count
        if self._copies > MOST_COPIES:
            said = f"the aliases unfold to more than {MOST_COPIES:,} values"
            raise self._refuse(said, at, "write the values out, or use `defaults`")
        if len(self._stack) + _depth(place) > DEEPEST:
            raise self._too_deep(at)
        self._add(value, Place(*at, children=place.children), count)

    def _too_deep(self, at: tuple[int, int]) -> Refused:
        return self._refuse(f"values are nested more than {DEEPEST} deep", at, "a plan needs no such depth")

    def _open(self, event: Any, at: tuple[int, int]) -> None:
        if self._at_key() is not None:
            self.problem("a key is text, not a list or mapping", at, "write the key as text")
        if len(self._stack) >= DEEPEST:
            raise self._too_deep(at)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _TAG + ("map" if is_mapping else "seq")):
            self.problem(f"the tag {shown(_tag_name(event.tag))} is not taken", at, "leave the tag out")
        if event.anchor:
            self._anchors[event.anchor] = None
        container: dict[str, Any] | list[Any] = {} if is_mapping else []
        self._stack.append(_Frame(container, Place(*at, children={}), event.anchor))

    def _close(self) -> None:
        frame = self._stack.pop()
        for value, place in frame.merged:
            self._merge(frame, value, place)
        if frame.anchor:
            self._anchors[frame.anchor] = (frame.container, frame.place, frame.count)
        self._add(frame.container, frame.place, frame.count)

    def _add(self, value: Any, place: Place, count: int) -> None:
        if not self._stack:
            self.data, self.place = value, place
            return
        if (unkeyed := self._at_key()) is not None:  # a list or mapping where a key was to be
            self._no_key(unkeyed)
            return
        frame = self._stack[-1]
        frame.count += count
        children = frame.place.children
        assert children is not None  # noqa: S101  # a frame's place is made with them
        if isinstance(frame.container, list):
            children[len(frame.container)] = place
            frame.container.append(value)
            return
        key, frame.key = frame.key, None
        if frame.is_unkeyed:
            frame.is_unkeyed = False
            return
        assert key is not None  # noqa: S101  # the parser gives a key before each value
        place.key_line, place.key_column = frame.key_at
        if frame.is_merge:
            frame.merged.append((value, place))
        elif key in frame.container:
            said = f"the key {shown(key)} is there twice, first in line {children[key].key_line}"
            self.problem(said, frame.key_at, "keep one of them")
        else:
            frame.container[key] = value
            children[key] = place

    def _merge(self, frame: _Frame, value: Any, place: Place) -> None:
        """Carry out `<<`: keys that the mapping has itself stay."""
        values = list(value) if isinstance(value, list) else [value]
        places = list((place.children or {}).values()) if isinstance(value, list) else [place]
        if not all(isinstance(item, dict) for item in values):
            self.problem("`<<` takes a mapping, or a list of mappings", place.key, "write `<<: *name`")
            return
        assert isinstance(frame.container, dict) and frame.place.children is not None  # noqa: S101, PT018
        for item, where in zip(values, places, strict=True):
            self._copies += len(item)
            for key, inner in item.items():
                if key not in frame.container:
                    frame.container[key] = inner
                    frame.place.children[key] = (where.children or {})[key]
        if self._copies > MOST_COPIES:
            raise self._refuse(f"`<<` copies more than {MOST_COPIES:,} values", place.key, "use `defaults`")


def core_value(text: str) -> Any:
    """Read a plain scalar by YAML 1.2's core schema; a number that is too long or not finite is text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.match(text):
        return int(text)
    if _HEXADECIMAL.match(text):
        return int(text, 16)
    if _FLOAT.match(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def _tag_name(tag: str) -> str:
    return "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag


def _depth(place: Place) -> int:
    """Measure how deep a place goes; bounded by `DEEPEST`, since it was read within it."""
    if not place.children:
        return 0
    return 1 + max(_depth(child) for child in place.children.values())
