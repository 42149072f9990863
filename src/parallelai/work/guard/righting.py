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
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from parallelai.errors import Internal
from parallelai.git.plumbing import Git, GitError
from parallelai.processes.removing import remove
from parallelai.store.files import replace_whole
from parallelai.work.guard.measure import changed_names, measure, prepare
from parallelai.work.guard.place import Place
from parallelai.work.guard.taking_in import take_in
from parallelai.work.sheltering import GOING_ON, HASH, Left
from parallelai.work.streams.names import PREFIX
from parallelai.work.streams.places import first_line

MOST_COMMITS = 1000
MOST_LISTED_BYTES = 32 * 1024 * 1024
"""Of the paths of a commit: a few small trees, each many times in the next, stand for more files than memory holds."""
MOST_BRANCHES = 20
"""Of branches that an assistant made in its shelter, and whose work is in no file."""
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
_NOT_IN_FILES = "commits that are not in the files"
_LOCKS = ("index.lock", "HEAD.lock")


class Lost(Struct, frozen=True):
    """A commit whose content is not in the files any more, and what it was."""

    commit: str
    what: str


class Written(Struct, frozen=True):
    """What is written where a worktree's git keeps its state: nothing of it is believed yet.

    HEAD is `attached` to a whole ref, or at the hash `at`. `going_on` is what was begun and not ended; `origin` the
    hash where a rebase began, `stashed` what was put aside. `left` is what a sandbox's git says of branches.
    """

    attached: str | None
    at: str | None
    origin: str | None
    stashed: str | None
    going_on: str | None
    left: Left


class State(Struct, frozen=True):
    """Where a worktree stands: commits that are there, whole. `going_on` is what was begun and not ended.

    `head` is HEAD's, `attached` the whole ref that it is on, `tip` where the branch is, `origin` where a rebase
    began. `others` are those of branches beside it that its assistant made in its shelter.
    """

    head: str | None
    attached: str | None
    tip: str | None
    origin: str | None = None
    stashed: str | None = None
    going_on: str | None = None
    others: tuple[str, ...] = ()


class Righted(Struct, frozen=True):
    """What had to be put right: commits that are undone, newest first; what is in no file; in words.

    `files_at` is the commit that the files came from, `was_at` where HEAD was; `made` are those of branches that it
    made in its shelter.
    """

    undone: tuple[str, ...] = ()
    lost: tuple[Lost, ...] = ()
    notes: tuple[str, ...] = ()
    files_at: str | None = None
    made: tuple[str, ...] = ()
    was_at: str | None = None


def clear_specials(git_dir: Path, common: Path) -> None:
    """Remove pipes, sockets and devices from where git reads and an assistant may write: git would wait for them."""
    ours = PREFIX.rstrip("/")
    for top in (git_dir, common / "refs" / "heads" / ours, common / "logs" / "refs" / "heads" / ours):
        for folder, _, names in os.walk(top):
            for name in names:
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    if not stat.S_ISREG(path.stat().st_mode):  # a link to one is waited for as well
                        path.unlink()


def repair_head(place: Place) -> str | None:
    """Write HEAD anew where it is nothing that git reads: no call would work. Gives in words what was done."""
    head = place.git_dir / "HEAD"
    with contextlib.suppress(OSError, ValueError):
        if not head.is_symlink() and head.is_file() and head.stat().st_size < 5000:
            text = head.read_text(encoding="utf-8").strip()
            if text.startswith("ref: refs/") or HASH.fullmatch(text):
                return None
    _write_head(place)
    return "HEAD was broken, and is on the branch again"


def _write_head(place: Place) -> None:
    """Put HEAD on the branch. Not by git: it would follow what lies in the place of HEAD's log."""
    head = place.git_dir / "HEAD"
    if head.is_dir() and not head.is_symlink():
        remove(head)
    replace_whole(head, f"ref: {place.settings.ref}\n".encode())


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
    replace_whole(pointer, wanted)
    return f"`.git` led elsewhere, and leads to the worktree's own folder again{moved}"


def _leads_to(pointer: Path, git_dir: Path) -> bool:
    text = os.fsdecode(pointer.read_bytes()).removeprefix("gitdir:").strip()
    return os.path.realpath(pointer.parent / text) == os.path.realpath(git_dir)


def written(place: Place) -> Written:
    """Read what a worktree's git says of itself: the sandbox's, where something was done in there."""
    shelter, left = place.settings.shelter, Left()
    folder = place.git_dir
    if shelter is not None:
        left = shelter.left()
        folder = shelter.admin if left.is_touched else folder
    line = first_line(folder / "HEAD") or ""
    attached = line[5:].strip() if line.startswith("ref: refs/") else None
    at = line if HASH.fullmatch(line) else None
    return Written(attached, at, *_under_way(folder), left)


async def state_of(place: Place, head: str) -> State:
    """Look where a worktree stands, whose branch we left at `head`."""
    said = await asyncio.to_thread(written, place)
    shelter = place.settings.shelter
    if shelter is not None and said.left.is_touched:
        await asyncio.to_thread(take_in, shelter.objects, place.settings.objects)
    refs = said.left.refs
    tip = await _at(place, head, place.settings.ref, refs)
    if said.attached is None:
        at = await whole(place, head, said.at)
    else:
        at = tip if said.attached == place.settings.ref else await _at(place, head, said.attached, refs)
    origin, stashed = [await whole(place, head, each) for each in (said.origin, said.stashed)]
    others = [each for ref, each in sorted(refs.items()) if ref != place.settings.ref][:MOST_BRANCHES]
    made = [each for each in dict.fromkeys(others) if await _is_new(place, head, each)]
    return State(at, said.attached, tip, origin, stashed, said.going_on, tuple(made))


async def _at(place: Place, head: str, ref: str, refs: Mapping[str, str]) -> str | None:
    """The commit that a ref is at: where its sandbox moved it, else in the repository."""
    if ref in refs:
        return await whole(place, head, refs[ref])
    return await _commit(place.settings.repository.git, ref)


async def _is_new(place: Place, head: str, name: str) -> bool:
    """Whether a commit is whole, and the repository has it not."""
    is_known = await _commit(place.settings.repository.git, name) is not None
    return not is_known and await whole(place, head, name) is not None


async def whole(place: Place, head: str, name: str | None) -> str | None:
    """A commit by its hash, if all that it needs is there: what a sandbox left may lack anything.

    One of more files than anybody has counts as none: git would hold all their names at once.
    """
    if name is None or await _commit(place.settings.repository.git, name) is not None:
        return name
    git = place.plumbing()
    if await _commit(git, name) != name:
        return None
    done = await git.attempt("rev-list", "--objects", "--quiet", name, f"^{head}", "--")
    if done.exit != 0:
        return None
    listed = await git.attempt("ls-tree", "-r", "-t", "-z", "--name-only", name, most_bytes=MOST_LISTED_BYTES)
    return name if listed.exit == 0 and not listed.is_truncated else None


def _under_way(git_dir: Path) -> tuple[str | None, str | None, str | None]:
    """Where a rebase began, what it put aside, and what was begun at all."""
    origin = stashed = None
    for folder in ("rebase-merge", "rebase-apply"):
        origin = origin or _hash_in(git_dir / folder / "orig-head")
        stashed = stashed or _hash_in(git_dir / folder / "autostash")
    stashed = stashed or _hash_in(git_dir / "MERGE_AUTOSTASH")
    going_on = next((what for name, what in GOING_ON.items() if os.path.lexists(git_dir / name)), None)
    return origin, stashed, going_on


def _hash_in(path: Path) -> str | None:
    text = (first_line(path) or "").strip()
    return text if HASH.fullmatch(text) else None


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
    state = await state_of(place, head)
    files_at, lost, notes = await _settle_files(place, head, state, skipped)
    undone = await _commits(place.plumbing(), head, [state.tip, files_at])
    return Righted(undone, tuple(lost), tuple(notes), files_at, state.others, state.head)


async def leave(place: Place) -> tuple[str, ...]:
    """End what was begun, and put HEAD on the branch; after what is lost was kept. Gives in words what was done."""
    settings = place.settings
    said = await asyncio.to_thread(written, place)
    notes = []
    if said.going_on is not None:
        notes.append(f"an unfinished {said.going_on} was ended; look for conflict markers in the files")
    await asyncio.to_thread(_end, place.git_dir)
    if said.attached != settings.ref:
        where = f"`{said.attached.removeprefix('refs/heads/')}`" if said.attached else "no branch"
        notes.append(f"the worktree was on {where}, and is on `{settings.branch}` again")
        await asyncio.to_thread(_write_head, place)
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
    for other in others:
        if other == commit:
            return True
        if other is None:
            continue
        if (await place.plumbing().attempt("merge-base", "--is-ancestor", commit, other)).exit == 0:
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
