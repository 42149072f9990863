"""Edits inside submodules: their files are there to read, and belong to another repository, so they are kept out.

Before a turn it is remembered what lies in each submodule of a worktree, whoever put it there; what differs after the
turn is written into a patch, and taken back. git looks at the files from a repository of the guard's own, which knows
no filter and no hook. A submodule that went to another commit is judged as that (`facts`), and not looked into.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from msgspec import Struct

from parallelai.git.plumbing import Git, GitError
from parallelai.git.repository import Repository
from parallelai.git.submodules import Submodule, lay_out, names_in, submodules, with_inner
from parallelai.work.guard.keeping import Written, keep_patch, take_away
from parallelai.work.guard.measure import Look, look_at
from parallelai.work.guard.place import Settings, listing, names_of
from parallelai.work.guard.rules import Changed, Out, Status, Why
from parallelai.work.scratch import folders
from parallelai.work.scratch.measuring import clear_pipes
from parallelai.work.scratch.snapshot import AS_IT_LIES

_BEFORE = "refs/parallelai/before"
_APART = "apart"
_STATUS: dict[str, Status] = {"A": "added", "D": "deleted"}


class Edited(Struct, frozen=True):
    """What a turn did in one submodule: all paths are from the top of the worktree; both sides are trees.

    `apart` is what no patch holds: repositories inside, and what is ignored and lies in the way of a file.
    """

    path: str
    git: Git
    before: str
    after: str
    changes: tuple[Changed, ...]
    apart: Mapping[str, Why]

    @property
    def out(self) -> tuple[Out, ...]:
        """The changes as the guard's refusals."""
        edits = [Out(change, change.path, "inside") for change in self.changes]
        return (*edits, *(Out(Changed(path, "added"), path, why) for path, why in self.apart.items()))


async def remember(settings: Settings, head: str) -> None:
    """Remember what lies in the submodules of a worktree. Raises `GitError`, OSError."""
    for found in await _there(settings, head):
        whole = await with_inner([found])
        git = await asyncio.to_thread(_private, settings, whole)
        await _begin(git, whole)
        tree, apart = await _lying(git, settings.worktree.resolve() / found.path)
        await git.run("update-ref", _BEFORE, tree)
        await asyncio.to_thread((git.git_dir / _APART).write_bytes, listing(apart))


async def edited(settings: Settings, head: str, moved: Collection[str]) -> list[Edited]:
    """Say what changed in submodules since `remember`; `moved` are paths that are judged already. Raises `GitError`."""
    changed = []
    for found in await _there(settings, head):
        git = await asyncio.to_thread(_private, settings, await with_inner([found]))
        known = await git.attempt("rev-parse", "--verify", "--quiet", _BEFORE)
        if found.path in moved or known.exit != 0:
            continue
        before = os.fsdecode(known.stdout).strip()
        after, lying = await _lying(git, settings.worktree.resolve() / found.path)
        old = await _noted(git, before, lying)
        apart = {f"{found.path}/{name}": why for name, why in lying.items() if name not in old}
        if before != after or apart:
            listed = await git.run("diff-tree", "-r", "-z", "--name-status", "--no-renames", before, after)
            changes = tuple(_changes(found.path, listed))
            changed.append(Edited(found.path, git, before, after, changes, apart))
    return changed


async def keep(settings: Settings, found: Iterable[Edited]) -> Written:
    """Write what was done down, as one patch from the top of the worktree; what no patch holds, as files beside it."""
    parts = []
    whole = True
    for each in found:
        prefixes = (f"--src-prefix=a/{each.path}/", f"--dst-prefix=b/{each.path}/")
        words = ("diff-tree", "-r", "-p", "--binary", "--full-index", *prefixes, each.before, each.after)
        try:
            parts.append(await each.git.run(*words))
        except GitError:  # larger than what is held in memory
            whole = False
    written = await asyncio.to_thread(
        keep_patch, settings.patches, settings.name, b"".join(parts) if whole else b""
    )
    if not whole:
        for each in found:
            await asyncio.to_thread(_copy, settings.worktree, each, written.aside)
    return written


async def take_back(settings: Settings, found: Edited, aside: Path) -> set[str]:
    """Make the files of a submodule what they were before the turn; gives what could not be moved to `aside`."""
    top = settings.worktree / found.path
    stuck = await asyncio.to_thread(take_away, settings.worktree, dict.fromkeys(found.apart), {}, aside)
    names = [change.path.removeprefix(f"{found.path}/") for change in found.changes]
    for name in names:
        await asyncio.to_thread(folders.clear_away, top, name)
    await found.git.run("read-tree", found.before)
    known = set(names_of(await found.git.run("ls-files", "-z")))
    back = listing(name for name in names if name in known)
    if back:
        await found.git.run("checkout-index", "--force", "--index", "-z", "--stdin", stdin=back)
    return stuck


async def refresh(repository: Repository, worktree: Path, before: str, now: str) -> tuple[str, ...]:
    """Lay submodules out anew that went to another commit between two of ours; gives the names of what lies there.

    What somebody checked out there by hand stays as it is. Raises `GitError`, OSError.
    """
    old = {each.path: each for each in await submodules(repository, before)}
    names: list[str] = []
    for found in await submodules(repository, now):
        known = old.get(found.path)
        is_by_hand = os.path.lexists(worktree / found.path / ".git")
        if found.folder is None or is_by_hand or (known is not None and known.commit == found.commit):
            continue
        for name in await names_in(known) if known is not None else ():
            await asyncio.to_thread(folders.clear_away, worktree, name)
        await lay_out(found, worktree)
        names += await names_in(found)
    return tuple(names)


async def _there(settings: Settings, head: str) -> list[Submodule]:
    """The submodules of a commit whose folders are in the worktree, reached through no link."""
    top = settings.worktree.resolve()
    found = await submodules(settings.repository, head)
    return [
        each
        for each in found
        if (top / each.path).is_dir() and (top / each.path).resolve() == top / each.path
    ]


def _private(settings: Settings, whole: Sequence[Submodule]) -> Git:
    """git in a repository of the guard's, whose work tree is a submodule's folder; those inside of it follow it."""
    found = whole[0]
    name = hashlib.sha256(os.fsencode(found.path)).hexdigest()[:16]
    ours = settings.folder / "inside" / name
    if not (ours / "HEAD").exists():
        for folder in ("objects", "refs", "info"):
            (ours / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        is_sha256 = len(found.commit) == 64
        form = "[extensions]\n\tobjectFormat = sha256\n" if is_sha256 else ""
        version = 1 if is_sha256 else 0
        (ours / "config").write_text(f"[core]\n\trepositoryFormatVersion = {version}\n\tbare = true\n{form}")
        (ours / "info" / "attributes").write_text(AS_IT_LIES)
        (ours / "HEAD").write_text("ref: refs/heads/none\n")
    for lock in ours.glob("*.lock"):
        lock.unlink()
    alternates = tuple(each.folder / "objects" for each in whole if each.folder is not None)
    return Git(
        ours, work_tree=settings.worktree.resolve() / found.path, index=ours / "index", alternates=alternates
    )


async def _noted(git: Git, before: str, lying: Collection[str]) -> Collection[str]:
    """What lay apart before the turn, of which `before` is the tree.

    An older version of ParallelAI did not note that: what lies apart now then counts as there before, but for what
    stands in the place of a file.
    """
    file = git.git_dir / _APART
    if await asyncio.to_thread(file.exists):
        return names_of(await asyncio.to_thread(file.read_bytes))
    files = names_of(await git.run("ls-tree", "-r", "-z", "--name-only", before))
    taken = {*files, *(str(parent) for name in files for parent in PurePosixPath(name).parents)}
    return [name for name in lying if name not in taken]


async def _begin(git: Git, whole: Sequence[Submodule]) -> None:
    """Begin with the files of the commits, so that those that are ignored count too. The rest comes by looking."""
    if whole[0].folder is None:
        return
    if (await git.attempt("read-tree", "-m", whole[0].commit)).exit != 0:
        (git.git_dir / "index").unlink(missing_ok=True)
        await git.run("read-tree", whole[0].commit)
    await _drop_links(git)
    for each in whole[1:]:
        if each.folder is not None:
            name = each.path.removeprefix(f"{whole[0].path}/")
            await git.run("read-tree", f"--prefix={name}/", each.commit)
            await _drop_links(git)


async def _drop_links(git: Git) -> None:
    """Forget the submodules of an index: below one that it knows, git would look at no file."""
    rows = (await git.run("ls-files", "--stage", "-z")).split(b"\0")
    links = [os.fsdecode(row.split(b"\t", 1)[1]) for row in rows if row.startswith(b"160000 ")]
    if links:
        await git.run("update-index", "-z", "--force-remove", "--stdin", stdin=listing(links))


async def _lying(git: Git, top: Path) -> tuple[str, dict[str, Why]]:
    """The tree of what lies in a submodule's folder, but for new files that it ignores; and what no tree can hold."""
    await asyncio.to_thread(clear_pipes, top)
    await git.attempt("update-index", "-q", "--refresh")
    names = set(names_of(await git.run("diff-files", "-z", "--name-only", "--ignore-submodules=all")))
    names.update(names_of(await git.run("ls-files", "-z", "--others", "--exclude-standard")))
    look = await asyncio.to_thread(look_at, top, names)
    apart = await asyncio.to_thread(_apart, top, look)
    if gone := {*look.gone, *apart}:
        await git.run("update-index", "-z", "--force-remove", "--stdin", stdin=listing(gone))
    if files := listing(look.marks.keys() - apart.keys()):
        await git.run("update-index", "-z", "--add", "--remove", "--replace", "--stdin", stdin=files)
    return await git.line("write-tree", "--missing-ok"), apart


def _apart(root: Path, look: Look) -> dict[str, Why]:
    """What has to be moved away whole: what is special, but for its size, and what is in the way of files."""
    apart: dict[str, Why] = {name: why for name, why in look.special.items() if why != "too_large"}
    for name in look.gone:
        way = _in_the_way(root, name)
        if way is not None and way not in look.marks:
            apart.setdefault(way, "in_the_way")
    return apart


def _in_the_way(root: Path, name: str) -> str | None:
    """What stands in the place of a file, or of a folder on the way to it."""
    for parent in reversed(list(PurePosixPath(name).parents)[:-1]):
        place = root / parent
        if os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
            return str(parent)
    return name if os.path.lexists(root / name) else None


def _changes(path: str, listed: bytes) -> Iterable[Changed]:
    fields = names_of(listed)
    for letter, name in zip(fields[::2], fields[1::2], strict=True):
        yield Changed(f"{path}/{name}", _STATUS.get(letter, "changed"))


def _copy(worktree: Path, found: Edited, aside: Path) -> None:
    for change in found.changes:
        source, target = worktree / change.path, aside / change.path
        if source.is_file() and not source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copy2(source, target)
