"""What a Python file imports, and which file that can be. Pure.

Where Python looks for modules is not written in a file, so it is told by how projects are laid out: from the root,
from the folders above the file that imports, and from the source folders (`src`, `lib`, `python`) in any of these.
The nearest is meant.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

SOURCES = frozenset(("src", "lib", "python"))
"""Folders that no import names."""
_COMMENT = re.compile(rb"#[^\n]*")
_REST = rb"(?:[^\\\n]|\\\r?\n)*"
# What is between brackets is bounded, so that many that are never closed cost little.
_FROM = re.compile(
    rb"^[ \t]*from[ \t]+(\.*[\w.]*)[ \t]+import\b[ \t]*(\([^)]{0,4000}\)|" + _REST + rb")", re.MULTILINE
)
_IMPORT = re.compile(rb"^[ \t]*import[ \t]+(" + _REST + rb")", re.MULTILINE)
# What else a name may be given to; a default or an annotation counts as well: such a name is not followed.
_BINDINGS = (
    re.compile(rb"\bfor\b([^\n:]{1,100}?)\bin\b"),
    re.compile(rb"\b(?:def|class)[ \t]+(\w+[ \t]*(?:\([^)]{0,4000})?)"),
    re.compile(rb"\blambda\b([^:\n]{0,100}):"),
    re.compile(rb"\b(\w+)[ \t]*:="),
    re.compile(rb"\bcase\b([^:\n]{0,100}):"),
)
_AS = re.compile(rb"\bas[\s\\(]+(\w+(?:[ \t]*,[ \t]*\w+)*)")
_WORD = re.compile(r"\w+")
_ITEM = re.compile(r"[\s\\(]*([\w.]+|\*)(?:[\s\\]+as[\s\\]+(\w+))?")
STAR = "*"


@dataclass(frozen=True, slots=True)
class Imported:
    """One name that a file imports, and what it is called there.

    `module` is as it is written, with its leading dots; `item` is what is taken from it, None for the module itself.
    `is_alone`: of an item that has another name there, that nothing else in the file may be meant by that.
    """

    module: str
    item: str | None
    name: str
    is_alone: bool = False

    @property
    def whole(self) -> str:
        """The module that it is, if it is one."""
        if self.item is None:
            return self.module
        return f"{self.module}{'' if self.module.endswith('.') else '.'}{self.item}"


def imported(text: bytes) -> tuple[Imported, ...]:
    """Give all that a file's text imports, wherever in it that is."""
    bare = _COMMENT.sub(b"", text)
    found = dict.fromkeys((*_modules(bare), *_items(bare)))
    times = Counter(each.name for each in found)
    renamed = {each.name for each in found if each.item not in (None, each.name) and times[each.name] == 1}
    alone = renamed - _bound(bare) if renamed else renamed
    return tuple(replace(each, is_alone=True) if each.name in alone else each for each in found)


def _bound(text: bytes) -> set[str]:
    """The names that a file may give to something beside what it imports."""
    given = [part for each in _BINDINGS for part in each.findall(text)]
    assigned = (line.partition(b"=") for line in text.split(b"\n") if b"=" in line)
    given += (
        before for before, _, _ in assigned if b"(" not in before
    )  # what is within brackets names a parameter
    found = {word for part in given for word in _words(part)}
    named = Counter(word for part in _AS.findall(text) for word in _words(part))
    return found | {word for word, count in named.items() if count > 1}


def _words(given: bytes) -> list[str]:
    return _WORD.findall(given.decode("utf-8", "replace"))


def _modules(text: bytes) -> Iterator[Imported]:
    for given in _IMPORT.findall(text):
        for name, alias in _listed(given):
            if alias:
                yield Imported(name, None, alias)
                continue
            parts = name.split(".")
            for end, part in enumerate(parts, 1):
                yield Imported(".".join(parts[:end]), None, part)


def _items(text: bytes) -> Iterator[Imported]:
    for module, given in _FROM.findall(text):
        for name, alias in _listed(given):
            yield Imported(module.decode(), name, alias or name)


def _listed(given: bytes) -> Iterator[tuple[str, str]]:
    for each in given.decode("utf-8", "replace").partition(";")[0].split(","):
        found = _ITEM.match(each)
        if found is not None:
            yield found[1], found[2] or ""


# -- which file it can be


def reach(module: str, user: str, path: str) -> int | None:
    """How near the folder is from which a module's name, written in one file, leads to another: the more the nearer.

    None where it does not lead there.
    """
    parts = _parts_of(path)
    wanted = _resolved(module, user)
    if wanted is not None:
        return len(parts) if wanted == parts else None
    wanted = tuple(module.split("."))
    root = parts[: -len(wanted)]
    if (*root, *wanted) != parts:
        return None
    folder = PurePosixPath(user).parent.parts
    is_source = not root or root[-1] in SOURCES
    above = root[:-1] if root and is_source else root
    is_above = root == folder[: len(root)] or above == folder[: len(above)]
    return len(root) if is_above and (is_source or not _is_pythons_own(wanted)) else None


def may_lead_to(module: str, user: str, path: str) -> bool:
    """Whether a module's name can mean a file, also if nothing says from where: another project of the repository."""
    if reach(module, user, path) is not None:
        return True
    wanted = tuple(module.split("."))
    is_absolute = not module.startswith(".")
    return is_absolute and not _is_pythons_own(wanted) and _parts_of(path)[-len(wanted) :] == wanted


def wanted_from(imports: Sequence[Imported], name: str, owner: str, user: str, path: str) -> str | None:
    """The module from which a use wants a name, if that can be a file: as the imports have it.

    `owner` is what stands before the name. "" where a package that the file is of may pass it on; None where it is
    another's.
    """
    modules = list(_meant(imports, name, owner))
    leading = [each for each in modules if may_lead_to(each, user, path)]
    if leading:
        return leading[0]
    return "" if any(passes_on(each, user, path, is_near=not owner) for each in modules) else None


def is_about(imports: Iterable[Imported], name: str, user: str, path: str) -> bool:
    """Whether a file imports anything by which it could come to a name of another file."""
    modules = (each.module if each.item in (name, STAR) else each.whole for each in imports)
    return any(may_lead_to(each, user, path) or passes_on(each, user, path) for each in modules)


def passes_on(module: str, user: str, path: str, *, is_near: bool = True) -> bool:
    """Whether a module may pass on what a file defines: a package it lies in, or (`is_near`) one of that package."""
    folders = [PurePosixPath(path).parent.parts]
    folders += [folders[0][:-1]]
    wanted = _resolved(module, user)
    if wanted is not None:
        return wanted in folders or (is_near and wanted[:-1] == folders[0])
    wanted = tuple(module.split("."))
    if is_near:
        return not set(wanted).isdisjoint(folders[0][-2:])
    return any(folder[-len(wanted) :] == wanted for folder in folders)


def _meant(imports: Iterable[Imported], name: str, owner: str) -> Iterator[str]:
    for each in imports:
        if owner:
            if each.name == owner:
                yield each.whole
        elif each.item in (name, STAR):
            yield each.module


def _resolved(module: str, user: str) -> tuple[str, ...] | None:
    """The place that a relative name means; None for an absolute one."""
    bare = module.lstrip(".")
    if len(bare) == len(module):
        return None
    above = PurePosixPath(user).parts[: -(len(module) - len(bare))]
    return (*above, *bare.split(".")) if bare else above


def _parts_of(path: str) -> tuple[str, ...]:
    file = PurePosixPath(path).with_suffix("")
    return (file.parent if file.name == "__init__" else file).parts


def _is_pythons_own(wanted: Sequence[str]) -> bool:
    return wanted[0] in sys.stdlib_module_names
