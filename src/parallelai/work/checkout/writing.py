"""Writing to the user's checkout: several files together or not at all, and nothing of the user's is lost.

Every set of writes has a record (`work.pending`) of what lay there and of what is to lie there. New contents
are written beside their places first, so that a full disk is met before anything changes. Then each file
changes places with its new content in one step, and what came out is compared with what was expected: what
somebody saved in between is seen and put back. A process that dies in the middle leaves the record, from
which the next call takes all back.

What remains: an editor that opened a file before it changed places, and writes into it afterwards, writes into
the old one.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from parallelai.plan.contents import content_digest
from parallelai.work.checkout.pending import (
    APPLYING,
    DONE,
    Pending,
    Step,
    Write,
    forget,
    load,
    mark,
    plan,
    save,
    state_of,
)
from parallelai.work.checkout.placing import (
    Content,
    NotWritten,
    check,
    drop,
    exchange,
    exists,
    is_one_file,
    is_same,
    lay,
    opened,
    put,
    read,
    read_as_git,
    read_in,
)

__all__ = ["Checkout", "Content", "NotWritten", "Write", "digest", "read", "written"]

_UNDO = ".undo"
_NO_FOLDER = (FileNotFoundError, NotADirectoryError)


class Checkout:
    """Writes to the checkout at `root`; `folder` keeps the records, one set of writes a name."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder

    def write(self, name: str, writes: list[Write]) -> None:
        """Write all or nothing, and keep the record under `name`.

        What an earlier call under this name wrote, and still lies there, stays in the record.

        Raises:
            NotWritten: something else lies at one of the paths by now, or there is no room.
        """
        for write in writes:
            check(write.path)
        with self._locked():
            self._recover()
            earlier = self._still_there(name, {write.path for write in writes})
            if not writes and earlier is not None:
                return
            forget(self._folder / name)
            self._write(name, writes, earlier)

    def undo(self, name: str, back: Collection[str] = ()) -> list[Write]:
        """Write back what lay there before, and forget the record; gives what is as before now.

        What somebody put back before stays as it is; `back` are paths where that is known to be so, though another
        thing lies there than lay there just before.

        Raises:
            NotWritten: there is no such record, or something else lies at one of the paths by now.
        """
        with self._locked():
            self._recover()
            record = self._folder / name
            applied = load(record) if state_of(record) == DONE else None
            if applied is None:
                raise NotWritten("it is not applied", [])
            undone = [Write(write.path, write.after, write.before) for write in applied.writes]
            left = [
                write for write in undone if write.path not in back and not self._is(write.path, write.after)
            ]
            changed = [write.path for write in left if not self._is(write.path, write.before)]
            if changed:
                raise NotWritten("it was edited since", changed)
            self._write(f"{name}{_UNDO}", left, removable=applied.folders, gone=applied.modes)
            forget(record)
            forget(self._folder / f"{name}{_UNDO}")
            return undone

    def recover(self, name: str | None = None) -> None:
        """Take back what a process left half done, under any name."""
        if self._folder.is_dir():
            with self._locked():
                self._recover()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one process at a time works on the records."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise NotWritten(f"`{self._folder}` cannot be written: {error.strerror}", []) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing leaves it to a child that was forked meanwhile
            os.close(lock)

    def _still_there(self, name: str, but: set[str]) -> Pending | None:
        """What an earlier call wrote and nobody touched since."""
        record = self._folder / name
        earlier = load(record) if state_of(record) == DONE else None
        if earlier is None:
            return None
        steps = [step for step in earlier.steps if step.write.path not in but]
        return replace(
            earlier, steps=tuple(step for step in steps if self._is(step.write.path, step.write.after))
        )

    def _is(self, path: str, content: Content | None) -> bool:
        """Whether this lies at a path."""
        try:
            return is_same(read_as_git(self._root, path), content)
        except NotWritten:
            return False

    # -- forward

    def _write(
        self,
        name: str,
        writes: list[Write],
        earlier: Pending | None = None,
        removable: Collection[str] | None = None,
        gone: Mapping[str, int] | None = None,
    ) -> None:
        """Write all or nothing. `gone` are folders that are made again, with their permission bits."""
        record = self._folder / name
        pending = plan(self._root, writes, earlier, removable)
        take_back: Callable[[Pending], bool] = self._clear
        try:
            save(record, pending)
            self._stage(pending)
            mark(record, APPLYING)
            take_back = self._take_back
            self._replace(pending, gone or {})
            mark(record, DONE)
        except BaseException as error:  # also a cancel: all or nothing
            if take_back(pending):
                forget(record)
            if isinstance(error, OSError):
                said = f"the checkout cannot be written: {error.strerror}"
                raise NotWritten(said, [write.path for write in writes]) from None
            raise
        self._finish(pending)

    def _stage(self, pending: Pending) -> None:
        """Write the new contents beside their places."""
        for step in pending.open_steps:
            if step.write.after is not None:
                with opened(self._root, step.beside) as beside:
                    lay(beside, step.new, step.write.after)

    def _replace(self, pending: Pending, gone: Mapping[str, int]) -> None:
        """Take away first, so that a folder can come where a file was, and a file where a folder was."""
        steps = pending.open_steps
        for step in steps:
            if step.write.before is not None and step.write.after is None:
                self._take_away(step)
        self._prune(pending)
        for step in steps:
            if step.write.before is not None and step.write.after is not None:
                self._change(step)
        for step in steps:
            if step.write.before is None and step.write.after is not None:
                self._make_folders(step.parent, gone)
                self._create(step)
        for folder in {each for step in steps for each in (step.parent, step.beside)}:
            with contextlib.suppress(*_NO_FOLDER, NotWritten), opened(self._root, folder) as descriptor:
                os.fsync(descriptor)

    def _take_away(self, step: Step) -> None:
        with self._place(step) as (parent, beside):
            os.rename(step.name, step.old, src_dir_fd=parent, dst_dir_fd=beside)
            self._see(step, beside)

    def _change(self, step: Step) -> None:
        with self._place(step) as (parent, beside):
            if exchange(parent, step.new, step.name):
                os.rename(step.new, step.old, src_dir_fd=parent, dst_dir_fd=parent)
                self._see(step, beside)
                return
            os.rename(step.name, step.old, src_dir_fd=parent, dst_dir_fd=beside)
            self._see(step, beside)
            self._put(step, parent, beside)

    def _create(self, step: Step) -> None:
        with self._place(step) as (parent, beside):
            self._put(step, parent, beside)

    @contextlib.contextmanager
    def _place(self, step: Step) -> Iterator[tuple[int, int]]:
        """The opened folders of a step: the one that its path lies in, and the one beside."""
        try:
            with opened(self._root, step.parent) as parent, opened(self._root, step.beside) as beside:
                yield parent, beside
        except (*_NO_FOLDER, NotWritten):
            raise NotWritten("it was edited meanwhile", [step.write.path]) from None

    def _see(self, step: Step, beside: int) -> None:
        """See that what was taken away is what was expected."""
        if not is_same(read_in(beside, step.old), step.write.before):
            raise NotWritten("it was edited meanwhile", [step.write.path])

    def _put(self, step: Step, parent: int, beside: int) -> None:
        try:
            put(beside, step.new, parent, step.name)
        except FileExistsError:
            raise NotWritten("it was made meanwhile", [step.write.path]) from None

    def _make_folders(self, folder: str, modes: Mapping[str, int]) -> None:
        for each in (*reversed(PurePosixPath(folder).parents[:-1]), PurePosixPath(folder)):
            if not each.parts:
                continue
            with opened(self._root, str(each.parent)) as parent, contextlib.suppress(FileExistsError):
                os.mkdir(each.name, modes.get(str(each), 0o777), dir_fd=parent)
                if str(each) in modes:
                    os.chmod(each.name, modes[str(each)], dir_fd=parent)

    def _prune(self, pending: Pending) -> None:
        """Remove the folders that were emptied."""
        for folder in sorted(pending.modes, key=lambda each: each.count("/"), reverse=True):
            self._remove_empty(folder)

    def _remove_empty(self, folder: str) -> None:
        path = PurePosixPath(folder)
        with contextlib.suppress(OSError, NotWritten), opened(self._root, str(path.parent)) as parent:
            os.rmdir(path.name, dir_fd=parent)

    def _finish(self, pending: Pending) -> None:
        """Remove what is beside, once all is done; a later call goes on with it."""
        self._clear(pending)
        self._prune(pending)

    # -- back

    def _recover(self) -> None:
        names = sorted(path.name for path in self._folder.iterdir() if path.is_dir())
        for name in names:
            record = self._folder / name
            pending, state = load(record), state_of(record)
            if pending is not None and state == DONE:
                self._finish(pending)
            elif pending is None or (self._take_back if state == APPLYING else self._clear)(pending):
                forget(record)
        for name in names:
            if name.endswith(_UNDO) and state_of(self._folder / name) == DONE:
                forget(self._folder / name.removesuffix(_UNDO))
                forget(self._folder / name)

    def _clear(self, pending: Pending) -> bool:
        """Remove what was laid beside the places."""
        for step in pending.open_steps:
            with contextlib.suppress(*_NO_FOLDER, NotWritten), opened(self._root, step.beside) as beside:
                drop(beside, step.new)
                drop(beside, step.old)
        return True

    def _take_back(self, pending: Pending) -> bool:
        """Undo what was half done: what was taken away goes back, what was put there goes; says whether all did."""
        steps = pending.open_steps
        is_whole = True
        order = [step for step in steps if step.write.before is None]
        order_of_old = [step for step in steps if step.write.before is not None]
        for step in order:
            is_whole &= self._try(step, self._take_out)
        for folder in reversed(pending.folders):
            self._remove_empty(folder)
        for step in order_of_old:
            is_whole &= self._try(step, functools.partial(self._put_back, modes=pending.modes))
        return is_whole

    def _try(self, step: Step, action: Callable[[Step], None]) -> bool:
        try:
            action(step)
        except NotWritten:
            return True  # somebody put something else in the way: it is theirs
        except OSError:
            return False
        return True

    def _take_out(self, step: Step) -> None:
        """Take a new file out again, if it is ours."""
        with opened(self._root, step.beside) as beside:
            # Where a link is in the way of its folder, or anything else, it never came to lie there.
            with contextlib.suppress(*_NO_FOLDER, NotWritten), opened(self._root, step.parent) as parent:
                is_ours = is_one_file(parent, step.name, beside, step.new) or (
                    not exists(beside, step.new) and is_same(read_in(parent, step.name), step.write.after)
                )
                if is_ours:
                    drop(parent, step.name)
            drop(beside, step.new)

    def _put_back(self, step: Step, modes: Mapping[str, int]) -> None:
        """Put back what was taken away, unless somebody put something else there since."""
        write = step.write
        with opened(self._root, step.beside) as beside:
            if not exists(beside, step.old) and write.after is not None:
                new = read_in(beside, step.new)
                if new is not None and not is_same(new, write.after):  # it had just changed places
                    os.rename(step.new, step.old, src_dir_fd=beside, dst_dir_fd=beside)
            if exists(beside, step.old):
                self._make_folders(step.parent, modes)
                with opened(self._root, step.parent) as parent:
                    now = read_in(parent, step.name)
                    if now is not None and write.after is not None and is_same(now, write.after):
                        os.rename(step.old, step.name, src_dir_fd=beside, dst_dir_fd=parent)
                    elif now is None:
                        put(beside, step.old, parent, step.name)
            if is_same(read_in(beside, step.old), write.before) or self._is_back(step, beside):
                drop(beside, step.old)  # else somebody's edit, that another one took the place of: it stays
            drop(beside, step.new)

    def _is_back(self, step: Step, beside: int) -> bool:
        with opened(self._root, step.parent) as parent:
            return is_one_file(parent, step.name, beside, step.old)


def written(writes: Iterable[Write]) -> dict[str, tuple[str | None, str | None]]:
    """For each path the hash of what lay there and of what lies there now."""
    return {write.path: (digest(write.before), digest(write.after)) for write in writes}


def digest(content: Content | None) -> str | None:
    """The hash of what lies at a path; None where nothing does."""
    return None if content is None else content_digest(content.data)
