"""Which workstreams there are: a JSON file for each below the project's state, safe for several processes.

A name, a branch and a folder belong to one workstream at a time: to the one that is not finished. What has
landed or was dropped no longer holds its name, and is kept as history once the name is used again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import secrets
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from parallelai.errors import BusyError, NotFoundError, StoreCorruptError, StoreError, UsageError
from parallelai.results.printable import visible
from parallelai.store.faults import told
from parallelai.store.files import sync_folder, write_whole
from parallelai.store.lock import FileLock
from parallelai.work.scratch.home import home
from parallelai.work.streams.record import Stream
from parallelai.work.streams.written import UnknownVersion, read_stream, write_stream

LOCK_SECONDS = 30.0
"""How long a change of the registry waits for another; each takes milliseconds."""
MOST_HISTORY = 500
MOST_BYTES = 64 * 1024 * 1024
FINISHED = ("landed", "dropped")


class Listing(Struct, frozen=True):
    """All workstreams that can be read, by name, and what is wrong with the files of the others."""

    streams: tuple[Stream, ...]
    errors: tuple[StoreError, ...] = ()


class Claim(Struct, frozen=True):
    """What a claim came to: the workstream, whether it is new, and the finished one that had its name before."""

    stream: Stream
    is_new: bool
    before: Stream | None = None


class Held(UsageError):
    """A name, branch or folder belongs to another workstream that is not finished."""

    kind = "busy"


class Streams:
    """The workstreams of a project. Make one for its state folder; all methods block for milliseconds."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.folder = state / "work" / "streams"
        self._history = self.folder / "history"
        self._lock_path = state / "work" / "streams.lock"

    # -- reading

    def listed(self) -> Listing:
        """List all, and name the files that cannot be read."""
        streams: list[Stream] = []
        errors: list[StoreError] = []
        for path in self._files():
            try:
                stream = _read(path)
            except StoreError as error:
                errors.append(error)
                continue
            if stream is not None:
                streams.append(stream)
        return Listing(tuple(streams), tuple(errors))

    def all(self) -> list[Stream]:
        """List all that can be read, by name; finished ones too, as long as nobody took their name."""
        return list(self.listed().streams)

    def open(self, plan: str | None = None) -> list[Stream]:
        """List those that are not finished: of a plan, or of all."""
        return [each for each in self.all() if not is_finished(each) and plan in (None, each.plan)]

    def get(self, name: str) -> Stream | None:
        """Give the workstream of a name, the unfinished or else the last one; None where there is none.

        Raises `StoreCorruptError` where its file is damaged.
        """
        return _read(self.path(name))

    def find(self, name: str) -> Stream:
        """Give the workstream of a name. Raises `NotFoundError`, `StoreCorruptError`."""
        found = self.get(name)
        if found is None:
            known = ", ".join(f"`{each.name}`" for each in self.all()[:20]) or "none"
            raise NotFoundError(f"there is no workstream `{name}`", next=f"there are: {known}")
        return found

    def history(self) -> list[Stream]:
        """List finished ones whose name was used again, newest first; what cannot be read is left out."""
        found = []
        for path in _newest_first(self._history):
            with contextlib.suppress(StoreError):
                stream = _read(path)
                if stream is not None:
                    found.append(stream)
        return found

    def worktrees(self) -> frozenset[str]:
        """Where assistants work, resolved: all worktrees, finished ones' too, git's folders of them, our own folders.

        Git's folder counts while the worktree is there: afterwards the user's next worktree may have its name.
        """
        present = self.all()
        known = (*present, *self.history())
        admins = (each.admin for each in present if each.admin and os.path.lexists(each.worktree))
        own = (str(self.state), str(home("any").parent))
        places = (*(each.worktree for each in known), *admins, *own)
        return frozenset(os.path.realpath(place) for place in places)

    def path(self, name: str) -> Path:
        """The file of a workstream: it is there as long as the workstream is."""
        if not name or "/" in name or name.startswith(".") or "\0" in name:
            advice = "`parallelai work status --all` lists them; a branch is named by `--branches`, where it may be"
            raise UsageError(f"`{visible(name)}` is no name of a workstream", next=advice)
        return self.folder / f"{name}.json"

    # -- writing

    def put(self, stream: Stream) -> None:
        """Write a workstream that was claimed down. Raises `Held` where another plan has its name now."""
        with self.locked():
            known = _read(self.path(stream.name))
            if known is not None and known.plan != stream.plan:
                raise _held_by(stream.name, "name", known)
            self._write(stream)

    def update(self, name: str, change: Callable[[Stream], Stream]) -> Stream:
        """Change a workstream in one step, whoever else writes; gives what it is now. Raises `NotFoundError`."""
        with self.locked():
            known = self.find(name)
            changed = change(known)
            if changed != known:
                self._write(changed)
            return changed

    def claim(self, wanted: Stream) -> Claim:
        """Take a name, a branch and a folder for a workstream.

        One of the same plan that is not finished is given back as it is, with what the plan and the run say of
        it now; its base, branch and folder stay. Raises `Held`, naming who has what.
        """
        with self.locked():
            known = _read(self.path(wanted.name))
            self.refuse_held(wanted)
            if known is not None and not is_finished(known):
                if known.plan != wanted.plan:
                    raise _held_by(wanted.name, "name", known)
                now = _continued(known, wanted)
                self._write(now)
                return Claim(now, False)
            self._retire_same(wanted.name)
            self._write(wanted)
            return Claim(wanted, True, known)

    def refuse_held(self, wanted: Stream) -> None:
        """Refuse a branch or a folder that another unfinished workstream has. Raises `Held`, which names it."""
        for other in self.open():
            if other.name != wanted.name:
                _refuse_clash(wanted, other)

    def retire(self, name: str) -> None:
        """Move a finished workstream to the history: it is begun anew, when it is."""
        with self.locked():
            known = _read(self.path(name))
            if known is not None and is_finished(known):
                self._retire_same(name)

    def forget(self, stream: Stream) -> None:
        """Take a claim back of which nothing was made."""
        with self.locked():
            known = _read(self.path(stream.name))
            if known is not None and known.plan == stream.plan and not known.is_ready:
                with told(self.folder):
                    self.path(stream.name).unlink(missing_ok=True)
                    sync_folder(self.folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the registry alone."""
        self._make_folders()
        lock = FileLock(self._lock_path)
        if not lock.wait(LOCK_SECONDS):
            raise BusyError(
                f"another process has held `{self._lock_path}` for {LOCK_SECONDS:g} s", next="try again"
            )
        try:
            yield
        finally:
            lock.release()

    def _make_folders(self) -> None:
        for folder in (self.folder.parent, self.folder):
            if folder.is_symlink():
                raise StoreError(f"`{folder}` is a link, and not ours", next="remove it")
            with told(folder):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _write(self, stream: Stream) -> None:
        write_whole(self.path(stream.name), write_stream(stream))

    def _retire_same(self, name: str) -> None:
        """Move finished ones of this name, also in other letters, to the history."""
        for path in self._files():
            if folded(path.stem) == folded(name):
                with told(self._history):
                    self._history.mkdir(exist_ok=True, mode=0o700)
                    path.rename(self._history / f"{path.stem}-{secrets.token_hex(6)}.json")
        for old in _newest_first(self._history)[MOST_HISTORY:]:
            with told(old):
                old.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        try:
            found = sorted(self.folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"`{self.folder}` cannot be read: {error.strerror}") from error
        return [path for path in found if path.suffix == ".json" and not path.name.startswith(".")]


def is_finished(stream: Stream) -> bool:
    """Whether a workstream has landed or was dropped."""
    return stream.state in FINISHED


def is_unfinished_file(path: Path) -> bool:
    """Whether a file is that of a workstream that is not finished; one that is damaged may be."""
    try:
        stream = _read(path)
    except StoreError:
        return True
    return stream is not None and not is_finished(stream)


def folded(name: str) -> str:
    """A name as a file system without upper and lower case sees it."""
    return unicodedata.normalize("NFC", name).casefold()


def _continued(known: Stream, wanted: Stream) -> Stream:
    return dataclasses.replace(
        known,
        run=wanted.run,
        rules=wanted.rules,
        description=wanted.description,
        depends_on=wanted.depends_on,
        priority=wanted.priority,
    )


def _refuse_clash(wanted: Stream, other: Stream) -> None:
    if folded(other.name) == folded(wanted.name):
        raise _held_by(wanted.name, "name", other)
    a, b = folded(wanted.branch), folded(other.branch)
    if a == b or a.startswith(f"{b}/") or b.startswith(f"{a}/"):
        raise _held_by(wanted.branch, "branch", other)
    one, two = folded(wanted.worktree), folded(other.worktree)
    if one == two or one.startswith(f"{two}/") or two.startswith(f"{one}/"):
        raise _held_by(wanted.worktree, "folder", other)


def _held_by(what: str, kind: str, other: Stream) -> Held:
    said = f"the {kind} `{what}` belongs to the workstream `{other.name}` of `{other.plan}`, which is not finished"
    return Held(
        said, next=f"land it, give it up (`parallelai work drop {other.name}`), or take another {kind}"
    )


@functools.lru_cache(maxsize=512)  # a run reads them some hundred times, and they seldom change
def _parsed(data: bytes) -> Stream:
    return read_stream(json.loads(data))


def _read(path: Path) -> Stream | None:
    """Read a workstream's file; None where there is none. Raises `StoreError`, `StoreCorruptError`."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"`{path}` cannot be read: {error.strerror}") from error
    try:
        if len(data) > MOST_BYTES:
            raise ValueError("it is too large")
        stream = _parsed(data)
        if stream.name != path.stem and path.parent.name != "history":
            raise ValueError(f"it is about `{stream.name}`")
    except UnknownVersion as error:
        raise StoreError(
            f"`{path}` was written by a newer ParallelAI ({error})", next="upgrade ParallelAI"
        ) from None
    except (ValueError, RecursionError) as error:
        raise StoreCorruptError(
            f"`{path}` is damaged: {error}",
            next="the branch and the worktree are untouched; move that file away, and start the workstream again",
        ) from None
    return stream


def _newest_first(folder: Path) -> list[Path]:
    try:
        found = [(path.stat().st_mtime_ns, path) for path in folder.iterdir() if path.suffix == ".json"]
    except OSError:
        return []
    return [path for _, path in sorted(found, reverse=True)]
