"""A client's own folder: its login and sessions, and what in it makes a client run or obey something later.

The folder is bound writable, because logins rotate (CONTRACTS §7). What is obeyed in it is not to be written by
a session: read-only where a sandbox can say so, and looked at before and after in any case.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct, field

from parallelai.engines.untrusted import clean, shorten
from parallelai.errors import Unavailable

MAX_ENTRIES = 20_000
"""More files than this are not looked at: somebody's collection of plugins, not a session's work."""
MAX_FOUND = 10 * MAX_ENTRIES
"""What a session may have added to them."""
MAX_KEPT_BYTES = 8 * 1024 * 1024
MAX_FILE_BYTES = 512 * 1024
_SHOWN = 5


class Home(Struct, frozen=True):
    """Where one client keeps its things.

    `obeyed` are names below `folder` of what it runs or obeys; `own` are those below them that it writes
    itself at every start, and `state` what it would write and can do without.
    """

    folder: Path
    obeyed: tuple[str, ...]
    own: tuple[str, ...] = ()
    state: tuple[str, ...] = ()

    def make(self, client: str) -> None:
        """Make the folder where it is missing, as the client would. Raises `Unavailable`."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            said = f"`{self.folder}`, the folder of `{client}`, cannot be made: {error.strerror}"
            raise Unavailable(said) from None

    def protected(self) -> tuple[str, ...]:
        """Give what is there and not to be written."""
        names = (*self.obeyed, *self.state)
        return tuple(str(self.folder / name) for name in names if os.path.lexists(self.folder / name))


class Look(Struct, frozen=True):
    """What was there: each file as (kind and mode, size, time of change), with the content of small ones."""

    entries: dict[str, tuple[int, int, int]]
    contents: dict[str, bytes] = field(default_factory=dict)
    is_whole: bool = True


def look(home: Home, *, keep: bool, most: int = MAX_ENTRIES) -> Look:
    """Look at what a client obeys. With `keep` the content of small files is kept, to restore it."""
    entries: dict[str, tuple[int, int, int]] = {}
    contents: dict[str, bytes] = {}
    room = MAX_KEPT_BYTES
    for path in _files(home):
        if len(entries) >= most:
            return Look(entries, contents, is_whole=False)
        found = _seen(path)
        if found is None:
            continue
        name = str(path.relative_to(home.folder))
        entries[name] = found
        if keep and stat.S_ISREG(found[0]) and found[1] <= min(MAX_FILE_BYTES, room):
            contents[name] = _read(path)
            room -= found[1]
    return Look(entries, contents)


def take_back(home: Home, before: Look, aside: Path | None) -> tuple[str, ...]:
    """Undo what has appeared or changed since, and say so in notes; what was taken is kept in `aside`.

    Without `aside` it is kept under another name, which no client obeys.
    """
    if not before.is_whole:
        return ()
    after = look(home, keep=False, most=MAX_FOUND)
    if not after.is_whole:
        return (f"it filled {home.folder} with so much that nobody looked at it: see whether it is yours",)
    taken: list[str] = []
    for name, found in after.entries.items():
        if before.entries.get(name) == found:
            continue
        path = home.folder / name
        if _content_of(path) == before.contents.get(name, b"\0") and name in before.contents:
            continue
        _put_aside(path, name, aside)
        if name in before.contents:
            _restore(path, name, before)
        taken.append(name)
    taken += _put_back(home, before)
    if not taken:
        return ()
    shown = ", ".join(f"`{shorten(clean(name), 200)}`" for name in taken[:_SHOWN])
    more = " …" if len(taken) > _SHOWN else ""
    place = f"; what was there is in {aside}" if aside is not None else ""
    return (f"took back what it wrote into {home.folder}, which would be obeyed later: {shown}{more}{place}",)


def _files(home: Home) -> Iterator[Path]:
    own = {home.folder / name for name in home.own}
    for name in home.obeyed:
        yield from _below(home.folder / name, own)


def _below(path: Path, own: set[Path]) -> Iterator[Path]:
    if path in own:
        return
    if path.is_dir() and not path.is_symlink():
        try:
            names = sorted(os.listdir(path))  # noqa: PTH208 - names are enough
        except OSError:
            return
        for name in names:
            yield from _below(path / name, own)
    elif os.path.lexists(path):
        yield path


def _seen(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_mode, found.st_size, found.st_mtime_ns


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError:
        return b""


def _content_of(path: Path) -> bytes | None:
    return _read(path) if path.is_file() and not path.is_symlink() else None


def _put_back(home: Home, before: Look) -> list[str]:
    """Restore what was removed: it may have held the client back, by a rule or a list of what to deny."""
    gone = [name for name in before.contents if not os.path.lexists(home.folder / name)]
    found = [name for name in gone if _is_ours((home.folder / name).parent, home.folder)]
    for name in found:
        (home.folder / name).parent.mkdir(parents=True, exist_ok=True)
        _restore(home.folder / name, name, before)
    return found


def _is_ours(path: Path, folder: Path) -> bool:
    """Say whether no link leads from `folder` to a path below it."""
    return path == folder or (not path.is_symlink() and _is_ours(path.parent, folder))


def _restore(path: Path, name: str, before: Look) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(before.contents[name])
        os.fchmod(file.fileno(), stat.S_IMODE(before.entries[name][0]))


def _put_aside(path: Path, name: str, aside: Path | None) -> None:
    """Move a file away without following links; a name that is taken gets a number."""
    base = path.with_name(f"{path.name}.taken-back") if aside is None else aside / name.replace("/", "__")
    target, number = base, 1
    while os.path.lexists(target):
        target, number = base.with_name(f"{base.name}.{number}"), number + 1
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
    except OSError:
        path.unlink(missing_ok=True)
