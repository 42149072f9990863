"""Conflicts that merge cleanly: one side took away or changed what the other has just begun to use.

By names, without types: a definition that is gone from a file, or whose parameters are others, and a use of
that name on lines that the other side added, in a file that names the definition's module or class. Names that
are still defined elsewhere are left out, so that what is told is worth reading.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from msgspec import Struct

from parallelai.work.conflicts.changes import Patch
from parallelai.work.conflicts.imports import Imported, reach, wanted_from
from parallelai.work.conflicts.naming import imports_from, known_as, owner_in
from parallelai.work.symbols import Definition, Use, language_of

What = Literal["removed", "renamed", "changed"]
RISKS: Mapping[What, float] = {"removed": 0.8, "renamed": 0.8, "changed": 0.6}
"""How likely each is to break what lands second."""
MOST = 20
_WORD = re.compile(r"[^\W\d]\w*")
_KEYWORDS = (
    "def|class|func|function|fn|interface|type|struct|enum|trait|const|let|var|static|module|union|define"
    "|macro_rules!"
)
_DEFINED = re.compile(rf"\b(?:{_KEYWORDS})\s+(?:\([^)]{{0,200}}\)\s*)?(\w+)")
_DEFINABLE = re.compile(rf"{_DEFINED.pattern}|([^\W\d]\w*)\s*[(=:]")
_WITH_KEYWORDS = {"python", "go", "rust", "ruby", "php"}
_TOP = re.compile(r"^(?:export\s+)?(?:pub\s+)?(?:const|let|var|static)\s+(?:mut\s+)?(\w+)")
_NAMED = re.compile(
    r"\b(?:def|class|func|function|fn|interface|type|struct|enum|trait|module|union|define|macro_rules!)\s+"
    r"(?:\([^)]{0,200}\)\s*)?(\w+)"
)
_CONSTANT = re.compile(r"^\s{0,8}([A-Z_]\w*)\b[^=(]{0,80}=")
_GROUPED = re.compile(r"^\s{1,8}(\w+)\s+(?:struct|interface)\b")
_STARTING = re.compile(r"^\s*(?:[\w*&<>\[\]]{1,60}\s+){0,4}[*&]{0,2}(\w+)\s*[(=:<]")
_BY_KEYWORD = (_TOP, _NAMED, _CONSTANT, _GROUPED)
_BY_PLACE = (_TOP, _NAMED, _STARTING)
_COMMON = frozenset(("args", "cls", "ctx", "err", "kwargs", "main", "nil", "null", "self", "super", "this"))


@dataclass(frozen=True, slots=True)
class Broken:
    """A definition that one side took away or changed, as it was before; `line` in the base's file.

    `now` is what it is called since, for a renamed one, or its new signature.
    """

    name: str
    signature: str
    what: What
    path: str
    line: int
    now: str = ""
    kind: str = "function"
    is_public: bool = True

    @property
    def bare(self) -> str:
        """The name without what it lies in."""
        return self.name.rpartition(".")[2]


class Clash(Struct, frozen=True):
    """A broken definition, and the use of it that the other side added.

    `is_named`: the use says from which file it wants the name, so that what else defines it matters only where it
    fits as well: by Python's `module`.
    """

    broken: Broken
    path: str
    line: int
    is_named: bool = False
    module: str = ""


class User(Struct, frozen=True):
    """A file of the other side that may use what is gone.

    Attributes:
        lines: the lines that were added to it, by their number from 1.
        own: bare names that these define.
        words: all words of the file, and what `naming.bound` gives.
        imports: what it imports, where it is Python.
    """

    path: str
    lines: Mapping[int, str]
    own: Collection[str] = ()
    words: Collection[bytes] = ()
    imports: Sequence[Imported] = ()


def is_telling(name: str) -> bool:
    """Whether a name is rare enough that its use means this definition."""
    return len(name) > 2 and name not in _COMMON and not name.startswith(("__", "test_", "Test"))


def removed_names(patch: Patch) -> dict[str, set[str]]:
    """Give, by file, the names on removed lines that could have been defined there for others to use."""
    found = {}
    for path, hunks in patch.items():
        patterns = _BY_KEYWORD if language_of(path) in _WITH_KEYWORDS else _BY_PLACE
        lines = [line for hunk in hunks for line in hunk.removed]
        names = {name for line in lines for pattern in patterns for name in pattern.findall(line)}
        if telling := {name for name in names if is_telling(name)}:
            found[path] = telling
    return found


def added_names(patch: Patch) -> dict[str, set[str]]:
    """Give, by file, the names on added lines that are on no removed line of the file."""
    found = {}
    for path, hunks in patch.items():
        added = _words(line for hunk in hunks for line in hunk.added)
        if names := added - _words(line for hunk in hunks for line in hunk.removed):
            found[path] = names
    return found


def defined_names(patch: Patch) -> set[str]:
    """Give the names that added lines define, by their keywords: what is moved is not gone."""
    lines = (line for hunks in patch.values() for hunk in hunks for line in hunk.added)
    return {name for line in lines for name in _DEFINED.findall(line)}


def names_defined(lines: Sequence[str]) -> list[str]:
    """Name what lines define, told without parsing: by keyword, else what the first line could define."""
    found = [name for line in lines for name in _DEFINED.findall(line)]
    first = next((line for line in lines if line.strip()), "")
    return found or [name for pair in _DEFINABLE.findall(first)[:1] for name in pair if name]


def _words(lines: Iterable[str]) -> set[str]:
    return {word for line in lines for word in set(_WORD.findall(line)) if is_telling(word)}


def broken(path: str, before: Sequence[Definition], after: Sequence[Definition]) -> list[Broken]:
    """Compare what a file defined with what it defines now."""
    now = {one.name: one for one in after}
    once = {one.name for one in before}
    fresh = [one for one in after if one.name not in once]
    found = []
    for one in before:
        kept = now.get(one.name)
        if kept is None and one.kind != "declaration":
            other = next((new for new in fresh if _is_renamed(one, new)), None)
            found.append(
                _broken(path, one, "removed" if other is None else "renamed", other.bare if other else "")
            )
        elif kept is not None and not still_fits(one.signature, kept.signature):
            found.append(_broken(path, one, "changed", shown(kept)))
    return found


def _broken(path: str, one: Definition, what: What, now: str) -> Broken:
    return Broken(one.name, shown(one), what, path, one.first, now, one.kind, one.is_public)


def _is_renamed(old: Definition, new: Definition) -> bool:
    """The same signature under another name, in the same surroundings."""
    if old.kind != new.kind or old.name.rpartition(".")[0] != new.name.rpartition(".")[0]:
        return False
    if old.kind in ("constant", "type", "class"):
        return False
    return "(" in old.signature and old.signature.replace(old.bare, new.bare, 1) == new.signature


def shown(one: Definition) -> str:
    """A definition as its users write it: `load(path)`."""
    found = _parameters(one.signature)
    return f"{one.bare}({found})" if found is not None else one.bare


def _parameters(signature: str) -> str | None:
    """What is between the brackets after the name; None for what is not called."""
    text = re.sub(r"^func \([^)]*\) ", "func ", signature)
    start = text.find("(")
    if start < 0:
        return None
    depth = 0
    for at in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return text[start + 1 : at].strip().rstrip(",")
    return text[start + 1 :].strip()


def still_fits(before: str, after: str) -> bool:
    """Whether who called the first signature can call the second: as it was, or with optional ones added."""
    old, new = _parameters(before), _parameters(after)
    if old is None or new is None or before.lstrip().startswith(("class ", "type ")):
        return True
    ours, theirs = _split(old), _split(new)
    if ours == theirs[: len(ours)]:
        return all(_is_optional(each) for each in theirs[len(ours) :])
    return [_bare(each) for each in ours] == [_bare(each) for each in theirs]


def _split(parameters: str) -> list[str]:
    found, depth, word = [], 0, ""
    for letter in parameters:
        depth += {"(": 1, "[": 1, "{": 1, "<": 1, ")": -1, "]": -1, "}": -1, ">": -1}.get(letter, 0)
        if letter == "," and depth <= 0:
            found.append(word.strip())
            word = ""
        else:
            word += letter
    return [each for each in (*found, word.strip()) if each]


def _is_optional(parameter: str) -> bool:
    return (
        "=" in parameter or parameter.startswith(("*", "...", "&")) or parameter.split(":")[0].endswith("?")
    )


def _bare(parameter: str) -> str:
    """A parameter without its default; one of a typed language keeps its type, which callers see."""
    return parameter.partition("=")[0].strip()


def clashes(
    gone: Sequence[Broken],
    defined: Collection[str],
    user: User,
    uses: Iterable[Use],
    is_passed_on: Callable[[Broken], bool],
) -> list[Clash]:
    """Match what one side broke with what the other's file began to use.

    `defined` are bare names that either side's added lines define. `is_passed_on` says whether the file that a
    definition is gone from still gives its users something of that name.
    """
    names = {each.bare: each for each in gone}
    renamed = _renamed(gone, user)
    found: list[Clash] = []
    for use in uses:
        each = renamed.get(use.name) or names.get(use.name)
        line = user.lines.get(use.line)
        if each is None or line is None or use.name in user.own:
            continue
        source = _source(each, line, user, use.name)
        if source is None:
            continue
        is_changed = each.what == "changed"
        is_named = source.is_named and (is_changed or not is_passed_on(each))
        if not use.is_call if is_changed else use.name in defined and not is_named:
            continue
        found.append(Clash(each, user.path, use.line, is_named, source.module))
        if len(found) >= MOST:
            break
    return found


class _Source(Struct, frozen=True):
    """Whether a use says itself from which file it wants a name, and by which of Python's modules."""

    is_named: bool = False
    module: str = ""


def _renamed(gone: Sequence[Broken], user: User) -> dict[str, Broken]:
    """The names of its own by which a file calls functions that are changed: `from io import read as load`."""
    return {
        each.name: one
        for each in user.imports
        for one in gone
        if each.is_alone and one.what == "changed" and each.item == one.name
        if wanted_from((each,), one.name, "", user.path, one.path) is not None
    }


def _source(gone: Broken, line: str, user: User, name: str) -> _Source | None:
    """From where a use on a line wants a name; None where it is another's than the file's that it is gone from.

    `name` is what the definition is called there.
    """
    owner = owner_in(line, name)
    if name != gone.bare:
        imports = [each for each in user.imports if each.name == name]
        module = wanted_from(imports, gone.bare, "", user.path, gone.path) if owner == "" else None
        return _from(module, user, gone)
    if "." in gone.name or user.path == gone.path or language_of(user.path) != "python":
        is_named = (
            gone.what != "changed" and "." not in gone.name and imports_from(line, user.path, gone.path)
        )
        return None if _is_others(gone, line, user.words) else _Source(is_named)
    if owner is None or (owner and all(each.name != owner for each in user.imports)):
        return None if _is_others(gone, line, user.words) else _Source()
    return _from(wanted_from(user.imports, gone.bare, owner, user.path, gone.path), user, gone)


def _from(module: str | None, user: User, gone: Broken) -> _Source | None:
    if module is None:
        return None
    return _Source(bool(module) and reach(module, user.path, gone.path) is not None, module)


def _is_others(gone: Broken, line: str, words: Collection[bytes]) -> bool:
    """Whether a line wants a name of some object, and what is gone is a module's."""
    owner = owner_in(line, gone.bare)
    if not owner or "." in gone.name:
        return False
    modules = {
        known_as(gone.path),
        known_as(gone.path, is_folder=True),
        *PurePosixPath(gone.path).parts[-3:-1],
    }
    return owner not in modules and b"as " + owner.encode() not in words


def told(clash: Clash, user: str, breaker: str) -> str:
    """Say in one sentence who uses what, and what became of it."""
    gone = clash.broken
    verb = "calls" if "(" in gone.signature else "uses"
    did = {
        "removed": "removed",
        "renamed": f"renamed to `{gone.now}`",
        "changed": f"changed to `{gone.now}`",
    }[gone.what]
    return f"{user} {verb} `{gone.signature}`, which {breaker} {did} ({gone.path}:{gone.line})"
