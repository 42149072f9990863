"""Writing to the user's checkout: several files together or not at all, and nothing of the user's is lost.

Every set of writes has a folder of its own with a record of what lay there and what is to lie there. New
contents are written beside their places first, so that a full disk is met before anything changes. Then each
file is moved aside, compared with what was expected, and only then replaced: what somebody saved in between
is seen and put back. A process that dies in the middle leaves the record, from which `recover` takes all
back.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from parallelai.errors import ParallelAIError
from parallelai.run.fingerprint import content_digest

RECORD = "record.json"
APPLYING, DONE = "applying", "done"
_ASIDE, _NEW = ".parallelai-aside", ".parallelai-new"


class NotWritten(ParallelAIError):
    """The checkout is not as expected; nothing was written. `paths` are those that stand in the way."""

    def __init__(self, said: str, paths: Iterable[str]) -> None:
        super().__init__(said)
        self.paths = tuple(sorted(paths))


@dataclass(frozen=True, slots=True)
class Content:
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


@dataclass(frozen=True, slots=True)
class Write:
    """One path: what lies there, and what is to; None is nothing."""

    path: str
    before: Content | None
    after: Content | None


def read(root: Path, path: str) -> Content | None:
    """Give what lies at a path, None where nothing does.

    Raises:
        NotWritten: there is something else than a file or link, or the path lies behind a link.
    """
    full = _inside(root, path)
    try:
        status = os.lstat(full)
        if stat.S_ISLNK(status.st_mode):
            return Content(os.fsencode(os.readlink(full)), 0o777, True)  # noqa: PTH115 -- bytes are kept
        if stat.S_ISREG(status.st_mode):
            return Content(full.read_bytes(), stat.S_IMODE(status.st_mode))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise NotWritten(f"`{path}` cannot be read: {error.strerror}", [path]) from None
    raise NotWritten(f"`{path}` is no file", [path])


def _inside(root: Path, path: str) -> Path:
    """The absolute path. Raises `NotWritten` where it is git's own, or a folder on the way to it is a link."""
    parts = PurePosixPath(path).parts
    if (
        not parts
        or PurePosixPath(path).is_absolute()
        or ".." in parts
        or ".git" in (p.casefold() for p in parts)
    ):
        raise NotWritten(f"`{path}` may not be written", [path])
    folder = root
    for part in parts[:-1]:
        folder /= part
        if folder.is_symlink():
            raise NotWritten(f"`{path}` lies behind a link", [path])
    return root / path


class Checkout:
    """Writes to the checkout at `root`; `folder` keeps the records, one set of writes a name."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder

    def write(self, name: str, writes: list[Write]) -> None:
        """Write all or nothing, and keep the record under `name`.

        Raises:
            NotWritten: something else lies at one of the paths by now, or there is no room.
        """
        self.recover(name)
        record = self._folder / name
        take_back = self._clear
        try:
            self._prepare(record, writes)
            self._stage(writes)
            _mark(record, APPLYING)
            take_back = self._take_back
            self._replace(writes)
        except BaseException as error:
            take_back(writes)
            _drop(record)
            if isinstance(error, OSError):
                said = f"the checkout cannot be written: {error.strerror}"
                raise NotWritten(said, [write.path for write in writes]) from None
            raise
        _mark(record, DONE)

    def undo(self, name: str) -> list[Write]:
        """Write back what lay there before, and forget the record; gives what was written back.

        Raises:
            NotWritten: there is no such record, or something else lies at one of the paths by now.
        """
        self.recover(name)
        record = self._folder / name
        writes = _load(record)
        if writes is None:
            raise NotWritten("it is not applied", [])
        back = [Write(write.path, write.after, write.before) for write in writes]
        changed = [write.path for write in back if not _is_exactly(self._root, write)]
        if changed:
            raise NotWritten("it was edited since", changed)
        self.write(f"{name}.undo", back)
        self.recover(name)
        return back

    def recover(self, name: str) -> None:
        """Take back what a process left half done, and forget what it had undone."""
        if _state(self._folder / f"{name}.undo") == DONE:
            _drop(self._folder / name)
            _drop(self._folder / f"{name}.undo")
        for each in (name, f"{name}.undo"):
            record = self._folder / each
            if _state(record) == APPLYING:
                self._take_back(_load(record) or [])
            elif _state(record) != DONE:
                self._clear(_load(record) or [])
            if record.exists() and _state(record) != DONE:
                _drop(record)

    # -- one after another

    def _prepare(self, record: Path, writes: list[Write]) -> None:
        record.mkdir(parents=True, exist_ok=True, mode=0o700)
        rows = []
        for number, write in enumerate(writes):
            row: dict[str, object] = {"path": write.path}
            for side, content in (("before", write.before), ("after", write.after)):
                if content is not None:
                    _put(record / f"{number}.{side}", content.data)
                    row[side] = {"mode": content.mode, "is_link": content.is_link}
            rows.append(row)
        for state in (APPLYING, DONE):  # now, while there is room: later it is renamed
            _put(record / f"state.{state}", state.encode())
        _put(record / RECORD, json.dumps(rows).encode())
        _sync_folder(record)

    def _stage(self, writes: list[Write]) -> None:
        """Write the new contents beside their places."""
        for write in writes:
            full = _inside(self._root, write.path)
            full.parent.mkdir(parents=True, exist_ok=True)
            if write.after is not None:
                _lay(_beside(full, _NEW), write.after)

    def _replace(self, writes: list[Write]) -> None:
        for write in writes:
            full = _inside(self._root, write.path)
            aside, new = _beside(full, _ASIDE), _beside(full, _NEW)
            with contextlib.suppress(FileNotFoundError):
                full.rename(aside)
            if not _matches(self._root, aside, write.before):
                raise NotWritten("it was edited meanwhile", [write.path])
            if write.after is not None:
                _lay_anew(new, full, write.after)
        for write in writes:
            full = self._root / write.path
            for suffix in (_ASIDE, _NEW):
                _beside(full, suffix).unlink(missing_ok=True)
            if write.after is None:
                _remove_empty(full.parent, self._root)
            else:
                _sync_folder(full.parent)

    def _clear(self, writes: list[Write]) -> None:
        """Remove what was laid beside the places, where nothing was replaced yet."""
        for write in writes:
            with contextlib.suppress(OSError, NotWritten):
                full = _inside(self._root, write.path)
                _beside(full, _NEW).unlink(missing_ok=True)
                _remove_empty(full.parent, self._root)

    def _take_back(self, writes: list[Write]) -> None:
        """Make what was half done undone: what was moved aside goes back, what was ours goes."""
        for write in writes:
            try:
                full = _inside(self._root, write.path)
                aside, new = _beside(full, _ASIDE), _beside(full, _NEW)
                full.parent.mkdir(parents=True, exist_ok=True)
                is_ours = _is_same_file(full, new) or _matches(self._root, full, write.after)
                if aside.is_symlink() or aside.exists():
                    if is_ours:
                        full.unlink(missing_ok=True)
                    if not (full.is_symlink() or full.exists()):
                        aside.rename(full)
                elif is_ours and not _matches(self._root, full, write.before):
                    full.unlink(missing_ok=True)
                    if write.before is not None:
                        _lay(full, write.before)
                new.unlink(missing_ok=True)
                if not full.exists():
                    _remove_empty(full.parent, self._root)
            except (OSError, NotWritten):
                continue


def written(writes: Iterable[Write]) -> dict[str, tuple[str | None, str | None]]:
    """For each path the hash of what lay there and of what lies there now."""
    return {write.path: (_digest(write.before), _digest(write.after)) for write in writes}


def _digest(content: Content | None) -> str | None:
    return None if content is None else content_digest(content.data)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name[:200]}{suffix}")


def _lay(path: Path, content: Content) -> None:
    path.unlink(missing_ok=True)
    if content.is_link:
        path.symlink_to(os.fsdecode(content.data))
        return
    _put(path, content.data)
    path.chmod(content.mode)


def _lay_anew(new: Path, full: Path, content: Content) -> None:
    """Put what was written beside a path there. Unlike a rename, this replaces nothing that came meanwhile."""
    try:
        os.link(new, full, follow_symlinks=False)
    except FileExistsError:
        raise NotWritten("it was made meanwhile", [full.name]) from None
    except OSError:  # a file system without hard links
        if content.is_link:
            full.symlink_to(os.fsdecode(content.data))
        else:
            _put(full, content.data, "xb")
            full.chmod(content.mode)


def _put(path: Path, data: bytes, mode: Literal["wb", "xb"] = "wb") -> None:
    with path.open(mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _matches(root: Path, path: Path, content: Content | None) -> bool:
    """Whether exactly this lies at a path."""
    try:
        found = read(root, str(path.relative_to(root)))
    except NotWritten:
        return False
    return found == content if found is None or content is None else found.same(content)


def _is_exactly(root: Path, write: Write) -> bool:
    return _matches(root, root / write.path, write.before)


def _is_same_file(a: Path, b: Path) -> bool:
    try:
        return os.path.samestat(os.lstat(a), os.lstat(b))
    except OSError:
        return False


def _remove_empty(folder: Path, root: Path) -> None:
    while folder != root:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


# -- records


def _mark(record: Path, state: str) -> None:
    (record / f"state.{state}").rename(record / "state")
    _sync_folder(record)


def _state(record: Path) -> str | None:
    try:
        return (record / "state").read_text(encoding="utf-8")
    except OSError:
        return None


def _load(record: Path) -> list[Write] | None:
    try:
        rows = json.loads((record / RECORD).read_bytes())
    except (OSError, ValueError):
        return None
    return [
        Write(row["path"], *(_content(record, number, side, row.get(side)) for side in ("before", "after")))
        for number, row in enumerate(rows)
    ]


def _content(record: Path, number: int, side: str, row: dict[str, int] | None) -> Content | None:
    if row is None:
        return None
    return Content((record / f"{number}.{side}").read_bytes(), int(row["mode"]), bool(row["is_link"]))


def _drop(record: Path) -> None:
    """Forget a record: its state goes first, so that a half one means nothing."""
    for name in ("state", RECORD):
        (record / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        for path in record.iterdir():
            path.unlink()
        record.rmdir()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
