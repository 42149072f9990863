"""Logic conflicts that are known to be there, or not to be: precision and recall of what is told of them.

    python -m benchmarks.logic REPO [--data FOLDER] [--definitions N]

Of a checkout, which is only read, functions are drawn by lot. For each some branches take it away, rename it, give
it one parameter more or move it to another file; others begin to use it, or only something of the same name. Every
such pair merges cleanly; whether the merge would be broken is known by how it was made. Branches that leave the
function as it was to its users are made as well, with the data's groups of real branches, where the data tells of the
repository: people merged these, and nothing in them is known to be broken.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from benchmarks.branches import private, rebuild, rows
from benchmarks.figures import Figure, summary, table
from benchmarks.history import folder_of
from parallelai.git.repository import Repository
from parallelai.work.conflicts import Head, Matrix
from parallelai.work.symbols import Definition, definitions, language_of

BREAKS = ("removed", "renamed", "changed", "moved")
LEAVES = ("body", "optional", "other")
USES = ("new file", "known file")
NAMES = ("comment", "attribute", "own")
SUFFIXES = (".py", ".js", ".ts", ".go")
MOST_FILES = 3000
TARGET = "(target)"


@dataclass(frozen=True)
class Function:
    """A function of a repository that others can use: its file, that file's text, and where it is defined."""

    path: str
    text: str
    definition: Definition
    neighbour: Definition | None
    user: tuple[str, str]
    """Another file of the same language, and its text."""

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines(keepends=True)


@dataclass
class Tally:
    """How often something was told, of how many pairs, by how the two sides were made."""

    told: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    pairs: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    real: int = 0
    real_told: list[str] = field(default_factory=list)


# -- what there is


async def functions(store: Repository, commit: str, count: int) -> list[Function]:
    """Draw functions whose names are defined once in the whole repository."""
    listed = await store.git.run("ls-tree", "-r", "-z", commit)
    found = [row.split(b"\t", 1) for row in listed.split(b"\0") if row]
    blobs = {os.fsdecode(path): meta.split()[2].decode() for meta, path in found}
    paths = [path for path in blobs if PurePosixPath(path).suffix in SUFFIXES and language_of(path)][
        :MOST_FILES
    ]
    data = await store.git.blobs({blobs[path] for path in paths})
    texts = {path: data[blobs[path]].decode("utf-8", "replace") for path in paths}
    defined = {path: definitions(path, text) for path, text in texts.items()}
    times: dict[str, int] = defaultdict(int)
    for each in defined.values():
        for one in each:
            times[one.bare] += 1
    able = [
        (path, one)
        for path, each in defined.items()
        for one in each
        if times[one.bare] == 1 and _is_fit(path, one)
    ]
    chance = random.Random(7)
    drawn = chance.sample(able, min(count, len(able)))
    return [_function(path, one, texts, defined, chance) for path, one in drawn]


def _is_fit(path: str, one: Definition) -> bool:
    is_plain = one.kind == "function" and "." not in one.name and one.is_public and len(one.name) > 4
    is_test = "test" in path.lower() or one.name.lower().startswith("test")
    return is_plain and not is_test and "(" in one.signature and one.last > one.first


def _function(
    path: str,
    one: Definition,
    texts: Mapping[str, str],
    defined: Mapping[str, Sequence[Definition]],
    chance: random.Random,
) -> Function:
    others = [each for each in defined[path] if each.kind == "function" and "." not in each.name]
    apart = [each for each in others if each.first > one.last + 4 or each.last < one.first - 4]
    suffix = PurePosixPath(path).suffix
    users = [each for each in texts if each != path and each.endswith(suffix) and "test" not in each]
    if suffix == ".go":
        users = [each for each in users if PurePosixPath(each).parent == PurePosixPath(path).parent]
    user = chance.choice(users) if users else ""
    return Function(
        path, texts[path], one, chance.choice(apart) if apart else None, (user, texts.get(user, ""))
    )


# -- what is made of it


def broken(one: Function, how: str) -> dict[str, str] | None:
    """The files of a side that breaks a function, or does something near it; None where that cannot be made."""
    lines, first, last = one.lines, one.definition.first - 1, one.definition.last
    own = "".join(lines[first:last])
    cut = "".join((*lines[:first], *lines[last:]))
    match how:
        case "removed":
            return {one.path: cut}
        case "moved":
            place = PurePosixPath(one.path)
            if place.suffix == ".go":
                return None  # the same package: nobody notices
            if re.search(rf"\b{re.escape(one.name)}\b", cut):
                return None  # the file would import it from there, and pass it on
            return {one.path: cut, str(place.with_name(f"moved_apart{place.suffix}")): own}
        case "renamed":
            named = re.sub(rf"\b{re.escape(one.name)}\b", f"{one.name}_from_now_on", one.text)
            return {one.path: named}
        case "changed":
            return _with_parameter(one, "count_of_all int" if one.path.endswith(".go") else "count_of_all")
        case "optional":
            return (
                _with_parameter(one, "count_of_all=None", is_last=True) if one.path.endswith(".py") else None
            )
        case "body":
            return {one.path: "".join((*lines[:last], "\n", *lines[last:]))}
        case "other" if one.neighbour is not None:
            start, end = one.neighbour.first - 1, one.neighbour.last
            return {one.path: "".join((*lines[:start], *lines[end:]))}
    return None


def _with_parameter(one: Function, parameter: str, *, is_last: bool = False) -> dict[str, str] | None:
    start = sum(len(line) for line in one.lines[: one.definition.first - 1])
    opening = one.text.find("(", one.text.find(one.name, start))
    closing = one.text.find(")", opening)
    inside = one.text[opening + 1 : closing]
    if min(opening, closing) < 0 or any(sign in inside for sign in "(*\n" + ("=" if is_last else "")):
        return None
    parts = [inside.strip().rstrip(",")] if inside.strip() else []
    parts = [*parts, parameter] if is_last else [parameter, *parts]
    return {one.path: f"{one.text[: opening + 1]}{', '.join(parts)}{one.text[closing:]}"}


def using(one: Function, how: str) -> dict[str, str] | None:
    """The files of a side that begins to use a function, or only something of its name."""
    place = PurePosixPath(one.path)
    if how == "new file":
        return {str(place.with_name(f"fresh_user{place.suffix}")): _use(one, place.parent)}
    user, text = one.user
    if not user:
        return None
    own = _use(one, PurePosixPath(user).parent, is_added=True)
    match how:
        case "known file":
            return {user: f"{text}\n{own}"}
        case "comment":
            sign = "#" if place.suffix == ".py" else "//"
            return {user: f"{text}\n{sign} see {one.name} in {place.stem}\n"}
        case "attribute":
            return {user: f"{text}\n{_calling(place.suffix, f'nobody_knows.{one.name}()')}"}
        case "own" if place.suffix != ".go":
            defines = _calling(place.suffix, "pass_by()", one.name)
            return {user: f"{text}\n{defines}\n{_calling(place.suffix, f'{one.name}()')}"}
    return None


def _use(one: Function, folder: PurePosixPath, *, is_added: bool = False) -> str:
    place = PurePosixPath(one.path)
    call = _calling(place.suffix, f"{one.name}()")
    if place.suffix == ".py":
        parts = place.with_suffix("").parts
        module = ".".join(parts[1:] if parts[0] in ("src", "lib") else parts)
        return f"from {module.removesuffix('.__init__')} import {one.name}\n\n\n{call}"
    if place.suffix == ".go":
        package = re.search(r"^package (\w+)", one.text, re.M)
        return call if is_added else f"package {package[1] if package else 'main'}\n\n{call}"
    there = os.path.relpath(place.with_suffix(""), folder)
    return f"import {{ {one.name} }} from './{there}'\n\n{call}"


def _calling(suffix: str, call: str, name: str = "a_fresh_user") -> str:
    """A function that does one call."""
    if suffix == ".py":
        return f"def {name}():\n    {call}\n"
    return f"{'func' if suffix == '.go' else 'function'} {name}() {{\n\t{call}\n}}\n"


# -- what is told


async def try_one(store: Repository, base: str, one: Function, tally: Tally) -> None:
    """Make the sides of one function, and see which pairs are told."""
    sides = {how: broken(one, how) for how in (*BREAKS, *LEAVES)}
    others = {how: using(one, how) for how in (*USES, *NAMES)}
    heads = [
        Head(f"{side}: {how}", await _branch(store, base, files))
        for side, made in (("a", sides), ("b", others))
        for how, files in made.items()
        if files is not None
    ]
    matrix = Matrix(store)
    await matrix.look(heads, Head(TARGET, base))
    told = {frozenset((pair.a, pair.b)) for pair in matrix.known if pair.class_ == "logic"}
    unclean = {frozenset((pair.a, pair.b)) for pair in matrix.known if pair.conflict}
    names = [head.name.split(": ") for head in heads]
    for a in (how for side, how in names if side == "a"):
        for b in (how for side, how in names if side == "b"):
            pair = frozenset((f"a: {a}", f"b: {b}"))
            if pair not in unclean:
                tally.pairs[a, b] += 1
                tally.told[a, b] += pair in told


async def _branch(store: Repository, base: str, files: Mapping[str, str]) -> str:
    lines = [b"commit refs/heads/made", b"committer t <t@localhost> 1900000000 +0000", b"data 1", b"x"]
    lines.append(f"from {base}".encode())
    for path, text in files.items():
        data = text.encode("utf-8", "replace")
        lines += [f"M 100644 inline {path}".encode(), f"data {len(data)}".encode(), data]
    await store.git.run("fast-import", "--quiet", "--force", stdin=b"\n".join([*lines, b""]))
    return await store.git.line("rev-parse", "refs/heads/made")


async def real(store: Repository, repository: Path, data: Path, tally: Tally) -> None:
    """Look at the branches that people had open at the same time."""
    for _, found in rows(data, repository):
        for row in found:
            group = await rebuild(store, row)
            matrix = Matrix(store)
            heads = [Head(each.name, each.commit) for each in group.branches]
            await matrix.look(heads, Head(TARGET, group.base))
            tally.real += matrix.count.pairs
            told = [pair for pair in matrix.known if pair.class_ == "logic"]
            tally.real_told += [f"{group.id}: {pair.why}" for pair in told]


async def measure(repository: Path, data: Path | None, count: int) -> Tally:
    """Try all, in a repository of its own."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="parallelai-logic-") as folder:
        store = private(repository, Path(folder))
        git = ["git", "-C", str(repository), "rev-parse", "HEAD"]
        head = (await asyncio.to_thread(_output, git)).strip()
        for one in await functions(store, head, count):
            await try_one(store, head, one, tally)
        if data is not None:
            await real(store, repository, data, tally)
    return tally


def _output(argv: Sequence[str]) -> str:
    import subprocess

    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def report(tally: Tally) -> list[Figure]:
    """Print what was told, kind by kind, and give the figures."""
    columns = (*USES, *NAMES)
    shown: list[tuple[str, ...]] = [("one side; the other:", *columns)]
    for a in (*BREAKS, *LEAVES):
        cells = [f"{tally.told[a, b]} of {tally.pairs[a, b]}" for b in columns]
        shown.append((a, *cells))
    print(table(shown))
    is_broken = {(a, b) for a in BREAKS for b in USES}
    right = sum(tally.told[key] for key in is_broken)
    there = sum(tally.pairs[key] for key in is_broken)
    said = sum(tally.told.values())
    for line in tally.real_told:
        print(f"  told of real branches: {line}")
    return [
        Figure("logic conflicts, recall", f"{right / max(there, 1):.2f} ({right} of {there})"),
        Figure("logic conflicts, precision", f"{right / max(said, 1):.2f} ({right} of {said})"),
        Figure("told of pairs of real branches", f"{len(tally.real_told)} of {tally.real}"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.logic", description="Known logic conflicts, and none.")
    parser.add_argument("repository", type=Path, help="a checkout, or a git folder")
    parser.add_argument("--data", help="the folder of the groups of real branches (or PARALLELAI_DATA)")
    parser.add_argument("--definitions", type=int, default=40, help="how many functions are drawn")
    asked = parser.parse_args()
    data = folder_of(asked.data or os.environ.get("PARALLELAI_DATA"))
    print(summary(report(asyncio.run(measure(asked.repository.resolve(), data, asked.definitions)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
