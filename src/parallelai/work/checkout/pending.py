"""The record of one set of writes: what lay there, what is to lie there, and how far it came.

    <name>/record.json      the paths, with the names beside them that are used on the way
    <name>/<n>.before       the contents, byte by byte
    <name>/<n>.after
    <name>/state            absent: nothing was replaced; `applying`: take it back; `done`

All of it is on the disk before anything in the checkout changes; the state is replaced in one step.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from msgspec import Struct

from parallelai.work.checkout.placing import Content, NotWritten, check

APPLYING, DONE = "applying", "done"
_RECORD, _STATE = "record.json", "state"


class Write(Struct, frozen=True):
    """One path: what lies there, and what is to; None is nothing."""

    path: str
    before: Content | None
    after: Content | None


@dataclass(frozen=True, slots=True)
class Step:
    """A write, and where its contents lie meanwhile: `new` and `old` in the folder `beside`.

    `is_there`: an earlier call wrote it, and only its undoing is left to know.
    """

    write: Write
    beside: str = "."
    new: str = ""
    old: str = ""
    is_there: bool = False

    @property
    def parent(self) -> str:
        return str(PurePosixPath(self.write.path).parent)

    @property
    def name(self) -> str:
        return PurePosixPath(self.write.path).name


@dataclass(frozen=True, slots=True)
class Pending:
    """A set of writes. `folders` are those that it makes; `modes` those that it may empty, with their bits."""

    steps: tuple[Step, ...]
    folders: tuple[str, ...] = ()
    modes: Mapping[str, int] = field(default_factory=dict)

    @property
    def writes(self) -> list[Write]:
        return [step.write for step in self.steps]

    @property
    def open_steps(self) -> list[Step]:
        return [step for step in self.steps if not step.is_there]


def plan(
    root: Path, writes: list[Write], earlier: Pending | None = None, removable: Collection[str] | None = None
) -> Pending:
    """Say where everything lies meanwhile.

    `earlier` was written before and stays in the record. `removable` are the folders that may go when they
    are empty, if those are known: all that files are taken from otherwise.
    """
    taken = {write.path for write in writes if write.after is not None}
    token = secrets.token_hex(6)
    steps, made, emptied = [], set[str](), dict[str, int]()
    for number, write in enumerate(writes):
        beside, missing = _beside(root, write.path, taken)
        name = f".parallelai-{token}-{number}"
        steps.append(Step(write, beside, f"{name}.new", f"{name}.old"))
        if write.after is not None:
            made.update(missing)
        else:
            emptied.update(_modes(root, write.path))
    if removable is not None:
        emptied = {folder: mode for folder, mode in emptied.items() if folder in removable}
    if earlier is not None:
        steps.extend(replace(step, is_there=True) for step in earlier.steps)
        made.update(earlier.folders)
        emptied.update(earlier.modes)
    folders = tuple(sorted(made, key=lambda folder: folder.count("/")))
    return Pending(tuple(steps), folders, emptied)


def _beside(root: Path, path: str, taken: set[str]) -> tuple[str, list[str]]:
    """The nearest folder that is there and stays, and those on the way that are not."""
    beside, missing = ".", list[str]()
    for folder in reversed(PurePosixPath(path).parents[:-1]):
        name = str(folder)
        if missing or name in taken or not _is_folder(root / name):
            missing.append(name)
        else:
            beside = name
    return beside, [name for name in missing if not _is_folder(root / name)]


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _modes(root: Path, path: str) -> dict[str, int]:
    folders = [str(folder) for folder in PurePosixPath(path).parents[:-1]]
    return {
        folder: stat.S_IMODE((root / folder).lstat().st_mode)
        for folder in folders
        if _is_folder(root / folder)
    }


# -- on disk


def save(record: Path, pending: Pending) -> None:
    """Write a record down, contents and all."""
    record.mkdir(parents=True, exist_ok=True, mode=0o700)
    rows = []
    for number, step in enumerate(pending.steps):
        row: dict[str, Any] = {name: getattr(step, name) for name in ("beside", "new", "old", "is_there")}
        row["write"] = step.write.path
        for side, content in (("before", step.write.before), ("after", step.write.after)):
            if content is not None:
                put(record / f"{number}.{side}", content.data)
                row[side] = {"mode": content.mode, "is_link": content.is_link}
        rows.append(row)
    data = {"version": 1, "steps": rows, "folders": pending.folders, "modes": dict(pending.modes)}
    put(record / _RECORD, json.dumps(data).encode())
    sync_folder(record)
    sync_folder(record.parent)


def load(record: Path) -> Pending | None:
    """Read a record; None where there is no whole one, or it names what is not below the checkout."""
    try:
        data = json.loads((record / _RECORD).read_bytes())
        steps = tuple(_step(record, number, row) for number, row in enumerate(data["steps"]))
        modes = {str(folder): int(mode) for folder, mode in data["modes"].items()}
        pending = Pending(steps, tuple(data["folders"]), modes)
        _refuse_outside(pending)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NotWritten):
        return None
    return pending


_OURS = re.compile(r"(?:\.parallelai-[0-9a-f]{12}-\d+\.(?:new|old))?")


def _refuse_outside(pending: Pending) -> None:
    """Raise `NotWritten` for a record that is not one of ours: it would be carried out on trust."""
    for step in pending.steps:
        check(step.write.path)
        if step.beside != ".":
            check(step.beside)
        for name in (step.new, step.old):
            if _OURS.fullmatch(name) is None:
                raise NotWritten(f"`{name}` is no name of ours", [name])
    for folder in (*pending.folders, *pending.modes):
        check(folder)


def _step(record: Path, number: int, row: dict[str, Any]) -> Step:
    before, after = (_content(record, number, side, row.get(side)) for side in ("before", "after"))
    return Step(Write(row["write"], before, after), row["beside"], row["new"], row["old"], row["is_there"])


def _content(record: Path, number: int, side: str, row: dict[str, Any] | None) -> Content | None:
    if row is None:
        return None
    return Content((record / f"{number}.{side}").read_bytes(), int(row["mode"]), bool(row["is_link"]))


def mark(record: Path, state: str) -> None:
    """Say how far it came."""
    new = record / "state.new"
    put(new, state.encode())
    new.replace(record / _STATE)
    sync_folder(record)


def state_of(record: Path) -> str | None:
    """Say how far it came; None where nothing was replaced, or there is no such record."""
    try:
        return (record / _STATE).read_text(encoding="utf-8")
    except OSError:
        return None


def forget(record: Path) -> None:
    """Forget a record: its state goes first, so that half a record means nothing."""
    for name in (_STATE, _RECORD):
        (record / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        for path in record.iterdir():
            path.unlink()
        record.rmdir()


def put(path: Path, data: bytes) -> None:
    """Write a file, down to the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring the names of a folder down to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
