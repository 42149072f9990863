"""One path of the user's checkout: read, laid beside, exchanged; no link on the way to it is ever followed.

Folders are opened one below the other, each without following a link, and all is done in the opened folder:
what somebody puts in its place meanwhile is not touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from msgspec import Struct

from parallelai.errors import ParallelAIError
from parallelai.git.paths import is_gits_own

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_EXCHANGE = 2  # RENAME_EXCHANGE, renameat2(2)
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)


class NotWritten(ParallelAIError):
    """The checkout is not as expected; nothing was written. `paths` are those that stand in the way."""

    def __init__(self, said: str, paths: Iterable[str]) -> None:
        super().__init__(said)
        self.paths = tuple(sorted(paths))


class BehindLink(NotWritten):
    """A folder on the way to a path is a link: for git nothing is there, and nothing may be written."""


class Content(Struct, frozen=True):
    """What lies at a path: a file's bytes and permission bits, or a link's target."""

    data: bytes
    mode: int
    is_link: bool = False

    def same(self, other: Content | None) -> bool:
        """Whether two are the same to git: bytes, kind, and who may execute."""
        return (
            other is not None
            and self.data == other.data
            and self.is_link == other.is_link
            and (self.is_link or bool(self.mode & 0o100) == bool(other.mode & 0o100))
        )


def is_same(one: Content | None, other: Content | None) -> bool:
    """Whether the same lies at two places; nothing is the same as nothing."""
    return other is None if one is None else one.same(other)


def check(path: str) -> PurePosixPath:
    """Give a path as such. Raises `NotWritten` where it leads out of the checkout, or is git's own."""
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts or any(map(is_gits_own, parts)):
        raise NotWritten(f"`{path}` may not be written", [path])
    return PurePosixPath(path)


@contextlib.contextmanager
def opened(root: Path, folder: str) -> Iterator[int]:
    """Open a folder below the root.

    Raises:
        NotWritten: it lies behind a link, or is one.
        FileNotFoundError, NotADirectoryError: there is none.
    """
    parts = PurePosixPath(folder).parts
    if PurePosixPath(folder).is_absolute() or ".." in parts:
        raise NotWritten(f"`{folder}` leads out of the checkout", [folder])
    descriptor = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
    try:
        for part in parts:
            inner = _step(descriptor, part, folder)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _step(descriptor: int, part: str, folder: str) -> int:
    try:
        return os.open(part, _FOLDER, dir_fd=descriptor)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and stat.S_ISLNK(
            os.stat(part, dir_fd=descriptor, follow_symlinks=False).st_mode
        ):
            raise BehindLink(f"`{folder}` lies behind a link", [folder]) from None
        raise


def read(root: Path, path: str) -> Content | None:
    """Give what lies at a path, None where nothing or a folder does.

    Raises:
        NotWritten: there is something else than a file, link or folder, or the path lies behind a link.
    """
    clean = check(path)
    try:
        with opened(root, str(clean.parent)) as folder:
            return read_in(folder, clean.name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except BehindLink:
        raise BehindLink(f"`{path}` lies behind a link", [path]) from None
    except NotWritten as error:
        raise NotWritten(error.said, [path]) from None
    except OSError as error:
        raise NotWritten(f"`{path}` cannot be read: {error.strerror}", [path]) from None


def read_as_git(root: Path, path: str) -> Content | None:
    """Give what git sees at a path: nothing where it lies behind a link. Raises `NotWritten` as `read` does."""
    try:
        return read(root, path)
    except BehindLink:
        return None


def read_in(folder: int, name: str) -> Content | None:
    """Give what lies at a name of an opened folder, None where nothing or a folder does."""
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return Content(os.fsencode(os.readlink(name, dir_fd=folder)), 0o777, True)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            with open(descriptor, "rb", closefd=False) as file:
                return Content(file.read(), stat.S_IMODE(mode))
    finally:
        os.close(descriptor)
    if stat.S_ISDIR(mode):
        return None
    raise NotWritten(f"`{name}` is no file", [name])


def lay(folder: int, name: str, content: Content) -> None:
    """Write a content to a new name of an opened folder, down to the disk."""
    if content.is_link:
        os.symlink(content.data, os.fsencode(name), dir_fd=folder)
        return
    with open(os.open(name, _NEW, 0o600, dir_fd=folder), "wb") as file:  # noqa: PTH123
        file.write(content.data)
        file.flush()
        os.fchmod(file.fileno(), content.mode & 0o777)  # what runs as somebody else was approved as it was
        os.fsync(file.fileno())


def exists(folder: int, name: str) -> bool:
    """Whether anything lies at a name, be it a link to nowhere."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def is_one_file(folder: int, name: str, other_folder: int, other: str) -> bool:
    """Whether two names are the same file."""
    try:
        one = os.stat(name, dir_fd=folder, follow_symlinks=False)
        return os.path.samestat(one, os.stat(other, dir_fd=other_folder, follow_symlinks=False))
    except FileNotFoundError:
        return False


def drop(folder: int, name: str) -> None:
    """Remove a name, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def exchange(folder: int, name: str, other: str) -> bool:
    """Let two names of a folder change places in one step; False where the file system cannot do it."""
    libc = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(libc, "renameat2", None)
    if renameat2 is None:
        return False
    one, two = (ctypes.c_char_p(os.fsencode(each)) for each in (name, other))
    if renameat2(folder, one, folder, two, ctypes.c_uint(_EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), name)


def put(folder: int, name: str, into: int, new: str) -> None:
    """Let a file have a second name, which is free. Raises `FileExistsError` where it is not.

    Where the file system has no second names the file is moved, and a name that is made in that very moment
    is lost.
    """
    try:
        os.link(name, new, src_dir_fd=folder, dst_dir_fd=into, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (*_UNSUPPORTED, errno.EMLINK) or exists(into, new):
            raise
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=into)
