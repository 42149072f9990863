"""A repository's own files and refs, put back as they were before a turn.

What lies there now is copied aside first. A ref is moved back only where git's logs prove that it was moved from
this worktree, and only by compare-and-swap: people work in the same repository.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from parallelai.git.plumbing import Git, GitError
from parallelai.git.repository import Repository
from parallelai.work.guard.traces import NOTHING_TRACED, Traced
from parallelai.work.guard.watch import Log, Moved, Saved, Watch, logs_since, whose
from parallelai.work.guard.way_back import OURS, last_lines, put_on_the_same, with_way_back
from parallelai.work.streams.places import entries

_WORDS = "parallelai: back where it was before the turn"
KEPT = "refs/parallelai/kept/"
"""Where is kept what programs put the user's refs on."""


@dataclass(frozen=True, slots=True)
class Refs:
    """What became of refs. `made` are branches that were made here and checked out; `stashed` a stash from here.

    `traced` are those of `back` of which only git's trace tells: what they were put on is in no worktree of ours.
    """

    back: tuple[Moved, ...] = ()
    made: tuple[Moved, ...] = ()
    stashed: str | None = None
    unknown: tuple[Moved, ...] = ()
    traced: tuple[Moved, ...] = ()


def restore_files(watch: Watch, paths: Iterable[str], aside: Path) -> tuple[list[str], list[str]]:
    """Put files of a git folder back as a watch has them; gives those that were, and those that could not be.

    What lies there now is kept in `aside`. Raises nothing: what cannot be put back is named.
    """
    back: list[str] = []
    left: list[str] = []
    # What is new goes first: a link may stand where a folder was.
    for path in sorted(paths, key=lambda each: (each in watch.files, each)):
        saved = watch.files.get(path)
        if saved is not None and saved.data is None:
            left.append(path)
            continue
        try:
            _restore(Path(watch.git_dir), Path(path), saved, aside)
            back.append(path)
        except OSError:
            left.append(path)
    return back, left


def _restore(git_dir: Path, path: Path, saved: Saved | None, aside: Path) -> None:
    with locked(path) if path.name == "config" else contextlib.nullcontext():
        if os.path.lexists(path):
            _keep(git_dir, path, aside)
        if saved is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, saved)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold git's own lock on a configuration file. Raises `FileExistsError` where somebody else has it."""
    lock = path.with_name(f"{path.name}.lock")
    os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _keep(git_dir: Path, path: Path, aside: Path) -> None:
    """Copy what lies there to `aside`, under its name below the git folder."""
    inside = path.is_relative_to(git_dir)
    target = aside / "git" / (path.relative_to(git_dir) if inside else path.name)
    number = 0
    while os.path.lexists(target):
        number += 1
        target = target.with_name(f"{path.name}.{number}")
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
        shutil.copyfile(path, target, follow_symlinks=False)


def put(path: Path, saved: Saved) -> None:
    made = path.with_name(f".{path.name}.parallelai")
    made.unlink(missing_ok=True)
    data = saved.data or b""
    if saved.is_link:
        made.symlink_to(os.fsdecode(data))
    else:
        made.write_bytes(data)
        made.chmod(stat.S_IMODE(saved.mode))
    made.replace(path)


async def sort_refs(
    repository: Repository,
    watch: Watch,
    moves: Iterable[Moved],
    worktree: str,
    own_ref: str,
    traced: Traced = NOTHING_TRACED,
) -> Refs:
    """Say what is to become of refs that moved. `worktree` is the id of the one that the turn was in.

    `traced` is what git wrote down of its programs; of stashes it decides nothing, which are work of somebody's.
    """
    logs = await asyncio.to_thread(logs_since, watch)
    own = logs.pop(worktree, Log())
    back: list[Moved] = []
    made: list[Moved] = []
    unknown: list[Moved] = []
    by_trace: list[Moved] = []
    stashed = None
    moves = list(moves)
    moves += await put_on_the_same(repository, watch, moves, traced)
    is_gone = any(moved.after is None for moved in moves)
    followed = await checked_out(repository) if is_gone else frozenset()
    for moved in moves:
        if moved.ref == own_ref:
            continue
        if await asyncio.to_thread(is_by_us, repository.common, moved):
            continue
        who = whose(moved, own, logs.values())
        if moved.ref == "refs/stash" and await _is_from(repository, moved, own):
            stashed = moved.after
        elif moved.after is None and moved.ref in followed:
            back.append(moved)
        elif who == "here":
            (made if moved.before is None else back).append(
                await with_way_back(repository, moved, own.commits)
            )
        elif moved.ref != "refs/stash" and traced.has(moved, watch.refs):
            (made if moved.before is None else back).append(
                await with_way_back(repository, moved, traced.put_on(moved.ref))
            )
            by_trace.append(moved)
        elif who == "unknown":
            unknown.append(moved)
    return Refs(tuple(back), tuple(made), stashed, tuple(unknown), tuple(by_trace))


def is_by_us(common: Path, moved: Moved) -> bool:
    """Whether ParallelAI moved a ref last: a landing, or the guard of another workstream."""
    last = next(iter(last_lines(common, moved.ref)), None)
    if moved.after is None or last is None:
        return False
    return moved.after in last[:2] and last.words.startswith(OURS)


async def _is_from(repository: Repository, moved: Moved, own: Log) -> bool:
    """Whether a new stash was made on a commit that this worktree's HEAD was at."""
    if moved.after is None:
        return False
    parent = await repository.commit(f"{moved.after}^1")
    return parent is not None and parent in own.commits


async def checked_out(repository: Repository) -> frozenset[str]:
    """The refs that worktrees are on; git itself would never delete one of them.

    Without `git worktree list`, which would wait for a pipe in the place of another worktree's HEAD.
    """
    linked = await asyncio.to_thread(entries, repository)
    head = await repository.git.attempt("symbolic-ref", "--quiet", "HEAD")
    main = [os.fsdecode(head.stdout).rstrip("\n")] if head.exit == 0 else []
    return frozenset((*main, *(f"refs/heads/{entry.branch}" for entry in linked if entry.branch)))


async def keep_tips(repository: Repository, name: str, moves: Iterable[Moved], watch: Watch) -> None:
    """Keep what refs were put on by programs of the workstream `name`, and no other ref has: below `KEPT`."""
    known = set(watch.refs.values())
    for commit, ref in {move.after: move.ref for move in moves if move.after is not None}.items():
        if commit not in known:
            kept = f"{KEPT}{name}/{commit[:12]}/{ref.removeprefix('refs/')}"
            await repository.git.attempt("update-ref", "--create-reflog", "-m", _WORDS, kept, commit)


async def move_back(repository: Repository, refs: Refs) -> tuple[list[Moved], list[Moved]]:
    """Move refs back to where they were, and drop branches that were made here; gives which were, and which not."""
    back: list[Moved] = []
    left: list[Moved] = []
    for moved in (*refs.back, *refs.made):
        try:
            is_done = await _move_back(repository, moved)
        except GitError:
            is_done = False
        (back if is_done else left).append(moved)
    return back, left


async def _move_back(repository: Repository, moved: Moved) -> bool:
    git: Git = repository.git
    if moved.before is not None:
        # Not through a symbolic ref: that would move another branch.
        old = moved.after if moved.after is not None else "0" * len(moved.before)
        done = await git.attempt(
            *("update-ref", "--no-deref", "-m", _WORDS, "--create-reflog", moved.ref, moved.before, old)
        )
        return done.exit == 0
    if moved.after is None or moved.ref in await checked_out(repository):
        return False
    return (await git.attempt("update-ref", "--no-deref", "-d", moved.ref, moved.after)).exit == 0


def own_files(
    watch: Watch, paths: Iterable[str], worktree: str, *, is_confined: bool
) -> tuple[list[str], list[str]]:
    """Sort files that changed: those to put back, and those only to be named.

    A worktree's own files are always put back; those of other worktrees never. What else the repository has can
    only be the assistant's doing where nothing kept it from writing there.
    """
    worktrees = f"{watch.git_dir}/worktrees/"
    own = f"{worktrees}{worktree}/"
    to_restore: list[str] = []
    to_name: list[str] = []
    for path in paths:
        is_others = path.startswith(worktrees) and not path.startswith(own)
        is_own = path.startswith(own)
        (to_restore if is_own or not (is_others or is_confined) else to_name).append(path)
    return to_restore, to_name
