"""Interfaces that must not break: the files that a workstream's `contracts` name, compared between two trees.

Python is compared by griffe, from texts laid out in a temporary folder: nothing is imported or run. Other languages
by their public definitions (tree-sitter): what was removed, and what has another signature. Beside each break stand
the places that use the name. A file in a language that nobody reads here breaks only by going away.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from msgspec import Struct

from parallelai.git.plumbing import Git
from parallelai.plan.files import Matcher
from parallelai.processes.temporary import temporary_folder
from parallelai.work.guard.words import shown
from parallelai.work.symbols import Definition, definitions, family_of, language_of, parses, uses

if TYPE_CHECKING:
    import griffe

MOST_CONTRACTS = 200
MOST_BREAKS = 200
MOST_CALLERS = 20
"""Places that are named for one break."""
MOST_MODULES = 400
MOST_BYTES = 8 * 1024 * 1024
"""Of a package that is laid out whole; of a larger one the contract alone is compared."""
_ALONE = "contract"
_WORDS = {
    "PARAMETER_MOVED": "its parameter {value} is at another place",
    "PARAMETER_REMOVED": "its parameter {value} was removed",
    "PARAMETER_CHANGED_KIND": "its parameter {value} is given in another way (by place, by name)",
    "PARAMETER_CHANGED_DEFAULT": "its parameter {value} has another default",
    "PARAMETER_CHANGED_REQUIRED": "its parameter {value} must be given now",
    "PARAMETER_ADDED_REQUIRED": "it has a new parameter {value}, which must be given",
    "RETURN_CHANGED_TYPE": "it gives back another type",
    "OBJECT_REMOVED": "it was removed",
    "OBJECT_CHANGED_KIND": "it is something else now (such as a class instead of a function)",
    "CLASS_REMOVED_BASE": "it lost a base class",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """A place that uses a name; the line counts from 1."""

    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Broken:
    """What is not as an interface promised.

    Attributes:
        symbol: the qualified name within the file; empty for the file itself.
        what: what happened to it, in words.
        path: the contract's file. `line` is where the symbol is, or was, from 1.
        callers: who uses it in the new tree, the contract's own file excepted.
    """

    symbol: str
    what: str
    path: str
    line: int = 1
    callers: tuple[Caller, ...] = ()

    @property
    def said(self) -> str:
        """The whole of it, in one sentence."""
        name = f"{shown(self.symbol)} in " if self.symbol else ""
        used = ""
        if self.callers:
            places = ", ".join(f"{shown(each.path)}:{each.line}" for each in self.callers[:5])
            more = len(self.callers) - 5
            used = f"; it is used in {places}" + (f" and {more} more places" if more > 0 else "")
        return f"{name}{shown(self.path)}: {self.what}{used}"


async def broken(git: Git, before: str, after: str, contracts: Sequence[str]) -> list[Broken]:
    """Compare the contracts of two trees (or commits), whose files patterns name, and say what broke.

    Raises `GitError`.
    """
    if not contracts:
        return []
    matcher = Matcher(contracts)
    old, new = await _entries(git, before), await _entries(git, after)
    named = [path for path in sorted(old) if matcher.selects(path)]
    others = {path for path in {*old, *new} if old.get(path) != new.get(path)}
    changed = [path for path in named if _is_changed(path, others)][:MOST_CONTRACTS]
    found: list[Broken] = []
    for path in changed:
        found += await _compared(git, path, old, new)
    found = found[:MOST_BREAKS]
    return [await _with_callers(git, each, after, new) for each in found]


def _is_changed(path: str, changed: Collection[str]) -> bool:
    """Whether a contract may be another one: what a Python package exports often lies in other files."""
    folder, _, name = path.rpartition("/")
    if path in changed or name != "__init__.py":
        return path in changed
    return any(each.startswith(f"{folder}/") and each.endswith(".py") for each in changed)


async def _entries(git: Git, tree: str) -> dict[str, str]:
    """The files of a tree, by path, with their objects."""
    listed = await git.run("ls-tree", "-r", "-z", tree)
    rows = (row.split(b"\t", 1) for row in listed.split(b"\0") if row)
    return {os.fsdecode(path): meta.split()[2].decode() for meta, path in rows if meta.startswith(b"100")}


async def _compared(git: Git, path: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[Broken]:
    if path not in new:
        return [Broken("", "the file is gone", path)]
    texts = await git.blobs({old[path], new[path]})
    first, second = texts.get(old[path], b""), texts.get(new[path], b"")
    if parses(path, first) is not False and parses(path, second) is False:
        return [Broken("", "it has a syntax error", path)]
    if language_of(path) == "python":
        sides = [await _module(git, path, entries) for entries in (old, new)]
        found = await asyncio.to_thread(_compared_by_griffe, path, *sides)
        if found is not None:
            return found
    return compared_by_definitions(path, definitions(path, first), definitions(path, second))


# -- by definitions


def compared_by_definitions(
    path: str, before: Iterable[Definition], after: Iterable[Definition]
) -> list[Broken]:
    """Say which public definitions went, or have another signature. Of several of one name one has to stay."""
    old, new = _public(before), _public(after)
    found = []
    for name, each in old.items():
        now = new.get(name)
        if now is None:
            found.append(Broken(name, "it was removed", path, each[0].first))
        elif not {one.signature for one in each} & {one.signature for one in now}:
            what = f"its signature was `{each[0].signature[:200]}`, and is `{now[0].signature[:200]}`"
            found.append(Broken(name, what, path, now[0].first))
    return found


def _public(found: Iterable[Definition]) -> dict[str, list[Definition]]:
    names: dict[str, list[Definition]] = {}
    for each in found:
        if each.is_public:
            names.setdefault(each.name, []).append(each)
    return names


# -- by griffe


class _Module(Struct, frozen=True):
    """A Python module with the files of its package, by their paths below the folder that it is imported from."""

    name: str
    files: Mapping[str, bytes]


async def _module(git: Git, path: str, entries: Mapping[str, str]) -> _Module:
    """Gather a module with its package, if that is of a decent size; else by itself."""
    top, inside = _package(path, entries)
    parts = PurePosixPath(inside).with_suffix("").parts
    if not all(part.isidentifier() for part in parts):
        return _Module(_ALONE, {f"{_ALONE}.py": await _text(git, entries[path])})
    package = f"{top}{parts[0]}/"
    wanted = [each for each in entries if each.startswith(package) and each.endswith(".py")]
    if len(parts) == 1 or len(wanted) > MOST_MODULES or await _size(git, wanted, entries) > MOST_BYTES:
        wanted = [path]
        wanted += [f"{top}{'/'.join(parts[:end])}/__init__.py" for end in range(1, len(parts))]
    texts = await git.blobs({entries[each] for each in wanted if each in entries})
    files = {each.removeprefix(top): texts.get(entries.get(each, ""), b"") for each in wanted}
    fit = {name: text for name, text in files.items() if _is_module(name)}
    return _Module(".".join(part for part in parts if part != "__init__"), fit)


def _package(path: str, entries: Mapping[str, str]) -> tuple[str, str]:
    """Where a module is imported from (ends with a slash, or is empty), and its path below that."""
    folder = PurePosixPath(path).parent
    while str(folder) != "." and f"{folder}/__init__.py" in entries:
        folder = folder.parent
    top = "" if str(folder) == "." else f"{folder}/"
    return top, path.removeprefix(top)


def _is_module(name: str) -> bool:
    return name.endswith(".py") and all(part.isidentifier() for part in name.removesuffix(".py").split("/"))


async def _text(git: Git, blob: str) -> bytes:
    return (await git.blobs({blob})).get(blob, b"")


async def _size(git: Git, paths: Iterable[str], entries: Mapping[str, str]) -> int:
    stdin = "".join(f"{entries[path]}\n" for path in paths).encode()
    listed = await git.run("cat-file", "--batch-check=%(objectsize)", stdin=stdin) if stdin else b""
    return sum(int(line) for line in listed.split() if line.isdigit())


def _compared_by_griffe(path: str, before: _Module, after: _Module) -> list[Broken] | None:
    """Compare two modules; None where griffe cannot read one of them."""
    import griffe

    with temporary_folder("interfaces") as folder:
        try:
            sides = [_load(folder / name, side) for name, side in (("old", before), ("new", after))]
            breakages = list(griffe.find_breaking_changes(*sides))
        # Whatever it cannot read of a hostile file: the definitions are compared then.
        except (
            griffe.GriffeError,
            OSError,
            SyntaxError,
            ValueError,
            LookupError,
            RecursionError,
            MemoryError,
        ):
            return None
    return list(dict.fromkeys(_told(path, each) for each in breakages))


def _load(folder: Path, module: _Module) -> griffe.Object | griffe.Alias:
    """Lay a module out and read it; statically, from this folder only."""
    import griffe

    for name, text in module.files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text)
    loader = griffe.GriffeLoader(search_paths=[folder], allow_inspection=False, store_source=False)
    loader.load(module.name, try_relative_path=False)
    loader.resolve_aliases(implicit=True, external=False)
    found: griffe.Module | griffe.Alias = loader.modules_collection.get_member(module.name)
    return found


def _told(path: str, breakage: griffe.Breakage) -> Broken:
    value = breakage.old_value if breakage.old_value is not None else breakage.new_value
    name = getattr(value, "name", "")
    what = _WORDS.get(breakage.kind.name, breakage.kind.value).format(value=shown(str(name)))
    found = breakage.obj
    within = found.parent.module.path if found.is_alias and found.parent is not None else found.module.path
    symbol = found.path.removeprefix(f"{within}.") if found.path != within else ""
    line = None if found.is_alias else found.lineno
    return Broken(symbol, what, path, line or 1)


# -- who uses it


async def _with_callers(git: Git, found: Broken, tree: str, entries: Mapping[str, str]) -> Broken:
    """Add the places that use the bare name, in files of its language that are parsed and hold it."""
    bare = found.symbol.rpartition(".")[2] or PurePosixPath(found.path).stem
    if not bare.isidentifier():
        return found
    listed = await git.attempt("grep", "-z", "-l", "-F", "-w", "-I", "-e", bare, tree, "--")
    names = [os.fsdecode(row).partition(":")[2] for row in listed.stdout.split(b"\0") if row]
    callers: list[Caller] = []
    for path in names:
        family = family_of(path)
        if path == found.path or family is None or family != family_of(found.path) or path not in entries:
            continue
        text = await _text(git, entries[path])
        used = await asyncio.to_thread(uses, path, text)
        callers += [
            Caller(path, line) for line in dict.fromkeys(use.line for use in used if use.name == bare)
        ]
        if len(callers) >= MOST_CALLERS:
            break
    return Broken(found.symbol, found.what, found.path, found.line, tuple(callers[:MOST_CALLERS]))
