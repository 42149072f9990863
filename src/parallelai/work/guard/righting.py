"""A worktree's own git state, put right after a turn: on its branch, at our last commit, nothing half done.

Commits of the assistant are undone softly: what they made stays in the files. Where the files were left at
something else (another branch, an earlier commit, the middle of a rebase) and hold nothing that is not committed,
they become what the assistant's last commit on the branch has; where they do, they stay as they are, and the
commits that are not in them are named, to be kept as patches.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from parallelai.errors import Internal
from parallelai.git.plumbing import Git, GitError
from parallelai.work.guard.measure import changed_names, measure, prepare
from parallelai.work.guard.place import Place
from parallelai.work.scratch.removing import remove
from parallelai.work.streams.names import PREFIX

MOST_COMMITS = 1000
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_UNDER_WAY = ("rebase-merge", "rebase-apply", "sequencer", "refs/bisect", "refs/rewritten")
_MARKS = (
    *("MERGE_HEAD", "MERGE_MSG", "MERGE_MODE", "MERGE_RR", "AUTO_MERGE", "SQUASH_MSG", "MERGE_AUTOSTASH"),
    *("CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD"),
    *(
        "BISECT_START",
        "BISECT_LOG",
        "BISECT_TERMS",
        "BISECT_NAMES",
        "BISECT_EXPECTED_REV",
        "BISECT_ANCESTORS_OK",
    ),
)
_GOING_ON = {
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "BISECT_START": "bisect",
}
_NOT_IN_FILES = "commits that are not in the files"
_LOCKS = ("index.lock", "HEAD.lock")


@dataclass(frozen=True, slots=True)
class Lost:
    """A commit whose content is not in the files any more, and what it was."""

    commit: str
    what: str


@dataclass(frozen=True, slots=True)
class State:
    """Where a worktree stands. `going_on` is what was begun and not ended; `origin` where a rebase began.

    `head` is HEAD's commit, `attached` the whole ref that it is on, `tip` where the branch is.
    """

    head: str | None
    attached: str | None
    tip: str | None
    origin: str | None = None
    stashed: str | None = None
    going_on: str | None = None


@dataclass(frozen=True, slots=True)
class Righted:
    """What had to be put right: commits that are undone, newest first; what is in no file; in words.

    `files_at` is the commit that the files came from.
    """

    undone: tuple[str, ...] = ()
    lost: tuple[Lost, ...] = ()
    notes: tuple[str, ...] = ()
    files_at: str | None = None


def clear_specials(git_dir: Path, common: Path) -> None:
    """Remove pipes, sockets and devices from where git reads and an assistant may write: git would wait for them."""
    ours = PREFIX.rstrip("/")
    for top in (git_dir, common / "refs" / "heads" / ours, common / "logs" / "refs" / "heads" / ours):
        for folder, _, names in os.walk(top):
            for name in names:
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    mode = path.lstat().st_mode
                    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                        path.unlink()


def repair_head(place: Place) -> str | None:
    """Write HEAD anew where it is nothing that git reads: no call would work. Gives in words what was done."""
    head = place.git_dir / "HEAD"
    with contextlib.suppress(OSError, ValueError):
        if not head.is_symlink() and head.is_file() and head.stat().st_size < 5000:
            text = head.read_text(encoding="utf-8").strip()
            if text.startswith("ref: refs/") or _HASH.fullmatch(text):
                return None
    if head.is_dir() and not head.is_symlink():
        remove(head)
    made = head.with_name(".HEAD.parallelai")
    made.unlink(missing_ok=True)
    made.write_text(f"ref: {place.settings.ref}\n", encoding="utf-8")
    made.replace(head)
    return "HEAD was broken, and is on the branch again"


def repair_pointer(place: Place, aside: Path) -> str | None:
    """Let the worktree's `.git` lead to its git folder again; gives in words what was done.

    A repository that was made in its place is moved to `aside`.
    """
    pointer = place.worktree / ".git"
    wanted = f"gitdir: {place.git_dir}\n".encode()
    with contextlib.suppress(OSError):
        if not pointer.is_symlink() and pointer.is_file() and _leads_to(pointer, place.git_dir):
            return None
    moved = ""
    if pointer.is_dir() and not pointer.is_symlink():
        aside.mkdir(parents=True, exist_ok=True, mode=0o700)
        pointer.rename(aside / "git")
        moved = f"; the repository that was made there is kept in `{aside / 'git'}`"
    made = pointer.with_name(".git.parallelai")
    made.unlink(missing_ok=True)
    made.write_bytes(wanted)
    made.replace(pointer)
    return f"`.git` led elsewhere, and leads to the worktree's own folder again{moved}"


def _leads_to(pointer: Path, git_dir: Path) -> bool:
    text = os.fsdecode(pointer.read_bytes()).removeprefix("gitdir:").strip()
    return os.path.realpath(pointer.parent / text) == os.path.realpath(git_dir)


async def state_of(place: Place) -> State:
    """Look where a worktree stands."""
    git = _own(place)
    ref = await git.attempt("symbolic-ref", "--quiet", "HEAD")
    attached = os.fsdecode(ref.stdout).strip() if ref.exit == 0 else None
    head = await _commit(git, "HEAD")
    tip = await _commit(git, place.settings.ref)
    read = await asyncio.to_thread(_under_way, place.git_dir)
    origin, stashed = [await _commit(git, each) if each is not None else None for each in read[:2]]
    return State(head, attached, tip, origin, stashed, read[2])


def _under_way(git_dir: Path) -> tuple[str | None, str | None, str | None]:
    """Where a rebase began, what it put aside, and what was begun at all."""
    origin = stashed = None
    for folder in ("rebase-merge", "rebase-apply"):
        origin = origin or _hash_in(git_dir / folder / "orig-head")
        stashed = stashed or _hash_in(git_dir / folder / "autostash")
    stashed = stashed or _hash_in(git_dir / "MERGE_AUTOSTASH")
    going_on = next((what for name, what in _GOING_ON.items() if os.path.lexists(git_dir / name)), None)
    return origin, stashed, going_on


def _hash_in(path: Path) -> str | None:
    try:
        if path.is_symlink() or path.stat().st_size > 200:
            return None
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return text if _HASH.fullmatch(text) else None


async def put_right(place: Place, head: str, skipped: Collection[str] = ()) -> Righted:
    """Put a worktree on its branch at `head`, and end what was begun; the files keep what was made.

    Nothing that git holds is dropped here: whoever calls keeps what is `lost` before the next turn.
    Raises `Internal` where `head` is not in the repository any more.
    """
    git = place.settings.repository.git
    if await _commit(git, head) is None:
        raise Internal(
            f"the commit `{head}` of the workstream is gone", next="`git fsck` says what is missing"
        )
    await asyncio.to_thread(_remove_locks, place)
    state = await state_of(place)
    files_at, lost, notes = await _settle_files(place, head, state, skipped)
    undone = await _commits(git, head, [state.tip, files_at])
    return Righted(undone, tuple(lost), tuple(notes), files_at)


async def leave(place: Place) -> tuple[str, ...]:
    """End what was begun, and put HEAD on the branch; after what is lost was kept. Gives in words what was done."""
    settings = place.settings
    state = await state_of(place)
    notes = []
    if state.going_on is not None:
        notes.append(f"an unfinished {state.going_on} was ended; look for conflict markers in the files")
    await asyncio.to_thread(_end, place.git_dir)
    if state.attached != settings.ref:
        where = f"`{state.attached.removeprefix('refs/heads/')}`" if state.attached else "no branch"
        notes.append(f"the worktree was on {where}, and is on `{settings.branch}` again")
        await _own(place).run("symbolic-ref", "-m", "parallelai: back on its branch", "HEAD", settings.ref)
    return tuple(notes)


async def reset_branch(place: Place, head: str) -> None:
    """Put the branch at our last commit, by compare-and-swap. Raises `Internal` where that cannot be done."""
    settings = place.settings
    git = settings.repository.git
    leads = await git.attempt("symbolic-ref", "--quiet", settings.ref)
    if leads.exit == 0:  # it was made another name of some branch, which would be moved in its place
        await git.run("symbolic-ref", "--delete", settings.ref)
    tip = await _commit(git, settings.ref)
    if tip == head:
        return
    if tip is None:
        await asyncio.to_thread(_remove_broken, settings.repository.common / settings.ref)
    words = "parallelai: undo the assistant's commits, keep the files"
    if not await settings.repository.move(settings.ref, head, tip, words):
        said = (
            f"the branch `{settings.branch}` was moved while it was looked at, or another one is in its way"
        )
        raise Internal(said, next="run the same command again", retry_helps=True)


def _remove_broken(ref: Path) -> None:
    """Remove the file of a ref that leads to no commit: git would not write over it."""
    with contextlib.suppress(OSError):
        if not ref.is_dir() or ref.is_symlink():
            ref.unlink()


async def _settle_files(
    place: Place, head: str, state: State, skipped: Collection[str]
) -> tuple[str | None, list[Lost], list[str]]:
    """Say which commit the files came from, after they were changed to the one that was meant."""
    lost, notes = [], []
    meant = await _meant(place, head, state)
    files_at = state.head
    if meant != state.head:
        if state.head is not None and await _take(place, state.head, meant, skipped):
            files_at = meant
            notes.append(f"the files were left at `{state.head[:10]}`, and are at `{meant[:10]}` again")
        elif meant != head:
            lost.append(Lost(meant, _NOT_IN_FILES))
    kept = {meant, *(each.commit for each in lost)}
    if state.tip is not None and state.tip not in kept:
        lost += await not_in_files(place, [state.tip], (head, files_at))
    if state.stashed is not None:
        lost.append(Lost(state.stashed, "what git had put aside"))
    return files_at, lost, notes


async def not_in_files(place: Place, commits: Collection[str], held: Collection[str | None]) -> list[Lost]:
    """Those of some commits that are not part of the history of what is held."""
    return [Lost(each, _NOT_IN_FILES) for each in commits if not await _is_in(place, each, held)]


async def _meant(place: Place, head: str, state: State) -> str:
    """The commit that the files are meant to come from: the newest one of what was made for the branch."""
    tip = state.tip if state.tip is not None and await _is_in(place, head, (state.tip,)) else head
    if state.going_on == "bisect":
        return tip
    if state.origin is not None:
        return state.origin if await _is_in(place, head, (state.origin,)) else tip
    if state.head is None or state.attached == place.settings.ref:
        return state.head or tip
    return state.head if await _is_in(place, tip, (state.head,)) else tip


async def _take(place: Place, now: str, meant: str, skipped: Collection[str]) -> bool:
    """Make the files what a commit has, if nothing but another commit is in them; says whether it was done."""
    await prepare(place, now, skipped)
    measured = await measure(place, now, await changed_names(place))
    if measured.found or measured.special:
        return False
    return (await place.attempt("read-tree", "-m", "-u", now, meant)).exit == 0


async def _is_in(place: Place, commit: str, others: Collection[str | None]) -> bool:
    """Whether a commit is an ancestor of one of these, or the same."""
    repository = place.settings.repository
    for other in others:
        if other is not None and await repository.ancestor(commit, other):
            return True
    return False


async def _commits(git: Git, head: str, tips: Collection[str | None]) -> tuple[str, ...]:
    wanted = sorted({tip for tip in tips if tip is not None and tip != head})
    if not wanted:
        return ()
    listed = await git.run("rev-list", f"--max-count={MOST_COMMITS}", *wanted, f"^{head}", "--")
    return tuple(listed.decode().split())


async def _commit(git: Git, revision: str) -> str | None:
    with contextlib.suppress(GitError):
        asked = f"{revision}^{{commit}}"
        done = await git.attempt("rev-parse", "--verify", "--quiet", "--end-of-options", asked)
        if done.exit == 0:
            return os.fsdecode(done.stdout).strip()
    return None


def _own(place: Place) -> Git:
    """Plumbing on the worktree's own HEAD."""
    return Git(place.git_dir, env={"GIT_COMMON_DIR": str(place.settings.repository.common)})


def _remove_locks(place: Place) -> None:
    """Remove the locks that processes left which were ended with the turn, and links in the place of logs."""
    for log in (place.git_dir / "logs", place.git_dir / "logs" / "HEAD"):
        if log.is_symlink():  # git would write to where it leads
            log.unlink(missing_ok=True)
    common = place.settings.repository.common
    for path in _locks(place.git_dir, common / f"{place.settings.ref}.lock"):
        with contextlib.suppress(OSError):
            path.unlink()


def _locks(git_dir: Path, of_branch: Path) -> Iterator[Path]:
    yield from (git_dir / name for name in _LOCKS)
    yield of_branch


def _end(git_dir: Path) -> None:
    for name in _UNDER_WAY:
        remove(git_dir / name)
    for name in _MARKS:
        (git_dir / name).unlink(missing_ok=True)
