"""Where the user's checkout stands: HEAD and index, put back where git's trace says that a program moved them.

HEAD goes back as a person would have it go: by a checkout, which carries over what is edited and refuses where that
would be lost. The index is replaced whole, with what landed since; what lay there is copied aside.
Files are never written over: what a program did to them can be seen with `git status`.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from parallelai.engines.planted import read_plain
from parallelai.git.plumbing import Git
from parallelai.git.repository import Repository
from parallelai.processes.temporary import temporary_folder
from parallelai.work.guard.barring import Barring, barring, clear, free_in
from parallelai.work.guard.deeds import (
    Deed,
    Evidence,
    has_committed,
    has_fetched,
    has_stashed,
    is_last_writer,
)
from parallelai.work.guard.watch import Moved
from parallelai.work.sheltering import HASH
from parallelai.work.streams.indexes import copy_plain, put_index
from parallelai.work.streams.places import first_line

_MOST_LOG_BYTES = 4 * 1024 * 1024
_MOST_LEFT = 20
"""Of commits that were left behind, the last ones."""
_LINE = re.compile(
    rb"^([0-9a-f]{40,64}) ([0-9a-f]{40,64}) [^\n\t]*> (\d{1,12}) [+-]\d{4}\t([^\n]*)", re.MULTILINE
)
_REF = "ref: "
_BRANCHES = "refs/heads/"
_NO_FILES = "ref: refs/heads/.invalid"
"""In HEAD where refs are kept otherwise (git's `reftable`)."""
_WORDS = "parallelai: back where it was before the attempt"
_CALM = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "submodule.recurse=false")


class Standing(Struct, frozen=True):
    """Where a checkout stood: its git folder, the line in its HEAD, the commit of that; `index` is a copy.

    `barring` is what barred git there; `log` is where the log of HEAD ended, in bytes.
    """

    git_dir: Path
    head: str
    commit: str | None
    index: Path
    barring: Barring = field(default_factory=Barring)
    log: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain data, to be kept on disk."""
        return {
            "git_dir": str(self.git_dir),
            "head": self.head,
            "commit": self.commit,
            "index": str(self.index),
            "barring": self.barring.to_json(),
            "log": self.log,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Standing:
        """Read what `to_json` gave. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        barred = data.get("barring")  # older versions wrote none
        found = Barring() if barred is None else Barring.from_json(barred)
        log = data.get("log")
        known = (Path(data["git_dir"]), str(data["head"]), data["commit"], Path(data["index"]))
        return cls(*known, found, None if log is None else int(log))

    @property
    def place(self) -> str:
        """The branch, or the commit, as a person names it."""
        return _place(self.head)

    @property
    def way_back(self) -> str:
        """The command that puts HEAD back."""
        is_branch = self.head.startswith(_REF + _BRANCHES)
        return f"git checkout {'' if is_branch else '--detach '}{shlex.quote(self.place)}"


@dataclass(frozen=True, slots=True)
class Found:
    """What became of HEAD or the index: `is_ours` says that a program of the attempt did it, `is_back` that it is back.

    `was` and `now` are HEAD's places; `at` is the commit of the files, where HEAD alone was put back. `kept` is where
    the index lies that does not count: the one that was found where the old one is back, else the old one; None where
    `git reset` makes one as good.
    """

    is_ours: bool
    is_back: bool
    was: str = ""
    now: str = ""
    at: str | None = None
    kept: Path | None = None


class Checkout:
    """The main checkout of a repository, looked after for one run."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._by_us: set[tuple[str, int]] = set()

    async def stand(self, folder: Path) -> Standing | None:
        """Look where it stands, and copy its index to `folder`; None where there is no checkout. Raises `OSError`.

        Looks at the same index share a copy. Where refs are no files, HEAD says nothing, and nothing is looked after.
        """
        git_dir = await asyncio.to_thread(_git_dir, self._repository)
        head = first_line(git_dir / "HEAD") if git_dir is not None else None
        if git_dir is None or head is None or head == _NO_FILES:
            return None
        index = await asyncio.to_thread(_copy_of, git_dir / "index", folder)
        found, log = await asyncio.to_thread(lambda: (barring(git_dir), _mark(git_dir / "logs" / "HEAD")))
        return Standing(git_dir, head, await self._commit(head), index, found, 0 if log is None else log[0])

    async def clear_way(self, before: Standing, evidence: Evidence, aside: Path) -> list[str]:
        """Take away what bars git there since; to be called before git is. Raises `OSError`."""

        async def head() -> str | None:
            return None if has_fetched((*await evidence.own(), *await evidence.others())) else before.commit

        return await clear(before.git_dir, before.barring, aside, head)

    async def put_head_back(
        self, before: Standing, evidence: Evidence, *, is_late: bool = False
    ) -> Found | None:
        """See to HEAD; None where it is as it was, or where a program of another attempt moved it.

        If `is_late`, somebody may have gone on where it is now: then its log says so, and it stays.
        To be called before refs are put back: a branch that is checked out cannot go. Raises nothing.
        """
        path = before.git_dir / "HEAD"
        line = first_line(path)
        if line is None or line == before.head or self._is_by_us(path):
            return None
        if self._is_last(await evidence.others(), path):
            return None
        paths = (path, before.git_dir / "logs" / "HEAD") if is_late else (path,)
        own = await evidence.own()
        is_ours = all(self._is_last(own, each) for each in paths if each.exists())
        found = Found(is_ours, False, before.place, _place(line))
        if not found.is_ours or not _is_known(before.head):
            return found
        at = before.commit if await self._commit(line) == before.commit else None
        if at is not None:
            await self._point(before.head)
        else:
            await self._check_out(before)
        is_back = first_line(path) == before.head
        if is_back:
            self._note(path)
            self._note(before.git_dir / "index")
        return replace(found, is_back=is_back, at=at)

    async def _point(self, head: str) -> None:
        """Let HEAD say what it said, where the files are those of the same commit; also of a branch that is gone."""
        name = head.removeprefix(_REF)
        words = ("symbolic-ref", "-m", _WORDS) if name != head else ("update-ref", "--no-deref", "-m", _WORDS)
        await self._repository.as_user(*_CALM, *words, "HEAD", name)

    async def _check_out(self, before: Standing) -> None:
        target = ("--no-guess",) if before.head.startswith(_REF) else ("--detach",)
        await self._repository.as_user(*_CALM, "checkout", "--quiet", *target, before.place, "--")

    async def left_behind(self, before: Standing, evidence: Evidence) -> tuple[str, ...]:
        """The commits that programs made there since and left on no branch: only the log of HEAD knows of them.

        To be called once HEAD is back. Raises nothing.
        """
        if before.log is None:
            return ()
        log = before.git_dir / "logs" / "HEAD"
        try:
            data = await asyncio.to_thread(read_plain, log, _MOST_LOG_BYTES, start=before.log)
        except OSError:
            return ()
        own, found = await evidence.own(), list[str]()
        for name, when in reversed(left(data).items()):  # later ones may have earlier ones in their history
            if has_committed(own, self._repository.root, when):
                words = ("rev-list", "--max-count=1", name, "--not", "--all", *found, "--")
                done = await self._repository.git.attempt(*words)
                found += [name] if done.exit == 0 and done.stdout else []
        return tuple(found)

    async def put_index_back(
        self,
        before: Standing,
        evidence: Evidence,
        aside: Path,
        *,
        is_moved: bool = False,
    ) -> Found | None:
        """See to the index; None where it names what it named, or where a commit, a checkout or a stash is why not.

        Where the branch went on meanwhile, as by a landing, the index goes along. To be called after refs were put
        back. `is_moved`: the checkout just was, too, and the index is what that made of it. Raises `OSError`.
        """
        path = before.git_dir / "index"
        if not _is_kept(before.index) or (self._is_by_us(path) and not is_moved):
            return None
        head = first_line(before.git_dir / "HEAD") or ""
        commit = await self._commit(head)
        if commit == before.commit and not await self._differs(before.index, path):
            return None
        others, own = await evidence.others(), await evidence.own()
        if head != before.head or self._is_last(others, path):
            return None
        if _mark(path) is None and before.index.name != _NO_INDEX and not is_moved:
            return await self._gone(before, commit, aside)
        if has_stashed((*others, *own), self._repository.root):
            return None
        is_ours = is_moved or self._is_last(own, path)
        if commit == before.commit:
            return await self._put_index(before.index, path, aside, is_ours=is_ours)
        with temporary_folder("index") as folder:
            index = await self._index_at(before, commit, folder) if is_ours else None
            if index is None or not await self._differs(index, path):
                return None
            return await self._put_index(index, path, aside, is_ours=True)

    async def _gone(self, before: Standing, commit: str | None, aside: Path) -> Found:
        """What is told where there is no index any more: no command of git takes it away, so nobody knows who did.

        Kept is the index as it would be by now, where something was staged: else git makes one that is no other.
        """
        kept = None
        with temporary_folder("index") as folder:
            index = await self._index_at(before, commit, folder)
            if index is not None and await self._has_staged(index, str(commit)):
                kept = await asyncio.to_thread(_keep_aside, index, aside)
        return Found(False, False, kept=kept)

    async def _has_staged(self, index: Path, commit: str) -> bool:
        git = Git(self._repository.common, index=index)
        return (await git.attempt("diff-index", "--cached", "--quiet", commit, "--")).exit != 0

    async def _index_at(self, before: Standing, commit: str | None, folder: Path) -> Path | None:
        """Make the index that it would be at a later commit; None where what was staged stands against that."""
        index = folder / "index"
        if None in (before.commit, commit) or not await asyncio.to_thread(copy_plain, before.index, index):
            return None
        git = Git(self._repository.common, index=index)
        done = await git.attempt("read-tree", "-i", "-m", str(before.commit), str(commit))
        return index if done.exit == 0 else None

    async def _put_index(self, index: Path, path: Path, aside: Path, *, is_ours: bool) -> Found:
        if not is_ours:
            return Found(False, False, kept=await asyncio.to_thread(_keep_aside, index, aside))
        kept = await asyncio.to_thread(_keep_aside, path, aside)
        try:
            await asyncio.to_thread(put_index, index, path)
        except OSError:  # somebody writes it now, or there was none
            kept = await asyncio.to_thread(_keep_aside, index, aside)
            return Found(True, False, kept=kept)
        self._note(path)
        return Found(True, True, kept=kept)

    async def bring_along(
        self, before: Standing, evidence: Evidence, moves: Collection[Moved], at: str | None = None
    ) -> tuple[Moved, bool] | None:
        """Move the checkout along with its branch to what landed meanwhile; says whether it went.

        The branch was put back on that, or was moved while HEAD was not on it: `at` is then what the files are of.
        That is what `git merge --ff-only` would do: it refuses where something would be lost. None where the index is
        not what a program of the attempt left at the earlier commit. To be called after refs were put back.
        """
        path = before.git_dir / "index"
        if first_line(before.git_dir / "HEAD") != before.head:
            return None
        if at is not None:
            moved: Moved | None = Moved(_place(before.head), await self._commit(before.head), at)
        elif self._is_last(await evidence.others(), path) or not self._is_last(await evidence.own(), path):
            return None
        else:
            moved = next((each for each in moves if before.head == _REF + each.ref), None)
        if moved is None or moved.after is None or moved.before in (None, before.commit):
            return None
        is_earlier = await self._repository.ancestor(moved.after, str(moved.before))
        words = ("read-tree", "-m", "-u", moved.after, str(moved.before))
        is_along = is_earlier and (await self._repository.as_user(*_CALM, *words)).exit == 0
        if is_along:
            self._note(path)
        return moved, is_along

    async def _commit(self, head: str) -> str | None:
        return await self._repository.commit(head.removeprefix(_REF)) if _is_known(head) else None

    async def _differs(self, old: Path, new: Path) -> bool:
        """Whether two indexes name other entries; times, by which git knows files again, are none of it."""
        if await asyncio.to_thread(_mark, old) == await asyncio.to_thread(_mark, new):
            return False
        copy = old.with_name(f"now-{secrets.token_hex(8)}")
        copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        await asyncio.to_thread(copy_plain, new, copy)
        first, second = [await self._entries(each) for each in (old, copy)]
        copy.unlink(missing_ok=True)
        return first != second

    async def _entries(self, index: Path) -> bytes:
        if not index.exists():
            return b""
        git = Git(self._repository.common, index=index)
        done = await git.attempt("ls-files", "--stage", "-v", "-z")
        return done.stdout if done.exit == 0 else b"not readable"

    def _is_last(self, deeds: Collection[Deed], path: Path) -> bool:
        mark = _mark(path)
        return mark is not None and is_last_writer(deeds, self._repository.root, mark[1] / 1e9)

    # Another attempt, which began before something was put back, sees that as a change.

    def _note(self, path: Path) -> None:
        mark = _mark(path)
        if mark is not None:
            self._by_us.add((str(path), mark[1]))

    def _is_by_us(self, path: Path) -> bool:
        mark = _mark(path)
        return mark is not None and (str(path), mark[1]) in self._by_us


def left(log: bytes) -> dict[str, int]:
    """The commits that HEAD was on before something else was checked out, and when each was made (Unix time). Pure."""
    made: dict[str, int] = {}
    found: dict[str, int] = {}
    for old, new, when, words in _LINE.findall(log):
        if words.startswith(b"commit"):
            made[new.decode()] = int(when)
        elif words.startswith(b"checkout: moving from ") and (name := old.decode()) in made:
            found[name] = made[name]
    return dict(list(found.items())[-_MOST_LEFT:])


def _git_dir(repository: Repository) -> Path | None:
    """The git folder of the main checkout: `.git`, or what the file of that name leads to."""
    if repository.is_bare:
        return None
    pointer = repository.root / ".git"
    if pointer.is_dir():
        return pointer.resolve()
    line = first_line(pointer) or ""
    named = repository.root / line.removeprefix("gitdir:").strip()
    return named.resolve() if line.startswith("gitdir:") and named.is_dir() else None


def _is_known(head: str) -> bool:
    """Whether a line of HEAD is one that may be given to git."""
    branch = head.removeprefix(_REF + _BRANCHES)
    is_option = branch.startswith("-")
    return (branch != head and not is_option) or HASH.fullmatch(head) is not None


def _place(head: str) -> str:
    return head.removeprefix(_REF).strip().removeprefix(_BRANCHES)


def _mark(path: Path) -> tuple[int, int] | None:
    """By which a file is known again, where nobody forges times; None where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _copy_of(index: Path, folder: Path) -> Path:
    """The copy of an index as it is now: a name where there is none, if there is no index."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder / _named(_mark(index))
    if found.exists():
        return found
    part = folder / f"part-{secrets.token_hex(8)}"
    if not copy_plain(index, part):
        return folder / _named(None)
    found = folder / _named(_mark(part))
    part.replace(found)
    return found


_NO_INDEX = "none"


def _named(mark: tuple[int, int] | None) -> str:
    return _NO_INDEX if mark is None else f"{mark[0]}-{mark[1]}"


def _is_kept(index: Path) -> bool:
    """Whether a copy is there, or there was nothing to copy; a full disk may have cost it."""
    return index.name == _NO_INDEX or index.exists()


def _keep_aside(index: Path, aside: Path) -> Path:
    """Copy an index to a name that nothing has yet."""
    target = free_in(aside, "index")
    copy_plain(index, target)
    return target
