"""A first plan of workstreams for a project, made from how its folders are cut. Paths and sizes in, plan out.

The code is cut where its weight is: the heaviest folder is replaced by the folders in it, again and again, until
there are enough parts of like size. Tests and documentation wait for the code. What all of them need (lock
files, lists of dependencies, routers, main modules) is shared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from parallelai.errors import UsageError
from parallelai.plan import node_tests, python_tests
from parallelai.plan.convert import to_yaml
from parallelai.plan.load import from_mapping
from parallelai.plan.model import Plan
from parallelai.plan.patterns import escape
from parallelai.plan.shared_files import is_code, kind_of
from parallelai.plan.values import ID

MOST_PARTS: Final = 6
"""How many parts the code is cut into at most."""
_DOMINATES: Final = 0.4  # a part with this share of the code is cut again
_LIGHT: Final = 0.05  # a folder with less than this share is no part by itself
_HEAVIEST_FILE: Final = 200_000  # bytes: data that lies among the code does not decide how it is cut
_TESTS: Final = frozenset({"test", "tests", "spec", "specs", "__tests__", "e2e"})
_DOCS: Final = frozenset({"doc", "docs", "documentation"})
_PAGES = re.compile(r"\.(?:md|rst|adoc|txt)\Z", re.IGNORECASE)
_PLAIN = re.compile(r"[\w.@+/-]+\Z")
_PROTECTED: Final = (".github", ".gitlab-ci.yml", ".circleci", ".gitlab", "Jenkinsfile")
_HEADER = """\
# A start, made from the folders of the project. Say in each `description` what is to be done there, take out
# what is not needed, then `parallelai plan check` it.
"""


class Part(Struct, frozen=True):
    """What one workstream would own: patterns, and the files that they select now. `size` is in bytes."""

    name: str
    owns: tuple[str, ...]
    files: int
    size: int
    description: str
    depends_on: tuple[str, ...] = ()


class Start(Struct, frozen=True):
    """A first plan, and the parts that its workstreams were made of, in the same order."""

    plan: Plan
    parts: tuple[Part, ...]

    @property
    def yaml(self) -> str:
        """The plan as YAML, each workstream under a line that says how much is there."""
        lines, at = [], iter(self.parts)
        inside = False
        for line in to_yaml(self.plan).splitlines():
            inside = line == "workstreams:" if re.match(r"\S", line) else inside
            if inside and re.match(r"  \S", line):
                lines.append(f"  # {_amount(next(at))}")
            lines.append(line)
        return _HEADER + "\n".join(lines) + "\n"


def starting_plan(
    sizes: Mapping[str, int],
    name: str = "project",
    *,
    read: python_tests.Read = lambda path: "",
    has_modules: bool = False,
    environment: str | None = None,
) -> Start:
    """Propose workstreams for a project; `sizes` maps the paths of its files to bytes.

    `read` is asked for a few of them, to learn how its tests are run; `has_modules`: there is a `node_modules`;
    `environment`: the folder of the project's own Python environment, where that has pytest.
    Raises `UsageError` for a project without files.
    """
    known = {path: min(size, _HEAVIEST_FILE) for path, size in sizes.items() if _is_told(path)}
    if not known:
        raise UsageError("there is no file to propose workstreams for", next="go to the project's folder")
    tests, docs, code = _by_kind(known)
    cut = _Cut(known, code)
    parts = _named(cut.units(), (*tests, *docs))
    names = tuple(part.name for part in parts)
    rest = (("tests", tests, "Test"), ("docs", docs, "Document"))
    for kind, owns, verb in rest:
        if owns:
            parts.append(_after(kind, owns, verb, known, names))
    if not parts:
        parts.append(
            Part("all", ("**",), len(known), sum(known.values()), _DESCRIPTION.format("the project"))
        )
    gates = _gates(known, read)
    workspace: dict[str, Any] = {}
    if environment is not None and gates == (python_tests.PYTEST,):
        gates = (f"{environment}/bin/{python_tests.PYTEST}",)
        workspace = {"link": [environment], "env": {"PYTHONPATH": python_tests.own_code(known)}}
    elif has_modules and node_tests.command(known.keys(), read) in gates:
        workspace = {"link": [node_tests.MODULES]}
    return Start(_plan(name, parts, known, gates, workspace), tuple(parts))


_DESCRIPTION = "Say here what is to be done in {}."


def _plan(
    name: str,
    parts: Sequence[Part],
    known: Mapping[str, int],
    gates: Sequence[str],
    workspace: Mapping[str, Any],
) -> Plan:
    streams: dict[str, dict[str, Any]] = {}
    for part in parts:
        streams[part.name] = {"description": part.description, "owns": list(part.owns)}
        if part.depends_on:
            streams[part.name]["depends_on"] = list(part.depends_on)
    data: dict[str, Any] = {"version": 1, "name": name, "workstreams": streams}
    if shared := [_pattern(path) for path in shared_in(known)]:
        data["shared"] = shared
    tops = {path.partition("/")[0] for path in known}
    if protected := [_pattern(top) for top in _PROTECTED if top in tops]:
        data["protected"] = protected
    if gates:
        data["gates"] = {"landing": list(gates)}
    if workspace:  # what git ignores is in no tree by itself, and the gate cannot run without it
        data["workspace"] = dict(workspace)
    return from_mapping(data)


def shared_in(paths: Iterable[str]) -> tuple[str, ...]:
    """The likely shared files of a project, without those of packages that are projects of their own.

    In a repository of many packages each folder with a list of dependencies of its own keeps what is in it.
    """
    kinds = {path: kind for path in paths if (kind := kind_of(path)) is not None}
    packages = {path.rpartition("/")[0] for path, kind in kinds.items() if kind == "dependencies"} - {""}
    return tuple(sorted(path for path in kinds if not _is_below(path, packages)))


def _is_below(path: str, folders: set[str]) -> bool:
    parts = path.split("/")[:-1]
    return any("/".join(parts[:depth]) in folders for depth in range(1, len(parts) + 1))


def _gates(known: Mapping[str, int], read: python_tests.Read) -> tuple[str, ...]:
    """The commands that test the whole, where files say which these are."""
    if python := python_tests.commands(known.keys(), read):
        return python
    if node := node_tests.command(known.keys(), read):
        return (node,)
    others = (("Cargo.toml", "cargo test"), ("go.mod", "go test ./..."))
    return tuple(command for file, command in others if file in known)[:1]


def _is_told(path: str) -> bool:
    """Whether a path can stand in a plan: hidden files and names that are no text are left out."""
    return path.isprintable() and (not path.startswith(".") or path.startswith(_PROTECTED))


def _by_kind(known: Mapping[str, int]) -> tuple[tuple[str, ...], tuple[str, ...], list[str]]:
    """What tests own, what documentation owns, and the files of the code."""
    tests: dict[str, None] = {}
    docs: dict[str, None] = {}
    code = []
    for path in sorted(known):
        top, _, below = path.partition("/")
        second = below.partition("/")[0] if "/" in below else ""
        if below and top.lower() in _TESTS:
            tests[_whole(top)] = None
        elif below and second.lower() in _TESTS and top.lower() == "src":
            tests[_whole(f"{top}/{second}")] = None
        elif below and top.lower() in _DOCS:
            docs[_whole(top)] = None
        elif not below and _PAGES.search(path) and kind_of(path) is None:
            docs[_at_top(path)] = None
        elif not path.startswith("."):
            code.append(path)
    return tuple(tests), tuple(docs), code


class _Unit(Struct, frozen=True):
    """A folder that one part would own, without `apart`; `loose` are files that it owns by name instead."""

    folder: str
    files: tuple[str, ...]
    size: int
    apart: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()


class _Cut:
    """Cuts the code into units."""

    def __init__(self, known: Mapping[str, int], code: Sequence[str]) -> None:
        self._sizes = known
        self._shared = frozenset(shared_in(known))
        self._code = code
        self._total = self._size(code) or 1

    def units(self) -> list[_Unit]:
        units = self._cut_root()
        while len(units) < MOST_PARTS:
            for unit in sorted(units, key=lambda unit: -unit.size):
                must = len(units) < 2 or unit.size > _DOMINATES * self._total
                room = MOST_PARTS - len(units) + 1
                smaller = self._cut(unit, room) if must and not (unit.apart or unit.loose) else []
                if smaller:
                    at = units.index(unit)
                    units[at : at + 1] = smaller
                    break
            else:
                break
        return [unit for unit in units if unit.files]

    def _cut_root(self) -> list[_Unit]:
        """The folders at the top; files there, and folders too many, are one unit by their names."""
        folders = _children("", self._code)
        loose = [path for path in self._own(self._code) if "/" not in path and is_code(path)]
        kept = self._heaviest(folders, MOST_PARTS - 1)
        units = [self._unit(name, folders[name]) for name in sorted(kept)]
        rest = [name for name in sorted(folders) if name not in kept]
        if loose or rest:
            files = [*loose, *(path for name in rest for path in folders[name])]
            owns = (*map(_at_top, loose), *map(_whole, rest))
            units.append(_Unit("", tuple(self._own(files)), self._size(files), (), owns))
        return units

    def _cut(self, unit: _Unit, room: int) -> list[_Unit]:
        """The folders of a unit as units of their own, what is left of it last; nothing if it has one at most."""
        folders = _children(unit.folder, unit.files)
        only = next(iter(folders), "")
        if len(folders) == 1 and len(folders[only]) == len(unit.files):
            return [self._unit(only, folders[only])]
        kept = sorted(self._heaviest(folders, room - 1))
        rest = [path for path in unit.files if not any(path.startswith(f"{name}/") for name in kept)]
        if not kept or not (rest or len(kept) > 1):
            return []
        units = [self._unit(name, folders[name]) for name in kept]
        if rest:
            units.append(_Unit(unit.folder, tuple(rest), self._size(rest), tuple(kept)))
        return units

    def _heaviest(self, folders: Mapping[str, Sequence[str]], most: int) -> list[str]:
        sizes = {name: self._size(files) for name, files in folders.items()}
        heavy = [name for name, size in sizes.items() if size >= _LIGHT * self._total]
        return sorted(heavy, key=lambda name: (-sizes[name], name))[: max(most, 0)]

    def _unit(self, folder: str, files: Sequence[str]) -> _Unit:
        own = self._own(files)
        return _Unit(folder, tuple(own), self._size(own))

    def _own(self, files: Iterable[str]) -> list[str]:
        return [path for path in files if path not in self._shared]

    def _size(self, files: Iterable[str]) -> int:
        return sum(self._sizes[path] for path in files)


def _children(folder: str, files: Iterable[str]) -> dict[str, list[str]]:
    """The folders right below one, each with the files in it."""
    start = f"{folder}/" if folder else ""
    found: dict[str, list[str]] = {}
    for path in files:
        name, slash, _ = path[len(start) :].partition("/")
        if slash:
            found.setdefault(start + name, []).append(path)
    return found


def _named(units: Iterable[_Unit], aside: Sequence[str]) -> list[Part]:
    """Make parts of units; `aside` are patterns that tests and documentation own, also inside of a unit."""
    parts: list[Part] = []
    taken = {"tests", "docs", "landing"}
    for unit in units:
        name = _name(unit, taken)
        taken.add(name)
        owns = unit.loose or (_whole(unit.folder), *(f"!{_whole(folder)}" for folder in unit.apart))
        starts = tuple(text.removesuffix("**") for text in owns if text.endswith("/**"))
        owns = (*owns, *(f"!{text}" for text in aside if text.startswith(starts)))
        where = f"`{unit.folder}`" if unit.folder and _PLAIN.match(unit.folder) else "these files"
        parts.append(Part(name, owns, len(unit.files), unit.size, _DESCRIPTION.format(where)))
    return parts


def _name(unit: _Unit, taken: set[str]) -> str:
    steps = [step for text in unit.folder.split("/") if (step := _word(text))]
    wanted = [steps[-1], "-".join(steps[-2:]), "-".join(steps)] if steps else ["top"]
    wanted += [f"{wanted[-1]}-{number}" for number in range(2, 2 + len(taken))]
    return next(name for name in wanted if name not in taken and ID.match(name))


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")[:40]


def _after(
    kind: str, owns: tuple[str, ...], verb: str, known: Mapping[str, int], names: tuple[str, ...]
) -> Part:
    from parallelai.plan.files import match

    files = match(owns, known)
    what = "what the others made" if names else "the project"
    return Part(kind, owns, len(files), sum(known[path] for path in files), f"{verb} {what}.", names)


def _whole(folder: str) -> str:
    return f"{_pattern(folder)}/**"


def _at_top(path: str) -> str:
    """A pattern for a file in the root only: a bare name would fit at any depth."""
    return f"./{_pattern(path).removeprefix('./')}"


def _pattern(path: str) -> str:
    """A pattern for exactly this path, as short as it can be."""
    return path if _PLAIN.match(path) else escape(path)


def _amount(part: Part) -> str:
    many = "s" * (part.files != 1)
    size = f"{part.size} bytes" if part.size < 1024 else f"{part.size / 1024:.0f} kB"
    return f"{part.files} file{many}, {size}"
