"""Which of the paths that differ in a folder may be part of a change; the rest is kept out and named.

The folder was an assistant's: names may be meant for another file system, links lead anywhere, and files be
of any kind and size.
"""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from msgspec import Struct

from parallelai.errors import Trespass
from parallelai.git.paths import is_gits_own, may_be_link
from parallelai.plan.files import Matcher

PROTECTED = ("parallelai.toml", ".parallelai")
"""The team's: read-only to assistants."""
MAX_FILE_BYTES = 100 * 1024 * 1024
"""A file that is larger is kept out: no patch that holds it could be sent or looked at."""


class Judged(Struct, frozen=True):
    """Paths that differ from what the index says: those that lie there, that are gone, that are kept out."""

    lying: frozenset[str]
    gone: frozenset[str]
    kept_out: frozenset[str]
    size: int


def judge(
    root: Path, names: Iterable[str], known: frozenset[str], forbidden: Matcher | None = None
) -> Judged:
    """Judge paths below `root`. `known` are those of the index; a folder's name ends with a slash.

    `forbidden` selects what this task may not change beside what none may.
    """
    lying, gone, kept_out, size = set[str](), set[str](), set[str](), 0
    links: dict[str, bool] = {"": False}
    for name in names:
        is_out = _is_forbidden(name) or (forbidden is not None and forbidden.selects(name))
        found = None if is_out else _look(root, name, links)
        if found is None:
            kept_out.add(name)
        elif found < 0:
            gone.add(name)
        else:
            size += found
            lying.add(name)
    clashing_names = clashing(lying - known, (known - gone) | lying)
    out = frozenset(kept_out | clashing_names)
    return Judged(frozenset(lying - clashing_names), frozenset(gone & known), out, size)


def _is_forbidden(name: str) -> bool:
    """Whether nothing of this name may be in a change; git lists a repository inside as a folder."""
    parts = PurePosixPath(name).parts
    try:
        name.encode()
    except UnicodeEncodeError:  # what is no text can be written down nowhere
        return True
    return name.endswith("/") or parts[0].casefold() in PROTECTED or any(map(is_gits_own, parts))


def _look(root: Path, name: str, links: dict[str, bool]) -> int | None:
    """How large a file is; -1 where there is none, None where what is there may not be in a change."""
    folder = name.rpartition("/")[0]
    if _is_behind_link(root, folder, links):
        return -1
    path = f"{root}/{name}"
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return -1
    except OSError:  # in a folder that was made unreadable: nobody knows what is there
        return None
    if stat.S_ISDIR(status.st_mode):
        return -1
    if stat.S_ISLNK(status.st_mode):
        return len(name) if may_be_link(name.rpartition("/")[2]) and not leads_out(root, path) else None
    is_good = stat.S_ISREG(status.st_mode) and status.st_size <= MAX_FILE_BYTES and os.access(path, os.R_OK)
    return status.st_size if is_good else None


_READ_BY_GIT = frozenset({".gitignore", ".gitattributes", ".gitmodules", ".mailmap"})


def clear_pipes(root: Path) -> None:
    """Remove pipes, sockets and devices by names that git reads in every folder: it would wait for them forever.

    Raises `Trespass` if the folder itself was replaced by a link.
    """
    if root.is_symlink():
        raise Trespass("the folder that it worked in was replaced by a link", next="look at what it did")
    for top, _, files in os.walk(root, followlinks=False):
        for name in _READ_BY_GIT.intersection(files):
            path = Path(top, name)
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
                path.unlink()


def is_link_out(path: str, target: bytes) -> bool:
    """Whether a link, as it is written, leads out of the project or to git's own."""
    text = os.fsdecode(target)
    plain = os.path.normpath(os.path.join(os.path.dirname(path), text))  # noqa: PTH118, PTH120
    parts = PurePosixPath(plain).parts
    return text.startswith("/") or plain.startswith("..") or any(map(is_gits_own, parts))


def _is_behind_link(root: Path, folder: str, links: dict[str, bool]) -> bool:
    if folder not in links:
        is_link = os.path.islink(f"{root}/{folder}")  # noqa: PTH114 -- asked for each path
        links[folder] = is_link or _is_behind_link(root, folder.rpartition("/")[0], links)
    return links[folder]


def leads_out(root: Path, link: str) -> bool:
    """Whether a link leads out of the project, or to git's own; an absolute one is right in this folder only."""
    target = os.readlink(link)  # noqa: PTH115 -- may be no UTF-8
    if target.startswith("/"):
        return True
    try:
        top = root.resolve()
        inside = Path(link).resolve().relative_to(top)
    except (OSError, RuntimeError, ValueError):  # a loop, or outside
        return True
    if _is_loop(link):  # since Python 3.13 `resolve` says nothing of it
        return True
    # Also as it is written: what it leads through, such as a folder that was linked in, may not be there.
    plain = os.path.normpath(os.path.join(os.path.dirname(os.path.relpath(link, root)), target))  # noqa: PTH118, PTH120
    parts = (*inside.parts, *PurePosixPath(plain).parts)
    return plain.startswith("..") or any(map(is_gits_own, parts))


def _is_loop(link: str) -> bool:
    try:
        os.stat(link)  # noqa: PTH116 -- may be no UTF-8
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def clashing(new: Iterable[str], all_names: Iterable[str]) -> set[str]:
    """New paths that are another path to a file system without upper and lower case.

    Of two new ones the first stays.
    """
    fresh = frozenset(new)
    if not fresh:
        return set()
    seen: dict[str, str] = {}
    for name in set(all_names) - fresh:
        for part in _prefixes(name):
            seen.setdefault(_folded(part), part)
    found = set()
    for name in sorted(fresh):
        parts = _prefixes(name)
        if any(seen.get(_folded(part), part) != part for part in parts):
            found.add(name)
            continue
        for part in parts:
            seen.setdefault(_folded(part), part)
    return found


def _prefixes(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
