"""Which names each file of a tree defines, and which words it uses: by patterns, fast, for any language.

It says only where to look: a name that a pattern takes for a definition by mistake costs a place in a ranking,
and what is shown in the end comes from the parsed file. What was found in a file is kept by its blob's hash,
so that a tree is read once, and afterwards only what changed in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from msgspec import Struct

from parallelai.errors import ParallelAIError, UsageError
from parallelai.git.plumbing import Git
from parallelai.results.write import write_atomically

MOST_FILES = 20_000
"""How many files of a tree are looked at; those that are asked for first come first."""
MOST_BYTES = 256 * 1024
"""A file that is larger is generated or data, seldom something to read."""
_MOST_NAMES = 2_000
_MOST_WORDS = 6_000
_CACHE = "names-1.json"
_MOST_CACHE_BYTES = 64 * 1024 * 1024
_SUFFIXES = (
    *(".py", ".pyi", ".js", ".jsx", ".mjs", ".cjs", ".ts", ".tsx", ".mts", ".cts", ".vue", ".svelte"),
    *(".go", ".rs", ".java", ".kt", ".scala", ".c", ".h", ".cc", ".cpp", ".hpp", ".cs", ".swift"),
    *(".rb", ".php", ".ex", ".exs", ".lua", ".dart"),
)
_KEYWORD = re.compile(
    r"\b(?:def|class|function|func|fun|fn|struct|enum|trait|interface|type|module|mod|const|let|var|val|record|"
    r"object|protocol|defmodule|defp)[ \t]+(?:\([^()\n]{0,80}\)[ \t]*)?(?:self\.)?([A-Za-z_$][\w$]{0,99})"
)
_CALLABLE = re.compile(r"\b([A-Za-z_]\w{0,99})[ \t]*\([^;{}()]{0,200}\)[^;{}()=\n]{0,60}\{")
_CONSTANT = re.compile(r"^([A-Z][A-Z0-9_]{2,60})[ \t]*[:=]", re.MULTILINE)
_WORD = re.compile(r"[A-Za-z_$][\w$]{2,99}")
_C_LIKE = frozenset(
    {".java", ".c", ".h", ".cc", ".cpp", ".hpp", ".cs", ".js", ".ts", ".tsx", ".jsx", ".dart"}
)
_NO_NAMES = frozenset(
    ("if", "for", "while", "switch", "catch", "return", "function", "else", "try", "with", "await", "new")
)


class Indexed(Struct, frozen=True):
    """What a file defines and uses, as bare names. `path` is below the root."""

    path: str
    names: tuple[str, ...]
    words: frozenset[str]


class Entry(Struct, frozen=True):
    """A file of a tree, and the hash of its content."""

    path: str
    blob: str


def is_source(path: str) -> bool:
    """Whether a file is written in a language that has definitions; by its suffix."""
    return PurePosixPath(path).suffix.lower() in _SUFFIXES


def names_in(path: str, text: str) -> tuple[str, ...]:
    """The names that a text seems to define, each once, in the order in which they come."""
    found = dict.fromkeys(_KEYWORD.findall(text))
    if PurePosixPath(path).suffix.lower() in _C_LIKE:
        found |= dict.fromkeys(_CALLABLE.findall(text))
    found |= dict.fromkeys(_CONSTANT.findall(text))
    return tuple(name for name in found if len(name) > 2 and name not in _NO_NAMES)[:_MOST_NAMES]


def words_in(text: str) -> frozenset[str]:
    """The words of a text that may be names."""
    return frozenset(sorted(set(_WORD.findall(text)))[:_MOST_WORDS])


async def entries_of(git: Git, commit: str) -> tuple[Entry, ...]:
    """List the plain files of a commit, sorted by path. Paths that are no text are left out."""
    listed = await git.run("ls-tree", "-r", "-z", "--full-tree", commit)
    found = []
    for row in listed.split(b"\0"):
        meta, _, name = row.partition(b"\t")
        fields = meta.split()
        if len(fields) != 3 or fields[0] not in (b"100644", b"100755"):
            continue
        try:
            path = name.decode()
        except UnicodeDecodeError:
            continue
        if path.isprintable():
            found.append(Entry(path, fields[2].decode()))
    return tuple(found)


async def index_of(
    git: Git, entries: Iterable[Entry], *, cache: Path | None = None, first: Iterable[str] = ()
) -> tuple[Indexed, ...]:
    """Index the source files among a tree's, in the order of their paths.

    Args:
        cache: the folder of what was found before; None keeps nothing.
        first: paths that are taken before others where there are too many.
    """
    wanted = _bounded([entry for entry in entries if is_source(entry.path)], frozenset(first))
    known = _read(cache)
    missing = {entry.blob: entry.path for entry in wanted if entry.blob not in known}
    if missing:
        found = await git.blobs(list(missing))
        fresh = {blob: _looked_at(path, found.get(blob, b"")) for blob, path in missing.items()}
        known = {**known, **fresh}
        _write(cache, known, {entry.blob for entry in wanted})
    return tuple(Indexed(entry.path, *known[entry.blob]) for entry in wanted)


def _bounded(entries: Sequence[Entry], first: frozenset[str]) -> list[Entry]:
    if len(entries) <= MOST_FILES:
        return list(entries)
    ranked = sorted(entries, key=lambda entry: (entry.path not in first, entry.path))
    return sorted(ranked[:MOST_FILES], key=lambda entry: entry.path)


_Known = tuple[tuple[str, ...], frozenset[str]]
_NOTHING: _Known = ((), frozenset())


def _looked_at(path: str, data: bytes) -> _Known:
    if len(data) > MOST_BYTES or b"\0" in data:
        return _NOTHING
    text = data.decode("utf-8", "replace")
    return names_in(path, text), words_in(text)


def _read(cache: Path | None) -> dict[str, _Known]:
    """What was found before; nothing where the file is not as it was written."""
    if cache is None:
        return {}
    path = cache / _CACHE
    try:
        if path.stat().st_size > _MOST_CACHE_BYTES:
            return {}
        data = json.loads(path.read_bytes())
        return {
            blob: (tuple(names.split()), frozenset(words.split())) for blob, (names, words) in data.items()
        }
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}


def _write(cache: Path | None, known: Mapping[str, _Known], used: frozenset[str] | set[str]) -> None:
    """Keep what was found, what this tree has before what others had. That it cannot be kept costs only time."""
    if cache is None:
        return
    others = [blob for blob in known if blob not in used][: MOST_FILES - min(len(used), MOST_FILES)]
    data = {blob: (" ".join(known[blob][0]), " ".join(sorted(known[blob][1]))) for blob in (*used, *others)}
    try:
        cache.mkdir(parents=True, exist_ok=True)
        write_atomically(cache / _CACHE, json.dumps(data, separators=(",", ":")))
    except (OSError, ParallelAIError, UsageError):
        return
