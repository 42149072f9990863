"""A part of git's folder for each sandbox alone: what is done with git in there changes nothing outside.

Who may commit writes HEAD, an index, objects and refs. In the repository's own folders these would be everybody's
objects, and the branches of all workstreams. So a sandbox sees others in their place (bubblewrap): a copy of the
worktree's git folder, an empty folder for new objects with the repository's own beside it to read, and copies of
our branches. Nothing of that is git's to read outside: the guard takes from it what it has checked (`taking_in`).

Landlock cannot show one folder in the place of another: there all of git's folders are read-only, and commits fail.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from msgspec import Struct, field

from parallelai import processes
from parallelai.processes.removing import remove
from parallelai.work.scratch.snapshot import alternates_file
from parallelai.work.streams.indexes import copy_plain
from parallelai.work.streams.names import PREFIX
from parallelai.work.streams.places import first_line

GOING_ON = {
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "BISECT_START": "bisect",
}
"""What git's folder of a worktree has while something was begun there and not ended."""
HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
MOST_REFS = 1000
_OURS = f"refs/heads/{PREFIX}"
_MODULES = "modules"
_COPIED = ("commondir", "gitdir", "config.worktree", "info/sparse-checkout", "index")


class Left(Struct, frozen=True):
    """What a sandbox's git says that it did not say at first.

    Attributes:
        refs: whole names of branches that were moved or made, and the hashes that are written there.
        is_touched: it did something of its own: with these, with HEAD, or by what it began and did not end.
    """

    refs: Mapping[str, str] = field(default_factory=dict)
    is_touched: bool = False


class Shelter(Struct, frozen=True):
    """Where the sandbox of one workstream writes what its git needs.

    Attributes:
        folder: absolute, below the state; only what is mounted of it can be written in the sandbox.
        common: the repository's git folder.
        branch: the workstream's, without `refs/heads/`.
    """

    folder: Path
    common: Path
    branch: str

    @property
    def admin(self) -> Path:
        """Its copy of the worktree's git folder."""
        return self.folder / "admin"

    @property
    def objects(self) -> Path:
        """Its new objects."""
        return self.folder / "objects"

    @property
    def is_laid(self) -> bool:
        """Whether it was laid out, and nobody has looked at it since."""
        return self._note.exists()

    def mounts(self, git_dir: Path) -> tuple[processes.Mount, ...]:
        """What the sandbox sees of it, and where; `git_dir` is the worktree's git folder. Makes the folders above."""
        theirs, heads, logs = (self.common / each for each in ("objects", _OURS, f"logs/{_OURS}"))
        found = [
            (self.admin, git_dir, True),
            (theirs, self._store, False),
            (self.objects, theirs, True),
            *((self.objects / name, theirs / name, False) for name in ("info", "pack")),
        ]
        if (theirs / "info" / "alternates").exists():
            found.append((self._alternates, self._store / "info" / "alternates", False))
        if self.branch.startswith(PREFIX):
            for own, place in ((self._refs, heads), (self._logs, logs)):
                place.mkdir(parents=True, exist_ok=True)  # git takes them away where all is packed
                found.append((own, place, True))
        return tuple(processes.Mount(str(what), str(place), is_own) for what, place, is_own in found)

    def lay(self, git_dir: Path, head: str) -> None:
        """Begin anew, with the branch at `head` and the worktree's index as it is. Raises `OSError`.

        Only while no program is in the sandbox. The folders that are mounted cannot be replaced from in there.
        """
        self.settle()
        info = self.objects / "info"
        for folder in (self.admin, info, self.objects / "pack", self._refs, self._logs, self._store):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _clear(self.admin, {_MODULES})
        _clear(self.objects, {"info", "pack"})
        for folder in (info, self._refs, self._logs):
            _clear(folder)
        (info / "alternates").write_bytes(alternates_file([self._store.resolve()]))
        self._alternates.write_bytes(alternates_file(_alternates_of(self.common / "objects")))
        refs = {**_refs_in(self.common / _OURS), f"refs/heads/{self.branch}": head}
        for ref, at in refs.items():
            if ref.startswith(_OURS):
                path = self._refs / ref.removeprefix(_OURS)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{at}\n", encoding="ascii")
        on = f"ref: refs/heads/{self.branch}"
        self._lay_admin(git_dir, on)
        self._note.write_text(json.dumps({"head": on, "refs": refs}), encoding="ascii")

    def _lay_admin(self, git_dir: Path, head: str) -> None:
        if (git_dir / "info").is_dir():
            (self.admin / "info").mkdir()
        for name in _COPIED:
            copy_plain(git_dir / name, self.admin / name)
        (self.admin / "HEAD").write_text(f"{head}\n", encoding="utf-8")
        _move_folder(git_dir / _MODULES, self.admin / _MODULES)

    def left(self) -> Left:
        """What its git says now, if it was laid out since somebody looked."""
        try:
            laid = json.loads(self._note.read_bytes())
        except (OSError, ValueError):
            return Left()
        refs = {ref: at for ref, at in _refs_in(self._refs).items() if laid["refs"].get(ref) != at}
        is_elsewhere = first_line(self.admin / "HEAD") != laid["head"]
        is_at_something = any(os.path.lexists(self.admin / name) for name in GOING_ON)
        was_elsewhere = os.path.lexists(self.admin / "logs" / "HEAD")
        return Left(refs, bool(refs) or is_elsewhere or is_at_something or was_elsewhere)

    def give_back(self, git_dir: Path) -> None:
        """Put what its git has of submodules where the files of these, in the worktree, say that it is."""
        _move_folder(self.admin / _MODULES, git_dir / _MODULES)

    def settle(self) -> None:
        """What it says has been looked at, and counts no more."""
        self._note.unlink(missing_ok=True)

    @property
    def _note(self) -> Path:
        return self.folder / "laid.json"

    @property
    def _refs(self) -> Path:
        return self.folder / "refs"

    @property
    def _logs(self) -> Path:
        return self.folder / "logs"

    @property
    def _store(self) -> Path:
        """Empty; where the sandbox sees the repository's own objects."""
        return self.folder / "store"

    @property
    def _alternates(self) -> Path:
        """The other places of the repository's objects, none of them named from the place of its list."""
        return self.folder / "alternates"


def is_possible() -> bool:
    """Whether what is confined on this machine sees a shelter."""
    return processes.confinements()[:1] == ("bubblewrap",)


def folder_of(state: Path, name: str) -> Path:
    """The folder of a workstream's shelter, below the project's state."""
    return state / "work" / "git" / name


def _clear(folder: Path, kept: Collection[str] = ()) -> None:
    """Remove what lies in a folder, whatever it is; no link is followed."""
    folder.chmod(0o700)
    with os.scandir(folder) as listed:
        for entry in listed:
            if entry.name in kept:
                continue
            if entry.is_dir(follow_symlinks=False):
                remove(Path(entry.path))
            else:
                Path(entry.path).unlink()


def _move_folder(source: Path, target: Path) -> None:
    """Move a folder where none is yet; what cannot be moved so stays."""
    if not source.is_symlink() and not os.path.lexists(target):
        with contextlib.suppress(OSError):
            source.rename(target)


def _refs_in(top: Path) -> dict[str, str]:
    """The branches that a folder of ours holds, by their whole names; what is no plain hash is none."""
    found: dict[str, str] = {}
    for folder, _, names in os.walk(top):
        for name in names:
            path = Path(folder, name)
            text = first_line(path) or ""
            if HASH.fullmatch(text) and not name.endswith(".lock"):
                found[f"{_OURS}{path.relative_to(top).as_posix()}"] = text
        if len(found) >= MOST_REFS:
            break
    return found


def _alternates_of(objects: Path) -> list[Path]:
    """The folders that a repository has objects of beside its own, absolute. Those in quotes are left out."""
    try:
        lines = os.fsdecode((objects / "info" / "alternates").read_bytes()).splitlines()
    except FileNotFoundError:
        return []
    return [objects.resolve() / line for line in lines if line and not line.startswith(("#", '"'))]
