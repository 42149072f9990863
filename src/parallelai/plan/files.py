"""Which files a plan is about: listing, matching, leaving out, reading.

Paths are POSIX, relative to the project's root, sorted. Everything found in the project may be hostile: links
that lead out are named and never read, and what is not a plain file is never opened for long.
"""

from __future__ import annotations

import contextlib
import functools
import os
import posixpath
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from msgspec import Struct

from parallelai.errors import UsageError
from parallelai.plan.contents import Seen, content_digest, mark_of
from parallelai.plan.patterns import Pattern, escape, parse, refuse_braces, rooted

HUGE_BYTES = 1024 * 1024
HEAD_BYTES = 8 * 1024
READ_AT_ONCE_BYTES = 32 * 1024
"""Of a file that is only looked at: nearly all sources are smaller, and need not be read again."""

_GENERATED_ENDINGS = (
    *(".min.js", ".min.css", ".min.mjs", ".js.map", ".css.map", "-lock.json", "-lock.yaml"),
    *("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi", ".pb.go", ".pb.cc", ".pb.h"),
    *(".g.dart", ".designer.cs"),
)
_GENERATED_NAMES = frozenset(
    {f"{name}.lock" for name in ("yarn", "poetry", "uv", "Cargo", "Gemfile", "composer", "Pipfile", "pdm")}
    | {"flake.lock", "bun.lock", "go.sum"}
)
_COMMENT = re.compile(r"\s*(?:#|//|/\*|\*|--|;|<!--|%|\"\"\"|''')")
_GENERATED_WORDS = re.compile(
    r"(?:\bcode generated\b.*\bdo not edit\b|(?<![\w`'\"])@generated\b"
    r"|\bauto-?generated\b.*\bdo not (?:edit|modify)\b)",
    re.IGNORECASE,
)
_HEAD_LINES = 40
_MINIFIED_SUFFIXES = (".js", ".css", ".mjs")
_MINIFIED_LINE = 5000


class Tree(Protocol):
    """The files of a project: `paths` is sorted, ignored ones are left out."""

    @property
    def root(self) -> Path: ...

    @property
    def paths(self) -> Sequence[str]: ...


class FileTree(Struct, frozen=True):
    """A listing that was made before."""

    root: Path
    paths: tuple[str, ...]


def match(patterns: Iterable[str], paths: Iterable[str]) -> list[str]:
    """Give the paths that patterns select, in the order of `paths`.

    Git's rules; of several patterns that fit, the last one decides, and one that begins with `!` takes out.
    If all begin with `!`, they take out of everything. Raises `UsageError` for braces and for patterns that
    climb out of the project.
    """
    matcher = Matcher(patterns)
    return [path for path in paths if matcher.selects(path)]


class Matcher:
    """Several patterns, ready to be asked about many paths.

    Patterns without wildcards, of which there may be thousands, cost one look-up for each folder of a path.
    """

    __slots__ = ("_literals", "_others", "_starts_with_all")

    def __init__(self, patterns: Iterable[str]) -> None:
        parsed = [pattern for text in patterns if (pattern := _parse(text)) is not None]
        self._starts_with_all = bool(parsed) and all(pattern.is_negated for pattern in parsed)
        self._literals: dict[str, tuple[int, bool]] = {}
        self._others: list[tuple[int, bool, re.Pattern[str]]] = []
        for order, pattern in enumerate(parsed):
            if pattern.literal is not None:
                self._literals[pattern.literal] = (order, not pattern.is_negated)
            else:
                self._others.append((order, not pattern.is_negated, pattern.below))
        self._others.reverse()

    def selects(self, path: str) -> bool:
        """Say whether the patterns select this path."""
        best, chosen = self._literal(path) if self._literals else (-1, self._starts_with_all)
        for order, is_taken, expression in self._others:
            if order < best:
                break
            if expression.fullmatch(path):
                return is_taken
        return chosen

    def _literal(self, path: str) -> tuple[int, bool]:
        best = self._literals.get(path, (-1, self._starts_with_all))
        end = path.rfind("/")
        while end > 0:
            found = self._literals.get(path[:end])
            if found is not None and found[0] > best[0]:
                best = found
            end = path.rfind("/", 0, end)
        return best


def select(patterns: str | Iterable[str], tree: Tree, *, base: PurePosixPath | str = ".") -> list[str]:
    """Give the files that arguments of a command or a call name, sorted.

    Patterns count from `base`, a folder relative to the root. One that names an existing path is that path,
    whatever characters it has, even if git ignores it; a folder is all below it. A string is split at
    commas. No pattern: the whole project. Raises `UsageError` for what lies outside the project.
    """
    texts = _split(patterns)
    if not texts:
        return list(tree.paths)
    named: set[str] = set()
    counted = [_rooted(text, tree.root, str(base), named) for text in texts]
    known = set(tree.paths)
    return sorted(match(counted, [*tree.paths, *(path for path in named if path not in known)]))


def is_all_named(patterns: str | Iterable[str], root: Path, *, base: PurePosixPath | str = ".") -> bool:
    """Say whether each argument is a file of the project by its name, so that `select` needs no listing."""
    texts = _split(patterns)
    named: set[str] = set()
    for text in texts:
        if not text.startswith("!"):
            _rooted(text, root, str(base), named)
    return 0 < len(texts) == len(named)


def unmatched(patterns: str | Iterable[str], tree: Tree, *, base: PurePosixPath | str = ".") -> list[str]:
    """Give those patterns (not the `!` ones) that select no file by themselves."""
    texts = [text for text in _split(patterns) if not text.startswith("!")]
    return [text for text in texts if not select([text], tree, base=base)]


def triage(
    path: Path | str,
    *,
    root: Path | None = None,
    folders: dict[str, str] | None = None,
    seen: dict[str, Seen] | None = None,
) -> str | None:
    """Say why nobody should read a file as source, None if it is fine; judges by 8 kB at most.

    A `path` that is a text is taken as it is, which is quicker where there are thousands.
    `link out of the project` is only told when `root` is given. `folders` is one empty mapping for calls that
    follow each other at once: folders are resolved once then. Into `seen` go, by
    path, the fine files that were read whole.
    """
    path = os.fspath(path)
    try:
        descriptor = _open(path, root, folders)
    except OSError:
        return "unreadable"
    if isinstance(descriptor, str):
        return descriptor
    try:
        return _why_no_source(path, descriptor, seen)
    except OSError:
        return "unreadable"
    finally:
        os.close(descriptor)


def _why_no_source(path: str, descriptor: int, seen: dict[str, Seen] | None) -> str | None:
    if path.endswith(_GENERATED_ENDINGS) or path.rpartition("/")[2] in _GENERATED_NAMES:
        return "generated"
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return "not a file"
    if status.st_size > HUGE_BYTES:
        return "huge"
    data = os.read(descriptor, HEAD_BYTES if seen is None else READ_AT_ONCE_BYTES)
    head = data[:HEAD_BYTES]
    if b"\0" in head:
        return "binary"
    if _is_generated(path, head):
        return "generated"
    if seen is not None and len(data) == status.st_size:
        seen[path] = Seen(mark_of(status), content_digest(data))
    return None


def triage_safety(path: Path | str, root: Path, *, folders: dict[str, str] | None = None) -> str | None:
    """Say why a file must not be read at all: it leads out of the project, or is none."""
    if why := _leads_out(path, root, folders):
        return why
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  # a text is as good
    except OSError:
        return "unreadable"
    return None if stat.S_ISREG(mode) else "not a file"


def read_source(
    root: Path, relative: str, *, folders: dict[str, str] | None = None
) -> tuple[str, str | None]:
    """Give a file's text, or an empty one and why it is not to be read as source (`triage`; generated is read).

    As `triage` and `read_text` after each other, with one look at the file: it is called for each of thousands.
    """
    path = os.path.join(root, relative)  # noqa: PTH118  # texts: there are thousands
    try:
        descriptor = _open(path, root, folders)
        if isinstance(descriptor, str):
            return "", descriptor
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return "", "not a file"
            data = b"" if status.st_size > HUGE_BYTES else _read(descriptor, HUGE_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError:
        return "", "unreadable"
    if status.st_size > HUGE_BYTES or len(data) > HUGE_BYTES:
        return "", "huge"
    if b"\0" in data[:HEAD_BYTES]:
        return "", "binary"
    return data.decode("utf-8", "replace").removeprefix("\ufeff"), None


def _read(descriptor: int, most: int) -> bytes:
    """Read to the end of a file, or `most` bytes."""
    data = os.read(descriptor, most)
    while 0 < len(data) < most and (more := os.read(descriptor, most - len(data))):
        data += more
    return data


def read_text(
    root: Path,
    relative: str,
    *,
    max_bytes: int = 16 * HUGE_BYTES,
    folders: dict[str, str] | None = None,
) -> str:
    """Read a file of the project as UTF-8, with U+FFFD for what is not. `folders`: see `triage`.

    Raises `UsageError` if the path leaves the project, also by links, or is no plain file, or too large;
    `OSError` if it cannot be read.
    """
    path = os.path.join(root, relative)  # noqa: PTH118  # texts: there are thousands
    descriptor = _open(path, root, folders)
    if isinstance(descriptor, str):
        raise UsageError(f"`{_printable(relative)}` is not read: {descriptor}")
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"`{_printable(relative)}` is not a file")
        data = os.read(descriptor, min(status.st_size, max_bytes) + 1)
        if status.st_size < len(data) <= max_bytes:  # it grows, or is one of those that say no size
            data += _read(descriptor, max_bytes + 1 - len(data))
    finally:
        os.close(descriptor)
    if len(data) > max_bytes:
        raise UsageError(f"`{_printable(relative)}` is larger than {max_bytes} bytes")
    return data.decode("utf-8", "replace").removeprefix("\ufeff")


def _parse(text: str) -> Pattern | None:
    refuse_braces(text)
    if ".." in text.removeprefix("!").split("/"):
        raise UsageError(f"the pattern `{text}` climbs out of the project", next="count from the root")
    return parse(rooted(text))


def _split(patterns: str | Iterable[str]) -> list[str]:
    texts = patterns.split(",") if isinstance(patterns, str) else list(patterns)
    return [text.strip() if isinstance(patterns, str) else text for text in texts if text.strip()]


def _rooted(text: str, root: Path, base: str, named: set[str]) -> str:
    """Turn an argument that counts from `base` into a pattern that counts from the root."""
    sign, body = ("!", text[1:]) if text.startswith("!") else ("", text)
    if (path := _existing(body, root, base)) is not None:
        if path == ".":
            return f"{sign}/**"
        if not (root / path).is_dir() or (root / path).is_symlink():
            named.add(path)
        return sign + escape(path)
    if posixpath.isabs(body):
        return sign + _from_root(body, root)
    if base == ".":
        return sign + body
    folder = escape(base)
    inner = body.removesuffix("/")
    if inner.startswith("./"):
        inner = inner[2:]
    elif "/" not in inner:
        return f"{sign}{folder}/**/{body}"
    climbed, rest = _climb(base, inner)
    tail = "/" if body.endswith("/") else ""
    return f"{sign}{escape(climbed) if climbed else ''}/{rest}{tail}"


def _from_root(body: str, root: Path) -> str:
    """Turn a pattern that begins with the project's own folder into one that begins at its root, as git has it."""
    for top in (root.as_posix(), root.resolve().as_posix()):
        if body.startswith(f"{top}/"):
            return body[len(top) :]
    return body


def _climb(base: str, inner: str) -> tuple[str, str]:
    """Resolve leading `../` against the folder that a pattern counts from."""
    folders = base.split("/")
    while inner.startswith("../"):
        if not folders:
            raise UsageError(f"the pattern `{inner}` climbs out of the project")
        folders.pop()
        inner = inner[3:]
    return "/".join(folders), inner


def _existing(body: str, root: Path, base: str) -> str | None:
    """The path from the root that an argument names, if there is such a path; raises if it is outside."""
    if not body or "\0" in body or len(body) > 4096:
        return None
    joined = os.path.normpath(root / base / body)
    try:
        if not os.path.lexists(joined):
            return None
    except OSError:
        return None
    for path in _ways_to(joined):
        for top in (root, root.resolve()):
            if path.is_relative_to(top):
                return path.relative_to(top).as_posix()
    if posixpath.isabs(body) and (root / body.lstrip("/")).exists():
        return body.strip("/")  # anchored to the root, as git reads a leading slash
    raise UsageError(f"`{body}` is outside the project `{root}`", next="use `--project` to name another one")


def _ways_to(path: str) -> Iterator[Path]:
    """The names of a file: as it is given, by the real folder that it is in, and what it is a link to."""
    yield Path(path)
    folder, name = os.path.split(path)
    yield Path(os.path.realpath(folder), name)
    yield Path(os.path.realpath(path))


_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
"""Never waits for a pipe."""


def _open(path: str, root: Path | None, folders: dict[str, str] | None) -> int | str:
    """Open a file, or say why it must not be read: with `root`, it leads out of it. Raises `OSError`."""
    if root is None:
        return os.open(path, _READ)
    folder, _, name = path.rpartition("/")
    if folders is not None and folder and name not in ("", ".", "..") and "\0" not in path:
        # What is no link lies where its folder does: to open it tells so, and saves a look at it.
        if why := _is_out(folders.get(folder) or _resolved_folder(folder, folders), root):
            return why
        with contextlib.suppress(OSError):
            return os.open(path, _READ | os.O_NOFOLLOW)
    return _leads_out(path, root, folders) or os.open(path, _READ)


def _leads_out(path: Path | str, root: Path, folders: dict[str, str] | None = None) -> str | None:
    try:
        real = os.path.realpath(path) if folders is None else _resolved(os.fspath(path), folders)
    except (OSError, ValueError):
        return "unreadable"
    return _is_out(real, root)


def _is_out(real: str, root: Path) -> str | None:
    top = _real(os.fspath(root))
    is_inside = real == top or real.startswith(top.rstrip("/") + "/")
    return None if is_inside else "link out of the project"


def _resolved(path: str, folders: dict[str, str]) -> str:
    """Resolve a path as `realpath` does, which asks about each folder above; `folders` are known already."""
    folder, slash, name = path.rpartition("/")
    if not folder or not slash or name in ("", ".", "..") or "\0" in name:
        return os.path.realpath(path)
    real = folders.get(folder) or _resolved_folder(folder, folders)
    return _in_folder(real, name)


def _resolved_folder(path: str, folders: dict[str, str]) -> str:
    """Resolve a folder, and with it those above: no recursion, a stranger's may lie in each other a thousand deep."""
    passed: list[str] = []
    while path and path not in folders:
        passed.append(path)
        path = path.rpartition("/")[0]
    real = folders[path] if path else "/"
    for each in reversed(passed):
        name = each.rpartition("/")[2]
        plain = name not in ("", ".", "..") and each.startswith("/")
        real = folders[each] = _in_folder(real, name) if plain else os.path.realpath(each)
    return real


def _in_folder(real: str, name: str) -> str:
    """Resolve what a resolved folder holds."""
    here = f"{real}/{name}" if real != "/" else f"/{name}"
    return os.path.realpath(here) if os.path.islink(here) else here  # noqa: PTH114


@functools.lru_cache(maxsize=64)
def _real(root: str) -> str:
    return os.path.realpath(root)


def _is_generated(name: str, head: bytes) -> bool:
    if name.endswith(_MINIFIED_SUFFIXES) and len(head) == HEAD_BYTES and b"\n" not in head[:_MINIFIED_LINE]:
        return True
    if b"enerated" not in head and b"GENERATED" not in head:
        return False
    for line in head.decode("utf-8", "replace").split("\n")[:_HEAD_LINES]:
        if line.strip() and not _COMMENT.match(line):
            return False
        if _GENERATED_WORDS.search(line):
            return True
    return False


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()
