"""What the guard remembers from before a turn until its end was looked at, on disk: a killed process goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parallelai.work.guard.keeping import sync
from parallelai.work.guard.standing import Standing
from parallelai.work.guard.watch import Saved, Watch
from parallelai.work.streams.record import KeptOut

_VERSION = 1
_FILE = "turn.json"


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn in a worktree, from before it until its changes were judged.

    Attributes:
        git_dir: the worktree's git folder, as it was found before the turn.
        skipped: paths that a sparse worktree has not checked out, and that are not there otherwise.
        is_open: the turn may have begun, and was not judged yet.
        kept: what was kept out and, perhaps, told to nobody yet.
        submodules: of submodules that were kept out, the commit that they are left at.
        committed: the commit that was about to become the branch's; `onto` the one before.
        standing: where the user's checkout stood, where no sandbox keeps programs from it.
        stashes: the log of the stash, where no sandbox keeps programs from it; None where there was none.
        is_seen_to: what its programs did to the user's repository was put right at a run's end, and the rest was not
            judged: what changed there since is the user's doing.
    """

    watch: Watch | None = None
    git_dir: str | None = None
    skipped: tuple[str, ...] = ()
    is_open: bool = False
    kept: tuple[KeptOut, ...] = ()
    submodules: Mapping[str, str] = field(default_factory=dict)
    committed: str | None = None
    onto: str | None = None
    standing: Standing | None = None
    stashes: Saved | None = None
    is_seen_to: bool = False


def load(folder: Path) -> Turn:
    """Read what is remembered; an empty turn where there is nothing, or nothing of ours."""
    try:
        data = json.loads((folder / _FILE).read_text(encoding="utf-8", errors="surrogateescape"))
        return _from_json(data) if data["version"] == _VERSION else Turn()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Turn()


def store(folder: Path, turn: Turn) -> None:
    """Remember a turn, down to the disk, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = folder / f".{_FILE}.{os.getpid()}"
    with part.open("w", encoding="utf-8") as file:
        json.dump(_to_json(turn), file)
        file.flush()
        os.fsync(file.fileno())
    part.rename(folder / _FILE)
    sync(folder)


def _to_json(turn: Turn) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "watch": None if turn.watch is None else turn.watch.to_json(),
        "git_dir": turn.git_dir,
        "skipped": list(turn.skipped),
        "is_open": turn.is_open,
        "kept": [{"paths": list(each.paths), "why": each.why, "patch": each.patch} for each in turn.kept],
        "submodules": dict(turn.submodules),
        "committed": turn.committed,
        "onto": turn.onto,
        "standing": None if turn.standing is None else turn.standing.to_json(),
        "stashes": None if turn.stashes is None else turn.stashes.to_json(),
        "is_seen_to": turn.is_seen_to,
    }


def _from_json(data: Mapping[str, Any]) -> Turn:
    watch = data["watch"]
    return Turn(
        None if watch is None else Watch.from_json(watch),
        data["git_dir"],
        tuple(data["skipped"]),
        bool(data["is_open"]),
        tuple(KeptOut(tuple(each["paths"]), each["why"], each["patch"]) for each in data["kept"]),
        {str(path): str(commit) for path, commit in data["submodules"].items()},
        data["committed"],
        data["onto"],
        None if data.get("standing") is None else Standing.from_json(data["standing"]),
        None if data.get("stashes") is None else Saved.from_json(data["stashes"]),
        bool(data.get("is_seen_to")),
    )
