"""What lies in a checkout, brought into a private index: only objects of ours are written.

It begins with a copy of the user's index, whose times save reading what did not change. That index does not
tell everything: entries that git was told to overlook, contents that git converts on their way into it, and
blobs that only the index holds (the user's next `git gc` may take them) are read again from the disk.
(git's index: gitformat-index(5); conversions: gitattributes(5).)
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from parallelai.errors import StoreFullError
from parallelai.git.listing import existing, list_files
from parallelai.git.plumbing import Git, GitError

_GITLINK, _LINK = "160000", "120000"
_CONVERTS = re.compile(rb"\b(text|eol|filter|ident|crlf|working-tree-encoding)\b")
MOST_BYTES = 1024 * 1024
"""Of a file with git's patterns or attributes."""
_BLOCK = 4096
SPARE_BYTES = 64 * 1024 * 1024
"""What has to stay free on a disk that is written to."""


class UsersRepository(Struct, frozen=True):
    """The user's repository, which is only read: where git keeps what is needed of it.

    `form` is the hash that names its objects (`sha1`), `settings` are those of git that say how files are taken.
    """

    git: Git
    form: str
    settings: Mapping[str, str]
    objects: Path
    index: Path
    excludes: Path
    attributes: Path
    shallow: Path


class Gathered(Struct, frozen=True):
    """A tree of all that lies in a checkout, and the folders with repositories of which nothing could be taken.

    `size` is what the files take on a disk, in bytes.
    """

    tree: str
    left_out: tuple[str, ...]
    size: int


class _Entry(Struct, frozen=True):
    """One row of an index. `tag` is git's: `H` for what it watches, in lower case or `S` for what it overlooks."""

    path: str
    tag: str
    mode: str
    blob: str


async def gather(user: UsersRepository, head: str | None, root: Path, taking: Git) -> Gathered:
    """Write what lies at `root` into the index and the objects of `taking`; gives the tree.

    Raises:
        StoreFullError: there is no room for it.
        GitError: something cannot be read.
    """
    await asyncio.to_thread(_copy_index, user.index, taking)
    # Only touched, or copied as a whole: the content is compared, and nothing is written.
    await taking.attempt("update-index", "-q", "--unmerged", "--refresh")
    entries, others = _parted(
        await taking.run("ls-files", "-z", "-v", "--stage", "--others", "--exclude-standard")
    )
    named = {entry.path for entry in entries} | others
    names = set(await asyncio.to_thread(existing, root, named))
    links = {entry.path for entry in entries if entry.mode == _GITLINK}
    inner = await asyncio.to_thread(_files_of_repositories, root, links)
    files = names.union(*inner.values())
    doubtful = await _doubtful(user, head, taking, root, entries)
    again = {entry.path for entry in entries if entry.path not in files} | links | doubtful
    if again:
        await taking.run("update-index", "-z", "--force-remove", "--stdin", stdin=listing(again))
    await _add(taking, root, files, {entry.path for entry in entries} - again)
    # Without the user's objects at hand, so that git does not renew the times of those that it finds there.
    written = await taking.line("write-tree", "--missing-ok")
    size = await asyncio.to_thread(size_of, root, files)
    return Gathered(written, tuple(sorted(link for link in links if not inner[link])), size)


def listing(names: Iterable[str]) -> bytes:
    """Paths as git reads them from stdin with `-z`."""
    return b"".join(os.fsencode(name) + b"\0" for name in sorted(names))


def check_room(folder: Path, needed_bytes: int) -> None:
    """See that so much fits on the disk of a folder, and something stays free. Raises `StoreFullError`."""
    free, needed = shutil.disk_usage(folder).free, needed_bytes + SPARE_BYTES
    if free < needed:
        said = (
            f"only {free // 1_000_000} MB are free in `{folder}`, and {needed // 1_000_000 + 1} MB are needed"
        )
        raise StoreFullError(said, next="make room there, and try again")


def _copy_index(index: Path, taking: Git) -> None:
    """Copy the index with its time: git trusts an entry only if the index is younger than the file.

    One that is kept in two parts (`core.splitIndex`) names the other by its hash, beside the repository.
    """
    copy = taking.index
    if copy is None or not index.exists():
        return
    shutil.copy2(index, copy)
    for part in index.parent.glob("sharedindex.*"):
        shutil.copy2(part, taking.git_dir / part.name)


_OTHER = b"? "


def _parted(listed: bytes) -> tuple[list[_Entry], set[str]]:
    """Tell the entries of an index from the files that lie beside it."""
    entries, others = list[_Entry](), set[str]()
    for row in listed.split(b"\0")[:-1]:
        if row.startswith(_OTHER):
            others.add(os.fsdecode(row[len(_OTHER) :]))
            continue
        meta, path = row.split(b"\t", 1)
        tag, mode, blob, _ = meta.decode().split(" ")
        entries.append(_Entry(os.fsdecode(path), tag, mode, blob))
    return entries, others


def _files_of_repositories(root: Path, links: set[str]) -> dict[str, set[str]]:
    """The files of each submodule, by its path; none where it is not checked out."""
    found: dict[str, set[str]] = {}
    for link in links:
        folder = root / link
        is_there = (folder / ".git").exists() and folder.resolve() == root.resolve() / link
        tree = list_files(folder) if is_there else None
        found[link] = {f"{link}/{path}" for path in tree.paths} if tree is not None else set()
    return found


async def _doubtful(
    user: UsersRepository, head: str | None, taking: Git, root: Path, entries: list[_Entry]
) -> set[str]:
    """Tracked paths that have to be read, whatever the index says of them."""
    found = {entry.path for entry in entries if entry.tag != "H"}
    if head is None:
        found |= {entry.path for entry in entries}
    else:
        reading = Git(
            taking.git_dir, index=taking.index, alternates=(user.objects,), settings=taking.settings
        )
        changed = await reading.run("diff-index", "--cached", "-z", "--name-only", "--no-renames", head)
        found |= {os.fsdecode(path) for path in changed.split(b"\0")[:-1]}
    if await asyncio.to_thread(_is_converted, user, root, entries):
        found |= await asyncio.to_thread(_different, root, entries)
    return found


def _is_converted(user: UsersRepository, root: Path, entries: list[_Entry]) -> bool:
    """Whether git converts files here: by attributes, or by the user's settings."""
    settings = user.settings
    if settings.get("core.autocrlf", "false").casefold() in ("true", "input", "yes", "on", "1"):
        return True
    named = [root / entry.path for entry in entries if entry.path.rpartition("/")[2] == ".gitattributes"]
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    elsewhere = settings.get("core.attributesfile") or str(config / "git" / "attributes")
    files = (*named, root / ".gitattributes", user.attributes, Path(elsewhere).expanduser())
    return any(_CONVERTS.search(read_or_nothing(file)) for file in files)


def read_or_nothing(path: Path) -> bytes:
    """A small file's content, nothing where it cannot be read, or is a device or a pipe."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            is_file = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            return file.read(MOST_BYTES) if is_file else b""
    except OSError:
        return b""


def _different(root: Path, entries: list[_Entry]) -> set[str]:
    """The files whose bytes on disk are not those of the index."""
    found = set()
    top = os.fspath(root)
    for entry in entries:
        if entry.mode in (_GITLINK, _LINK):
            continue
        try:
            path = Path(f"{top}/{entry.path}")
            if not stat.S_ISREG(path.lstat().st_mode):
                found.add(entry.path)  # it became something else
                continue
            data = path.read_bytes()
        except OSError:
            continue  # gone, or named when it is added
        if blob_hash(data, is_sha256=len(entry.blob) == 64) != entry.blob:
            found.add(entry.path)
    return found


def blob_hash(data: bytes, *, is_sha256: bool = False) -> str:
    """The name that git gives a content."""
    header = b"blob %d\0" % len(data)
    return (hashlib.sha256 if is_sha256 else hashlib.sha1)(header + data).hexdigest()


async def _add(taking: Git, root: Path, files: set[str], known: set[str]) -> None:
    new = files - known
    needed = await asyncio.to_thread(size_of, root, new)
    await asyncio.to_thread(check_room, taking.git_dir, needed)
    try:
        await taking.run(
            "update-index", "-z", "--add", "--remove", "--replace", "--stdin", stdin=listing(files)
        )
    except GitError as error:
        await asyncio.to_thread(check_room, taking.git_dir, 0)
        advice = "make it readable, or let git ignore it"
        raise GitError(f"what is in the checkout cannot be taken: {error.said}", next=advice) from None


def size_of(root: Path, files: Iterable[str]) -> int:
    """How many bytes files take on a disk, in whole blocks; what is gone takes none."""
    total, top = 0, os.fspath(root)
    for name in files:
        try:
            total += -(-os.lstat(f"{top}/{name}").st_size // _BLOCK) * _BLOCK
        except OSError:
            continue
    return total
